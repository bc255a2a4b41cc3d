"""The application around MLflow's: outages, readiness and threads."""

import asyncio
import json
import types

import pytest


def scope(path="/api/2.0/mlflow/runs/log-batch"):
    return {"type": "http", "path": path, "method": "POST", "headers": []}


def application(status, headers=(), during=None):
    """Return an ASGI application that answers with `status`, after calling `during`."""

    async def answer(_scope, _receive, send):
        if during:
            during()
        await send({"type": "http.response.start", "status": status, "headers": list(headers)})
        await send({"type": "http.response.body", "body": b"from within", "more_body": False})

    return answer


def answer_of(app, request):
    """Return status, headers and body."""
    messages = []

    async def send(message):
        messages.append(message)

    asyncio.run(app(request, None, send))
    body = b"".join(message.get("body", b"") for message in messages[1:])
    return messages[0]["status"], dict(messages[0]["headers"]), body


@pytest.fixture
def outage(load):
    return load("outage")


@pytest.mark.parametrize("status", [302, 401, 403, 404, 500])
def test_refusal_during_an_outage_becomes_503(outage, status):
    watch = outage.Watch()
    app = outage.OutageAware(application(status, during=lambda: setattr(watch, "last", float("inf"))), watch, None)
    code, headers, body = answer_of(app, scope())
    assert code == 503
    assert headers[b"retry-after"] == b"1"
    assert json.loads(body)["error_code"] == "TEMPORARILY_UNAVAILABLE"


@pytest.mark.parametrize("status", [200, 400, 409, 503])
def test_other_answers_are_passed_on(outage, status):
    watch = outage.Watch()
    app = outage.OutageAware(application(status, during=lambda: setattr(watch, "last", float("inf"))), watch, None)
    assert answer_of(app, scope())[::2] == (status, b"from within")


def test_refusal_after_an_outage_is_passed_on(outage):
    watch = outage.Watch()
    watch.last = 0.0
    assert answer_of(outage.OutageAware(application(401), watch, None), scope())[0] == 401


class OperationalError(Exception):
    def __init__(self, pgcode=None):
        super().__init__("x")
        self.pgcode = pgcode


@pytest.mark.parametrize(
    ("error", "is_disconnect", "noted"),
    [
        (OperationalError(), False, True),
        (OperationalError("57P03"), False, True),
        (OperationalError("08006"), False, True),
        (OperationalError("53300"), False, True),
        (OperationalError("55P03"), False, False),
        (ValueError(), False, False),
        (ValueError(), True, True),
    ],
)
def test_which_errors_are_an_outage(outage, error, is_disconnect, noted):
    watch = outage.Watch()
    watch._note(types.SimpleNamespace(original_exception=error, is_disconnect=is_disconnect))
    assert (watch.last > float("-inf")) == noted


@pytest.mark.parametrize(("broken", "status"), [([], 200), (["sqlite:///b"], 503), (["sqlite:///a"], 503)])
def test_readiness_checks_both_databases(outage, monkeypatch, broken, status):
    def ping(_self, uri):
        if uri in broken:
            raise OperationalError

    monkeypatch.setattr(outage.Readiness, "_ping", ping)
    databases = {"tracking_database": "sqlite:///a", "database": "sqlite:///b"}
    readiness = outage.Readiness(databases, {"oidc": lambda: True})
    app = outage.OutageAware(application(404), outage.Watch(), readiness)
    code, _headers, body = answer_of(app, scope("/health/ready"))
    assert code == status
    assert json.loads(body)["checks"] == {
        "oidc": True,
        "tracking_database": "sqlite:///a" not in broken,
        "database": "sqlite:///b" not in broken,
    }


def test_readiness_runs_the_checks_of_the_login(outage):
    app = outage.OutageAware(application(404), outage.Watch(), outage.Readiness({}, {"oidc": lambda: None}))
    code, _headers, body = answer_of(app, scope("/health/ready"))
    assert (code, json.loads(body)["checks"]) == (503, {"oidc": False})


def test_probe_depends_on_the_process_only(outage):
    app = outage.OutageAware(application(401), outage.Watch(), None, frozenset({"/health/live"}))
    assert answer_of(app, scope("/health/live"))[0] == 200
    assert answer_of(app, scope("/health/live/more"))[0] == 401


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/api/2.0/mlflow-artifacts/artifacts/1/a.txt", True),
        ("/get-artifact", True),
        ("/ajax-api/2.0/mlflow/artifacts/list", True),
        ("/api/2.0/mlflow/runs/log-batch", False),
        ("/api/2.0/mlflow/experiments/search", False),
    ],
)
def test_which_calls_wait_for_the_object_store(load, path, expected):
    assert load("lanes").touches_object_store(path) is expected


def test_draining_process_closes_connections(load, monkeypatch, tmp_path):
    monkeypatch.setenv("MLOPS_DRAIN_FILE", str(tmp_path / "draining"))
    app = load("drain").Draining(application(200, headers=[(b"x", b"y")]))
    assert answer_of(app, scope())[1] == {b"x": b"y"}
    (tmp_path / "draining").touch()
    assert answer_of(app, scope()) == (200, {b"x": b"y", b"connection": b"close"}, b"from within")
