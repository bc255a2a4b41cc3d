"""Artifacts through the tracking server, with a client that knows only URL, name and token."""

import requests

from tests.lib import stack as stacks
from tests.lib.clients import ROUND_TRIP


def test_round_trip(stack, admin_token, mark):
    """100 MB are the same after a round trip, and are one object in the bucket."""
    done = stack.client(ROUND_TRIP, stacks.ADMIN, admin_token, 100, f"artifacts-{mark}")
    print(done.stdout)
    run = done.stdout.splitlines()[-1].split()[0]
    found = [entry for entry in stack.objects() if run in entry["key"]]
    assert [entry["size"] for entry in found] == [100 << 20]


def test_empty_and_oddly_named_files(stack, admin_token, mark):
    script = """
        import pathlib, sys, tempfile
        import mlflow

        contents = {"empty": b"", "with space.txt": b"1", "größe.txt": b"2", "a+b&c=d.txt": b"3", "deep/er/file": b"4"}
        mlflow.set_experiment(sys.argv[1])
        with tempfile.TemporaryDirectory() as place:
            for name, content in contents.items():
                path = pathlib.Path(place, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            with mlflow.start_run() as run:
                mlflow.log_artifacts(place, "odd")
        back = pathlib.Path(mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path="odd"))
        found = {str(path.relative_to(back)): path.read_bytes() for path in back.rglob("*") if path.is_file()}
        assert found == contents, found
    """
    stack.client(script, stacks.ADMIN, admin_token, f"artifacts-{mark}")


def test_bucket_is_private(stack):
    """The bucket cannot be read or listed without MLflow's key."""
    with stack.forwarded("minio", 9000) as port:
        for path in ("/mlflow/", "/mlflow/?list-type=2", "/"):
            answer = requests.get(f"https://localhost:{port}{path}", verify=stack.ca_file(), timeout=60)
            assert answer.status_code == 403


def test_mlflow_key_is_limited_to_its_bucket(stack):
    """MLflow's key cannot create a bucket, and is not the root key."""
    key, secret = stack.s3_key()
    script = f"""
        set -e
        export MC_CONFIG_DIR=/tmp/tests-mc SSL_CERT_FILE=/etc/minio-certs/CAs/ca.crt
        mc alias set tests https://localhost:9000 {key} {secret} >/dev/null
        mc ls tests/mlflow >/dev/null
        mc mb tests/elsewhere 2>&1 && exit 3
        mc admin info tests 2>&1 && exit 4
        rm -rf /tmp/tests-mc
    """
    seen = stack.execute("minio", "sh", "-s", text=script)
    assert "Access Denied" in seen
