# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold calls while a migration changes the schema, and then for as long as a server of the former version runs.

MLflow's code of one version cannot serve on the schema of another one. A migration that has to change a schema opens a
window: it writes a row to MLflow's own database, and begins when the calls that run then have ended. Servers look for
such a row every second. They answer calls with 429 and `Retry-After`, which MLflow's clients wait for and then call
again, so that nothing is lost. The servers for which the databases were migrated serve again; those of the former
version hold their calls until they are gone.

A migration that is killed stops renewing its row, which then counts no longer: PostgreSQL has undone what it began.
"""

import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable, Hashable, Iterator

import sqlalchemy
from starlette.types import ASGIApp, Receive, Scope, Send

from mlops_mlflow_server import answers, holds, outage
from mlops_mlflow_server.databases import MIGRATED, Failure, say, versions
from mlops_mlflow_server.settings import login

_logger = logging.getLogger("mlflow.mlops")

TABLE = "mlops_windows"
# A server that could not look for so long takes no calls, so that after this time none does.
STALE_SECONDS = 5.0
LOOK_SECONDS = 1.0
# For how long a row counts, and how often it is renewed.
LEASE_SECONDS = 60
BEAT_SECONDS = 10.0
# What a migration waits for transactions that run when it begins, and for backups and deletions.
LONGEST_WAIT = 3600
# A client tries 7 times again, by default. It waits longer the longer the window is open: 4 minutes in all.
RETRY_SECONDS = (5.0, 120.0)
HOLDER = "migration"

_CREATE = f"""
CREATE TABLE IF NOT EXISTS {TABLE} (
  versions text PRIMARY KEY, begun timestamptz NOT NULL, until timestamptz NOT NULL, settled timestamptz)
"""
_OPEN = f"""
INSERT INTO {TABLE} VALUES (:versions, clock_timestamp(), clock_timestamp() + make_interval(secs => :lease))
ON CONFLICT (versions) DO UPDATE SET begun = excluded.begun, until = excluded.until, settled = NULL
"""  # noqa: S608  (a constant)
_RENEW = f"""
UPDATE {TABLE} SET until = clock_timestamp() + make_interval(secs => :lease) WHERE versions = :versions
"""  # noqa: S608  (a constant)
# All that was acknowledged was written by then: who goes back restores the databases to this time.
_SETTLE = f"UPDATE {TABLE} SET settled = clock_timestamp() WHERE versions = :versions"  # noqa: S608  (a constant)
_CLOSE = (f"DELETE FROM {TABLE} WHERE versions = :versions",)  # noqa: S608  (a constant)
_LEFT = f"SELECT count(*) FROM {TABLE} WHERE versions = :versions AND until <> 'infinity'"  # noqa: S608  (a constant)
# Servers of all former versions are held by one row.
_KEEP = (
    f"UPDATE {TABLE} SET until = 'infinity' WHERE versions = :versions",  # noqa: S608  (a constant)
    f"DELETE FROM {TABLE} WHERE versions <> :versions",  # noqa: S608  (a constant)
)
# A window holds those for which no migration has ended since it was opened.
_LOOK = f"""
SELECT extract(epoch FROM clock_timestamp() - begun), until = 'infinity' FROM {TABLE}
WHERE until > clock_timestamp() AND begun > coalesce(
  (SELECT migrated_at FROM {MIGRATED} WHERE versions = :versions AND login = :login), '-infinity')
ORDER BY begun LIMIT 1
"""  # noqa: S608  (a constant)
_RUNNING = """
SELECT application_name, extract(epoch FROM clock_timestamp() - xact_start)::int FROM pg_stat_activity
WHERE usename = current_user AND pid <> pg_backend_pid() AND xact_start < :since ORDER BY xact_start LIMIT 1
"""

_PROBES = ("/health", "/version")


# --- the migration ----------------------------------------------------------------------------------------------------


def prepare(engine: sqlalchemy.Engine) -> None:
    """Create the table that servers look at."""
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text(_CREATE))


class _Opened:
    """The row of a window, which a thread renews."""

    def __init__(self, engine: sqlalchemy.Engine):
        self._engine = engine
        self._known = {"versions": versions(), "lease": LEASE_SECONDS}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="mlops-window", daemon=True)

    def write(self, *statements: str) -> None:
        with self._engine.begin() as connection:
            for statement in statements:
                connection.execute(sqlalchemy.text(statement), self._known)

    def begin(self) -> None:
        self.write(_OPEN)
        self._thread.start()

    def _renew(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            # The next one may succeed before the row counts no longer.
            with contextlib.suppress(sqlalchemy.exc.SQLAlchemyError):
                self.write(_RENEW)

    def end(self, *statements: str) -> None:
        self._ended.set()
        self._thread.join()
        self.write(*statements)

    def settle(self) -> None:
        """Return when no server takes calls, and the transactions that ran then have ended.

        Raises:
            Failure: one did not end.
        """
        time.sleep(STALE_SECONDS + LOOK_SECONDS)
        end = time.monotonic() + LONGEST_WAIT
        next_line = time.monotonic() + 5
        with self._engine.connect() as connection:
            since = connection.scalar(sqlalchemy.text("SELECT clock_timestamp()"))
            connection.rollback()
            while running := connection.execute(sqlalchemy.text(_RUNNING), {"since": since}).first():
                connection.rollback()
                name, seconds = running
                if time.monotonic() >= end:
                    raise Failure(f"A transaction of '{name}' has not ended for {seconds} s")
                if time.monotonic() >= next_line:
                    next_line = time.monotonic() + 10
                    say(f"Waiting for a transaction of '{name}', which runs for {seconds} s")
                time.sleep(0.2)


def _held(engine: sqlalchemy.Engine, act: Callable[..., None], *arguments: object) -> None:
    """Hold or release deletions, see `holds`."""
    connection = engine.raw_connection()
    try:
        with connection.cursor() as cursor:
            act(cursor, HOLDER, *arguments)
        connection.commit()
    finally:
        connection.close()


def _is_left(engine: sqlalchemy.Engine) -> bool:
    """Return whether a migration to this version was killed, maybe after it had changed a schema."""
    with engine.connect() as connection:
        return bool(connection.scalar(sqlalchemy.text(_LEFT), {"versions": versions()}))


@contextlib.contextmanager
def opened(engine: sqlalchemy.Engine, schemas: Callable[[], Hashable], wanted: Hashable) -> Iterator[None]:
    """Hold calls, and deletions of artifacts, while the body of the `with` statement migrates.

    Args:
        engine: MLflow's own database, which has tables.
        schemas: returns what a migration changes. If it is the same after a failure, servers of the former version
            serve again.
        wanted: what `schemas` returns for this version. If it is that already, nothing is held.

    Raises:
        Failure: a deletion or a transaction did not end within an hour.
    """
    prepare(engine)
    before = schemas()
    if before == wanted and not _is_left(engine):
        yield
        return
    row = _Opened(engine)
    _held(engine, holds.hold, 24 * LONGEST_WAIT)
    try:
        began = time.monotonic()
        row.begin()
        say("Calls are held: clients wait, and try again")
        try:
            row.settle()
            row.write(_SETTLE)
            yield
        except BaseException:
            row.end(*(_CLOSE if schemas() == before != wanted else _KEEP))
            raise
        row.end(*_KEEP)
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
        self._seen = time.monotonic()
        self._open_for: float | None = None

    def begin(self) -> None:
        """Start to look."""
        if self._looks:
            threading.Thread(target=self._forever, name="mlops-window", daemon=True).start()

    def _forever(self) -> None:
        while True:
            with contextlib.suppress(sqlalchemy.exc.SQLAlchemyError):
                self.look()
            time.sleep(LOOK_SECONDS)

    def look(self) -> None:
        """Ask the database."""
        began = time.monotonic()
        with self._engine.connect() as connection:
            found = connection.execute(sqlalchemy.text(_LOOK), {"versions": versions(), "login": login()}).first()
        was_open, self._open_for = self._open_for is not None, None
        if found:
            # Afterwards it only takes until another server is ready.
            self._open_for = 0.0 if found[1] else float(found[0])
        if was_open != (self._open_for is not None):
            _logger.warning("Calls are %s", "held: the databases are migrated" if found else "no longer held")
        self._seen = began

    def refusal(self) -> tuple[answers.Refusal, list[tuple[bytes, bytes]]] | None:
        """Return how a call is answered, or None if it is served."""
        if not self._looks:
            return None
        if time.monotonic() - self._seen > STALE_SECONDS:
            return outage.AWAY, [answers.retry_after(outage.RETRY_AFTER_SECONDS)]
        if self._open_for is None:
            return None
        least, most = RETRY_SECONDS
        seconds = math.ceil(min(max(self._open_for, least), most))
        refusal = answers.busy(f"MLflow is being upgraded. Try again in {seconds} s.")
        # Its next call may reach a server of the new version.
        return refusal, [answers.retry_after(seconds), (b"connection", b"close")]


class Held:
    """ASGI application that answers calls in place of the one within while a window is open."""

    def __init__(self, application: ASGIApp, window: Window):
        self._application = application
        self._window = window

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = None
        if scope["type"] == "http" and not scope["path"].startswith(_PROBES):
            refusal = self._window.refusal()
        if refusal is None:
            await self._application(scope, receive, send)
        else:
            await answers.refuse(send, *refusal)
