"""Bring both databases to the schema of the installed versions: `python -m mlops_mlflow_server.migrate`.

Takes what the server takes: `MLOPS_AUTH`, `MLFLOW_BACKEND_STORE_URI` and `OIDC_USERS_DB_URI`, whose user and password
libpq reads from `PGUSER` and `PGPASSWORD`, so that no password is in an argument. Waits for each database
`MLOPS_DATABASE_WAIT` seconds. Where the way to log in is another one than at the last time, users and permissions are
taken along (`mlops_mlflow_server.carry`). The account of `MLOPS_ADMIN_USERNAME` is made an administrator, with
`MLOPS_ADMIN_PASSWORD`. Run again, it changes nothing. Ends with 0, or with 1 and one sentence.
"""

import os
import sys
import time

import sqlalchemy
from mlflow.store.db.utils import _initialize_tables, _upgrade_db
from mlflow.store.tracking.dbmodels.models import SqlExperiment

from mlops_mlflow_server import accounts, basic_settings, carry
from mlops_mlflow_server.settings import login, number

# Where the way to log in is written down, beside the tables of users.
MARK = "mlops_login"


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


def migrate_oidc(engine: sqlalchemy.Engine) -> None:
    """Create or upgrade the tables of mlflow-oidc-auth."""
    from mlflow_oidc_auth.db import utils  # noqa: PLC0415  (seconds, and only where it is needed)

    utils.migrate(engine, "head")


def migrate_basic(engine: sqlalchemy.Engine) -> None:
    """Create or upgrade the tables of MLflow's basic-auth, in their own schema."""
    from mlflow.server.auth.db import utils  # noqa: PLC0415  (the whole server comes along)

    with engine.begin() as connection:
        if basic_settings.SCHEMA not in sqlalchemy.inspect(connection).get_schema_names():
            connection.execute(sqlalchemy.schema.CreateSchema(basic_settings.SCHEMA))
    own = sqlalchemy.create_engine(
        basic_settings.schema_uri(os.environ["OIDC_USERS_DB_URI"]), poolclass=sqlalchemy.pool.NullPool
    )
    utils.migrate(own, "head")
    own.dispose()


MIGRATE = {"oidc": migrate_oidc, "basic": migrate_basic}


def last_login(connection) -> str | None:
    """Return by which way people logged in when this last ran, or None if nobody ever did."""
    connection.execute(
        sqlalchemy.text(
            f"CREATE TABLE IF NOT EXISTS {MARK} (login varchar(32) NOT NULL, since timestamptz NOT NULL DEFAULT now())"
        )
    )
    # Nobody else changes it until this transaction ends.
    connection.execute(sqlalchemy.text(f"LOCK TABLE {MARK} IN EXCLUSIVE MODE"))
    found = connection.scalar(sqlalchemy.text(f"SELECT login FROM {MARK}"))  # noqa: S608  (a constant)
    if found is None and sqlalchemy.inspect(connection).has_table("user_tokens"):
        # What was deployed before there was a choice.
        return "oidc"
    return found


def migrate_auth(way: str) -> None:
    """Create or upgrade the tables of users and permissions for this `way` to log in; take along what another knew."""
    engine = engine_of("OIDC_USERS_DB_URI")
    with engine.begin() as connection:
        before = last_login(connection)
    for each in dict.fromkeys((before or way, way)):
        MIGRATE[each](engine)
    name, password = os.environ.get("MLOPS_ADMIN_USERNAME", ""), os.environ.get("MLOPS_ADMIN_PASSWORD", "")
    tracking = engine_of("MLFLOW_BACKEND_STORE_URI")
    with engine.begin() as connection:
        before = last_login(connection)
        if before not in (None, way):
            with tracking.connect() as objects:
                known = carry.Objects(objects)
            carried = carry.carry(before, way, connection, known, name)
            say(
                f"The way to log in was {before} and is {way}: took along {len(carried.users)} users, "
                f"{len(carried.groups)} groups and {len(carried.grants)} permissions; "
                f"{carried.left} cannot be said there"
            )
        if before != way:
            connection.execute(sqlalchemy.text(f"DELETE FROM {MARK}"))  # noqa: S608
            connection.execute(sqlalchemy.text(f"INSERT INTO {MARK} (login) VALUES (:way)"), {"way": way})  # noqa: S608
        if name and password and accounts.ENSURE[way](connection, name, password):
            say(f"The account {name} is an administrator, with the password of its Secret")
    tracking.dispose()
    engine.dispose()


def main() -> int:
    """Migrate the databases, one after the other; return the exit code."""
    began = time.monotonic()
    try:
        limit = number("MLOPS_DATABASE_WAIT", 120.0)
        way = login()
        steps = [("tracking", "MLFLOW_BACKEND_STORE_URI", migrate_tracking)]
        if way != "none":
            steps.append(("permissions", "OIDC_USERS_DB_URI", lambda: migrate_auth(way)))
        for title, variable, migrate in steps:
            engine = engine_of(variable)
            wait_for(engine, limit)
            engine.dispose()
            try:
                migrate()
            except sqlalchemy.exc.SQLAlchemyError as error:
                reason = " ".join(str(getattr(error, "orig", error)).split())
                raise Failure(f"The migration of the {title} database {where(engine.url)} failed: {reason}") from error
            say(f"The {title} database {where(engine.url)} has the schema of this version")
    except (Failure, accounts.TakenError, ValueError) as error:
        print(error, file=sys.stderr, flush=True)
        return 1
    say(f"Done in {time.monotonic() - began:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
