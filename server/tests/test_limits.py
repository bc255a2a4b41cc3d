"""What clients can cost a running server: with each login mode, with short deadlines and small limits."""

import contextlib
import re
import statistics
import time

import httpx
import pytest

import conftest
from lib import process, wire

MIB = 1024 * 1024
LIMITS = {
    "MLOPS_HEADER_TIMEOUT": "3",
    "MLOPS_BODY_TIMEOUT": "4",
    "MLOPS_WRITE_TIMEOUT": "2",
    "MLOPS_CONNECTIONS": "150",
    "MLOPS_CONNECTIONS_PER_ADDRESS": "100",
    "MLOPS_REQUESTS": "90",
    "MLOPS_REQUESTS_PER_ADDRESS": "80",
    "MLOPS_REQUESTS_PER_ACCOUNT": "60",
    "MLOPS_REQUEST_MAX_SIZE": str(MIB),
    "MLOPS_ARTIFACT_MAX_SIZE": str(32 * MIB),
    "MLOPS_BODY_MEMORY": str(3 * MIB),
    "MLOPS_LOGINS_PER_MINUTE": "5",
    "MLOPS_FAILURES_PER_MINUTE": "5",
    # So that 40 calls at once need one check of their credentials.
    "PERMISSION_CACHE_TTL_SECONDS": "60",
}
SEARCH = "/api/2.0/mlflow/experiments/search"
LOG = "/api/2.0/mlflow/runs/log-batch"
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
STATIC = "/static-files/x"
MODES = ("oidc", "basic", "none")
# Less than the deadlines above, and enough for a busy machine.
AT_ONCE = 2.5
JSON = "Content-Type: application/json\r\n"
CHUNKED = "Transfer-Encoding: chunked\r\n"
HUGE = f"Content-Length: {600 * MIB}\r\n"
# What sockets and the lingering close take.
LITTLE = 16 * MIB


@pytest.fixture(scope="module")
def limited(migrated, tmp_path_factory):
    """A function that returns a running server of a login mode with these limits; it has `header`, the credentials."""
    with contextlib.ExitStack() as stack:
        running = {}

        def server(way):
            if way not in running:
                databases = migrated("oidc" if way == "none" else way).copy()
                variables = conftest.oidc_variables("http://127.0.0.1:9") if way == "oidc" else {}
                variables |= {**databases.variables, **LIMITS, "MLOPS_AUTH": way}
                variables["MLFLOW_FLASK_SERVER_SECRET_KEY"] = "a key of the tests"
                found = process.Server(tmp_path_factory.mktemp(way), variables)
                stack.callback(found.stop)
                found.header = "" if way == "none" else wire.basic(conftest.ADMIN, conftest.ADMIN_PASSWORD)
                running[way] = found.wait()
            return running[way]

        yield server


@pytest.fixture(params=MODES)
def server(request, limited):
    return limited(request.param)


def search(server) -> None:
    """Call the API with the playbooks' account."""
    status, text = wire.ask(server.port, "GET", f"{SEARCH}?max_results=1", server.header)
    assert status == 200, text


def settle(server) -> None:
    """Wait until the server has noticed that the clients of a former test have left."""
    end = time.monotonic() + 10
    while wire.ask(server.port, "GET", f"{SEARCH}?max_results=1", server.header)[0] == 429:
        assert time.monotonic() < end, "requests of clients that left still count"
        time.sleep(0.1)


@pytest.mark.parametrize("path", [STATIC, SEARCH, f"{ARTIFACTS}/1/x", "/nothing"])
@pytest.mark.parametrize("has_login", [False, True])
def test_started_bodies_delay_no_call(server, path, has_login):
    headers = f"Content-Length: 9999\r\n{server.header if has_login else ''}"
    search(server)
    with contextlib.ExitStack() as stack:
        for _unused in range(40):
            connection = stack.enter_context(wire.connect(server.port))
            connection.sendall(wire.head("PUT" if path.startswith(ARTIFACTS) else "POST", path, headers) + b"a")
        time.sleep(0.3)
        assert wire.duration(search, server) < AT_ONCE


@pytest.mark.parametrize("way", ["oidc", "basic"])
@pytest.mark.parametrize("headers", [HUGE, CHUNKED])
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", STATIC), ("POST", SEARCH), ("PUT", f"{ARTIFACTS}/1/x"), ("POST", "/v1/traces"), ("POST", "/health")],
)
def test_anonymous_body_is_not_read(limited, way, method, path, headers):
    status, sent = wire.pour(limited(way).port, path, headers, 600 * MIB, method)
    assert status in {401, 413}
    assert sent < LITTLE


def test_login_page_takes_no_body(limited):
    for path in ("/login", "/callback", "/logout", "/oidc/ui/", "/docs", "/metrics"):
        status, sent = wire.pour(limited("oidc").port, path, CHUNKED, 600 * MIB)
        assert status in {401, 413, 429}, path
        assert sent < LITTLE


@pytest.mark.parametrize("headers", [HUGE, CHUNKED])
def test_body_of_a_call_has_a_largest_size(server, headers):
    status, sent = wire.pour(server.port, LOG, headers + server.header, 600 * MIB)
    assert status == 413
    assert sent < LITTLE


def test_refusal_has_the_form_of_mlflows_errors(server):
    with server.client(headers=dict([server.header.strip().split(": ")] if server.header else [])) as client:
        answer = client.post(LOG, content=b"0" * (MIB + 1))
    assert answer.status_code == 413
    assert answer.json() == {
        "error_code": "INVALID_PARAMETER_VALUE",
        "message": "The request is larger than 1 MiB.",
    }


@pytest.mark.parametrize("path", [SEARCH, "/graphql", "/ajax-api/2.0/mlflow/experiments/search-datasets"])
def test_search_has_a_smaller_one(server, path):
    status, _text = wire.pour(server.port, path, f"Content-Length: {300 * 1024}\r\n{server.header}", MIB)
    assert status == 413


def test_body_that_stops_or_drips_is_dropped(server):
    headers = f"Content-Length: 99999\r\n{server.header}"
    with wire.connect(server.port) as stopped, wire.connect(server.port) as dripping:
        for connection in (stopped, dripping):
            connection.sendall(wire.head("POST", SEARCH, headers))
        began = time.monotonic()
        with contextlib.suppress(OSError):
            while time.monotonic() < began + 6:
                dripping.sendall(b"a")
                time.sleep(0.2)
        assert wire.answer(stopped)[0] == 408
        assert wire.answer(dripping)[0] == 408


def put(server, path: str, chunks, pause: float) -> int:
    """Upload an artifact of unknown length; return the status."""
    with wire.connect(server.port) as connection:
        connection.sendall(wire.head("PUT", f"{ARTIFACTS}/{path}", f"Connection: close\r\n{CHUNKED}{server.header}"))
        with contextlib.suppress(OSError):
            for chunk in chunks:
                connection.sendall(b"%x\r\n%s\r\n" % (len(chunk), chunk))
                time.sleep(pause)
            connection.sendall(b"0\r\n\r\n")
        return wire.answer(connection)[0]


def stored(server, path: str) -> bytes | None:
    status, text = wire.ask(server.port, "GET", f"{ARTIFACTS}/{path}", server.header)
    return text.partition("\r\n\r\n")[2] if status == 200 else None


def test_slow_but_steady_upload_survives(server):
    # Longer than the deadline of a body, and slower than a call's may be.
    assert put(server, "1/steady", [b"a" * 2048] * 10, 0.6) == 200
    assert stored(server, "1/steady") == "a" * 2048 * 10


def test_upload_that_stops_is_dropped_and_not_stored(server):
    assert put(server, "1/stopped", [b"a" * 2048], 5) == 408
    assert stored(server, "1/stopped") is None


def test_artifact_has_a_largest_size(server):
    for headers in (f"Content-Length: {33 * MIB}\r\n", CHUNKED):
        status, sent = wire.pour(server.port, f"{ARTIFACTS}/1/large", headers + server.header, 600 * MIB, "PUT")
        assert status == 413
        assert sent < 32 * MIB + LITTLE
    assert stored(server, "1/large") is None


def test_all_bodies_together_are_bounded(server):
    headers = f"Content-Length: {MIB - 1}\r\n{server.header}"
    search(server)
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(wire.connect(server.port)) for _unused in range(6)]
        for connection in connections:
            connection.sendall(wire.head("POST", LOG, headers) + b"a" * (MIB - 2))
        statuses = {wire.answer(connection)[0] for connection in connections}
    assert statuses == {408, 429}
    # All is given back.
    with wire.connect(server.port) as connection:
        connection.sendall(wire.head("POST", LOG, f"Connection: close\r\n{JSON}{headers}"))
        connection.sendall(b"{}".ljust(MIB - 1))
        # There is no such run.
        assert wire.answer(connection)[0] in {400, 403}


def test_unfinished_headers_are_dropped(server):
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(wire.connect(server.port)) for _unused in range(60)]
        for number, connection in enumerate(connections):
            connection.sendall(f"GET /{number} HTTP/1.1\r\nHost: lo".encode() if number % 2 else b"")
        time.sleep(1.5)
        for connection in connections:
            # Another byte buys no time. It is one that may begin a request, since another is refused with an answer.
            with contextlib.suppress(OSError):
                connection.sendall(b"G")
        time.sleep(2.5)
        assert all(wire.is_closed(connection, 0.1) for connection in connections)


@pytest.mark.parametrize("sources", [["127.0.0.1"], ["127.0.0.2", "127.0.0.3"]])
def test_idle_connections_make_room(limited, sources):
    server = limited("none")
    with contextlib.ExitStack() as stack:
        for number in range(180):
            stack.enter_context(wire.connect(server.port, sources[number % len(sources)]))
        assert wire.duration(search, server) < AT_ONCE


def test_probes_answer_beside_too_many_requests(limited):
    server = limited("none")
    with contextlib.ExitStack() as stack:
        for number in range(110):
            source = f"127.0.0.{2 + number % 2}"
            connection = stack.enter_context(wire.connect(server.port, source))
            connection.sendall(wire.head("POST", SEARCH, "Content-Length: 9\r\n"))
        time.sleep(0.3)
        status, text = wire.ask(server.port, "GET", f"{SEARCH}?max_results=1")
        assert status == 429
        assert "retry-after: 1" in text
        assert all(wire.ask(server.port, "GET", f"/health{kind}")[0] == 200 for kind in ("", "/live", "/ready"))


def test_answer_that_is_not_read_frees_its_thread(limited):
    server = limited("none")
    settle(server)
    assert put(server, "1/long", [b"a" * MIB] * 24, 0) == 200
    with contextlib.ExitStack() as stack:
        for number in range(24):
            connection = stack.enter_context(wire.connect(server.port, f"127.0.0.{2 + number % 3}"))
            connection.sendall(wire.head("GET", f"{ARTIFACTS}/1/long"))
        time.sleep(0.3)
        assert wire.duration(search, server) < AT_ONCE
        # All threads of artifacts are taken, until the deadline of those that do not read.
        assert wire.duration(lambda: stored(server, "1/steady")) < 20


@pytest.mark.parametrize(
    "path",
    [
        "/ajax-api/3.0/mlflow/assistant/config",
        "/ajax-api/3.0/mlflow/assistant",
        "//ajax-api//3.0/mlflow/assistant/config",
        "/ajax%2Dapi/3.0/mlflow/assistant/sessions/1/message",
        "/prefix/ajax-api/3.0/mlflow/assistant/config",
    ],
)
@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "OPTIONS"])
def test_assistant_is_off_for_loopback_too(server, path, method):
    for headers in ("", server.header):
        assert wire.ask(server.port, method, path, headers)[0] == 404


PAGES = {
    "oidc": (
        "/",
        "/oidc/ui/",
        "/login",
        "/callback",
        "/providers",
        STATIC,
        SEARCH,
        "/v1/traces",
        "/gateway/x",
        "/graphql",
    ),
    "basic": ("/", STATIC, SEARCH, "/v1/traces", "/gateway/x", "/api/3.0/mlflow/mcp-servers", "/signup"),
    "none": ("/", STATIC, SEARCH, "/v1/traces", "/gateway/x", "/api/3.0/mlflow/mcp-servers", "/version/x"),
}


@pytest.mark.parametrize("way", MODES)
def test_host_and_frames_are_checked_on_every_route(limited, way):
    server = limited(way)
    for path in PAGES[way]:
        for headers in ("", server.header):
            status, text = wire.ask(server.port, "GET", path, headers, host="evil.example")
            assert status in {403, 429}, path
            assert "evil.example" not in text
            status, text = wire.ask(server.port, "GET", path, headers)
            assert status != 403
            assert "x-frame-options: SAMEORIGIN" in text, path
            assert "x-content-type-options: nosniff" in text, path


@pytest.mark.parametrize("way", MODES)
def test_other_origins_may_not_write(limited, way):
    server = limited(way)
    for path in (SEARCH, "/ajax-api/3.0/jobs/search", "/api/3.0/mlflow/mcp-servers"):
        headers = f"Origin: https://evil.example\r\n{server.header}"
        assert wire.ask(server.port, "POST", path, headers)[0] == 403
        headers += "Access-Control-Request-Method: POST\r\n"
        assert "allow-origin: https://evil" not in wire.ask(server.port, "OPTIONS", path, headers)[1]


def test_redirects_name_the_public_url(limited):
    server = limited("oidc")
    status, text = wire.ask(
        server.port, "GET", "/callback?error=x", host=f"localhost:{server.port}", source="127.0.0.9"
    )
    assert status == 302
    assert "location: https://mlflow.example.com/oidc/ui/auth" in text


def test_logins_are_limited_by_address(limited):
    server = limited("oidc")
    statuses = [wire.ask(server.port, "GET", "/callback?error=x", source="127.0.0.7")[0] for _unused in range(7)]
    assert statuses == [302] * 5 + [429] * 2
    assert re.search("retry-after: (60|[1-5][0-9])\r", wire.ask(server.port, "GET", "/login", source="127.0.0.7")[1])
    assert wire.ask(server.port, "GET", "/callback?error=x", source="127.0.0.8")[0] == 302


@pytest.mark.parametrize("way", ["oidc", "basic"])
def test_wrong_passwords_are_limited_and_lock_nobody_out(limited, way):
    server = limited(way)

    def ask(password, source):
        return wire.ask(
            server.port, "GET", f"{SEARCH}?max_results=1", wire.basic(conftest.ADMIN, password), source=source
        )

    assert ask(conftest.ADMIN_PASSWORD, "127.0.0.1")[0] == 200
    assert [ask(f"wrong {number}", "127.0.0.5")[0] for number in range(7)] == [401] * 5 + [429] * 2
    assert re.search("retry-after: (60|[1-5][0-9])\r", ask("wrong", "127.0.0.5")[1])
    # Known, or from elsewhere.
    assert ask(conftest.ADMIN_PASSWORD, "127.0.0.5")[0] == 200
    assert ask("wrong", "127.0.0.6")[0] == 401
    # Another name.
    assert wire.ask(server.port, "GET", SEARCH, wire.basic("other", "wrong"), source="127.0.0.5")[0] == 401
    # A page that needs no login tells nothing about credentials.
    for number in range(3):
        header = wire.basic(conftest.ADMIN, f"guess {number}")
        wire.ask(server.port, "GET", STATIC, header, source="127.0.0.5")
        assert wire.ask(server.port, "GET", SEARCH, header, source="127.0.0.5")[0] == 429


def test_time_of_a_refusal_does_not_tell_names(limited):
    server = limited("basic")

    def taken(name, number):
        header = wire.basic(name, f"wrong {name} {number}")
        return wire.duration(wire.ask, server.port, "GET", SEARCH, header)

    times = {
        name: statistics.median(taken(name, number) for number in range(3)) for name in (conftest.ADMIN, "unknown")
    }
    assert times["unknown"] > times[conftest.ADMIN] / 2


def test_wrong_passwords_do_not_stop_others(limited):
    server = limited("basic")
    search(server)
    with contextlib.ExitStack() as stack:
        for number in range(50):
            connection = stack.enter_context(wire.connect(server.port, f"127.0.0.{10 + number}"))
            connection.sendall(wire.head("GET", SEARCH, wire.basic(f"name {number}", "wrong")))
        assert wire.duration(search, server) < AT_ONCE


def test_client_of_mlflow_tries_again(limited):
    """What MLflow's client does with a 429 of this server, which it gets while others have all requests."""
    server = limited("none")
    with contextlib.ExitStack() as stack:
        for _unused in range(85):
            connection = stack.enter_context(wire.connect(server.port))
            connection.sendall(wire.head("POST", SEARCH, "Content-Length: 9\r\n"))
        time.sleep(0.2)
        assert httpx.get(f"{server.url}{SEARCH}").status_code == 429
        code = "import mlflow; print(len(mlflow.search_experiments()))"
        done = process.run(code, MLFLOW_TRACKING_URI=server.url, MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR="1")
    assert done.stdout.strip() == "1", done.stderr[-2000:]
