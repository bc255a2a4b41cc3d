# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Permanently delete what users deleted some time ago: `python -m mlops_mlflow_server.garbage`.

Deleted runs, logged models and experiments stay in MLflow's database, with their artifacts in the object store, until
somebody deletes them permanently. `mlflow gc` does that, but asks the server for each artifact, ends at the first
problem, takes the artifacts of registered models along and leaves those of traces behind. Here:

- Artifacts are deleted in the object store itself, and rows only after the store has confirmed that.
- Artifacts are deleted only in the folder that has the identifier of their run, logged model or experiment. What is
  elsewhere is kept.
- What a version of a registered model uses is kept.
- Each row is looked at again just before it is deleted, and a problem with one does not keep others.
- Nothing is deleted while a backup is copying artifacts (`mlops_mlflow_server.holds`).

It reads `MLFLOW_BACKEND_STORE_URI` and the variables of boto3; libpq reads `PGUSER` and `PGPASSWORD`. The exit code is
0, or 1 with a one-sentence message.
"""

import argparse
import datetime
import os
import re
import sys
import time
import urllib.parse
from collections.abc import Callable
from typing import Any, NamedTuple

import psycopg2
import sqlalchemy
from botocore.exceptions import BotoCoreError, ClientError
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from mlops_mlflow_server import holds, jobs
from mlops_mlflow_server.databases import Failure, engine_of, say, wait_for
from mlops_mlflow_server.logs import complain
from mlops_mlflow_server.s3 import ProxiedS3ArtifactRepository
from mlops_mlflow_server.settings import number

AGE = re.compile(r"(?=.*[1-9])(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
_PARTS = ("days", "hours", "minutes", "seconds")
LONGEST = datetime.timedelta(days=36500)
# Traces that are deleted in one transaction, with their spans.
TRACES = 500


class Kind(NamedTuple):
    """What users delete.

    Attributes:
        name: its name, in messages.
        select: gives the identifier, name, location of the artifacts and time of deletion, in milliseconds since 1970,
            of what was deleted before `:before`.
        key: the column of the identifier.
    """

    name: str
    select: str
    key: str


_OLD = "lifecycle_stage = 'deleted' AND {0} < :before"
# Experiment 0 is made again by each start of the server, and has a place of its own in MLflow's pages.
_OLD_EXPERIMENT = f"{_OLD.format('last_update_time')} AND experiment_id <> 0"
RUN = Kind(
    "run",
    f"SELECT run_uuid AS id, name, artifact_uri AS location, deleted_time AS since FROM runs WHERE {_OLD.format('deleted_time')}",  # noqa: E501, S608  (a constant)
    "run_uuid",
)
# Deleting an experiment does not mark its logged models.
MODEL = Kind(
    "logged model",
    "SELECT model_id AS id, name, artifact_location AS location, last_updated_timestamp_ms AS since FROM logged_models "  # noqa: S608  (constants)
    f"WHERE (({_OLD.format('last_updated_timestamp_ms')}) "
    f"OR experiment_id IN (SELECT experiment_id FROM experiments WHERE {_OLD_EXPERIMENT}))",
    "model_id",
)
EXPERIMENT = Kind(
    "experiment",
    "SELECT CAST(experiment_id AS varchar) AS id, name, artifact_location AS location, last_update_time AS since "  # noqa: S608  (a constant)
    f"FROM experiments WHERE {_OLD_EXPERIMENT}",
    "experiment_id",
)
# In this order: an experiment goes when all that was in it is gone.
KINDS = (RUN, MODEL, EXPERIMENT)
_VERSION = (
    "SELECT name || ' ' || version FROM model_versions WHERE current_stage <> 'Deleted_Internal' AND (run_id = :id "
    "OR source LIKE '%' || :id || '%' OR storage_location LIKE '%' || :id || '%') LIMIT 1"
)
_LEFT = (
    "SELECT (SELECT count(*) FROM runs WHERE experiment_id = :id) "
    "+ (SELECT count(*) FROM logged_models WHERE experiment_id = :id)"
)
_NEIGHBOUR = "SELECT name FROM experiments WHERE experiment_id <> :id AND artifact_location ~ :place LIMIT 1"


class Kept(Exception):
    """Something is not deleted; the message says why, as the rest of a sentence."""


def options(arguments: list[str] | None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        prog="mlops_mlflow_server.garbage", description="Permanently delete what users deleted."
    )
    parser.add_argument("--artifacts-destination", required=True, help="artifact store, such as s3://mlflow")
    parser.add_argument("--older-than", default="", help="how long ago it was deleted, such as 30d (default: any time)")
    parser.add_argument("--delete", action="store_true", help="delete it (default: list it)")
    return parser.parse_args(arguments)


def age(text: str) -> datetime.timedelta:
    """Return how long 30d or 1d12h is.

    Raises:
        Failure: it is no such text, nothing, or more than 100 years.
    """
    found = AGE.fullmatch(text)
    parts = {name: int(part) for name, part in zip(_PARTS, found.groups(), strict=True) if part} if found else {}
    if not parts or max(parts.values()) > LONGEST.total_seconds() or datetime.timedelta(**parts) > LONGEST:
        raise Failure(f"--older-than is '{text}': days, hours, minutes or seconds, such as 30d or 1d12h")
    return datetime.timedelta(**parts)


class Store:
    """The object store, at the destination of artifacts.

    Args:
        destination: such as s3://mlflow.
    """

    def __init__(self, destination: str):
        self.destination = destination.rstrip("/")
        place = urllib.parse.urlsplit(self.destination)
        if place.scheme != "s3":
            raise Failure(f"--artifacts-destination is '{destination}', and must be a bucket, such as s3://mlflow")
        self._bucket, self._prefix = place.netloc, f"{place.path.strip('/')}/".lstrip("/")
        self._client = ProxiedS3ArtifactRepository(self.destination)._s3._get_s3_client()

    def folder(self, location: str) -> str:
        """Return the path of a location below the destination; nothing where it is elsewhere, or written oddly."""
        if location.startswith(f"{self.destination}/"):
            path = location.removeprefix(f"{self.destination}/")
        elif location.startswith("mlflow-artifacts:/") and not location.startswith("mlflow-artifacts://"):
            path = location.removeprefix("mlflow-artifacts:/")
        else:
            return ""
        path = path.rstrip("/")
        return path if re.fullmatch(r"[\w.-]+(/[\w.-]+)*", path, re.ASCII) and ".." not in path.split("/") else ""

    def empty(self, folder: str) -> None:
        """Delete all objects of a folder.

        Raises:
            Failure: the store keeps one.
        """
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=f"{self._prefix}{folder}/"
        )
        for page in pages:
            keys = [{"Key": each["Key"]} for each in page.get("Contents", [])]
            if keys:
                answer = self._client.delete_objects(Bucket=self._bucket, Delete={"Objects": keys, "Quiet": True})
                for error in answer.get("Errors", []):
                    raise Failure(f"the object store keeps {error.get('Key')}: {error.get('Code')}")


class Deletion:
    """Deletes what is old, one after the other.

    Args:
        connection: of MLflow's database, which has begun a deletion by `holds`.
        tracking: MLflow's store.
        store: where artifacts are.
        before: of what was deleted before this time, in milliseconds since 1970.
    """

    def __init__(self, connection: sqlalchemy.Connection, tracking: SqlAlchemyStore, store: Store, before: int):
        self._connection, self._tracking, self._store, self._before = connection, tracking, store, before
        self.deleted = self.kept = self.failed = 0

    def _one(self, statement: str, **values: Any) -> Any:
        """Return the first row, or None; an error ends the deletion, since the lock may be lost with the connection."""
        return self._connection.execute(sqlalchemy.text(statement), values).first()

    def delete(self, kind: Kind) -> None:
        """Delete all of a kind."""
        take: dict[Kind, Callable[[str, str], None]] = {
            RUN: self._run,
            MODEL: self._model,
            EXPERIMENT: self._experiment,
        }
        for identifier in [each.id for each in find(self._connection, kind, self._before)]:
            # Somebody may have restored it meanwhile.
            key: Any = int(identifier) if kind is EXPERIMENT else identifier
            row = self._one(f"{kind.select} AND {kind.key} = :id", before=self._before, id=key)
            if row is None:
                continue
            try:
                take[kind](identifier, row.location)
            except Kept as reason:
                self.kept += 1
                say(f"Kept {kind.name} {identifier}: {reason}")
            except (Failure, BotoCoreError, ClientError, MlflowException, sqlalchemy.exc.SQLAlchemyError) as error:
                self.failed += 1
                say(f"Not deleted: {kind.name} {identifier}: {' '.join(str(error).split())}")
            else:
                self.deleted += 1
                say(f"Deleted {kind.name} {identifier}")

    def _artifacts(self, identifier: str, location: str) -> None:
        """Delete the artifacts of a run or logged model that nothing else uses."""
        if version := self._one(_VERSION, id=identifier):
            raise Kept(f"version {version[0]} of a registered model uses it")
        folder = self._store.folder(location)
        if folder.split("/")[-2:] != [identifier, "artifacts"]:
            raise Kept(f"its artifacts are at {location}, and not in a folder of its own in {self._store.destination}")
        self._store.empty(folder)

    def _run(self, identifier: str, location: str) -> None:
        self._artifacts(identifier, location)
        self._tracking._hard_delete_run(identifier)

    def _model(self, identifier: str, location: str) -> None:
        self._artifacts(identifier, location)
        self._tracking._hard_delete_logged_model(identifier)

    def _experiment(self, identifier: str, location: str) -> None:
        number_of = self._one(_LEFT, id=int(identifier))[0]
        if number_of:
            raise Kept(f"it has {number_of} runs and logged models that are kept")
        if neighbour := self._one(_NEIGHBOUR, id=int(identifier), place=f"/{identifier}(/|$)"):
            raise Kept(f"artifacts of the experiment {neighbour[0]} may be in its folder")
        if self._store.folder(location) == identifier:
            self._store.empty(identifier)
        else:
            say(
                f"What else is at {location} is kept: it is not the folder that the server gave experiment {identifier}"
            )
        # With their spans: in one transaction they might not fit into memory.
        while self._tracking.delete_traces(identifier, max_timestamp_millis=2**53, max_traces=TRACES):
            pass
        self._tracking._hard_delete_experiment(identifier)


def find(connection: sqlalchemy.Connection, kind: Kind, before: int) -> list[Any]:
    """Return all of a kind that was deleted before a time, the oldest first."""
    return list(connection.execute(sqlalchemy.text(f"{kind.select} ORDER BY since"), {"before": before}))


def show(connection: sqlalchemy.Connection, before: int) -> None:
    """List what was deleted before a time."""
    for kind in KINDS:
        for each in find(connection, kind, before):
            since = datetime.datetime.fromtimestamp((each.since or 0) / 1000, datetime.UTC)
            say(f"{kind.name} {each.id}, deleted {since:%Y-%m-%d %H:%M} UTC: {each.name}")
    say("Nothing is deleted permanently, without --delete")


def begin(connection: sqlalchemy.Connection, patience: float) -> None:
    """Begin a deletion, when no backup is copying.

    Args:
        connection: to MLflow's database, for as long as the deletion takes.
        patience: seconds to wait at most.

    Raises:
        Failure: there was a backup all the time, or another deletion runs.
    """
    end = time.monotonic() + patience
    reported = False
    while True:
        with connection.connection.cursor() as cursor:
            until = holds.begin_deletion(cursor)
        if until is None:
            return
        if time.monotonic() >= end:
            raise Failure(f"Nothing is deleted: a backup has not ended, and holds it until {until:%Y-%m-%d %H:%M} UTC")
        if not reported:
            say("Waiting for a backup")
            reported = True
        time.sleep(min(10, max(0.1, end - time.monotonic())))


def collect(given: argparse.Namespace) -> None:
    """Delete, or list.

    Raises:
        Failure: something could not be deleted.
    """
    older = age(given.older_than) if given.older_than or given.delete else datetime.timedelta()
    before = int((time.time() - older.total_seconds()) * 1000)
    store = Store(given.artifacts_destination)
    engine = engine_of("MLFLOW_BACKEND_STORE_URI")
    wait_for(engine, number("MLOPS_DATABASE_WAIT", 60.0))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if not given.delete:
            show(connection, before)
            return
        begin(connection, number("MLOPS_HOLD_WAIT", 3600.0))
        # As the server has it: the store makes experiment 0 there, if that is missing.
        tracking = SqlAlchemyStore(os.environ["MLFLOW_BACKEND_STORE_URI"], "mlflow-artifacts:/")
        deletion = Deletion(connection, tracking, store, before)
        for kind in KINDS:
            deletion.delete(kind)
        say(f"{deletion.deleted} deleted, {deletion.kept} kept, {deletion.failed} failed")
        if deletion.failed:
            raise Failure(f"{deletion.failed} could not be deleted, and will be tried again by the next Job")
        with connection.connection.cursor() as cursor:
            jobs.record(cursor, jobs.CLEANUP)


def main(arguments: list[str] | None = None) -> int:
    """Delete, or list; return the exit code."""
    try:
        collect(options(arguments))
    except (Failure, ValueError, MlflowException, psycopg2.Error, sqlalchemy.exc.SQLAlchemyError) as error:
        complain(" ".join(str(error).split()))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
