# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bound what a connection may cost: uvicorn's protocol with deadlines and a limit on the number of connections.

uvicorn waits without a deadline for the headers of a request, and for a client to read its answer. Here

- a connection whose headers are not complete in time is closed, and one whose headers are too large;
- a connection whose client does not read its answer is closed, which frees the thread that writes it;
- of too many connections, the one that has been idle for the longest is closed for the next one. Connections with a
  request are never too many: `bounds` limits requests to fewer than there may be connections.
"""

import asyncio
import collections
import weakref
from collections.abc import Iterator
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol
from uvicorn.protocols.http.h11_impl import H11Protocol

from mlops_mlflow_server import addresses, metrics
from mlops_mlflow_server.settings import count, number

# As h11's own limit; httptools has none.
LARGEST_HEADERS = 64 * 1024
# A client that reads less than this in `MLOPS_WRITE_TIMEOUT` does not read.
LEAST_READ = 64 * 1024
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_NEEDED = (
    "connection_made",
    "connection_lost",
    "data_received",
    "on_response_complete",
    "pause_writing",
    "resume_writing",
    "timeout_keep_alive_handler",
)
_NEEDED_OF_HTTPTOOLS = ("on_headers_complete", "on_body")


class Limits:
    """The limits of this process, and its idle connections, of which the first has been idle for the longest."""

    def __init__(self) -> None:
        self.header_seconds = number("MLOPS_HEADER_TIMEOUT", 15)
        self.write_seconds = number("MLOPS_WRITE_TIMEOUT", 60)
        self.connections = count("MLOPS_CONNECTIONS", 1024)
        self.per_address = count("MLOPS_CONNECTIONS_PER_ADDRESS", 512)
        requests = count("MLOPS_REQUESTS", 512)
        if requests >= self.connections:
            raise ValueError(
                f"MLOPS_REQUESTS is {requests}: it must be less than MLOPS_CONNECTIONS, {self.connections}"
            )
        self.idle: collections.OrderedDict[Any, None] = collections.OrderedDict()
        self.by_address: collections.Counter[str] = collections.Counter()


# One for each event loop, which is one for each process.
_limits: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def fits(base: type[asyncio.Protocol] = AutoHTTPProtocol) -> bool:
    """Return whether uvicorn's protocol class has the expected names."""
    needed = _NEEDED if issubclass(base, H11Protocol) else _NEEDED + _NEEDED_OF_HTTPTOOLS
    return all(hasattr(base, name) for name in needed)


def bounded(base: type[asyncio.Protocol]) -> type[asyncio.Protocol]:
    """Return uvicorn's protocol class `base` with these limits."""
    has_limit = issubclass(base, H11Protocol)

    class BoundedProtocol(base):  # type: ignore[valid-type, misc]
        """See the module."""

        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            if self.loop not in _limits:
                _limits[self.loop] = Limits()
            self._limits: Limits = _limits[self.loop]
            self._header_timer: asyncio.TimerHandle | None = None
            self._write_timer: asyncio.TimerHandle | None = None
            self._header_bytes = 0
            self._host: str | None = None

        # --- number of connections ---
        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            limits = self._limits
            host = self.client[0] if self.client else addresses.UNKNOWN
            if not addresses.is_trusted_proxy(host):
                self._host = host
                limits.by_address[host] += 1
            if self._host is not None and limits.by_address[self._host] > limits.per_address:
                self._make_room(each for each in limits.idle if each._host == host)
            elif len(self.connections) > limits.connections:
                self._make_room(iter(limits.idle))
            self._await_headers()

        def _make_room(self, idle: Iterator["BoundedProtocol"]) -> None:
            """Close the first of `idle`, or else this connection."""
            closed = next(idle, self)
            metrics.CLOSED.labels("number").inc()
            self._limits.idle.pop(closed, None)
            closed.transport.abort()

        def connection_lost(self, exc: Exception | None) -> None:
            limits = self._limits
            limits.idle.pop(self, None)
            if self._host is not None:
                limits.by_address[self._host] -= 1
                if limits.by_address[self._host] <= 0:
                    del limits.by_address[self._host]
                self._host = None
            self._stop("_header_timer")
            self._stop("_write_timer")
            super().connection_lost(exc)

        # --- headers ---
        def data_received(self, data: bytes) -> None:
            self._header_bytes += len(data)
            super().data_received(data)
            is_serving = self._is_serving()
            if is_serving:
                self._stop("_header_timer")
                self._limits.idle.pop(self, None)
                if has_limit:
                    self._header_bytes = 0
            if self._header_bytes > LARGEST_HEADERS and not self.transport.is_closing():
                metrics.CLOSED.labels("large headers").inc()
                if is_serving:
                    # The trailers of a body, or the headers of a request that is sent before the answer to this one.
                    self.transport.abort()
                    return
                # Later on a connection, these bytes may be the rest of a body whose request has been answered.
                if self.cycle is None:
                    self.transport.write(_TOO_LARGE)
                self.transport.close()
            elif not is_serving and self._header_timer is None:
                self._await_headers()

        def on_headers_complete(self) -> None:
            super().on_headers_complete()
            self._header_bytes = 0

        def on_body(self, body: bytes) -> None:
            super().on_body(body)
            if self._is_serving():
                self._header_bytes = 0

        def on_response_complete(self) -> None:
            super().on_response_complete()
            if not self._is_serving() and not self.transport.is_closing():
                # The keep-alive timeout counts until the next request begins.
                self._limits.idle[self] = None

        def _is_serving(self) -> bool:
            return self.cycle is not None and not self.cycle.response_complete

        def _await_headers(self) -> None:
            if self.transport.is_closing():
                return
            self._limits.idle[self] = None
            self._header_timer = self.loop.call_later(self._limits.header_seconds, self._headers_late)

        def _headers_late(self) -> None:
            self._header_timer = None
            if not self._is_serving():
                if self._header_bytes:
                    metrics.CLOSED.labels("slow headers").inc()
                self.transport.abort()

        # --- answers ---
        def pause_writing(self) -> None:
            super().pause_writing()
            self._watch_writing()

        def resume_writing(self) -> None:
            super().resume_writing()
            self._stop("_write_timer")

        def _watch_writing(self) -> None:
            left = self.transport.get_write_buffer_size()
            self._write_timer = self.loop.call_later(self._limits.write_seconds, self._check_writing, left)

        def _check_writing(self, left: int) -> None:
            if self.transport.get_write_buffer_size() > left - LEAST_READ:
                metrics.CLOSED.labels("unread answer").inc()
                self.transport.abort()
            else:
                self._watch_writing()

        def timeout_keep_alive_handler(self) -> None:
            if self.transport.get_write_buffer_size():
                # Closing would wait for the client to read.
                self.transport.abort()
            else:
                super().timeout_keep_alive_handler()

        def _stop(self, name: str) -> None:
            timer = getattr(self, name)
            if timer is not None:
                timer.cancel()
                setattr(self, name, None)

    return BoundedProtocol


# For uvicorn's option `http`.
Bounded = bounded(AutoHTTPProtocol)
