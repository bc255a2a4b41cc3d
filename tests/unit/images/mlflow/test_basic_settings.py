"""The file that tells MLflow's basic-auth where its accounts are."""

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


def test_its_tables_are_in_a_schema_of_their_own(basic_settings):
    parts = urlsplit(basic_settings.schema_uri(URI))
    assert parts.netloc == "postgres.postgres.svc:5432"
    assert parse_qs(parts.query) == {
        "connect_timeout": ["5"],
        "tcp_user_timeout": ["10000"],
        "options": ["-csearch_path=basic_auth"],
    }


def test_options_that_are_there_are_kept(basic_settings):
    query = urlsplit(basic_settings.schema_uri(URI + "&options=-cstatement_timeout%3D5s")).query
    assert parse_qs(query)["options"] == ["-cstatement_timeout=5s -csearch_path=basic_auth"]


@pytest.mark.parametrize("uri", [URI, URI + "&options=-cwork_mem%3D1MB", "postgresql://h/odd%25name"])
def test_the_file_says_what_was_asked_for(basic_settings, uri):
    settings = read(basic_settings.ini({"OIDC_USERS_DB_URI": uri, "MLOPS_DEFAULT_PERMISSION": "READ"}))
    assert settings["database_uri"] == basic_settings.schema_uri(uri)
    assert settings["default_permission"] == "READ"
    assert settings["authorization_function"] == "mlflow.server.auth:authenticate_request_basic_auth"


def test_nobody_may_anything_by_default(basic_settings):
    assert read(basic_settings.ini({"OIDC_USERS_DB_URI": URI}))["default_permission"] == "NO_PERMISSIONS"


def test_a_bridge_authenticates_where_it_has_a_password(basic_settings):
    settings = read(basic_settings.ini({"OIDC_USERS_DB_URI": URI, "MLOPS_BRIDGE_PASSWORD": "word"}))
    assert settings["authorization_function"] == "mlops_mlflow_server.bridge:authenticate_request"
    assert "word" not in dict(settings).values()


def test_only_its_own_user_reads_the_file_and_no_password_is_in_it(basic_settings, tmp_path):
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
