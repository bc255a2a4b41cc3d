# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Serve https at a port of its own, beside http.

uvicorn serves either http or https, and reads a certificate at its start only. Here it listens at two ports.
Connections of the second are decrypted before they reach uvicorn's protocol, with the certificate that is there at that
time. So a renewed one needs no restart, and all connections share one application, its limits and the orderly end.
"""

import asyncio
import collections
import importlib
import logging
import os
import pathlib
import ssl
import weakref
from typing import Any

from mlops_mlflow_server.connections import Bounded
from mlops_mlflow_server.settings import number

# Connections of a worker whose handshake is not complete. A further one closes the oldest.
MOST_HANDSHAKES = 256


class Certificate:
    """The certificate in a folder, as files `tls.crt` and `tls.key`."""

    def __init__(self, folder: str) -> None:
        self._folder = pathlib.Path(folder)
        self._version: tuple[tuple[int, int], ...] = ()
        self._context: ssl.SSLContext | None = None

    def context(self) -> ssl.SSLContext:
        """Return what serves the certificate that is there now.

        Raises:
            OSError: there is none, or it cannot be read (`ssl.SSLError`, if it does not match its key).
        """
        files = self._folder / "tls.crt", self._folder / "tls.key"
        try:
            version = tuple((found.st_mtime_ns, found.st_ino) for found in (file.stat() for file in files))
            if self._context is None or version != self._version:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(*files)
                self._context, self._version = context, version
        except OSError:
            # The files are replaced at this moment. The former ones serve until both are there.
            if self._context is None:
                raise
        return self._context


class Handshakes:
    """The unfinished handshakes of this process, the oldest first."""

    def __init__(self) -> None:
        self.port = int(number("MLOPS_TLS_PORT", 0, minimum=0))
        self.certificate = Certificate(os.environ.get("MLOPS_TLS_FOLDER", ""))
        self.seconds = number("MLOPS_HEADER_TIMEOUT", 15)
        self._unfinished: collections.OrderedDict[asyncio.Transport, None] = collections.OrderedDict()

    def begin(self, transport: asyncio.Transport) -> asyncio.Future:
        """Take one in; return what ends with it."""
        if len(self._unfinished) >= MOST_HANDSHAKES:
            oldest, _unused = self._unfinished.popitem(last=False)
            oldest.abort()
        self._unfinished[transport] = None
        ended = asyncio.get_running_loop().create_future()

        def end(future: asyncio.Future) -> None:
            self._unfinished.pop(transport, None)
            # No TLS, a client that does not trust the certificate, one that went away: nothing for the log.
            future.exception()

        ended.add_done_callback(end)
        return ended


# One for each event loop, which is one for each process.
_handshakes: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def _decrypting(loop: asyncio.AbstractEventLoop) -> type:
    """Return the class by which this loop makes TLS of a connection.

    `start_tls` would do that too, but loses what a client sends before it is called, since uvloop reads at once.
    """
    is_uvloop = type(loop).__module__.split(".")[0] == "uvloop"
    return importlib.import_module("uvloop.loop" if is_uvloop else "asyncio.sslproto").SSLProtocol


class Secured(asyncio.Protocol):
    """uvicorn's protocol class for both ports; a connection goes on as `connections.Bounded`."""

    def __init__(self, **given: Any) -> None:
        self._loop = asyncio.get_running_loop()
        if self._loop not in _handshakes:
            _handshakes[self._loop] = Handshakes()
        self._handshakes: Handshakes = _handshakes[self._loop]
        self._protocol: asyncio.Protocol = Bounded(**given)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Hand the connection over, or decrypt it first."""
        following: Any = self._protocol
        if transport.get_extra_info("sockname")[1] == self._handshakes.port:
            try:
                context = self._handshakes.certificate.context()
            except OSError as error:
                logging.getLogger("uvicorn.error").error("https: no certificate: %s", error)
                transport.abort()
                return
            following = _decrypting(self._loop)(
                self._loop,
                self._protocol,
                context,
                self._handshakes.begin(transport),
                server_side=True,
                ssl_handshake_timeout=self._handshakes.seconds,
            )
        transport.set_protocol(following)
        following.connection_made(transport)
