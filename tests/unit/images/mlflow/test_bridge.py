"""Whom the bridge takes a call for. tests/oauth2_proxy asks the same of a server with a proxy in front."""

import base64
import sys
import types

import pytest

PASSWORD = "the-password-of-the-bridge-0123456789"


class Authorization:
    """As much of werkzeug's as the bridge touches."""

    def __init__(self, auth_type, data):
        self.type = auth_type
        self.username = data.get("username")
        self.password = data.get("password")

    @classmethod
    def from_header(cls, value):
        scheme, _, content = value.partition(" ")
        if scheme.lower() != "basic":
            return cls(scheme.lower(), {})
        username, _, password = base64.b64decode(content).decode().partition(":")
        return cls("basic", {"username": username, "password": password})


class Response:
    """As much of Flask's."""

    def __init__(self, text, status=200, mimetype=None):
        self.text = text
        self.status = status


class Store:
    """The accounts; `raises` is what the next account to be made meets."""

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
    """The request, of which a test sets what it needs."""

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
    """What the bridge meets: Flask's request, and the accounts of basic-auth."""
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
    """Ask who calls, with a name and a password, or with a header of one's own."""
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


def test_a_person_is_taken_for_who_the_proxy_says(call, world):
    assert call("alice@example.com").username == "alice@example.com"
    assert world.checked == []


def test_the_first_visit_makes_an_account_without_rights_and_later_ones_do_not(call, world):
    call("alice")
    password, is_admin = world.store.accounts["alice"]
    assert is_admin is False
    assert len(password) >= 40
    call("alice")
    call("bob")
    assert world.store.accounts["alice"][0] == password
    assert world.store.accounts["bob"][0] != password


def test_case_makes_no_other_person(call, world):
    assert call("Alice").username == "alice"
    assert call("ALICE").username == "alice"
    assert len(world.store.accounts) == 3


def test_another_password_is_an_accounts_own(call):
    assert call("ci", "password of ci").username == "ci"
    assert call("ci", "another").status == 401
    assert call("alice", PASSWORD[:-1]).status == 401
    assert call("alice", PASSWORD + "x").status == 401
    assert call("alice", "").status == 401


def test_the_password_of_the_bridge_opens_no_reserved_account(call, world):
    for name in ("mlflow-admin", "MLFLOW-Admin", " mlflow-admin ", "ops", "robot", "ROBOT"):
        assert call(name).status == 403, name
    assert len(world.store.accounts) == 2
    assert call("mlflow-admin", "its own password").username == "mlflow-admin"


@pytest.mark.parametrize("name", ["", " ", "a,b", "a\nb", "a\x00", "x" * 256])
def test_names_that_are_none_are_refused(call, world, name):
    assert call(name).status == 403
    assert len(world.store.accounts) == 2


def test_a_name_with_a_colon_is_no_way_around_the_password(call, world):
    """Basic ends the name at the first colon, so that the rest is part of the password."""
    assert call("mlflow-admin:x").status == 401
    assert world.checked == ["mlflow-admin"]


@pytest.mark.parametrize("value", [None, "Bearer abc", f"Bearer {PASSWORD}"])
def test_without_a_name_and_a_password_nobody_calls(call, value):
    assert call(value=value).status == 401


def test_two_first_visits_at_once(call, world, load):
    exists = sys.modules["mlflow.exceptions"].MlflowException("exists", "RESOURCE_ALREADY_EXISTS")
    world.store.raises = exists
    assert call("alice").username == "alice"
    world.store.raises = sys.modules["mlflow.exceptions"].MlflowException("broken", "INTERNAL_ERROR")
    with pytest.raises(type(exists)):
        call("alice")


def test_a_call_is_decided_once(call, world, load):
    call("ci", "password of ci")
    bridge = sys.modules["mlops_mlflow_server.bridge"]
    assert bridge.authenticate_request().username == "ci"
    assert world.checked == ["ci"]
    call("ci", "wrong")
    bridge.authenticate_request()
    assert world.checked == ["ci"] * 3


def test_the_gateways_own_header_counts_on_its_paths_only(call, world):
    world.request.path = "/gateway/mlflow/v1/models"
    assert call("ci", "password of ci", header="X-MLflow-Authorization").username == "ci"
    assert call("ci", "password of ci").username == "ci"
    world.request.path = "/api/2.0/mlflow/experiments/search"
    assert call("ci", "password of ci", header="X-MLflow-Authorization").status == 401


@pytest.mark.parametrize("password", ["", "x" * 23])
def test_a_server_with_a_short_password_does_not_start(world, load, monkeypatch, password):
    monkeypatch.setenv("MLOPS_BRIDGE_PASSWORD", password)
    with pytest.raises(ValueError, match="24 characters"):
        load("bridge")
