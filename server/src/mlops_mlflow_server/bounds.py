# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bound what a request may cost before it is authenticated, and after: its body in size and time, and how many at once.

- A path that needs no login takes no body.
- The body of a call has a largest size; that of an artifact's upload only if `MLOPS_ARTIFACT_MAX_SIZE` is set.
- A client that stops sending, or that sends too slowly, is dropped. An upload may be slow, but must be steady.
- One address has a limited number of requests at once, and so have all of them together.
- Of a request that is answered before its body was read, a short body is read first. A longer one is not: the
  connection ends.

`lanes` reads bodies before it takes a thread, `connections` bounds headers and answers that are not read.
"""

import asyncio
import collections
import logging
import re
import time
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mlops_mlflow_server import answers, assistant
from mlops_mlflow_server.addresses import client_address
from mlops_mlflow_server.answers import Refusal
from mlops_mlflow_server.settings import count, number

_logger = logging.getLogger("mlflow.mlops")

MIB = 1024 * 1024
LARGEST_CALL = 32 * MIB
# MLflow takes seconds to read a filter of this size.
LARGEST_SEARCH = MIB // 4
# Bytes in a second, which count once `MLOPS_BODY_TIMEOUT` has passed.
LEAST_RATE = 16 * 1024
LEAST_RATE_OF_UPLOADS = 1024
# The address of a request, for `lanes`.
ADDRESS = "mlops.address"
CLOSE = (b"connection", b"close")

ARTIFACTS = re.compile(r"/(ajax-)?api/2\.0/mlflow-artifacts/artifacts/")
_LATE = Refusal(408, "DEADLINE_EXCEEDED", "The body of the request did not arrive in time.", "slow body")
_NO_BODY = Refusal(413, "INVALID_PARAMETER_VALUE", "This path takes no body.", "body")
_NO_ASSISTANT = Refusal(404, "ENDPOINT_NOT_FOUND", "This server has no assistant.", "assistant")
_TOO_MANY = answers.busy("The server has too many requests at once. Try again in a moment.", "requests")
_TOO_MANY_BYTES = answers.busy("The server has too many large requests at once. Try again in a moment.", "memory")
_SEARCH = re.compile(r"/(search[a-z-]*|graphql)/?$")
# Probes count nowhere: a busy server is not a broken one.
PROBES = frozenset({"/health", "/health/live", "/health/ready", "/health/startup"})


def is_upload(scope: dict) -> bool:
    """Return whether this request is the upload of an artifact, whose body passes through."""
    return scope["method"] == "PUT" and ARTIFACTS.search(scope["path"]) is not None


def length_of_body(headers: list[tuple[bytes, bytes]]) -> int | None:
    """Return the length of a request's body: 0 without one, None if it is not known before its end."""
    length = 0
    for name, value in headers:
        if name == b"transfer-encoding":
            return None
        if name == b"content-length":
            length = int(value) if value.isdigit() else 0
    return length


class Refused(Exception):
    """The body of this request is refused; whoever reads it has nothing more to do."""


class Body:
    """The body of one request, with its limits."""

    def __init__(self, receive: Receive, bounds: "Bounds", largest: float, rate: float, is_held: bool):
        self._receive = receive
        self._bounds = bounds
        self._largest = largest
        self._rate = rate
        self._is_held = is_held
        self._began = time.monotonic()
        self.size = 0
        self.held = 0
        self.is_complete = False
        self.is_answered = False
        # Whether the client has left before the end.
        self.is_gone = False
        self.refusal: Refusal | None = None

    def _refuse(self, refusal: Refusal) -> None:
        self.refusal = refusal
        raise Refused(refusal.message)

    async def receive(self) -> dict:
        """Return ASGI's next message.

        Raises:
            Refused: a limit is exceeded.
        """
        if self.is_complete:
            return await self._receive()
        if self.is_answered:
            return await self._rest()
        idle = self._bounds.idle_seconds
        allowed = self._began + idle + self.size / self._rate - time.monotonic()
        try:
            async with asyncio.timeout(min(idle, allowed)):
                message = await self._receive()
        except TimeoutError:
            self._refuse(_LATE)
        if message["type"] != "http.request":
            self.is_gone = True
            return message
        self.size += len(message.get("body", b""))
        self.is_complete = not message.get("more_body", False)
        if self.size > self._largest:
            self._refuse(too_large(self._largest))
        if self._is_held:
            self._hold(len(message.get("body", b"")))
        return message

    async def _rest(self) -> dict:
        """Return the next message for whoever only waits for the end of the connection."""
        message = await self._receive()
        self.size += len(message.get("body", b""))
        self.is_complete = not message.get("more_body", False)
        return message if self.size <= self._largest else {"type": "http.disconnect"}

    def _hold(self, size: int) -> None:
        self.held += size
        self._bounds.held += size
        if self._bounds.held > self._bounds.most_held:
            # At once, so that others need not be refused too.
            self.release()
            self._refuse(_TOO_MANY_BYTES)

    def release(self) -> None:
        """Count what is held no more."""
        self._bounds.held -= self.held
        self.held = 0

    async def linger(self) -> None:
        """Read a little of what is left, since a connection that is closed before that may lose its answer."""
        left = answers.LINGER_BYTES
        try:
            async with asyncio.timeout(answers.LINGER_SECONDS):
                while left > 0 and not self.is_complete:
                    message = await self._receive()
                    left -= len(message.get("body", b""))
                    self.is_complete = not message.get("more_body", False)
        except TimeoutError:
            pass


def too_large(largest: float) -> Refusal:
    """Return the refusal of a body that exceeds `largest` bytes."""
    return Refusal(413, "INVALID_PARAMETER_VALUE", f"The request is larger than {largest / MIB:g} MiB.", "size")


class Bounds:
    """ASGI application around all others, see the module.

    Args:
        application: the application within.
        takes_no_body: whether a path needs no login and so takes no body.
    """

    def __init__(self, application: ASGIApp, takes_no_body: Callable[[str], bool]):
        self._application = application
        self._takes_no_body = takes_no_body
        self._largest_call = number("MLOPS_REQUEST_MAX_SIZE", LARGEST_CALL, minimum=1)
        self._largest_upload = number("MLOPS_ARTIFACT_MAX_SIZE", 0, minimum=0) or float("inf")
        self._most = count("MLOPS_REQUESTS", 512)
        self._most_of_address = count("MLOPS_REQUESTS_PER_ADDRESS", 256)
        self.idle_seconds = number("MLOPS_BODY_TIMEOUT", 30)
        self.most_held = number("MLOPS_BODY_MEMORY", 128 * MIB, minimum=1)
        self.held = 0
        self._running = 0
        self._of_address: collections.Counter[str] = collections.Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        if assistant.is_path(scope["path"]):
            await self._refuse(scope, receive, send, _NO_ASSISTANT)
            return
        length = length_of_body(scope["headers"])
        if length != 0:
            if self._takes_no_body(scope["path"]):
                await self._refuse(scope, receive, send, _NO_BODY)
                return
            largest = self._largest(scope)
            if length is not None and length > largest:
                await self._refuse(scope, receive, send, too_large(largest))
                return
        if scope["path"] in PROBES:
            await self._bounded(scope, receive, send, length)
            return
        address = scope[ADDRESS] = client_address(scope)
        if self._running >= self._most or self._of_address[address] >= self._most_of_address:
            await self._refuse(scope, receive, send, _TOO_MANY)
            return
        self._running += 1
        self._of_address[address] += 1
        try:
            await self._bounded(scope, receive, send, length)
        finally:
            self._running -= 1
            self._of_address[address] -= 1
            if not self._of_address[address]:
                del self._of_address[address]

    def _largest(self, scope: Scope) -> float:
        if is_upload(scope):
            return self._largest_upload
        if _SEARCH.search(scope["path"]):
            return min(LARGEST_SEARCH, self._largest_call)
        return self._largest_call

    async def _bounded(self, scope: Scope, receive: Receive, send: Send, length: int | None) -> None:
        if length == 0:
            await self._application(scope, receive, send)
            return
        upload = is_upload(scope)
        rate = LEAST_RATE_OF_UPLOADS if upload else LEAST_RATE
        body = Body(receive, self, self._largest(scope), rate, is_held=not upload)
        is_refused = is_open = False

        async def bounded_send(message: Message) -> None:
            nonlocal is_refused, is_open
            if message["type"] == "http.response.start":
                is_refused = body.refusal is not None
                body.is_answered = True
                if not is_refused and length is not None and length <= answers.LINGER_BYTES:
                    # A proxy may lose an answer that comes before it has sent all.
                    await body.linger()
                if not is_refused and not body.is_complete:
                    is_open = True
                    message = {**message, "headers": [*message.get("headers", ()), CLOSE]}
            elif is_open:
                message = {**message, "more_body": True}
            if not is_refused:
                await send(message)

        try:
            await self._application(scope, body.receive, bounded_send)
        except Exception:
            # What the application made of `Refused`, or of the end of the connection.
            if body.refusal is None and not body.is_gone:
                raise
        finally:
            body.release()
        if body.refusal is not None and (is_refused or not body.is_answered):
            await self._answer(scope, body, send, body.refusal)
        elif is_open:
            await body.linger()
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _refuse(self, scope: Scope, receive: Receive, send: Send, refusal: Refusal) -> None:
        body = Body(receive, self, 0, LEAST_RATE, is_held=False)
        body.is_complete = length_of_body(scope["headers"]) == 0
        await self._answer(scope, body, send, refusal)

    async def _answer(self, scope: Scope, body: Body, send: Send, refusal: Refusal) -> None:
        _logger.info("Refused %s %r with %d: %s", scope["method"], scope["path"], refusal.status, refusal.message)
        headers = [answers.retry_after()] if refusal.status == 429 else []
        if body.is_complete:
            await answers.refuse(send, refusal, headers)
            return
        await answers.refuse(send, refusal, [*headers, CLOSE], is_open=True)
        await body.linger()
        await send({"type": "http.response.body", "body": b"", "more_body": False})
