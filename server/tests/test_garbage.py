"""What users deleted is deleted for good, and nothing else, on a real MinIO and a real PostgreSQL."""

import threading
import time

import pytest
from mlflow.entities import ViewType
from mlflow.store.artifact import artifact_repository_registry as registries
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from lib import minio as store
from mlops_mlflow_server import garbage, holds

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

    def cursor(self):
        """A cursor of a connection of its own, which is closed with the test's process."""
        return self.databases.server.connect(self.databases.tracking).cursor()


@pytest.fixture
def stack(migrated, minio, monkeypatch):
    databases = migrated("oidc").copy()
    for name, value in {**databases.variables, **minio.variables, "MLOPS_HOLD_WAIT": "0.01"}.items():
        monkeypatch.setenv(name, value)
    # The process of a deletion ends; this one goes on.
    known = registries._artifact_repository_registry._registry
    monkeypatch.setattr(registries._artifact_repository_registry, "_registry", dict(known))
    found = Stack(databases, minio)
    for key in found.objects():
        minio.client.delete_object(Bucket=store.BUCKET, Key=key)
    return found


def collect(older_than="0s"):
    return garbage.main([f"--artifacts-destination={DESTINATION}", f"--older-than={older_than}"])


def test_deleted_run_and_its_artifacts_and_no_others(stack):
    experiment = stack.store.create_experiment("one")
    gone, there = stack.run(experiment), stack.run(experiment)
    stack.store.delete_run(gone)
    assert collect() == 0
    assert stack.runs(experiment) == {there}
    assert stack.objects() == {f"{experiment}/{there}/artifacts/model.bin"}


def test_what_was_deleted_lately_stays(stack):
    experiment = stack.store.create_experiment("one")
    run = stack.run(experiment)
    stack.store.delete_run(run)
    gone = stack.store.create_experiment("gone")
    stack.put(f"{gone}/traces/tr-1/artifacts")
    stack.store.delete_experiment(gone)
    assert collect("1d") == 0
    assert stack.runs(experiment) == {run}
    assert stack.objects() == {f"{experiment}/{run}/artifacts/model.bin", f"{gone}/traces/tr-1/artifacts/model.bin"}


def test_deleted_experiment_with_all_that_is_in_its_folder(stack):
    gone, there = (stack.store.create_experiment(name) for name in ("gone", "there"))
    kept = stack.run(there)
    stack.run(gone)
    stack.put(f"{gone}/traces/tr-1/artifacts")
    stack.store.delete_experiment(gone)
    assert collect() == 0
    assert stack.sql(f"SELECT count(*) FROM experiments WHERE experiment_id = {gone}") == [(0,)]
    assert stack.objects() == {f"{there}/{kept}/artifacts/model.bin"}


def test_deleted_logged_model(stack):
    experiment = stack.store.create_experiment("one")
    model = stack.store.create_logged_model(experiment)
    stack.put(f"{experiment}/models/{model.model_id}/artifacts")
    stack.store.delete_logged_model(model.model_id)
    assert collect() == 0
    assert stack.objects() == set()
    assert stack.sql("SELECT count(*) FROM logged_models") == [(0,)]


def test_artifacts_that_are_gone_already(stack):
    experiment = stack.store.create_experiment("one")
    run = stack.run(experiment)
    stack.minio.client.delete_object(Bucket=store.BUCKET, Key=f"{experiment}/{run}/artifacts/model.bin")
    stack.store.delete_run(run)
    assert collect() == 0
    assert stack.runs(experiment) == set()


@pytest.mark.parametrize("location", ["mlflow-artifacts:/{}", f"s3://{store.BUCKET}/{{}}", f"s3://{store.BUCKET}"])
def test_experiment_at_the_place_of_another_one(stack, location):
    """Whoever may choose a location could otherwise have the artifacts of others deleted."""
    victim = stack.store.create_experiment("victim")
    kept = stack.run(victim)
    other = stack.store.create_experiment("other", artifact_location=location.format(victim))
    stack.store.delete_experiment(other)
    assert collect() == 0
    assert stack.objects() == {f"{victim}/{kept}/artifacts/model.bin"}


@pytest.mark.parametrize("uri", ["mlflow-artifacts:/{0}", "mlflow-artifacts:/{1}/../{0}/{2}/artifacts", "s3://mlflow"])
def test_run_at_the_place_of_others(stack, capsys, uri):
    experiment = stack.store.create_experiment("one")
    gone, kept = stack.run(experiment), stack.run(experiment)
    stack.store.delete_run(gone)
    stack.sql(f"UPDATE runs SET artifact_uri = '{uri.format(experiment, gone, kept)}' WHERE run_uuid = '{gone}'")
    assert collect() == 0
    assert f"{experiment}/{kept}/artifacts/model.bin" in stack.objects()
    assert "is not below the identifier" in capsys.readouterr().out


def test_without_an_age_it_only_lists(stack, capsys):
    experiment = stack.store.create_experiment("one")
    run = stack.run(experiment)
    stack.store.delete_run(run)
    assert garbage.main([f"--artifacts-destination={DESTINATION}"]) == 0
    said = capsys.readouterr().out
    assert f"runs: {run}" in said
    assert "Nothing is deleted for good" in said
    assert stack.runs(experiment) == {run}
    assert len(stack.objects()) == 1


def test_nothing_while_a_backup_copies(stack, capsys, monkeypatch):
    experiment = stack.store.create_experiment("one")
    run = stack.run(experiment)
    stack.store.delete_run(run)
    cursor = stack.cursor()
    holds.hold(cursor, "backup", 3600)
    cursor.connection.commit()
    assert collect() == 1
    assert "A backup copies, until 20" in capsys.readouterr().err
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
    cursor = stack.cursor()
    holds.hold(cursor, "backup", 0)
    cursor.connection.commit()
    assert collect() == 0
    assert stack.runs(experiment) == set()


def test_a_backup_waits_for_a_deletion(stack):
    first, second = stack.cursor(), stack.cursor()
    assert holds.begin_deletion(first) is None
    first.connection.commit()
    second.execute("SET lock_timeout = '300ms'")
    with pytest.raises(Exception, match="lock timeout"):
        holds.hold(second, "backup", 60)
    second.connection.rollback()
    # Not two at once.
    assert collect() == 1
    holds.end_deletion(first)
    first.connection.commit()
    holds.hold(second, "backup", 60)
    second.connection.commit()
    assert collect() == 1


@pytest.mark.parametrize("text", ["30", "d", "-1d", "1.5d", "30 d", "1m1h", "x"])
def test_age_that_is_none(stack, capsys, text):
    assert collect(text) == 1
    assert "30d or 1d12h" in capsys.readouterr().err


@pytest.mark.parametrize(("text", "seconds"), [("30d", 30 * 86400), ("1d12h", 36 * 3600), ("5m10s", 310)])
def test_age(text, seconds):
    assert garbage.age(text).total_seconds() == seconds
