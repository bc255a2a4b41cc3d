"""Old traces are archived and stay readable, older ones are deleted, on a real MinIO and a real PostgreSQL."""

import json
import secrets
import threading
import time

import pytest
from mlflow.entities.span import create_mlflow_span
from mlflow.tracing.utils import build_otel_context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan

from lib import minio as store
from mlops_mlflow_server import archive, garbage, holds
from test_garbage import DESTINATION, Stack

DAY = 86400 * 10**9


class Traced(Stack):
    """A tracking store of MLflow with a bucket, and traces."""

    def trace(self, experiment, days):
        """Make a trace of a span that ended so many days ago; returns its identifier."""
        number, begin = secrets.randbits(128), time.time_ns() - days * DAY
        identifier = f"tr-{number:032x}"
        span = ReadableSpan(
            name="asked",
            context=build_otel_context(number, secrets.randbits(64)),
            start_time=begin,
            end_time=begin + 10**6,
            attributes={"mlflow.traceRequestId": json.dumps(identifier), "mlflow.spanInputs": json.dumps("why")},
            resource=Resource({}),
        )
        self.store.log_spans(experiment, [create_mlflow_span(span, identifier)])
        self.put(f"{experiment}/traces/{identifier}/artifacts")
        return identifier

    def inputs(self, trace):
        """What the span of a trace was asked, as the server reads it."""
        (span,) = self.store.get_trace(trace).data.spans
        return span.inputs

    def contents(self):
        """The spans that are in the database, by their traces."""
        return {trace for (trace,) in self.sql("SELECT trace_id FROM spans WHERE content <> ''")}

    def traces(self):
        return {trace for (trace,) in self.sql("SELECT request_id FROM trace_info")}

    def archived(self):
        return {key for key in self.objects() if key.endswith("/artifacts/traces.pb")}


@pytest.fixture
def stack(migrated, minio, monkeypatch):
    databases = migrated("oidc").copy()
    for name, value in {**databases.variables, **minio.variables, "MLOPS_HOLD_WAIT": "0.01"}.items():
        monkeypatch.setenv(name, value)
    found = Traced(databases, minio)
    for key in found.objects():
        minio.client.delete_object(Bucket=store.BUCKET, Key=key)
    return found


def collect(*words):
    return archive.main([f"--artifacts-destination={DESTINATION}", *words])


def test_old_spans_go_to_the_bucket_and_are_read_there(stack, capsys):
    experiment = stack.store.create_experiment("one")
    old, new = stack.trace(experiment, 40), stack.trace(experiment, 2)
    assert collect("--older-than=30d") == 0
    assert stack.contents() == {new}
    assert stack.archived() == {f"{experiment}/traces/{old}/artifacts/traces.pb"}
    assert stack.inputs(old) == stack.inputs(new) == "why"
    assert f"Archived 1 traces to {DESTINATION}\n" in capsys.readouterr().out
    assert collect("--older-than=30d") == 0
    assert "Archived 0 traces" in capsys.readouterr().out
    assert [job for (job,) in stack.sql("SELECT job FROM mlops_jobs")] == ["traces"]


def test_an_experiment_may_ask_for_an_earlier_time(stack):
    experiment, other = (stack.store.create_experiment(name) for name in ("one", "other"))
    for each in (experiment, other):
        stack.trace(each, 2)
    stack.sql(
        "INSERT INTO experiment_tags (experiment_id, key, value) VALUES "
        f"""({experiment}, 'mlflow.trace.archivalRetention', '{{"type": "duration", "value": "1d"}}')"""
    )
    assert collect("--older-than=30d") == 0
    assert len(stack.archived()) == 1
    assert next(iter(stack.archived())).startswith(f"{experiment}/")


def test_more_than_one_turn(stack, monkeypatch):
    monkeypatch.setattr(archive, "TURN", 2)
    experiment = stack.store.create_experiment("one")
    for _unused in range(5):
        stack.trace(experiment, 40)
    assert collect("--older-than=30d") == 0
    assert len(stack.archived()) == 5
    assert collect("--delete-older-than=30d") == 0
    assert stack.traces() == set()
    assert stack.objects() == set()


def test_old_traces_are_deleted_with_their_artifacts(stack, capsys):
    experiment = stack.store.create_experiment("one")
    archived, plain, new = (stack.trace(experiment, days) for days in (400, 380, 40))
    assert collect("--older-than=390d") == 0
    assert collect("--delete-older-than=365d", "--older-than=365d") == 0
    assert stack.traces() == stack.contents() == {new}
    assert archived not in stack.traces()
    assert plain not in stack.traces()
    assert stack.objects() == {f"{experiment}/traces/{new}/artifacts/model.bin"}
    assert "Deleted 2 traces\n" in capsys.readouterr().out


def test_an_experiment_that_is_deleted_for_good_takes_its_archive_along(stack):
    experiment = stack.store.create_experiment("one")
    stack.trace(experiment, 40)
    assert collect("--older-than=30d") == 0
    stack.store.delete_experiment(experiment)
    stack.passes()
    assert garbage.main([f"--artifacts-destination={DESTINATION}", "--older-than=1m", "--delete"]) == 0
    assert stack.objects() == set()
    assert stack.traces() == set()


def test_a_list_changes_nothing(stack, capsys):
    experiment = stack.store.create_experiment("one")
    stack.trace(experiment, 40)
    stack.trace(experiment, 400)
    before = stack.objects(), stack.contents()
    assert collect("--list") == 0
    assert (stack.objects(), stack.contents()) == before
    ages = "2 older than 30d, 1 older than 90d, 1 older than 365d"
    assert f"experiment {experiment}: 2 traces, 0 of them archived; {ages}: one\n" in capsys.readouterr().out


def test_nothing_while_a_backup_copies(stack, capsys):
    experiment = stack.store.create_experiment("one")
    trace = stack.trace(experiment, 40)
    with stack.cursor().connection as connection, connection.cursor() as cursor:
        holds.hold(cursor, "a backup", 60)
    assert collect("--older-than=30d", "--delete-older-than=30d") == 1
    assert "a backup has not ended" in capsys.readouterr().err
    assert stack.contents() == {trace}
    with connection, connection.cursor() as cursor:
        holds.release(cursor, "a backup")
    assert collect("--older-than=30d") == 0


def test_a_backup_waits_for_one_turn_only(stack, monkeypatch, capsys):
    monkeypatch.setattr(archive, "TURN", 1)
    experiment = stack.store.create_experiment("one")
    for _unused in range(3):
        stack.trace(experiment, 40)
    kind, waiting = type(stack.store), []
    real = kind.archive_traces

    def begin():
        with stack.cursor().connection as connection, connection.cursor() as cursor:
            holds.hold(cursor, "a backup", 60)

    def archive_traces(self, **given):
        if not waiting:
            waiting.append(threading.Thread(target=begin))
            waiting[0].start()
            locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            while stack.sql(locks) == [(0,)]:
                time.sleep(0.01)
        return real(self, **given)

    monkeypatch.setattr(kind, "archive_traces", archive_traces)
    assert collect("--older-than=30d") == 0
    waiting[0].join()
    assert len(stack.archived()) == 1
    assert "the rest is left to the next Job, since a backup begins" in capsys.readouterr().out


def test_what_cannot_be_archived_keeps_no_others(stack, monkeypatch, capsys):
    experiment = stack.store.create_experiment("one")
    bad, good = stack.trace(experiment, 50), stack.trace(experiment, 40)
    real = garbage.ProxiedS3ArtifactRepository.upload_archived_trace_data_bytes

    def upload(self, data):
        if bad in self.artifact_uri:
            raise OSError("the store is away")
        real(self, data)

    monkeypatch.setattr(garbage.ProxiedS3ArtifactRepository, "upload_archived_trace_data_bytes", upload)
    assert collect("--older-than=30d") == 1
    assert stack.contents() == {bad}
    assert stack.inputs(good) == "why"
    shown = capsys.readouterr()
    assert "Not archived: 1 traces" in shown.out
    assert "Some traces were left as they are" in shown.err


def test_what_cannot_be_deleted_keeps_no_others(stack, monkeypatch, capsys):
    experiment = stack.store.create_experiment("one")
    bad, good = stack.trace(experiment, 50), stack.trace(experiment, 40)
    real = garbage.Store.empty

    def empty(self, folder):
        if bad in folder:
            raise garbage.Failure("the object store keeps it")
        real(self, folder)

    monkeypatch.setattr(garbage.Store, "empty", empty)
    assert collect("--delete-older-than=30d") == 1
    assert stack.traces() == {bad}
    assert good not in stack.traces()
    assert f"Not deleted: trace {bad}: the object store keeps it" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["30", "d", "0d", "30x", "1d12h", "99999999d", "-1d"])
def test_wrong_times_are_refused(capsys, text):
    assert collect(f"--older-than={text}") == 1
    assert f"--older-than is '{text}'" in capsys.readouterr().err
