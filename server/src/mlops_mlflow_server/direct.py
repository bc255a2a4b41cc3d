# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Transfers between clients and the object store itself, by MLflow's protocol of presigned URLs.

The server checks permissions and signs; large files do not pass through it. It needs an object store that clients
reach, at the URL `MLOPS_S3_PUBLIC_URL`, for which the URLs are signed. The server's own requests stay at its own
endpoint. Clients that do not know the protocol use the server for everything, as without it.
"""

import functools
import os
from typing import Any

from mlflow.entities.multipart_upload import CreateMultipartUploadResponse, MultipartUploadPart
from mlflow.entities.presigned_download import PresignedDownloadUrlResponse
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repo import MultipartDownloadMixin, MultipartUploadMixin

from mlops_mlflow_server.s3 import BoundedS3ArtifactRepository, ProxiedS3ArtifactRepository

# S3 takes no more, and each one costs a signature.
MOST_PARTS = 10_000


class _Signing:
    """boto3's client for the server's endpoint, which signs URLs for the public one."""

    def __init__(self, own: Any, public: Any):
        self._own = own
        self.generate_presigned_url = public.generate_presigned_url

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)


class _PublicS3ArtifactRepository(BoundedS3ArtifactRepository):
    """MLflow's repository, which signs URLs for the public endpoint."""

    def _get_s3_client(self) -> Any:
        return _Signing(super()._get_s3_client(), self._client_of(os.environ.get("MLOPS_S3_PUBLIC_URL") or None))


class DirectS3ArtifactRepository(ProxiedS3ArtifactRepository, MultipartUploadMixin, MultipartDownloadMixin):
    """`s3://` with presigned URLs, which `server-info` advertises for these base classes."""

    def __init__(self, artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None):
        super().__init__(artifact_uri, tracking_uri, registry_uri)
        self._public = _PublicS3ArtifactRepository(artifact_uri, tracking_uri=tracking_uri, registry_uri=registry_uri)

    def create_multipart_upload(
        self, local_file: str, num_parts: int = 1, artifact_path: str | None = None
    ) -> CreateMultipartUploadResponse:
        if not 1 <= num_parts <= MOST_PARTS:
            raise MlflowException.invalid_parameter_value(f"num_parts is {num_parts}: from 1 to {MOST_PARTS}")
        create = functools.partial(self._public.create_multipart_upload, local_file)
        return self._call("starting an upload", create, num_parts, artifact_path)

    def complete_multipart_upload(
        self,
        local_file: str,
        upload_id: str,
        parts: list[MultipartUploadPart],
        artifact_path: str | None = None,
    ) -> None:
        complete = functools.partial(self._public.complete_multipart_upload, local_file, upload_id)
        self._call("completing an upload", complete, parts, artifact_path)

    def abort_multipart_upload(self, local_file: str, upload_id: str, artifact_path: str | None = None) -> None:
        self._call("ending an upload", self._public.abort_multipart_upload, local_file, upload_id, artifact_path)

    def get_download_presigned_url(self, artifact_path: str, expiration: int = 300) -> PresignedDownloadUrlResponse:
        sign = self._public.get_download_presigned_url
        return self._call(f"signing {artifact_path}", sign, artifact_path, expiration)
