"""Traces stay in their experiment, and only the server sets their location tags: with the real servers."""

import json
import secrets

import pytest

TRACES = "/api/3.0/mlflow/traces"
LOCATION = "mlflow.artifactLocation"
ELSEWHERE = "mlflow-artifacts:/1/traces/tr-other/artifacts"
RESERVED = [LOCATION, "mlflow.trace.archiveLocation", "mlflow.trace.spansLocation", "mlflow.trace.archivalFailure"]


@pytest.fixture(params=["oidc_server", "basic_server"])
def server(request):
    """A server with the users ann and bob, in both login modes that have users."""
    return request.getfixturevalue(request.param)


def export(server, user, experiment_id, trace, *, name="span", headers=(), **attributes):
    """Send one root span by OTLP."""
    span = {
        "traceId": trace,
        "spanId": secrets.token_hex(8),
        "name": name,
        "startTimeUnixNano": "1000000000",
        "endTimeUnixNano": "2000000000",
        "attributes": [{"key": key, "value": {"stringValue": value}} for key, value in attributes.items()],
    }
    return server.call(
        user,
        "POST",
        "/v1/traces",
        {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]},
        headers={"X-Mlflow-Experiment-Id": experiment_id, **dict(headers)},
    )


def info(experiment_id, trace, **fields):
    """Return the body of StartTraceV3."""
    location = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": experiment_id}}
    given = {"trace_id": f"tr-{trace}", "trace_location": location, "request_time": "2026-01-01T00:00:00Z"}
    return {"trace": {"trace_info": {**given, "state": "OK", **fields}}}


def found(server, user, trace):
    """Return a trace as this user sees it: experiment, tags and names of spans."""
    answer = server.call(user, "GET", f"{TRACES}/get?trace_id=tr-{trace}")
    assert answer.ok, answer.text
    whole = answer.json()["trace"]
    return (
        whole["trace_info"]["trace_location"]["mlflow_experiment"]["experiment_id"],
        whole["trace_info"].get("tags", {}),
        sorted(span["name"] for span in whole.get("spans", [])),
    )


@pytest.fixture
def mine(server):
    """An experiment of bob."""
    return server.experiment("bob", secrets.token_hex(4))


@pytest.fixture
def theirs(server):
    """An experiment of ann, which bob may not even read."""
    return server.experiment("ann", secrets.token_hex(4))


@pytest.fixture
def trace(server, theirs):
    """A trace of ann."""
    trace = secrets.token_hex(16)
    assert export(server, "ann", theirs, trace, name="first").ok
    return trace


def test_foreign_trace_is_not_changed_by_otlp(server, mine, theirs, trace):
    before = found(server, "ann", trace)
    answer = export(server, "bob", mine, trace, name="forged", **{"mlflow.traceTag.owned": "by bob"})
    assert (answer.status_code, answer.json()["error_code"]) == (403, "PERMISSION_DENIED")
    assert found(server, "ann", trace) == before
    assert before[::2] == (theirs, ["first"])


def test_foreign_trace_is_not_moved(server, mine, theirs, trace):
    assert server.call("bob", "POST", TRACES, info(mine, trace)).status_code == 403
    assert found(server, "ann", trace)[0] == theirs
    assert server.call("bob", "GET", f"{TRACES}/get?trace_id=tr-{trace}").status_code == 403


def test_trace_is_continued_in_pieces(server, theirs, trace):
    assert export(server, "ann", theirs, trace, name="second").ok
    assert server.call("ann", "POST", TRACES, info(theirs, trace)).ok
    assert found(server, "ann", trace)[::2] == (theirs, ["first", "second"])


@pytest.mark.parametrize("user", ["ann", "root"])
def test_who_may_update_both_continues_a_trace_from_another_experiment(server, theirs, trace, user):
    own = server.experiment("ann", secrets.token_hex(4))
    assert export(server, user, own, trace, name="second").ok
    assert found(server, "ann", trace)[::2] == (theirs, ["first", "second"])


def test_header_must_name_an_experiment(server, trace):
    assert export(server, "bob", "", trace).status_code in (400, 403, 422)
    assert export(server, "root", "x", trace).status_code == 400


def test_first_of_two_headers_is_authorized_and_used(server, mine, theirs):
    """Both are read by the same rule: what is authorized is what is written."""
    import http.client  # noqa: PLC0415  (requests cannot send a header more than once)
    from base64 import b64encode  # noqa: PLC0415

    trace = secrets.token_hex(16)
    span = {"traceId": trace, "spanId": "1" * 16, "name": "x", "startTimeUnixNano": "1", "endTimeUnixNano": "2"}
    body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]})
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=60)
    connection.putrequest("POST", "/v1/traces")
    connection.putheader("Authorization", "Basic " + b64encode(f"bob:{server.passwords['bob']}".encode()).decode())
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", str(len(body)))
    connection.putheader("X-Mlflow-Experiment-Id", mine)
    connection.putheader("X-Mlflow-Experiment-Id", theirs)
    connection.endheaders(body.encode())
    if connection.getresponse().status == 200:
        assert found(server, "bob", trace)[0] == mine


def test_foreign_run_is_refused(server, mine, theirs):
    run, trace = server.run("ann", theirs), secrets.token_hex(16)
    assert export(server, "bob", mine, trace, headers={"X-Mlflow-Run-Id": run}).status_code == 403
    assert export(server, "bob", mine, trace, headers={"X-Mlflow-Run-Id": "0" * 32}).status_code == 403
    assert server.call("bob", "GET", f"{TRACES}/get?trace_id=tr-{trace}").status_code in (403, 404)


def test_own_run_is_linked(server, mine):
    run, trace = server.run("bob", mine), secrets.token_hex(16)
    assert export(server, "bob", mine, trace, headers={"X-Mlflow-Run-Id": run}).ok
    location = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": mine}}
    search = {"locations": [location], "filter": f"metadata.`mlflow.sourceRun` = '{run}'"}
    assert f"tr-{trace}" in server.call("bob", "POST", f"{TRACES}/search", search).text


@pytest.mark.parametrize("key", RESERVED)
def test_location_tags_are_not_set_by_clients(server, mine, key):
    trace = secrets.token_hex(16)
    assert export(server, "bob", mine, trace).ok
    before = found(server, "bob", trace)[1]
    assert LOCATION in before
    assert export(server, "bob", mine, trace, **{f"mlflow.traceTag.{key}": ELSEWHERE}).ok
    assert server.call("bob", "POST", TRACES, info(mine, trace, tags={key: ELSEWHERE, "kept": "x"})).ok
    for version in ("2.0", "3.0"):
        tags = f"/api/{version}/mlflow/traces/tr-{trace}/tags"
        assert server.call("bob", "PATCH", tags, {"key": key, "value": ELSEWHERE}).status_code == 400
    assert server.call("bob", "DELETE", f"{TRACES}/tr-{trace}/tags?key={key}").status_code == 400
    assert found(server, "bob", trace)[1] == before | {"kept": "x"}


def test_location_tags_are_not_set_by_older_clients(server, mine):
    tags = [{"key": LOCATION, "value": ELSEWHERE}, {"key": "kept", "value": "x"}]
    begun = {"experiment_id": mine, "timestamp_ms": 1, "request_metadata": [], "tags": tags}
    answer = server.call("bob", "POST", "/api/2.0/mlflow/traces", begun)
    assert answer.ok, answer.text
    request = answer.json()["trace_info"]["request_id"]
    ended = {"request_id": request, "timestamp_ms": 2, "status": "OK", "request_metadata": [], "tags": tags}
    answer = server.call("bob", "PATCH", f"/api/2.0/mlflow/traces/{request}", ended)
    assert answer.ok, answer.text
    known = {tag["key"]: tag["value"] for tag in answer.json()["trace_info"]["tags"]}
    assert known["kept"] == "x"
    assert known[LOCATION] != ELSEWHERE


def test_foreign_assessment_is_not_moved(server, mine, theirs, trace):
    rating = {
        "assessment_name": "good",
        "feedback": {"value": True},
        "source": {"source_type": "HUMAN", "source_id": "x"},
    }
    made = server.call("ann", "POST", f"{TRACES}/tr-{trace}/assessments", {"assessment": rating})
    assert made.ok, made.text
    own, number = secrets.token_hex(16), made.json()["assessment"]["assessment_id"]
    assert export(server, "bob", mine, own).ok
    taken = rating | {"assessment_id": number, "trace_id": f"tr-{own}"}
    assert server.call("bob", "POST", TRACES, info(mine, own, assessments=[taken])).status_code == 403
    assert server.call("ann", "GET", f"{TRACES}/tr-{trace}/assessments/{number}").ok


CLIENT = """
import mlflow
mlflow.set_experiment("{name}")
with mlflow.start_run() as run:
    with mlflow.start_span("outer") as outer:
        outer.set_inputs({{"x": 1}})
        mlflow.update_current_trace(tags={{"mine": "1"}})
        with mlflow.start_span("inner"):
            pass
mlflow.flush_trace_async_logging()
trace = mlflow.get_trace(outer.trace_id)
assert sorted(span.name for span in trace.data.spans) == ["inner", "outer"], trace
mlflow.set_trace_tag(outer.trace_id, "later", "2")
mlflow.log_feedback(trace_id=outer.trace_id, name="good", value=True)
mlflow.MlflowClient().link_traces_to_run([outer.trace_id], run.info.run_id)
trace = mlflow.get_trace(outer.trace_id)
assert (trace.info.tags["mine"], trace.info.tags["later"]) == ("1", "2"), trace.info
assert trace.info.assessments, trace.info
assert trace.info.tags["mlflow.artifactLocation"].startswith("mlflow-artifacts:"), trace.info
trace.info.assessments = []
mlflow.MlflowClient()._tracing_client.start_trace(trace.info)  # with the tags that it received
found = mlflow.search_traces(locations=[trace.info.experiment_id], run_id=run.info.run_id, return_type="list")
assert [each.info.trace_id for each in found] == [outer.trace_id], found
print("done")
"""


def test_stock_client_works_as_before(server):
    assert server.python("bob", CLIENT.format(name=secrets.token_hex(4))) == "done"


def test_without_users_only_the_tags_are_guarded(none_server):
    first, second = (none_server.experiment(None, secrets.token_hex(4)) for _unused in range(2))
    trace = secrets.token_hex(16)
    assert export(none_server, None, first, trace).ok
    assert export(none_server, None, second, trace, **{f"mlflow.traceTag.{LOCATION}": ELSEWHERE}).ok
    experiment, tags, _spans = found(none_server, None, trace)
    assert experiment == first
    assert tags[LOCATION] != ELSEWHERE
    assert none_server.python(None, CLIENT.format(name=secrets.token_hex(4))) == "done"
