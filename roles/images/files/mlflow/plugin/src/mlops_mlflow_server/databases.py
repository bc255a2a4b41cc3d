"""Connections to the databases, and waiting for them. Does not import MLflow, which takes seconds."""

import importlib.metadata
import os
import time

import sqlalchemy

from mlops_mlflow_server.settings import login

# Table in MLflow's own database that records the last migration, see `versions`.
MIGRATED = "mlops_migrated"


class Failure(Exception):
    """A failure; the message is one sentence for the log."""


def say(message: str) -> None:
    """Print one line without buffering."""
    print(message, flush=True)


def where(url: sqlalchemy.URL) -> str:
    """Return host, port and database of `url`, never its credentials."""
    return f"{url.database} at {url.host or os.environ.get('PGHOST', 'the local socket')}:{url.port or 5432}"


def is_final(error: Exception) -> bool:
    """Return whether waiting cannot help: wrong credentials, no such database, no right to connect."""
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
        Failure: it did not answer in time, or waiting cannot help.
    """
    end = time.monotonic() + limit
    reported = 0.0
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
            if time.monotonic() - reported >= 10:
                reported = time.monotonic()
                say(f"Waiting for the database {where(engine.url)}: {reason}")
        time.sleep(1)


def engine_of(variable: str) -> sqlalchemy.Engine:
    """Return an engine without a pool for the URI in the environment variable `variable`.

    Raises:
        Failure: the variable is unset or not a database URI.
    """
    try:
        return sqlalchemy.create_engine(os.environ[variable], poolclass=sqlalchemy.pool.NullPool)
    except KeyError:
        raise Failure(f"{variable} is not set") from None
    except sqlalchemy.exc.ArgumentError:
        raise Failure(f"{variable} is not a database URI") from None


def versions() -> str:
    """Return what determines the schema of both databases: the installed versions and the login mode."""
    names = ("mlflow", "mlflow-oidc-auth", "mlops-mlflow-server")
    return " ".join([*(f"{name}={importlib.metadata.version(name)}" for name in names), f"login={login()}"])


def record_migration(engine: sqlalchemy.Engine) -> None:
    """Record in MLflow's database that the migration to this version has ended."""
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text(f"CREATE TABLE IF NOT EXISTS {MIGRATED} (versions text NOT NULL)"))
        connection.execute(sqlalchemy.text(f"DELETE FROM {MIGRATED}"))  # noqa: S608  (a constant)
        connection.execute(
            sqlalchemy.text(f"INSERT INTO {MIGRATED} (versions) VALUES (:versions)"),  # noqa: S608  (a constant)
            {"versions": versions()},
        )


def recorded_migration(engine: sqlalchemy.Engine) -> str:
    """Return what `record_migration` recorded last; empty if it never ran."""
    with engine.connect() as connection:
        if not sqlalchemy.inspect(connection).has_table(MIGRATED):
            return ""
        return connection.scalar(sqlalchemy.text(f"SELECT versions FROM {MIGRATED}")) or ""  # noqa: S608  (a constant)
