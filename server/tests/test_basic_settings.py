"""The configuration file of MLflow's basic-auth."""

import configparser
import stat
from urllib.parse import parse_qs, urlsplit

import pytest
from mlflow.server.auth import config as upstream

from mlops_mlflow_server import basic_settings

URI = "postgresql+psycopg2://postgres.postgres.svc:5432/mlflow_auth?connect_timeout=5&tcp_user_timeout=10000"


def read(text):
    parser = configparser.ConfigParser()
    parser.read_string(text)
    return parser["mlflow"]


def test_tables_are_in_a_separate_schema():
    parts = urlsplit(basic_settings.schema_uri(URI))
    assert parts.netloc == "postgres.postgres.svc:5432"
    assert parse_qs(parts.query) == {
        "connect_timeout": ["5"],
        "tcp_user_timeout": ["10000"],
        "options": ["-csearch_path=basic_auth"],
    }


def test_existing_options_are_kept():
    query = urlsplit(basic_settings.schema_uri(URI + "&options=-cstatement_timeout%3D5s")).query
    assert parse_qs(query)["options"] == ["-cstatement_timeout=5s -csearch_path=basic_auth"]


@pytest.mark.parametrize("uri", [URI, URI + "&options=-cwork_mem%3D1MB", "postgresql://h/odd%25name"])
def test_file_contains_the_settings(uri):
    settings = read(basic_settings.ini({"OIDC_USERS_DB_URI": uri, "MLOPS_DEFAULT_PERMISSION": "READ"}))
    assert settings["database_uri"] == basic_settings.schema_uri(uri)
    assert settings["default_permission"] == "READ"
    assert settings["authorization_function"] == "mlflow.server.auth:authenticate_request_basic_auth"


def test_default_permission_is_none():
    assert read(basic_settings.ini({"OIDC_USERS_DB_URI": URI}))["default_permission"] == "NO_PERMISSIONS"


def test_bridge_is_used_with_a_password():
    settings = read(basic_settings.ini({"OIDC_USERS_DB_URI": URI, "MLOPS_BRIDGE_PASSWORD": "word"}))
    assert settings["authorization_function"] == "mlops_mlflow_server.bridge:authenticate_request"
    assert "word" not in dict(settings).values()


def test_file_is_private_and_contains_no_password(tmp_path):
    path = tmp_path / "basic_auth.ini"
    path.write_text("of an earlier start")
    path.chmod(0o644)
    environment = {
        "OIDC_USERS_DB_URI": URI,
        "MLOPS_BASIC_AUTH_FILE": str(path),
        "PGPASSWORD": "first word",
        "MLOPS_ADMIN_PASSWORD": "second word",
    }
    assert basic_settings.write(environment)["MLFLOW_AUTH_CONFIG_PATH"] == str(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "word" not in path.read_text()


def test_mlflow_reads_the_file(monkeypatch, tmp_path):
    environment = {
        "OIDC_USERS_DB_URI": URI + "&options=-cwork_mem%3D1MB",
        "MLOPS_BASIC_AUTH_FILE": str(tmp_path / "basic_auth.ini"),
        "MLOPS_DEFAULT_PERMISSION": "READ",
    }
    for name, value in basic_settings.write(environment).items():
        monkeypatch.setenv(name, value)
    found = upstream.read_auth_config()
    assert found.default_permission == "READ"
    assert found.database_uri == basic_settings.schema_uri(environment["OIDC_USERS_DB_URI"])
    assert found.authorization_function == basic_settings.OWN_AUTHENTICATION
    assert found.grant_default_workspace_access is False
    assert found.auth_cache_ttl_seconds == 0
