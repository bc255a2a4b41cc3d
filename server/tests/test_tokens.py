"""Bearer tokens and groups in tokens, with stand-ins for mlflow-oidc-auth."""

import asyncio
import base64
import contextvars
import importlib
import json
import sys
import threading
import types

import pytest


def part(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def token(claims, **header):
    return f"{part({'alg': 'RS256', **header})}.{part(claims)}.c2ln"


PROVIDER = types.SimpleNamespace(id="default", admin_source="claims")


class Store:
    """mlflow-oidc-auth's store with one user."""

    def __init__(self, groups=(), is_admin=False):
        self.groups, self.is_admin, self.ended, self.written = list(groups), is_admin, [], 0

    def get_user_profile(self, _name):
        return types.SimpleNamespace(is_admin=self.is_admin, display_name="Ada")

    def get_groups_for_user(self, _name):
        return self.groups

    def revoke_auth_session(self, session_id):
        self.ended.append(session_id)

    def create_user(self, username, display_name, is_admin, written_by):
        assert (username, display_name, written_by) == ("ada", "Ada", "oidc:default")
        self.is_admin, self.written = is_admin, self.written + 1

    def populate_groups(self, group_names, written_by):
        pass

    def update_user(self, username, group_names, written_by):
        self.groups, self.written = list(group_names), self.written + 1


@pytest.fixture
def plugin(load, monkeypatch):
    """Stand-ins for mlflow-oidc-auth's modules; a function that imports a module of the package with a store."""
    config = types.SimpleNamespace(
        OIDC_GROUPS_ATTRIBUTE="groups",
        OIDC_ADMIN_GROUP_NAME=["admins"],
        OIDC_GROUP_NAME=["people"],
        OIDC_GROUP_NAME_PATTERN=[],
        OIDC_GROUP_DETECTION_PLUGIN=None,
        OIDC_USERINFO_GROUPS=False,
        AUTH_PROVIDERS=types.SimpleNamespace(by_id=lambda name: PROVIDER if name == "default" else None),
    )

    def put(name, **attributes):
        module = types.ModuleType(name)
        vars(module).update(attributes)
        monkeypatch.setitem(sys.modules, name, module)
        parent, _unused, child = name.rpartition(".")
        monkeypatch.setattr(sys.modules[parent], child, module, raising=False)
        return module

    def ready(name, store=None):
        store = store or Store()
        put("mlflow_oidc_auth.config", config=config)
        put(
            "mlflow_oidc_auth.user",
            **{each: getattr(store, each) for each in ("create_user", "populate_groups", "update_user")},
        )
        put(
            "mlflow_oidc_auth.group_patterns",
            normalize_group_values=lambda value: [value] if isinstance(value, str) else list(value or []),
            admitting_rule=lambda groups, names, _patterns: next((name for name in names if name in groups), None),
        )
        put("mlflow_oidc_auth.logger", get_logger=lambda: types.SimpleNamespace(info=lambda *_unused: None))
        put(
            "mlflow_oidc_auth.provisioning_policy",
            admin_from_claims=lambda _provider, groups, names: any(name in groups for name in names),
            groups_to_apply=lambda _provider, groups, _current, is_new_user: list(groups),
        )
        put("mlflow_oidc_auth.store", store=store)
        put("mlflow_oidc_auth.routers")
        put("mlflow_oidc_auth.routers.auth")
        put("mlflow_oidc_auth.auth", resolve_token_provider=lambda _token: PROVIDER)
        put("mlflow_oidc_auth.middleware")
        put("mlflow_oidc_auth.middleware.auth_middleware")
        return load(name), config

    ready.put = put
    return ready


# Groups


@pytest.mark.parametrize(
    ("claims", "groups"),
    [({"groups": ["a", "b"]}, ["a", "b"]), ({"groups": "a"}, ["a"]), ({}, []), ({"groups": None}, [])],
)
def test_groups_in_claims(plugin, claims, groups):
    assert plugin("groups")[0].groups_in_claims(claims) == groups


@pytest.mark.parametrize("elsewhere", ["OIDC_GROUP_DETECTION_PLUGIN", "OIDC_USERINFO_GROUPS"])
def test_claims_are_ignored_if_groups_come_from_elsewhere(plugin, elsewhere):
    groups, config = plugin("groups")
    setattr(config, elsewhere, "x")
    assert groups.groups_in_claims({"groups": ["people"]}) is None


@pytest.mark.parametrize(
    ("answer", "groups"),
    [
        ({"id_token": token({"groups": ["people"]})}, ["people"]),
        ({"id_token": token({"sub": "ada"}), "access_token": token({"groups": ["people"]})}, []),
        ({"access_token": token({"groups": ["people"]})}, ["people"]),
        ({"access_token": token({"sub": "ada"})}, None),
        ({"access_token": "opaque"}, None),
        ({"access_token": "a.W10.b"}, None),
        ({}, None),
    ],
)
def test_groups_at_renewal(plugin, answer, groups):
    assert plugin("groups")[0].groups_at_renewal(answer) == groups


def renewed(plugin, store, answer):
    """Renew a session with this answer; return whether it is still valid."""

    async def hold(_session_id, _vault, _resolved):
        router._session_tokens_from_response(answer, None, types.SimpleNamespace(provider_id=None))
        return True

    groups, _unused = plugin("groups", store)
    router = types.SimpleNamespace(
        _refresh_holding_turn=hold, _session_tokens_from_response=lambda *_args, **_options: "tokens"
    )
    groups.router = router
    assert groups.install()
    return asyncio.run(router._refresh_holding_turn("session", None, types.SimpleNamespace(username="ada")))


def answer(*groups):
    return {"id_token": token({"groups": list(groups)})}


def test_lost_group_is_removed(plugin):
    store = Store(["people", "secret"])
    assert renewed(plugin, store, answer("people"))
    assert (store.groups, store.ended) == (["people"], [])


def test_administrator_rights_are_updated(plugin):
    store = Store(["people"])
    assert renewed(plugin, store, answer("people", "admins"))
    assert store.is_admin
    assert renewed(plugin, store, answer("people"))
    assert not store.is_admin


@pytest.mark.parametrize("left", [[], ["others"]])
def test_user_without_admitted_group_loses_the_session(plugin, left):
    store = Store(["people"])
    assert not renewed(plugin, store, answer(*left))
    assert store.ended == ["session"]
    assert store.written == 0


def test_unchanged_groups_are_not_written(plugin):
    store = Store(["people"])
    assert renewed(plugin, store, answer("people"))
    assert store.written == 0


def test_renewal_without_groups_changes_nothing(plugin):
    store = Store(["people"], is_admin=True)
    assert renewed(plugin, store, {"access_token": "opaque"})
    assert (store.groups, store.is_admin, store.ended) == (["people"], True, [])


# Keys


@pytest.fixture
def keys(plugin):
    """The module, wrapping functions that count their calls."""
    asked = []
    known = {"keys": [{"kid": "old"}]}

    def fetch(_provider, force_refresh=False):
        asked.append(force_refresh)
        if force_refresh:
            known["keys"] = [{"kid": "old"}, {"kid": "new"}]
        return known

    module, _unused = plugin("keys")
    auth = sys.modules["mlflow_oidc_auth.auth"]
    middleware = sys.modules["mlflow_oidc_auth.middleware.auth_middleware"]
    auth._get_provider_jwks = fetch
    middleware.validate_token = lambda _token: "valid"
    module.auth, module.auth_middleware = auth, middleware
    assert module.install()
    return types.SimpleNamespace(module=module, auth=auth, validate=middleware.validate_token, asked=asked)


def test_known_key_is_not_fetched(keys):
    assert keys.validate(token({}, kid="old")) == "valid"
    assert keys.asked == [False]


def test_unknown_key_is_fetched_at_once(keys):
    assert keys.validate(token({}, kid="new")) == "valid"
    assert keys.asked == [False, True]


def test_forged_tokens_cause_one_fetch(keys):
    for _unused in range(20):
        keys.validate(token({}, kid="nobody"))
        keys.auth._get_provider_jwks(PROVIDER, force_refresh=True)
    assert keys.asked.count(True) == 1


@pytest.mark.parametrize("text", ["", "x", "W10.W10.x", "eyJhIjoxfQ.e30.x"])
def test_malformed_token_causes_no_fetch(keys, text):
    keys.validate(text)
    assert keys.asked == [False]


def test_fetch_is_allowed_again_after_the_pause(keys):
    assert keys.module.may_fetch("another", 100.0)
    assert not keys.module.may_fetch("another", 100.0 + keys.module.PAUSE - 1)
    assert keys.module.may_fetch("another", 100.0 + keys.module.PAUSE)


# Bearer tokens


@pytest.fixture
def middleware(plugin):
    """mlflow-oidc-auth's middleware, patched; its marks are context variables."""

    class Middleware:
        facts = (False, True, "", (False, None))

        async def _authenticate_bearer_token(self, header):
            self.thread = threading.current_thread()
            bearer.auth_middleware._BEARER_IDENTITY.set("whose")
            self._maybe_provision_bearer_user("ada", header, json.loads(header.partition(" ")[2]))
            return True, "ada", ""

        def _maybe_provision_bearer_user(self, *_unused):
            self.provisioned = True

        def _provider_for(self, _token):
            return PROVIDER

        def _get_user_auth_facts(self, _name):
            return self.facts

    plugin("groups")
    module = plugin.put("mlflow_oidc_auth.middleware.auth_middleware")
    module._BEARER_IDENTITY = contextvars.ContextVar("identity", default=None)
    module._WORKLOAD_BEARER = contextvars.ContextVar("workload", default=False)
    sys.modules["mlflow_oidc_auth.middleware"].AuthMiddleware = Middleware
    sys.modules.pop("mlops_mlflow_server.bearer", None)
    bearer = importlib.import_module("mlops_mlflow_server.bearer")
    assert bearer.install()
    return Middleware(), module


def outcome(middleware, claims):
    """Return the outcome for a token with these claims, and the mark that `dispatch` reads."""

    async def ask():
        found = await middleware[0]._authenticate_bearer_token(f"Bearer {json.dumps(claims)}")
        return found, middleware[1]._BEARER_IDENTITY.get()

    return asyncio.run(ask())


def test_token_is_checked_in_a_thread_with_its_context(middleware):
    (holds, name, _unused), mark = outcome(middleware, {"groups": ["people"]})
    assert (holds, name, mark) == (True, "ada", "whose")
    assert middleware[0].thread is not threading.main_thread()
    assert middleware[0].provisioned


@pytest.mark.parametrize("claims", [{}, {"groups": []}, {"groups": ["others"]}])
def test_user_without_admitted_group_is_refused(middleware, claims):
    assert outcome(middleware, claims)[0][:2] == (False, None)


def test_a_service_account_needs_no_group(middleware):
    middleware[0].facts = (False, True, "", (True, "default"))
    assert outcome(middleware, {})[0][0]


def test_refusal_does_not_affect_the_next_call(middleware):
    assert not outcome(middleware, {})[0][0]
    assert outcome(middleware, {"groups": ["admins"]})[0][0]


# Logout


def test_logout_reads_the_providers_metadata_first(plugin):
    done = []

    async def metadata(client):
        done.append(f"metadata of {client}")

    async def revoke(provider_id, _tokens, _username):
        done.append(f"revoke at {provider_id}")

    logout, _unused = plugin("logout")
    logout.router = types.SimpleNamespace(
        _provider_metadata=metadata,
        _client_for_refresh=lambda name: name,
        _revoke_refresh_token_at_idp=revoke,
        _build_ui_url=lambda request, path, _query: f"{request.base_url}oidc/ui{path}",
    )
    assert logout.install()
    asyncio.run(logout.router._revoke_refresh_token_at_idp("default", None, "ada"))
    assert done == ["metadata of default", "revoke at default"]


@pytest.mark.parametrize(
    ("callback", "comes_back_to"),
    [
        ("https://mlflow.example.com/callback", "https://mlflow.example.com/oidc/ui/auth"),
        (None, "http://10.0.0.7:5000/oidc/ui/auth"),
        ("https://mlflow.example.com/elsewhere", "http://10.0.0.7:5000/oidc/ui/auth"),
    ],
)
def test_logout_redirects_to_the_public_url(plugin, callback, comes_back_to):
    logout, config = plugin("logout")
    config.OIDC_REDIRECT_URI = callback
    logout.router = types.SimpleNamespace(
        _provider_metadata=None,
        _client_for_refresh=None,
        _revoke_refresh_token_at_idp=None,
        _build_ui_url=lambda request, path, _query: f"{request.base_url}oidc/ui{path}",
    )
    assert logout.install()
    request = types.SimpleNamespace(base_url="http://10.0.0.7:5000/")
    assert logout.router._build_ui_url(request, "/auth") == comes_back_to
