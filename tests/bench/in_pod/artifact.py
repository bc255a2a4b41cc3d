"""Store and fetch one file through MLflow, and directly at the object store.

The object store is given by MLFLOW_S3_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
Reads a JSON object from standard input:
    url, user, token: MLflow's URL, and credentials.
    experiment: ID of the experiment for a new run.
    bucket, key: the temporary object in the object store.
    mebibytes: the file's size.

Prints a JSON object of seconds: mlflow_up, mlflow_down, direct_up, direct_down.
"""

import hashlib
import json
import os
import pathlib
import shutil
import sys
import tempfile
import time

MEBIBYTE = 1 << 20


def write_random(path, mebibytes):
    """Fill a file with random data, and return its hash."""
    digest = hashlib.sha256()
    with path.open("wb") as stream:
        for _unused in range(mebibytes):
            piece = os.urandom(MEBIBYTE)
            digest.update(piece)
            stream.write(piece)
    return digest.hexdigest()


def seconds_of(work):
    """Return the duration of `work()`, after flushing earlier writes."""
    os.sync()
    begun = time.monotonic()
    work()
    return time.monotonic() - begun


def check(path, digest):
    with path.open("rb") as stream:
        if hashlib.file_digest(stream, "sha256").hexdigest() != digest:
            raise SystemExit(f"{path.name} came back with another content")
    path.unlink()


def round_trip(place, mebibytes, asked, mlflow, s3):
    """Return the seconds of each transfer for a file of this size."""
    name = f"data-{mebibytes}.bin"
    source = place / name
    digest = write_random(source, mebibytes)
    bucket, key = asked["bucket"], asked["key"]
    back = place / "back"
    back.mkdir(exist_ok=True)
    client = mlflow.MlflowClient()
    run = client.create_run(asked["experiment"], run_name=name).info.run_id
    try:
        result = {
            "mlflow_up": seconds_of(lambda: client.log_artifact(run, str(source))),
            "direct_up": seconds_of(lambda: s3.upload_file(str(source), bucket, key)),
        }
        source.unlink()
        result["mlflow_down"] = seconds_of(lambda: client.download_artifacts(run, name, str(back)))
        check(back / name, digest)
        result["direct_down"] = seconds_of(lambda: s3.download_file(bucket, key, str(back / name)))
        check(back / name, digest)
        client.set_terminated(run)
    finally:
        s3.delete_object(Bucket=bucket, Key=key)
    return result


def main():
    asked = json.load(sys.stdin)
    # The file, MLflow's temporary copy, and one in the object store for each transfer; and some spare space.
    needed = 5 * asked["mebibytes"] * MEBIBYTE
    with tempfile.TemporaryDirectory() as directory:
        place = pathlib.Path(directory)
        free = shutil.disk_usage(place).free
        if free < needed:
            raise SystemExit(f"{needed >> 20} MiB of disk are needed, and {free >> 20} MiB are free")
        os.environ["MLFLOW_TRACKING_URI"] = asked["url"]
        os.environ["MLFLOW_TRACKING_USERNAME"] = asked["user"]
        os.environ["MLFLOW_TRACKING_PASSWORD"] = asked["token"]
        os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"

        # Not earlier, since MLflow reads its environment at its import.
        import boto3  # noqa: PLC0415  only this measurement needs it
        import mlflow  # noqa: PLC0415  only this measurement needs it

        s3 = boto3.client("s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"])
        round_trip(place, min(8, asked["mebibytes"]), asked, mlflow, s3)
        print(json.dumps(round_trip(place, asked["mebibytes"], asked, mlflow, s3)))


if __name__ == "__main__":
    main()
