"""https beside http: one server at two ports, and a certificate that is renewed while it runs."""

import concurrent.futures
import contextlib
import hashlib
import http.client
import os
import pathlib
import shutil
import socket
import ssl
import subprocess
import threading
import time

import pytest
import uvicorn

from lib import wire
from mlops_mlflow_server import serve, tls

# Seconds within which the server of these tests wants a handshake to be complete.
PATIENCE = 1.0


def issue(folder: pathlib.Path, name: str) -> None:
    """Make a certificate for localhost, which is its own CA, as the kubelet writes one: both files at once."""
    made = folder / name
    made.mkdir()
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"]
    names = ["-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run(
        ["openssl", "req", *kind, *names, "-keyout", made / "tls.key", "-out", made / "tls.crt"],
        check=True,
        capture_output=True,
    )
    link = folder / "new"
    link.symlink_to(made)
    link.rename(folder / "current")


async def application(scope, receive, send):
    """Answer with scheme, and with hash and size of the body; a GET with as many bytes as the path says."""
    digest, size = hashlib.sha256(), 0
    while True:
        message = await receive()
        digest.update(message.get("body", b""))
        size += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["method"] == "GET" and scope["path"] != "/":
        for _unused in range(int(scope["path"][1:]) // 65536):
            await send({"type": "http.response.body", "body": wire.BLOCK, "more_body": True})
    else:
        await send({"type": "http.response.body", "body": f"{scope['scheme']} {digest.hexdigest()} {size}".encode()})
        return
    await send({"type": "http.response.body"})


class Running:
    """A server at two ports."""

    def __init__(self, folder: pathlib.Path, plain: int, secure: int):
        self.folder, self.plain, self.secure = folder, plain, secure

    def trust(self) -> ssl.SSLContext:
        """Return the context of a client that trusts the certificate that is there now."""
        return ssl.create_default_context(cafile=str(self.folder / "current" / "tls.crt"))

    def connect(self, context: ssl.SSLContext) -> ssl.SSLSocket:
        """Return a connection to the port of https."""
        return context.wrap_socket(wire.connect(self.secure), server_hostname="localhost")

    def ask(self, context: ssl.SSLContext, method: str = "GET", path: str = "/", body: bytes | None = None) -> bytes:
        """Return the answer to one call by https."""
        connection = http.client.HTTPSConnection("localhost", self.secure, context=context, timeout=30)
        with contextlib.closing(connection):
            connection.request(method, path, body)
            return connection.getresponse().read()


@pytest.fixture(params=["uvloop", "asyncio"])
def running(request, tmp_path, monkeypatch):
    """A server with a certificate, on either event loop."""
    issue(tmp_path, "first")
    with socket.socket() as plain, socket.socket() as secure:
        for each in (plain, secure):
            each.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MLOPS_HEADER_TIMEOUT", str(PATIENCE))
        monkeypatch.setenv("MLOPS_TLS_PORT", str(secure.getsockname()[1]))
        monkeypatch.setenv("MLOPS_TLS_FOLDER", str(tmp_path / "current"))
        options = {
            "http": "mlops_mlflow_server.tls:Secured",
            "lifespan": "off",
            "log_level": "critical",
            "loop": request.param,
        }
        server = uvicorn.Server(uvicorn.Config(application, **options))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [plain, secure]})
        thread.start()
        while not server.started:
            time.sleep(0.02)
        yield Running(tmp_path, plain.getsockname()[1], secure.getsockname()[1])
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive(), "The server does not end."


def test_each_port_has_its_scheme(running):
    assert running.ask(running.trust()).startswith(b"https ")
    assert "\nhttp " in wire.ask(running.plain, "GET", "/")[1]


def test_bodies_and_answers_pass_whole(running):
    body = os.urandom(32 * 1024 * 1024 + 7)
    answer = running.ask(running.trust(), "POST", body=body)
    assert answer.decode() == f"https {hashlib.sha256(body).hexdigest()} {len(body)}"
    assert len(running.ask(running.trust(), path=f"/{32 * 1024 * 1024}")) == 32 * 1024 * 1024


def test_requests_with_the_end_of_the_handshake_are_not_lost(running):
    """A client may send at once: its request is then read before uvicorn has the connection."""
    context = running.trust()

    def call(_number: int) -> bool:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        wrapped = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
        with wire.connect(running.secure, timeout=10) as connection:
            with contextlib.suppress(ssl.SSLWantReadError):
                wrapped.do_handshake()
            connection.sendall(outgoing.read())
            while True:
                incoming.write(connection.recv(65536))
                with contextlib.suppress(ssl.SSLWantReadError):
                    wrapped.do_handshake()
                    break
            wrapped.write(wire.head("GET", "/", "Connection: close\r\n"))
            # The end of the handshake and the request in one piece.
            connection.sendall(outgoing.read())
            return bool(connection.recv(65536))

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        assert all(pool.map(call, range(200)))


def test_renewed_certificate_is_served_and_open_connections_go_on(running):
    before = running.trust()
    kept = http.client.HTTPSConnection("localhost", running.secure, context=before, timeout=30)
    with contextlib.closing(kept):
        kept.request("GET", "/")
        kept.getresponse().read()
        issue(running.folder, "second")
        assert running.ask(running.trust()).startswith(b"https ")
        with pytest.raises(ssl.SSLCertVerificationError):
            running.ask(before)
        kept.request("GET", "/")
        assert kept.getresponse().read().startswith(b"https ")


def test_half_of_a_new_certificate_is_not_served(running):
    context = running.trust()
    running.ask(context)
    issue(running.folder, "second")
    whole = (running.folder / "second" / "tls.key").read_bytes()
    shutil.copy(running.folder / "first" / "tls.key", running.folder / "second" / "tls.key")
    assert running.ask(context).startswith(b"https ")
    (running.folder / "second" / "tls.key").unlink()
    assert running.ask(context).startswith(b"https ")
    (running.folder / "second" / "tls.key").write_bytes(whole)
    assert running.ask(running.trust()).startswith(b"https ")


def test_no_certificate_at_all_is_no_end_of_the_server(running):
    issue(running.folder, "second")
    (running.folder / "second" / "tls.key").unlink()
    with pytest.raises((ssl.SSLError, OSError)):
        running.ask(running.trust())
    assert wire.ask(running.plain, "GET", "/")[0] == 200


@pytest.mark.parametrize(
    "start", [b"", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01"], ids=["nothing", "http", "tls"]
)
def test_unfinished_handshake_is_closed_in_time(running, start):
    with wire.connect(running.secure) as connection:
        connection.sendall(start)
        assert wire.is_closed(connection, PATIENCE + 1)


def test_unfinished_handshakes_are_bounded_and_close_the_oldest(running, monkeypatch):
    monkeypatch.setenv("MLOPS_HEADER_TIMEOUT", "60")
    monkeypatch.setattr(tls, "MOST_HANDSHAKES", 8)
    with contextlib.ExitStack() as opened:
        silent = [opened.enter_context(wire.connect(running.secure)) for _unused in range(8)]
        time.sleep(0.2)
        assert running.ask(running.trust()).startswith(b"https ")
        assert wire.is_closed(silent[0], 0.5)
        assert not wire.is_closed(silent[-1], 0.2)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_old_versions_of_tls_are_refused(running):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(running.folder / "current" / "tls.crt")
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError):
        running.connect(context)


def test_options_name_port_and_folder():
    given = serve.options(["--artifacts-destination", "s3://a", "--tls-port", "5443", "--tls-folder", "/etc/tls"])
    found = serve.environment(given)
    assert (found["MLOPS_TLS_PORT"], found["MLOPS_TLS_FOLDER"]) == ("5443", "/etc/tls")
