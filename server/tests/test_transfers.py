"""Streams to and from an object store: real boto3 at a real MinIO."""

import hashlib
import io
import random
import threading
import tracemalloc

import botocore.exceptions
import pytest

from lib import minio as store
from mlops_mlflow_server import transfers

PART = transfers.PART_BYTES


def content(size):
    return random.Random(size).randbytes(size)  # noqa: S311  (the same bytes in each run)


def call(function):
    return function()


def upload(minio, key, stream, **extra):
    transfers.upload(minio.client, stream, {"Bucket": store.BUCKET, "Key": key}, extra, call)


def download(minio, key, start, stop):
    found = minio.client.head_object(Bucket=store.BUCKET, Key=key)

    def fetch(first, last):
        answer = minio.client.get_object(
            Bucket=store.BUCKET, Key=key, IfMatch=found["ETag"], Range=f"bytes={first}-{last - 1}"
        )
        return answer["Body"].read()

    return transfers.chunks(fetch, start, stop)


@pytest.mark.parametrize("size", [0, 1, PART - 1, PART, PART + 1, 3 * PART, 4 * PART + 5])
def test_content_is_the_same_on_the_way_back(minio, size):
    upload(minio, f"size-{size}", io.BytesIO(content(size)), ContentType="text/x-test")
    found = minio.client.head_object(Bucket=store.BUCKET, Key=f"size-{size}")
    assert (found["ContentLength"], found["ContentType"]) == (size, "text/x-test")
    pieces = list(download(minio, f"size-{size}", 0, size))
    assert b"".join(pieces) == content(size)
    assert all(len(piece) <= PART for piece in pieces)


def test_range_of_an_object(minio):
    upload(minio, "range", io.BytesIO(content(3 * PART)))
    assert b"".join(download(minio, "range", PART - 7, 2 * PART + 7)) == content(3 * PART)[PART - 7 : 2 * PART + 7]


class Broken(io.RawIOBase):
    """A stream whose connection is lost after `size` bytes."""

    def __init__(self, size):
        self._left = size

    def readable(self):
        return True

    def readinto(self, buffer):
        if not self._left:
            raise ConnectionResetError
        size = min(len(buffer), self._left, 100_003)
        self._left -= size
        return size


@pytest.mark.parametrize("size", [10, PART, 2 * PART + 10, 5 * PART])
def test_lost_stream_leaves_nothing(minio, size):
    with pytest.raises(ConnectionResetError):
        upload(minio, "unfinished", Broken(size))
    with pytest.raises(botocore.exceptions.ClientError, match="404"):
        minio.client.head_object(Bucket=store.BUCKET, Key="unfinished")
    assert minio.unfinished() == []


def test_lost_stream_leaves_the_former_object(minio):
    upload(minio, "kept", io.BytesIO(b"former"))
    with pytest.raises(ConnectionResetError):
        upload(minio, "kept", Broken(2 * PART + 10))
    assert b"".join(download(minio, "kept", 0, 6)) == b"former"


def test_failed_part_leaves_nothing(minio):
    def refused(function):
        if "upload_part" in function.__code__.co_names and threads.setdefault("calls", 0) == 0:
            threads["calls"] += 1
            raise RuntimeError("no room")
        return function()

    threads = {}
    with pytest.raises(RuntimeError, match="no room"):
        transfers.upload(
            minio.client, io.BytesIO(content(4 * PART)), {"Bucket": store.BUCKET, "Key": "unfinished"}, {}, refused
        )
    assert minio.unfinished() == []


def test_replaced_object_is_noticed(minio):
    upload(minio, "replaced", io.BytesIO(content(6 * PART)))
    pieces = download(minio, "replaced", 0, 6 * PART)
    first = next(pieces)
    upload(minio, "replaced", io.BytesIO(content(6 * PART)[::-1]))
    with pytest.raises(botocore.exceptions.ClientError, match="PreconditionFailed"):
        for _unused in pieces:
            pass
    assert first == content(6 * PART)[:PART]


class Endless(io.RawIOBase):
    """A stream of `size` bytes, which are in no memory."""

    def __init__(self, size):
        self._left = size

    def readable(self):
        return True

    def readinto(self, buffer):
        size = min(len(buffer), self._left)
        self._left -= size
        return size


def test_memory_of_a_transfer_is_bounded(minio):
    size = 20 * PART
    bound = (transfers.PARALLEL_PARTS + 2) * PART
    tracemalloc.start()
    try:
        upload(minio, "large", Endless(size))
        assert tracemalloc.get_traced_memory()[1] < bound
        tracemalloc.reset_peak()
        digest = hashlib.sha256()
        for piece in download(minio, "large", 0, size):
            digest.update(piece)
            del piece
        assert tracemalloc.get_traced_memory()[1] < bound
    finally:
        tracemalloc.stop()
    assert digest.digest() == hashlib.sha256(bytes(size)).digest()


def test_parts_are_transferred_in_parallel(minio):
    """Each of two parts waits for the other one."""
    both = threading.Barrier(2, timeout=20)

    def together(function):
        if "upload_part" in function.__code__.co_names:
            both.wait()
        return function()

    place = {"Bucket": store.BUCKET, "Key": "parallel"}
    transfers.upload(minio.client, io.BytesIO(content(4 * PART)), place, {}, together)

    def fetch(start, _stop):
        both.wait()
        return start

    assert list(transfers.chunks(fetch, 0, 4 * PART)) == [0, PART, 2 * PART, 3 * PART]


def test_closed_download_fetches_no_more():
    fetched = []
    pieces = transfers.chunks(lambda start, _stop: fetched.append(start) or b"x", 0, 100 * PART)
    next(pieces)
    pieces.close()
    assert len(fetched) <= transfers.PARALLEL_PARTS + 1


def test_sizes_of_parts_allow_for_large_objects():
    """S3 takes at most 10,000 parts, and objects of at most 5 TiB with parts of at most 5 GiB."""
    sizes = [PART << (number // transfers.GROWTH_PARTS) for number in range(10_000)]
    assert sum(sizes) > 400 << 30
    assert max(sizes) <= 256 << 20
