"""The parts of the limits by themselves, with real packages: uvicorn, Starlette, MLflow's middleware."""

import asyncio
import contextlib
import gzip
import socket
import threading
import time
import zlib

import pytest
import uvicorn
from fastapi import FastAPI, HTTPException
from starlette.middleware import Middleware
from starlette.responses import Response
from uvicorn.protocols.http import h11_impl

from lib import wire
from lib.postgres import free_port
from mlops_mlflow_server import (
    addresses,
    answers,
    assistant,
    attempts,
    bounds,
    compressed,
    connections,
    credentials,
    hosts,
    lanes,
)

# --- connections ---


def protocols():
    """Return uvicorn's protocol classes that are installed."""
    found = [h11_impl.H11Protocol]
    with contextlib.suppress(ImportError):
        from uvicorn.protocols.http import httptools_impl  # noqa: PLC0415  (may be absent)

        found.append(httptools_impl.HttpToolsProtocol)
    return found


async def echo(scope, receive, send):
    """Answer with as many bytes as the path says, once the body is there."""
    size = int(scope["path"][1:] or 0)
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(size).encode())]})
    try:
        for _unused in range(max(1, size // 65536)):
            await send({"type": "http.response.body", "body": b"a" * min(size, 65536), "more_body": True})
        await send({"type": "http.response.body"})
    finally:
        echo.ended.append(size)


@pytest.fixture(params=protocols(), ids=lambda protocol: protocol.__name__)
def port(request, monkeypatch):
    """The port of a uvicorn with this protocol class and short deadlines."""
    for name, value in {
        "MLOPS_HEADER_TIMEOUT": "0.5",
        "MLOPS_WRITE_TIMEOUT": "0.5",
        "MLOPS_CONNECTIONS": "8",
        "MLOPS_CONNECTIONS_PER_ADDRESS": "6",
        "MLOPS_REQUESTS": "7",
    }.items():
        monkeypatch.setenv(name, value)
    echo.ended = []
    port = free_port()
    config = uvicorn.Config(
        echo,
        port=port,
        http=connections.bounded(request.param),
        timeout_keep_alive=2,
        lifespan="off",
        log_level="error",
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield port
    server.should_exit = True
    thread.join()


@pytest.mark.parametrize("start", [b"", b"GET / HTTP/1.1\r\nHost: loc"])
def test_connection_without_complete_headers_is_closed(port, start):
    with wire.connect(port) as connection:
        connection.sendall(start)
        time.sleep(0.3)
        with contextlib.suppress(OSError):
            connection.sendall(start[:1])
        assert wire.is_closed(connection, 0.6)


def test_deadline_of_headers_counts_for_each_request(port):
    with wire.connect(port) as connection:
        for _unused in range(2):
            for part in (b"GET /1 HTTP/1.1\r\n", b"Host: localhost\r\n", b"\r\n"):
                connection.sendall(part)
                time.sleep(0.1)
            assert wire.received(connection, b"\r\n\r\na")
            # Idle: the keep-alive timeout counts.
            time.sleep(0.8)
        connection.sendall(b"GET /1 HTT")
        assert wire.is_closed(connection, 1)


def test_slow_body_is_not_the_business_of_the_headers_deadline(port):
    with wire.connect(port) as connection:
        connection.sendall(wire.head("POST", "/1", "Content-Length: 2\r\n") + b"a")
        time.sleep(1)
        connection.sendall(b"a")
        assert wire.received(connection, b"\r\n\r\na")


def test_large_headers_are_refused(port):
    with wire.connect(port) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 40_000)
        assert wire.answer(connection)[0] in {0, 400, 431}
    assert not echo.ended


@pytest.mark.parametrize(
    "start",
    [
        wire.head("POST", "/1", "Transfer-Encoding: chunked\r\n") + b"0\r\nx: ",
        wire.head("POST", "/1", "Transfer-Encoding: chunked\r\n") + b"1;",
        wire.head("GET", f"/{64 * 1024 * 1024}") + b"GET / HTTP/1.1\r\nx: ",
    ],
    ids=["trailers", "chunk-extension", "headers-of-the-next-request"],
)
def test_headers_beside_a_request_are_bounded(port, start):
    with wire.connect(port) as connection:
        connection.sendall(start)
        time.sleep(0.1)
        sent = 0
        connection.settimeout(0.3)
        with contextlib.suppress(OSError):  # refused, or not read
            while sent < 200:
                connection.sendall(b"a" * 65536)
                sent += 1
        assert sent < 200


@pytest.mark.parametrize("framing", ["Content-Length: 1048576\r\n", "Transfer-Encoding: chunked\r\n"])
def test_long_body_is_not_taken_for_headers(port, framing):
    with wire.connect(port) as connection:
        connection.sendall(wire.head("POST", "/1", framing))
        for _unused in range(64):
            block = b"a" * 16384
            connection.sendall(b"4000\r\n%s\r\n" % block if "chunked" in framing else block)
        connection.sendall(b"0\r\n\r\n" if "chunked" in framing else b"")
        assert wire.received(connection, b"\r\n\r\na")


def test_rest_of_a_body_is_not_read_for_ever(port):
    """An application may answer before it reads; `bounds` closes such connections, and else this does."""
    with wire.connect(port) as connection:
        connection.sendall(wire.head("POST", "/1", "Content-Length: 1\r\n") + b"a")
        assert wire.received(connection, b"\r\n\r\na")
        sent = 0
        with contextlib.suppress(OSError):
            while sent < 200:
                connection.sendall(b"\0" * 65536)
                sent += 1
                time.sleep(0.01)
        assert sent < 200


def test_answer_that_is_not_read_ends(port):
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", port))
        connection.sendall(wire.head("GET", f"/{64 * 1024 * 1024}"))
        time.sleep(1.5)
        assert echo.ended, "the application still waits for the client"


def test_slow_reader_gets_its_answer(port):
    size = 8 * 1024 * 1024
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        connection.settimeout(5)
        connection.connect(("127.0.0.1", port))
        connection.sendall(wire.head("GET", f"/{size}", "Connection: close\r\n"))
        received = 0
        while chunk := connection.recv(256 * 1024):
            received += len(chunk)
            time.sleep(0.02)
    assert received > size


def test_longest_idle_connection_makes_room(port):
    with contextlib.ExitStack() as stack:
        busy = stack.enter_context(wire.connect(port))
        busy.sendall(wire.head("POST", "/1", "Content-Length: 2\r\n"))
        time.sleep(0.1)
        idle = [stack.enter_context(wire.connect(port, f"127.0.0.{2 + number % 2}")) for number in range(8)]
        assert wire.ask(port, "GET", "/1", source="127.0.0.4")[0] == 200
        assert wire.is_closed(idle[0], 0.2)
        assert not wire.is_closed(idle[-1], 0.05)
        busy.sendall(b"aa")
        assert wire.received(busy, b"\r\n\r\na")


def test_one_address_has_fewer_connections(port):
    with contextlib.ExitStack() as stack:
        other = stack.enter_context(wire.connect(port, "127.0.0.2"))
        own = [stack.enter_context(wire.connect(port)) for _unused in range(7)]
        time.sleep(0.1)
        assert [wire.is_closed(each, 0.05) for each in (own[0], own[-1], other)] == [True, False, False]


def test_address_with_requests_on_all_connections_gets_no_more(port):
    with contextlib.ExitStack() as stack:
        for _unused in range(6):
            connection = stack.enter_context(wire.connect(port))
            connection.sendall(wire.head("POST", "/1", "Content-Length: 2\r\n"))
        time.sleep(0.1)
        assert wire.ask(port, "GET", "/1")[0] == 0
        assert wire.ask(port, "GET", "/1", source="127.0.0.2")[0] == 200


def test_fewer_requests_than_connections_are_possible(monkeypatch):
    monkeypatch.setenv("MLOPS_REQUESTS", "1024")
    with pytest.raises(ValueError, match="MLOPS_REQUESTS is 1024: it must be less than MLOPS_CONNECTIONS, 1024"):
        connections.Limits()


def test_another_uvicorn_is_noticed():
    assert connections.fits()
    assert not connections.fits(asyncio.Protocol)


# --- addresses ---


@pytest.mark.parametrize(
    ("trusted", "client", "forwarded", "expected"),
    [
        ("", "10.0.0.1", ["203.0.113.9"], "10.0.0.1"),
        ("10.0.0.0/8", "10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("10.0.0.0/8", "10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.0/8", "192.0.2.1", ["203.0.113.9"], "192.0.2.1"),
        # What the client itself has sent is to the left.
        ("10.0.0.0/8", "10.0.0.1", ["198.51.100.1, 203.0.113.9, 10.0.0.2"], "203.0.113.9"),
        ("10.0.0.0/8", "10.0.0.1", ["198.51.100.1", "203.0.113.9"], "203.0.113.9"),
    ],
)
def test_forwarded_address_counts_from_trusted_proxies_only(monkeypatch, trusted, client, forwarded, expected):
    monkeypatch.setenv("TRUSTED_PROXIES", trusted)
    addresses.trusted_proxies.cache_clear()
    headers = [(b"x-forwarded-for", value.encode()) for value in forwarded]
    assert addresses.client_address({"client": (client, 1), "headers": headers}) == expected
    addresses.trusted_proxies.cache_clear()


# --- attempts ---


def test_window_slides():
    now = [0.0]
    window = attempts.Window(2, seconds=60, clock=lambda: now[0])
    for now[0] in (0, 40):
        assert window.wait("a") == 0
        window.add("a")
    assert window.wait("a") == 20
    assert window.wait("b") == 0
    now[0] = 61
    assert window.wait("a") == 0
    window.add("a")
    assert window.wait("a") == 39


def test_windows_are_bounded(monkeypatch):
    monkeypatch.setattr(attempts, "MOST", 10)
    window = attempts.Window(2)
    for number in range(100):
        window.add(number)
    assert len(window._events) == 10


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("Basic YTpiOmM=", ("a", "b:c")),
        ("basic YTo=", ("a", "")),
        ("Basic YQ==", None),
        ("Basic %", None),
        ("Bearer YTpi", None),
    ],
)
def test_credentials_in_a_header(header, expected):
    assert credentials.basic(header) == expected


# --- lanes ---


def served(calls, *, threads=4, most=100, patience=10.0):
    """Run these callers' calls, each for 50 ms; return the order of their ends, and how many each had at once."""
    ended, running, at_once = [], {}, {}

    async def call(lane, caller):
        lane.enter(caller)
        try:
            await lane.acquire(caller)
        except lanes.Busy:
            ended.append(f"{caller} is refused")
            return
        finally:
            lane.leave(caller)
        running[caller] = running.get(caller, 0) + 1
        at_once[caller] = max(at_once.get(caller, 0), running[caller])
        await asyncio.sleep(0.05)
        running[caller] -= 1
        lane.release(caller)
        ended.append(caller)

    async def drive():
        lane = lanes.Lane(threads, most, patience)
        tasks = []
        for caller in calls:
            tasks.append(asyncio.create_task(call(lane, caller)))
            await asyncio.sleep(0)
        await asyncio.gather(*tasks)
        assert lane._free == threads
        assert (dict(lane._running), dict(lane._waiting), dict(lane._calls)) == ({}, {}, {})

    asyncio.run(drive())
    return ended, at_once


def test_one_caller_never_takes_all_threads():
    ended, at_once = served("a" * 20 + "b")
    assert at_once["a"] == 3
    assert ended.index("b") < 4


def test_callers_take_turns():
    ended, _unused = served("a" * 10 + "b" * 10 + "c" * 2)
    assert "".join(ended).rindex("c") < 12


def test_one_thread_is_shared_too():
    assert served("aab", threads=1)[0] == ["a", "a", "b"] or served("aab", threads=1)[0] == ["a", "b", "a"]


def test_call_that_waits_too_long_is_refused():
    ended, _unused = served("a" * 5, threads=1, patience=0.08)
    assert ended.count("a is refused") == 3


def test_number_of_calls_of_a_caller_is_limited():
    lane = lanes.Lane(4, 2, 1)
    lane.enter("a")
    lane.enter("a")
    lane.enter("b")
    with pytest.raises(lanes.Busy):
        lane.enter("a")
    lane.leave("a")
    lane.enter("a")


def test_client_that_leaves_loses_its_turn():
    async def drive():
        lane = lanes.Lane(1, 10, 10)
        await lane.acquire("a")
        waiting = [asyncio.create_task(lane.acquire(caller)) for caller in "bc"]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await asyncio.sleep(0)
        lane.release("a")
        await waiting[1]
        lane.release("c")
        # Cancelled at the same moment as its turn came.
        await lane.acquire("a")
        late = asyncio.create_task(lane.acquire("b"))
        await asyncio.sleep(0)
        lane.release("a")
        late.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await late
            lane.release("b")
        assert lane._free == 1
        assert (dict(lane._running), dict(lane._waiting)) == ({}, {})

    asyncio.run(drive())


def scope(path="/api/2.0/mlflow/runs/log-batch", method="POST", headers=()):
    return {"type": "http", "path": path, "method": method, "headers": list(headers), "client": ("192.0.2.1", 1)}


def messages(*chunks, ends_with="http.request"):
    """Return a `receive` that gives these chunks; the last one ends the body, or the client leaves."""
    waiting = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    if ends_with == "http.request":
        waiting[-1]["more_body"] = False

    async def receive():
        return waiting.pop(0) if waiting else {"type": "http.disconnect"}

    return receive


def through(application, request, receive) -> list[dict]:
    """Call an ASGI application; return what it sends."""
    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(application(request, receive, send))
    return sent


def test_artifact_calls_have_their_own_threads(monkeypatch):
    monkeypatch.setenv("MLOPS_ARTIFACT_THREADS", "4")
    running, most, ended = [0], [0], []

    async def inner(request, _receive, _send):
        if "artifact" in request["path"]:
            running[0] += 1
            most[0] = max(most[0], running[0])
            await asyncio.sleep(0.1)
            running[0] -= 1
        ended.append(request["path"])

    async def drive():
        application = lanes.Lanes(inner)
        artifacts = [asyncio.create_task(application(scope("/artifacts"), messages(b""), None)) for _unused in range(6)]
        await asyncio.sleep(0.01)
        await application(scope("/runs"), messages(b""), None)
        assert ended == ["/runs"]
        await asyncio.gather(*artifacts)

    asyncio.run(drive())
    assert most == [3]


def test_body_of_a_call_is_there_at_once(monkeypatch):
    seen = []

    async def inner(_scope, receive, _send):
        seen.extend([await receive(), await receive()])

    through(lanes.Lanes(inner), scope(), messages(b"a", b"b", b"c"))
    assert seen == [{"type": "http.request", "body": b"abc", "more_body": False}, {"type": "http.disconnect"}]


@pytest.mark.parametrize("path", ["/api/2.0/mlflow/runs/log-batch", "/api/2.0/mlflow-artifacts/artifacts/1/x"])
def test_what_a_client_has_sent_until_it_leaves_is_not_the_whole(path):
    ends = []

    async def inner(_scope, receive, _send):
        # As MLflow's adapter and others do.
        while (await receive()).get("more_body", False):
            pass
        ends.append("complete")

    with contextlib.suppress(Exception):
        through(lanes.Lanes(inner), scope(path, "PUT"), messages(b"a", ends_with="http.disconnect"))
    assert not ends


def test_without_a_login_no_body_is_read():
    sent = through(lanes.Lanes(None, lambda _scope: None), scope(headers=[(b"content-length", b"1")]), None)
    assert sent[0]["status"] == 413


# --- bounds ---


async def greedy(_scope, receive, send):
    """Read the whole body, as Starlette's applications do; answer its size."""
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message["body"])
        more = message["more_body"]
    await Response(str(size))({"type": "http", "method": "GET"}, receive, send)


@pytest.mark.parametrize(
    ("headers", "length"),
    [
        ([], 0),
        ([(b"content-length", b"0")], 0),
        ([(b"content-length", b"7")], 7),
        ([(b"content-length", b"7"), (b"transfer-encoding", b"chunked")], None),
    ],
)
def test_length_of_a_body(headers, length):
    assert bounds.length_of_body(headers) == length


def test_bounds_count_what_arrives(monkeypatch):
    monkeypatch.setenv("MLOPS_REQUEST_MAX_SIZE", "3")
    limited = bounds.Bounds(greedy, lambda _path: False)
    chunked = scope(headers=[(b"transfer-encoding", b"chunked")])
    assert through(limited, chunked, messages(b"ab", b"c"))[1]["body"] == b"3"
    sent = through(limited, chunked, messages(b"ab", b"cd", b"ef"))
    assert sent[0]["status"] == 413
    assert bounds.CLOSE not in sent[0]["headers"] or sent[-1] == {
        "type": "http.response.body",
        "body": b"",
        "more_body": False,
    }
    assert (limited.held, limited._running, dict(limited._of_address)) == (0, 0, {})


def test_search_has_a_smaller_body():
    limited = bounds.Bounds(greedy, lambda _path: False)
    chunked = [(b"transfer-encoding", b"chunked")]
    for path in ("/api/2.0/mlflow/runs/search", "/graphql", "/ajax-api/2.0/mlflow/experiments/search-datasets"):
        sent = through(limited, scope(path, headers=chunked), messages(b"a" * bounds.LARGEST_SEARCH, b"b"))
        assert sent[0]["status"] == 413
    sent = through(limited, scope(headers=chunked), messages(b"a" * bounds.LARGEST_SEARCH, b"b"))
    assert sent[0]["status"] == 200


async def hasty(_scope, _receive, send):
    """Answer without reading the body."""
    await answers.refuse(send, answers.Refusal(401, "UNAUTHENTICATED", "no", "of the test"))


@pytest.mark.parametrize(
    "headers",
    [[(b"content-length", str(answers.LINGER_BYTES + 1).encode())], [(b"transfer-encoding", b"chunked")]],
)
def test_answer_before_a_long_body_closes_the_connection(headers):
    limited = bounds.Bounds(hasty, lambda _path: False)
    sent = through(limited, scope(headers=headers), messages(b"a", b"b"))
    assert bounds.CLOSE in sent[0]["headers"]
    assert [message.get("more_body", False) for message in sent[1:]] == [True, False]
    # Without a body, the connection stays.
    assert bounds.CLOSE not in through(limited, scope(), messages(b""))[0]["headers"]


def test_short_body_is_read_before_the_answer():
    """A proxy that still sends would lose the answer with the connection."""
    read = []

    async def receive():
        read.append(len(read))
        return {"type": "http.request", "body": b"a", "more_body": len(read) < 2}

    limited = bounds.Bounds(hasty, lambda _path: False)
    sent = through(limited, scope(headers=[(b"content-length", b"2")]), receive)
    assert read == [0, 1]
    assert bounds.CLOSE not in sent[0]["headers"]
    assert [message.get("more_body", False) for message in sent[1:]] == [False]


def test_short_body_that_does_not_come_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(answers, "LINGER_SECONDS", 0.01)

    async def receive():
        await asyncio.sleep(60)

    limited = bounds.Bounds(hasty, lambda _path: False)
    sent = through(limited, scope(headers=[(b"content-length", b"2")]), receive)
    assert (sent[0]["status"], bounds.CLOSE in sent[0]["headers"]) == (401, True)


# --- compressed ---


@pytest.fixture
def largest(monkeypatch):
    """A limit of 1 MiB, with MLflow's own function set back at the end."""
    from mlflow.server import otel_api  # noqa: PLC0415  (imports MLflow's server)

    monkeypatch.setattr(otel_api, "decompress_otlp_body", otel_api.decompress_otlp_body)
    monkeypatch.setenv("MLOPS_REQUEST_MAX_SIZE", str(bounds.MIB))
    compressed._largest.cache_clear()
    assert compressed.install()
    yield otel_api.decompress_otlp_body
    compressed._largest.cache_clear()


ENCODED = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "raw": lambda content: (raw := zlib.compressobj(wbits=-zlib.MAX_WBITS)).compress(content) + raw.flush(),
}


@pytest.mark.parametrize("encoding", ENCODED)
def test_compressed_traces_expand_to_no_more_than_a_call_may_have(largest, encoding):
    encode, name = ENCODED[encoding], "deflate" if encoding == "raw" else encoding
    assert largest(encode(b"a" * bounds.MIB), name) == b"a" * bounds.MIB
    with pytest.raises(HTTPException) as error:
        largest(encode(b"\0" * 100 * bounds.MIB), name)
    assert error.value.status_code == 413
    with pytest.raises(HTTPException) as error:
        largest(encode(b"a" * 1000)[:-9], name)
    assert error.value.status_code == 400


def test_compressed_traces_in_several_members(largest):
    assert largest(gzip.compress(b"a") + gzip.compress(b"b"), "gzip") == b"ab"
    with pytest.raises(HTTPException) as error:
        largest(gzip.compress(b"\0" * bounds.MIB) * 2, "gzip")
    assert error.value.status_code == 413
    with pytest.raises(HTTPException) as error:
        largest(b"a", "br")
    assert error.value.status_code == 400


# --- assistant ---


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/ajax-api/3.0/mlflow/assistant", True),
        ("/ajax-api/3.0/mlflow/assistant/config", True),
        ("/mlflow/ajax-api/3.0/mlflow/assistant/config", True),
        ("/ajax-api//3.0/mlflow//assistant/", True),
        ("/ajax-api/3.0/mlflow/assistants", False),
        ("/api/2.0/mlflow-artifacts/artifacts/1/ajax-api/3.0/mlflow/assistant/x", False),
    ],
)
def test_paths_of_the_assistant(path, expected):
    assert assistant.is_path(path) is expected


def test_assistants_router_is_removed_once():
    from mlflow.server.assistant.api import assistant_router  # noqa: PLC0415  (imports MLflow's server)

    application = FastAPI()
    application.include_router(assistant_router)
    assert assistant.install(application) == 1
    assert not assistant.install(application)


# --- hosts ---


def headers_of(application, request) -> list[tuple[bytes, bytes]]:
    return through(application, request, messages(b""))[0]["headers"]


async def with_cookies(request, _receive, send):
    location = (b"location", b"http://internal:5000/a/?b=c")
    await send(
        {
            "type": "http.response.start",
            "status": 302 if request["path"] == "/away" else 200,
            "headers": [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2"), location],
        }
    )
    await send({"type": "http.response.body", "body": b""})


def test_headers_keep_all_cookies():
    found = headers_of(hosts.Headers(with_cookies), scope("/"))
    assert found.count((b"set-cookie", b"a=1")) == found.count((b"set-cookie", b"b=2")) == 1
    assert (b"x-frame-options", b"SAMEORIGIN") in found
    assert (b"x-content-type-options", b"nosniff") in found


@pytest.mark.parametrize(
    ("host", "location"),
    [(b"internal:5000", b"https://mlflow.example.com/a/?b=c"), (b"mlflow.example.com", b"http://internal:5000/a/?b=c")],
)
def test_redirect_to_the_own_host_names_the_public_one(host, location):
    found = headers_of(hosts.Headers(with_cookies), scope("/away", headers=[(b"host", host)]))
    assert (b"location", location) in found


class Proxy:
    """Stands where mlflow-oidc-auth reads what a proxy says."""


def test_checks_of_mlflow_come_first():
    application = FastAPI()
    application.user_middleware += [Middleware(Proxy)]
    assert hosts.install(application, Proxy)
    names = [each.cls.__name__ for each in application.user_middleware]
    assert names[:2] == ["Proxy", "Hosts"]
    assert {"CORSMiddleware", "CORSBlockingMiddleware"} < set(names)
    assert "SecurityHeadersMiddleware" not in names


def test_application_without_the_expected_middleware_is_noticed():
    assert not hosts.install(FastAPI(), Proxy)
