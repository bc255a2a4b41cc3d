# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the way to a Service, against an API server that speaks just enough WebSocket."""

from __future__ import annotations

import base64
import hashlib
import http.client
import itertools
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s import portforward
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.client import Api, KubeError, Settings
from hypothesis import given, settings
from hypothesis import strategies as st

BINARY, CLOSE, PING, PONG = 2, 8, 9, 10
ACCEPT_SALT = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3


def frame(payload: bytes, opcode: int = BINARY, last: bool = True) -> bytes:
    """Give a frame as a server sends it."""
    first = (0x80 if last else 0) | opcode
    if len(payload) < 126:
        return struct.pack("!BB", first, len(payload)) + payload
    if len(payload) < 65536:
        return struct.pack("!BBH", first, 126, len(payload)) + payload
    return struct.pack("!BBQ", first, 127, len(payload)) + payload


HELLO = frame(b"\x00" + struct.pack("<H", 8080)) + frame(b"\x01" + struct.pack("<H", 8080))


def data(text: bytes) -> bytes:
    """Give a frame of the data channel."""
    return frame(b"\x00" + text)


class Upgrader:
    """Upgrades one connection after another and answers each with prepared bytes.

    :ivar heads: what each connection asked for
    :ivar frames: opcode and payload of all that came in
    """

    def __init__(self) -> None:
        self.answers: list[bytes] = []
        self.status = "101 Switching Protocols"
        self.protocol = "v4.channel.k8s.io"
        self.heads: list[str] = []
        self.frames: list[tuple[int, bytes]] = []
        self.closes = True  # whether the server ends the stream after its answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/prefix"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def arrived(self, *frames: tuple[int, bytes]) -> bool:
        """Whether these frames come, within seconds: they are read by another thread."""
        deadline = time.monotonic() + 5
        while not set(frames) <= set(self.frames) and time.monotonic() < deadline:
            time.sleep(0.01)
        return set(frames) <= set(self.frames)

    def _serve(self) -> None:
        while True:
            try:
                connection = self._listener.accept()[0]
            except OSError:
                return
            with connection, connection.makefile("rb") as reader:
                try:
                    self._talk(connection, reader)
                except (OSError, struct.error):
                    continue

    def _talk(self, connection: socket.socket, reader: Any) -> None:
        head = b"".join(iter(reader.readline, b"\r\n")).decode()
        self.heads.append(head)
        key = next(line.split(": ")[1] for line in head.splitlines() if line.lower().startswith("sec-websocket-key"))
        accept = base64.b64encode(hashlib.sha1(key.encode() + ACCEPT_SALT).digest()).decode()  # noqa: S324  as RFC 6455 asks
        answer = self.answers.pop(0) if self.answers else b""
        # In one piece, so that the stream's first bytes come along with the head.
        connection.sendall(
            f"HTTP/1.1 {self.status}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n"
            f"Sec-WebSocket-Protocol: {self.protocol}\r\n\r\n".encode()
            + answer
        )
        if self.closes:
            connection.shutdown(socket.SHUT_WR)
        while True:
            first, second = struct.unpack("!BB", reader.read(2))
            length = second & 0x7F
            if length == 126:
                (length,) = struct.unpack("!H", reader.read(2))
            mask, payload = reader.read(4), reader.read(length)
            unmasked = bytes(a ^ b for a, b in zip(payload, itertools.cycle(mask), strict=False))
            self.frames.append((first & 0x0F, unmasked))
            assert second & 0x80, "a client masks its frames"


@pytest.fixture
def upgrader() -> Iterator[Upgrader]:
    server = Upgrader()
    yield server
    server.close()


def api_of(upgrader: Upgrader) -> Api:
    return Api(Settings(upgrader.url, "the tests", headers={"Authorization": "Bearer t", "Impersonate-User": "me"}))


def stream(upgrader: Upgrader, answer: bytes) -> portforward.PodStream:
    upgrader.answers.append(answer)
    return portforward.open_stream(api_of(upgrader), "ns", "pod-0", 8080, timeout=5)


def everything(opened: portforward.PodStream) -> bytes:
    """Read to the end."""
    return b"".join(iter(lambda: opened.recv(7), b""))


# --- the stream -------------------------------------------------------------------------------------------------------


def test_the_request(upgrader):
    stream(upgrader, HELLO).close()
    head = upgrader.heads[0]
    assert head.startswith("GET /prefix/api/v1/namespaces/ns/pods/pod-0/portforward?ports=8080 HTTP/1.1\r\n")
    for line in (
        "Authorization: Bearer t",
        "Impersonate-User: me",
        "Upgrade: websocket",
        "Sec-WebSocket-Protocol: v4.channel.k8s.io",
    ):
        assert f"{line}\r\n" in head


def test_reads_frames_of_all_sizes_and_answers_pings(upgrader):
    large = b"x" * 70000
    parts = [
        data(b"hello "),
        frame(b"beat", PING),
        data(b"w" * 200),
        frame(b"\x00o", last=False),
        frame(b"between", PING),
        frame(b"rld", 0),
        data(large),
    ]
    opened = stream(upgrader, HELLO + b"".join(parts) + frame(b"", CLOSE))
    assert everything(opened) == b"hello " + b"w" * 200 + b"orld" + large
    opened.close()
    assert upgrader.arrived((PONG, b"beat"), (PONG, b"between"))


@settings(max_examples=20, deadline=None)
@given(chunks=st.lists(st.binary(max_size=300), max_size=6))
def test_gives_what_was_sent(chunks):
    server = Upgrader()
    try:
        opened = stream(server, HELLO + b"".join(map(data, chunks)) + frame(b"", CLOSE))
        assert everything(opened) == b"".join(chunks)
    finally:
        server.close()


def test_sends_in_masked_chunks(upgrader):
    upgrader.closes = False
    opened = stream(upgrader, HELLO)
    sent = bytes(range(256)) * 300
    opened.sendall(sent)
    opened.close()
    for _unused in range(200):
        if upgrader.frames and upgrader.frames[-1][0] == CLOSE:
            break
        threading.Event().wait(0.01)
    payloads = [payload for opcode, payload in upgrader.frames if opcode == BINARY]
    assert all(payload[0] == 0 and len(payload) <= portforward.LARGEST_CHUNK + 1 for payload in payloads)
    assert b"".join(payload[1:] for payload in payloads) == sent


def test_an_error_of_the_kubelet_is_raised_after_the_data(upgrader):
    opened = stream(upgrader, HELLO + data(b"some") + frame(b"\x01dial tcp: connect:\n connection refused"))
    assert opened.recv(10) == b"some"
    with pytest.raises(ConnectionResetError, match="dial tcp: connect: connection refused"):
        opened.recv(10)


@pytest.mark.parametrize("rest", [b"", b"\x82", b"\x82\x7e\x00", data(b"abc")[:-1]])
def test_a_broken_connection_is_no_end(upgrader, rest):
    opened = stream(upgrader, HELLO + rest)
    with pytest.raises(ConnectionResetError, match="ended the port-forward"):
        opened.recv(10)


def test_frames_against_the_protocol_are_refused(upgrader):
    opened = stream(upgrader, HELLO + frame(b"no beginning", 0))
    with pytest.raises(ConnectionResetError, match="no port-forward"):
        opened.recv(10)


@pytest.mark.parametrize(
    ("status", "transient", "words"),
    [
        ("403 Forbidden", False, "with 403 (it needs the right to get and create pods/portforward)"),
        ("404 Not Found", True, "with 404"),
        ("500 Internal Server Error", True, "with 500"),
    ],
)
def test_a_refused_upgrade(upgrader, status, transient, words):
    upgrader.status = status
    with pytest.raises(portforward.Unreachable) as caught:
        stream(upgrader, b"")
    assert str(caught.value) == f"the API server answered the port-forward to the pod ns/pod-0 {words}"
    assert caught.value.transient is transient


def test_a_proxy_that_knows_no_websockets(upgrader):
    upgrader.protocol = "other"
    with pytest.raises(portforward.Unreachable, match="does not let WebSockets through"):
        stream(upgrader, b"")


def test_a_redirect_is_not_followed(upgrader):
    upgrader.status = "302 Found\r\nLocation: ws://127.0.0.1:1/"
    with pytest.raises(portforward.Unreachable, match="does not let WebSockets through"):
        stream(upgrader, b"")


def test_the_library_is_missing(upgrader, monkeypatch):
    monkeypatch.setitem(sys.modules, "websocket", None)
    with pytest.raises(KubeError, match="websocket-client is missing"):
        stream(upgrader, b"")


def test_it_goes_through_the_proxy(upgrader, proxy):
    upgrader.answers.append(HELLO + data(b"hello") + frame(b"", CLOSE))
    api = Api(Settings(upgrader.url, "the tests", proxy=proxy.url))
    assert everything(portforward.open_stream(api, "ns", "pod-0", 8080, timeout=5)) == b"hello"
    assert proxy.targets == [upgrader.url.removeprefix("http://").removesuffix("/prefix")]


# --- HTTP over it -----------------------------------------------------------------------------------------------------


@pytest.fixture
def connection(upgrader, monkeypatch) -> http.client.HTTPConnection:
    monkeypatch.setattr(portforward, "ready_pod", lambda *args: ("pod-0", 8080))
    return portforward.ServiceConnection(api_of(upgrader), "ns", "web", timeout=5)


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def ask(connection: http.client.HTTPConnection) -> tuple[int, bytes]:
    connection.request("GET", "/")
    response = connection.getresponse()
    return response.status, response.read()


def test_a_connection_is_kept(upgrader, connection):
    upgrader.closes = False
    upgrader.answers = [HELLO + data(OK) + data(OK)]
    assert ask(connection) == (200, b"ok")
    assert len(upgrader.heads) == 1
    connection.close()
    upgrader.answers = [HELLO + data(OK)]
    assert ask(connection) == (200, b"ok")
    assert len(upgrader.heads) == 2
    assert any(b"Host: web.ns.svc\r\n" in payload for _unused, payload in upgrader.frames)


def test_an_answer_is_read_after_a_close_that_it_asks_for(upgrader, connection):
    upgrader.answers = [
        HELLO + data(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n") + data(b"to the end") + frame(b"", CLOSE)
    ]
    assert ask(connection) == (200, b"to the end")
    assert connection.sock is None


def test_chunks(upgrader, connection):
    body = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
    upgrader.answers = [HELLO + data(body) + data(b"1\r\nd\r\n0\r\n\r\n")]
    assert ask(connection) == (200, b"abcd")


def test_no_answer(upgrader, connection):
    upgrader.answers = [HELLO + frame(b"\x01connection refused")]
    with pytest.raises(ConnectionResetError, match="connection refused"):
        ask(connection)


def test_an_answer_that_does_not_come(upgrader, monkeypatch):
    monkeypatch.setattr(portforward, "ready_pod", lambda *args: ("pod-0", 8080))
    upgrader.closes = False
    upgrader.answers = [HELLO]
    with pytest.raises(TimeoutError):
        ask(portforward.ServiceConnection(api_of(upgrader), "ns", "web", timeout=0.2))


# --- which pod --------------------------------------------------------------------------------------------------------


def pod(name: str, ready: bool = True, **more: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "labels": {"app": "web"}, **more.pop("metadata", {})},
        "spec": {"containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 8080}]}]},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
            **more,
        },
    }


@pytest.fixture
def web(cluster) -> Any:
    """Give a cluster with the Service ns/web, and a way to add pods."""
    cluster.namespace("ns")
    ports = [{"name": "http", "port": 80, "targetPort": "http"}, {"name": "admin", "port": 81, "targetPort": 9000}]
    cluster.store("/api/v1/namespaces/ns/services/web", {"spec": {"selector": {"app": "web"}, "ports": ports}})
    cluster.pods = lambda *pods: [
        cluster.store(f"/api/v1/namespaces/ns/pods/{each['metadata']['name']}", each) for each in pods
    ]
    cluster.api = Api(Settings(cluster.url, "the tests"))
    return cluster


@pytest.mark.parametrize(("port", "number"), [(None, 8080), ("http", 8080), (80, 8080), ("81", 9000), ("admin", 9000)])
def test_ports(web, port, number):
    web.pods(pod("web-1"), pod("web-0"))
    assert portforward.ready_pod(web.api, "ns", "web", port) == ("web-0", number)


def test_only_a_ready_pod_that_stays(web):
    leaving = pod("web-0", metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"})
    web.pods(leaving, pod("web-1", ready=False), pod("web-2"))
    assert portforward.ready_pod(web.api, "ns", "web")[0] == "web-2"


def test_why_there_is_no_pod(web):
    with pytest.raises(portforward.Unreachable, match="has no ready pod: there is none at all") as caught:
        portforward.ready_pod(web.api, "ns", "web")
    assert caught.value.transient
    waiting = [{"state": {"waiting": {"reason": "ErrImagePull"}}}]
    homeless = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]
    web.pods(
        pod("web-0", ready=False, phase="Pending", containerStatuses=waiting),
        pod("web-1", ready=False),
        pod("web-2", phase="Pending", conditions=homeless),
    )
    with pytest.raises(portforward.Unreachable) as caught:
        portforward.ready_pod(web.api, "ns", "web")
    assert str(caught.value) == (
        "Service ns/web has no ready pod: web-0 is ErrImagePull, web-1 is not ready, web-2 is Unschedulable"
    )


def test_no_service(web):
    with pytest.raises(portforward.Unreachable) as caught:
        portforward.ready_pod(web.api, "ns", "other")
    assert (caught.value.absent, caught.value.transient) == (True, False)
    with pytest.raises(portforward.Unreachable, match="has no port 99: it has 80"):
        portforward.ready_pod(web.api, "ns", "web", 99)
    web.store("/api/v1/namespaces/ns/services/web", {"spec": {"ports": [{"port": 80}]}})
    with pytest.raises(portforward.Unreachable, match="selects no pods"):
        portforward.ready_pod(web.api, "ns", "web")


def test_a_refusal_of_the_api_server_is_reported(web):
    web.answers["GET /api/v1/namespaces/ns/services/web"] = web.status(403, "Forbidden", "services is forbidden")
    connection = portforward.ServiceConnection(web.api, "ns", "web")
    with pytest.raises(portforward.Unreachable, match="services is forbidden"):
        connection.request("GET", "/")
