"""The playbooks' account in basic-auth: created once, and no user's account is taken over."""

import pytest
import sqlalchemy
from werkzeug import security

from mlops_mlflow_server import accounts

NAME = "mlflow-admin"


def connected(found):
    """Yield a connection to a copy of migrated databases, without the playbooks' account."""
    copy = found.copy()
    engine = sqlalchemy.create_engine(copy.variables["OIDC_USERS_DB_URI"], poolclass=sqlalchemy.pool.NullPool)
    with engine.connect() as connection:
        yield connection


@pytest.fixture
def connection(migrated):
    """A connection to basic-auth's tables."""
    for connection in connected(migrated("basic")):
        connection.exec_driver_sql("DELETE FROM basic_auth.users")
        yield connection


@pytest.fixture
def oidc_connection(migrated):
    """A connection to mlflow-oidc-auth's tables."""
    for connection in connected(migrated("oidc")):
        connection.exec_driver_sql("DELETE FROM user_tokens")
        connection.exec_driver_sql("DELETE FROM users")
        yield connection


def make(connection, password, is_admin, name=NAME):
    """Create an account as an administrator or a former version of the migration does."""
    row = {"name": name, "hash": security.generate_password_hash(password), "admin": is_admin}
    statement = "INSERT INTO basic_auth.users (username, password_hash, is_admin) VALUES (:name, :hash, :admin)"
    connection.execute(sqlalchemy.text(statement), row)


def known(connection, password):
    """Return whether the account has this password, and whether it is an administrator."""
    row = connection.exec_driver_sql(f"SELECT password_hash, is_admin FROM basic_auth.users WHERE username = '{NAME}'")
    stored, is_admin = row.one()
    return security.check_password_hash(stored, password), bool(is_admin)


def test_account_is_created_once(connection):
    assert accounts.ensure_basic(connection, NAME, "first")
    assert not accounts.ensure_basic(connection, NAME, "first")
    assert known(connection, "first") == (True, True)


def test_password_and_rights_are_restored(connection):
    accounts.ensure_basic(connection, NAME, "first")
    connection.exec_driver_sql("UPDATE basic_auth.users SET is_admin = false")
    assert accounts.ensure_basic(connection, NAME, "second")
    assert known(connection, "second") == (True, True)


@pytest.mark.parametrize(("password", "is_admin"), [("theirs", False), ("theirs", True), ("the same", False)], ids=str)
def test_account_of_a_user_is_not_taken_over(connection, password, is_admin):
    make(connection, password, is_admin)
    with pytest.raises(accounts.TakenError, match=f"an account {NAME} that the migration did not create"):
        accounts.ensure_basic(connection, NAME, "the same")
    assert known(connection, password) == (True, is_admin)


def test_account_of_a_former_version_is_recognized(connection):
    make(connection, "first", is_admin=True)
    assert not accounts.ensure_basic(connection, NAME, "first")
    assert accounts.ensure_basic(connection, NAME, "second")


def test_later_account_of_the_same_name_is_not_taken_over(connection):
    """Accounts are recorded by ID, which is never reused."""
    accounts.ensure_basic(connection, NAME, "first")
    connection.exec_driver_sql("DELETE FROM basic_auth.users")
    make(connection, "theirs", is_admin=False)
    with pytest.raises(accounts.TakenError):
        accounts.ensure_basic(connection, NAME, "first")


def tokens(connection):
    return connection.exec_driver_sql(
        "SELECT u.username, u.is_admin, u.is_service_account, u.active, t.name, t.token_prefix, t.token_hash "
        "FROM users u JOIN user_tokens t ON t.user_id = u.id"
    ).all()


def test_oidc_account_is_a_service_account_with_one_token(oidc_connection):
    assert accounts.ensure_oidc(oidc_connection, NAME, "first")
    assert not accounts.ensure_oidc(oidc_connection, NAME, "first")
    assert accounts.ensure_oidc(oidc_connection, NAME, "second")
    ((*facts, stored),) = tokens(oidc_connection)
    assert facts == [NAME, True, True, True, "default", None]
    assert security.check_password_hash(stored, "second")


def test_oidc_account_gets_its_rights_back(oidc_connection):
    accounts.ensure_oidc(oidc_connection, NAME, "first")
    oidc_connection.exec_driver_sql("UPDATE users SET is_admin = false, active = false")
    assert accounts.ensure_oidc(oidc_connection, NAME, "first")
    assert tokens(oidc_connection)[0][1:4] == (True, True, True)


def test_oidc_account_of_a_user_is_not_taken_over(oidc_connection):
    oidc_connection.exec_driver_sql(
        "INSERT INTO users (username, display_name, is_admin, is_service_account, active) "
        f"VALUES ('{NAME}', 'x', false, false, true)"
    )
    with pytest.raises(accounts.TakenError, match="belongs to a user"):
        accounts.ensure_oidc(oidc_connection, NAME, "first")
    assert tokens(oidc_connection) == []
