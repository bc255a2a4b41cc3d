"""What is stored is counted on a real PostgreSQL, and when Jobs ended is read there."""

import datetime

import pytest
import sqlalchemy

from mlops_mlflow_server import counts, jobs, metrics


@pytest.fixture
def database(migrated):
    """Databases of a migrated server; returns those and an engine of MLflow's."""
    databases = migrated("oidc").copy()
    uri = databases.variables["MLFLOW_BACKEND_STORE_URI"]
    return databases, sqlalchemy.create_engine(uri, poolclass=sqlalchemy.pool.NullPool)


def gauge(metric, *labels):
    return (metric.labels(*labels) if labels else metric)._value.get()


def runs(databases, first, last):
    # A server would make it at its start.
    databases.server.execute(
        "INSERT INTO experiments (experiment_id, name, lifecycle_stage) VALUES (0, 'Default', 'active') "
        "ON CONFLICT DO NOTHING",
        databases.tracking,
    )
    databases.server.execute(
        "INSERT INTO runs (run_uuid, experiment_id, status, lifecycle_stage, source_type) "
        f"SELECT md5(i::text), 0, 'FINISHED', 'active', 'LOCAL' FROM generate_series({first}, {last}) i",
        databases.tracking,
    )


def test_few_are_counted_and_many_estimated(database, monkeypatch):
    databases, engine = database
    runs(databases, 1, 50)
    counts.count(engine, counts.TRACKING)
    assert gauge(metrics.OBJECTS, "runs") == 50
    assert gauge(metrics.OBJECTS, "experiments") == 1
    monkeypatch.setattr(counts, "MOST_COUNTED", 100)
    runs(databases, 51, 5000)
    counts.count(engine, counts.TRACKING)
    assert gauge(metrics.OBJECTS, "runs") in (101, 5000), "the estimate may be of an ANALYZE meanwhile"
    databases.server.execute("ANALYZE runs", databases.tracking)
    counts.count(engine, counts.TRACKING)
    assert gauge(metrics.OBJECTS, "runs") == 5000


def test_all_tables_are_there(database):
    databases, _engine = database
    cursor = databases.server.connect(databases.tracking).cursor()
    assert {counts.size(cursor, table) for table in counts.TRACKING.values()} <= {0, 1}
    cursor = databases.server.connect(databases.users).cursor()
    assert counts.size(cursor, "users") == 1
    assert counts.size(cursor, "nothing") is None


def test_jobs(database):
    databases, engine = database
    counts.count(engine, counts.TRACKING)
    connection = databases.server.connect(databases.tracking)
    drilled = datetime.datetime(2026, 11, 30, 2, tzinfo=datetime.UTC)
    with connection.cursor() as cursor:
        assert jobs.ended(cursor) == {}
        jobs.record(cursor, jobs.BACKUP, size=7)
        jobs.record(cursor, jobs.BACKUP, size=8)
        jobs.record(cursor, jobs.DRILL, drilled)
    counts.count(engine, counts.TRACKING)
    assert gauge(metrics.ARTIFACT_BYTES) == 8
    assert gauge(metrics.JOBS, "drill") == drilled.timestamp()
    now = datetime.datetime.now(datetime.UTC).timestamp()
    assert now - 120 < gauge(metrics.JOBS, "backup") <= now + 1


def test_archiving(database):
    """Nothing is said of it where nothing is archived, and then when it worked and when it did not."""
    databases, engine = database
    counts.count(engine, counts.TRACKING)
    assert metrics.WAL._metrics == {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counts, "ARCHIVED", "SELECT 7::numeric, NULL::numeric")
        counts.count(engine, counts.TRACKING)
    assert gauge(metrics.WAL, "archived") == 7
    assert list(metrics.WAL._metrics) == [("archived",)]
    with databases.server.connect(databases.tracking).cursor() as cursor:
        cursor.execute("CREATE ROLE of_no_rights; SET ROLE of_no_rights")
        cursor.execute(counts.ARCHIVED)
        assert cursor.fetchone() == (None, None)


def test_an_outage_is_no_count(database):
    before = gauge(metrics.COUNTED)
    uri = "postgresql+psycopg2://127.0.0.1:1/nothing"
    counts._count_all([(sqlalchemy.create_engine(uri, poolclass=sqlalchemy.pool.NullPool), counts.TRACKING)])
    assert gauge(metrics.COUNTED) == before
