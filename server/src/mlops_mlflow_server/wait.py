# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wait until the databases were migrated for the installed versions: `python -m mlops_mlflow_server.wait`.

It reads the server's environment, and waits up to `MLOPS_DATABASE_WAIT` seconds for the database and for the record
that `mlops_mlflow_server.migrate` writes at its end. The exit code is 0; 75 if the time is up, or 1 for a wrong
setting, each with a one-sentence message, which is also the container's termination message.
"""

import contextlib
import os
import pathlib
import sys
import time

import sqlalchemy

from mlops_mlflow_server.databases import Failure, because, engine_of, is_migrated, say, versions, where
from mlops_mlflow_server.logs import complain
from mlops_mlflow_server.settings import login, number

# https://kubernetes.io/docs/tasks/debug/debug-application/determine-reason-pod-failure/
MESSAGE = pathlib.Path("/dev/termination-log")


def missing(engine: sqlalchemy.Engine) -> str:
    """Return what is still missing, for the log; empty if nothing is."""
    try:
        if is_migrated(engine):
            return ""
    except sqlalchemy.exc.SQLAlchemyError as error:
        return f"the database {where(engine.url)}: {because(error)}"
    return f"Job mlflow-migrate to bring the databases to {versions()}, login={login()}"


def wait(limit: float) -> None:
    """Return when the databases were migrated.

    Args:
        limit: seconds to wait at most.

    Raises:
        TimeoutError: they were not migrated in time.
        Failure: the environment names no database.
    """
    engine = engine_of("MLFLOW_BACKEND_STORE_URI")
    end = time.monotonic() + limit
    next_line = 0.0
    while reason := missing(engine):
        now = time.monotonic()
        if now >= end:
            raise TimeoutError(f"Waited {limit:g} s in vain for {reason}")
        if now >= next_line:
            next_line = now + 10
            say(f"Waiting for {reason}")
        time.sleep(1)
    engine.dispose()


def main() -> int:
    """Wait for the migration; return the exit code."""
    try:
        wait(number("MLOPS_DATABASE_WAIT", 120.0))
    except (Failure, TimeoutError, ValueError) as error:
        complain(str(error))
        with contextlib.suppress(OSError):
            MESSAGE.write_text(str(error))
        # What the collection's wait for workloads takes for patience that ended, and not for a crash.
        return os.EX_TEMPFAIL if isinstance(error, TimeoutError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
