"""The bridge's authentication, on basic-auth's accounts. molecule/oauth2_proxy/tests tests it with a real proxy."""

import base64
import secrets

import pytest
from flask import Flask
from mlflow.exceptions import MlflowException
from mlflow.server import auth

from mlops_mlflow_server import basic_settings

PASSWORD = "the-password-of-the-bridge-0123456789"
SEARCH = "/api/2.0/mlflow/experiments/search"


@pytest.fixture(scope="module", autouse=True)
def accounts(tmp_path_factory):
    """basic-auth's accounts, in a database of their own."""
    auth.store.init_db(f"sqlite:///{tmp_path_factory.mktemp('bridge') / 'basic.db'}")
    auth.store.create_user("mlflow-admin", "its own password", is_admin=True)
    auth.store.create_user("ci", "password of ci")


@pytest.fixture
def checked(monkeypatch):
    """The names whose own passwords basic-auth has checked."""
    names = []
    check = auth._authenticate_cached

    def noted(username, password):
        names.append(username)
        return check(username, password)

    monkeypatch.setattr(auth, "_authenticate_cached", noted)
    return names


@pytest.fixture
def bridge(load, monkeypatch):
    monkeypatch.setenv("MLOPS_BRIDGE_PASSWORD", PASSWORD)
    monkeypatch.setenv("MLOPS_BRIDGE_RESERVED", "ops, Robot")
    monkeypatch.setenv("MLOPS_ADMIN_ACCOUNT", "mlflow-admin")
    return load("bridge")


@pytest.fixture
def call(bridge):
    """A function that authenticates with a name and a password, or with another header."""

    def call(username=None, password=PASSWORD, *, header="Authorization", value=None, path=SEARCH, times=1):
        if username is not None:
            value = "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()
        with Flask("test").test_request_context(path, headers={} if value is None else {header: value}):
            return [bridge.authenticate_request() for _unused in range(times)][-1]

    return call


def users():
    return {user.username for user in auth.store.list_users()}


def test_user_of_the_proxy_is_trusted(call, checked):
    assert call("alice@example.com").username == "alice@example.com"
    assert checked == []


def test_first_visit_creates_an_account_without_rights(call):
    name = f"user-{secrets.token_hex(4)}"
    assert call(name).username == name
    made = auth.store.get_user(name)
    assert not made.is_admin
    assert not auth.store.authenticate_user(name, PASSWORD)
    assert not auth.store.authenticate_user(name, "")
    call(name)
    assert auth.store.get_user(name).id == made.id


def test_names_are_case_insensitive(call):
    name = f"user-{secrets.token_hex(4)}"
    assert call(name.title()).username == name
    assert call(name.upper()).username == name
    assert len([each for each in users() if each.lower() == name]) == 1


def test_other_passwords_are_checked_by_basic_auth(call):
    assert call("ci", "password of ci").username == "ci"
    for name, password in (("ci", "another"), ("alice", PASSWORD[:-1]), ("alice", PASSWORD + "x"), ("alice", "")):
        assert call(name, password).status_code == 401


def test_bridge_password_does_not_open_reserved_accounts(call):
    before = users()
    for name in ("mlflow-admin", "MLFLOW-Admin", " mlflow-admin ", "ops", "robot", "ROBOT"):
        assert call(name).status_code == 403, name
    assert users() == before
    assert call("mlflow-admin", "its own password").username == "mlflow-admin"


@pytest.mark.parametrize("name", ["", " ", "a,b", "a\nb", "a\x00", "x" * 256])
def test_invalid_names_are_refused(call, name):
    before = users()
    assert call(name).status_code == 403
    assert users() == before


def test_colon_in_a_name_does_not_bypass_the_password(call, checked):
    """In Basic authentication, the name ends at the first colon."""
    assert call("mlflow-admin:x").status_code == 401
    assert checked == ["mlflow-admin"]


@pytest.mark.parametrize("value", [None, "Bearer abc", f"Bearer {PASSWORD}", "Basic", "Basic ?"])
def test_missing_credentials_are_refused(call, value):
    answer = call(value=value)
    assert answer.status_code == 401
    assert "WWW-Authenticate" in answer.headers


def test_concurrent_first_visit(call, bridge, monkeypatch):
    """Another call creates the account after this one has looked for it."""
    monkeypatch.setattr(auth.store, "has_user", lambda _name: False)
    assert call("ci").username == "ci"


def test_failure_to_create_an_account_is_raised(call, monkeypatch):
    def broken(*_unused, **__):
        raise MlflowException("broken")

    monkeypatch.setattr(auth.store, "create_user", broken)
    with pytest.raises(MlflowException, match="broken"):
        call(f"user-{secrets.token_hex(4)}")


def test_call_is_authenticated_once(call, checked):
    assert call("ci", "password of ci", times=3).username == "ci"
    assert checked == ["ci"]
    call("ci", "wrong", times=2)
    assert checked == ["ci"] * 3


def test_gateway_header_applies_to_gateway_paths_only(call, bridge):
    assert call("ci", "password of ci", header=bridge.GATEWAY_HEADER, path="/gateway/x/v1/models").username == "ci"
    assert call("ci", "password of ci", path="/gateway/x/v1/models").username == "ci"
    assert call("ci", "password of ci", header=bridge.GATEWAY_HEADER).status_code == 401
    assert bridge.GATEWAY_HEADER == auth.MLFLOW_GATEWAY_AUTH_HEADER


def test_basic_auth_finds_the_bridge(bridge):
    assert auth.get_auth_func(basic_settings.BRIDGE).__name__ == bridge.authenticate_request.__name__
    assert auth.get_auth_func(basic_settings.OWN_AUTHENTICATION) is auth.authenticate_request_basic_auth


@pytest.mark.parametrize("password", ["", "x" * 23])
def test_short_password_fails_the_start(load, monkeypatch, password):
    monkeypatch.setenv("MLOPS_BRIDGE_PASSWORD", password)
    with pytest.raises(ValueError, match="24 characters"):
        load("bridge")
