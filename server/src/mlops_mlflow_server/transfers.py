# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects of an S3 store as streams: parts that are transferred in parallel, with a bound on memory.

A part is a whole buffer in memory, since botocore then sends, hashes and repeats it without reading it piece by piece,
as it does with boto3's own transfers of streams.
"""

import collections
import concurrent.futures
import contextvars
import functools
import itertools
import logging
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, TypeVar

from s3transfer.upload import UploadSubmissionTask
from s3transfer.utils import get_filtered_dict

from mlops_mlflow_server.settings import count

_logger = logging.getLogger(__name__)
T = TypeVar("T")
# Runs a call to the store that may be repeated, and translates its errors.
Caller = Callable[[Callable[[], T]], T]

PART_BYTES = 8 << 20
# At work for one artifact, beside the part that is being read or sent.
PARALLEL_PARTS = 2
# S3 takes 10,000 parts: after this number the next ones have twice the size, which allows for 496 GiB.
GROWTH_PARTS = 2000


@functools.cache
def _threads() -> concurrent.futures.ThreadPoolExecutor:
    """Return the threads that transfer parts, separate from those of calls."""
    return concurrent.futures.ThreadPoolExecutor(
        max_workers=count("MLOPS_S3_MAX_CONNECTIONS", 32), thread_name_prefix="mlops-part"
    )


def _part(stream: Any, size: int) -> bytearray:
    """Return the next `size` bytes, fewer only at the end of the stream."""
    buffer = bytearray(size)
    filled = 0
    with memoryview(buffer) as view:
        while filled < size:
            read = stream.readinto(view[filled:])
            if not read:
                break
            filled += read
    del buffer[filled:]
    return buffer


def upload(client: Any, stream: BinaryIO, place: dict[str, str], extra: dict[str, Any], call: Caller[Any]) -> None:
    """Store a stream as an object, which appears only when all of it has been stored.

    Args:
        client: boto3's client.
        stream: what to store; an error while reading it leaves no object.
        place: `Bucket` and `Key`.
        extra: further arguments, as of boto3's `upload_file`.
        call: runs one request.
    """
    part = _part(stream, PART_BYTES)
    if len(part) < PART_BYTES:
        call(lambda: client.put_object(**place, Body=part, **extra))
        return
    place = {**place, "UploadId": call(lambda: client.create_multipart_upload(**place, **extra))["UploadId"]}
    kept = get_filtered_dict(extra, UploadSubmissionTask.UPLOAD_PART_ARGS)

    def store(number: int, content: bytearray) -> dict[str, Any]:
        answer = call(lambda: client.upload_part(**place, PartNumber=number, Body=content, **kept))
        return {"PartNumber": number, "ETag": answer["ETag"]}

    running: collections.deque[concurrent.futures.Future[dict[str, Any]]] = collections.deque()
    stored: list[dict[str, Any]] = []
    try:
        for number in itertools.count(1):
            if len(running) == PARALLEL_PARTS:
                stored.append(running.popleft().result())
            running.append(_threads().submit(contextvars.copy_context().run, store, number, part))
            part = _part(stream, PART_BYTES << (number // GROWTH_PARTS))
            if not part:
                break
        stored.extend(future.result() for future in running)
        closing = get_filtered_dict(extra, UploadSubmissionTask.COMPLETE_MULTIPART_ARGS)
        call(lambda: client.complete_multipart_upload(**place, MultipartUpload={"Parts": stored}, **closing))
    except BaseException:
        # A part that arrives after the end of its upload would stay.
        concurrent.futures.wait([future for future in running if not future.cancel()])
        _abort(client, place, extra)
        raise


def _abort(client: Any, place: dict[str, str], extra: dict[str, Any]) -> None:
    """Remove what an unfinished upload has stored; the store's lifecycle rules remove it later if this fails."""
    try:
        client.abort_multipart_upload(**place, **get_filtered_dict(extra, ("ExpectedBucketOwner", "RequestPayer")))
    except Exception as error:
        _logger.warning("An unfinished upload to %s remains in the store: %s", place["Key"], error)


def chunks(fetch: Callable[[int, int], bytes], start: int, stop: int) -> Iterator[bytes]:
    """Yield an object's bytes from `start` up to `stop`, in order, fetching the next parts meanwhile.

    Args:
        fetch: returns the bytes from its first up to its second argument; parallel calls are made.
        start: the first byte.
        stop: the byte after the last one.
    """
    waiting: collections.deque[concurrent.futures.Future[bytes]] = collections.deque()
    starts = iter(range(start, stop, PART_BYTES))
    try:
        while True:
            while len(waiting) < PARALLEL_PARTS and (begin := next(starts, None)) is not None:
                end = min(begin + PART_BYTES, stop)
                waiting.append(_threads().submit(contextvars.copy_context().run, fetch, begin, end))
            if not waiting:
                return
            yield waiting.popleft().result()
    finally:
        for part in waiting:
            part.cancel()
