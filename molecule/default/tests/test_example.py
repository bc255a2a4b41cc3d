"""Results of the quickstart's example, and repeating its last step."""

import subprocess
import sys
import time

import quickstart
import requests

from tests.lib import stack as stacks


def test_run_of_the_example(stack, admin_token, example):
    data = example["run"]["data"]
    assert {each["key"] for each in data["metrics"]} >= {"accuracy", "f1"}
    assert {each["key"]: each["value"] for each in data["params"]} == {"C": "1.0", "max_iter": "200"}
    assert example["run"]["info"]["user_id"]
    assert example["run"]["info"]["status"] == "FINISHED"
    listed = requests.get(
        f"{stack.mlflow_url}/api/2.0/mlflow/artifacts/list",
        params={"run_id": example["run_id"]},
        auth=(stacks.ADMIN, admin_token),
        timeout=60,
    ).json()
    assert "confusion_matrix.png" in [each["path"] for each in listed["files"]]


def test_model_comes_back_from_the_registry(stack, admin_token, example):
    script = """
        import sys
        import mlflow
        from sklearn.datasets import load_iris

        data = load_iris(as_frame=True).data
        model = mlflow.pyfunc.load_model(f"models:/{sys.argv[1]}/{sys.argv[2]}")
        print(*model.predict(data.iloc[[0, 60, 120]]))
    """
    done = stack.client(script, stacks.ADMIN, admin_token, example["model"], example["version"])
    assert done.stdout.split() == ["0", "1", "2"]


def test_quickstart_script_is_idempotent(stack, example):
    """It keeps the token, logs nothing new, prints no password, and takes seconds."""
    before = (stack.directory / "env").read_bytes()
    command = [sys.executable, stacks.EXAMPLES / "quickstart.py", "--directory", stack.directory]
    command += ["--mlflow-url", stack.mlflow_url, "--keycloak-url", stack.keycloak_url]
    begun = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=stacks.REPOSITORY)
    assert time.monotonic() - begun < 30
    assert (stack.directory / "env").read_bytes() == before
    assert "Logged" not in done.stdout
    for name in ("MLFLOW_TRACKING_PASSWORD", "DEMO_ADMIN_PASSWORD", "DEMO_USER_PASSWORD"):
        assert stack.environment[name] not in done.stdout + done.stderr
    assert stack.mlflow_url in done.stdout
    assert stack.keycloak_url in done.stdout


def test_env_file_is_private_and_can_be_sourced(stack):
    """Only its owner can read it, and a shell reads every value unchanged."""
    path = stack.directory / "env"
    assert stack.environment
    assert path.stat().st_mode & 0o777 == 0o600
    names = ["KUBECONFIG", "MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"]
    names += ["KEYCLOAK_URL", "DEMO_ADMIN_PASSWORD", "DEMO_USER_PASSWORD"]
    shell = f'set -eu; source "{path}"; for name in {" ".join(names)}; do printf "%s\\0" "${{!name}}"; done'
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True)
    assert done.stdout.split("\0")[:-1] == [stack.environment[name] for name in names]


def test_env_file_supports_any_password(tmp_path):
    """Special characters survive the file, a shell, and reading it again."""
    value = "".join(map(chr, range(32, 127))) + "äöü€"
    path = tmp_path / "env"
    assert quickstart.write_env(path, {"SECRET": value})
    assert quickstart.read_env(path) == {"SECRET": value}
    assert not quickstart.write_env(path, {"SECRET": value})
    done = subprocess.run(
        ["bash", "-c", f'source "{path}"; printf %s "$SECRET"'], capture_output=True, text=True, check=True
    )
    assert done.stdout == value
