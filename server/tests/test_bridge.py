"""The bridge's authentication. molecule/oauth2_proxy/tests tests the same with a real proxy."""

import base64
import sys
import types

import pytest

PASSWORD = "the-password-of-the-bridge-0123456789"


class Authorization:
    """The part of werkzeug's Authorization that the bridge uses."""

    def __init__(self, auth_type, data):
        self.type = auth_type
        self.username = data.get("username")
        self.password = data.get("password")

    @classmethod
    def from_header(cls, value):
        scheme, _unused, content = value.partition(" ")
        if scheme.lower() != "basic":
            return cls(scheme.lower(), {})
        username, _unused, password = base64.b64decode(content).decode().partition(":")
        return cls("basic", {"username": username, "password": password})


class Response:
    """The part of Flask's Response that the bridge uses."""

    def __init__(self, text, status=200, mimetype=None):
        self.text = text
        self.status = status


class Store:
    """The accounts; creating the next one raises `raises`."""

    def __init__(self):
        self.accounts = {"mlflow-admin": ("its own password", True), "ci": ("password of ci", False)}
        self.raises = None

    def has_user(self, username):
        return username in self.accounts

    def create_user(self, username, password, is_admin):
        if self.raises is not None:
            raise self.raises
        assert username not in self.accounts
        self.accounts[username] = (password, is_admin)


class Request:
    """The request; a test sets what it needs."""

    def __init__(self):
        self.headers = {}
        self.path = "/api/2.0/mlflow/experiments/search"

    @property
    def authorization(self):
        return Authorization.from_header(self.headers["Authorization"]) if "Authorization" in self.headers else None


class Globals(dict):
    """Flask's g."""

    __setattr__ = dict.__setitem__


@pytest.fixture
def world(monkeypatch):
    """The bridge's environment: Flask's request, and the accounts of basic-auth."""
    world = types.SimpleNamespace(store=Store(), request=Request(), g=Globals(), checked=[])

    def check(username, password):
        world.checked.append(username)
        known = world.store.accounts.get(username)
        return known is not None and known[0] == password

    auth = types.SimpleNamespace(
        store=world.store,
        make_basic_auth_response=lambda: Response("log in", 401),
        _authenticate_cached=check,
    )
    modules = {
        "flask": {"Response": Response, "g": world.g, "request": world.request},
        "werkzeug": {},
        "werkzeug.datastructures": {"Authorization": Authorization},
        "mlflow.server": {"auth": auth},
    }
    for name, attributes in modules.items():
        module = types.ModuleType(name)
        vars(module).update(attributes)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setenv("MLOPS_BRIDGE_PASSWORD", PASSWORD)
    monkeypatch.setenv("MLOPS_BRIDGE_RESERVED", "ops, Robot")
    monkeypatch.setenv("MLOPS_ADMIN_ACCOUNT", "mlflow-admin")
    return world


@pytest.fixture
def call(world, load):
    """Authenticate with a name and a password, or with another header."""
    bridge = load("bridge")

    def call(username=None, password=PASSWORD, header="Authorization", value=None):
        world.g.clear()
        world.request.headers = {}
        if username is not None:
            value = "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()
        if value is not None:
            world.request.headers[header] = value
        return bridge.authenticate_request()

    return call


def test_user_of_the_proxy_is_trusted(call, world):
    assert call("alice@example.com").username == "alice@example.com"
    assert world.checked == []


def test_first_visit_creates_an_account_without_rights(call, world):
    call("alice")
    password, is_admin = world.store.accounts["alice"]
    assert is_admin is False
    assert len(password) >= 40
    call("alice")
    call("bob")
    assert world.store.accounts["alice"][0] == password
    assert world.store.accounts["bob"][0] != password


def test_names_are_case_insensitive(call, world):
    assert call("Alice").username == "alice"
    assert call("ALICE").username == "alice"
    assert len(world.store.accounts) == 3


def test_other_passwords_are_checked_by_basic_auth(call):
    assert call("ci", "password of ci").username == "ci"
    assert call("ci", "another").status == 401
    assert call("alice", PASSWORD[:-1]).status == 401
    assert call("alice", PASSWORD + "x").status == 401
    assert call("alice", "").status == 401


def test_bridge_password_does_not_open_reserved_accounts(call, world):
    for name in ("mlflow-admin", "MLFLOW-Admin", " mlflow-admin ", "ops", "robot", "ROBOT"):
        assert call(name).status == 403, name
    assert len(world.store.accounts) == 2
    assert call("mlflow-admin", "its own password").username == "mlflow-admin"


@pytest.mark.parametrize("name", ["", " ", "a,b", "a\nb", "a\x00", "x" * 256])
def test_invalid_names_are_refused(call, world, name):
    assert call(name).status == 403
    assert len(world.store.accounts) == 2


def test_colon_in_a_name_does_not_bypass_the_password(call, world):
    """In Basic authentication, the name ends at the first colon."""
    assert call("mlflow-admin:x").status == 401
    assert world.checked == ["mlflow-admin"]


@pytest.mark.parametrize("value", [None, "Bearer abc", f"Bearer {PASSWORD}"])
def test_missing_credentials_are_refused(call, value):
    assert call(value=value).status == 401


def test_concurrent_first_visits(call, world, load):
    exists = sys.modules["mlflow.exceptions"].MlflowException("exists", "RESOURCE_ALREADY_EXISTS")
    world.store.raises = exists
    assert call("alice").username == "alice"
    world.store.raises = sys.modules["mlflow.exceptions"].MlflowException("broken", "INTERNAL_ERROR")
    with pytest.raises(type(exists)):
        call("alice")


def test_call_is_authenticated_once(call, world, load):
    call("ci", "password of ci")
    bridge = sys.modules["mlops_mlflow_server.bridge"]
    assert bridge.authenticate_request().username == "ci"
    assert world.checked == ["ci"]
    call("ci", "wrong")
    bridge.authenticate_request()
    assert world.checked == ["ci"] * 3


def test_gateway_header_applies_to_gateway_paths_only(call, world):
    world.request.path = "/gateway/mlflow/v1/models"
    assert call("ci", "password of ci", header="X-MLflow-Authorization").username == "ci"
    assert call("ci", "password of ci").username == "ci"
    world.request.path = "/api/2.0/mlflow/experiments/search"
    assert call("ci", "password of ci", header="X-MLflow-Authorization").status == 401


@pytest.mark.parametrize("password", ["", "x" * 23])
def test_short_password_fails_the_start(world, load, monkeypatch, password):
    monkeypatch.setenv("MLOPS_BRIDGE_PASSWORD", password)
    with pytest.raises(ValueError, match="24 characters"):
        load("bridge")
