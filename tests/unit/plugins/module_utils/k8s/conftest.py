# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A proxy that tunnels."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest


class Proxy:
    """Answers CONNECT.

    :ivar targets: host and port of each tunnel
    :ivar heads: what each client sent for its tunnel
    :ivar status: what it answers
    """

    def __init__(self) -> None:
        self.targets: list[str] = []
        self.heads: list[str] = []
        self.status = "200 OK"
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                client = self._listener.accept()[0]
            except OSError:
                return
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += client.recv(1)
            self.heads.append(head.decode())
            self.targets.append(head.split()[1].decode())
            client.sendall(f"HTTP/1.1 {self.status}\r\n\r\n".encode())
            if not self.status.startswith("200"):
                client.close()
                continue
            host, _unused, port = self.targets[-1].rpartition(":")
            server = socket.create_connection((host, int(port)))
            for source, target in ((client, server), (server, client)):
                threading.Thread(target=self._pass_on, args=(source, target), daemon=True).start()

    @staticmethod
    def _pass_on(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            target.close()


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """Give a proxy."""
    server = Proxy()
    yield server
    server.close()
