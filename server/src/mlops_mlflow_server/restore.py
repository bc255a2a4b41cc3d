# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Steps of a restore: `python -m mlops_mlflow_server.restore STEP BACKUP [TIME]`.

- `list`: prints the whole backups, and when a drill has restored one.
- `look`: writes down the manifest of the backup that is restored, after it has seen that the passphrase opens its keys,
  and that dumps are whole. BACKUP is an ID or `latest`. With TIME (ISO 8601), the databases are restored to that time,
  and the backup is the first one after it, or else the last one before it. `verify.sh` then verifies the databases of
  pgBackRest, and prints the manifest.
- `secrets`: creates the Secrets of the backup that the cluster lacks, in the namespaces of the configuration.
- `objects`: copies the objects of the backup that the bucket lacks. With TIME, also those of the backup before, which
  rows may name at that time, and which were permanently deleted before the backup.
- `verify`: compares schemas and numbers of rows of the restored databases with the manifest's, and lets deletions go
  on, which the backup held. With TIME, both may be others, since a migration may have been in between.

What `list` prints for the playbook is the last line of the log. Configuration and environment are those of
`mlops_mlflow_server.backup`.
"""

import datetime
import json
import sys
from typing import Any

from mlops_mlflow_server import buckets, dumps, holds, vault_file
from mlops_mlflow_server.backup import (
    FORMAT,
    KEYS,
    OBJECTS,
    PG_DUMP,
    PGBACKREST,
    config,
    connected,
    described,
    manifests,
    method_of,
    newest_list,
    of_backup,
    of_drill,
    parts,
    passphrase,
    read_manifest,
    run,
    work,
)
from mlops_mlflow_server.cluster import Cluster
from mlops_mlflow_server.databases import Failure, say

SHOWN = 10


def moment(text: str) -> datetime.datetime:
    """Read a time in ISO 8601; without an offset it is in UTC.

    Raises:
        Failure: it is none.
    """
    try:
        found = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise Failure(f"The time '{text}' is no time such as 2026-11-30T02:00:00+00:00") from None
    return found if found.tzinfo else found.replace(tzinfo=datetime.UTC)


def choose(whole: list[dict[str, Any]], backup: str, time: str, method: str = PGBACKREST) -> dict[str, Any]:
    """Return the manifest of the backup to restore, with `target` as pgBackRest takes it, and the label of its `base`.

    Args:
        whole: manifests, the oldest first.
        backup: an ID, or `latest`.
        time: the time to which databases are restored; empty for that of the backup.
        method: how databases are backed up and restored.

    Raises:
        Failure: there is no such backup, or it does not reach back to the time.
    """
    others = [each["id"] for each in whole if method_of(each) != method]
    if backup in others:
        raise Failure(f"The backup {backup} was not made with backup_method {method}: restore it with the other one")
    whole = [each for each in whole if each["id"] not in others]
    if not whole:
        by = f" that was made with backup_method {method}" if others else ""
        raise Failure(f"There is no whole backup at the destination{by}")
    if method == PG_DUMP and time:
        raise Failure(f"The time {time} cannot be restored: a dump has the databases of its own time only")
    last = ", ".join(each["id"] for each in whole[-SHOWN:])
    if backup != "latest" and backup not in {each["id"] for each in whole}:
        raise Failure(f"There is no whole backup {backup}; the last ones are {last}")
    if not time:
        chosen = next(each for each in reversed(whole) if backup in ("latest", each["id"]))
        known = chosen["postgres"]
        if method == PG_DUMP:
            return {**chosen, "target": {"type": "dump", "target": chosen["time"]}, "warning": ""}
        target = {"type": "lsn", "target": known["lsn"], "timeline": str(known["timeline"]), "set": known["label"]}
        return {**chosen, "target": target, "base": known["label"], "warning": ""}
    wanted = moment(time)
    if wanted < moment(whole[0]["time"]):
        raise Failure(f"The time {time} is before the first backup, which reaches back to {whole[0]['time']}")
    if wanted > datetime.datetime.now(datetime.UTC):
        raise Failure(f"The time {time} is in the future")
    after = [each for each in whole if moment(each["time"]) >= wanted]
    # From this one pgBackRest recovers to the time.
    (*_earlier, base) = [each for each in whole if moment(each["time"]) <= wanted]
    chosen = next((each for each in whole if each["id"] == backup), (after or whole[-1:])[0])
    warning = ""
    if moment(chosen["time"]) < wanted:
        warning = f"artifacts that were written after {chosen['time']} are in no backup"
    # History may have branched at an earlier restore: the databases follow the one that the backup is of.
    timeline = str(chosen["postgres"]["timeline"]) if after else "latest"
    target = {"type": "time", "target": wanted.isoformat(sep=" "), "timeline": timeline, "set": ""}
    return {**chosen, "target": target, "base": base["postgres"]["label"], "warning": warning}


def opened(destination: buckets.Bucket, backup: str) -> list[dict[str, Any]]:
    """Return the Secrets of a backup.

    Raises:
        Failure: the passphrase does not open them.
    """
    content = destination.read(of_backup(backup, KEYS))
    if content is None:
        raise Failure(f"The backup {backup} has no keys")
    try:
        return json.loads(vault_file.unseal(content.decode(), passphrase()))["items"]
    except vault_file.VaultFileError as error:
        raise Failure(f"The keys of the backup {backup} cannot be opened: {error}") from None


def objects_of(destination: buckets.Bucket, backup: str) -> bytes:
    """Return the list of a backup's objects, as `buckets.read_list` reads it.

    Raises:
        Failure: there is none.
    """
    content = destination.read(of_backup(backup, OBJECTS))
    if content is None:
        raise Failure(f"The backup {backup} has no list of objects")
    return content


def show(_arguments: list[str]) -> None:
    """Print the whole backups, and the IDs of what is none, as a line of JSON."""
    destination = buckets.opened(config(), "destination")
    whole = manifests(destination)
    for each in whole:
        record = destination.read(of_drill(each["id"]))
        each["drill"] = json.loads(record)["time"] if record else ""
    say(json.dumps({"whole": whole, "parts": parts(destination, whole)}))


def look(arguments: list[str]) -> None:
    """Write down the manifest of the backup to restore, and the label of the databases that it begins with."""
    destination = buckets.opened(config(), "destination")
    method = config()["method"]
    chosen = choose(manifests(destination), arguments[0], " ".join(arguments[1:]), method)
    if chosen["format"] > FORMAT:
        raise Failure(f"The backup {chosen['id']} is of a newer version of the collection")
    opened(destination, chosen["id"])
    count = sum(1 for _each in buckets.read_list(objects_of(destination, chosen["id"])))
    if count != chosen["objects"]["count"]:
        raise Failure(f"The list of objects of {chosen['id']} has {count} instead of {chosen['objects']['count']}")
    major, image = chosen["postgres"]["version"].partition(".")[0], work("version").read_text().strip()
    # pg_restore reads dumps of older versions too.
    if major != image and (method == PGBACKREST or int(major) > int(image)):
        raise Failure(
            f"The backup {chosen['id']} is of PostgreSQL {major}, and postgres_image is PostgreSQL {image}: "
            f"restore it with an image of PostgreSQL {major}"
        )
    if method == PG_DUMP:
        dumps.verify(destination, chosen)
    else:
        (stanza,) = json.loads(work("info.json").read_text())
        if chosen["postgres"]["label"] not in {each["label"] for each in stanza.get("backup", [])}:
            raise Failure(f"pgBackRest has no backup {chosen['postgres']['label']}, which {chosen['id']} is of")
        work("label").write_text(chosen["base"])
    work("manifest.json").write_text(json.dumps(chosen))


def secrets(arguments: list[str]) -> None:
    """Create the Secrets that the cluster lacks."""
    destination = buckets.opened(config(), "destination")
    cluster, asked = Cluster(), config()["secrets"]
    places = {*asked["names"], asked.get("sealing")}
    for secret in opened(destination, arguments[0]):
        place = f"{secret['metadata']['namespace']}/{secret['metadata']['name']}"
        if secret["metadata"]["namespace"] not in places:
            say(f"{place} is left out, since its namespace is not the stack's")
        else:
            say(f"{place} is {'restored' if cluster.create(secret) else 'there, and stays as it is'}")


def objects(arguments: list[str]) -> None:
    """Copy the objects that the bucket lacks."""
    bucket, destination = buckets.opened(config(), "source"), buckets.opened(config(), "destination")
    listed = objects_of(destination, arguments[0])
    counts = buckets.Counts()
    copy = destination.below("objects")
    missing = buckets.copy_back(copy, bucket, buckets.read_list(listed), counts)
    if len(arguments) > 1 and (former := newest_list(destination, before=arguments[0])) is not None:
        missing += buckets.copy_back(copy, bucket, buckets.read_list(former), more := buckets.Counts())
        say(f"Of the backup before: {more}")
    # The last line is shown.
    say(str(counts))
    if missing:
        raise Failure(f"{len(missing)} objects of {arguments[0]} are not at its destination: {missing[:SHOWN]}")


def differences(backed_up: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """Return what a restored database lacks of that in a manifest, in words."""
    lacks = [
        f"{table} is at {found['heads'].get(table)} instead of {heads}"
        for table, heads in backed_up["heads"].items()
        if found["heads"].get(table) != heads
    ]
    # Rows that were added while the others were counted are there too.
    return lacks + [
        f"{table} has {found['rows'].get(table, 'no')} rows instead of {rows}"
        for table, rows in backed_up["rows"].items()
        if rows is not None and (now := found["rows"].get(table, 0)) is not None and now < rows
    ]


def total(described_database: dict[str, Any]) -> int:
    """Return how many rows of a database were counted."""
    return sum(rows or 0 for rows in described_database["rows"].values())


def verify(arguments: list[str]) -> None:
    """Compare the restored databases with the manifest."""
    destination = buckets.opened(config(), "destination")
    known = read_manifest(destination, arguments[0])
    problems = []
    for name, backed_up in known["databases"].items():
        with connected(name) as cursor:
            found = described(cursor)
        if len(arguments) == 1:
            problems += [f"{name}: {each}" for each in differences(backed_up, found)]
        elif not found["heads"]:
            problems.append(f"{name} has no schema")
        say(f"{name}: {found['heads']}, {total(found)} rows, in the backup {total(backed_up)}")
    if problems:
        raise Failure(f"The databases are not those of the backup {arguments[0]}: {'; '.join(problems)}")
    with connected(config()["databases"][0], writes=True) as cursor:
        holds.release_all(cursor)


STEPS = {"list": show, "look": look, "secrets": secrets, "objects": objects, "verify": verify}

if __name__ == "__main__":
    sys.exit(run(STEPS, sys.argv[1:]))
