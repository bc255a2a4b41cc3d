# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Count what is stored, for metrics: in one worker of a pod, every `MLOPS_COUNT_INTERVAL` seconds.

A table with more than `MOST_COUNTED` rows is not counted: PostgreSQL's own estimate is taken, which `ANALYZE` and
autovacuum renew. So a count reads a limited number of rows, however many there are.
"""

import fcntl
import logging
import os
import pathlib
import threading
import time
from collections.abc import Iterable
from typing import Any

import psycopg2
import sqlalchemy

from mlops_mlflow_server import jobs, metrics
from mlops_mlflow_server.databases import because
from mlops_mlflow_server.settings import number

_logger = logging.getLogger("mlflow.mlops")

MOST_COUNTED = 100_000
SECONDS = 600.0
TIMEOUT = "10s"
# Tables of MLflow, and of both login modes, by the kinds of `mlflow_objects`.
TRACKING = {
    "runs": "runs",
    "experiments": "experiments",
    "registered models": "registered_models",
    "model versions": "model_versions",
    "logged models": "logged_models",
    "traces": "trace_info",
    "spans": "spans",
}
USERS = {"users": "users"}
# Anybody may read this view. It has no times where nothing is archived.
ARCHIVED = "SELECT extract(epoch FROM last_archived_time), extract(epoch FROM last_failed_time) FROM pg_stat_archiver"


def size(cursor: Any, table: str) -> int | None:
    """Return the number of rows of a table, estimated if there are many; None if there is no such table."""
    cursor.execute("SELECT reltuples FROM pg_class WHERE oid = to_regclass(%s)", [table])
    row = cursor.fetchone()
    if row is None:
        return None
    # -1 before the first ANALYZE.
    if row[0] > MOST_COUNTED:
        return int(row[0])
    cursor.execute(
        f"SELECT count(*) FROM (SELECT FROM {table} LIMIT %s) AS rows",  # noqa: S608  (a constant)
        [MOST_COUNTED + 1],
    )
    return cursor.fetchone()[0]


def count(engine: sqlalchemy.Engine, tables: dict[str, str]) -> None:
    """Count these tables of a database, and read there when Jobs ended, and how archiving goes."""
    with engine.connect() as connection, connection.connection.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = %s", [TIMEOUT])
        for kind, table in tables.items():
            if (found := size(cursor, table)) is not None:
                metrics.OBJECTS.labels(kind).set(found)
        if tables is not TRACKING:
            return
        for job, (when, stored) in jobs.ended(cursor).items():
            metrics.JOBS.labels(job).set(when)
            if job == jobs.BACKUP and stored is not None:
                metrics.ARTIFACT_BYTES.set(stored)
        cursor.execute(ARCHIVED)
        for result, at in zip(("archived", "failed"), cursor.fetchone(), strict=True):
            if at is not None:
                metrics.WAL.labels(result).set(float(at))


def _count_all(engines: list[tuple[sqlalchemy.Engine, dict[str, str]]]) -> None:
    for engine, tables in engines:
        try:
            count(engine, tables)
        except (sqlalchemy.exc.SQLAlchemyError, psycopg2.Error) as error:
            _logger.warning("What is stored could not be counted: %s", because(error))
            return
    metrics.COUNTED.set_to_current_time()


def _run(folder: str, interval: float, engines: list[tuple[sqlalchemy.Engine, dict[str, str]]]) -> None:
    with (pathlib.Path(folder) / "counting").open("w") as lock:
        # Until the worker that counts ends.
        fcntl.flock(lock, fcntl.LOCK_EX)
        while True:
            _count_all(engines)
            time.sleep(interval)


def begin(users: Iterable[str]) -> threading.Thread | None:
    """Count from now on, in a thread, unless another worker of this pod does; return the thread, if any.

    Args:
        users: URIs of the databases of users.

    Raises:
        ValueError: `MLOPS_COUNT_INTERVAL` is not a number of at least 10.
    """
    interval = number("MLOPS_COUNT_INTERVAL", SECONDS, minimum=10)
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    uris = [(os.environ["MLFLOW_BACKEND_STORE_URI"], TRACKING), *((uri, USERS) for uri in users)]
    engines = [
        (sqlalchemy.create_engine(uri, poolclass=sqlalchemy.pool.NullPool), tables)
        for uri, tables in uris
        if uri.startswith("postgresql")
    ]
    if not folder or not engines:
        return None
    thread = threading.Thread(target=_run, args=(folder, interval, engines), name="mlops-counts", daemon=True)
    thread.start()
    return thread
