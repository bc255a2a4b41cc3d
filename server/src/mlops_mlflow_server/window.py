# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold calls while a migration changes the schema, and then for as long as a server of the former version runs.

MLflow's code of one version cannot serve on the schema of another one. A migration that has to change a schema opens a
window: it writes a row to MLflow's own database, and begins when the calls that run then have ended. Servers look for
such a row every second. They answer calls with 429 and `Retry-After`, which MLflow's clients wait for and then call
again, so that nothing is lost. The servers for which the databases were migrated serve again; those of the former
version hold their calls until they are gone.

Until the migration begins, the row counts only while it is renewed. From then on it counts until the schemas are seen
to be those from before, or those of the new version: who was killed in between may have changed one. `settled` is the
time at which all that was acknowledged had been written. Up to the time in `served`, at which a server of the new
version took its first call, the databases can be restored to it without a loss.

PostgreSQL itself is upgraded in such a window too: `roles/postgres/files/postgres/hold.sh` writes its row. While the
database is away, a server that has seen the row goes on holding calls, and stays ready, since clients wait for its
answer and not for that of a Service without pods.
"""

import asyncio
import contextlib
import datetime
import logging
import math
import os
import socket
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import sqlalchemy
from starlette.types import ASGIApp, Receive, Scope, Send

from mlops_mlflow_server import answers, holds, outage
from mlops_mlflow_server.bounds import ARTIFACTS, PROBES
from mlops_mlflow_server.databases import BUSY, CREATE_MIGRATED, MIGRATED, WINDOWS, Failure, say, versions
from mlops_mlflow_server.settings import login

_logger = logging.getLogger("mlflow.mlops")

# What is answered in any case.
_OPEN_PATHS = PROBES | {"/version"}

TABLE = WINDOWS
# A server that could not look for so long takes no calls, so that after this time none does.
STALE_SECONDS = 5.0
LOOK_SECONDS = 1.0
# For how long a row counts before the migration begins, and how often it is renewed.
LEASE_SECONDS = 60
BEAT_SECONDS = 10.0
# What a migration waits before it holds calls, for backups, deletions and long transactions; and what it then waits for
# calls that run, before it gives up.
LONGEST_WAIT = 3600
LONGEST_SETTLE = 120
# A transaction is long after so many seconds.
LONG_SECONDS = 10
# A client tries 7 times again, by default. It waits longer the longer the window is open: 4 minutes in all.
RETRY_SECONDS = (5.0, 120.0)
HOLDER = "migration"
# Of the row by which calls are held while PostgreSQL is upgraded.
POSTGRES = "postgres"
READY = "/health/ready"
# https://www.postgresql.org/docs/17/explicit-locking.html#ADVISORY-LOCKS
LOCK = 7163958
ONLY = "mlflow-migrate-lock"

_CREATE = (
    f"CREATE TABLE IF NOT EXISTS {TABLE} (versions text PRIMARY KEY, former text NOT NULL, begun timestamptz NOT NULL, "
    "until timestamptz NOT NULL, settled timestamptz, served timestamptz)",
    f"CREATE TABLE IF NOT EXISTS {BUSY} (server text PRIMARY KEY, until timestamptz NOT NULL)",
    CREATE_MIGRATED,
)
_OPEN = f"""
INSERT INTO {TABLE} VALUES (:versions, :former, clock_timestamp(), clock_timestamp() + make_interval(secs => :lease))
ON CONFLICT (versions) DO UPDATE
SET former = excluded.former, begun = excluded.begun, until = excluded.until, settled = NULL, served = NULL
"""  # noqa: S608  (a constant)
_RENEW = f"""
UPDATE {TABLE} SET until = clock_timestamp() + make_interval(secs => :lease)
WHERE versions = :versions AND settled IS NULL
"""  # noqa: S608  (a constant)
_SETTLE = f"""
UPDATE {TABLE} SET settled = clock_timestamp(), until = 'infinity' WHERE versions = :versions RETURNING settled
"""  # noqa: S608  (a constant)
_CLOSE = f"DELETE FROM {TABLE} WHERE versions = :versions"  # noqa: S608  (a constant)
# Servers of all former versions are held by one row.
_ALONE = f"DELETE FROM {TABLE} WHERE versions <> :versions"  # noqa: S608  (a constant)
# Of a migration that was killed after it had begun, and since which no other one has ended.
_LEFT = f"""
SELECT former FROM {TABLE} WHERE versions = :versions AND settled IS NOT NULL AND former <> ''
AND NOT EXISTS (SELECT FROM {MIGRATED} WHERE migrated_at > begun)
"""  # noqa: S608  (a constant)
# Of another version, which has changed nothing.
_VOID = f"DELETE FROM {TABLE} WHERE versions <> :versions AND former = :former"  # noqa: S608  (a constant)
_DONE = f"UPDATE {TABLE} SET former = '' WHERE versions = :versions"  # noqa: S608  (a constant)
# A window holds those for which no migration has ended since it was opened.
_LOOK = f"""
SELECT extract(epoch FROM clock_timestamp() - begun) FROM {TABLE}
WHERE until > clock_timestamp() AND begun > coalesce(
  (SELECT migrated_at FROM {MIGRATED} WHERE versions = :versions AND login = :login), '-infinity')
ORDER BY begun LIMIT 1
"""  # noqa: S608  (a constant)
_SERVE = f"""
UPDATE {TABLE} SET served = clock_timestamp() WHERE versions IN (:versions, '{POSTGRES}') AND served IS NULL
"""  # noqa: S608  (a constant)
_STAY = f"""
INSERT INTO {BUSY} VALUES (:server, clock_timestamp() + make_interval(secs => :stale))
ON CONFLICT (server) DO UPDATE SET until = excluded.until
"""  # noqa: S608  (a constant)
# MLflow logs in as the role that owns its tables, or by the other name of it: rotations change between the two. The
# other one is a member, and sees the sessions of both. What is not shown counts as something that runs.
_RUNNING = f"""
SELECT * FROM (
  SELECT 'calls of ' || server, 0 FROM {BUSY} WHERE until > clock_timestamp()
  UNION ALL
  SELECT 'a transaction of ' || coalesce(nullif(application_name, ''), 'no name'),
    extract(epoch FROM clock_timestamp() - xact_start)::int FROM pg_stat_activity
  WHERE pid <> pg_backend_pid() AND application_name <> '{ONLY}'
    AND usename IN (:role, left(:role, 61) || '_2')
    AND (xact_start < :since OR query = '<insufficient privilege>')
) AS running (name, seconds) ORDER BY seconds DESC LIMIT 1
"""  # noqa: S608  (a constant)


# --- the migration ----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def only_one(engine: sqlalchemy.Engine) -> Iterator[None]:
    """Wait for another migration of this database; the next one waits for the body of the `with` statement.

    Raises:
        Failure: the other one did not end within an hour.
    """
    url = engine.url.update_query_dict({"application_name": ONLY})
    alone = sqlalchemy.create_engine(url, poolclass=sqlalchemy.pool.NullPool)
    with alone.begin() as connection:
        for name, value in (("lock_timeout", f"{LONGEST_WAIT}s"), ("idle_in_transaction_session_timeout", "0")):
            connection.execute(sqlalchemy.text(f"SET LOCAL {name} = '{value}'"))
        try:
            connection.execute(sqlalchemy.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        except sqlalchemy.exc.OperationalError:
            raise Failure(f"Another migration has not ended for {LONGEST_WAIT} s") from None
        yield


def prepare(engine: sqlalchemy.Engine) -> None:
    """Create the tables that servers look at."""
    with engine.begin() as connection:
        for statement in _CREATE:
            connection.execute(sqlalchemy.text(statement))


class _Opened:
    """The row of a window, which a thread renews until the migration begins.

    Args:
        engine: MLflow's own database.
        former: what the schemas were.
    """

    def __init__(self, engine: sqlalchemy.Engine, former: str):
        self._engine = engine
        self._known = {"versions": versions(), "former": former, "lease": LEASE_SECONDS}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="mlops-window", daemon=True)

    def write(self, *statements: str) -> Any:
        """Execute them in one transaction; return what the last one returns, if anything."""
        with self._engine.begin() as connection:
            for statement in statements:
                done = connection.execute(sqlalchemy.text(statement), self._known)
            return done.scalar() if done.returns_rows else None

    def begin(self) -> None:
        self.write(_OPEN)
        self._thread.start()

    def _renew(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            # The next one may succeed before the row counts no longer.
            with contextlib.suppress(sqlalchemy.exc.SQLAlchemyError):
                self.write(_RENEW)

    def stop(self) -> None:
        """Renew it no more."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def settle(self) -> None:
        """Return when no server takes calls, and what ran then has ended.

        Raises:
            Failure: it did not end.
        """
        time.sleep(STALE_SECONDS + LOOK_SECONDS)
        wait_for_others(self._engine, LONGEST_SETTLE, 0)
        settled = self.write(_SETTLE)
        self.stop()
        say(f"Calls are held, and all that was acknowledged was written before {settled}")


def wait_for_others(engine: sqlalchemy.Engine, limit: float, age: float) -> None:
    """Return when no transaction runs that began `age` seconds ago, or earlier, and no call.

    Raises:
        Failure: one runs after `limit` seconds.
    """
    end = time.monotonic() + limit
    next_line = time.monotonic() + 5
    with engine.connect() as connection:
        ago = sqlalchemy.text("SELECT clock_timestamp() - make_interval(secs => :age)")
        since = connection.scalar(ago, {"age": age})
        connection.rollback()
        while running := _running(connection, since):
            name, seconds = running
            if time.monotonic() >= end:
                raise Failure(f"The migration can't begin: {name} did not end for {limit:g} s")
            if time.monotonic() >= next_line:
                next_line = time.monotonic() + 10
                say(f"Waiting for {name}" + (f", which runs for {seconds} s" if seconds else ""))
            time.sleep(0.2)
            since = since if not age else connection.scalar(ago, {"age": age})
            connection.rollback()


def _running(connection: sqlalchemy.Connection, since: datetime.datetime) -> Any:
    """Return name and seconds of a call, or of a transaction that began before `since`; None without one."""
    known = {"since": since, "role": connection.scalar(sqlalchemy.text("SELECT current_user"))}
    connection.execute(sqlalchemy.text("SET LOCAL ROLE NONE"))
    running = connection.execute(sqlalchemy.text(_RUNNING), known).first()
    connection.rollback()
    return running


def _held(engine: sqlalchemy.Engine, act: Callable[..., None], *arguments: object) -> None:
    """Hold or release deletions, see `holds`."""
    connection = engine.raw_connection()
    try:
        with connection.cursor() as cursor:
            act(cursor, HOLDER, *arguments)
        connection.commit()
    finally:
        connection.close()


@contextlib.contextmanager
def opened(engine: sqlalchemy.Engine, schemas: Callable[[], Hashable], wanted: Hashable) -> Iterator[None]:
    """Hold calls, and deletions of artifacts, while the body of the `with` statement migrates.

    Args:
        engine: MLflow's own database, which has tables.
        schemas: returns what a migration changes. If that is as before after a failure, servers of the former version
            serve again.
        wanted: what `schemas` returns for this version. If it is that already, nothing is held.

    Raises:
        Failure: a deletion, a transaction or a call did not end.
    """
    prepare(engine)
    now = str(schemas())
    row = _Opened(engine, now)
    left = row.write(_LEFT)
    if now == str(wanted):
        yield
        row.write(*((_ALONE, _DONE) if left else (_VOID,)))
        return
    _held(engine, holds.hold, 2 * LONGEST_WAIT)
    try:
        began = time.monotonic()
        try:
            if not left:
                wait_for_others(engine, LONGEST_WAIT, LONG_SECONDS)
                row.begin()
                say("Calls are held: clients wait, and try again")
                row.settle()
            yield
        except BaseException:
            row.stop()
            if str(schemas()) == (left or now):
                row.write(_CLOSE)
            raise
        row.write(_ALONE, _DONE)
        say(f"The schemas have changed. Calls were held for {time.monotonic() - began:.0f} s")
    finally:
        _held(engine, holds.release)


# --- the servers ------------------------------------------------------------------------------------------------------


class Window:
    """What this process knows of migrations.

    Args:
        uri: MLflow's own database; with another one than PostgreSQL, nothing is held.
    """

    def __init__(self, uri: str):
        self._engine = sqlalchemy.create_engine(uri, pool_size=1, max_overflow=0, pool_pre_ping=True)
        self._looks = self._engine.dialect.name == "postgresql"
        # Neither changes while a process runs, and reading versions reads files.
        self._known = {"versions": versions(), "login": login()} if self._looks else {}
        self._server = f"{socket.gethostname()}/{os.getpid()}"
        self._seen = -math.inf
        self._open_for: float | None = None
        self._has_served = not self._looks
        # Calls that this process serves now.
        self.running = 0

    def begin(self) -> None:
        """Look, and go on looking."""
        if self._looks:
            with contextlib.suppress(sqlalchemy.exc.SQLAlchemyError):
                self.look()
            threading.Thread(target=self._forever, name="mlops-window", daemon=True).start()

    def _forever(self) -> None:
        while True:
            time.sleep(LOOK_SECONDS)
            try:
                self.look()
            except Exception as error:
                # Whoever can't look takes no calls after 5 s.
                _logger.debug("The look at migrations failed: %s", error)

    def look(self) -> None:
        """Ask the database; while calls are held, tell it of those that still run."""
        began = time.monotonic()
        with self._engine.begin() as connection:
            found = connection.execute(sqlalchemy.text(_LOOK), self._known).first()
            was_open, self._open_for = self._open_for is not None, float(found[0]) if found else None
            # It may have been open unseen, and so closed since: the next call is written down again.
            if found or began - self._seen > STALE_SECONDS:
                self._has_served = False
            if found and self.running:
                connection.execute(sqlalchemy.text(_STAY), {"server": self._server, "stale": STALE_SECONDS})
        if was_open != bool(found):
            _logger.warning("Calls are %s", "held: the databases are migrated" if found else "no longer held")
        self._seen = began

    def refusal(self) -> tuple[answers.Refusal, list[tuple[bytes, bytes]]] | None:
        """Return how a call is answered, or None if it is served."""
        if not self._looks:
            return None
        unseen, open_for = time.monotonic() - self._seen, self._open_for
        if open_for is None:
            return outage.AWAY if unseen > STALE_SECONDS else None
        least, most = RETRY_SECONDS
        seconds = math.ceil(min(max(open_for + unseen, least), most))
        refusal = answers.busy(f"MLflow is being upgraded. Try again in {seconds} s.", "upgrade")
        # Its next call may reach a server of the new version.
        return refusal, [answers.retry_after(seconds), (b"connection", b"close")]

    def is_blind(self) -> bool:
        """Return whether calls are held, and the database is away."""
        return self._open_for is not None and time.monotonic() - self._seen > LOOK_SECONDS * 2

    async def serve(self) -> bool:
        """Write down, before the first call, that a server of this version takes calls; return whether it may."""
        if not self._has_served:
            try:
                await asyncio.to_thread(self._serve)
            except sqlalchemy.exc.SQLAlchemyError:
                return False
            self._has_served = True
        return True

    def _serve(self) -> None:
        with self._engine.begin() as connection:
            connection.execute(sqlalchemy.text(_SERVE), self._known)


class Held:
    """ASGI application that answers calls in place of the one within while a window is open."""

    def __init__(self, application: ASGIApp, window: Window):
        self._application = application
        self._window = window

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == READY and self._window.is_blind():
            await answers.answer(send, 200, b'{"status": "calls are held"}')
            return
        if scope["type"] != "http" or scope["path"] in _OPEN_PATHS:
            await self._application(scope, receive, send)
            return
        # Artifacts are not in the databases, and may take hours.
        counted = 0 if ARTIFACTS.search(scope["path"]) else 1
        # Counted before it is asked, so that a look between the two does not miss it.
        self._window.running += counted
        try:
            refusal = self._window.refusal()
            if refusal is None and not await self._window.serve():
                refusal = outage.AWAY
            if refusal is None:
                await self._application(scope, receive, send)
        finally:
            self._window.running -= counted
        if refusal is not None:
            await answers.refuse(send, *refusal)
