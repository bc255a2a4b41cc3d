# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections to the databases, and waiting for them. Does not import MLflow, which takes seconds."""

import importlib.metadata
import os
import time

import sqlalchemy

from mlops_mlflow_server.logs import say
from mlops_mlflow_server.settings import login

# Table in MLflow's own database: for which versions `migrate` has run, and how people logged in then.
MIGRATED = "mlops_migrations"
# Tables there of `window`: migrations that hold calls, and servers whose calls still run.
WINDOWS, BUSY = "mlops_windows", "mlops_busy_servers"
CREATE_MIGRATED = (
    f"CREATE TABLE IF NOT EXISTS {MIGRATED} (versions text PRIMARY KEY, login text NOT NULL, "
    "migrated_at timestamptz NOT NULL DEFAULT now())"
)


class Failure(Exception):
    """A failure; the message is one sentence for the log."""


def where(url: sqlalchemy.URL) -> str:
    """Return host, port and database of `url`, never its credentials."""
    return f"{url.database} at {url.host or os.environ.get('PGHOST', 'the local socket')}:{url.port or 5432}"


def because(error: Exception) -> str:
    """Return what a database said, in one line, without the statement and its values."""
    return " ".join(str(getattr(error, "orig", error)).split())


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
            reason = because(error)
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
    """Return what decides on the schema of both databases: the installed versions, and where they are."""
    names = ("mlflow", "mlflow-oidc-auth", "mlops-mlflow-server")
    uris = [os.environ[name] for name in ("MLFLOW_BACKEND_STORE_URI", "OIDC_USERS_DB_URI") if os.environ.get(name)]
    places = [where(sqlalchemy.make_url(uri)).replace(" ", "") for uri in uris]
    return " ".join([*(f"{name}={importlib.metadata.version(name)}" for name in names), *places])


def record_migration(engine: sqlalchemy.Engine) -> None:
    """Write in MLflow's database that this version's `migrate` has ended, and how people log in now."""
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text(CREATE_MIGRATED))
        connection.execute(
            sqlalchemy.text(
                f"INSERT INTO {MIGRATED} (versions, login) VALUES (:versions, :login) "  # noqa: S608  (a constant)
                "ON CONFLICT (versions) DO UPDATE SET login = :login, migrated_at = now()"
            ),
            {"versions": versions(), "login": login()},
        )


def is_migrated(engine: sqlalchemy.Engine) -> bool:
    """Tell whether `migrate` of these versions has ended at some time, and the last one was for this way to log in.

    A newer version may have migrated since: whether its schema will do, MLflow looks at its start.
    """
    with engine.connect() as connection:
        if not sqlalchemy.inspect(connection).has_table(MIGRATED):
            return False
        rows = connection.execute(
            sqlalchemy.text(f"SELECT versions, login FROM {MIGRATED} ORDER BY migrated_at DESC")  # noqa: S608  (a constant)
        ).all()
    return versions() in {row.versions for row in rows} and rows[0].login == login()
