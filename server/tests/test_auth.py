"""Valid credentials are cached for a moment; invalid ones are checked each time."""

import asyncio
import base64
import sys
import types
import typing

import pytest

ACTIVE = (False, True, "", (False, None))
INACTIVE = (False, False, "deactivated", (False, None))


def basic(username, password):
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


class Plugin:
    """mlflow-oidc-auth's middleware, which counts its calls."""

    tokens: typing.ClassVar[dict] = {}
    facts: typing.ClassVar[dict] = {}
    asked: typing.ClassVar[list] = []

    async def _authenticate_user(self, request):
        header = request.headers.get("authorization") or ""
        self.asked.append(header)
        username = self.tokens.get(header)
        return (True, username, "") if username else (False, None, "Invalid basic auth credentials")

    def _get_user_auth_facts(self, username):
        self.asked.append(username)
        return self.facts[username]


@pytest.fixture
def auth(load, monkeypatch):
    known = {basic("ada", "token"): "ada", basic("bob", "token"): "bob", "Bearer x": "ada"}
    monkeypatch.setattr(Plugin, "tokens", known)
    monkeypatch.setattr(Plugin, "facts", {"ada": ACTIVE, "bob": INACTIVE})
    monkeypatch.setattr(Plugin, "asked", [])
    monkeypatch.setattr(sys.modules["mlflow_oidc_auth.middleware"], "AuthMiddleware", Plugin)
    monkeypatch.setattr(sys.modules["mlflow_oidc_auth.config"].config, "PERMISSION_CACHE_TTL_SECONDS", 60)
    return load("auth")


def asked(auth, *headers):
    """Send requests one after the other; return the outcome and the facts of each."""
    middleware = auth.OffLoopAuthMiddleware()
    seen = []

    async def send():
        for header in headers:
            request = types.SimpleNamespace(headers={"authorization": header} if header else {}, state=None)
            outcome = await middleware._authenticate_user(request)
            seen.append((outcome, middleware._get_user_auth_facts(outcome[1]) if outcome[0] else None))

    asyncio.run(send())
    return seen


def test_valid_token_is_looked_up_once(auth):
    seen = asked(auth, *[basic("ada", "token")] * 3)
    assert seen == [((True, "ada", ""), ACTIVE)] * 3
    assert Plugin.asked == [basic("ada", "token"), "ada"]


def test_another_password_of_the_same_user_is_checked(auth):
    seen = asked(auth, basic("ada", "token"), basic("ada", "guessed"))
    assert seen[1][0][0] is False


def test_invalid_credentials_are_not_cached(auth):
    asked(auth, *[basic("ada", "guessed")] * 3)
    assert len(Plugin.asked) == 3


def test_inactive_account_is_not_cached(auth):
    seen = asked(auth, *[basic("bob", "token")] * 2)
    assert [facts for _unused, facts in seen] == [INACTIVE] * 2
    assert Plugin.asked.count("bob") == 2


@pytest.mark.parametrize("header", ["Bearer x", ""])
def test_only_basic_credentials_are_cached(auth, header):
    asked(auth, *[header] * 2)
    assert Plugin.asked.count(header) == 2


def test_cache_is_disabled_with_the_permission_cache(auth):
    auth._recent = auth.Recent(0)
    asked(auth, *[basic("ada", "token")] * 2)
    assert Plugin.asked.count(basic("ada", "token")) == 2


def test_cache_contains_no_password(auth):
    asked(auth, basic("ada", "token"))
    kept = repr(dict(auth._recent._known))
    assert "ada" in kept
    assert basic("ada", "token")[6:] not in kept
    assert "token" not in kept


def test_entries_expire(auth):
    clock = [0.0]
    auth._recent = auth.Recent(1)
    auth._recent._known = auth.TTLCache(maxsize=8, ttl=1, timer=lambda: clock[0])
    auth._recent.remember(basic("ada", "token"), ("ada", ACTIVE))
    clock[0] = 0.9
    assert auth._recent.find(basic("ada", "token"))
    clock[0] = 1.1
    assert not auth._recent.find(basic("ada", "token"))
