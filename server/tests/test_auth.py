"""Valid credentials are cached for a moment; invalid ones are checked each time."""

import datetime
import threading

import pytest
import sqlalchemy
from fastapi import FastAPI, Request
from mlflow_oidc_auth.middleware import AuthMiddleware
from mlflow_oidc_auth.store import store
from starlette.testclient import TestClient

from mlops_mlflow_server import auth


@pytest.fixture
def client(monkeypatch):
    """A client of an application behind mlflow-oidc-auth's middleware, patched, with an empty cache."""
    application = FastAPI()
    application.add_middleware(AuthMiddleware)

    @application.get("/api/caller")
    async def caller(request: Request):
        return {"username": request.state.username}

    monkeypatch.setattr(auth, "_recent", auth.Recent(60))
    assert auth.install(application) == 1
    return TestClient(application)


@pytest.fixture
def asked():
    """The threads of the queries."""
    seen = []

    def note(*_unused):
        seen.append(threading.current_thread())

    engine = store.engine
    sqlalchemy.event.listen(engine, "before_cursor_execute", note)
    yield seen
    sqlalchemy.event.remove(engine, "before_cursor_execute", note)


@pytest.fixture
def account(user):
    """Name and access token of a user."""
    name = user()
    tomorrow = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1)
    _record, token = store.create_user_token(name, "default", tomorrow, name)
    return name, token


def test_valid_token_is_looked_up_once(client, account, asked):
    answers = [client.get("/api/caller", auth=account) for _unused in range(3)]
    assert [answer.json() for answer in answers] == [{"username": account[0]}] * 3
    first = len(asked)
    assert first
    assert client.get("/api/caller", auth=account).status_code == 200
    assert len(asked) == first


def test_queries_do_not_run_on_the_event_loop(client, account, asked):
    loops = []

    @client.app.get("/api/thread")
    async def thread():
        loops.append(threading.current_thread())

    assert client.get("/api/thread", auth=account).status_code == 200
    assert asked
    assert loops[0] not in asked


def test_invalid_credentials_are_refused_and_not_cached(client, account, asked):
    assert client.get("/api/caller", auth=account).status_code == 200
    for _unused in range(2):
        before = len(asked)
        assert client.get("/api/caller", auth=(account[0], "guessed")).status_code == 401
        assert len(asked) > before


def test_inactive_account_is_refused_and_not_cached(client, account, asked):
    store.update_user(account[0], active=False)
    for _unused in range(2):
        before = len(asked)
        assert client.get("/api/caller", auth=account).status_code in (401, 403)
        assert len(asked) > before


def test_deactivated_account_is_refused_when_the_entry_expires(client, account, monkeypatch):
    clock = [0.0]
    auth._recent._known = auth.TTLCache(maxsize=8, ttl=1, timer=lambda: clock[0])
    assert client.get("/api/caller", auth=account).status_code == 200
    store.update_user(account[0], active=False)
    clock[0] = 1.1
    assert client.get("/api/caller", auth=account).status_code in (401, 403)


def test_cache_is_disabled_with_the_permission_cache(client, account, asked, monkeypatch):
    monkeypatch.setattr(auth, "_recent", auth.Recent(0))
    client.get("/api/caller", auth=account)
    before = len(asked)
    client.get("/api/caller", auth=account)
    assert len(asked) > before


def test_cache_contains_no_token(client, account):
    client.get("/api/caller", auth=account)
    kept = repr(dict(auth._recent._known))
    assert account[0] in kept
    assert account[1] not in kept


@pytest.mark.parametrize("header", ["Bearer x", ""])
def test_only_basic_credentials_are_cached(header):
    auth._recent.remember(header, ("ada", None))
    assert auth._recent.find(header) is None


def test_version_without_the_look_up_is_detected(monkeypatch):
    application = FastAPI()
    assert auth.install(application) == 0
    application.add_middleware(AuthMiddleware)
    monkeypatch.delattr(AuthMiddleware, "_get_user_auth_facts")
    assert auth.install(application) == 0
