"""Spans of the server's own calls, which a collector gets by the real protocol."""

import asyncio
import contextlib
import os
import secrets
import signal
import ssl
import subprocess
import time

import httpx
import pytest
from opentelemetry import trace

import conftest
from lib import minio as store
from lib.collector import Collector
from lib.postgres import free_port
from mlops_mlflow_server import calls, metrics, spans
from test_metrics import scraped, value

API = "/api/2.0/mlflow"
SERVER, CLIENT = 2, 3  # kinds of spans, as OTLP numbers them
EDGE = "127.0.0.2"
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TOKEN = "the token of the collector"


@pytest.fixture
def collector():
    """A collector of this test alone."""
    running = Collector()
    yield running
    running.close()


@pytest.fixture(scope="module")
def shared():
    """The collector of `server`."""
    running = Collector()
    yield running
    running.close()


@pytest.fixture(scope="module")
def server(shared, migrated, minio, tmp_path_factory):
    """A server that sends all spans."""
    running = conftest._serving(
        "basic",
        migrated,
        tmp_path_factory,
        f"--artifacts-destination=s3://{store.BUCKET}",
        **minio.variables,
        **conftest.BASIC,
        MLOPS_OTLP_ENDPOINT=f"{shared.url}/",
        MLOPS_OTLP_HEADERS=f"X-Team=platform, Authorization=Bearer {TOKEN.replace(' ', '%20')}",
        MLOPS_OTLP_NAMESPACE="mlflow-of-the-test",
        TRUSTED_PROXIES=EDGE,
    )
    try:
        yield running.wait()
    finally:
        running.stop()


def of(answer, collector):
    """Return the span of this answer, and those below it."""
    (span,) = collector.wait(1, request_id=answer.headers["x-request-id"])
    return span, [each for each in collector.spans() if each.parent == span.id]


def test_a_call_with_what_is_below_it(server, shared):
    with server.client(auth=server.admin) as client:
        answer = client.post(f"{API}/experiments/create", json={"name": f"of-{secrets.token_hex(4)}"})
        wrong = client.post(f"{API}/runs/create", json={"experiment_id": "987654"})
    assert (answer.status_code, wrong.status_code) == (200, 404)
    span, below = of(answer, shared)
    route = f"{API}/experiments/create"
    assert (span.name, span.kind, span.parent, span.is_error) == (f"POST {route}", SERVER, "", False)
    assert span.attributes == {
        "http.request.method": "POST",
        "http.route": route,
        "http.response.status_code": 200,
        "request.id": answer.headers["x-request-id"],
    }
    assert span.resource["service.name"] == "mlflow"
    assert span.resource["k8s.namespace.name"] == "mlflow-of-the-test"
    assert {each.trace for each in below} == {span.trace}
    assert {each.kind for each in below} == {CLIENT}
    inserts = [each for each in below if each.attributes["db.operation.name"] == "INSERT"]
    assert inserts
    assert inserts[0].attributes["db.namespace"] == server.databases.tracking
    assert inserts[0].attributes["db.system.name"] == "postgresql"
    assert max(each.seconds for each in below) <= span.seconds
    assert of(wrong, shared)[0].attributes["http.response.status_code"] == 404


def test_requests_to_the_object_store(server, shared):
    with server.client(auth=server.admin) as client:
        made = client.post(f"{API}/experiments/create", json={"name": f"of-{secrets.token_hex(4)}"}).json()
        path = f"/api/2.0/mlflow-artifacts/artifacts/{made['experiment_id']}/of-the-test.bin"
        answer = client.put(path, content=b"x" * 1024)
        assert answer.status_code == 200, answer.text
    span, below = of(answer, shared)
    assert span.name == "PUT /api/2.0/mlflow-artifacts/artifacts/<path:artifact_path>"
    assert "S3/PutObject" in [each.attributes.get("rpc.method") for each in below]


def test_calls_that_are_refused_and_probes(server, shared):
    with server.client() as client:
        refused = client.request("PROPFIND", f"{API}/experiments/get")
        assert client.get("/health/live").status_code == 200
        lost = client.post("/health", content=b"body")
    span, _below = of(refused, shared)
    assert (span.name, span.attributes["http.request.method"]) == ("_OTHER", "_OTHER")
    assert span.attributes["http.response.status_code"] == refused.status_code
    of(lost, shared)
    probes = [each for each in shared.spans() if "/health/live" in str(each.attributes) or each.name == "GET"]
    assert not probes


def test_a_trusted_proxy_tells_the_trace_and_others_do_not(server, shared):
    def ask(address, flags):
        headers = {"traceparent": f"00-{TRACE}-{PARENT}-{flags}", "x-request-id": f"of-{secrets.token_hex(8)}"}
        with httpx.Client(transport=httpx.HTTPTransport(local_address=address), auth=server.admin) as client:
            answer = client.get(f"{server.url}{API}/experiments/get", params={"experiment_id": "0"}, headers=headers)
        assert answer.status_code == 200, answer.text
        return answer

    trusted, other, unsampled = ask(EDGE, "01"), ask("127.0.0.1", "01"), ask(EDGE, "00")
    span, below = of(trusted, shared)
    assert (span.trace, span.parent) == (TRACE, PARENT)
    assert {each.trace for each in below} == {TRACE}
    span, _below = of(other, shared)
    assert span.trace != TRACE
    assert span.parent == ""
    # The edge has decided against this one, although all others are sent.
    of(ask("127.0.0.1", "00"), shared)
    assert not shared.spans(request_id=unsampled.headers["x-request-id"])


def test_nothing_secret_is_in_spans(server, shared):
    words = {name: f"{name}-{secrets.token_hex(8)}" for name in ("experiment", "value", "query", "password", "cookie")}
    with server.client(auth=server.admin, cookies={"session": words["cookie"]}) as client:
        made = client.post(f"{API}/experiments/create", json={"name": words["experiment"]}).json()
        run = client.post(f"{API}/runs/create", json=made).json()["run"]["info"]["run_id"]
        batch = {"run_id": run, "params": [{"key": "a", "value": words["value"]}]}
        assert client.post(f"{API}/runs/log-batch", json=batch).status_code == 200
        search = {"experiment_ids": [made["experiment_id"]], "filter": f"params.a = '{words['value']}'"}
        assert client.post(f"{API}/runs/search", json=search).status_code == 200
        client.get(f"{API}/experiments/get-by-name", params={"experiment_name": words["query"]})
        client.get(f"/nothing/{words['query']}")
    wrong = httpx.get(f"{server.url}{API}/experiments/get", auth=("eve", words["password"]))
    of(wrong, shared)
    for word in (*words.values(), *server.admin, "eve", "127.0.0.1", TOKEN, store.PASSWORD):
        assert word.encode() not in shared.content, word
    sent = [headers for _path, headers in shared.headers]
    assert {path for path, _headers in shared.headers} == {"/v1/traces"}
    assert {(each["x-team"], each["authorization"]) for each in sent} == {("platform", f"Bearer {TOKEN}")}
    assert TOKEN not in server.log()


def test_traces_that_mlflow_receives_are_mlflows_alone(server, shared):
    span = {"traceId": secrets.token_hex(16), "spanId": "1" * 16, "name": "of a client"}
    span |= {"startTimeUnixNano": "1", "endTimeUnixNano": "2"}
    with server.client(auth=server.admin) as client:
        made = client.post(f"{API}/experiments/create", json={"name": f"of-{secrets.token_hex(4)}"}).json()
        sent = client.post(
            "/v1/traces",
            json={"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]},
            headers={"X-Mlflow-Experiment-Id": made["experiment_id"]},
        )
        assert sent.status_code == 200, sent.text
        of(sent, shared)
        found = []
        for experiment in ("0", made["experiment_id"]):
            place = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": experiment}}
            answer = client.post("/api/3.0/mlflow/traces/search", json={"locations": [place]})
            assert answer.status_code == 200, answer.text
            found += [each["trace_id"] for each in answer.json().get("traces", [])]
    assert found == [f"tr-{span['traceId']}"]
    assert b"of a client" not in shared.content


def test_calls_do_not_wait_for_a_collector_that_hangs(server, shared):
    before = scraped(server)
    shared.go_on.clear()
    try:
        with server.client(auth=server.admin) as client:
            # One request to the collector hangs during all of them.
            for _unused in range(40):
                began = time.monotonic()
                assert client.get(f"{API}/experiments/get", params={"experiment_id": "0"}).status_code == 200
                assert time.monotonic() - began < spans.TIMEOUT / 2
    finally:
        shared.go_on.set()
    with server.client(auth=server.admin) as client:
        answer = client.get(f"{API}/experiments/get", params={"experiment_id": "0"})
    of(answer, shared)
    assert value(scraped(server), "mlflow_server_spans_total", result="sent") > value(
        before, "mlflow_server_spans_total", result="sent"
    )


@pytest.mark.parametrize("workers", [1, 2])
def test_an_orderly_end_sends_what_is_left(workers, collector, migrated, tmp_path_factory):
    running = conftest._serving(
        *("none", migrated, tmp_path_factory, f"--workers={workers}"), MLOPS_OTLP_ENDPOINT=collector.url
    )
    try:
        running.wait()
        with running.client() as client:
            answer = client.get(f"{API}/experiments/get", params={"experiment_id": "0"})
        os.kill(running.process.pid, signal.SIGTERM)
        running.process.wait(60)
        assert collector.spans(request_id=answer.headers["x-request-id"])
    finally:
        running.stop()


def test_a_wrong_setting_ends_the_start(migrated, tmp_path_factory):
    running = conftest._serving("none", migrated, tmp_path_factory, MLOPS_OTLP_ENDPOINT="collector:4318")
    try:
        assert running.process.wait(120) == 1
        assert running.log().splitlines()[-1].startswith("Spans cannot be sent: MLOPS_OTLP_ENDPOINT must be http")
    finally:
        running.stop()


# --- within this process ---


@contextlib.contextmanager
def sending(url, ratio=1.0, **options):
    """An application that answers 204, with spans; yields what calls it."""
    seen = []
    sent = spans.Spans(spans.Sender(endpoint=f"{url}/v1/traces", timeout=spans.TIMEOUT, **options), ratio, "")

    async def application(scope, _receive, send):
        seen.append(trace.get_current_span())
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    observed = calls.Observed(application, lambda _scope: None, spans=sent)

    async def ignore(_message):
        pass

    async def answered(number, headers):
        scope = {"type": "http", "method": "GET", "path": "/", "headers": headers, "client": ("127.0.0.1", 1)}
        for _unused in range(number):
            await observed(scope, None, ignore)

    def call(number=1, headers=()):
        asyncio.run(answered(number, list(headers)))

    try:
        yield call
    finally:
        asyncio.run(sent.close())
    assert set(seen) <= {trace.INVALID_SPAN}, "MLflow would take it for the parent of its own"
    assert trace._TRACER_PROVIDER is None, "MLflow would send its traces there"


def count(result):
    return metrics.SERVER_SPANS.labels(result)._value.get()


def until(is_so):
    end = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.parametrize(("ratio", "least", "most"), [(0, 0, 0), (0.1, 60, 140), (1, 1000, 1000)])
def test_a_part_of_calls_has_spans(collector, ratio, least, most):
    with sending(collector.url, ratio) as call:
        call(1000)
    assert least <= len(collector.spans()) <= most


def test_a_collector_that_is_away(caplog):
    port, (sent, dropped) = free_port(), (count("sent"), count("dropped"))
    number = spans.MOST + 1000
    with sending(f"http://127.0.0.1:{port}") as call:
        began = time.monotonic()
        call(number)
        assert time.monotonic() - began < spans.TIMEOUT / 2
        assert count("dropped") - dropped >= 1000, "no more than MOST wait"
        until(lambda: count("dropped") - dropped == number)
        assert count("sent") == sent
        said = [record.message for record in caplog.records]
        assert said.count("Spans are dropped: the collector is away") == 1
        assert len(said) < 30, said
        back = Collector(port)
        try:
            call(10)
            back.wait(10)
        finally:
            back.close()
    assert count("sent") - sent == 10
    assert "Spans are sent again" in [record.message for record in caplog.records]


@pytest.mark.parametrize("status", [302, 401, 400])
def test_spans_that_a_collector_refuses_are_counted(collector, status):
    sent, dropped = count("sent"), count("dropped")
    collector.status = status
    with sending(collector.url) as call:
        call(3)
    assert (count("sent") - sent, count("dropped") - dropped) == (0, 3)


def test_an_end_does_not_wait_for_a_collector_that_is_away(collector):
    collector.go_on.clear()
    with sending(collector.url) as call:
        call(3)
        began = time.monotonic()
    assert time.monotonic() - began < spans.LAST_SECONDS + 2


def test_the_number_of_spans_below_a_call_is_bounded(collector):
    with sending(collector.url) as call:
        call()
        observed = spans.Spans(spans.Sender(endpoint=f"{collector.url}/v1/traces"), 1, "")
        one = calls.Call({"type": "http", "method": "GET", "path": "/", "headers": []})
        one.span = observed.begin(one.scope)
        calls._current.set(one)
        try:
            made = [observed.below("S3/PutObject", {}) for _unused in range(spans.MOST_BELOW + 5)]
        finally:
            calls._current.set(None)
        assert [each is None for each in made] == [False] * spans.MOST_BELOW + [True] * 5
        asyncio.run(observed.close())


def test_certificates(tmp_path, monkeypatch):
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"]
    names = ["-subj", "/CN=collector", "-addext", "subjectAltName=IP:127.0.0.1"]
    for name in ("one", "other"):
        files = ["-keyout", tmp_path / f"{name}.key", "-out", tmp_path / f"{name}.crt"]
        subprocess.run(["openssl", "req", *kind, *names, *files], check=True, capture_output=True)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "other.crt"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "one.crt", tmp_path / "one.key")
    running, dropped = Collector(context=context), count("dropped")
    try:
        for file, arrives in (("one.crt", 1), ("other.crt", 1), (None, 1)):
            with sending(running.url, certificate_file=file and str(tmp_path / file)) as call:
                call()
            assert len(running.spans()) == arrives
    finally:
        running.close()
    until(lambda: count("dropped") - dropped == 2)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("MLOPS_OTLP_ENDPOINT", "collector:4318"),
        ("MLOPS_OTLP_ENDPOINT", "grpc://collector:4317"),
        ("MLOPS_OTLP_ENDPOINT", "http://user:secret-word@collector:4318"),
        ("MLOPS_OTLP_SAMPLE_RATIO", "1.5"),
        ("MLOPS_OTLP_SAMPLE_RATIO", "half"),
        ("MLOPS_OTLP_HEADERS", "secret-word"),
        ("MLOPS_OTLP_HEADERS", "a=1,a b=secret-word"),
        ("MLOPS_OTLP_HEADERS", "a=secret-word%0d%0ab: 1"),
        ("MLOPS_OTLP_CA_FILE", "/nowhere/ca.crt"),
    ],
)
def test_wrong_settings(monkeypatch, name, text):
    monkeypatch.setenv("MLOPS_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    monkeypatch.setenv(name, text)
    with pytest.raises((ValueError, OSError), match=name if name != "MLOPS_OTLP_CA_FILE" else text) as refused:
        spans.start()
    assert "secret-word" not in str(refused.value)


def test_off_by_default(monkeypatch):
    monkeypatch.delenv("MLOPS_OTLP_ENDPOINT", raising=False)
    assert spans.start() is None
