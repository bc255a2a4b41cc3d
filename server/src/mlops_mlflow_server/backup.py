# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Steps of a backup: `python -m mlops_mlflow_server.backup STEP`.

pgBackRest has backed the databases up before; `pg_dump` dumps them after the first step, and then
`mlops_mlflow_server.dumps` uploads the dumps. The steps are, in this order:

- `agreement`: writes down the point that the databases are restored to, with their schemas and numbers of rows. What
  rows name at this point is in the bucket, so the bucket is copied after it, and until then nothing is permanently
  deleted (`mlops_mlflow_server.holds`).
- `objects`: copies the bucket.
- `keys`: encrypts the stack's Secrets by the passphrase, and uploads them.
- `manifest`: uploads the manifest, without which there is no backup, and removes those of backups that pgBackRest has
  removed, or backups by dumps that are no longer to be kept.

`/etc/backup/backup.json` (`MLOPS_BACKUP_CONFIG`) says what is backed up to where, and steps hand results to one
another in files of `/work` (`MLOPS_BACKUP_WORK`). Credentials are environment variables: `AWS_ACCESS_KEY_ID` and
`AWS_SECRET_ACCESS_KEY` of the bucket, `MLOPS_BACKUP_ACCESS_KEY_ID` and `MLOPS_BACKUP_SECRET_ACCESS_KEY` of the
destination, `PGUSER` and `PGPASSWORD`, and `MLOPS_BACKUP_PASSPHRASE`. The exit code is 0, or 1 with a one-sentence
message, which is also the container's termination message.
"""

import base64
import collections
import contextlib
import datetime
import importlib.metadata
import json
import os
import pathlib
import socket
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import botocore.exceptions
import psycopg2
from psycopg2 import sql

from mlops_mlflow_server import buckets, holds, jobs, vault_file
from mlops_mlflow_server.cluster import Cluster, fingerprint
from mlops_mlflow_server.databases import BUSY, WINDOWS, Failure, say

FORMAT = 1
MANIFEST, KEYS, OBJECTS = "manifest.json", "keys.vault", "objects.json.gz"
PASSPHRASE_LENGTH = 20
SEALING_KEY = "sealedsecrets.bitnami.com/sealed-secrets-key"
# Ways to back databases up. A manifest of the second has `dumps`.
PGBACKREST, PG_DUMP = "pgbackrest", "pg_dump"
# What databases are restored to, with time and version of the server. A dump is of its own moment.
POINTS = {
    PGBACKREST: (
        "SELECT lsn, substr(pg_walfile_name(lsn), 1, 8), clock_timestamp(), current_setting('server_version') "
        "FROM pg_current_wal_insert_lsn() AS lsn"
    ),
    PG_DUMP: "SELECT NULL, NULL, clock_timestamp(), current_setting('server_version')",
}
# Tables with more rows, by PostgreSQL's own estimate, are not counted, since that takes minutes.
MOST_ROWS = 1_000_000
# Rows of these come and go by themselves.
FLEETING = ("auth_sessions", "auth_states", holds.TABLE, jobs.TABLE, WINDOWS, BUSY)
# https://kubernetes.io/docs/tasks/debug/debug-application/determine-reason-pod-failure/
MESSAGE = pathlib.Path("/dev/termination-log")


def now() -> str:
    """Return this moment in ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def config() -> dict[str, Any]:
    """Return what is backed up to where."""
    return json.loads(pathlib.Path(os.environ.get("MLOPS_BACKUP_CONFIG", "/etc/backup/backup.json")).read_text())


def work(name: str) -> pathlib.Path:
    """Return the path of a file that steps hand to one another."""
    return pathlib.Path(os.environ.get("MLOPS_BACKUP_WORK", "/work"), name)


def holder() -> str:
    """Return who keeps things from being deleted: this pod, since a second backup may run beside it."""
    return f"backup {socket.gethostname()}"


def passphrase() -> str:
    """Return the passphrase.

    Raises:
        Failure: it is too short to protect what is encrypted by it.
    """
    found = os.environ["MLOPS_BACKUP_PASSPHRASE"]
    if len(found) < PASSPHRASE_LENGTH:
        raise Failure(f"The passphrase has fewer than {PASSPHRASE_LENGTH} characters")
    return found


def of_backup(backup: str, name: str) -> str:
    """Return the key of a backup's file."""
    return f"backups/{backup}/{name}"


def of_drill(backup: str) -> str:
    """Return the key of what a drill has written of a backup."""
    return f"drills/{backup}.json"


def manifests(destination: buckets.Bucket) -> list[dict[str, Any]]:
    """Return the manifests of all whole backups, the oldest first."""
    found = []
    for backup in sorted(destination.below("backups").folders()):
        if content := destination.read(of_backup(backup, MANIFEST)):
            try:
                found.append(json.loads(content))
            except ValueError:
                say(f"The manifest of {backup} is cut off or was changed, so it is no whole backup")
    return found


def read_manifest(destination: buckets.Bucket, backup: str) -> dict[str, Any]:
    """Return the manifest of a backup.

    Raises:
        Failure: there is none.
    """
    content = destination.read(of_backup(backup, MANIFEST))
    if content is None:
        raise Failure(f"There is no whole backup {backup}")
    return json.loads(content)


def newest_list(destination: buckets.Bucket, before: str = "") -> bytes | None:
    """Return the list of objects of the newest whole backup, or of the newest before the backup `before`."""
    for manifest in reversed(manifests(destination)):
        if before and manifest["id"] >= before:
            continue
        if (content := destination.read(of_backup(manifest["id"], OBJECTS))) is None:
            continue
        try:
            collections.deque(buckets.read_list(content), maxlen=0)
        except Failure as failure:
            say(f"That of {manifest['id']} is left out: {failure}")
        else:
            return content
    return None


# --- the databases ----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def connected(database: str, *, writes: bool = False) -> Any:
    """Connect to a database by libpq's variables, for one look at all of its tables, or to write."""
    connection = psycopg2.connect(dbname=database, connect_timeout=10, application_name="mlflow-backup")
    try:
        connection.set_session(isolation_level="READ COMMITTED" if writes else "REPEATABLE READ", readonly=not writes)
        with connection, connection.cursor() as cursor:
            yield cursor
    finally:
        connection.close()


def described(cursor: Any) -> dict[str, Any]:
    """Return the schemas of a database, by the tables in which migrations keep them, its numbers of rows and its size.

    Rows of a table with too many are None.
    """
    cursor.execute(
        "SELECT n.nspname, c.relname, c.reltuples FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE c.relkind = 'r' AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema' ORDER BY 1, 2"
    )
    heads: dict[str, list[str]] = {}
    rows: dict[str, int | None] = {}
    for schema, table, estimate in cursor.fetchall():
        name = f"{schema}.{table}"
        if table.startswith("alembic_version"):
            cursor.execute(sql.SQL("SELECT version_num FROM {}").format(sql.Identifier(schema, table)))
            heads[name] = sorted(head for (head,) in cursor.fetchall())
        elif estimate >= MOST_ROWS:
            rows[name] = None
        elif table not in FLEETING:
            cursor.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(schema, table)))
            rows[name] = cursor.fetchone()[0]
    cursor.execute("SELECT pg_database_size(current_database())")
    return {"heads": heads, "rows": rows, "size": cursor.fetchone()[0]}


def lowered(known: dict[str, Any]) -> None:
    """Lower numbers of rows to those that there are now: rows that were deleted meanwhile are not restored."""
    for name, found in known.items():
        with connected(name) as cursor:
            later = described(cursor)["rows"]
        found["rows"] = {
            table: None if rows is None or later.get(table) is None else min(rows, later[table])
            for table, rows in found["rows"].items()
        }


def agreement(_arguments: list[str]) -> None:
    """Write down the point that the databases are restored to."""
    found: dict[str, Any] = {"databases": {}}
    names, method = config()["databases"], config()["method"]
    # As long as a backup may take.
    with connected(names[0], writes=True) as cursor:
        holds.hold(cursor, holder(), config()["timeout"])
    for name in names:
        with connected(name) as cursor:
            found["databases"][name] = described(cursor)
    # After all that was counted, so that a restore has at least that.
    with connected(names[0]) as cursor:
        cursor.execute(POINTS[method])
        lsn, timeline, time, version = cursor.fetchone()
    found |= {"version": version, "time": time.astimezone(datetime.UTC).isoformat()}
    if method == PGBACKREST:
        lowered(found["databases"])
        found |= {"lsn": lsn, "timeline": int(timeline, 16)}
    work("agreement.json").write_text(json.dumps(found))
    say(f"The databases are restored to {lsn or 'the moment of their dumps'}, at {found['time']}")


# --- the bucket -------------------------------------------------------------------------------------------------------


def objects(_arguments: list[str]) -> None:
    """Copy the bucket."""
    source, destination = buckets.opened(config(), "source"), buckets.opened(config(), "destination")
    versioned = destination.keep_versions()
    if not versioned:
        say(f"{destination.place} keeps no former versions of objects, and its key may not change that")
    listed = newest_list(destination)
    before: Iterable[buckets.Object] = () if listed is None else buckets.read_list(listed)
    counts = buckets.Counts()
    buckets.write_list(work(OBJECTS), buckets.copy_out(source, destination.below("objects"), before, counts))
    found = {"count": counts.count, "size": counts.size, "copied": counts.copied, "copied_size": counts.copied_size}
    work("objects.json").write_text(json.dumps({**found, "versioned": versioned}))
    with connected(config()["databases"][0], writes=True) as cursor:
        holds.release(cursor, holder())
    say(str(counts))


# --- the keys ---------------------------------------------------------------------------------------------------------


def plain(secret: Mapping[str, Any]) -> dict[str, Any]:
    """Return a Secret without what belongs to the cluster that it was in, and without kubectl's copy of its values."""
    metadata = secret["metadata"]
    annotations = {
        name: value
        for name, value in (metadata.get("annotations") or {}).items()
        if name != "kubectl.kubernetes.io/last-applied-configuration"
    }
    kept = {"name": metadata["name"], "namespace": metadata["namespace"]}
    kept |= {"labels": metadata["labels"]} if metadata.get("labels") else {}
    kept |= {"annotations": annotations} if annotations else {}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": kept,
        "type": secret.get("type", "Opaque"),
        "data": secret.get("data") or {},
    }


def values(secret: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the values of a Secret."""
    return {key: base64.b64decode(value) for key, value in secret["data"].items()}


def keys(_arguments: list[str]) -> None:
    """Encrypt the stack's Secrets, and leave them for the upload."""
    cluster, asked = Cluster(), config()["secrets"]
    found = [
        plain(secret)
        for namespace, names in asked["names"].items()
        for name in names
        if (secret := cluster.secret(namespace, name)) is not None
    ]
    sealing = [plain(each) for each in cluster.secrets(asked["sealing"], SEALING_KEY)] if asked.get("sealing") else []
    bundle = json.dumps({"apiVersion": "v1", "kind": "List", "items": [*sealing, *found]}).encode()
    work(KEYS).write_text(vault_file.seal(bundle, passphrase()))
    listed = {}
    for secret in [*sealing, *found]:
        namespace, name = secret["metadata"]["namespace"], secret["metadata"]["name"]
        listed[f"{namespace}/{name}"] = fingerprint(namespace, name, values(secret))
    work("keys.json").write_text(json.dumps(listed))
    say(f"{len(found)} Secrets and {len(sealing)} sealing keys are encrypted")


# --- the manifest -----------------------------------------------------------------------------------------------------


def method_of(known: Mapping[str, Any]) -> str:
    """Return how the databases of a backup were backed up, by its manifest."""
    return PG_DUMP if "dumps" in known["postgres"] else PGBACKREST


def _databases(sizes: int) -> dict[str, Any]:
    """Return what the manifest has of how the databases were backed up."""
    if config()["method"] == PG_DUMP:
        dumps = json.loads(work("dumps.json").read_text())
        return {"size": sizes, "stored": sum(each["size"] for each in dumps.values()), "dumps": dumps}
    (stanza,) = json.loads(work("info.json").read_text())
    last = stanza["backup"][-1]
    stored = last["info"]["repository"].get("delta", 0)
    return {"label": last["label"], "size": last["info"]["size"], "stored": stored}


def expired(whole: list[dict[str, Any]]) -> list[str]:
    """Return the IDs of the backups that are no longer to be kept, of those by the present method.

    Args:
        whole: manifests, the oldest first. The last one is kept in any case.
    """
    asked, method = config(), config()["method"]
    of_method = [each for each in whole if method_of(each) == method]
    if method == PGBACKREST:
        (stanza,) = json.loads(work("info.json").read_text())
        labels = {each["label"] for each in stanza["backup"]}
        return [each["id"] for each in of_method if each["postgres"]["label"] not in labels]
    kept = asked["retention"]["count"]
    if asked["retention"]["unit"] == "backups":
        return [each["id"] for each in of_method[:-kept]]
    oldest = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=kept)
    return [each["id"] for each in of_method[:-1] if datetime.datetime.fromisoformat(each["time"]) < oldest]


def parts(destination: buckets.Bucket, whole: list[dict[str, Any]]) -> list[str]:
    """Return the IDs of what is there without a manifest."""
    known, there = {each["id"] for each in whole}, destination.below("backups")
    # MinIO lists folders of which there are former versions only.
    return [each for each in sorted(there.folders()) if each not in known and any(there.below(each).objects())]


def unfinished(destination: buckets.Bucket, whole: list[dict[str, Any]]) -> list[str]:
    """Return the IDs of what an interrupted backup has left, of those that cannot be running any more."""
    oldest = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=config()["timeout"])
    return [each for each in parts(destination, whole) if each < oldest.strftime("%Y%m%dT%H%M%SZ")]


def remove(destination: buckets.Bucket, backup: str) -> None:
    """Remove a backup."""
    # The manifest first: what is left of an interruption is no backup.
    destination.remove(of_backup(backup, MANIFEST))
    for each in list(destination.below(f"backups/{backup}").objects()):
        destination.remove(of_backup(backup, each.key))
    destination.remove(of_drill(backup))
    say(f"Removed {backup}, which is no longer to be kept")


def manifest(_arguments: list[str]) -> None:
    """Upload the lists and, last of all, the manifest; then remove what is no longer to be kept."""
    destination = buckets.opened(config(), "destination")
    agreed = json.loads(work("agreement.json").read_text())
    backup = work("id").read_text().strip()
    time, databases = agreed.pop("time"), agreed.pop("databases")
    found = {
        "format": FORMAT,
        "id": backup,
        "time": time,
        "finished": now(),
        "databases": databases,
        "postgres": {**agreed, **_databases(sum(each["size"] for each in databases.values()))},
        "objects": json.loads(work("objects.json").read_text()),
        "secrets": json.loads(work("keys.json").read_text()),
        "images": config()["images"],
        "versions": {name: importlib.metadata.version(name) for name in ("mlops-mlflow-server", "mlflow")},
    }
    for name in (OBJECTS, KEYS):
        destination.write(of_backup(backup, name), work(name).read_bytes())
    destination.write(of_backup(backup, MANIFEST), json.dumps(found, indent=1).encode())
    whole = manifests(destination)
    for former in [*expired(whole), *unfinished(destination, whole)]:
        remove(destination, former)
    say(f"Backup {backup} is whole")
    _record(found, destination)


def _record(found: Mapping[str, Any], destination: buckets.Bucket) -> None:
    """Write down for metrics that this backup is whole, and when the newest drill was."""
    records = [destination.read(of_drill(each["id"])) for each in manifests(destination)]
    drills = [json.loads(content)["time"] for content in records if content]
    try:
        with connected(config()["databases"][0], writes=True) as cursor:
            jobs.record(cursor, jobs.BACKUP, size=found["objects"]["size"])
            if drills:
                jobs.record(cursor, jobs.DRILL, datetime.datetime.fromisoformat(max(drills)))
    except psycopg2.Error as error:
        # It is whole all the same.
        say(f"Metrics will not show it: {' '.join(str(error).split())}")


STEPS: dict[str, Callable[[list[str]], None]] = {
    "agreement": agreement,
    "objects": objects,
    "keys": keys,
    "manifest": manifest,
}


def run(steps: Mapping[str, Callable[[list[str]], None]], arguments: list[str]) -> int:
    """Run the step that the first argument names; return the exit code."""
    try:
        if not arguments or arguments[0] not in steps:
            raise Failure(f"The step is '{' '.join(arguments[:1])}': one of {', '.join(steps)}")
        steps[arguments[0]](arguments[1:])
    except (Failure, botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError, psycopg2.Error) as error:
        bucket = getattr(error, "response", {}).get("Error", {}).get("BucketName", "")
        reason = " ".join([*str(error).split(), *([f"({bucket})"] if bucket else [])])
        print(reason, file=sys.stderr, flush=True)
        with contextlib.suppress(OSError):
            MESSAGE.write_text(reason)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(run(STEPS, sys.argv[1:]))
