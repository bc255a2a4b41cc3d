# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Delete for good what users deleted long ago: `python -m mlops_mlflow_server.garbage`.

Deleted runs, experiments and logged models stay in MLflow's database, with their artifacts in the object store, until
`mlflow gc` is called. This calls it, with what it lacks behind a server that proxies artifacts:

- Artifacts are deleted in the object store itself. MLflow's own way is by the server, as an administrator.
- All artifacts of a deleted experiment are deleted, those of its traces too, which `mlflow gc` leaves behind.
- An artifact is deleted only below the identifier of its run or model, which the server gave. A user who may choose
  the location of an experiment can't have the artifacts of another one deleted with it.
- Nothing is deleted while a backup copies (`mlops_mlflow_server.holds`).

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
from typing import Any

import click
import mlflow
import sqlalchemy
from mlflow.cli import gc
from mlflow.entities import ViewType
from mlflow.exceptions import InvalidUrlException, MlflowException
from mlflow.store.artifact.artifact_repository_registry import _artifact_repository_registry as registry
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from mlops_mlflow_server import holds
from mlops_mlflow_server.databases import Failure, engine_of, say, wait_for
from mlops_mlflow_server.settings import number

# Where the artifacts of one run or logged model are, below the location of their experiment.
OWN = re.compile(r"/([0-9a-f]{32}|m-[0-9a-f]{32})/artifacts/?$")
# https://mlflow.org/docs/latest/cli.html#mlflow-gc
AGE = re.compile(r"(?=\d)(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
_PARTS = ("days", "hours", "minutes", "seconds")
# The folder that the server gives an experiment.
FOLDER = re.compile(r"(?:workspaces/[^/]+/)?(\d+)")


def options(arguments: list[str] | None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(prog="mlops_mlflow_server.garbage", description="Delete what users deleted.")
    parser.add_argument("--artifacts-destination", required=True, help="artifact store, such as s3://mlflow")
    parser.add_argument(
        "--older-than", default="", help="how long ago it was deleted, such as 30d (default: list only)"
    )
    return parser.parse_args(arguments)


def age(text: str) -> datetime.timedelta:
    """Return how long 30d or 1d12h is.

    Raises:
        Failure: it is no such text.
    """
    found = AGE.fullmatch(text)
    if found is None:
        raise Failure(f"--older-than is '{text}': days, hours, minutes or seconds, such as 30d or 1d12h")
    return datetime.timedelta(**{name: int(part) for name, part in zip(_PARTS, found.groups(), strict=True) if part})


class Elsewhere:
    """Artifacts that are not deleted, since others may be at the same place."""

    def __init__(self, uri: str):
        self._uri = uri

    def delete_artifacts(self, _path: str | None = None) -> None:
        """Have `mlflow gc` go on without them."""
        raise InvalidUrlException(f"{self._uri} is not below the identifier of a run or model")


def at_destination(destination: str) -> None:
    """Have MLflow's registry find proxied artifacts in the object store, and only those that are `OWN` at all."""
    repositories = dict(registry.get_registered_artifact_repositories())

    def proxied(uri: str, tracking_uri: str | None = None, registry_uri: str | None = None) -> Any:
        path = urllib.parse.urlsplit(uri).path.strip("/")
        return get_artifact_repository(f"{destination.rstrip('/')}/{path}", tracking_uri, registry_uri)

    def guarded(scheme: str) -> Any:
        def repository(uri: str, tracking_uri: str | None = None, registry_uri: str | None = None) -> Any:
            if not OWN.search(uri) or ".." in uri.split("/"):
                return Elsewhere(uri)
            return repositories[scheme](uri, tracking_uri=tracking_uri, registry_uri=registry_uri)

        return repository

    repositories["mlflow-artifacts"] = proxied
    for scheme in repositories:
        registry.register(scheme, guarded(scheme))


def deleted_experiments(store: SqlAlchemyStore, before: int) -> list[Any]:
    """Return the experiments that were deleted before a time, in milliseconds since 1970."""
    found, token = [], None
    while True:
        page = store.search_experiments(
            view_type=ViewType.DELETED_ONLY, filter_string=f"last_update_time < {before}", page_token=token
        )
        found += page
        if not (token := page.token):
            return found


def own_folder(experiment: Any) -> str:
    """Return the path of the folder that only this experiment has, or nothing where it was given another location."""
    location = urllib.parse.urlsplit(experiment.artifact_location)
    folder = FOLDER.fullmatch(location.path.strip("/"))
    own = location.scheme == "mlflow-artifacts" and folder and folder[1] == experiment.experiment_id
    return location.path.strip("/") if own else ""


def listed(store: SqlAlchemyStore, milliseconds: int) -> dict[str, list[str]]:
    """Return the identifiers of what was deleted so many milliseconds ago or before, by kind."""
    before = int(time.time() * 1000) - milliseconds
    return {
        "runs": store._get_deleted_runs(older_than=milliseconds),
        "logged models": store._get_deleted_logged_models(older_than=milliseconds),
        "experiments": [each.experiment_id for each in deleted_experiments(store, before)],
    }


def delete(store: SqlAlchemyStore, destination: str, older_than: str, uri: str) -> None:
    """Delete what is older, first artifacts and then rows, so that an interrupted deletion can be repeated."""
    before = int((time.time() - age(older_than).total_seconds()) * 1000)
    repositories = dict(registry.get_registered_artifact_repositories())
    scheme = urllib.parse.urlsplit(destination).scheme
    for experiment in deleted_experiments(store, before):
        if folder := own_folder(experiment):
            repositories[scheme](f"{destination.rstrip('/')}/{folder}").delete_artifacts()
            say(f"The artifacts of experiment {experiment.experiment_id} have been permanently deleted.")
    at_destination(destination)
    mlflow.set_tracking_uri(uri)
    arguments = [f"--backend-store-uri={uri}", f"--artifacts-destination={destination}", f"--older-than={older_than}"]
    gc.main(arguments, standalone_mode=False)


def begin(connection: sqlalchemy.PoolProxiedConnection, patience: float) -> None:
    """Begin a deletion, when no backup copies.

    Args:
        connection: to MLflow's database, for as long as the deletion takes.
        patience: seconds to wait at most.

    Raises:
        Failure: there was a backup all the time, or another deletion runs.
    """
    end = time.monotonic() + patience
    reported = False
    while True:
        with connection.cursor() as cursor:
            until = holds.begin_deletion(cursor)
        connection.commit()
        if until is None:
            return
        if time.monotonic() >= end:
            raise Failure(f"A backup copies, until {until:%Y-%m-%d %H:%M} UTC at most: nothing is deleted meanwhile")
        if not reported:
            say("Waiting for a backup")
            reported = True
        time.sleep(min(10, max(0.1, end - time.monotonic())))


def main(arguments: list[str] | None = None) -> int:
    """Delete, or list; return the exit code."""
    given = options(arguments)
    try:
        milliseconds = int(age(given.older_than or "0s").total_seconds() * 1000)
        engine = engine_of("MLFLOW_BACKEND_STORE_URI")
        wait_for(engine, number("MLOPS_DATABASE_WAIT", 60.0))
        connection = engine.raw_connection()
        try:
            if given.older_than:
                begin(connection, number("MLOPS_HOLD_WAIT", 3600.0))
            uri = os.environ["MLFLOW_BACKEND_STORE_URI"]
            store = SqlAlchemyStore(uri, given.artifacts_destination)
            found = listed(store, milliseconds)
            past = f", {given.older_than} ago or before" if given.older_than else ""
            for kind, names in found.items():
                say(f"Deleted by users{past}: {len(names)} {kind}")
            if given.older_than:
                delete(store, given.artifacts_destination, given.older_than, uri)
            else:
                for kind, names in found.items():
                    for name in names:
                        say(f"{kind}: {name}")
                say("Nothing is deleted for good, since --older-than is not given")
        finally:
            # And with it the lock.
            connection.invalidate()
    except (Failure, ValueError, MlflowException, click.ClickException, sqlalchemy.exc.SQLAlchemyError) as error:
        print(" ".join(str(error).split()), file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
