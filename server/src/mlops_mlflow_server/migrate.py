# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Migrate both databases to the schema of the installed versions: `python -m mlops_mlflow_server.migrate`.

It reads the server's variables `MLOPS_AUTH`, `MLFLOW_BACKEND_STORE_URI` and `OIDC_USERS_DB_URI`; libpq reads user and
password from `PGUSER` and `PGPASSWORD`, so that no password is in an argument. It waits up to `MLOPS_DATABASE_WAIT`
seconds for each database. If the login mode has changed since the last run, users and permissions are copied
(`mlops_mlflow_server.carry`). The account `MLOPS_ADMIN_USERNAME` is made an administrator with `MLOPS_ADMIN_PASSWORD`.
Secrets in MLflow's tables are encrypted with the configured keys (`mlops_mlflow_server.encryption`). While a schema or
the login mode changes, calls are held (`mlops_mlflow_server.window`). A second run changes nothing. The exit code is 0,
or 1 with a one-sentence message.
"""

import contextlib
import datetime
import importlib.metadata
import os
import signal
import sys
import time
from collections.abc import Iterator

import sqlalchemy
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from mlflow.store.db.utils import _get_alembic_config, _get_latest_schema_revision, _initialize_tables, _upgrade_db
from mlflow.store.tracking.dbmodels.models import SqlExperiment

from mlops_mlflow_server import accounts, basic_settings, carry, encryption, indexes, parts, window
from mlops_mlflow_server.databases import Failure, because, engine_of, record_migration, say, wait_for, where
from mlops_mlflow_server.logs import complain
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
    engine.dispose()


def tune_tracking() -> None:
    """Make what MLflow's own tables lack, while readers and writers go on."""
    engine = engine_of("MLFLOW_BACKEND_STORE_URI")
    for act in (indexes.ensure, indexes.vacuum_more_often):
        try:
            act(engine)
        except sqlalchemy.exc.OperationalError as error:
            say(f"WARNING: left to the next migration: {because(error)}")
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


def basic_engine() -> sqlalchemy.Engine:
    """Return an engine for the schema of basic-auth's tables."""
    uri = basic_settings.schema_uri(os.environ["OIDC_USERS_DB_URI"])
    return sqlalchemy.create_engine(uri, poolclass=sqlalchemy.pool.NullPool)


def migrate_basic(engine: sqlalchemy.Engine) -> None:
    """Create or upgrade the tables of MLflow's basic-auth, in their own schema."""
    from mlflow.server.auth.db import utils  # noqa: PLC0415  (imports the whole server)

    with engine.begin() as connection:
        if basic_settings.SCHEMA not in sqlalchemy.inspect(connection).get_schema_names():
            connection.execute(sqlalchemy.schema.CreateSchema(basic_settings.SCHEMA))
    own = basic_engine()
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


def revision(engine: sqlalchemy.Engine, table: str = "alembic_version") -> str | None:
    """Return the revision of a database's schema; None before its first migration."""
    with engine.connect() as connection:
        return MigrationContext.configure(connection, opts={"version_table": table}).get_current_revision()


class Schemas:
    """What a migration changes: the revisions of both databases' schemas, and the login mode.

    Args:
        way: the login mode.
        tracking: MLflow's own database.
    """

    def __init__(self, way: str, tracking: sqlalchemy.Engine):
        self._way, self._tracking = way, tracking
        self.wanted: tuple[str | None, ...] = (_get_latest_schema_revision(),)
        if way == "oidc":
            from mlflow_oidc_auth.db import utils  # noqa: PLC0415  (takes seconds, and is needed only here)
        elif way == "basic":
            from mlflow.server.auth.db import utils  # noqa: PLC0415  (imports the whole server)
        else:
            return
        self.wanted += (way, ScriptDirectory.from_config(utils._get_alembic_config("")).get_current_head())

    def __call__(self) -> tuple[str | None, ...]:
        """Return what they are now."""
        found: tuple[str | None, ...] = (revision(self._tracking),)
        if self._way == "none":
            return found
        users = engine_of("OIDC_USERS_DB_URI")
        with users.begin() as connection:
            found += (last_login(connection),)
        if self._way == "oidc":
            return *found, revision(users)
        return *found, revision(basic_engine(), "alembic_version_auth")


def check_revision(engine: sqlalchemy.Engine) -> None:
    """Check that this version of MLflow knows the schema.

    Raises:
        Failure: a newer one has changed it.
    """
    found = revision(engine)
    scripts = ScriptDirectory.from_config(_get_alembic_config(""))
    if found is not None and found not in {each.revision for each in scripts.walk_revisions()}:
        raise Failure(
            f"The tracking database {where(engine.url)} has the schema {found} of a newer version of MLflow than "
            f"{importlib.metadata.version('mlflow')}: use that image, or restore a backup from before"
        )


def fill_in(engine: sqlalchemy.Engine) -> None:
    """Do what takes long in the migration to MLflow 3.17 while servers of the former version serve."""
    try:
        from mlflow.store.db import trace_analytics_prepopulation as traces  # noqa: PLC0415  (not in all versions)
    except ImportError:
        return
    if revision(engine) != traces.PREPOPULATION_SCHEMA_REVISION:
        return
    say("Columns of traces are filled in, while calls are served")
    try:
        traces.prepopulate_trace_analytics(
            engine, progress_callback=lambda name, done: say(f"{name}: {done.scanned} rows")
        )
    except (RuntimeError, sqlalchemy.exc.SQLAlchemyError) as error:
        say(f"WARNING: the migration does that while calls are held: {because(error)}")


@contextlib.contextmanager
def held(way: str) -> Iterator[None]:
    """Hold calls if the body changes schemas that servers may be using."""
    engine = engine_of("MLFLOW_BACKEND_STORE_URI")
    if sqlalchemy.inspect(engine).has_table(SqlExperiment.__tablename__):
        check_revision(engine)
        fill_in(engine)
        schemas = Schemas(way, engine)
        with window.opened(engine, schemas, schemas.wanted):
            yield
    else:
        yield
        window.prepare(engine)
    engine.dispose()


def record() -> None:
    """Write down that the databases were migrated, which the server's pods wait for."""
    engine = engine_of("MLFLOW_BACKEND_STORE_URI")
    try:
        record_migration(engine)
    except sqlalchemy.exc.SQLAlchemyError as error:
        raise Failure(f"The migration could not be recorded in {where(engine.url)}: {because(error)}") from error
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
        for _title, variable, _migrate in steps:
            engine = engine_of(variable)
            wait_for(engine, limit)
            engine.dispose()
        tracking = engine_of("MLFLOW_BACKEND_STORE_URI")
        with window.only_one(tracking):
            with held(way):
                for title, variable, migrate in steps:
                    place = where(engine_of(variable).url)
                    try:
                        migrate()
                    except sqlalchemy.exc.SQLAlchemyError as error:
                        raise Failure(
                            f"The migration of the {title} database {place} failed: {because(error)}"
                        ) from error
                    say(f"The {title} database {place} has the schema of this version")
                record()
            tune_tracking()
    except (Failure, accounts.TakenError, parts.MisfitError, ValueError) as error:
        complain(str(error))
        return 1
    except sqlalchemy.exc.SQLAlchemyError as error:
        complain(f"The database does not answer: {because(error)}")
        return 1
    say(f"Done in {time.monotonic() - began:.1f} s")
    return 0


if __name__ == "__main__":
    # So that a window is closed.
    signal.signal(signal.SIGTERM, lambda *_signal: sys.exit(os.EX_TEMPFAIL))
    sys.exit(main())
