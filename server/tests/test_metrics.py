"""Metrics: what the server counts, and how it is served beside the public port."""

import os
import pathlib
import re
import secrets

import flask
import pytest
from prometheus_client.parser import text_string_to_metric_families

from mlops_mlflow_server import metrics, serve

DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs" / "monitoring.md"


def scraped(server):
    """Return all samples of a server, as {(name, labels without le): value}."""
    answer = server.metrics()
    assert answer.status_code == 200, answer.text
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def value(samples, name, **labels):
    """Return the sum of the samples of this name that have these labels."""
    return sum(found for key, found in samples.items() if key[0] == name and labels.items() <= dict(key[1:]).items())


def test_calls_by_route(none):
    client = none.client()
    before = scraped(none)
    made = client.post("/api/2.0/mlflow/experiments/create", json={"name": "counted"})
    assert made.status_code == 200, made.text
    client.get("/api/2.0/mlflow/experiments/get", params={"experiment_id": "none"})
    client.get("/nothing/here")
    client.request("PROPFIND", "/nothing/here")
    client.get("/health/live")
    after = scraped(none)

    def more(name, **labels):
        return value(after, name, **labels) - value(before, name, **labels)

    count = "mlflow_http_request_duration_seconds_count"
    assert more(count, route="/api/2.0/mlflow/experiments/create", method="POST", status="2xx") == 1
    assert more(count, route="/api/2.0/mlflow/experiments/get", method="GET", status="4xx") == 1
    assert more(count, route="none", method="GET", status="4xx") == 1
    assert more(count, method="other") == 1
    assert more(count) == 4, "a probe that succeeds is not counted"
    assert more("mlflow_database_query_duration_seconds_count", database="tracking") > 0
    assert value(after, "mlflow_call_threads", lane="others") == 8
    assert value(after, "mlflow_workers") == 1
    assert value(after, "mlflow_http_requests_in_flight") == 0
    assert value(after, "mlflow_server_info", login="none") == 1


def test_refusals_logins_and_spans(basic):
    before = scraped(basic)
    path = "/api/2.0/mlflow/experiments/get"
    with basic.client(auth=basic.admin) as client:
        made = client.post("/api/2.0/mlflow/experiments/create", json={"name": f"of-{secrets.token_hex(4)}"}).json()
        client.get(path, params=made)
        span = {"traceId": "1" * 32, "spanId": "1" * 16, "name": "x", "startTimeUnixNano": "1", "endTimeUnixNano": "2"}
        spans = [span | {"traceId": secrets.token_hex(16)} for _unused in range(3)]
        sent = client.post(
            "/v1/traces",
            json={"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]},
            headers={"X-Mlflow-Experiment-Id": made["experiment_id"]},
        )
        assert sent.status_code == 200, sent.text
    with basic.client() as client:
        assert client.get(path).status_code == 401
        assert client.post("/health", content=b"body").status_code == 413
    after = scraped(basic)

    def more(name, **labels):
        return value(after, name, **labels) - value(before, name, **labels)

    assert more("mlflow_refused_total", reason="not authenticated") == 1
    assert more("mlflow_refused_total", reason="body") == 1
    assert more("mlflow_login_checks_total", kind="password", cache="hit") >= 1
    assert more("mlflow_spans_received_total") == 3
    assert more("mlflow_audit_lines_total", result="written") >= 2
    assert more("mlflow_database_query_duration_seconds_count", database="users") > 0


def test_each_metric_is_documented():
    text = DOCS.read_text()
    table = dict(re.findall(r"^\| `(mlflow_[a-z0-9_]+)` \| ([^|]*) \|", text, re.M))
    suffix = {"counter": "_total"}
    known = {
        family.name + suffix.get(family.type, ""): set(collector._labelnames)
        for collector in metrics.REGISTRY._collector_to_names
        for family in collector.describe()
    }
    assert {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in table.items()} == known


def test_mlflows_own_exporter_stays_off(monkeypatch):
    variable = serve.names().PROMETHEUS_EXPORTER_ENV_VAR
    monkeypatch.setenv(variable, "/tmp/metrics")
    serve.environment(serve.options(["--artifacts-destination=/nowhere"]))
    assert variable not in os.environ


@pytest.mark.parametrize(
    ("paths", "closed"),
    [
        (["/", "/api/3.0/mlflow/traces/metrics", "/api/2.0/mlflow/metrics/get-history"], True),
        (["/health", "/metrics"], False),
        (["/health", "/metrics/"], False),
    ],
)
def test_which_paths_are_metrics(paths, closed):
    application = flask.Flask("test", static_folder=None)
    for number, path in enumerate(paths):
        application.add_url_rule(path, str(number), lambda: "")
    assert metrics.is_closed(application) is closed
