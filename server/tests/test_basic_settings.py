"""The configuration file of MLflow's basic-auth."""

import configparser
import stat
from urllib.parse import parse_qs, urlsplit

import pytest

URI = "postgresql+psycopg2://postgres.postgres.svc:5432/mlflow_auth?connect_timeout=5&tcp_user_timeout=10000"


@pytest.fixture
def basic_settings(load):
    return load("basic_settings")


def read(text):
    parser = configparser.ConfigParser()
    parser.read_string(text)
    return parser["mlflow"]


def test_tables_are_in_a_separate_schema(basic_settings):
    parts = urlsplit(basic_settings.schema_uri(URI))
    assert parts.netloc == "postgres.postgres.svc:5432"
    assert parse_qs(parts.query) == {
        "connect_timeout": ["5"],
        "tcp_user_timeout": ["10000"],
        "options": ["-csearch_path=basic_auth"],
    }


def test_existing_options_are_kept(basic_settings):
    query = urlsplit(basic_settings.schema_uri(URI + "&options=-cstatement_timeout%3D5s")).query
    assert parse_qs(query)["options"] == ["-cstatement_timeout=5s -csearch_path=basic_auth"]


@pytest.mark.parametrize("uri", [URI, URI + "&options=-cwork_mem%3D1MB", "postgresql://h/odd%25name"])
def test_file_contains_the_settings(basic_settings, uri):
    settings = read(basic_settings.ini({"OIDC_USERS_DB_URI": uri, "MLOPS_DEFAULT_PERMISSION": "READ"}))
    assert settings["database_uri"] == basic_settings.schema_uri(uri)
    assert settings["default_permission"] == "READ"
    assert settings["authorization_function"] == "mlflow.server.auth:authenticate_request_basic_auth"


def test_default_permission_is_none(basic_settings):
    assert read(basic_settings.ini({"OIDC_USERS_DB_URI": URI}))["default_permission"] == "NO_PERMISSIONS"


def test_bridge_is_used_with_a_password(basic_settings):
    settings = read(basic_settings.ini({"OIDC_USERS_DB_URI": URI, "MLOPS_BRIDGE_PASSWORD": "word"}))
    assert settings["authorization_function"] == "mlops_mlflow_server.bridge:authenticate_request"
    assert "word" not in dict(settings).values()


def test_file_is_private_and_contains_no_password(basic_settings, tmp_path):
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
