# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When Jobs last ended well, in MLflow's database, for `counts`. Cursors are psycopg2's, of MLflow's own database."""

import datetime
from typing import Any

TABLE = "mlops_jobs"
BACKUP, DRILL, CLEANUP, TRACES = "backup", "drill", "gc", "traces"


def record(cursor: Any, job: str, ended: datetime.datetime | None = None, size: int | None = None) -> None:
    """Write that a Job has ended well, now or at a time, and how many bytes of artifacts it has seen."""
    cursor.execute(
        f"CREATE TABLE IF NOT EXISTS {TABLE} (job text PRIMARY KEY, ended timestamptz NOT NULL, size bigint)"
    )
    cursor.execute(
        f"INSERT INTO {TABLE} VALUES (%s, coalesce(%s, clock_timestamp()), %s) "  # noqa: S608  (a constant)
        "ON CONFLICT (job) DO UPDATE SET ended = excluded.ended, size = excluded.size",
        [job, ended, size],
    )


def ended(cursor: Any) -> dict[str, tuple[float, int | None]]:
    """Return what was recorded: the time, in seconds since 1970, and the size by the names of Jobs."""
    cursor.execute("SELECT to_regclass(%s)", [TABLE])
    if cursor.fetchone()[0] is None:
        return {}
    cursor.execute(f"SELECT job, extract(epoch FROM ended), size FROM {TABLE}")  # noqa: S608  (a constant)
    return {job: (float(when), size) for job, when, size in cursor.fetchall()}
