# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Steps of a drill, which restores a backup in a pod of its own: `python -m mlops_mlflow_server.drill STEP [BACKUP]`.

- `choose`: writes down what is restored, and downloads dumps where the backup is by dumps. BACKUP is an ID, or
  `latest`. Then the databases are restored to a volume of the pod, and PostgreSQL serves them to the pod alone.
- `check`: compares what was restored with the manifest, opens the keys, logs in to the databases with the passwords
  of the backup, opens what MLflow has encrypted and what is sealed, and reads artifacts. It writes the variables of
  the servers that are started then, with the credentials of the backup, to files in memory, and `migrate` and `serve`
  run on what was restored.
- `login`: logs in to these servers, and reads a run and an artifact (`walk`).

The last step writes `drills/BACKUP.json` at the destination, which says when that last held.

Nothing of the stack is changed, and nothing that runs is asked but the API server for SealedSecrets. Configuration
and environment are those of `mlops_mlflow_server.backup`.
"""

import functools
import hashlib
import itertools
import json
import math
import os
import pathlib
import re
import shlex
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

import psycopg2
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from mlflow.exceptions import MlflowException
from mlflow.utils.crypto import KEKManager, _decrypt_secret

from mlops_mlflow_server import buckets, dumps, encryption, restore, sealed, walk
from mlops_mlflow_server.backup import (
    PG_DUMP,
    config,
    connected,
    described,
    manifests,
    now,
    of_drill,
    run,
    values,
    work,
)
from mlops_mlflow_server.cluster import Cluster, fingerprint
from mlops_mlflow_server.databases import Failure, because, say

Values = dict[str, dict[str, bytes]]

# What the databases need beside their own size.
SPARE = 256 << 20
CHUNK = 1 << 20
# Sizes of the parts in which stores take large objects, in MiB.
PARTS = (5, 8, 10, 16, 25, 32, 50, 64, 100, 128)
MOST_NAMED = 5
# What MLflow is asked for: an artifact of a run, of at most this size, among about so many.
OF_RUN = re.compile(r"(.*/([0-9a-f]{32})/artifacts)/(.+)")
LARGEST = 64 << 20
CANDIDATES = 1000
# As the kubelet fills them in: https://kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables/
REFERENCE = re.compile(r"\$(?:\$|\(([^()]+)\))")


def choose(arguments: list[str]) -> None:
    """Write down which backup is restored, for the steps that come."""
    destination, begun, method = buckets.opened(config(), "destination"), time.time(), config()["method"]
    chosen = restore.choose(manifests(destination), arguments[0] if arguments else "latest", "", method)
    if method == PG_DUMP:
        found = keys(destination, chosen)
        dumps.fetch_all(destination, chosen)
        owners = {each["database"]: walk.secret_of(found, each["secret"])["username"] for each in config()["dumps"]}
        work("databases").write_text("".join(f"{name} {owner.decode()}\n" for name, owner in owners.items()))
    else:
        target = chosen["target"]
        known = {
            "TARGET_TYPE": target["type"],
            "TARGET": target["target"],
            "TARGET_TIMELINE": target["timeline"],
            "BACKUP_SET": target["set"],
            "NEEDED": str(chosen["postgres"]["size"] * 12 // 10 + SPARE),
        }
        work("target.sh").write_text("".join(f"export {name}={shlex.quote(value)}\n" for name, value in known.items()))
    work("drill.json").write_text(json.dumps({**chosen, "begun": begun}))
    say(f"The backup {chosen['id']} is restored, with databases of {chosen['postgres']['size'] / (1 << 20):.0f} MiB")


# --- what was restored ------------------------------------------------------------------------------------------------


def keys(destination: buckets.Bucket, known: dict[str, Any]) -> Values:
    """Return the values of the backup's Secrets, by namespace and name.

    Raises:
        Failure: they are not those of the manifest.
    """
    result, hashed = {}, {}
    for each in restore.opened(destination, known["id"]):
        namespace, name = each["metadata"]["namespace"], each["metadata"]["name"]
        result[f"{namespace}/{name}"] = values(each)
        hashed[f"{namespace}/{name}"] = fingerprint(namespace, name, values(each))
    others = [place for place, expected in known["secrets"].items() if hashed.get(place) != expected]
    if others:
        raise Failure(f"Secrets of the backup are not those of its manifest: {', '.join(others[:MOST_NAMED])}")
    return result


def databases(known: dict[str, Any]) -> dict[str, int]:
    """Compare the databases with the manifest; return the number of rows of each.

    Raises:
        Failure: they are not those of the manifest.
    """
    rows, problems = {}, []
    for name, backed_up in known["databases"].items():
        with connected(name) as cursor:
            found = described(cursor)
        problems += [f"{name}: {each}" for each in restore.differences(backed_up, found)]
        rows[name] = restore.total(found)
    if problems:
        raise Failure(f"The databases are not those of the backup: {'; '.join(problems[:MOST_NAMED])}")
    return rows


def encrypted(cursor: Any, passphrases: list[str], keys: list[str]) -> int:
    """Open what MLflow has encrypted with its keys; return how many secrets there are.

    Args:
        cursor: of MLflow's own database.
        passphrases: those of the AI gateway's secrets; while they are rotated, each may be the one.
        keys: those of webhooks, likewise.

    Raises:
        Failure: one does not open.
    """
    manager = functools.cache(KEKManager)  # deriving a key takes a third of a second
    cursor.execute("SELECT secret_id, secret_name, encrypted_value, wrapped_dek, kek_version FROM secrets")
    found = cursor.fetchall()
    for identifier, name, value, wrapped, version in found:
        for passphrase in passphrases:
            try:
                _decrypt_secret(bytes(value), bytes(wrapped), manager(passphrase, version), identifier, name)
            except MlflowException:
                continue
            break
        else:
            raise Failure(f"The passphrase of the backup does not open the AI gateway's secret {name}")
    cursor.execute(f"SELECT sample FROM {encryption.SAMPLES.name}")  # noqa: S608  (a constant)
    for (sample,) in cursor.fetchall():
        try:
            MultiFernet([Fernet(key) for key in keys]).decrypt(sample.encode())
        except InvalidToken:
            raise Failure("The backup's key of webhooks does not open their secrets") from None
    return len(found)


def unsealed(found: Values, names: dict[str, list[str]], cluster: Cluster) -> int:
    """Open the stack's SealedSecrets with the sealing keys of the backup; return how many there are.

    Raises:
        Failure: one does not open.
    """
    inside = f"{config()['secrets']['sealing']}/"
    sealing = [each["tls.key"] for place, each in found.items() if place.startswith(inside)]
    count = 0
    for namespace, of_namespace in names.items():
        for name in of_namespace:
            one = cluster.sealed_secret(namespace, name)
            if one is None:
                continue
            count += 1
            for key, text in one["spec"]["encryptedData"].items():
                if sealed.opened(sealing, text, sealed.label(one)) is None:
                    raise Failure(f"No sealing key of the backup opens {key} of the SealedSecret {namespace}/{name}")
    if not count:
        raise Failure("The cluster has none of the stack's SealedSecrets")
    return count


# --- the artifacts ----------------------------------------------------------------------------------------------------


def hashes(etag: str, size: int) -> list[int]:
    """Return the sizes of parts by which this ETag may have been made.

    It is the MD5 of the content, or that of the MD5 of its parts with their number.
    """
    _digest, _dash, parts = etag.strip('"').partition("-")
    if not parts:
        return [max(size, 1)]
    return [mebibytes << 20 for mebibytes in PARTS if math.ceil(size / (mebibytes << 20)) == int(parts)]


class Hash:
    """The ETag of a content that comes in pieces.

    Args:
        part: the size of its parts.
        single: whether it came in one.
    """

    def __init__(self, part: int, *, single: bool):
        self._part, self._single = part, single
        self._parts: list[bytes] = []
        self._current, self._left = hashlib.md5(usedforsecurity=False), part

    def update(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            piece = view[: self._left]
            self._current.update(piece)
            self._left -= len(piece)
            view = view[len(piece) :]
            if not self._left and not self._single:
                self._end()

    def _end(self) -> None:
        self._parts.append(self._current.digest())
        self._current, self._left = hashlib.md5(usedforsecurity=False), self._part

    def etag(self) -> str:
        if self._single:
            return f'"{self._current.hexdigest()}"'
        if self._left != self._part:
            self._end()
        return f'"{hashlib.md5(b"".join(self._parts), usedforsecurity=False).hexdigest()}-{len(self._parts)}"'


def is_whole(copy: buckets.Bucket, one: buckets.Object) -> bool:
    """Read an object, and tell whether it is the one that was backed up."""
    whose = {"Bucket": copy.name, "Key": copy.prefix + one.key, **({"VersionId": one.version} if one.version else {})}
    body = copy.client.get_object(**whose)["Body"]
    return is_content(one, iter(lambda: body.read(CHUNK), b""))


def is_content(one: buckets.Object, chunks: Iterable[bytes]) -> bool:
    """Tell whether a content is that of an object that was backed up."""
    single = "-" not in one.etag
    made = [Hash(part, single=single) for part in hashes(one.etag, one.size)]
    size = 0
    for data in chunks:
        size += len(data)
        for each in made:
            each.update(data)
    # Of an unknown size of parts, only the size is known.
    return size == one.size and (not made or any(each.etag() == one.etag for each in made))


def sample(listed: Iterable[buckets.Object], backup: str, share: float) -> Iterator[buckets.Object]:
    """Choose a share of the objects, others for each backup."""
    for one in listed:
        drawn = hashlib.sha256(f"{backup}/{one.key}".encode()).digest()
        if int.from_bytes(drawn[:8], "big") < share * 2**64:
            yield one


def artifacts(destination: buckets.Bucket, known: dict[str, Any], most: int) -> dict[str, int]:
    """Look for all objects of the backup, and read some; return how many.

    Args:
        destination: where backups are.
        known: the manifest.
        most: about how many bytes are read.

    Raises:
        Failure: some are missing, or are others.
    """
    content = restore.objects_of(destination, known["id"])
    copy = destination.below("objects")
    there = buckets.Follower(copy.objects())
    missing = [each.key for each in buckets.read_list(content) if there.find(each.key) is None]
    if missing:
        raise Failure(f"{len(missing)} objects of the backup are not at its destination: {missing[:MOST_NAMED]}")
    share = min(1.0, most / max(known["objects"]["size"], 1))
    read, others = buckets.Counts(), []
    for one in sample(buckets.read_list(content), known["id"], share):
        if not is_whole(copy, one):
            others.append(one.key)
        read.add(one.size, copied=False)
    if others:
        raise Failure(f"{len(others)} objects are not as they were backed up: {others[:MOST_NAMED]}")
    return {"there": known["objects"]["count"], "read": read.count, "read_size": read.size}


# --- the servers ------------------------------------------------------------------------------------------------------


def environment(variables: Iterable[dict[str, Any]], namespace: str, found: Values) -> dict[str, str]:
    """Return the variables of a container with the credentials of the backup.

    Args:
        variables: as its manifest has them.
        namespace: that of its Secrets.
        found: the values of the backup's Secrets.

    Raises:
        Failure: the backup lacks one of the stack's Secrets.
    """
    stack, instead = config()["secrets"]["names"].get(namespace, []), config()["drill"]["login"]["instead"]
    result: dict[str, str] = {}
    # Keys before and after the current one, which an old backup lacks, and the next run of site.yml would make.
    absent: dict[str, str] = {}
    for each in variables:
        name, reference = each["name"], (each.get("valueFrom") or {}).get("secretKeyRef")
        if name in instead:
            if instead[name] is not None:
                result[name] = instead[name]
        elif reference is not None:
            value = found.get(f"{namespace}/{reference['name']}", {}).get(reference["key"])
            if value is not None:
                result[name] = value.decode()
            elif reference["name"] in stack and not reference.get("optional"):
                raise Failure(f"The backup has no {reference['key']} in the Secret {namespace}/{reference['name']}")
            elif reference["name"] not in stack:
                say(f"{name} is left out, since {reference['name']} is no Secret of the stack")
            else:
                absent[name] = ""
        elif "valueFrom" not in each:
            result[name] = REFERENCE.sub(
                lambda match: (absent | result).get(match[1], match[0]) if match[1] else "$", each.get("value") or ""
            )
    return result


def hand_over(containers: dict[str, Any], found: Values) -> None:
    """Write the variables of each container to a file for its shell, in memory."""
    for name, each in containers.items():
        known = environment(each["variables"], each["namespace"], found)
        path = pathlib.Path(os.environ.get("MLOPS_DRILL_KEYS", "/keys"), name)
        path.touch(mode=0o640)
        # A shell has no variables of other names, such as with a dot.
        lines = [f"export {key}={shlex.quote(value)}\n" for key, value in known.items() if key.isidentifier()]
        path.write_text("".join(lines))


def candidate(destination: buckets.Bucket, known: dict[str, Any]) -> tuple[str, str, buckets.Object | None]:
    """Choose what MLflow is asked for: a run, and an artifact of it where there is one; others for each backup.

    Returns:
        The run's ID, the artifact's path in it, and the artifact as it was backed up. What there is none of is empty.
    """
    content = restore.objects_of(destination, known["id"])
    share = min(1.0, CANDIDATES / max(known["objects"]["count"], 1))
    found = {}
    for one in sample(buckets.read_list(content), known["id"], share):
        if (match := OF_RUN.fullmatch(one.key)) and one.size <= LARGEST and hashes(one.etag, one.size):
            found[f"mlflow-artifacts:/{match[1]}"] = (match[2], match[3], one)
    with connected(config()["databases"][0]) as cursor:
        cursor.execute("SELECT artifact_uri FROM runs WHERE artifact_uri = ANY(%s) LIMIT 1", (list(found),))
        for (location,) in cursor.fetchall():
            return found[location]
        cursor.execute("SELECT run_uuid FROM runs LIMIT 1")
        return next(itertools.chain(*cursor.fetchall()), ""), "", None


def login(_arguments: list[str]) -> None:
    """Log in to the servers that were started, and write down that all held."""
    known, record = json.loads(work("drill.json").read_text()), json.loads(work("record.json").read_text())
    destination = buckets.opened(config(), "destination")
    found = keys(destination, known)
    use(found, config()["drill"]["database"])
    identifier, artifact, one = candidate(destination, known)
    record["login"] = walk.walk(
        config()["drill"]["login"],
        found,
        identifier,
        artifact,
        lambda chunks: one is not None and is_content(one, chunks),
    )
    finish(destination, known, record)


# --- the check --------------------------------------------------------------------------------------------------------


def use(found: Values, place: str) -> None:
    """Have libpq log in with what the backup has."""
    secret = walk.secret_of(found, place)
    os.environ.update(PGUSER=secret["username"].decode(), PGPASSWORD=secret["password"].decode())


def check(_arguments: list[str]) -> None:
    """Check what was restored, and hand over to the servers that are started on it."""
    known = json.loads(work("drill.json").read_text())
    restored = since(known)
    asked = config()["drill"]
    destination = buckets.opened(config(), "destination")
    found = keys(destination, known)
    use(found, asked["database"])
    encryption_keys = walk.secret_of(found, asked["encryption"])
    try:
        rows = databases(known)
        with connected(config()["databases"][0]) as cursor:
            opened = encrypted(
                cursor, walk.every(encryption_keys, "gateway-passphrase"), walk.every(encryption_keys, "webhook-key")
            )
    except psycopg2.OperationalError as error:
        raise Failure(f"The restored databases cannot be used with the backup's password: {because(error)}") from None
    record = {
        "backup": known["id"],
        "rows": rows,
        "secrets": len(known["secrets"]),
        "gateway_secrets": opened,
        "sealed_secrets": unsealed(found, asked["sealed"], Cluster()) if asked["sealed"] else 0,
        "objects": artifacts(destination, known, asked["most_bytes"]),
        "login": None,
    }
    record["seconds_of"] = {"restore": restored, "check": since(known) - restored}
    if not asked["login"]:
        finish(destination, known, record)
        return
    hand_over(asked["login"]["environments"], found)
    work("record.json").write_text(json.dumps(record))
    say("What was restored is that of the backup")


def since(known: dict[str, Any]) -> int:
    """Return how many seconds ago the drill began."""
    return round(time.time() - known["begun"])


def finish(destination: buckets.Bucket, known: dict[str, Any], record: dict[str, Any]) -> None:
    """Write down that all held."""
    record |= {"time": now(), "seconds": since(known)}
    destination.write(of_drill(known["id"]), json.dumps(record, indent=1).encode())
    say(told(record))


def told(record: dict[str, Any]) -> str:
    """Return what was checked, as a sentence."""
    objects, login = record["objects"], record["login"]
    counts = {
        "rows": sum(record["rows"].values()),
        "Secrets": record["secrets"],
        "secrets of the AI gateway": record["gateway_secrets"],
        "SealedSecrets": record["sealed_secrets"],
        "objects": objects["there"],
    }
    found = ", ".join(f"{count} {name}" for name, count in counts.items())
    return (
        f"Backup {record['backup']} was restored in {record['seconds']} s, and holds: {found}, "
        f"of which {objects['read']} were read; {logged_in(login) if login else 'MLflow and Keycloak were not started'}"
    )


def logged_in(login: dict[str, Any]) -> str:
    """Return who logged in, and what MLflow gave, as a part of a sentence."""
    who = {
        "code": "a new user logged in by Keycloak",
        "password": f"{login['user']} logged in by its password, and no login at an identity provider was tried",
        "none": "MLflow was called without a login, as it is configured",
    }[login["way"]]
    what = "a run and an artifact" if login["artifact"] else "a run" if login["run"] else "nothing, as there is no run"
    return f"{who}; MLflow gave {what}"


STEPS = {"choose": choose, "check": check, "login": login}

if __name__ == "__main__":
    sys.exit(run(STEPS, sys.argv[1:]))
