"""Access to the external database and object store."""

import base64
import json

from tests.lib import stack as stacks

ELSEWHERE = {"postgres": "elsewhere-postgres", "minio": "elsewhere-minio"}
BUCKET = "company-artifacts"


class ExternalStack(stacks.Stack):
    """A stack whose PostgreSQL and MinIO are external."""

    def s3_key(self):
        data = self.core.read_namespaced_secret("company-storage", stacks.NAMESPACES["mlflow"]).data
        return tuple(base64.b64decode(data[name]).decode() for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"))

    def objects(self):
        listed = self._mc(f"ls --recursive --json tests/{BUCKET}/")
        return [json.loads(line) for line in listed.splitlines() if line.startswith("{")]
