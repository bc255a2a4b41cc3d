"""The adapter between uvicorn and a Flask application: both bodies stream, and a lost connection is noticed."""

import contextvars
import pathlib
import socket
import threading

import flask
import httpx
import pytest

from lib.serving import serving
from mlops_mlflow_server import connections, wsgi

PIECE = b"x" * 65536
caller = contextvars.ContextVar("caller", default="none")


class Application:
    """A Flask application, and what its calls have seen."""

    def __init__(self):
        self.flask = flask.Flask(__name__, root_path=str(pathlib.Path(__file__).parent))
        self.seen = []
        self.changed = threading.Condition()
        views = {
            "/read": self.read,
            "/lines": lambda: [line.decode() for line in flask.request.stream],
            "/first": lambda: flask.request.stream.read(1000)[:3],
            "/refuse": lambda: ("no", 403),
            "/endless": self.endless,
            "/short": lambda: flask.Response(iter([b"abc"]), headers={"Content-Length": "9"}),
            "/who": caller.get,
            "/echo": self.echo,
            "/wait": self.wait,
        }
        for path, view in views.items():
            self.flask.add_url_rule(path, endpoint=path, view_func=view, methods=["GET", "PUT"])
        self.go = threading.Event()

    async def __call__(self, scope, receive, send):
        caller.set("of this call")
        await wsgi.Call(self.flask, scope)(receive, send)

    def note(self, what):
        with self.changed:
            self.seen.append(what)
            self.changed.notify_all()

    def wait_for(self, what, seconds=10):
        with self.changed:
            return self.changed.wait_for(lambda: what in self.seen, seconds)

    def read(self):
        size = 0
        try:
            while piece := flask.request.stream.read(len(PIECE)):
                size += len(piece)
                self.note("some")
        except Exception as error:
            self.note(type(error).__name__)
            raise
        self.note("all")
        return str(size)

    def echo(self):
        return flask.request.get_data()

    def wait(self):
        self.go.wait(10)
        return self.read()

    def endless(self):
        def pieces():
            try:
                while True:
                    self.note("sent")
                    yield PIECE
            finally:
                self.note("closed")

        return flask.Response(pieces())


@pytest.fixture
def application():
    return Application()


@pytest.fixture(params=["h11", "httptools"])
def port(application, request):
    if request.param == "httptools":
        pytest.importorskip("httptools")
    with serving(application, http=request.param) as port:
        yield port


def connect(port, head):
    plug = socket.create_connection(("127.0.0.1", port), timeout=10)
    plug.sendall(head.replace("\n", "\r\n").encode())
    return plug


def test_body_is_read_before_all_of_it_has_come(application, port):
    with connect(port, "PUT /read HTTP/1.1\nHost: x\nContent-Length: 200000\n\n") as plug:
        plug.sendall(PIECE)
        plug.sendall(PIECE)
        assert application.wait_for("some")
        assert "all" not in application.seen
        plug.sendall(b"x" * (200000 - 2 * len(PIECE)))
        assert plug.recv(4096).startswith(b"HTTP/1.1 200")
    assert application.wait_for("all")


@pytest.mark.parametrize(
    "head",
    ["Content-Length: 200000\n\n", "Transfer-Encoding: chunked\n\n10000\n"],
    ids=["Content-Length", "chunked"],
)
def test_lost_connection_is_not_the_end_of_the_body(application, port, head):
    with connect(port, f"PUT /read HTTP/1.1\nHost: x\n{head}") as plug:
        plug.sendall(PIECE)
        assert application.wait_for("some")
    assert application.wait_for("ClientDisconnected")
    assert "all" not in application.seen


def test_large_bodies_arrive_whole(port):
    content = bytes(range(256)) * 40000
    answer = httpx.put(f"http://127.0.0.1:{port}/echo", content=content, timeout=30)
    assert answer.content == content
    pieces = (content[start : start + 100_001] for start in range(0, len(content), 100_001))
    assert httpx.put(f"http://127.0.0.1:{port}/echo", content=pieces, timeout=30).content == content


def test_lines_of_a_body(port):
    content = b"".join(b"line %d\n" % number for number in range(30000))
    assert "".join(httpx.put(f"http://127.0.0.1:{port}/lines", content=content, timeout=30).json()) == content.decode()


def test_answer_before_the_body_has_been_read(port):
    for path, status in (("/refuse", 403), ("/first", 200)):
        answer = httpx.put(f"http://127.0.0.1:{port}{path}", content=b"abc" * 300_000, timeout=30)
        assert answer.status_code == status


def test_client_that_leaves_ends_the_answer(application, port):
    with connect(port, "GET /endless HTTP/1.1\nHost: x\n\n") as plug:
        assert plug.recv(4096).startswith(b"HTTP/1.1 200")
        assert "closed" not in application.seen
    assert application.wait_for("closed")


def test_client_that_takes_nothing_ends_the_answer(application, monkeypatch):
    """`connections` closes the connection, and the thread of the call notices."""
    monkeypatch.setenv("MLOPS_WRITE_TIMEOUT", "0.5")
    with serving(application, http=connections.Bounded) as port, connect(port, "GET /endless HTTP/1.1\nHost: x\n\n"):
        assert application.wait_for("closed")


def test_answer_that_ends_early_is_not_complete(port):
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(f"http://127.0.0.1:{port}/short")


def test_context_of_the_call_is_seen(port):
    assert httpx.get(f"http://127.0.0.1:{port}/who").text == "of this call"


@pytest.mark.parametrize("declared", [b"7", b"9"])
def test_body_of_another_length_is_refused(application, declared):
    """An application before this one may change a body, but not cut it off."""

    async def other(scope, receive, send):
        async def changed():
            return {"type": "http.request", "body": b"12345678", "more_body": False}

        scope = {**scope, "headers": [(b"content-length", declared)]}
        await application(scope, changed, send)

    with serving(other) as port:
        assert httpx.put(f"http://127.0.0.1:{port}/read", content=b"12345678").status_code >= 400
    assert "all" not in application.seen


class LimitError(Exception):
    """What an application before this one raises."""


def test_limit_of_an_outer_application_reaches_it(application):
    caught = []

    async def limiting(scope, receive, send):
        taken = 0

        async def limited():
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > 100_000:
                raise LimitError
            return message

        try:
            await application(scope, limited, send)
        except LimitError as error:
            caught.append(error)
            await send({"type": "http.response.start", "status": 413, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})

    with serving(limiting) as port:
        assert httpx.put(f"http://127.0.0.1:{port}/read", content=b"x" * 1_000_000).status_code == 413
    assert caught


def test_threads_are_not_kept_by_clients_that_left(application, port):
    for _unused in range(20):
        with connect(port, "PUT /read HTTP/1.1\nHost: x\nContent-Length: 900000\n\n") as plug:
            plug.sendall(PIECE)
    assert httpx.put(f"http://127.0.0.1:{port}/read", content=PIECE * 3).text == str(len(PIECE) * 3)


def test_body_is_not_read_far_ahead(application):
    """The application waits; the client can send only what fits into buffers."""
    with (
        serving(application) as port,
        connect(port, "PUT /wait HTTP/1.1\nHost: x\nContent-Length: 200000000\n\n") as plug,
    ):
        plug.settimeout(1)
        sent = 0
        try:
            while sent < 100_000_000:
                sent += plug.send(PIECE)
        except TimeoutError:
            pass
        application.go.set()
    assert wsgi.AHEAD_BYTES < sent < 50_000_000
