"""The index for searches of runs, and how often tables are vacuumed, in a real PostgreSQL."""

import pytest
import sqlalchemy

from mlops_mlflow_server import indexes

SEARCH = (
    "EXPLAIN SELECT DISTINCT run_uuid, name, status, start_time, end_time, lifecycle_stage, experiment_id FROM runs "
    "WHERE experiment_id IN (0) AND lifecycle_stage IN ('active') ORDER BY start_time DESC, run_uuid LIMIT 101"
)
EXPERIMENT = (
    "INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage) "
    "VALUES (0, 'many', 'mlflow-artifacts:/0', 'active') ON CONFLICT DO NOTHING"
)
RUNS = (
    "INSERT INTO runs (run_uuid, name, status, start_time, lifecycle_stage, artifact_uri, experiment_id) "
    "SELECT md5(i::text), 'run', 'FINISHED', i, 'active', 'mlflow-artifacts:/0', 0 FROM generate_series(1, 20000) i"
)


@pytest.fixture
def engine(migrated):
    databases = migrated("oidc").copy()
    engine = sqlalchemy.create_engine(databases.variables["MLFLOW_BACKEND_STORE_URI"])
    yield engine
    engine.dispose()


def _plan(connection):
    return "\n".join(line for (line,) in connection.execute(sqlalchemy.text(SEARCH)))


def test_migration_has_created_it_and_searches_use_it(engine):
    with engine.connect() as connection:
        # Before 16, PostgreSQL sorts step by step for DISTINCT only in parallel plans, which small tables do not get.
        for statement in (EXPERIMENT, RUNS, "ANALYZE runs", "SET min_parallel_table_scan_size = 0"):
            connection.execute(sqlalchemy.text(statement))
        assert indexes.RUNS in _plan(connection)
        connection.execute(sqlalchemy.text(f"DROP INDEX {indexes.RUNS}"))
        assert "Seq Scan on runs" in _plan(connection)


def test_second_time_changes_nothing(engine):
    assert indexes.ensure(engine) is False


def test_unfinished_index_is_created_again(engine):
    with engine.begin() as connection:
        invalid = "UPDATE pg_index SET indisvalid = false WHERE indexrelid = to_regclass(:name)"
        connection.execute(sqlalchemy.text(invalid), {"name": indexes.RUNS})
    assert indexes.ensure(engine) is True
    assert indexes.ensure(engine) is False


def test_migration_has_large_tables_vacuumed_more_often_and_keeps_the_settings_of_others(engine):
    options = sqlalchemy.text("SELECT reloptions FROM pg_class WHERE relname = 'metrics'")
    with engine.connect() as connection:
        assert "autovacuum_vacuum_insert_scale_factor=0.02" in connection.scalar(options)
        known = connection.scalars(sqlalchemy.text("SELECT relname FROM pg_class WHERE relkind = 'r'")).all()
    assert set(indexes.LARGE) <= set(known), "MLflow has renamed one"
    assert indexes.vacuum_more_often(engine) == []
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("ALTER TABLE metrics RESET (autovacuum_analyze_scale_factor)"))
    assert indexes.vacuum_more_often(engine) == []
