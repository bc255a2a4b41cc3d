"""A window in which a migration changes the schema: calls wait, and none is lost."""

import asyncio
import contextlib
import secrets
import subprocess
import sys
import threading
import time

import pytest
import sqlalchemy
from alembic import command
from mlflow import MlflowClient
from mlflow.store.db import trace_analytics_prepopulation, utils

from lib import process
from mlops_mlflow_server import databases, holds, window

OTHER = "mlflow=0 mlflow-oidc-auth=0 mlops-mlflow-server=0"
ROWS = f"SELECT versions, until = 'infinity' FROM {window.TABLE}"
SETTLED = f"SELECT settled FROM {window.TABLE}"


@pytest.fixture
def found(migrated, monkeypatch):
    """Databases of this version, in the environment of this process."""
    found = migrated("oidc").copy()
    for name, value in {**found.variables, "MLOPS_AUTH": "oidc"}.items():
        monkeypatch.setenv(name, value)
    databases.record_migration(engine(found))
    return found


@pytest.fixture
def quick(monkeypatch):
    """Windows that wait shortly; servers in this process only."""
    monkeypatch.setattr(window, "STALE_SECONDS", 0.1)
    monkeypatch.setattr(window, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(window, "BEAT_SECONDS", 0.2)


@pytest.fixture
def other(monkeypatch):
    """A function that makes this process one of another version from then on."""
    return lambda: monkeypatch.setattr(window, "versions", lambda: OTHER)


@pytest.fixture
def server(migrated, tmp_path):
    """A server with login mode none, and databases of its own."""
    found = migrated("oidc").copy()
    done = found.migrate("none")
    assert done.returncode == 0, done.stderr
    server = process.Server(tmp_path, {**found.variables, "MLOPS_AUTH": "none"})
    server.databases = found
    try:
        yield server.wait()
    finally:
        server.stop()


def engine(found):
    return databases.engine_of("MLFLOW_BACKEND_STORE_URI")


def opened(found, before="before", after="after", wanted="after"):
    """A window whose body seems to change the schemas from `before` to `after`."""
    said = iter([before, after])
    return window.opened(engine(found), said.__next__, wanted)


def looks(found):
    """What a server of the version of this process says now."""
    seen = window.Window(found.variables["MLFLOW_BACKEND_STORE_URI"])
    seen.look()
    return seen.refusal()


def rows(found):
    return found.server.execute(ROWS, found.tracking)


# --- the row ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("quick")
def test_servers_of_the_former_version_hold_calls_until_they_are_gone(found, other, monkeypatch):
    assert looks(found) is None
    with monkeypatch.context() as patch:
        patch.setattr(window, "versions", lambda: OTHER)
        with opened(found):
            patch.undo()
            refusal, headers = looks(found)
            assert (refusal.status, refusal.code) == (429, "REQUEST_LIMIT_EXCEEDED")
            assert "upgraded" in refusal.message
            assert dict(headers) == {b"retry-after": b"5", b"connection": b"close"}
            patch.setattr(window, "versions", lambda: OTHER)
    assert rows(found) == [(OTHER, True)]
    assert looks(found)[0].status == 429
    other()
    assert looks(found)[0].status == 429, "its migration has not ended"
    monkeypatch.setattr(databases, "versions", lambda: OTHER)
    databases.record_migration(engine(found))
    assert looks(found) is None


@pytest.mark.usefixtures("quick")
def test_going_on_to_a_version_with_the_same_schema_holds_nobody(found, other, monkeypatch):
    with opened(found):
        pass
    databases.record_migration(engine(found))
    other()
    monkeypatch.setattr(databases, "versions", lambda: OTHER)
    with opened(found, "same", wanted="same"):
        assert len(rows(found)) == 1
    databases.record_migration(engine(found))
    assert looks(found) is None


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("after", "kept"), [("before", []), ("half", [True])])
def test_a_failure_is_undone_only_if_nothing_has_changed(found, after, kept):
    with pytest.raises(KeyError), opened(found, "before", after, "after"):
        raise KeyError
    assert [each[1] for each in rows(found)] == kept


def opened_by_another(found, monkeypatch):
    """The row of a migration to another version, which holds calls for a second at a time."""
    monkeypatch.setattr(window, "LEASE_SECONDS", 1)
    with monkeypatch.context() as patch:
        patch.setattr(window, "versions", lambda: OTHER)
        row = window._Opened(engine(found), "before")
    window.prepare(engine(found))
    row.begin()
    return row


@pytest.mark.usefixtures("quick")
def test_one_that_is_killed_before_it_begins_holds_nobody_for_long(found, monkeypatch):
    row = opened_by_another(found, monkeypatch)
    time.sleep(1.5)
    assert looks(found) is not None, "it is renewed while the migration runs"
    row.stop()
    time.sleep(1.2)
    assert looks(found) is None


def killed(found, monkeypatch):
    """A migration to another version that was killed after it had begun; return when calls were held."""
    opened_by_another(found, monkeypatch).settle()
    time.sleep(1.2)
    assert looks(found)[0].status == 429, "a schema may have been changed"
    return found.server.execute(SETTLED, found.tracking)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("attempts", "end"),
    [
        ([("before", "after")], [(OTHER, True)]),
        ([("after", "after")], [(OTHER, True)]),
        ([("half", "half"), ("half", "after")], [(OTHER, True)]),
        ([("half", "half"), ("half", "half")], [(OTHER, True)]),
        ([("half", "before")], []),
        ([("before", "before")], []),
    ],
)
def test_one_that_is_killed_is_taken_up(found, other, monkeypatch, attempts, end):
    """Calls stay held in between, for longer than one attempt, and the time to go back to stays."""
    settled = killed(found, monkeypatch)
    other()
    for before, after in attempts:
        with contextlib.suppress(KeyError), opened(found, before, after):
            assert found.server.execute(SETTLED, found.tracking) == settled
            if after != "after":
                raise KeyError
    assert rows(found) == end
    if end:
        assert found.server.execute(SETTLED, found.tracking) == settled


@pytest.mark.usefixtures("quick")
def test_one_that_ended_long_ago_is_not_taken_up(found, other):
    """A change of the login mode opens a window for the same version again."""
    other()
    with opened(found):
        pass
    settled = found.server.execute(SETTLED, found.tracking)
    with opened(found, "after", "another", "another"):
        assert found.server.execute(SETTLED, found.tracking) != settled


@pytest.mark.usefixtures("quick")
def test_one_that_was_given_up_is_not_taken_up_later(found, other, monkeypatch):
    """The former version was deployed again, so that calls were served since."""
    killed(found, monkeypatch)
    with opened(found, "before", "before", "before"):
        pass
    databases.record_migration(engine(found))
    assert rows(found) == []
    assert looks(found) is None
    settled = killed(found, monkeypatch)
    databases.record_migration(engine(found))
    other()
    with opened(found):
        assert found.server.execute(SETTLED, found.tracking) != settled


@pytest.mark.usefixtures("quick")
def test_there_is_one_at_a_time(found, monkeypatch):
    monkeypatch.setattr(window, "LONGEST_WAIT", 1)
    with (
        window.only_one(engine(found)),
        pytest.raises(databases.Failure, match="Another migration has not ended"),
        window.only_one(engine(found)),
    ):
        pass
    # It is no transaction that the migration waits for.
    with window.only_one(engine(found)), opened(found):
        pass


@pytest.mark.usefixtures("quick")
def test_what_runs_ends_before(found):
    slow = found.server.connect(found.tracking)
    with slow.cursor() as cursor:
        cursor.execute("BEGIN; SELECT 1")
    ended = []

    def end():
        ended.append(time.monotonic())
        slow.close()

    threading.Timer(1.5, end).start()
    with opened(found):
        assert ended, "a transaction was still running"
        assert found.server.execute(f"SELECT settled > begun FROM {window.TABLE}", found.tracking) == [(True,)]


def test_transactions_of_both_names_of_the_account_count(found):
    """A rotation of the password changes between two roles, of which one is a member of the other and acts as it."""
    mark = secrets.token_hex(4)
    owner, other, stranger = (f"{name}_{mark}{end}" for name, end in (("own", ""), ("own", "_2"), ("stranger", "")))
    window.prepare(engine(found))
    for statement in (
        f"CREATE ROLE {owner} LOGIN",
        f"CREATE ROLE {other} LOGIN IN ROLE {owner}",
        f"ALTER ROLE {other} SET role = {owner}",
        f"CREATE ROLE {stranger} LOGIN",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {owner}",
    ):
        found.server.execute(statement, found.tracking)
    url = sqlalchemy.make_url(found.variables["MLFLOW_BACKEND_STORE_URI"])

    def runs(mine, theirs):
        looking, busy = (
            sqlalchemy.create_engine(url.set(username=name), poolclass=sqlalchemy.pool.NullPool)
            for name in (mine, theirs)
        )
        with looking.connect() as connection, busy.begin() as transaction:
            transaction.execute(sqlalchemy.text("SELECT 1"))
            since = connection.scalar(sqlalchemy.text("SELECT clock_timestamp()"))
            connection.rollback()
            return window._running(connection, since) is not None

    names = (owner, other)
    assert [runs(mine, theirs) for mine in names for theirs in names] == [True] * 4
    assert [runs(mine, stranger) for mine in names] == [False, False]


@pytest.mark.usefixtures("quick")
def test_calls_that_run_end_before(found, monkeypatch):
    """Also those that have not begun a transaction yet, such as one whose body is still on its way."""
    monkeypatch.setattr(window, "STALE_SECONDS", 1)
    server = window.Window(found.variables["MLFLOW_BACKEND_STORE_URI"])
    server.running = 1
    server.begin()
    ended = []

    def end():
        ended.append(time.monotonic())
        server.running = 0

    threading.Timer(4, end).start()
    opened_by_another(found, monkeypatch).settle()
    assert ended, "a call was still running"


@pytest.mark.usefixtures("quick")
def test_what_does_not_end_is_said(found, monkeypatch):
    monkeypatch.setattr(window, "LONGEST_SETTLE", 1)
    slow = found.server.connect(found.tracking)
    with slow.cursor() as cursor:
        cursor.execute("SET application_name = 'a notebook'; BEGIN; SELECT 1")
    with (
        contextlib.closing(slow),
        pytest.raises(databases.Failure, match="a transaction of a notebook did not end for 1 s"),
        opened(found, "before", "before", "after"),
    ):
        pass
    assert rows(found) == []


@pytest.mark.usefixtures("quick")
def test_a_long_transaction_is_waited_for_while_calls_are_served(found, monkeypatch):
    monkeypatch.setattr(window, "LONG_SECONDS", 0.5)
    slow = found.server.connect(found.tracking)
    with slow.cursor() as cursor:
        cursor.execute("BEGIN; SELECT 1")
    time.sleep(0.6)
    threading.Timer(1.5, slow.close).start()
    began = time.monotonic()
    with opened(found):
        pass
    ((held,),) = found.server.execute(f"SELECT extract(epoch FROM settled - begun) FROM {window.TABLE}", found.tracking)
    assert time.monotonic() - began > 1.4
    assert held < 1


@pytest.mark.usefixtures("quick")
def test_who_served_is_written_down_before(found, other, monkeypatch):
    served = f"SELECT served IS NOT NULL FROM {window.TABLE}"
    with monkeypatch.context() as patch:
        patch.setattr(window, "versions", lambda: OTHER)
        with opened(found):
            pass
    former = window.Window(found.variables["MLFLOW_BACKEND_STORE_URI"])
    assert asyncio.run(former.serve())
    assert found.server.execute(served, found.tracking) == [(False,)], "by another version"
    other()
    newer = window.Window(found.variables["MLFLOW_BACKEND_STORE_URI"])
    found.server.execute(f"ALTER TABLE {window.TABLE} RENAME TO gone", found.tracking)
    assert not asyncio.run(newer.serve()), "it can't be written down"
    found.server.execute(f"ALTER TABLE gone RENAME TO {window.TABLE}", found.tracking)
    assert asyncio.run(newer.serve())
    assert found.server.execute(served, found.tracking) == [(True,)]


@pytest.mark.usefixtures("quick")
def test_nothing_is_deleted_meanwhile(found):
    connection = found.server.connect(found.tracking)
    with contextlib.closing(connection), connection.cursor() as cursor:
        with opened(found):
            assert holds.begin_deletion(cursor) is not None
            connection.rollback()
        assert holds.begin_deletion(cursor) is None


def test_who_cannot_look_takes_no_calls(found, monkeypatch):
    monkeypatch.setattr(window, "STALE_SECONDS", 0.2)
    seen = window.Window(found.variables["MLFLOW_BACKEND_STORE_URI"])
    assert seen.refusal()[0].status == 503, "it has not looked yet"
    seen.look()
    assert seen.refusal() is None
    found.server.execute(f"ALTER TABLE {window.TABLE} RENAME TO gone", found.tracking)
    with pytest.raises(sqlalchemy.exc.SQLAlchemyError):
        seen.look()
    time.sleep(0.3)
    assert seen.refusal()[0].status == 503


async def status_of(application, path):
    """The status of the answer to a call."""
    sent = []

    async def send(message):
        sent.append(message)

    await application({"type": "http", "path": path}, None, send)
    return sent[0]["status"]


def test_calls_stay_held_while_postgresql_itself_is_upgraded(found, monkeypatch):
    """Also by servers that have served before, whose first call afterwards is written down."""
    monkeypatch.setattr(window, "STALE_SECONDS", 0.2)
    monkeypatch.setattr(window, "LOOK_SECONDS", 0.1)
    with found.server.connect(found.tracking) as connection, connection.cursor() as cursor:
        for statement in window._CREATE:
            cursor.execute(statement)
    seen = window.Window(found.variables["MLFLOW_BACKEND_STORE_URI"])
    seen.look()
    assert asyncio.run(seen.serve())
    until = "clock_timestamp() + interval '1 h'"
    row = f"INSERT INTO {window.TABLE} VALUES ('{window.POSTGRES}', '', clock_timestamp(), {until})"
    found.server.execute(row, found.tracking)
    seen.look()
    assert seen.refusal()[0].status == 429
    assert not seen.is_blind()
    found.server.execute(f"ALTER TABLE {window.TABLE} RENAME TO gone", found.tracking)
    with pytest.raises(sqlalchemy.exc.SQLAlchemyError):
        seen.look()
    time.sleep(0.3)
    assert seen.refusal()[0].status == 429
    # By a Service without pods, clients would be refused at once.
    assert asyncio.run(status_of(window.Held(None, seen), window.READY)) == 200
    found.server.execute(f"ALTER TABLE gone RENAME TO {window.TABLE}", found.tracking)
    served = f"SELECT served IS NOT NULL FROM {window.TABLE}"
    assert found.server.execute(served, found.tracking) == [(False,)]
    databases.record_migration(engine(found))  # which ends a window
    seen.look()
    assert seen.refusal() is None
    assert asyncio.run(seen.serve())
    assert found.server.execute(served, found.tracking) == [(True,)]


@pytest.mark.parametrize(("open_for", "seconds"), [(0.0, 5), (3.0, 5), (42.2, 43), (9999.0, 120)])
def test_clients_wait_longer_the_longer_it_takes(found, open_for, seconds):
    seen = window.Window(found.variables["MLFLOW_BACKEND_STORE_URI"])
    seen.look()
    seen._open_for = open_for
    assert dict(seen.refusal()[1])[b"retry-after"] == str(seconds).encode()


# --- a migration ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("quick")
def test_a_former_schema_is_migrated_within_a_window(migrated):
    """From the schema of MLflow 3.16."""
    found = migrated("oidc").copy()
    found.server.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public", found.tracking)
    former = sqlalchemy.create_engine(found.variables["MLFLOW_BACKEND_STORE_URI"])
    utils.InitialBase.metadata.create_all(former)
    config = utils._get_alembic_config(former.url.render_as_string(hide_password=False))
    command.upgrade(config, trace_analytics_prepopulation.PREPOPULATION_SCHEMA_REVISION)
    done = found.migrate("oidc")
    assert done.returncode == 0, done.stderr
    words = ["Columns of traces are filled in", "Calls are held", "The schemas have changed"]
    assert [word for word in words if word in done.stdout] == words
    utils._verify_schema(former)
    former.dispose()
    assert [each[1] for each in rows(found)] == [True]
    again = found.migrate("oidc")
    assert again.returncode == 0
    assert "Calls are held" not in again.stdout


def test_an_older_version_is_refused(migrated):
    """And holds nobody."""
    found = migrated("oidc").copy()
    found.server.execute("UPDATE alembic_version SET version_num = 'of the future'", found.tracking)
    done = found.migrate("oidc")
    assert done.returncode == 1
    assert "has the schema of the future of a newer version of MLflow than 3." in done.stderr
    assert rows(found) == []


@pytest.mark.usefixtures("quick")
def test_another_login_mode_opens_a_window(migrated):
    found = migrated("oidc").copy()
    assert "Calls are held" in found.migrate("basic").stdout
    assert "Calls are held" not in found.migrate("basic").stdout


# --- servers ----------------------------------------------------------------------------------------------------------

_OPEN = f"""
import sys, time
from mlops_mlflow_server import databases, window
window.versions = lambda: {OTHER!r}
said = iter(["before", "before"])
engine = databases.engine_of("MLFLOW_BACKEND_STORE_URI")
try:
    with window.opened(engine, lambda: next(said), "after"):
        print("open", flush=True)
        sys.stdin.readline()
        raise KeyError
except KeyError:
    pass
"""


def test_clients_of_a_server_wait_and_lose_nothing(server, monkeypatch):
    client = MlflowClient(server.url)
    run = client.create_run(client.create_experiment("window")).info.run_id
    written, failed, times, ended = [], [], [], threading.Event()

    def write():
        while not ended.is_set():
            step, began = len(written), time.monotonic()
            try:
                client.log_metric(run, "step", step, step=step)
            except Exception as error:
                failed.append(error)
            written.append(step)
            times.append(time.monotonic() - began)
            time.sleep(0.05)

    thread = threading.Thread(target=write)
    thread.start()
    migration = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", _OPEN],
        env=process.environment(**server.databases.variables, MLOPS_AUTH="none"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    lines = iter(migration.stdout.readline, "")
    assert any(line == "open\n" for line in lines)
    with server.client() as http:
        held = http.post("/api/2.0/mlflow/runs/log-metric", json={"run_id": run})
        assert (held.status_code, held.headers["connection"]) == (429, "close")
        assert held.headers["retry-after"].isdigit()
        assert http.get("/health/ready").status_code == 200
        count = len(written)
        time.sleep(2)
        assert len(written) == count, "a call was served while schemas change"
    migration.communicate("\n", timeout=60)
    time.sleep(8)
    ended.set()
    thread.join()
    assert not failed
    assert max(times) > 2
    assert [each.step for each in client.get_metric_history(run, "step")] == written
