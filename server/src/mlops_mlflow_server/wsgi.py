# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The adapter between the ASGI server and MLflow's Flask application, which streams bodies in both directions.

MLflow's own adapter keeps a whole request body in memory, and that of asgiref, which mlflow-oidc-auth takes, writes it
to disk. a2wsgi streams, but takes a lost connection for the end of the body, so that a cut off upload would look
complete. Here reading raises an error then.

A call runs in one thread. A short body, and an answer of known length, cross between event loop and thread once.
"""

import asyncio
import collections
import concurrent.futures
import contextvars
import functools
import importlib
import io
import sys
import threading
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from asgiref.wsgi import WsgiToAsgiInstance
from mlflow.server import fastapi_app
from werkzeug.exceptions import ClientDisconnected

from mlops_mlflow_server.settings import count, login

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

# What the event loop reads ahead of the application.
AHEAD_BYTES = 2 << 20


@functools.cache
def _threads() -> concurrent.futures.ThreadPoolExecutor:
    """Return the threads of all calls, as many as `lanes` lets through."""
    return concurrent.futures.ThreadPoolExecutor(
        max_workers=count("MLOPS_TRACKING_THREADS", 8) + count("MLOPS_ARTIFACT_THREADS", 8),
        thread_name_prefix="mlops-call",
    )


class Body(io.RawIOBase):
    """A request body: the event loop fills it from `receive`, and the thread of the call reads it.

    Reading raises `ClientDisconnected` if the connection is lost before the end, or if the length is not the declared
    one.
    """

    def __init__(self, receive: Receive, declared: int | None):
        self._receive = receive
        self._declared = declared
        self._loop = asyncio.get_running_loop()
        self._chunks: collections.deque[memoryview] = collections.deque()
        self._waiting = 0
        self._received = 0
        self._changed = threading.Condition()
        self._wanted = asyncio.Event()
        self._ended = False
        self.lost = False

    async def first(self) -> bytes | None:
        """Return the body if it came with one message, else None."""
        message = await self._receive()
        self._take(message)
        return message.get("body", b"") if self._ended and not self.lost else None

    async def fill(self) -> None:
        """Receive until the client disconnects, not much faster than the thread reads."""
        try:
            while not self.lost:
                self._wanted.clear()
                if self._waiting > AHEAD_BYTES:
                    await self._wanted.wait()
                self._take(await self._receive())
        finally:
            self.lose()

    def lose(self) -> None:
        """Let no more be read or sent: the call is over for the client."""
        with self._changed:
            self.lost = True
            self._changed.notify()

    def _take(self, message: Message) -> None:
        with self._changed:
            if message["type"] == "http.disconnect":
                self.lost = True
            else:
                chunk = message.get("body", b"")
                if chunk:
                    self._chunks.append(memoryview(chunk))
                self._waiting += len(chunk)
                self._received += len(chunk)
                self._ended = not message.get("more_body", False)
                if self._ended and self._declared not in (None, self._received):
                    self.lost = True
            self._changed.notify()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with self._changed:
            while not (self._chunks or self._ended or self.lost):
                self._changed.wait()
            if self.lost:
                raise ClientDisconnected
            target, filled = memoryview(buffer).cast("B"), 0
            while self._chunks and filled < len(target):
                chunk = self._chunks.popleft()
                size = min(len(chunk), len(target) - filled)
                target[filled : filled + size] = chunk[:size]
                filled += size
                if size < len(chunk):
                    self._chunks.appendleft(chunk[size:])
            before, self._waiting = self._waiting, self._waiting - filled
        if before > AHEAD_BYTES >= self._waiting:
            self._loop.call_soon_threadsafe(self._wanted.set)
        return filled


class Call:
    """One call of a WSGI application."""

    def __init__(self, application: Wsgi, scope: Scope):
        self._application = application
        self._scope = scope
        self._start: Message = {}
        self._started = False
        self._filling: asyncio.Task[None] | None = None

    async def __call__(self, receive: Receive, send: Send) -> None:
        self._loop = asyncio.get_running_loop()
        self._send = send
        declared = next((int(value) for name, value in self._scope["headers"] if name == b"content-length"), None)
        self._body = Body(receive, declared)
        whole = await self._body.first()
        if whole is None:
            self._watch()
        source = io.BufferedReader(self._body, 1 << 16) if whole is None else io.BytesIO(whole)
        run = functools.partial(contextvars.copy_context().run, self._run, source)
        try:
            last = await self._loop.run_in_executor(_threads(), run)
            self._raise_what_ended_the_body()
            for message in last:
                await send(message)
        except ClientDisconnected:
            if not self._body.lost:
                raise
        finally:
            self._body.lose()
            if self._filling is not None:
                self._filling.cancel()

    def _raise_what_ended_the_body(self) -> None:
        """Raise what `receive` raised: a limit of an outer application, which answers it."""
        filling = self._filling
        error = filling.exception() if filling is not None and filling.done() and not filling.cancelled() else None
        if error is not None:
            raise error

    def _watch(self) -> None:
        if self._filling is None:
            self._filling = self._loop.create_task(self._body.fill())

    async def _forward(self, messages: list[Message]) -> None:
        self._watch()
        for message in messages:
            await self._send(message)

    def _run(self, source: io.BufferedIOBase) -> list[Message]:
        """Run the application in this thread; send what it yields, and return the last messages."""
        # asgiref translates path and headers; its class has the scope as an attribute.
        translator = WsgiToAsgiInstance(self._application)
        translator.scope = self._scope
        try:
            environ = translator.build_environ(self._scope, source)
        except ValueError:  # too many headers of one name
            refusal = {"type": "http.response.start", "status": 400, "headers": [(b"content-length", b"0")]}
            return [refusal, {"type": "http.response.body", "body": b""}]
        environ |= {"wsgi.errors": sys.stderr, "wsgi.input_terminated": True}
        chunks = self._application(environ, self._start_response)
        try:
            held = self._answer(chunks)
        finally:
            close = getattr(chunks, "close", None)
            if close is not None:
                close()
        return [*held, {"type": "http.response.body", "body": b""}]

    def _answer(self, chunks: Iterable[bytes]) -> list[Message]:
        """Send all chunks but the last one of an answer of known length; return what is still to be sent."""
        left: int | None = None
        for chunk in chunks:
            first = [] if self._started else [self._start]
            self._started = True
            if first:
                left = next((int(value) for name, value in self._start["headers"] if name == b"content-length"), None)
            messages = [*first, {"type": "http.response.body", "body": chunk, "more_body": True}]
            if left is not None:
                left -= len(chunk)
                if left == 0:
                    return messages
            self._push(messages)
        return [] if self._started else [self._start]

    def _start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> None:
        if exc_info and self._started:
            raise exc_info[1].with_traceback(exc_info[2])
        self._start = {
            "type": "http.response.start",
            "status": int(status.split(" ", 1)[0]),
            "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers],
        }

    def _push(self, messages: list[Message]) -> None:
        """Send from this thread, and wait until the client has taken it.

        Raises:
            ClientDisconnected: the client has gone.
        """
        if self._body.lost:
            raise ClientDisconnected
        asyncio.run_coroutine_threadsafe(self._forward(messages), self._loop).result()


def install() -> bool:
    """Let MLflow and mlflow-oidc-auth take this adapter; return whether both have the names of theirs."""
    if not hasattr(fastapi_app, "_EfficientWSGIResponder"):
        return False
    fastapi_app._EfficientWSGIResponder = Call
    if login() != "oidc":
        return True
    plugin: Any = importlib.import_module("mlflow_oidc_auth.middleware.auth_aware_wsgi_middleware")
    if not hasattr(plugin, "WSGIMiddleware"):
        return False
    plugin.WSGIMiddleware = lambda application: lambda scope, receive, send: Call(application, scope)(receive, send)
    return True
