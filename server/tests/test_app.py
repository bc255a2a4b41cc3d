"""The application around MLflow's: outages, readiness and threads."""

import asyncio
import json

import pytest
import sqlalchemy

from mlops_mlflow_server import drain, lanes, outage


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


@pytest.mark.parametrize("status", [302, 401, 403, 404, 500])
def test_refusal_during_an_outage_becomes_503(status):
    watch = outage.Watch()
    app = outage.OutageAware(application(status, during=lambda: setattr(watch, "last", float("inf"))), watch, None)
    code, headers, body = answer_of(app, scope())
    assert code == 503
    assert headers[b"retry-after"] == b"1"
    assert json.loads(body)["error_code"] == "TEMPORARILY_UNAVAILABLE"


@pytest.mark.parametrize("status", [200, 400, 409, 503])
def test_other_answers_are_passed_on(status):
    watch = outage.Watch()
    app = outage.OutageAware(application(status, during=lambda: setattr(watch, "last", float("inf"))), watch, None)
    assert answer_of(app, scope())[::2] == (status, b"from within")


def test_refusal_after_an_outage_is_passed_on():
    watch = outage.Watch()
    watch.last = 0.0
    assert answer_of(outage.OutageAware(application(401), watch, None), scope())[0] == 401


@pytest.fixture
def watch(postgres):
    """A watch, and an engine for a database."""
    watch = outage.Watch()
    watch.listen()
    engine = sqlalchemy.create_engine(postgres.uri(postgres.create()), poolclass=sqlalchemy.pool.NullPool)
    yield watch, engine
    sqlalchemy.event.remove(sqlalchemy.Engine, "handle_error", watch._note)


def _run(engine, statements):
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def noted(watch, *statements, uri=None):
    """Return whether running these statements, which fail, is noted as an outage."""
    engine = watch[1] if uri is None else sqlalchemy.create_engine(uri)
    with pytest.raises(sqlalchemy.exc.SQLAlchemyError):
        _run(engine, statements)
    return watch[0].last > float("-inf")


def test_database_that_does_not_listen_is_an_outage(watch):
    assert noted(watch, "SELECT 1", uri="postgresql+psycopg2://127.0.0.1:1/x")


def test_ended_connection_is_an_outage(watch):
    assert noted(watch, "SELECT pg_terminate_backend(pg_backend_pid())", "SELECT 1")


def test_database_without_connections_is_an_outage(watch, postgres):
    name = watch[1].url.database
    postgres.execute(f"ALTER DATABASE {name} CONNECTION LIMIT 0")
    postgres.execute("CREATE ROLE limited LOGIN")
    uri = watch[1].url.set(username="limited").render_as_string()
    assert noted(watch, "SELECT 1", uri=uri)


@pytest.mark.parametrize(
    "statement",
    ["SELECT 1 FROM missing", "SELECT 1/0", "SELECT 'x'::int", "SET statement_timeout = 1; SELECT pg_sleep(1)"],
)
def test_failed_query_is_not_an_outage(watch, statement):
    assert not noted(watch, statement)


def test_held_lock_is_not_an_outage(watch):
    engine = watch[1]
    with engine.begin() as other:
        other.exec_driver_sql("CREATE TABLE t (i int)")
    with engine.begin() as other:
        other.exec_driver_sql("LOCK TABLE t")
        assert not noted(watch, "LOCK TABLE t NOWAIT")


@pytest.mark.parametrize("broken", [None, "tracking_database", "database"])
def test_readiness_checks_both_databases(postgres, broken):
    databases = {name: postgres.uri("postgres") for name in ("tracking_database", "database")}
    if broken:
        databases[broken] = "postgresql+psycopg2://127.0.0.1:1/x"
    readiness = outage.Readiness(databases, {"oidc": lambda: True})
    app = outage.OutageAware(application(404), outage.Watch(), readiness)
    code, _headers, body = answer_of(app, scope("/health/ready"))
    assert code == (503 if broken else 200)
    assert json.loads(body)["checks"] == {
        "oidc": True,
        "tracking_database": broken != "tracking_database",
        "database": broken != "database",
    }


def test_readiness_runs_the_checks_of_the_login():
    app = outage.OutageAware(application(404), outage.Watch(), outage.Readiness({}, {"oidc": lambda: None}))
    code, _headers, body = answer_of(app, scope("/health/ready"))
    assert (code, json.loads(body)["checks"]) == (503, {"oidc": False})


def test_probe_depends_on_the_process_only():
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
def test_which_calls_wait_for_the_object_store(path, expected):
    assert lanes.touches_object_store(path) is expected


def test_draining_process_closes_connections(monkeypatch, tmp_path):
    monkeypatch.setenv("MLOPS_DRAIN_FILE", str(tmp_path / "draining"))
    app = drain.Draining(application(200, headers=[(b"x", b"y")]))
    assert answer_of(app, scope())[1] == {b"x": b"y"}
    (tmp_path / "draining").touch()
    assert answer_of(app, scope()) == (200, {b"x": b"y", b"connection": b"close"}, b"from within")
