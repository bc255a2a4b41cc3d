"""The playbooks' account in basic-auth: created once, and no user's account is taken over."""

import pytest

sqlalchemy = pytest.importorskip("sqlalchemy")
security = pytest.importorskip("werkzeug.security")

NAME = "mlflow-admin"


@pytest.fixture
def accounts(load):
    return load("accounts")


@pytest.fixture
def connection():
    """A database with the required part of basic-auth's schema."""
    engine = sqlalchemy.create_engine("sqlite://")
    with engine.connect() as connection:
        connection.exec_driver_sql("ATTACH DATABASE ':memory:' AS basic_auth")
        connection.exec_driver_sql(
            "CREATE TABLE basic_auth.users (id INTEGER PRIMARY KEY AUTOINCREMENT, username VARCHAR(255) UNIQUE, "
            "password_hash VARCHAR(255), is_admin BOOLEAN)"
        )
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


def test_account_is_created_once(accounts, connection):
    assert accounts.ensure_basic(connection, NAME, "first")
    assert not accounts.ensure_basic(connection, NAME, "first")
    assert known(connection, "first") == (True, True)


def test_password_and_rights_are_restored(accounts, connection):
    accounts.ensure_basic(connection, NAME, "first")
    connection.exec_driver_sql("UPDATE basic_auth.users SET is_admin = false")
    assert accounts.ensure_basic(connection, NAME, "second")
    assert known(connection, "second") == (True, True)


@pytest.mark.parametrize(("password", "is_admin"), [("theirs", False), ("theirs", True), ("the same", False)], ids=str)
def test_account_of_a_user_is_not_taken_over(accounts, connection, password, is_admin):
    make(connection, password, is_admin)
    with pytest.raises(accounts.TakenError, match=f"an account {NAME} that the migration did not create"):
        accounts.ensure_basic(connection, NAME, "the same")
    assert known(connection, password) == (True, is_admin)


def test_account_of_a_former_version_is_recognized(accounts, connection):
    make(connection, "first", is_admin=True)
    assert not accounts.ensure_basic(connection, NAME, "first")
    assert accounts.ensure_basic(connection, NAME, "second")


def test_later_account_of_the_same_name_is_not_taken_over(accounts, connection):
    """Accounts are recorded by ID, which is never reused."""
    accounts.ensure_basic(connection, NAME, "first")
    connection.exec_driver_sql("DELETE FROM basic_auth.users")
    make(connection, "theirs", is_admin=False)
    with pytest.raises(accounts.TakenError):
        accounts.ensure_basic(connection, NAME, "first")
