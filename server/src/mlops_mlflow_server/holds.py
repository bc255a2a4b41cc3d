# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups and deletions of one database keep out of each other's way.

A backup copies artifacts after it has noted the rows that name them, so none of these may be deleted in between. It
writes a row with a time, until which nothing is deleted, and removes it when it has the artifacts. A deletion holds an
advisory lock of PostgreSQL, for which a backup waits before it writes its row. Cursors are psycopg2's, of MLflow's own
database.
"""

import datetime
from typing import Any

import psycopg2.errors

from mlops_mlflow_server.databases import Failure

TABLE = "mlops_holds"
# https://www.postgresql.org/docs/17/explicit-locking.html#ADVISORY-LOCKS
LOCK = 7163957
# What a backup waits for a deletion that runs.
LONGEST_WAIT = 3600


def hold(cursor: Any, holder: str, seconds: int) -> None:
    """Write, as `holder`, that nothing is deleted for these seconds; wait for a deletion that runs.

    The transaction must be committed at once: until then, nothing else is held or deleted.

    Raises:
        Failure: the deletion did not end within an hour.
    """
    cursor.execute("SET LOCAL lock_timeout = %s", [f"{LONGEST_WAIT}s"])
    try:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
    except psycopg2.errors.LockNotAvailable:
        raise Failure(f"A deletion (mlflow-gc) has not ended for {LONGEST_WAIT} s") from None
    cursor.execute(f"CREATE TABLE IF NOT EXISTS {TABLE} (holder text PRIMARY KEY, until timestamptz NOT NULL)")
    cursor.execute(
        f"INSERT INTO {TABLE} VALUES (%s, clock_timestamp() + make_interval(secs => %s)) "  # noqa: S608  (a constant)
        "ON CONFLICT (holder) DO UPDATE SET until = excluded.until",
        [holder, seconds],
    )


def release(cursor: Any, holder: str) -> None:
    """Remove what `hold` wrote."""
    cursor.execute(f"DELETE FROM {TABLE} WHERE holder = %s", [holder])  # noqa: S608  (a constant)


def release_all(cursor: Any) -> None:
    """Remove what a restored database has of the backup that it is from, which held when it was copied."""
    cursor.execute("SELECT to_regclass(%s)", [TABLE])
    if cursor.fetchone()[0]:
        cursor.execute(f"DELETE FROM {TABLE}")  # noqa: S608  (a constant)


def begin_deletion(cursor: Any) -> datetime.datetime | None:
    """Begin a deletion, which lasts until the connection is closed or `end_deletion`.

    Returns:
        None, or the time until which nothing may be deleted: then the deletion has not begun.

    Raises:
        Failure: another deletion runs.
    """
    cursor.execute("SELECT pg_try_advisory_lock(%s)", [LOCK])
    if not cursor.fetchone()[0]:
        raise Failure("Another deletion is running, or a backup is just beginning")
    cursor.execute("SELECT to_regclass(%s)", [TABLE])
    until = None
    if cursor.fetchone()[0]:
        cursor.execute(f"SELECT max(until) FROM {TABLE} WHERE until > clock_timestamp()")  # noqa: S608  (a constant)
        until = cursor.fetchone()[0]
    if until:
        end_deletion(cursor)
    return until


def end_deletion(cursor: Any) -> None:
    """Let backups begin again."""
    cursor.execute("SELECT pg_advisory_unlock(%s)", [LOCK])
