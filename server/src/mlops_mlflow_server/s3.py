# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Artifact repository for `s3://` that keeps every transfer behind the tracking server.

MLflow's own `S3ArtifactRepository` can create presigned URLs, and a server that uses it advertises this in
`/api/3.0/mlflow/server-info`. Clients since 3.15 then connect directly to the object store at the server's
endpoint, which a client outside the cluster cannot reach. No setting disables this. This class offers plain
transfers only, so clients use the tracking server for everything; `direct` is for object stores that clients reach.

Artifacts stream between client and object store (`transfers`), without a copy on disk.

It also limits the wait for an unavailable object store: botocore's default read timeout is 60 s, and it does
not detect a lost connection earlier.
"""

import dataclasses
import datetime
import functools
import logging
import os
import posixpath
import socket
import time
from collections.abc import AsyncIterable, Callable, Iterator
from typing import Any, BinaryIO

import boto3
from boto3.exceptions import Boto3Error
from botocore import UNSIGNED
from botocore.client import BaseClient, Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    IncompleteReadError,
)
from mlflow.entities import FileInfo
from mlflow.environment_variables import (
    MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE,
    MLFLOW_S3_ENDPOINT_URL,
    MLFLOW_S3_IGNORE_TLS,
)
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import (
    INTERNAL_ERROR,
    PERMISSION_DENIED,
    RESOURCE_DOES_NOT_EXIST,
    TEMPORARILY_UNAVAILABLE,
)
from mlflow.store.artifact.artifact_repo import ArtifactRepository, StreamUploadMixin
from mlflow.store.artifact.s3_artifact_repo import S3ArtifactRepository

from mlops_mlflow_server import metrics, transfers
from mlops_mlflow_server.settings import count, number

_logger = logging.getLogger(__name__)
# What sees the requests of a client that is made.
watchers: list[Callable[[BaseClient], None]] = [metrics.watch_s3]

# S3's error codes, and the bare status where a response has no body (HEAD), as MLflow's codes.
_ERROR_CODES = {
    "AccessDenied": PERMISSION_DENIED,
    "403": PERMISSION_DENIED,
    "NoSuchBucket": RESOURCE_DOES_NOT_EXIST,
    "NoSuchKey": RESOURCE_DOES_NOT_EXIST,
    "404": RESOURCE_DOES_NOT_EXIST,
    # The server's key and not the client's: it may be a moment old, as in a rotation.
    "InvalidAccessKeyId": TEMPORARILY_UNAVAILABLE,
    "SignatureDoesNotMatch": TEMPORARILY_UNAVAILABLE,
    "InternalError": TEMPORARILY_UNAVAILABLE,
    "ServiceUnavailable": TEMPORARILY_UNAVAILABLE,
    "SlowDown": TEMPORARILY_UNAVAILABLE,
    "XMinioServerNotInitialized": TEMPORARILY_UNAVAILABLE,
    "500": TEMPORARILY_UNAVAILABLE,
    "502": TEMPORARILY_UNAVAILABLE,
    "503": TEMPORARILY_UNAVAILABLE,
    "504": TEMPORARILY_UNAVAILABLE,
}


def socket_options() -> list[tuple[int, int, int]]:
    """Return the socket options that make the kernel detect a lost peer, as setsockopt triples.

    Unacknowledged data and unanswered keep-alive probes both end the connection after
    `MLOPS_S3_USER_TIMEOUT` seconds, see tcp(7). Options that the platform lacks are left out.
    """
    limit = number("MLOPS_S3_USER_TIMEOUT", 5.0)
    wanted = (
        (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
        (socket.IPPROTO_TCP, "TCP_KEEPIDLE", max(1, round(limit / 2))),
        (socket.IPPROTO_TCP, "TCP_KEEPINTVL", max(1, round(limit / 5))),
        (socket.IPPROTO_TCP, "TCP_KEEPCNT", 3),
        (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", round(limit * 1000)),
    )
    return [(level, getattr(socket, name), value) for level, name, value in wanted if hasattr(socket, name)]


@functools.lru_cache(maxsize=16)
def _client(
    endpoint: str | None, verify: bool | None, signature: str, addressing: str, credentials: tuple[str | None, ...]
) -> BaseClient:
    """Return the S3 client for these arguments; boto3's clients may be shared by threads.

    MLflow creates a new client every five minutes, which drops open connections; botocore renews expiring
    credentials itself. `credentials` are key, secret and token, each None for botocore's own lookup.
    """
    client = boto3.session.Session().client(
        "s3",
        endpoint_url=endpoint,
        verify=verify,
        aws_access_key_id=credentials[0],
        aws_secret_access_key=credentials[1],
        aws_session_token=credentials[2],
        config=Config(
            signature_version=UNSIGNED if signature.lower() == "unsigned" else signature,
            # TLS protects the content already, and a hash of it costs time here and in the store.
            s3={"addressing_style": addressing, "payload_signing_enabled": (endpoint or "").startswith("http://")},
            connect_timeout=number("MLOPS_S3_CONNECT_TIMEOUT", 3.0),
            read_timeout=number("MLOPS_S3_READ_TIMEOUT", 15.0),
            tcp_keepalive=True,
            # Another checksum would have the content read once more.
            request_checksum_calculation="when_required",
            max_pool_connections=count("MLOPS_S3_MAX_CONNECTIONS", 32),
            retries={"mode": "standard", "total_max_attempts": count("MLOPS_S3_MAX_ATTEMPTS", 3)},
        ),
    )
    for watch in watchers:
        watch(client)
    # botocore has no public way to add socket options; its pools connect with this list.
    options = getattr(getattr(getattr(client, "_endpoint", None), "http_session", None), "_socket_options", None)
    if isinstance(options, list):
        options.extend(option for option in socket_options() if option not in options)
    else:
        _logger.warning(
            "This version of botocore stores socket options differently: only timeouts detect a lost object store"
        )
    return client


class Patience:
    """Retry policy during an outage of the object store.

    Calls are retried until the store has been unavailable for `limit` seconds, counted from the first failure of
    any call. After that each call is tried once, until one succeeds. So a restart of the store only delays calls,
    and a longer outage neither blocks clients nor exhausts the server's threads.
    """

    PAUSE_SECONDS = 0.5

    def __init__(self, limit: float):
        self.limit = limit
        self._away_since: float | None = None

    def call(self, what: str, function: Callable[[], Any]) -> Any:
        """Return `function()`, which must be safe to repeat.

        Args:
            what: what it does, for the message.

        Raises:
            MlflowException: the error code matches the cause: 503 for a temporary failure, 404, 403 and so on.
        """
        while True:
            try:
                result = function()
            except Exception as error:
                known = in_mlflows_terms(error, what)
                if known is None:
                    raise
                if known.error_code != "TEMPORARILY_UNAVAILABLE":
                    raise known from error
                now = time.monotonic()
                if self._away_since is None:
                    self._away_since = now
                    _logger.warning("%s", known)
                if now - self._away_since + self.PAUSE_SECONDS > self.limit:
                    raise known from error
                time.sleep(self.PAUSE_SECONDS)
            else:
                if self._away_since is not None:
                    self._away_since = None
                    _logger.warning("The object store answers again")
                return result


@functools.cache
def _patience() -> Patience:
    return Patience(number("MLOPS_S3_PATIENCE", 15.0, minimum=0))


def in_mlflows_terms(error: Exception, what: str) -> MlflowException | None:
    """Return boto's error as MLflow's, so that a client knows a missing artifact from an outage.

    Args:
        error: the exception that was raised.
        what: what was being done, for the message.

    Returns:
        The exception to raise, or None if `error` is not one of boto's.
    """
    # boto3's transfers wrap the cause.
    cause = (error.__cause__ or error.__context__ or error) if isinstance(error, Boto3Error) else error
    if isinstance(cause, ClientError):
        answer = cause.response.get("Error", {})
        code = str(answer.get("Code", ""))
        return MlflowException(
            f"The object store answered {code or 'an error'} while {what}: {answer.get('Message', '')}",
            error_code=_ERROR_CODES.get(code, INTERNAL_ERROR),
        )
    if (
        isinstance(cause, (ConnectTimeoutError, EndpointConnectionError, HTTPClientError, IncompleteReadError))
        or type(error).__name__ == "RetriesExceededError"
    ):
        return MlflowException(
            f"The object store did not answer while {what}: {cause}", error_code=TEMPORARILY_UNAVAILABLE
        )
    if isinstance(error, (Boto3Error, BotoCoreError)):
        return MlflowException(f"Failed while {what}: {error}", error_code=INTERNAL_ERROR)
    return None


class BoundedS3ArtifactRepository(S3ArtifactRepository):
    """MLflow's repository, with a client that has timeouts."""

    def _get_s3_client(self) -> BaseClient:
        return self._client_of(MLFLOW_S3_ENDPOINT_URL.get() or None)  # empty is AWS

    def _client_of(self, endpoint: str | None) -> BaseClient:
        return _client(
            endpoint,
            False if MLFLOW_S3_IGNORE_TLS.get() else None,
            os.environ.get("MLFLOW_EXPERIMENTAL_S3_SIGNATURE_VERSION", "s3v4"),
            MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE.get(),
            (self._access_key_id, self._secret_access_key, self._session_token),
        )


class _Stream:
    """Takes the place of boto3's client in MLflow's `_upload_file`, to store a stream instead of the file."""

    def __init__(self, client: Any, stream: BinaryIO, call: transfers.Caller[Any]):
        self._client = client
        self._stream = stream
        self._call = call

    def upload_file(self, Filename: str, Bucket: str, Key: str, ExtraArgs: dict[str, Any]) -> None:  # noqa: N803  boto3's
        transfers.upload(self._client, self._stream, {"Bucket": Bucket, "Key": Key}, ExtraArgs, self._call)


@dataclasses.dataclass(frozen=True)
class Artifact:
    """An object in the store, as it was when asked for."""

    size: int
    etag: str
    modified: datetime.datetime
    _fetch: Callable[[int, int], bytes]

    def chunks(self, start: int, stop: int) -> Iterator[bytes]:
        """Yield the bytes from `start` up to `stop`; an error is raised if the object has been replaced."""
        return transfers.chunks(self._fetch, start, stop)


class ProxiedS3ArtifactRepository(ArtifactRepository, StreamUploadMixin):
    """`s3://` without the mixins that let a server advertise multipart and presigned transfers.

    Created by the entry point `mlflow.artifact_repository: s3` (`mlops_mlflow_server.repositories`), which
    overrides MLflow's own class.
    """

    def __init__(self, artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None):
        super().__init__(artifact_uri, tracking_uri, registry_uri)
        self._s3 = BoundedS3ArtifactRepository(artifact_uri, tracking_uri=tracking_uri, registry_uri=registry_uri)

    def log_artifact(self, local_file: str, artifact_path: str | None = None) -> None:
        self._call("storing an artifact", self._s3.log_artifact, local_file, artifact_path)

    def log_artifact_from_stream(
        self, stream: BinaryIO, artifact_file_name: str, artifact_path: str | None = None
    ) -> None:
        if not artifact_file_name:
            raise MlflowException.invalid_parameter_value("The path of an artifact must end with the name of a file")
        bucket, root = self._s3.parse_s3_compliant_uri(self.artifact_uri)
        key = posixpath.join(root, artifact_path or "", posixpath.basename(artifact_file_name))
        # Each request is repeated, not all of them: the stream can be read once.
        repeated = functools.partial(self._call, f"storing {key}")
        self._s3._upload_file(_Stream(self._s3._get_s3_client(), stream, repeated), artifact_file_name, bucket, key)

    async def log_artifact_from_async_stream(
        self, chunks: AsyncIterable[bytes], artifact_file_name: str, artifact_path: str | None = None
    ) -> None:
        raise NotImplementedError("`artifacts.install` removes the routes that call this")

    def artifact(self, path: str) -> Artifact:
        """Return what a download of this path sends.

        Raises:
            MlflowException: there is no such artifact, it is a directory, or the store does not answer.
        """
        bucket, root = self._s3.parse_s3_compliant_uri(self.artifact_uri)
        place = {"Bucket": bucket, "Key": posixpath.join(root, path), **self._s3._bucket_owner_params}
        client = self._s3._get_s3_client()
        try:
            found = self._call(f"fetching {path}", lambda: client.head_object(**place))
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST" and self.list_artifacts(path):
                raise MlflowException.invalid_parameter_value(
                    f"Artifact path refers to a directory, not a file: '{path}'"
                ) from error
            raise

        def read(start: int, stop: int) -> bytes:
            answer = client.get_object(**place, IfMatch=found["ETag"], Range=f"bytes={start}-{stop - 1}")
            return answer["Body"].read()

        return Artifact(
            found["ContentLength"],
            found["ETag"].strip('"'),
            found["LastModified"],
            functools.partial(self._call, f"fetching {path}", read),
        )

    def log_artifacts(self, local_dir: str, artifact_path: str | None = None) -> None:
        self._call("storing artifacts", self._s3.log_artifacts, local_dir, artifact_path)

    def list_artifacts(self, path: str | None = None) -> list[FileInfo]:
        return self._call("listing artifacts", self._s3.list_artifacts, path)

    def _download_file(self, remote_file_path: str, local_path: str) -> None:
        self._call(f"fetching {remote_file_path}", self._s3._download_file, remote_file_path, local_path)

    def delete_artifacts(self, artifact_path: str | None = None) -> None:
        self._call("deleting artifacts", self._s3.delete_artifacts, artifact_path)

    def upload_archived_trace_data_bytes(self, data: bytes) -> None:
        self._call("archiving a trace", self._s3.upload_archived_trace_data_bytes, data)

    def _call(self, what: str, method: Callable, *args: Any) -> Any:
        return _patience().call(f"{what} ({self.artifact_uri})", lambda: method(*args))
