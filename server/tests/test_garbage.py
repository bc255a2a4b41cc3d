"""What users deleted is permanently deleted, and nothing else, on a real MinIO and a real PostgreSQL."""

import contextlib
import threading
import time

import pytest
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as RegistryStore
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from lib import minio as store
from mlops_mlflow_server import databases, garbage, holds

DESTINATION = f"s3://{store.BUCKET}"


class Stack:
    """A tracking store of MLflow with a bucket, and what users do there."""

    def __init__(self, databases, minio):
        self.databases, self.minio = databases, minio
        self.store = SqlAlchemyStore(databases.variables["MLFLOW_BACKEND_STORE_URI"], "mlflow-artifacts:/")

    def sql(self, statement):
        return self.databases.server.execute(statement, self.databases.tracking)

    def run(self, experiment):
        """Make a run with an artifact; returns its identifier."""
        run = self.store.create_run(experiment, "ada", int(time.time() * 1000), [], "run")
        self.put(run.info.artifact_uri.removeprefix("mlflow-artifacts:/"))
        return run.info.run_id

    def put(self, folder):
        self.minio.client.put_object(Bucket=store.BUCKET, Key=f"{folder}/model.bin", Body=b"model")

    def objects(self):
        found = self.minio.client.list_objects_v2(Bucket=store.BUCKET).get("Contents", [])
        return {each["Key"] for each in found}

    def runs(self, experiment):
        found = self.store.search_runs([experiment], "", ViewType.ALL)
        return {each.info.run_id for each in found}

    def passes(self, minutes=10):
        """Let what was deleted have been deleted earlier."""
        earlier = minutes * 60000
        self.sql(f"UPDATE runs SET deleted_time = deleted_time - {earlier} WHERE deleted_time IS NOT NULL")
        self.sql(f"UPDATE experiments SET last_update_time = last_update_time - {earlier}")
        self.sql(f"UPDATE logged_models SET last_updated_timestamp_ms = last_updated_timestamp_ms - {earlier}")

    def register(self, source, run=None):
        """Make a version of a registered model."""
        registry = RegistryStore(self.databases.variables["MLFLOW_BACKEND_STORE_URI"])
        with contextlib.suppress(MlflowException):
            registry.create_registered_model("registered")
        return registry.create_model_version("registered", source, run)

    def cursor(self):
        """A cursor of a connection of its own, which is closed with the test's process."""
        connection = self.databases.server.connect(self.databases.tracking)
        connection.autocommit = False
        return connection.cursor()


@pytest.fixture
def stack(migrated, minio, monkeypatch):
    databases = migrated("oidc").copy()
    for name, value in {**databases.variables, **minio.variables, "MLOPS_HOLD_WAIT": "0.01"}.items():
        monkeypatch.setenv(name, value)
    found = Stack(databases, minio)
    for key in found.objects():
        minio.client.delete_object(Bucket=store.BUCKET, Key=key)
    return found


def collect(older_than="1m"):
    return garbage.main([f"--artifacts-destination={DESTINATION}", f"--older-than={older_than}", "--delete"])


def test_deleted_run_and_its_artifacts_and_no_others(stack):
    experiment = stack.store.create_experiment("one")
    gone, there = stack.run(experiment), stack.run(experiment)
    stack.store.delete_run(gone)
    stack.passes()
    assert collect() == 0
    assert stack.runs(experiment) == {there}
    assert stack.objects() == {f"{experiment}/{there}/artifacts/model.bin"}
    assert [job for (job,) in stack.sql("SELECT job FROM mlops_jobs")] == ["gc"]


def test_what_was_deleted_lately_stays(stack):
    experiment = stack.store.create_experiment("one")
    run = stack.run(experiment)
    stack.store.delete_run(run)
    gone = stack.store.create_experiment("gone")
    stack.put(f"{gone}/traces/tr-1/artifacts")
    stack.store.delete_experiment(gone)
    stack.passes()
    assert collect("1d") == 0
    assert stack.runs(experiment) == {run}
    assert stack.objects() == {f"{experiment}/{run}/artifacts/model.bin", f"{gone}/traces/tr-1/artifacts/model.bin"}


def test_deleted_experiment_with_all_that_is_in_its_folder(stack):
    gone, there = (stack.store.create_experiment(name) for name in ("gone", "there"))
    kept = stack.run(there)
    stack.run(gone)
    model = stack.store.create_logged_model(gone)
    stack.put(f"{gone}/models/{model.model_id}/artifacts")
    stack.put(f"{gone}/traces/tr-1/artifacts")
    stack.sql(
        "INSERT INTO trace_info (request_id, experiment_id, timestamp_ms, status) "
        f"SELECT 'tr-' || i, {gone}, i, 'OK' FROM generate_series(1, {garbage.TRACES + 1}) i"
    )
    stack.store.delete_experiment(gone)
    stack.passes()
    assert collect() == 0
    assert stack.sql(f"SELECT count(*) FROM experiments WHERE experiment_id = {gone}") == [(0,)]
    assert stack.sql("SELECT count(*) FROM trace_info") == [(0,)]
    assert stack.objects() == {f"{there}/{kept}/artifacts/model.bin"}


def test_deleted_logged_model(stack):
    experiment = stack.store.create_experiment("one")
    model = stack.store.create_logged_model(experiment)
    stack.put(f"{experiment}/models/{model.model_id}/artifacts")
    stack.store.delete_logged_model(model.model_id)
    stack.passes()
    assert collect() == 0
    assert stack.objects() == set()
    assert stack.sql("SELECT count(*) FROM logged_models") == [(0,)]


def test_artifacts_that_are_gone_already(stack):
    experiment = stack.store.create_experiment("one")
    run = stack.run(experiment)
    stack.minio.client.delete_object(Bucket=store.BUCKET, Key=f"{experiment}/{run}/artifacts/model.bin")
    stack.store.delete_run(run)
    stack.passes()
    assert collect() == 0
    assert stack.runs(experiment) == set()


def test_what_a_registered_model_uses_is_kept(stack, capsys):
    experiment = stack.store.create_experiment("one")
    by_run, free = stack.run(experiment), stack.run(experiment)
    model = stack.store.create_logged_model(experiment)
    folder = f"{experiment}/models/{model.model_id}/artifacts"
    stack.put(folder)
    stack.register(f"mlflow-artifacts:/{experiment}/{by_run}/artifacts/model", by_run)
    stack.register(f"mlflow-artifacts:/{folder}")
    stack.store.delete_experiment(experiment)
    stack.passes()
    assert collect() == 0
    said = capsys.readouterr().out
    assert f"Kept run {by_run}: version registered 1 of a registered model uses it" in said
    assert f"Kept experiment {experiment}: it has 2 runs and logged models" in said
    assert f"Deleted run {free}" in said
    assert stack.objects() == {f"{experiment}/{by_run}/artifacts/model.bin", f"{folder}/model.bin"}
    # And goes with its last version.
    RegistryStore(stack.databases.variables["MLFLOW_BACKEND_STORE_URI"]).delete_registered_model("registered")
    assert collect() == 0
    assert stack.objects() == set()


@pytest.mark.parametrize("location", ["mlflow-artifacts:/{}", f"s3://{store.BUCKET}/{{}}", f"s3://{store.BUCKET}"])
def test_experiment_at_the_place_of_another_one(stack, location):
    """Whoever may choose a location could otherwise have the artifacts of others deleted."""
    victim = stack.store.create_experiment("victim")
    kept = stack.run(victim)
    other = stack.store.create_experiment("other", artifact_location=location.format(victim))
    stack.store.delete_experiment(other)
    stack.passes()
    assert collect() == 0
    assert stack.objects() == {f"{victim}/{kept}/artifacts/model.bin"}


@pytest.mark.parametrize("location", ["mlflow-artifacts:/{}", f"s3://{store.BUCKET}/{{}}/inner"])
def test_another_experiment_in_the_folder(stack, capsys, location):
    gone = stack.store.create_experiment("gone")
    stack.store.create_experiment("guest", artifact_location=location.format(gone))
    stack.put(f"{gone}/inner/data")
    stack.store.delete_experiment(gone)
    stack.passes()
    assert collect() == 0
    assert "artifacts of the experiment guest may be in its folder" in capsys.readouterr().out
    assert stack.objects() == {f"{gone}/inner/data/model.bin"}
    assert stack.sql(f"SELECT count(*) FROM experiments WHERE experiment_id = {gone}") == [(1,)]


def test_run_that_was_restored_in_a_deleted_experiment(stack):
    experiment = stack.store.create_experiment("one")
    restored, again = stack.run(experiment), stack.run(experiment)
    stack.store.delete_experiment(experiment)
    stack.passes()
    stack.store.restore_run(restored)
    stack.store.restore_run(again)
    stack.store.delete_run(again)
    assert collect() == 0
    assert stack.runs(experiment) == {restored, again}
    assert len(stack.objects()) == 2


def test_run_that_is_restored_meanwhile(stack, monkeypatch):
    experiment = stack.store.create_experiment("one")
    run = stack.run(experiment)
    stack.store.delete_run(run)
    stack.passes()
    find = garbage.find

    def restored_then(*given):
        found = find(*given)
        if given[1] is garbage.RUN:
            stack.store.restore_run(run)
        return found

    monkeypatch.setattr(garbage, "find", restored_then)
    assert collect() == 0
    assert stack.runs(experiment) == {run}
    assert len(stack.objects()) == 1


@pytest.mark.parametrize(
    "uri",
    [
        "mlflow-artifacts:/{experiment}",
        "mlflow-artifacts:/{experiment}/{kept}/artifacts",
        "mlflow-artifacts:/{gone}/../{experiment}/{gone}/artifacts",
        "mlflow-artifacts://host/{experiment}/{gone}/artifacts",
        "mlflow-artifacts:/%31/{gone}/artifacts",
        "s3://mlflow",
        "s3://elsewhere/{experiment}/{gone}/artifacts",
        "gs://mlflow/{experiment}/{gone}/artifacts",
    ],
)
def test_run_elsewhere_is_kept(stack, capsys, uri):
    experiment = stack.store.create_experiment("one")
    gone, kept, last = (stack.run(experiment) for _number in range(3))
    stack.store.delete_run(gone)
    stack.store.delete_run(last)
    stack.passes()
    there = uri.format(experiment=experiment, gone=gone, kept=kept)
    stack.sql(f"UPDATE runs SET artifact_uri = '{there}' WHERE run_uuid = '{gone}'")
    assert collect() == 0
    assert f"Kept run {gone}: its artifacts are at {there}" in capsys.readouterr().out
    # And does not keep others.
    assert stack.runs(experiment) == {gone, kept}
    assert stack.objects() == {f"{experiment}/{each}/artifacts/model.bin" for each in (gone, kept)}


def test_what_the_object_store_keeps_keeps_its_row(stack, capsys, monkeypatch):
    experiment = stack.store.create_experiment("one")
    kept, gone = stack.run(experiment), stack.run(experiment)
    for run in (kept, gone):
        stack.store.delete_run(run)
    stack.passes()
    client = garbage.Store(DESTINATION)._client
    delete_objects = client.delete_objects

    def refuse(**given):
        if any(kept in each["Key"] for each in given["Delete"]["Objects"]):
            return {"Errors": [{"Key": "model.bin", "Code": "AccessDenied"}]}
        return delete_objects(**given)

    monkeypatch.setattr(client, "delete_objects", refuse)
    assert collect() == 1
    said = capsys.readouterr()
    assert f"Not deleted: run {kept}: the object store keeps model.bin: AccessDenied" in said.out
    assert "1 could not be deleted" in said.err
    assert stack.runs(experiment) == {kept}


def test_experiment_0_stays(stack):
    stack.store.delete_experiment("0")
    stack.passes()
    assert collect() == 0
    assert stack.sql("SELECT artifact_location FROM experiments WHERE experiment_id = 0") == [("mlflow-artifacts:/0",)]


def test_without_delete_it_only_lists(stack, capsys):
    experiment = stack.store.create_experiment("one")
    old, new = stack.run(experiment), stack.run(experiment)
    stack.store.delete_run(old)
    stack.passes()
    stack.store.delete_run(new)
    assert garbage.main([f"--artifacts-destination={DESTINATION}"]) == 0
    said = capsys.readouterr().out
    assert f"run {old}, deleted 20" in said
    assert f"run {new}, deleted 20" in said
    assert "Nothing is deleted permanently" in said
    assert garbage.main([f"--artifacts-destination={DESTINATION}", "--older-than=5m"]) == 0
    said = capsys.readouterr().out
    assert f"run {old}, " in said
    assert new not in said
    assert stack.runs(experiment) == {old, new}
    assert len(stack.objects()) == 2


def test_nothing_while_a_backup_copies(stack, capsys, monkeypatch):
    experiment = stack.store.create_experiment("one")
    run = stack.run(experiment)
    stack.store.delete_run(run)
    stack.passes()
    cursor = stack.cursor()
    holds.hold(cursor, "backup", 3600)
    cursor.connection.commit()
    assert collect() == 1
    assert "a backup has not ended, and holds it until 20" in capsys.readouterr().err
    assert stack.runs(experiment) == {run}
    assert len(stack.objects()) == 1
    # It waits, and goes on when the backup ends.
    monkeypatch.setenv("MLOPS_HOLD_WAIT", "30")

    def release():
        holds.release(cursor, "backup")
        cursor.connection.commit()

    timer = threading.Timer(1, release)
    timer.start()
    assert collect() == 0
    timer.join()
    assert stack.runs(experiment) == set()


def test_a_backup_that_died_holds_for_its_time_only(stack):
    experiment = stack.store.create_experiment("one")
    stack.store.delete_run(stack.run(experiment))
    stack.passes()
    cursor = stack.cursor()
    holds.hold(cursor, "backup", 0)
    cursor.connection.commit()
    assert collect() == 0
    assert stack.runs(experiment) == set()


def test_a_backup_waits_for_a_deletion(stack, monkeypatch):
    first, second = stack.cursor(), stack.cursor()
    assert holds.begin_deletion(first) is None
    first.connection.commit()
    monkeypatch.setattr(holds, "LONGEST_WAIT", 0.3)
    with pytest.raises(databases.Failure, match="A deletion"):
        holds.hold(second, "backup", 60)
    second.connection.rollback()
    # Not two at once.
    assert collect() == 1
    holds.end_deletion(first)
    first.connection.commit()
    holds.hold(second, "backup", 60)
    second.connection.commit()
    assert collect() == 1


@pytest.mark.parametrize("text", ["30", "d", "-1d", "1.5d", "30 d", "1m1h", "x", "0d", "99999999999d", ""])
def test_age_that_is_none(stack, capsys, text):
    assert collect(text) == 1
    assert "30d or 1d12h" in capsys.readouterr().err


@pytest.mark.parametrize(("text", "seconds"), [("30d", 30 * 86400), ("1d12h", 36 * 3600), ("5m10s", 310)])
def test_age(text, seconds):
    assert garbage.age(text).total_seconds() == seconds
