# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Migrate both databases to the schema of the installed versions: `python -m mlops_mlflow_server.migrate`.

It reads the server's variables `MLOPS_AUTH`, `MLFLOW_BACKEND_STORE_URI` and `OIDC_USERS_DB_URI`; libpq reads user and
password from `PGUSER` and `PGPASSWORD`, so that no password is in an argument. It waits up to `MLOPS_DATABASE_WAIT`
seconds for each database. If the login mode has changed since the last run, users and permissions are copied
(`mlops_mlflow_server.carry`). The account `MLOPS_ADMIN_USERNAME` is made an administrator with `MLOPS_ADMIN_PASSWORD`.
Secrets in MLflow's tables are encrypted with the configured keys (`mlops_mlflow_server.encryption`). A second run
changes nothing. The exit code is 0, or 1 with a one-sentence message.
"""

import datetime
import os
import sys
import time

import sqlalchemy
from mlflow.store.db.utils import _initialize_tables, _upgrade_db
from mlflow.store.tracking.dbmodels.models import SqlExperiment

from mlops_mlflow_server import accounts, basic_settings, carry, encryption, indexes, parts
from mlops_mlflow_server.databases import Failure, engine_of, record_migration, say, wait_for, where
from mlops_mlflow_server.settings import login, number

# The table that records the login mode.
MARK = "mlops_login"


def migrate_tracking() -> None:
    """Create or upgrade MLflow's own tables, and encrypt with the configured keys what is encrypted in them."""
    engine = engine_of("MLFLOW_BACKEND_STORE_URI")
    if sqlalchemy.inspect(engine).has_table(SqlExperiment.__tablename__):
        _upgrade_db(engine)
    else:
        _initialize_tables(engine)
    encryption.ensure(engine)
    indexes.ensure(engine)
    engine.dispose()


def migrate_oidc(engine: sqlalchemy.Engine) -> None:
    """Create or upgrade the tables of mlflow-oidc-auth."""
    from mlflow_oidc_auth.db import models, utils  # noqa: PLC0415  (takes seconds, and is needed only here)

    utils.migrate(engine, "head")
    now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
    with engine.begin() as connection:
        # Logins that did not end and sessions that did; the server deletes them too, but only while users log in.
        for table in (models.SqlAuthState, models.SqlAuthSession):
            connection.execute(sqlalchemy.delete(table).where(table.expires_at <= now))


def migrate_basic(engine: sqlalchemy.Engine) -> None:
    """Create or upgrade the tables of MLflow's basic-auth, in their own schema."""
    from mlflow.server.auth.db import utils  # noqa: PLC0415  (imports the whole server)

    with engine.begin() as connection:
        if basic_settings.SCHEMA not in sqlalchemy.inspect(connection).get_schema_names():
            connection.execute(sqlalchemy.schema.CreateSchema(basic_settings.SCHEMA))
    own = sqlalchemy.create_engine(
        basic_settings.schema_uri(os.environ["OIDC_USERS_DB_URI"]), poolclass=sqlalchemy.pool.NullPool
    )
    utils.migrate(own, "head")
    own.dispose()


MIGRATE = {"oidc": migrate_oidc, "basic": migrate_basic}


def last_login(connection: sqlalchemy.Connection) -> str | None:
    """Return the login mode of the last migration, or None for a new database."""
    connection.execute(
        sqlalchemy.text(
            f"CREATE TABLE IF NOT EXISTS {MARK} (login varchar(32) NOT NULL, since timestamptz NOT NULL DEFAULT now())"
        )
    )
    # Prevents changes until this transaction ends.
    connection.execute(sqlalchemy.text(f"LOCK TABLE {MARK} IN EXCLUSIVE MODE"))
    found = connection.scalar(sqlalchemy.text(f"SELECT login FROM {MARK}"))  # noqa: S608  (a constant)
    if found is None and sqlalchemy.inspect(connection).has_table("user_tokens"):
        # Deployed before the mode was recorded.
        return "oidc"
    return found


def migrate_auth(way: str) -> None:
    """Create or upgrade the tables of the login mode `way`; copy users and permissions from a former mode."""
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
                f"Login mode changed from {before} to {way}: copied {len(carried.users)} users, "
                f"{len(carried.groups)} groups and {len(carried.grants)} permissions; "
                f"{carried.skipped} have no equivalent and were skipped"
            )
        if before != way:
            connection.execute(sqlalchemy.text(f"DELETE FROM {MARK}"))  # noqa: S608  (a constant)
            connection.execute(sqlalchemy.text(f"INSERT INTO {MARK} (login) VALUES (:way)"), {"way": way})  # noqa: S608  (a constant)
        if name and password and accounts.ENSURE[way](connection, name, password):
            say(f"The account {name} is an administrator, with the password of its Secret")
    tracking.dispose()
    engine.dispose()


def record() -> None:
    """Write down that the databases were migrated, which the server's pods wait for."""
    engine = engine_of("MLFLOW_BACKEND_STORE_URI")
    try:
        record_migration(engine)
    except sqlalchemy.exc.SQLAlchemyError as error:
        reason = " ".join(str(getattr(error, "orig", error)).split())
        raise Failure(f"The migration could not be recorded in {where(engine.url)}: {reason}") from error
    engine.dispose()


def main() -> int:
    """Migrate the databases, one after the other; return the exit code."""
    began = time.monotonic()
    try:
        limit = number("MLOPS_DATABASE_WAIT", 120.0)
        way = login()
        if warning := parts.check_versions(os.environ):
            say(f"WARNING: {warning}")
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
        record()
    except (Failure, accounts.TakenError, parts.MisfitError, ValueError) as error:
        print(error, file=sys.stderr, flush=True)
        return 1
    say(f"Done in {time.monotonic() - began:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
