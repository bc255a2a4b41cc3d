"""Fixtures of the server package's tests, which run on the packages of requirements.txt.

mlflow-oidc-auth reads its environment at its import. The environment of the process that runs the tests is set here,
once: an identity provider of the tests' own, and a SQLite database. A test of another configuration runs code in a
process of its own (`lib.process`), or calls one of the running servers (`oidc`, `basic`, `none`).
"""

import atexit
import contextlib
import importlib
import io
import os
import secrets
import shutil
import sys
import tempfile
import types

import pytest

from lib import minio as object_store
from lib import postgres as database_server
from lib import process, provider

pytest_plugins = ["running"]

ADMIN = "mlflow-admin"
ADMIN_PASSWORD = "the password of the playbooks' account"
_FERNET = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
ENCRYPTION = {
    "MLFLOW_CRYPTO_KEK_PASSPHRASE": "a passphrase of the tests",
    "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": _FERNET,
}

BASIC = {"MLFLOW_FLASK_SERVER_SECRET_KEY": "a key of the tests", "MLFLOW_BASIC_AUTH_FAIL_CLOSED": "true"}


def oidc_variables(issuer: str) -> dict[str, str]:
    """Return the variables of mlflow-oidc-auth, as role mlflow sets them."""
    return {
        "SECRET_KEY": "a key of the tests",
        "SESSION_TOKEN_ENCRYPTION_KEY": _FERNET,
        "SESSION_COOKIE_SECURE": "false",
        "OIDC_DISCOVERY_URL": f"{issuer}/.well-known/openid-configuration",
        "OIDC_CLIENT_ID": provider.CLIENT,
        "OIDC_CLIENT_SECRET": provider.SECRET,
        "OIDC_ISSUER": issuer,
        "OIDC_AUDIENCE": provider.AUDIENCE,
        "OIDC_REDIRECT_URI": "https://mlflow.example.com/callback",
        "OIDC_USERNAME_FIELD": "preferred_username",
        "OIDC_GROUP_NAME": "mlflow",
        "OIDC_ADMIN_GROUP_NAME": "mlflow-admins",
        "MLOPS_TOP_LEVEL_GROUPS": "mlflow/mlflow-admins",
        "MLOPS_VERIFIED_EMAIL": "true",
        "OIDC_SCOPE": "openid profile offline_access",
        "OIDC_USE_REFRESH_TOKEN": "true",
        "OIDC_SESSION_EXPIRY_LEEWAY_SECONDS": "0",
        "DEFAULT_MLFLOW_PERMISSION": "NO_PERMISSIONS",
        "PERMISSION_CACHE_TTL_SECONDS": "1",
    }


_provider = provider.Provider()
_folder = tempfile.mkdtemp(prefix="mlops-server-tests-")
atexit.register(shutil.rmtree, _folder, ignore_errors=True)
# Before anything imports MLflow or mlflow-oidc-auth.
for _name in [name for name in os.environ if name not in process.environment()]:
    del os.environ[_name]
os.environ.update(
    oidc_variables(_provider.issuer),
    **ENCRYPTION,
    OIDC_USERS_DB_URI=f"sqlite:///{_folder}/users.db",
    MLFLOW_BACKEND_STORE_URI=f"sqlite:///{_folder}/mlflow.db",
    MLFLOW_DISABLE_TELEMETRY="true",
    MLFLOW_FLASK_SERVER_SECRET_KEY="a key of the tests",
)


@pytest.fixture
def idp():
    """The identity provider, with what tests change set back."""
    _provider.reset()
    return _provider


@pytest.fixture
def load(monkeypatch):
    """A function that imports a module of the package again, for those that read their environment at the import."""

    def load(name):
        for known in [each for each in sys.modules if each.startswith("mlops_mlflow_server")]:
            monkeypatch.delitem(sys.modules, known)
        return importlib.import_module(f"mlops_mlflow_server.{name}")

    return load


@pytest.fixture
def restored(monkeypatch):
    """A function that has attributes of an upstream object set back at the end of the test."""

    def restored(owner, *names):
        for name in names:
            monkeypatch.setattr(owner, name, getattr(owner, name))

    return restored


@pytest.fixture
def user():
    """A function that makes a user of mlflow-oidc-auth in this process's database; returns the name."""

    def user(**attributes):
        from mlflow_oidc_auth.store import store  # noqa: PLC0415  (takes seconds, and few tests need it)

        name = f"user-{secrets.token_hex(4)}"
        store.create_user(name, name.title(), **attributes)
        return name

    return user


@pytest.fixture(scope="session")
def postgres(tmp_path_factory):
    """A PostgreSQL server."""
    if database_server.binaries() is None:
        pytest.skip("PostgreSQL's initdb and postgres are neither on the PATH nor below /usr/lib/postgresql")
    try:
        database_server.unprivileged()
    except KeyError as error:
        pytest.skip(error.args[0])
    # Not below pytest's own folder, which only its user may enter.
    folder = tempfile.mkdtemp(prefix="mlops-postgres-")
    server = database_server.Postgres(database_server.pathlib.Path(folder))
    yield server
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)


class Databases:
    """The two databases of a server, as its variables name them."""

    def __init__(self, server, tracking: str, users: str):
        self.server, self.tracking, self.users = server, tracking, users
        self.variables = {
            "MLFLOW_BACKEND_STORE_URI": server.uri(tracking),
            "OIDC_USERS_DB_URI": server.uri(users),
            "MLOPS_ADMIN_USERNAME": ADMIN,
            "MLOPS_ADMIN_PASSWORD": ADMIN_PASSWORD,
            "MLOPS_ADMIN_ACCOUNT": ADMIN,
            **ENCRYPTION,
        }

    def migrate(self, way: str, **variables: str) -> types.SimpleNamespace:
        """Run the migration, with these variables changed; return its exit code and output, as of a process."""
        from mlops_mlflow_server import migrate  # noqa: PLC0415  (imports MLflow)

        out, err = io.StringIO(), io.StringIO()
        with (
            pytest.MonkeyPatch.context() as patch,
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            for name, value in {**self.variables, **variables, "MLOPS_AUTH": way}.items():
                patch.setenv(name, value)
            code = migrate.main()
        return types.SimpleNamespace(returncode=code, stdout=out.getvalue(), stderr=err.getvalue())

    def copy(self) -> "Databases":
        """Return databases with the same content."""
        return Databases(self.server, self.server.create(self.tracking), self.server.create(self.users))


@pytest.fixture(scope="session")
def migrated(postgres):
    """A function that returns databases which the migration has prepared for a login mode, to be copied."""
    made = {}

    def migrated(way):
        if way not in made:
            databases = Databases(postgres, postgres.create(), postgres.create())
            done = databases.migrate(way)
            assert done.returncode == 0, done.stderr[-4000:]
            made[way] = databases
        return made[way]

    return migrated


def _serving(way, migrated, tmp_path_factory, *options, **variables):
    # "none" needs no users, but the same tables of MLflow.
    databases = migrated("oidc" if way == "none" else way).copy()
    variables = {**databases.variables, "MLOPS_AUTH": way, "MLOPS_AUDIT_LOG": "stdout", **variables}
    server = process.Server(tmp_path_factory.mktemp(way), variables, *options)
    server.databases = databases
    server.admin = (ADMIN, ADMIN_PASSWORD)
    return server


@pytest.fixture(scope="session")
def oidc(migrated, tmp_path_factory):
    """A running server with login mode oidc."""
    server = _serving("oidc", migrated, tmp_path_factory, **oidc_variables(_provider.issuer))
    try:
        yield server.wait()
    finally:
        server.stop()


@pytest.fixture(scope="session")
def basic(migrated, tmp_path_factory):
    """A running server with login mode basic."""
    server = _serving("basic", migrated, tmp_path_factory, **BASIC)
    try:
        yield server.wait()
    finally:
        server.stop()


@pytest.fixture(scope="session")
def none(migrated, tmp_path_factory):
    """A running server with login mode none."""
    server = _serving("none", migrated, tmp_path_factory)
    try:
        yield server.wait()
    finally:
        server.stop()


@pytest.fixture(scope="session")
def minio(tmp_path_factory):
    """A MinIO server."""
    if object_store.binary() is None:
        pytest.skip("MinIO's server has not been built here, and minio is not on the PATH")
    server = object_store.Minio(tmp_path_factory.mktemp("minio"))
    try:
        yield server
    finally:
        server.stop()
