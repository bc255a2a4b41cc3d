# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Dumps of databases by pg_dump, as parts of a backup: `python -m mlops_mlflow_server.dumps STEP [BACKUP]`.

- `upload`: encrypts the dumps by the passphrase while it uploads them (`mlops_mlflow_server.age_file`), and deletes
  them.
- `fetch`: downloads and opens those of a backup. It fails if any is not the one that was uploaded, before any is used.

They are in `/dumps` (`MLOPS_BACKUP_DUMPS`). Configuration and environment are those of `mlops_mlflow_server.backup`.
"""

import contextlib
import json
import os
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

from mlops_mlflow_server import age_file, buckets
from mlops_mlflow_server.backup import config, lowered, of_backup, passphrase, read_manifest, run, work
from mlops_mlflow_server.databases import Failure, say


def dump(database: str) -> pathlib.Path:
    """Return the path of a dump in the pod."""
    return pathlib.Path(os.environ.get("MLOPS_BACKUP_DUMPS", "/dumps"), f"{database}.dump")


def of_dump(backup: str, database: str) -> str:
    """Return the key of a dump."""
    return of_backup(backup, f"{database}.dump.age")


def upload(_arguments: list[str]) -> None:
    """Encrypt and upload the dumps, and write down what they are."""
    destination = buckets.opened(config(), "destination")
    backup = work("id").read_text().strip()
    found = {}
    for each in config()["dumps"]:
        path = dump(each["database"])
        with path.open("rb") as content:
            sealed = age_file.Stream(age_file.seal(content, passphrase()))
            destination.stream(of_dump(backup, each["database"]), sealed, path.stat().st_size)
        path.unlink()
        found[each["database"]] = {"size": sealed.size, "sha256": sealed.sha256()}
        say(f"The dump of {each['database']} has {sealed.size / (1 << 20):.1f} MiB")
    work("dumps.json").write_text(json.dumps(found))
    agreed = json.loads(work("agreement.json").read_text())
    lowered(agreed["databases"])
    work("agreement.json").write_text(json.dumps(agreed))


def content(destination: buckets.Bucket, known: dict[str, Any], database: str) -> Iterator[bytes]:
    """Return a dump of a backup in pieces, none of which is to be used before the last one has come.

    Args:
        destination: where backups are.
        known: the manifest.
        database: whose dump.

    Raises:
        Failure: it is not the one that was uploaded, or the passphrase does not open it.
    """
    backup, expected = known["id"], known["postgres"]["dumps"][database]
    try:
        body = destination.open(of_dump(backup, database))
    except FileNotFoundError:
        raise Failure(f"The backup {backup} has no dump of {database}") from None
    with contextlib.closing(body):
        source = age_file.Stream(iter(lambda: body.read(age_file.CHUNK), b""))
        try:
            yield from age_file.unseal(source, passphrase())
        except age_file.AgeFileError as error:
            raise Failure(f"The dump of {database} of the backup {backup} cannot be opened: {error}") from None
    if {"size": source.size, "sha256": source.sha256()} != expected:
        raise Failure(f"The dump of {database} of the backup {backup} is not the one of its manifest")


def databases(known: dict[str, Any]) -> list[str]:
    """Return the databases that a backup has dumps of.

    Raises:
        Failure: they are not those of the stack.
    """
    there, wanted = sorted(known["postgres"]["dumps"]), sorted(each["database"] for each in config()["dumps"])
    if there != wanted:
        raise Failure(
            f"The backup {known['id']} has the databases {', '.join(there)}, and the stack has {', '.join(wanted)}"
        )
    return there


def verify(destination: buckets.Bucket, known: dict[str, Any]) -> None:
    """Read all dumps of a backup.

    Raises:
        Failure: one is not whole, or they are not of the databases that would be restored.
    """
    for database in databases(known):
        for _piece in content(destination, known, database):
            pass


def fetch_all(destination: buckets.Bucket, known: dict[str, Any]) -> None:
    """Download and open the dumps of a backup.

    Raises:
        Failure: one is not whole, or they are not of the databases that would be restored.
    """
    for database in databases(known):
        with dump(database).open("wb") as file:
            for piece in content(destination, known, database):
                file.write(piece)
            say(f"The dump of {database} has {file.tell() / (1 << 20):.1f} MiB")


def fetch(arguments: list[str]) -> None:
    """Download and open the dumps of a backup."""
    destination = buckets.opened(config(), "destination")
    fetch_all(destination, read_manifest(destination, arguments[0]))


STEPS = {"upload": upload, "fetch": fetch}

if __name__ == "__main__":
    sys.exit(run(STEPS, sys.argv[1:]))
