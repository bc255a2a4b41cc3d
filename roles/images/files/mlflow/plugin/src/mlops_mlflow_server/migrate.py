"""Bring both databases to the schema of the installed versions: `python -m mlops_mlflow_server.migrate`.

Takes what the server takes: `MLFLOW_BACKEND_STORE_URI` and `OIDC_USERS_DB_URI`, whose user and password libpq
reads from `PGUSER` and `PGPASSWORD`, so that no password is in an argument. Waits for each database
`MLOPS_DATABASE_WAIT` seconds. Run again, it changes nothing. Ends with 0, or with 1 and one sentence.
"""

import os
import sys
import time

import sqlalchemy
from mlflow.store.db.utils import _initialize_tables, _upgrade_db
from mlflow.store.tracking.dbmodels.models import SqlExperiment
from mlflow_oidc_auth.db import utils as auth_utils

from mlops_mlflow_server.settings import number


class Failure(Exception):
    """What went wrong, in one sentence for the person who reads the log."""


def say(message: str) -> None:
    """Print one line at once."""
    print(message, flush=True)


def where(url: sqlalchemy.URL) -> str:
    """Return host, port and database of `url`, never its credentials."""
    return f"{url.database} at {url.host or os.environ.get('PGHOST', 'the local socket')}:{url.port or 5432}"


def is_final(error: Exception) -> bool:
    """Tell whether waiting cannot help: wrong credentials, no such database, no right to connect."""
    code = getattr(getattr(error, "orig", None), "pgcode", None) or ""
    text = str(getattr(error, "orig", error))
    return (
        code[:2] in ("28", "3D", "42")
        or any(
            sign in text
            for sign in (
                "password authentication failed",
                "no password supplied",
                "no pg_hba.conf entry",
                "permission denied for database",
            )
        )
        or ('database "' in text and "does not exist" in text)
        or ('role "' in text and "does not exist" in text)
    )


def wait_for(engine: sqlalchemy.Engine, limit: float) -> None:
    """Return when `engine`'s database answers.

    Args:
        engine: engine without a pool.
        limit: seconds to wait at most.

    Raises:
        Failure: it did not answer in time, or says that waiting cannot help.
    """
    end = time.monotonic() + limit
    told = 0.0
    while True:
        try:
            with engine.connect() as connection:
                connection.execute(sqlalchemy.text("SELECT 1"))
            return
        except sqlalchemy.exc.SQLAlchemyError as error:
            reason = " ".join(str(getattr(error, "orig", error)).split())
            if is_final(error):
                raise Failure(f"The database {where(engine.url)} refuses the connection: {reason}") from None
            if time.monotonic() >= end:
                raise Failure(f"The database {where(engine.url)} did not answer for {limit:g} s: {reason}") from None
            if time.monotonic() - told >= 10:
                told = time.monotonic()
                say(f"Waiting for the database {where(engine.url)}: {reason}")
        time.sleep(1)


def engine_of(variable: str) -> sqlalchemy.Engine:
    """Return an engine without a pool for the URI in the environment variable `variable`.

    Raises:
        Failure: the variable is unset, or no database URI.
    """
    try:
        return sqlalchemy.create_engine(os.environ[variable], poolclass=sqlalchemy.pool.NullPool)
    except KeyError:
        raise Failure(f"{variable} is not set") from None
    except sqlalchemy.exc.ArgumentError:
        raise Failure(f"{variable} is no database URI") from None


def migrate_tracking() -> None:
    """Create or upgrade MLflow's own tables."""
    engine = engine_of("MLFLOW_BACKEND_STORE_URI")
    if sqlalchemy.inspect(engine).has_table(SqlExperiment.__tablename__):
        _upgrade_db(engine)
    else:
        _initialize_tables(engine)
    engine.dispose()


def migrate_auth() -> None:
    """Create or upgrade the tables of mlflow-oidc-auth."""
    engine = engine_of("OIDC_USERS_DB_URI")
    auth_utils.migrate(engine, "head")
    engine.dispose()


def main() -> int:
    """Migrate both databases, one after the other; return the exit code."""
    began = time.monotonic()
    try:
        limit = number("MLOPS_DATABASE_WAIT", 120.0)
        for title, variable, migrate in (
            ("tracking", "MLFLOW_BACKEND_STORE_URI", migrate_tracking),
            ("permissions", "OIDC_USERS_DB_URI", migrate_auth),
        ):
            engine = engine_of(variable)
            wait_for(engine, limit)
            engine.dispose()
            try:
                migrate()
            except sqlalchemy.exc.SQLAlchemyError as error:
                reason = " ".join(str(getattr(error, "orig", error)).split())
                raise Failure(f"The migration of the {title} database {where(engine.url)} failed: {reason}") from error
            say(f"The {title} database {where(engine.url)} has the schema of this version")
    except (Failure, ValueError) as error:
        print(error, file=sys.stderr, flush=True)
        return 1
    say(f"Done in {time.monotonic() - began:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
