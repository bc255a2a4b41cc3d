# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Buckets that backups go to and come from, and the copy of all objects of one to another.

Objects are compared by the list of the backup before, which has size, ETag and time of each as the source had them: two
stores have different ETags for equal content, and tools that compare sizes alone miss an object that was overwritten by
one of the same size. Nothing is ever removed.
"""

import collections
import concurrent.futures
import contextlib
import gzip
import io
import json
import os
import pathlib
import threading
import time
import urllib.parse
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import boto3
import urllib3.exceptions
from boto3.s3.transfer import TransferConfig
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest, AWSResponse
from botocore.client import Config
from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, ReadTimeoutError
from botocore.httpsession import URLLib3Session
from botocore.utils import get_environ_proxies

from mlops_mlflow_server.databases import Failure, say

WORKERS = 16
# In memory at once: a small object for each worker, and for half of them a larger one, or three parts of it.
SMALL = 1 << 20
WHOLE = 16 << 20
PART = 8 << 20
MOST_PARTS = 9000  # S3 takes 10000
ATTEMPTS = 4
TIMEOUTS = 10, 60  # of a connection and of a read, in seconds
CONNECTIONS = 2 * WORKERS
PROGRESS_SECONDS = 15


_large = threading.BoundedSemaphore(WORKERS // 2)


class Object(NamedTuple):
    """An object as the source of a copy had it.

    Attributes:
        etag: as the source's store gave it.
        modified: when it was written there, in ISO 8601.
        version: its version in the copy; empty without versioning.
    """

    key: str
    size: int
    etag: str = ""
    modified: str = ""
    version: str = ""

    @property
    def content(self) -> tuple[int, str, str]:
        """What is another where the object was overwritten."""
        return self.size, self.etag, self.modified


class Bucket:
    """A bucket of an S3 store, or what is below a path in one.

    Args:
        endpoint: URL of the store; empty for AWS.
        name: the bucket.
        prefix: path of all keys, without a slash at its end.
        region: its region.
        ca_file: file with the CA that signed the store's certificate; None for the CAs of the image.
        key: ID of the access key.
        secret: the access key.
    """

    def __init__(
        self, endpoint: str, name: str, prefix: str, *, region: str, ca_file: str | None, key: str, secret: str
    ):
        self.name, self.place = name, f"{endpoint}/{name}"
        self.prefix = f"{prefix}/" if prefix else ""
        self.client = boto3.session.Session().client(
            "s3",
            endpoint_url=endpoint or None,
            region_name=region,
            verify=ca_file or None,
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            config=Config(
                # TLS keeps the content whole; a hash of it, that the signature is of, would take as long again.
                s3={"addressing_style": "path", "payload_signing_enabled": endpoint.startswith("http:")},
                # Stores other than AWS refuse the newer checksums.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                connect_timeout=TIMEOUTS[0],
                read_timeout=TIMEOUTS[1],
                max_pool_connections=CONNECTIONS,
                retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
            ),
        )
        self._signer = S3SigV4Auth(Credentials(key, secret), "s3", region)
        self._session = URLLib3Session(
            verify=ca_file or True,
            proxies=get_environ_proxies(self.client.meta.endpoint_url),
            timeout=TIMEOUTS,
            max_pool_connections=CONNECTIONS,
        )

    def below(self, path: str) -> "Bucket":
        """Return what is below a path of it."""
        other = object.__new__(Bucket)
        other.__dict__ = {**self.__dict__, "prefix": f"{self.prefix}{path}/"}
        return other

    def open(self, key: str) -> Any:
        """Return an object to read from, which is to be closed.

        Raises:
            FileNotFoundError: there is none.
        """
        try:
            return self.client.get_object(Bucket=self.name, Key=self.prefix + key)["Body"]
        except self.client.exceptions.NoSuchKey:
            raise FileNotFoundError(key) from None

    def read(self, key: str) -> bytes | None:
        """Return the content of a small object, or None where there is none."""
        try:
            return self.open(key).read()
        except FileNotFoundError:
            return None

    def send(self, method: str, key: str, *, stream: bool = False, **request: Any) -> AWSResponse:
        """Send a request for an object once, and return the answer, whatever its status is.

        botocore's client takes as long for a request as the content of an artifact does.

        Args:
            method: `GET` or `PUT`.
            key: its key.
            stream: whether the caller reads the content.
            request: further arguments of botocore's request.
        """
        url = f"{self.client.meta.endpoint_url}/{self.name}/{urllib.parse.quote(self.prefix + key)}"
        asked = AWSRequest(method=method, url=url, stream_output=stream, **request)
        asked.context["client_config"] = self.client.meta.config
        self._signer.add_auth(asked)
        return self._session.send(asked.prepare())

    def write(self, key: str, content: bytes) -> None:
        """Write a small object."""
        self.client.put_object(Bucket=self.name, Key=self.prefix + key, Body=content)

    def stream(self, key: str, source: Any, size: int) -> None:
        """Write an object from what has `read`.

        Args:
            key: its key.
            source: its content.
            size: about how many bytes that are.
        """
        self.client.upload_fileobj(source, self.name, self.prefix + key, Config=in_parts(size))

    def remove(self, key: str) -> None:
        """Remove an object, as far as the bucket's versioning lets go of it."""
        self.client.delete_object(Bucket=self.name, Key=self.prefix + key)

    def folders(self) -> list[str]:
        """Return the names of what looks like folders."""
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.name, Prefix=self.prefix, Delimiter="/"
        )
        found = [each["Prefix"] for page in pages for each in page.get("CommonPrefixes", [])]
        return [each.removeprefix(self.prefix).rstrip("/") for each in found]

    def objects(self) -> Iterator[Object]:
        """Return all objects in the order of their keys, without versions."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=self.prefix)
        for page in pages:
            for each in page.get("Contents", []):
                yield Object(
                    each["Key"].removeprefix(self.prefix), each["Size"], each["ETag"], each["LastModified"].isoformat()
                )

    def keep_versions(self) -> bool:
        """Have the bucket keep former versions of objects, if this key may do that; return whether it does."""
        with contextlib.suppress(ClientError):
            if self.client.get_bucket_versioning(Bucket=self.name).get("Status") == "Enabled":
                return True
            self.client.put_bucket_versioning(Bucket=self.name, VersioningConfiguration={"Status": "Enabled"})
            return True
        return False


class Follower:
    """Finds keys in an iterator of objects that is in the order of keys, if they are asked for in that order.

    Out of order it finds less, and a copy is made once more.
    """

    def __init__(self, objects: Iterable[Object]):
        self._objects = iter(objects)
        self._next = next(self._objects, None)

    def find(self, key: str) -> Object | None:
        """Return the object of this key, or None."""
        while self._next is not None and self._next.key.encode() < key.encode():
            self._next = next(self._objects, None)
        return self._next if self._next is not None and self._next.key == key else None


def write_list(path: pathlib.Path, objects: Iterable[Object]) -> None:
    """Write a list of objects, a line of JSON for each."""
    with gzip.open(path, "wt", encoding="utf-8") as lines:
        for each in objects:
            lines.write(json.dumps(list(each), ensure_ascii=False) + "\n")


def read_list(content: bytes) -> Iterator[Object]:
    """Read a list that `write_list` wrote.

    Raises:
        Failure: it is cut off, or something else.
    """
    try:
        with gzip.open(io.BytesIO(content), "rt", encoding="utf-8") as lines:
            for line in lines:
                yield Object(*json.loads(line))
    except (EOFError, OSError, ValueError, TypeError, zlib.error) as error:
        raise Failure(f"The list of objects is cut off or was changed: {error}") from None


class Counts:
    """Numbers of a copy, shown every 15 seconds.

    Attributes:
        count: objects that are in the copy.
        size: their bytes.
        copied: those of them that were copied by this run.
        copied_size: their bytes.
    """

    def __init__(self) -> None:
        self.count = self.size = self.copied = self.copied_size = 0
        self._shown = time.monotonic()

    def add(self, size: int, *, copied: bool) -> None:
        """Count an object."""
        self.count += 1
        self.size += size
        if copied:
            self.copied += 1
            self.copied_size += size
        if time.monotonic() - self._shown >= PROGRESS_SECONDS:
            self._shown = time.monotonic()
            say(str(self))

    def __str__(self) -> str:
        return (
            f"{self.count} objects with {self.size / (1 << 20):.1f} MiB, "
            f"of which {self.copied} with {self.copied_size / (1 << 20):.1f} MiB were copied"
        )


def in_parts(size: int) -> TransferConfig:
    """Return how an object of this size is uploaded, with three parts in memory."""
    config = TransferConfig(
        multipart_threshold=PART, multipart_chunksize=max(PART, size // MOST_PARTS + 1), max_concurrency=2
    )
    config.max_in_memory_upload_chunks = 2
    return config


def at_once(source: Bucket, target: Bucket, one: Object, version: str = "") -> Object | None:
    """Copy an object by two requests, in one piece; return None where this is not done, for whatever reason.

    Args and what it returns are those of `transfer`.
    """
    if one.size > WHOLE:
        return None
    try:
        found = source.send("GET", one.key, stream=True, params={"versionId": version} if version else {})
        with contextlib.closing(found.raw):
            if found.status_code != 200 or int(found.headers.get("Content-Length", WHOLE + 1)) > WHOLE:
                return None
            body = found.raw.read()
        kind = found.headers.get("Content-Type", "application/octet-stream")
        written = target.send("PUT", one.key, data=body, headers={"Content-Type": kind})
    except (BotoCoreError, urllib3.exceptions.HTTPError, OSError):
        return None
    if written.status_code != 200:
        return None
    return Object(
        one.key, len(body), found.headers["ETag"], one.modified, written.headers.get("x-amz-version-id") or ""
    )


def transfer(source: Bucket, target: Bucket, one: Object, version: str = "") -> Object | None:
    """Copy one object.

    Args:
        source: where it is.
        target: where it goes.
        one: the object, as it was listed.
        version: its version at the source; empty is the present one.

    Returns:
        The object as the source had it, with its version in the target; None where the source has none any more.

    Raises:
        Failure: it could not be copied.
    """
    with contextlib.nullcontext() if one.size <= SMALL else _large:
        return _transfer(source, target, one, version)


def _transfer(source: Bucket, target: Bucket, one: Object, version: str) -> Object | None:
    if done := at_once(source, target, one, version):
        return done
    whose = {"Bucket": source.name, "Key": source.prefix + one.key, **({"VersionId": version} if version else {})}
    for attempt in range(1, ATTEMPTS + 1):
        try:
            found = source.client.get_object(**whose)
            size, kind = found["ContentLength"], found.get("ContentType", "application/octet-stream")
            place = {"Bucket": target.name, "Key": target.prefix + one.key}
            with contextlib.closing(found["Body"]) as body:
                if size <= PART:
                    written = target.client.put_object(**place, Body=body.read(), ContentType=kind)
                else:
                    target.client.upload_fileobj(body, **place, ExtraArgs={"ContentType": kind}, Config=in_parts(size))
                    written = target.client.head_object(**place)
                    if written["ContentLength"] != size:
                        raise Failure(f"{one.key} has {written['ContentLength']} bytes in the copy, and {size} before")
            # The time of the list, which has fractions of a second; where it was overwritten since, it is copied again.
            return Object(one.key, size, found["ETag"], one.modified, written.get("VersionId", ""))
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code in ("NoSuchKey", "NoSuchVersion", "404"):
                return None
            if attempt == ATTEMPTS or code in ("AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"):
                raise Failure(f"{one.key} could not be copied: {error}") from None
        except (HTTPClientError, ReadTimeoutError, BotoCoreError, OSError) as error:
            if attempt == ATTEMPTS:
                raise Failure(f"{one.key} could not be copied: {error}") from None
        time.sleep(2**attempt)
    return None


def in_order(
    work: Iterable[tuple[Object, Callable[[], Object | None] | None]],
) -> Iterator[tuple[Object, bool]]:
    """Do what has to be done for objects in threads, and return them in their order, with whether something was done.

    Args:
        work: objects, each with what gives it, or None where it is as it should be. What gives None leaves it out.
    """
    pending: collections.deque[tuple[Object, concurrent.futures.Future[Object | None] | None]] = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(WORKERS) as threads:
        try:
            for one, give in work:
                pending.append((one, threads.submit(give) if give else None))
                while pending and (len(pending) > 64 * WORKERS or pending[0][1] is None or pending[0][1].done()):
                    yield from _given(*pending.popleft())
            while pending:
                yield from _given(*pending.popleft())
        finally:
            threads.shutdown(cancel_futures=True)


def _given(one: Object, future: "concurrent.futures.Future[Object | None] | None") -> Iterator[tuple[Object, bool]]:
    if future is None:
        yield one, False
    elif (done := future.result()) is not None:
        yield done, True


def copy_out(source: Bucket, target: Bucket, before: Iterable[Object], counts: Counts) -> Iterator[Object]:
    """Copy what is new or was overwritten since the backup before; return all objects with their versions in the copy.

    Args:
        source: the bucket that is backed up.
        target: where its objects go.
        before: the list of the backup before.
        counts: is added to.
    """
    known, there = Follower(before), Follower(target.objects())

    def work() -> Iterator[tuple[Object, Callable[[], Object | None] | None]]:
        for one in source.objects():
            former, copy = known.find(one.key), there.find(one.key)
            if former and copy and former.content == one.content and copy.size == one.size:
                yield former, None
            else:
                yield one, lambda one=one: transfer(source, target, one)  # type: ignore[misc]

    for one, copied in in_order(work()):
        counts.add(one.size, copied=copied)
        yield one


def copy_back(copy: Bucket, target: Bucket, listed: Iterable[Object], counts: Counts) -> list[str]:
    """Bring back the objects of a backup that the bucket lacks. Those that it has stay as they are.

    Args:
        copy: where the objects of backups are.
        target: the bucket.
        listed: the list of the backup.
        counts: is added to.

    Returns:
        Keys of the objects that are in the list, and neither in the copy nor in the bucket.
    """
    there = Follower(target.objects())
    missing: list[str] = []

    def bring(one: Object) -> Object | None:
        done = transfer(copy, target, one, one.version)
        if done is None:
            missing.append(one.key)
        return done

    def work() -> Iterator[tuple[Object, Callable[[], Object | None] | None]]:
        for one in listed:
            yield (one, None) if there.find(one.key) else (one, lambda one=one: bring(one))  # type: ignore[misc]

    for one, copied in in_order(work()):
        counts.add(one.size, copied=copied)
    return missing


# Of environment variables, by what is opened.
PREFIXES = {"source": "AWS", "destination": "MLOPS_BACKUP"}


def opened(config: dict[str, Any], which: str) -> Bucket:
    """Return the bucket that is backed up, or where backups are.

    Args:
        config: what to open, each with `endpoint`, `bucket`, `region`, and perhaps `prefix` and `ca_file`.
        which: `source` or `destination`.
    """
    found, prefix = config[which], PREFIXES[which]
    return Bucket(
        found["endpoint"].rstrip("/"),
        found["bucket"],
        found.get("prefix", ""),
        region=found["region"],
        ca_file=found.get("ca_file") or None,
        key=os.environ[f"{prefix}_ACCESS_KEY_ID"],
        secret=os.environ[f"{prefix}_SECRET_ACCESS_KEY"],
    )
