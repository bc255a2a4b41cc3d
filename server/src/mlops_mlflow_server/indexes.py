# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Indexes beside those of MLflow's schema.

MLflow's table of runs is indexed by its key alone: a search reads all runs of all experiments and sorts those of the
one that is asked for, half a second for 100,000. With this index it reads as many as it returns. It has the order in
which MLflow returns runs if the caller names none.
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
