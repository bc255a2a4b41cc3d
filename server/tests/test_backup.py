"""Backups and restores, on a real MinIO and a real PostgreSQL; Secrets are in a dictionary, not in an API server."""

import base64
import datetime
import gzip
import json
import os
import pathlib
import re
import struct
import subprocess
import uuid

import pytest
from botocore.exceptions import EndpointConnectionError
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from mlflow.utils import crypto

from lib import minio as store
from lib import postgres as database_server
from mlops_mlflow_server import backup, buckets, drill, dumps, holds, restore, vault_file
from mlops_mlflow_server.databases import Failure

SCRIPTS = pathlib.Path(__file__).resolve().parents[2] / "roles" / "backup" / "files" / "backup"
PASSPHRASE = "a passphrase of the tests"
PLAIN = {"apiVersion": "v1", "kind": "Secret", "type": "Opaque"}
SECRETS = {
    ("mlflow", "mlflow-admin"): {
        **PLAIN,
        "metadata": {
            "name": "mlflow-admin",
            "namespace": "mlflow",
            "uid": "of this cluster",
            "ownerReferences": [{"kind": "SealedSecret"}],
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "value", "kept": "yes"},
        },
        "data": {"password": base64.b64encode(b"of the administrator").decode()},
    },
    ("minio", "minio-root"): {
        **PLAIN,
        "metadata": {"name": "minio-root", "namespace": "minio", "labels": {"a": "b"}},
        "data": {"password": base64.b64encode(b"of the root").decode()},
    },
}


class FakeCluster:
    """Secrets as the API server has them."""

    def __init__(self):
        self.secrets_there = dict(SECRETS)
        self.sealed_there = {}
        self.sealing = []

    def secret(self, namespace, name):
        return self.secrets_there.get((namespace, name))

    def secrets(self, namespace, label):
        assert label == backup.SEALING_KEY
        return self.sealing

    def sealed_secret(self, namespace, name):
        return self.sealed_there.get((namespace, name))

    def create(self, secret):
        place = secret["metadata"]["namespace"], secret["metadata"]["name"]
        if place in self.secrets_there:
            return False
        self.secrets_there[place] = secret
        return True


@pytest.fixture
def cluster(monkeypatch):
    found = FakeCluster()
    for module in (backup, restore, drill):
        monkeypatch.setattr(module, "Cluster", lambda: found)
    return found


@pytest.fixture
def places(minio, request):
    """The bucket that is backed up, and where backups are, both empty."""
    names = [f"{which}-{abs(hash(request.node.name)) % 10**9}" for which in ("source", "copy")]
    for name in names:
        minio.client.create_bucket(Bucket=name)
    common = {"region": "us-east-1", "ca_file": None, "key": store.USER, "secret": store.PASSWORD}
    return [
        buckets.Bucket(minio.endpoint, name, prefix, **common)
        for name, prefix in zip(names, ("", "stack"), strict=True)
    ]


@pytest.fixture
def work(tmp_path, monkeypatch):
    monkeypatch.setenv("MLOPS_BACKUP_WORK", str(tmp_path))
    return tmp_path


@pytest.fixture
def stack(places, minio, postgres, cluster, work, monkeypatch):  # noqa: PLR0917  (fixtures)
    """A configuration and an environment of a stack with two databases; returns the configuration."""
    source, copy = places
    databases = [postgres.create(), postgres.create()]
    for name in databases:
        postgres.execute("CREATE TABLE alembic_version (version_num text)", name)
        postgres.execute("INSERT INTO alembic_version VALUES ('3a')", name)
        postgres.execute("CREATE TABLE runs (id int)", name)
        postgres.execute("INSERT INTO runs SELECT generate_series(1, 7)", name)
    known = {
        "method": "pgbackrest",
        "dumps": [],
        "retention": {"count": 2, "unit": "backups"},
        "source": {"endpoint": minio.endpoint, "bucket": source.name, "region": "us-east-1"},
        "destination": {"endpoint": minio.endpoint, "bucket": copy.name, "region": "us-east-1", "prefix": "stack"},
        "databases": databases,
        "timeout": 3600,
        "secrets": {"names": {"mlflow": ["mlflow-admin", "absent"], "minio": ["minio-root"]}, "sealing": ""},
        "images": {"mlflow": "localhost/mlflow:1"},
    }
    (work / "backup.json").write_text(json.dumps(known))
    variables = {
        "MLOPS_BACKUP_CONFIG": str(work / "backup.json"),
        "AWS_ACCESS_KEY_ID": store.USER,
        "AWS_SECRET_ACCESS_KEY": store.PASSWORD,
        "MLOPS_BACKUP_ACCESS_KEY_ID": store.USER,
        "MLOPS_BACKUP_SECRET_ACCESS_KEY": store.PASSWORD,
        "MLOPS_BACKUP_PASSPHRASE": PASSPHRASE,
        "PGHOST": "127.0.0.1",
        "PGPORT": str(postgres.port),
        "PGUSER": "postgres",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return known


def info(*labels):
    """What pgBackRest says of its backups."""
    backups = [{"label": each, "info": {"size": 5 << 20, "repository": {"delta": 1 << 20}}} for each in labels]
    return json.dumps([{"name": "mlflow", "backup": backups}])


def backed_up(work, name, *labels):
    """Make a backup, whose databases pgBackRest has backed up before."""
    (work / "id").write_text(name)
    (work / "info.json").write_text(info(*labels))
    for step in ("agreement", "objects", "keys", "manifest"):
        assert backup.run(backup.STEPS, [step]) == 0, step


def put(bucket, **contents):
    for key, content in contents.items():
        bucket.client.put_object(Bucket=bucket.name, Key=bucket.prefix + key, Body=content)


def contents(bucket):
    return {
        each.key: bucket.client.get_object(Bucket=bucket.name, Key=bucket.prefix + each.key)["Body"].read()
        for each in bucket.objects()
    }


def copied(source, copy, before=()):
    counts = buckets.Counts()
    return list(buckets.copy_out(source, copy.below("objects"), before, counts)), counts


def test_nothing_is_deleted_for_good_between_the_agreement_and_the_copy(stack, postgres, work):
    cursor = postgres.connect(stack["databases"][0]).cursor()
    found = []
    for step in ("agreement", "objects"):
        assert backup.run(backup.STEPS, [step]) == 0
        found.append(holds.begin_deletion(cursor))
        cursor.connection.commit()
    assert found[0] is not None
    assert found[1] is None
    cursor.connection.close()


def test_a_restored_database_does_not_wait_for_the_backup_that_it_is_from(stack, postgres, work):
    backed_up(work, "20261130T020000Z", "20261130-020000F")
    cursor = postgres.connect(stack["databases"][0]).cursor()
    # As a database is that was restored to the agreement.
    holds.hold(cursor, "a backup of the past", 3600)
    cursor.connection.commit()
    assert restore.run(restore.STEPS, ["verify", "20261130T020000Z"]) == 0
    assert holds.begin_deletion(cursor) is None
    cursor.connection.close()


def test_two_backups_at_once_hold_each_for_itself(stack, postgres, monkeypatch):
    assert backup.run(backup.STEPS, ["agreement"]) == 0
    with monkeypatch.context() as other:
        other.setattr(backup.socket, "gethostname", lambda: "another-pod")
        for step in ("agreement", "objects"):
            assert backup.run(backup.STEPS, [step]) == 0
    cursor = postgres.connect(stack["databases"][0]).cursor()
    assert holds.begin_deletion(cursor) is not None
    cursor.connection.close()


@pytest.mark.parametrize(("time", "there"), [(["2026-11-30T12:00:00Z"], {"gone", "here"}), ([], {"here"})])
def test_what_was_deleted_between_two_backups_is_back_at_a_time_between_them(stack, places, work, time, there):
    source, _copy = places
    put(source, gone=b"1", here=b"2")
    backed_up(work, "20261130T020000Z", "A")
    source.remove("gone")
    backed_up(work, "20261201T020000Z", "A", "B")
    source.remove("here")
    assert restore.run(restore.STEPS, ["objects", "20261201T020000Z", *time]) == 0
    assert contents(source).keys() == there


# --- the bucket -------------------------------------------------------------------------------------------------------


def test_only_what_is_new_is_copied(places):
    source, copy = places
    put(source, **{f"run/{number}": b"x" * number for number in range(20)}, large=os.urandom(20 << 20))
    first, counts = copied(source, copy)
    assert (counts.count, counts.copied) == (21, 21)
    assert contents(copy.below("objects")) == contents(source)
    put(source, new=b"new")
    second, counts = copied(source, copy, first)
    assert (counts.count, counts.copied, counts.copied_size) == (22, 1, 3)
    assert [each for each in second if each.key != "new"] == first


def test_an_object_overwritten_by_one_of_the_same_size_is_copied(places):
    source, copy = places
    copy.keep_versions()
    put(source, model=b"first!")
    first, _counts = copied(source, copy)
    put(source, model=b"second")
    _second, counts = copied(source, copy, first)
    assert counts.copied == 1
    assert contents(copy.below("objects")) == {"model": b"second"}
    # The backup before still has what it was.
    assert (
        copy.client.get_object(Bucket=copy.name, Key=f"{copy.prefix}objects/model", VersionId=first[0].version)[
            "Body"
        ].read()
        == b"first!"
    )


def refuse(*_arguments, **_more):
    raise AssertionError("this is not the way that was expected")


NAMES = ["1/a b+c", "1/%41", "1/é/模型", "1/x=1&y?z#f", "1/~'(!)*", "empty"]


def test_small_objects_of_any_name_are_copied_by_two_requests(places, monkeypatch):
    source, copy = places
    copy.keep_versions()
    for number, key in enumerate(reversed(NAMES)):
        source.client.put_object(Bucket=source.name, Key=key, Body=bytes(number), ContentType="text/plain")
    expected = contents(source)
    with monkeypatch.context() as patched:
        for bucket in places:
            patched.setattr(bucket.client, "put_object", refuse)
        first, counts = copied(source, copy)
    assert counts.copied == len(NAMES)
    assert contents(copy.below("objects")) == expected
    assert copy.client.head_object(Bucket=copy.name, Key="stack/objects/1/a b+c")["ContentType"] == "text/plain"
    for key in NAMES:
        source.write(key, b"another")
    copied(source, copy, first)
    for key in NAMES:
        source.remove(key)
    with monkeypatch.context() as patched:
        for bucket in places:
            patched.setattr(bucket.client, "get_object", refuse)
        assert buckets.copy_back(copy.below("objects"), source, first, buckets.Counts()) == []
    assert contents(source) == expected


def no_connection(*_arguments, **_more):
    raise EndpointConnectionError(endpoint_url="a store that is away")


def cut_off(bucket, method, key, **more):
    found = SEND(bucket, method, key, **more)
    if method == "GET":
        found.raw.length_remaining += 1
    return found


def refused(bucket, method, key, **more):
    return SEND(bucket, method, key, **more | {"params": {"uploadId": "none"}})


def replaced(bucket, method, key, **more):
    if method == "GET":
        bucket.write(key, bytes(buckets.WHOLE + 1))
    return SEND(bucket, method, key, **more)


SEND = buckets.Bucket.send


@pytest.mark.parametrize("send", [no_connection, cut_off, refused, replaced])
def test_what_two_requests_do_not_copy_is_copied_by_the_client(places, monkeypatch, send):
    source, copy = places
    put(source, one=b"1")
    monkeypatch.setattr(buckets.Bucket, "send", send)
    (done,) = copied(source, copy)[0]
    assert contents(copy.below("objects")) == contents(source)
    assert done.size == len(contents(source)["one"])


def test_what_was_removed_stays_in_the_copy_and_is_in_no_later_list(places):
    source, copy = places
    put(source, gone=b"1", here=b"2")
    first, _counts = copied(source, copy)
    source.remove("gone")
    second, _counts = copied(source, copy, first)
    assert [each.key for each in second] == ["here"]
    assert contents(copy.below("objects")) == {"gone": b"1", "here": b"2"}


def test_what_somebody_removed_from_the_copy_is_copied_again(places):
    source, copy = places
    put(source, one=b"1", two=b"2")
    first, _counts = copied(source, copy)
    copy.below("objects").remove("one")
    _second, counts = copied(source, copy, first)
    assert counts.copied == 1
    assert contents(copy.below("objects")) == contents(source)


def test_a_key_that_may_not_write_fails(places, minio):
    source, copy = places
    put(source, one=b"1")
    wrong = buckets.Bucket(
        minio.endpoint, copy.name, "", region="us-east-1", ca_file=None, key=store.USER, secret="wrong"
    )
    with pytest.raises(Exception, match="SignatureDoesNotMatch"):
        list(buckets.copy_out(source, wrong, [], buckets.Counts()))


def test_objects_of_a_backup_come_back_as_they_were_and_none_goes(places):
    source, copy = places
    copy.keep_versions()
    put(source, lost=b"first!", kept=b"a")
    first, _counts = copied(source, copy)
    put(source, lost=b"second", later=b"b")
    copied(source, copy, first)
    source.remove("lost")
    put(source, kept=b"changed since")
    counts = buckets.Counts()
    assert buckets.copy_back(copy.below("objects"), source, first, counts) == []
    assert counts.copied == 1
    assert contents(source) == {"lost": b"first!", "kept": b"changed since", "later": b"b"}


def test_objects_that_the_copy_lacks_are_named(places):
    source, copy = places
    put(source, one=b"1", two=b"2")
    first, _counts = copied(source, copy)
    for bucket in (source, copy.below("objects")):
        bucket.remove("one")
    assert buckets.copy_back(copy.below("objects"), source, first, buckets.Counts()) == ["one"]


def test_lists_are_read_as_they_were_written(tmp_path):
    objects = [buckets.Object('odd "key" ä\n', 3, '"etag"', "2026-11-30T00:00:00+00:00", "v"), buckets.Object("z", 0)]
    buckets.write_list(tmp_path / "list", objects)
    assert list(buckets.read_list((tmp_path / "list").read_bytes())) == objects


# --- a whole backup ---------------------------------------------------------------------------------------------------


def test_a_backup_is_whole_with_its_manifest_only(stack, places, postgres, work):
    source, copy = places
    put(source, model=b"content")
    backed_up(work, "20261130T020000Z", "20261130-020000F")
    (found,) = backup.manifests(copy)
    assert found["id"] == "20261130T020000Z"
    assert found["objects"] == {"count": 1, "size": 7, "copied": 1, "copied_size": 7, "versioned": True}
    assert set(found["secrets"]) == {"mlflow/mlflow-admin", "minio/minio-root"}
    for name in stack["databases"]:
        assert found["databases"][name]["heads"] == {"public.alembic_version": ["3a"]}
        assert found["databases"][name]["rows"] == {"public.runs": 7}
    copy.write("drills/20261130T020000Z.json", json.dumps({"time": "2026-11-30T03:00:00+00:00"}).encode())
    backed_up(work, "20261201T020000Z", "20261130-020000F", "20261201-020000F")
    recorded = "SELECT job, size, ended = '2026-11-30T03:00:00+00:00' FROM mlops_jobs ORDER BY job"
    assert postgres.execute(recorded, stack["databases"][0]) == [("backup", 7, False), ("drill", None, True)]
    for known in ("20261130T020000Z", "20261201T020000Z"):
        copy.remove(f"backups/{known}/manifest.json")
    assert backup.manifests(copy) == []


def test_nothing_at_the_destination_has_a_value_of_a_secret(stack, places, work):
    _source, copy = places
    backed_up(work, "20261130T020000Z", "20261130-020000F")
    for content in contents(copy).values():
        for secret in SECRETS.values():
            for value in secret["data"].values():
                assert value.encode() not in content
                assert base64.b64decode(value) not in content


def test_backups_go_with_their_databases(stack, places, work):
    _source, copy = places
    backed_up(work, "20261101T020000Z", "20261101-020000F")
    backed_up(work, "20261130T020000Z", "20261130-020000F")
    assert [each["id"] for each in backup.manifests(copy)] == ["20261130T020000Z"]
    assert not any("20261101T020000Z" in key for key in contents(copy))


def test_a_short_passphrase_is_refused(stack, work, monkeypatch, capsys):
    monkeypatch.setenv("MLOPS_BACKUP_PASSPHRASE", "short")
    assert backup.run(backup.STEPS, ["keys"]) == 1
    assert "fewer than 20 characters" in capsys.readouterr().err


# --- a restore --------------------------------------------------------------------------------------------------------


def test_secrets_that_are_lost_come_back_and_others_stay(stack, work, cluster):
    backed_up(work, "20261130T020000Z", "20261130-020000F")
    del cluster.secrets_there["mlflow", "mlflow-admin"]
    cluster.secrets_there["minio", "minio-root"] = {"other": "one"}
    assert restore.run(restore.STEPS, ["secrets", "20261130T020000Z"]) == 0
    back = cluster.secrets_there["mlflow", "mlflow-admin"]
    assert back["data"] == SECRETS["mlflow", "mlflow-admin"]["data"]
    assert back["metadata"] == {"name": "mlflow-admin", "namespace": "mlflow", "annotations": {"kept": "yes"}}
    assert cluster.secrets_there["minio", "minio-root"] == {"other": "one"}


def test_look_writes_down_what_is_restored(stack, work):
    backed_up(work, "20261130T020000Z", "20261130-020000F")
    (found,) = backup.manifests(buckets.opened(stack, "destination"))
    (work / "version").write_text(found["postgres"]["version"].partition(".")[0])
    assert restore.run(restore.STEPS, ["look", "latest"]) == 0
    found = json.loads((work / "manifest.json").read_text())
    assert found["id"] == "20261130T020000Z"
    assert found["target"]["type"] == "lsn"
    assert found["target"]["set"] == "20261130-020000F"
    assert (work / "label").read_text() == "20261130-020000F"


@pytest.mark.parametrize(
    ("prepared", "says"),
    [
        (
            lambda work, environment: environment.setenv("MLOPS_BACKUP_PASSPHRASE", "another passphrase, long"),
            "does not open",
        ),
        (
            lambda work, environment: (work / "version").write_text("3"),
            "postgres_image is PostgreSQL 3: restore it with an image of PostgreSQL ",
        ),
        (
            lambda work, environment: (work / "info.json").write_text(info("20261129-020000F")),
            "pgBackRest has no backup",
        ),
    ],
)
def test_look_refuses_what_cannot_be_restored(stack, work, monkeypatch, capsys, prepared, says):  # noqa: PLR0917  (fixtures)
    backed_up(work, "20261130T020000Z", "20261130-020000F")
    (found,) = backup.manifests(buckets.opened(stack, "destination"))
    (work / "version").write_text(found["postgres"]["version"].partition(".")[0])
    prepared(work, monkeypatch)
    assert restore.run(restore.STEPS, ["look", "latest"]) == 1
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "changed", "says"),
    [
        ("keys.vault", lambda content: content[: len(content) // 2], "cannot be opened"),
        ("keys.vault", lambda content: b"", "it is no file of ansible-vault"),
        ("objects.json.gz", lambda content: content[: len(content) // 2], "The list of objects is cut off"),
        ("objects.json.gz", lambda content: b"another file", "The list of objects is cut off or was changed"),
        ("objects.json.gz", lambda content: gzip.compress(b'["other", 1]\n'), "has 1 instead of 2"),
        ("manifest.json", lambda content: content[: len(content) // 2], "There is no whole backup at the destination"),
        (
            "manifest.json",
            lambda content: json.dumps({**json.loads(content), "format": 99}).encode(),
            "is of a newer version of the collection",
        ),
    ],
)
def test_look_refuses_what_was_cut_off(stack, places, work, capsys, name, changed, says):  # noqa: PLR0917  (fixtures)
    put(places[0], one=b"1", two=b"2")
    backed_up(work, "20261130T020000Z", "20261130-020000F")
    (found,) = backup.manifests(places[1])
    (work / "version").write_text(found["postgres"]["version"].partition(".")[0])
    key = f"backups/20261130T020000Z/{name}"
    put(places[1], **{key: changed(places[1].read(key))})
    assert restore.run(restore.STEPS, ["look", "latest"]) == 1
    assert says in capsys.readouterr().err
    # The next backup does not depend on it.
    backed_up(work, "20261201T020000Z", "20261201-020000F")


def test_a_bucket_that_is_not_there_is_named(stack, work, capsys):
    stack["destination"]["bucket"] = "missing"
    (work / "backup.json").write_text(json.dumps(stack))
    assert restore.run(restore.STEPS, ["list"]) == 1
    assert "The specified bucket does not exist (missing)" in capsys.readouterr().err


def test_verify_compares_schemas_and_rows(stack, work, postgres, capsys):
    backed_up(work, "20261130T020000Z", "20261130-020000F")
    assert restore.run(restore.STEPS, ["verify", "20261130T020000Z"]) == 0
    name = stack["databases"][0]
    postgres.execute("DELETE FROM runs WHERE id = 1", name)
    assert restore.run(restore.STEPS, ["verify", "20261130T020000Z"]) == 1
    assert "public.runs has 6 rows instead of 7" in capsys.readouterr().err
    # At another time there may be fewer.
    assert restore.run(restore.STEPS, ["verify", "20261130T020000Z", "2026-11-30T02:00:00Z"]) == 0
    postgres.execute("UPDATE alembic_version SET version_num = '3b'", name)
    assert restore.run(restore.STEPS, ["verify", "20261130T020000Z"]) == 1
    assert "is at ['3b'] instead of ['3a']" in capsys.readouterr().err
    # A migration may have been in between.
    assert restore.run(restore.STEPS, ["verify", "20261130T020000Z", "2026-11-30T02:00:00Z"]) == 0
    postgres.execute("DROP TABLE alembic_version", name)
    assert restore.run(restore.STEPS, ["verify", "20261130T020000Z", "2026-11-30T02:00:00Z"]) == 1
    assert "has no schema" in capsys.readouterr().err


def test_rows_that_are_deleted_while_others_are_counted_are_not_expected(stack, work, postgres, monkeypatch):
    name = stack["databases"][0]
    counted = backup.described

    def described(cursor):
        found = counted(cursor)
        postgres.execute("DELETE FROM runs WHERE id = 1", name)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(backup, "described", described)
        backed_up(work, "20261130T020000Z", "20261130-020000F")
    assert restore.run(restore.STEPS, ["verify", "20261130T020000Z"]) == 0


def manifest(day, timeline=1):
    return {
        "id": f"202611{day:02}T020000Z",
        "time": f"2026-11-{day:02}T02:00:00+00:00",
        "postgres": {"lsn": f"0/{day}", "timeline": timeline, "label": f"202611{day:02}-020000F"},
    }


@pytest.mark.parametrize(
    ("asked", "time", "chosen", "base", "target"),
    [
        ("latest", "", 3, 3, {"type": "lsn", "target": "0/3", "timeline": "2", "set": "20261103-020000F"}),
        ("20261101T020000Z", "", 1, 1, {"type": "lsn", "target": "0/1", "timeline": "1", "set": "20261101-020000F"}),
        # The first bucket that has what rows name at that time, and its history.
        (
            "latest",
            "2026-11-01T12:00:00+01:00",
            2,
            1,
            {"type": "time", "target": "2026-11-01 12:00:00+01:00", "timeline": "1", "set": ""},
        ),
        (
            "latest",
            "2026-11-03T12:00:00",
            3,
            3,
            {"type": "time", "target": "2026-11-03 12:00:00+00:00", "timeline": "latest", "set": ""},
        ),
    ],
)
def test_choice_of_the_backup(asked, time, chosen, base, target):
    found = restore.choose([manifest(1), manifest(2), manifest(3, 2)], asked, time)
    assert (found["id"], found["target"]) == (manifest(chosen)["id"], target)
    assert found["base"] == manifest(base)["postgres"]["label"]
    assert bool(found["warning"]) == (target["timeline"] == "latest")


@pytest.mark.parametrize(
    ("asked", "time", "says"),
    [
        (
            "20261102T030000Z",
            "",
            "There is no whole backup 20261102T030000Z; the last ones are 20261101T020000Z, 20261102T020000Z",
        ),
        ("latest", "2026-10-31", "before the first backup, which reaches back to 2026-11-01T02:00:00"),
        ("latest", "2999-01-01", "in the future"),
        ("latest", "yesterday", "is no time such as"),
    ],
)
def test_what_cannot_be_chosen(asked, time, says):
    with pytest.raises(Failure, match=says):
        restore.choose([manifest(1), manifest(2)], asked, time)


def test_nothing_to_choose_from():
    with pytest.raises(Failure, match="There is no whole backup at the destination"):
        restore.choose([], "latest", "")


# --- dumps ------------------------------------------------------------------------------------------------------------


class Scripts:
    """The scripts of PostgreSQL's containers, with the folders of a test in place of the pod's."""

    def __init__(self, folder):
        self._folder = folder
        places = {"work": folder, "dumps": folder / "dumps", "tmp": folder / "tmp", "dev": folder}
        for name in ("dumps", "tmp"):
            places[name].mkdir()
        for path in SCRIPTS.iterdir():
            text = re.sub(
                r"(?<![\w}])/(work|dumps|tmp|dev)/(?!null)", lambda found: f"{places[found[1]]}/", path.read_text()
            )
            (folder / path.name).write_text(text)

    def run(self, name, *arguments, **variables):
        """Run one; return its exit code and its message."""
        message = self._folder / "termination-log"
        message.unlink(missing_ok=True)
        found = f"{database_server.binaries()}:{os.environ['PATH']}"
        environment = os.environ | {"PATH": found} | variables
        command = ["sh", self._folder / f"{name}.sh", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, message.read_text().strip() if message.exists() else done.stderr


@pytest.fixture
def dumped(stack, work, monkeypatch):
    """A stack whose databases are dumped; returns its configuration."""
    place = {"secret": "mlflow/mlflow-db"}
    stack |= {"method": "pg_dump", "dumps": [{"database": name, **place} for name in stack["databases"]]}
    set_out(work, stack)
    monkeypatch.setenv("MLOPS_BACKUP_DUMPS", str(work / "dumps"))
    return stack


@pytest.fixture
def scripts(dumped, work):
    return Scripts(work)


def back_up(scripts, known, work, name):
    """Make a backup by dumps."""
    assert backup.run(backup.STEPS, ["agreement"]) == 0
    (work / "id").write_text(name)
    assert scripts.run("dump", *known["databases"]) == (0, "")
    assert dumps.run(dumps.STEPS, ["upload"]) == 0
    for step in ("objects", "keys", "manifest"):
        assert backup.run(backup.STEPS, [step]) == 0, step


DAY = "20261130T020000Z"


def of_dump(known, number=0):
    """The key of a dump of that backup."""
    return f"backups/{DAY}/{known['databases'][number]}.dump.age"


def test_dumps_bring_the_databases_back(dumped, scripts, places, postgres, work):
    first, second = dumped["databases"]
    # A superuser could drop what it has.
    postgres.execute("CREATE EXTENSION pg_trgm", first)
    postgres.execute("CREATE SCHEMA basic_auth CREATE TABLE users (id serial PRIMARY KEY, name text)", first)
    postgres.execute("INSERT INTO basic_auth.users (name) VALUES ('a')", first)
    postgres.execute("CREATE TYPE state AS ENUM ('on')", first)
    postgres.execute("CREATE TABLE states (of state)", first)
    back_up(scripts, dumped, work, DAY)
    assert not list((work / "dumps").iterdir())
    (found,) = backup.manifests(places[1])
    assert found["databases"][first]["rows"] == {"basic_auth.users": 1, "public.runs": 7, "public.states": 0}
    assert set(found["postgres"]["dumps"]) == {first, second}
    stored = [places[1].read(of_dump(dumped, number)) for number in (0, 1)]
    assert found["postgres"]["stored"] == sum(map(len, stored))
    assert all(each.startswith(b"age-encryption.org/v1\n") for each in stored)
    # What was there in between goes, with what would be in the way of the dump.
    postgres.execute("DELETE FROM runs", first)
    postgres.execute("CREATE TABLE later (id int REFERENCES basic_auth.users)", first)
    postgres.execute("CREATE FUNCTION later() RETURNS state LANGUAGE sql AS $$ SELECT 'on'::state $$", first)
    postgres.execute("CREATE VIEW seen AS SELECT * FROM states", first)
    postgres.execute("CREATE SCHEMA later CREATE TABLE other (id int)", first)
    postgres.execute("DROP TABLE runs", second)
    assert dumps.run(dumps.STEPS, ["fetch", DAY]) == 0
    assert scripts.run("load", first, second) == (0, "")
    assert restore.run(restore.STEPS, ["verify", DAY]) == 0
    assert postgres.execute("SELECT count(*) FROM runs", second) == [(7,)]
    left = "SELECT to_regclass('later'), to_regclass('seen'), to_regnamespace('later'), to_regproc('later')"
    assert postgres.execute(left, first) == [(None, None, None, None)]
    # The sequence goes on where it was.
    assert postgres.execute("INSERT INTO basic_auth.users (name) VALUES ('b') RETURNING id", first) == [(2,)]


def test_rows_that_are_deleted_before_their_dump_are_not_expected(dumped, scripts, postgres, work):
    name = dumped["databases"][0]
    assert backup.run(backup.STEPS, ["agreement"]) == 0
    postgres.execute("DELETE FROM runs WHERE id = 1", name)
    (work / "id").write_text(DAY)
    assert scripts.run("dump", *dumped["databases"]) == (0, "")
    assert dumps.run(dumps.STEPS, ["upload"]) == 0
    for step in ("objects", "keys", "manifest"):
        assert backup.run(backup.STEPS, [step]) == 0, step
    assert restore.run(restore.STEPS, ["verify", DAY]) == 0


def test_a_schema_of_others_an_extension_and_another_owner_are_no_obstacle(dumped, scripts, postgres):
    """As of a server of others: the schema public is not the user's, who has another name than before."""
    (name, _other) = dumped["databases"]
    before, after = f"before {name}", f"after {name}"
    for role in (before, after):
        postgres.execute(f'CREATE ROLE "{role}" LOGIN')
        postgres.execute(f'GRANT CREATE ON SCHEMA public TO "{role}"', name)
    for table in ("runs", "alembic_version"):
        postgres.execute(f'ALTER TABLE {table} OWNER TO "{before}"', name)
    postgres.execute("CREATE EXTENSION pg_trgm", name)
    postgres.execute("CREATE INDEX ON alembic_version USING gin (version_num gin_trgm_ops)", name)
    assert scripts.run("dump", name, PGUSER=before) == (0, "")
    postgres.execute("DELETE FROM runs", name)
    postgres.execute(f'REASSIGN OWNED BY "{before}" TO "{after}"', name)
    postgres.execute(f'DROP OWNED BY "{before}"', name)
    postgres.execute(f'DROP ROLE "{before}"')
    assert scripts.run("load", name, PGUSER=after) == (0, "")
    assert postgres.execute("SELECT count(*) FROM runs", name) == [(7,)]
    owner = "SELECT pg_get_userbyid(relowner) FROM pg_class WHERE relname = 'runs'"
    assert postgres.execute(owner, name) == [(after,)]


@pytest.mark.parametrize("way", ["cut", "empty", "absent", "conflict"])
def test_a_database_stays_as_it_was_if_its_dump_cannot_be_restored(dumped, scripts, postgres, work, way):
    name = dumped["databases"][0]
    postgres.execute("INSERT INTO runs SELECT generate_series(1, 200000)", name)
    assert scripts.run("dump", name) == (0, "")
    path = work / "dumps" / f"{name}.dump"
    postgres.execute("TRUNCATE runs", name)
    postgres.execute("INSERT INTO runs VALUES (42)", name)
    if way == "cut":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif way == "empty":
        path.write_bytes(b"")
    elif way == "absent":
        path.unlink()
    else:
        postgres.execute("CREATE ROLE other_owner", name)
        postgres.execute("CREATE SCHEMA kept AUTHORIZATION other_owner", name)
        postgres.execute(f"CREATE ROLE of_{name} LOGIN", name)
        postgres.execute(f"GRANT ALL ON SCHEMA public TO of_{name}", name)
    variables = {"PGUSER": f"of_{name}"} if way == "conflict" else {}
    code, message = scripts.run("load", name, **variables)
    assert code == 1
    assert message.startswith(f"The database {name} stays as it was, since its dump could not be restored: ")
    assert postgres.execute("SELECT id FROM runs", name) == [(42,)]


def test_a_restore_that_is_killed_leaves_the_database_as_it_was(dumped, scripts, postgres, work):
    name = dumped["databases"][0]
    assert scripts.run("dump", name) == (0, "")
    postgres.execute("INSERT INTO runs VALUES (42)", name)
    # pg_restore is killed after what it has written.
    killed = work / "killed"
    killed.mkdir()
    real = database_server.binaries() / "pg_restore"
    (killed / "pg_restore").write_text(f'#!/bin/sh\n{real} "$@" | head -n 45\nkill -KILL $$\n')
    (killed / "pg_restore").chmod(0o755)
    text = (work / "load.sh").read_text()
    (work / "load.sh").write_text(text.replace("for database in", f'PATH="{killed}:$PATH"\nfor database in', 1))
    code, message = scripts.run("load", name)
    assert (code, message.partition(",")[0]) == (1, f"The database {name} stays as it was")
    assert postgres.execute("SELECT count(*) FROM runs", name) == [(8,)]


@pytest.mark.parametrize(
    ("prepared", "says"),
    [
        (lambda copy, key: copy.write(key, copy.read(key)[:-1]), "it was changed or cut off"),
        (lambda copy, key: copy.remove(key), "has no dump of"),
        (lambda copy, key: copy.write(key, b"another file"), "it is no file of age"),
        # Of another backup by the same passphrase.
        (
            lambda copy, key: copy.write(key, b"".join(dumps.age_file.seal(of_bytes(b"x"), PASSPHRASE))),
            "not the one of",
        ),
    ],
)
@pytest.mark.parametrize("step", ["look", "fetch"])
def test_a_dump_that_is_not_the_one_of_the_backup_is_refused(  # noqa: PLR0917  (fixtures)
    dumped, scripts, places, work, capsys, prepared, says, step
):
    back_up(scripts, dumped, work, DAY)
    (work / "version").write_text("99")
    prepared(places[1], of_dump(dumped))
    module = restore if step == "look" else dumps
    assert module.run(module.STEPS, [step, DAY]) == 1
    assert says in capsys.readouterr().err


def of_bytes(content):
    return dumps.age_file.Stream(iter([content]))


def test_another_passphrase_opens_no_dump(dumped, scripts, work, capsys, monkeypatch):
    back_up(scripts, dumped, work, DAY)
    monkeypatch.setenv("MLOPS_BACKUP_PASSPHRASE", "another passphrase, long")
    assert dumps.run(dumps.STEPS, ["fetch", DAY]) == 1
    assert "cannot be opened: the passphrase does not open it" in capsys.readouterr().err


def test_look_takes_dumps_of_an_older_server_and_refuses_those_of_a_newer_one(dumped, scripts, work, capsys):
    back_up(scripts, dumped, work, DAY)
    (work / "version").write_text("99")
    assert restore.run(restore.STEPS, ["look", "latest"]) == 0
    chosen = json.loads((work / "manifest.json").read_text())
    assert chosen["target"] == {"type": "dump", "target": chosen["time"]}
    (work / "version").write_text("9")
    assert restore.run(restore.STEPS, ["look", "latest"]) == 1
    assert "postgres_image is PostgreSQL 9" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([DAY, "2026-11-30T02:00:00Z"], "a dump has the databases of its own time only"),
        (["20261129T020000Z"], "was not made with backup_method pg_dump"),
    ],
)
def test_dumps_are_restored_as_they_are(dumped, scripts, work, capsys, arguments, says):  # noqa: PLR0917  (fixtures)
    set_out(work, dumped | {"method": "pgbackrest"})
    backed_up(work, "20261129T020000Z", "20261129-020000F")
    set_out(work, dumped)
    back_up(scripts, dumped, work, DAY)
    (work / "version").write_text("99")
    assert restore.run(restore.STEPS, ["look", *arguments]) == 1
    assert says in capsys.readouterr().err


def test_other_databases_are_refused(dumped, scripts, work, capsys):
    back_up(scripts, dumped, work, DAY)
    (work / "version").write_text("99")
    set_out(work, dumped | {"dumps": dumped["dumps"][:1]})
    assert restore.run(restore.STEPS, ["look", "latest"]) == 1
    assert f"the stack has {dumped['databases'][0]}" in capsys.readouterr().err


def test_dumps_are_kept_for_as_long_as_is_asked(dumped, scripts, places, work):
    _source, copy = places
    today = datetime.datetime.now(datetime.UTC)
    names = [(today - datetime.timedelta(days=days)).strftime("%Y%m%dT%H%M%SZ") for days in (4, 3, 2, 1)]
    # Of the other method, and what an interrupted backup has left.
    set_out(work, dumped | {"method": "pgbackrest"})
    backed_up(work, "20200101T020000Z", "20200101-020000F")
    set_out(work, dumped)
    for name in ("20200102T020000Z", names[3], (today + datetime.timedelta(days=1)).strftime("%Y%m%dT%H%M%SZ")):
        copy.write(f"backups/{name}/x.dump.age", b"x")
    copy.write(f"drills/{names[0]}.json", b'{"time": "2026-11-30T03:00:00+00:00"}')
    for name in names[:3]:
        back_up(scripts, dumped, work, name)
    assert [each["id"] for each in backup.manifests(copy)] == ["20200101T020000Z", names[1], names[2]]
    found = set(contents(copy))
    assert not any(name in key for key in found for name in (names[0], "20200102T020000Z"))
    assert f"backups/{names[3]}/x.dump.age" not in found
    assert len(backup.parts(copy, backup.manifests(copy))) == 1


def test_dumps_are_kept_for_days(dumped):
    now = datetime.datetime.now(datetime.UTC)
    whole = [
        {"id": str(days), "time": (now - datetime.timedelta(days=days)).isoformat(), "postgres": {"dumps": {}}}
        for days in (9, 3, 1)
    ]
    dumped["retention"] = {"count": 2, "unit": "days"}
    set_out(pathlib.Path(os.environ["MLOPS_BACKUP_WORK"]), dumped)
    assert backup.expired(whole) == ["9", "3"]
    # The newest one in any case.
    assert backup.expired(whole[:1]) == []


@pytest.mark.parametrize(
    ("database", "version", "says"),
    [
        ("absent", "", "PostgreSQL at 127.0.0.1 cannot be asked: "),
        ("", "pg_dump (PostgreSQL) 9.6.1", "postgres_image is PostgreSQL 9, and the server at 127.0.0.1 is "),
    ],
)
def test_what_cannot_be_dumped(dumped, scripts, work, database, version, says):  # noqa: PLR0917  (fixtures)
    if version:
        text = (work / "dump.sh").read_text()
        (work / "dump.sh").write_text(text.replace('"$(pg_dump --version)"', f"'{version}'"))
    code, message = scripts.run("dump", database or dumped["databases"][0])
    assert code == 1
    assert says in message


def test_a_database_that_is_not_dumped_whole_fails_the_step(dumped, scripts, postgres):
    first, second = dumped["databases"]
    postgres.execute(f"CREATE ROLE of_{first} LOGIN")
    postgres.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO of_{first}", first)
    code, message = scripts.run("dump", first, second, PGUSER=f"of_{first}")
    assert code == 1
    assert message.startswith(f"The database {second} could not be dumped: pg_dump: error: ")


def test_a_drill_fetches_dumps_and_says_who_owns_the_databases(dumped, scripts, cluster, work):
    place = ("mlflow", "mlflow-db")
    cluster.secrets_there[place] = secret(place, username=b"a user", password=b"x")
    dumped["secrets"]["names"]["mlflow"].append("mlflow-db")
    set_out(work, dumped)
    back_up(scripts, dumped, work, DAY)
    assert drill.run(drill.STEPS, ["choose"]) == 0
    first, second = dumped["databases"]
    assert (work / "databases").read_text() == f"{first} a user\n{second} a user\n"
    assert {each.name for each in (work / "dumps").iterdir()} == {f"{first}.dump", f"{second}.dump"}


# --- files of ansible-vault -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"x" * 16, b"x" * 1000])
def test_what_is_sealed_is_opened(content):
    text = vault_file.seal(content, PASSPHRASE)
    assert vault_file.unseal(text, PASSPHRASE) == content
    assert vault_file.seal(content, PASSPHRASE) != text
    with pytest.raises(vault_file.VaultFileError, match="does not open"):
        vault_file.unseal(text, PASSPHRASE + "!")


@pytest.mark.parametrize("text", ["", "nothing", "$ANSIBLE_VAULT;1.1;AES256\nzz", "$ANSIBLE_VAULT;1.2;AES256;x\n3333"])
def test_other_files_are_refused(text):
    with pytest.raises(vault_file.VaultFileError, match="no file of ansible-vault"):
        vault_file.unseal(text, PASSPHRASE)


def test_a_changed_file_is_refused():
    lines = vault_file.seal(b"x" * 100, PASSPHRASE).splitlines()
    lines[-1] = ("3" if lines[-1][-1] != "3" else "4").join((lines[-1][:-1], ""))
    with pytest.raises(vault_file.VaultFileError):
        vault_file.unseal("\n".join(lines), PASSPHRASE)


# --- a drill ----------------------------------------------------------------------------------------------------------

LOGIN, KEYS = ("mlflow", "mlflow-db"), ("mlflow", "mlflow-encryption-keys")
KEK = "a passphrase of the gateway"
WEBHOOK = Fernet.generate_key()


def secret(place, **data):
    """A Secret with these values."""
    encoded = {name: base64.b64encode(value).decode() for name, value in data.items()}
    return {**PLAIN, "metadata": {"namespace": place[0], "name": place[1]}, "data": encoded}


def set_out(work, known):
    """Write down what is to be done."""
    (work / "backup.json").write_text(json.dumps(known))


@pytest.fixture
def drilled(stack, places, migrated, cluster, work):
    """A stack of MLflow whose newest backup a drill has restored; returns its configuration.

    In place of restored databases, it has those that were backed up.
    """
    source, copy = places
    copy.keep_versions()
    found = migrated("oidc").copy()
    stack["databases"] = [found.tracking]
    sealed_secret, private = sealing_key()
    cluster.secrets_there |= {
        LOGIN: secret(LOGIN, username=b"postgres", password=b"of the role"),
        KEYS: secret(KEYS, **{"gateway-passphrase": KEK.encode(), "webhook-key": WEBHOOK}),
    }
    cluster.sealing = [secret(("sealed-secrets", "key-1"), **{"tls.key": private})]
    cluster.sealed_there = {LOGIN: sealed_secret}
    stack["secrets"] = {"names": {"mlflow": [LOGIN[1], KEYS[1]]}, "sealing": "sealed-secrets"}
    stack["drill"] = {
        "database": "/".join(LOGIN),
        "encryption": "/".join(KEYS),
        "sealed": {"mlflow": [LOGIN[1], "absent"]},
        "most_bytes": 1 << 30,
        "login": {},
    }
    set_out(work, stack)
    identifier, name = str(uuid.uuid4()), "of a provider"
    encrypted = crypto._encrypt_secret("the key", crypto.KEKManager(KEK), identifier, name)
    found.server.execute(
        "INSERT INTO secrets (secret_id, secret_name, encrypted_value, wrapped_dek, kek_version, masked_value, "
        f"created_at, last_updated_at) VALUES ('{identifier}', '{name}', '\\x{encrypted.encrypted_value.hex()}', "
        f"'\\x{encrypted.wrapped_dek.hex()}', {encrypted.kek_version}, '\"***\"', 1, 1)",
        found.tracking,
    )
    sample = Fernet(WEBHOOK).encrypt(b"sample").decode()
    found.server.execute("DELETE FROM mlops_encryption", found.tracking)
    found.server.execute(f"INSERT INTO mlops_encryption (name, sample) VALUES ('webhooks', '{sample}')", found.tracking)
    put(source, small=b"content", large=os.urandom((20 << 20) + 5))
    source.client.upload_file(str(big(work)), source.name, "parts")
    backed_up(work, "20261130T020000Z", "20261130-020000F")
    assert drill.run(drill.STEPS, ["choose"]) == 0
    stack["server"] = found.server
    return stack


def big(folder):
    """A file that is uploaded in parts."""
    path = folder / "big"
    path.write_bytes(os.urandom(17 << 20))
    return path


def sealing_key():
    """A SealedSecret of the login, and the private key that opens it."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    session = os.urandom(32)
    way = padding.OAEP(mgf=padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=b"mlflow/mlflow-db")
    first = key.public_key().encrypt(session, way)
    text = base64.b64encode(struct.pack(">H", len(first)) + first + AESGCM(session).encrypt(bytes(12), b"value", None))
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    metadata = {"namespace": "mlflow", "name": "mlflow-db"}
    return {"metadata": metadata, "spec": {"encryptedData": {"password": text.decode()}}}, pem


@pytest.mark.usefixtures("drilled")
def test_a_drill_checks_all_and_writes_down_that_it_held(places, capsys):
    assert drill.run(drill.STEPS, ["check"]) == 0
    assert "and holds: " in capsys.readouterr().out.splitlines()[-1]
    record = json.loads(places[1].read("drills/20261130T020000Z.json"))
    assert record["objects"] == {"there": 3, "read": 3, "read_size": 7 + (20 << 20) + 5 + (17 << 20)}
    assert (record["gateway_secrets"], record["sealed_secrets"], record["secrets"]) == (1, 1, 3)
    assert sum(record["rows"].values()) > 0
    assert restore.run(restore.STEPS, ["list"]) == 0
    (listed,) = json.loads(capsys.readouterr().out.splitlines()[-1])["whole"]
    assert listed["drill"] == record["time"]


@pytest.mark.usefixtures("drilled")
def test_the_target_is_for_a_shell(work):
    script = '. "$1"; printf "%s|%s|%s|%s" "$TARGET_TYPE" "$BACKUP_SET" "$TARGET_TIMELINE" "$NEEDED"'
    command = ["sh", "-c", script, "sh", work / "target.sh"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"lsn|20261130-020000F|1|{6 * (1 << 20) + (256 << 20)}"


@pytest.mark.parametrize(
    ("sql", "sentence"),
    [
        ("DELETE FROM mlops_encryption", "public.mlops_encryption has 0 rows instead of 1"),
        ("UPDATE alembic_version SET version_num = 'x'", "public.alembic_version is at ['x']"),
        ("UPDATE secrets SET wrapped_dek = encrypted_value", "does not open the AI gateway's secret of a provider"),
        ("UPDATE mlops_encryption SET sample = 'x'", "key of webhooks does not open"),
    ],
)
def test_databases_that_are_not_those_of_the_backup_fail(drilled, places, capsys, sql, sentence):
    drilled["server"].execute(sql, drilled["databases"][0])
    assert drill.run(drill.STEPS, ["check"]) == 1
    assert sentence in capsys.readouterr().err
    assert places[1].read("drills/20261130T020000Z.json") is None


@pytest.mark.parametrize(
    ("key", "content", "sentence"),
    [
        ("objects/small", None, "1 objects of the backup are not at its destination: ['small']"),
        ("objects/small", b"contenT", "1 objects are not as they were backed up: ['small']"),
        ("objects/parts", bytes(17 << 20), "1 objects are not as they were backed up: ['parts']"),
        ("backups/20261130T020000Z/keys.vault", b"$ANSIBLE_VAULT;1.1;AES256\n00\n", "cannot be opened"),
        ("backups/20261130T020000Z/objects.json.gz", None, "has no list of objects"),
    ],
)
@pytest.mark.usefixtures("drilled")
def test_a_copy_that_was_changed_fails(places, work, capsys, key, content, sentence):  # noqa: PLR0917  (fixtures)
    _source, copy = places
    if content is None:
        copy.remove(key)
    else:
        put(copy, **{key: content})
        # Without versions, the list names none.
        listed = [each._replace(version="") for each in buckets.read_list(copy.read(of("objects.json.gz")))]
        buckets.write_list(work / "list", listed)
        put(copy, **{of("objects.json.gz"): (work / "list").read_bytes()})
    assert drill.run(drill.STEPS, ["check"]) == 1
    assert sentence in capsys.readouterr().err


def of(name):
    """The key of a file of the backup."""
    return f"backups/20261130T020000Z/{name}"


@pytest.mark.usefixtures("drilled")
@pytest.mark.parametrize("items", [[], [secret(LOGIN, username=b"postgres", password=b"of another stack")]])
def test_keys_of_another_backup_fail(places, capsys, items):
    """They open, and are not those of the manifest."""
    other = vault_file.seal(json.dumps({"items": items}).encode(), PASSPHRASE)
    put(places[1], **{of("keys.vault"): other.encode()})
    assert drill.run(drill.STEPS, ["check"]) == 1
    assert "Secrets of the backup are not those of its manifest: " in capsys.readouterr().err


@pytest.mark.usefixtures("drilled")
def test_former_versions_are_read_where_an_object_was_overwritten_later(places):
    put(places[1], **{"objects/small": b"another, later"})
    assert drill.run(drill.STEPS, ["check"]) == 0


@pytest.mark.usefixtures("drilled")
def test_keys_that_do_not_fit_fail(cluster, work, capsys, monkeypatch):
    cluster.sealing = [secret(("sealed-secrets", "key-1"), **{"tls.key": sealing_key()[1]})]
    backed_up(work, "20261201T020000Z", "20261130-020000F", "20261201-020000F")
    assert drill.run(drill.STEPS, ["choose", "latest"]) == 0
    assert drill.run(drill.STEPS, ["check"]) == 1
    assert "No sealing key of the backup opens password of the SealedSecret mlflow/mlflow-db" in capsys.readouterr().err
    cluster.secrets_there[LOGIN] = secret(LOGIN, username=b"nobody_here", password=b"x")
    backed_up(work, "20261202T020000Z", "20261130-020000F", "20261202-020000F")
    assert drill.run(drill.STEPS, ["choose"]) == 0
    monkeypatch.setenv("PGUSER", "postgres")
    assert drill.run(drill.STEPS, ["check"]) == 1
    assert "cannot be used with the backup's password" in capsys.readouterr().err


@pytest.mark.usefixtures("drilled")
def test_secrets_that_a_rotation_has_not_reached_yet_open_with_the_key_before(cluster, work):
    """And where a process of after it has encrypted them, with the next one."""
    for after in ("-previous", "-next"):
        keys = {"gateway-passphrase": b"another", "webhook-key": Fernet.generate_key()}
        keys |= {f"gateway-passphrase{after}": KEK.encode(), f"webhook-key{after}": WEBHOOK}
        cluster.secrets_there[KEYS] = secret(KEYS, **keys)
        backed_up(work, "20261201T020000Z", "20261130-020000F", "20261201-020000F")
        assert drill.run(drill.STEPS, ["choose"]) == 0
        assert drill.run(drill.STEPS, ["check"]) == 0


# --- the login of a drill ---------------------------------------------------------------------------------------------

VARIABLES = [
    {"name": "PGUSER", "valueFrom": {"secretKeyRef": {"name": LOGIN[1], "key": "username"}}},
    {"name": "PGPASSWORD", "valueFrom": {"secretKeyRef": {"name": LOGIN[1], "key": "password"}}},
    {"name": "BEFORE", "valueFrom": {"secretKeyRef": {"name": LOGIN[1], "key": "before", "optional": True}}},
    {"name": "OTHERS", "valueFrom": {"secretKeyRef": {"name": "of-others", "key": "x"}}},
    {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
    {"name": "BOTH", "value": "$(PGUSER),$(BEFORE),$(NOBODY),$$(PGUSER)"},
    {"name": "PGSSLMODE", "value": "verify-full"},
    {"name": "SSL_CERT_FILE", "value": "/etc/ca.crt"},
    {"name": "EMPTY", "value": ""},
    {"name": "dotted.name", "value": "x"},
]
INSTEAD = {"PGSSLMODE": "disable", "SSL_CERT_FILE": None, "NOT_THERE": "x"}
QUOTED = "it's \"$(x) `x` \\ \n new"


@pytest.fixture
def begun(drilled, work, cluster, monkeypatch, tmp_path):
    """A drill that is to log in; returns a function that changes what it is asked."""
    cluster.secrets_there[LOGIN] = secret(LOGIN, username=b"postgres", password=QUOTED.encode())
    (tmp_path / "keys").mkdir()
    monkeypatch.setenv("MLOPS_DRILL_KEYS", str(tmp_path / "keys"))

    def begun(*variables):
        environments = {"mlflow": {"namespace": "mlflow", "variables": [*VARIABLES, *variables]}}
        drilled["drill"]["login"] = {"way": "none", "environments": environments, "instead": INSTEAD}
        set_out(work, {name: value for name, value in drilled.items() if name != "server"})
        backed_up(work, "20261201T020000Z", "20261130-020000F", "20261201-020000F")
        assert drill.run(drill.STEPS, ["choose"]) == 0
        return drill.run(drill.STEPS, ["check"])

    return begun


def test_servers_get_the_variables_of_the_stack_with_the_backups_credentials(begun, places, tmp_path, capsys):
    assert begun() == 0
    path = tmp_path / "keys" / "mlflow"
    assert path.stat().st_mode & 0o777 == 0o640
    names = ("PGUSER", "PGPASSWORD", "BOTH", "PGSSLMODE", "EMPTY")
    script = f'. "$1"; env -0; : "${{{"}${".join(f"{name}?" for name in names)}}}"'
    done = subprocess.run(["sh", "-euc", script, "sh", path], capture_output=True, text=True, check=True, env={})
    found = dict(each.partition("=")[::2] for each in done.stdout.split("\0") if each)
    assert {name: found.get(name) for name in names} == {
        "PGUSER": "postgres",
        "PGPASSWORD": QUOTED,
        "BOTH": "postgres,,$(NOBODY),$(PGUSER)",
        "PGSSLMODE": "disable",
        "EMPTY": "",
    }
    assert not {"BEFORE", "OTHERS", "POD_IP", "SSL_CERT_FILE", "NOT_THERE"} & found.keys()
    said = capsys.readouterr()
    assert "OTHERS is left out, since of-others is no Secret of the stack" in said.out
    assert QUOTED not in said.out + said.err
    # The record is written at the end of the login.
    assert places[1].read("drills/20261201T020000Z.json") is None


def test_a_backup_without_a_key_that_a_server_needs(begun, capsys):
    reference = {"secretKeyRef": {"name": LOGIN[1], "key": "gone"}}
    assert begun({"name": "GONE", "valueFrom": reference}) == 1
    assert "The backup has no gone in the Secret mlflow/mlflow-db" in capsys.readouterr().err


@pytest.mark.parametrize("artifact", ["kept.bin", ""])
def test_what_a_login_found_is_written_down(begun, drilled, places, capsys, monkeypatch, artifact):  # noqa: PLR0917  (fixtures)
    source, copy = places
    run, gone = uuid.uuid4().hex, uuid.uuid4().hex
    columns = "run_uuid, experiment_id, artifact_uri, lifecycle_stage, status, source_type"
    values = f"'{run}', 0, 'mlflow-artifacts:/0/{run}/artifacts', 'active', 'FINISHED', 'LOCAL'"
    drilled["server"].execute(
        "INSERT INTO experiments (experiment_id, name) VALUES (0, 'x') ON CONFLICT DO NOTHING",
        drilled["databases"][0],
    )
    drilled["server"].execute(f"INSERT INTO runs ({columns}) VALUES ({values})", drilled["databases"][0])
    put(source, **{f"0/{gone}/artifacts/kept.bin": b"of a run that was deleted"})
    if artifact:
        put(source, **{f"0/{run}/artifacts/{artifact}": b"content of it"})
    assert begun() == 0
    asked = []

    def walk(*given):
        asked.append(given)
        return {"way": "none", "user": "", "run": given[2], "artifact": given[3], "seconds": 1.5}

    monkeypatch.setattr(drill.walk, "walk", walk)
    assert drill.run(drill.STEPS, ["login"]) == 0
    said = capsys.readouterr().out.splitlines()[-1]
    assert ("MLflow gave a run and an artifact" if artifact else "MLflow gave a run") in said
    (known, found, *what, is_whole) = asked[0]
    assert known["way"] == "none"
    assert found["mlflow/mlflow-db"]["username"] == b"postgres"
    assert what == [run, artifact]
    assert is_whole([b"content", b" of it"]) == bool(artifact)
    assert not is_whole([b"content of is"])
    record = json.loads(copy.read("drills/20261201T020000Z.json"))
    assert record["login"]["run"] == run
    assert record["seconds_of"].keys() == {"restore", "check"}


def test_a_part_of_the_artifacts_is_read_and_another_one_each_time():
    objects = [buckets.Object(f"run/{number}", 10) for number in range(4000)]
    first, second = (set(drill.sample(objects, backup, 0.1)) for backup in ("one", "two"))
    assert 300 < len(first) < 500
    assert len(first & second) < 100
    assert list(drill.sample(objects, "one", 1.0)) == objects
