# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Move the spans of old traces to the object store, and delete older traces: `python -m mlops_mlflow_server.archive`.

MLflow keeps the spans of traces in its database. `--older-than` has it move them to the artifacts of their traces, in
the folder of their experiment: who may read and write that is who may do so with the traces. The server reads them
there, so users see no difference, but searches by attributes of spans no longer find them. MLflow does that by itself
only in a server that runs jobs, which ours do not. An experiment may ask for an earlier time by MLflow's own tag
(`mlflow.trace.archivalRetention`), and for all at once (`mlflow.trace.archiveNow`).
`--delete-older-than` deletes traces, archived or not, with their artifacts.

- Work is done a few hundred traces at a time, within a deletion of `mlops_mlflow_server.holds`: none while a backup is
  copying artifacts, and a backup that begins waits for one such turn only.
- A trace that could not be archived or deleted keeps no others from it.

It reads the same variables as `mlops_mlflow_server.garbage`. The exit code is 0, or 1 with a one-sentence message.
"""

import argparse
import datetime
import os
import re
import sys
import time
from collections.abc import Callable
from typing import Any

import psycopg2
import sqlalchemy
from botocore.exceptions import BotoCoreError, ClientError
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from mlops_mlflow_server import garbage, holds, jobs
from mlops_mlflow_server.databases import Failure, engine_of, say, wait_for
from mlops_mlflow_server.settings import number

# Of MLflow: https://mlflow.org/docs/latest/genai/tracing/
AGE = re.compile(r"([1-9]\d*)([dhm])")
_UNITS = {"d": "days", "h": "hours", "m": "minutes"}
# Traces of a turn: what is moved while a backup waits.
TURN = 500
SHOWN_DAYS = (30, 90, 365)
REST = "; the rest is left to the next Job, since a backup begins"
# Traces are named by clients; only such a name is taken for a folder's.
_NAME = re.compile(r"[\w-]+", re.ASCII)
_OLD = (
    "SELECT t.request_id AS id, CAST(t.experiment_id AS varchar) AS experiment, e.artifact_location AS location "
    "FROM trace_info t JOIN experiments e ON e.experiment_id = t.experiment_id "
    "WHERE t.timestamp_ms < :before AND t.request_id <> ALL(:kept) ORDER BY t.timestamp_ms, t.request_id LIMIT :most"
)
_LIST = (
    "SELECT e.experiment_id, e.name, count(*) AS traces, count(a.value) AS archived, {counts} FROM trace_info t "
    "JOIN experiments e ON e.experiment_id = t.experiment_id LEFT JOIN trace_tags a ON a.request_id = t.request_id "
    "AND a.key = 'mlflow.trace.archiveLocation' GROUP BY e.experiment_id, e.name ORDER BY traces DESC"
)


def options(arguments: list[str] | None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        prog="mlops_mlflow_server.archive", description="Archive the spans of old traces, and delete older traces."
    )
    parser.add_argument("--artifacts-destination", required=True, help="artifact store, such as s3://mlflow")
    parser.add_argument("--older-than", default="", help="archive traces that are older, such as 30d")
    parser.add_argument("--delete-older-than", default="", help="delete traces that are older, such as 365d")
    parser.add_argument("--list", action="store_true", help="show how many traces there are, and how old")
    return parser.parse_args(arguments)


def age(option: str, text: str) -> datetime.timedelta:
    """Return how long 30d is.

    Raises:
        Failure: it is no such text, or more than 100 years.
    """
    found = AGE.fullmatch(text)
    # Digits without end would not fit into a number of days.
    if found and len(found[1]) <= len(str(garbage.LONGEST.days * 24 * 60)):
        span = datetime.timedelta(**{_UNITS[found[2]]: int(found[1])})
        if span <= garbage.LONGEST:
            return span
    raise Failure(f"{option} is '{text}': days, hours or minutes, such as 30d or 12h")


def milliseconds(since: datetime.timedelta) -> int:
    """Return the time that is so long ago, in milliseconds since 1970."""
    return int((time.time() - since.total_seconds()) * 1000)


class Archival:
    """Archives and deletes traces.

    Args:
        connection: to MLflow's database, on which `holds` keeps its lock.
        tracking: MLflow's store.
        store: where artifacts are.
    """

    def __init__(self, connection: sqlalchemy.Connection, tracking: SqlAlchemyStore, store: garbage.Store):
        self._connection, self._tracking, self._store = connection, tracking, store
        self._kept: list[str] = []

    def left(self, older_than: str) -> int:
        """Return how many traces could be archived and are not."""
        with self._tracking.ManagedSessionMaker() as session:
            _requests, found = self._tracking._plan_trace_archival(
                session=session,
                now_millis=milliseconds(datetime.timedelta()),
                broader_retention_millis=int(age("--older-than", older_than).total_seconds() * 1000),
                long_retention_allowlist=set(),
                max_traces_per_pass=None,
            )
        return len(found)

    def _in_turns(self, act: Callable[[], int]) -> tuple[int, bool]:
        """Repeat what returns a number until it is 0.

        Returns:
            The sum, and whether it came to its end: a backup goes first.
        """
        total = 0
        garbage.begin(self._connection, number("MLOPS_HOLD_WAIT", 3600.0))
        while done := act():
            total += done
            with self._connection.connection.cursor() as cursor:
                holds.end_deletion(cursor)
                try:
                    until: object = holds.begin_deletion(cursor)
                except Failure as reason:  # a backup had waited for the lock
                    until = reason
            if until:
                return total, False
        with self._connection.connection.cursor() as cursor:
            holds.end_deletion(cursor)
        return total, True

    def archive(self, older_than: str) -> bool:
        """Archive all traces that are older; return whether none of them is left."""

        def act() -> int:
            return self._tracking.archive_traces(
                resolved_trace_archival_location=self._store.destination,
                broader_retention=older_than,
                max_traces_per_pass=TURN,
            )

        total, ended = self._in_turns(act)
        say(f"Archived {total} traces to {self._store.destination}{'' if ended else REST}")
        left = self.left(older_than) if ended else 0
        if left:
            say(f"Not archived: {left} traces, see above")
        return not left

    def delete(self, older_than: str) -> bool:
        """Delete all traces that are older, with their artifacts; return whether none of them is left."""
        before = milliseconds(age("--delete-older-than", older_than))
        total, ended = self._in_turns(lambda: self._delete_some(before))
        total -= len(self._kept)
        say(f"Deleted {total} traces{'' if ended else REST}")
        return not self._kept

    def _delete_some(self, before: int) -> int:
        """Delete the traces of one turn; return how many were tried."""
        values = {"before": before, "kept": self._kept, "most": TURN}
        rows = list(self._connection.execute(sqlalchemy.text(_OLD), values))
        by_experiment: dict[str, list[str]] = {}
        for row in rows:
            try:
                self._empty(row.experiment, row.location, row.id)
            except (Failure, BotoCoreError, ClientError) as error:
                self._keep(row.id, error)
            else:
                by_experiment.setdefault(row.experiment, []).append(row.id)
        for experiment, traces in by_experiment.items():
            try:
                self._tracking.delete_traces(experiment, trace_ids=traces)
            except (MlflowException, sqlalchemy.exc.SQLAlchemyError) as error:
                for trace in traces:
                    self._keep(trace, error)
        there = self._there([row.id for row in rows])
        for trace in there - set(self._kept):
            # MLflow has logged why.
            self._keep(trace, Failure("its archived spans could not be deleted"))
        return len(rows)

    def _empty(self, experiment: str, location: str, trace: str) -> None:
        # In the folder that the server gave the experiment, and in no other.
        if self._store.folder(location) == experiment and _NAME.fullmatch(trace):
            self._store.empty(f"{experiment}/traces/{trace}")

    def _there(self, traces: list[str]) -> set[str]:
        statement = sqlalchemy.text("SELECT request_id FROM trace_info WHERE request_id = ANY(:traces)")
        return set(self._connection.execute(statement, {"traces": traces}).scalars())

    def _keep(self, trace: str, error: Exception) -> None:
        self._kept.append(trace)
        say(f"Not deleted: trace {trace}: {' '.join(str(error).split())}")


def show(connection: sqlalchemy.Connection) -> None:
    """Say how many traces there are, and how old they are."""
    counts = ", ".join(
        f"count(*) FILTER (WHERE t.timestamp_ms < {milliseconds(datetime.timedelta(days))}) AS older_{days}"
        for days in SHOWN_DAYS
    )
    for row in connection.execute(sqlalchemy.text(_LIST.format(counts=counts))):
        ages = ", ".join(f"{getattr(row, f'older_{days}')} older than {days}d" for days in SHOWN_DAYS)
        say(f"experiment {row.experiment_id}: {row.traces} traces, {row.archived} of them archived; {ages}: {row.name}")
    say("Nothing is archived or deleted, with --list")


def collect(given: argparse.Namespace) -> None:
    """Archive and delete, or list.

    Raises:
        Failure: something could not be archived or deleted.
    """
    for option, text in (("--older-than", given.older_than), ("--delete-older-than", given.delete_older_than)):
        if text:
            age(option, text)
    store = garbage.Store(given.artifacts_destination)
    engine = engine_of("MLFLOW_BACKEND_STORE_URI")
    wait_for(engine, number("MLOPS_DATABASE_WAIT", 60.0))
    tracking = SqlAlchemyStore(os.environ["MLFLOW_BACKEND_STORE_URI"], "mlflow-artifacts:/")
    whole = True
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if given.list:
            show(connection)
            return
        archival = Archival(connection, tracking, store)
        # First what need not be archived any more.
        steps: list[tuple[str, Callable[[str], bool]]] = [
            (given.delete_older_than, archival.delete),
            (given.older_than, archival.archive),
        ]
        for text, act in steps:
            whole = (not text or act(text)) and whole
        if whole:
            with connection.connection.cursor() as cursor:
                jobs.record(cursor, jobs.TRACES)
    if not whole:
        raise Failure("Some traces were left as they are, and will be tried again by the next Job")


def main(arguments: list[str] | None = None) -> int:
    """Archive and delete, or list; return the exit code."""
    errors: Any = (Failure, ValueError, MlflowException, psycopg2.Error, sqlalchemy.exc.SQLAlchemyError)
    try:
        collect(options(arguments))
    except errors as error:
        print(" ".join(str(error).split()), file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
