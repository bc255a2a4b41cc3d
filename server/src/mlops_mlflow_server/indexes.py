# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Indexes beside those of MLflow's schema, and how often PostgreSQL vacuums its large tables.

MLflow's table of runs is indexed by its key alone: a search reads all runs of all experiments and sorts those of the
one that is asked for, half a second for 100,000. With this index it reads as many as it returns. It has the order in
which MLflow returns runs if the caller names none.

PostgreSQL vacuums and analyzes a table when a fifth and a tenth of its rows have changed. Of 100 million metrics that
is too seldom: statistics are old, and indexes grow by what dead rows leave in them.
"""

import sqlalchemy

RUNS = "mlops_runs_by_start"
_RUNS_COLUMNS = "runs (experiment_id, lifecycle_stage, start_time DESC, run_uuid)"


def ensure(engine: sqlalchemy.Engine) -> bool:
    """Create the index if it is missing, or was left unfinished; return whether it was.

    It is created without blocking writers, which a migration of a running stack must not do.
    """
    # CONCURRENTLY is not allowed within a transaction.
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        found = connection.scalar(
            sqlalchemy.text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)"), {"name": RUNS}
        )
        if found:
            return False
        if found is False:
            connection.execute(sqlalchemy.text(f"DROP INDEX CONCURRENTLY {RUNS}"))
        connection.execute(sqlalchemy.text(f"CREATE INDEX CONCURRENTLY {RUNS} ON {_RUNS_COLUMNS}"))
        return True


# What training and tracing write to.
LARGE = (
    *("metrics", "latest_metrics", "params", "tags"),
    *("trace_info", "trace_tags", "trace_request_metadata", "spans", "span_metrics"),
)
# Shares of rows: https://www.postgresql.org/docs/17/runtime-config-autovacuum.html
VACUUM = {
    "autovacuum_vacuum_scale_factor": 0.02,
    "autovacuum_vacuum_insert_scale_factor": 0.02,
    "autovacuum_analyze_scale_factor": 0.01,
}


def vacuum_more_often(engine: sqlalchemy.Engine) -> list[str]:
    """Have PostgreSQL vacuum large tables after fewer changes; return the tables that had no settings of their own.

    Neither readers nor writers wait for it.
    """
    with engine.begin() as connection:
        # A VACUUM by hand keeps such a lock for its time.
        connection.execute(sqlalchemy.text("SET LOCAL lock_timeout = '5s'"))
        found = connection.scalars(
            sqlalchemy.text(
                "SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace "
                "AND relkind = 'r' AND relname = ANY(:names) AND reloptions IS NULL ORDER BY relname"
            ),
            {"names": list(LARGE)},
        ).all()
        settings = ", ".join(f"{name} = {value}" for name, value in VACUUM.items())
        for name in found:
            connection.execute(sqlalchemy.text(f"ALTER TABLE {name} SET ({settings})"))
    return list(found)
