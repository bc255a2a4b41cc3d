"""The migration of both databases, and what waits for it, on a real PostgreSQL."""

import httpx
import pytest
import sqlalchemy
from mlflow.server.auth.db import utils as basic_tables
from mlflow.store.db import utils as tracking_tables
from mlflow_oidc_auth.db import utils as oidc_tables

import conftest
from lib import process
from mlops_mlflow_server import databases, migrate, wait


@pytest.fixture
def both(postgres):
    """Two empty databases."""
    return conftest.Databases(postgres, postgres.create(), postgres.create())


@pytest.fixture
def environment(monkeypatch):
    """A function that lets this process use databases with a login mode."""

    def environment(found, way):
        for name, value in {**found.variables, "MLOPS_AUTH": way}.items():
            monkeypatch.setenv(name, value)

    return environment


def tables(found, database):
    return set(found.server.dump(database))


@pytest.mark.parametrize(
    ("way", "expected"),
    [("oidc", {"public.users", "public.user_tokens", "public.auth_sessions"}), ("basic", {"basic_auth.users"})],
)
def test_empty_databases_get_the_tables_of_this_version(migrated, way, expected):
    found = migrated(way)
    assert {"public.experiments", "public.runs"} <= tables(found, found.tracking)
    assert expected <= tables(found, found.users)
    engine = sqlalchemy.create_engine(found.variables["MLFLOW_BACKEND_STORE_URI"])
    with engine.connect() as connection:
        head = connection.scalar(sqlalchemy.text("SELECT version_num FROM alembic_version"))
    # Raises if the schema is another one.
    tracking_tables._verify_schema(engine)
    engine.dispose()
    assert head


@pytest.mark.parametrize("way", ["oidc", "basic"])
def test_second_run_changes_nothing(migrated, way):
    found = migrated(way)
    before = [found.server.dump(name) for name in (found.tracking, found.users)]
    done = found.migrate(way)
    assert done.returncode == 0, done.stderr
    assert [found.server.dump(name) for name in (found.tracking, found.users)] == before
    assert conftest.ADMIN not in done.stdout


def test_change_of_the_login_mode_and_back(migrated):
    found = migrated("oidc").copy()
    postgres = found.server
    postgres.execute(
        "INSERT INTO users (username, display_name, is_admin, is_service_account, active) "
        "VALUES ('ada', 'Ada', true, false, true)",
        found.users,
    )
    done = found.migrate("basic")
    assert "Login mode changed from oidc to basic: copied 1 users" in done.stdout, done.stderr
    assert postgres.execute("SELECT username, is_admin FROM basic_auth.users ORDER BY 1", found.users) == [
        ("ada", True),
        (conftest.ADMIN, True),
    ]
    assert postgres.execute("SELECT login FROM mlops_login", found.users) == [("basic",)]
    done = found.migrate("oidc")
    assert "Login mode changed from basic to oidc: copied 1 users" in done.stdout, done.stderr
    assert postgres.execute("SELECT login FROM mlops_login", found.users) == [("oidc",)]


def test_without_login_there_are_no_users(both):
    """Also the one run in a process of its own."""
    done = process.module("migrate", **{**both.variables, "MLOPS_AUTH": "none"})
    assert done.returncode == 0, done.stderr
    assert both.server.dump(both.users) == {}


def test_account_of_a_user_is_not_taken(migrated):
    found = migrated("oidc").copy()
    found.server.execute("UPDATE users SET is_service_account = false", found.users)
    done = found.migrate("oidc")
    assert done.returncode == 1
    assert done.stderr.strip().endswith(
        f"The account {conftest.ADMIN} belongs to a user: name another mlflow_admin_user"
    )


@pytest.mark.parametrize(
    "wrong",
    [
        ({"MLFLOW_BACKEND_STORE_URI": "postgresql+psycopg2://127.0.0.1:1/x"}, "did not answer for 1 s"),
        ({"MLFLOW_BACKEND_STORE_URI": "nonsense"}, "MLFLOW_BACKEND_STORE_URI is not a database URI"),
        ({"MLOPS_AUTH": "ldap"}, "MLOPS_AUTH is 'ldap'"),
        ({"MLOPS_DATABASE_WAIT": "soon"}, "MLOPS_DATABASE_WAIT is 'soon'"),
    ],
    ids=str,
)
def test_failure_is_one_sentence(both, environment, monkeypatch, capsys, wrong):
    variables, sentence = wrong
    environment(both, "oidc")
    for name, value in {"MLOPS_DATABASE_WAIT": "1", **variables}.items():
        monkeypatch.setenv(name, value)
    assert migrate.main() == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert sentence in lines[0]


@pytest.mark.parametrize("wrong", ["database", "user"])
def test_wait_that_cannot_help_ends_at_once(both, environment, monkeypatch, capsys, wrong):
    environment(both, "oidc")
    uri = sqlalchemy.make_url(both.variables["MLFLOW_BACKEND_STORE_URI"])
    uri = uri.set(database="missing") if wrong == "database" else uri.set(username="nobody_here")
    monkeypatch.setenv("MLFLOW_BACKEND_STORE_URI", uri.render_as_string(hide_password=False))
    monkeypatch.setenv("MLOPS_DATABASE_WAIT", "600")
    assert migrate.main() == 1
    assert "refuses the connection" in capsys.readouterr().err


def test_wait_for_a_migration(migrated, environment, monkeypatch, capsys, tmp_path):
    found = migrated("oidc").copy()
    environment(found, "oidc")
    monkeypatch.setattr(wait, "MESSAGE", tmp_path / "message")
    monkeypatch.setenv("MLOPS_DATABASE_WAIT", "1")
    # The record names the databases, and this is a copy.
    assert wait.main() == 75
    assert "Job mlflow-migrate to bring the databases to mlflow=" in (tmp_path / "message").read_text()
    migrate.record()
    assert wait.main() == 0
    monkeypatch.setenv("MLOPS_AUTH", "basic")
    assert wait.main() == 75
    assert "login=basic" in capsys.readouterr().err


def test_wait_for_an_empty_or_missing_database(both, environment, monkeypatch, capsys, tmp_path):
    environment(both, "oidc")
    monkeypatch.setattr(wait, "MESSAGE", tmp_path / "message")
    monkeypatch.setenv("MLOPS_DATABASE_WAIT", "1")
    assert wait.main() == 75
    monkeypatch.setenv("MLFLOW_BACKEND_STORE_URI", "postgresql+psycopg2://127.0.0.1:1/x")
    assert wait.main() == 75
    assert "x at 127.0.0.1:1" in capsys.readouterr().err
    monkeypatch.delenv("MLFLOW_BACKEND_STORE_URI")
    assert wait.main() == 1


def test_record_names_the_installed_versions(migrated, environment):
    found = migrated("oidc").copy()
    environment(found, "oidc")
    migrate.record()
    migrate.record()
    rows = found.server.execute("SELECT versions, login FROM mlops_migrations ORDER BY migrated_at", found.tracking)
    assert rows[-1] == (databases.versions(), "oidc")
    assert f"{found.users}at127.0.0.1:{found.server.port}" in databases.versions()


def test_server_refuses_tables_of_another_version(migrated, tmp_path):
    found = migrated("oidc").copy()
    found.server.execute("UPDATE alembic_version SET version_num = '451aebb31d03'", found.tracking)
    done = process.module(
        "serve",
        *("--artifacts-destination", "/nowhere", "--port", "0"),
        MLOPS_AUTH="none",
        MLOPS_DRAIN_FILE=str(tmp_path / "draining"),
        **found.variables,
    )
    assert done.returncode != 0
    assert "out-of-date database schema" in done.stderr


def test_names_of_the_migrations():
    """What `migrate` calls of both packages."""
    assert callable(tracking_tables._initialize_tables)
    assert callable(tracking_tables._upgrade_db)
    assert callable(oidc_tables.migrate)
    assert callable(basic_tables.migrate)


def test_playbooks_account_is_an_administrator(oidc, basic):
    for server in (oidc, basic):
        answer = httpx.get(f"{server.url}/api/2.0/mlflow/users/current", auth=server.admin)
        assert answer.status_code == 200
        assert (answer.json().get("user") or answer.json())["is_admin"]
