"""A MinIO server of the tests' own, on 127.0.0.1."""

import glob
import os
import pathlib
import shutil
import subprocess
import time

import boto3
import botocore.exceptions

from lib.postgres import free_port

# What role images has built.
BUILT = "~/.cache/mlops.mlflow/out/minio-server-*/minio"
USER, PASSWORD, BUCKET = "tests", "a password of the tests", "mlflow"


def binary() -> str | None:
    """Return the path of MinIO's server, or None."""
    found = [*glob.glob(os.path.expanduser(BUILT)), shutil.which("minio")]
    return next((path for path in found if path), None)


class Minio:
    """A running server with a bucket.

    Args:
        folder: an empty folder for its data.
    """

    def __init__(self, folder: pathlib.Path):
        self.endpoint = f"http://127.0.0.1:{free_port()}"
        program = binary()
        assert program is not None
        environment = {"MINIO_ROOT_USER": USER, "MINIO_ROOT_PASSWORD": PASSWORD, "HOME": str(folder)}
        with open(folder / "log", "wb") as log:
            self._process = subprocess.Popen(
                [program, "server", "--quiet", "--address", self.endpoint.removeprefix("http://"), folder / "data"],
                env=environment,
                stdout=log,
                stderr=log,
            )
        self.client = self.connect()
        end = time.monotonic() + 120
        while True:
            try:
                self.client.create_bucket(Bucket=BUCKET)
                return
            except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError):
                if time.monotonic() > end or self._process.poll() is not None:
                    raise RuntimeError((folder / "log").read_text()) from None
                time.sleep(0.1)

    @property
    def variables(self) -> dict[str, str]:
        """The variables by which a server of MLflow finds this store."""
        return {
            "MLFLOW_S3_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": USER,
            "AWS_SECRET_ACCESS_KEY": PASSWORD,
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def connect(self):
        """Return a client of boto3."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=USER,
            aws_secret_access_key=PASSWORD,
            region_name="us-east-1",
        )

    def unfinished(self) -> list[str]:
        """Return the keys of unfinished uploads; MinIO lists them only by their key."""
        return [
            upload["Key"]
            for upload in self.client.list_multipart_uploads(Bucket=BUCKET, Prefix="unfinished").get("Uploads", [])
        ]

    def stop(self) -> None:
        """End the server."""
        self._process.kill()
        self._process.wait()
