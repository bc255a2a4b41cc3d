# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the module keycloak_realm, against a Keycloak in memory."""

from __future__ import annotations

import copy
import io
import itertools
import json
import threading
from email.message import Message
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from ansible_collections.mlops.mlflow.plugins.action import keycloak_realm
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.portforward import Unreachable
from ansible_collections.mlops.mlflow.plugins.module_utils.keycloak import client as reconciling
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

ADMIN_PASSWORD = "admin 'pw\" {{ x }} \\ $ é"
CLIENT_SECRET = "client-s3cret-planted"
ADA_PASSWORD = "adas-first-planted"
BOB_PASSWORD = "bobs-first-planted"
PLANTED = (ADMIN_PASSWORD, CLIENT_SECRET, ADA_PASSWORD, BOB_PASSWORD)


class FakeKeycloak:
    """The parts of the admin REST API that the module uses, as unforgiving as the real one.

    A PUT replaces what is there, so that fields which are not sent back are lost.
    """

    def __init__(self) -> None:
        self.realms: dict[str, dict[str, Any]] = {}
        self.requests: list[str] = []
        self.tokens: set[str] = set()
        self.token_uses = 1000
        self.password = ADMIN_PASSWORD
        self.ids = itertools.count(1)
        self.answers: dict[str, tuple[int, Any]] = {}
        self.lock = threading.RLock()
        self.connections = 0
        self.drops = 0  # requests that get no answer
        self.unreachable: Unreachable | None = None

    def writes(self) -> list[str]:
        return [each for each in self.requests if not each.startswith("GET ") and "/token" not in each]

    def realm(self, name: str = "mlflow") -> dict[str, Any]:
        return self.realms[name]

    def named(self, kind: str, name: str) -> dict[str, Any]:
        key = {"clients": "clientId", "users": "username", "groups": "name"}[kind]
        return next(each for each in self.realm()[kind].values() if each[key] == name)

    def answer(self, method: str, target: str, body: bytes | None, headers: dict[str, str]) -> tuple[Any, ...]:
        if self.unreachable is not None:
            raise self.unreachable
        if self.drops:
            self.drops -= 1
            raise ConnectionResetError("gone")
        url = urlsplit(target)
        self.requests.append(f"{method} {target}")
        return self.answers.get(f"{method} {url.path}") or self.serve(method, url, body, headers)

    def serve(self, method: str, url: Any, body: bytes | None, headers: dict[str, str]) -> tuple[Any, ...]:  # noqa: PLR0911  a route each
        query = {key: value[0] for key, value in parse_qs(url.query).items()}
        if url.path == "/realms/master/protocol/openid-connect/token":
            form = {key: value[0] for key, value in parse_qs((body or b"").decode()).items()}
            if (form["username"], form["password"]) != ("admin", self.password):
                return 401, {"error": "invalid_grant", "error_description": "Invalid user credentials"}
            token = f"token-{next(self.ids)}"
            self.tokens = {token}
            self.uses = self.token_uses
            return 200, {"access_token": token}
        self.uses -= 1
        if self.uses < 0 or headers.get("Authorization", "").removeprefix("Bearer ") not in self.tokens:
            return 401, {"error": "HTTP 401 Unauthorized"}
        parts = [unquote(part) for part in url.path.removeprefix("/admin/realms").strip("/").split("/") if part]
        thing = json.loads(body) if body else None
        if not parts:
            self.realms[thing["realm"]] = {
                "rep": {"displayName": None, **thing},
                "groups": {},
                "clients": {},
                "users": {},
            }
            return 201, None, thing["realm"]
        realm = self.realms.get(parts[0])
        if realm is None:
            return 404, {"error": "Realm not found."}
        if len(parts) == 1:
            return self._realm(method, realm, thing)
        return getattr(self, f"_{parts[1].replace('-', '_')}")(method, realm, parts[2:], thing, query)

    def _realm(self, method: str, realm: dict[str, Any], thing: Any) -> tuple[Any, ...]:
        if method == "GET":
            return 200, realm["rep"]
        realm["rep"] = {key: value for key, value in thing.items() if key != "ignored"}
        return 204, None

    def _components(self, _method: str, realm: Any, _rest: Any, _thing: Any, query: Any) -> tuple[Any, ...]:
        return 200, [each for each in realm.get("components", []) if each["providerType"] == query["type"]]

    def _groups(self, method: str, realm: Any, rest: Any, thing: Any, query: Any) -> tuple[Any, ...]:
        if method == "GET":
            found = [each for each in realm["groups"].values() if each["path"].count("/") == 1]
            if rest:
                assert rest[1:] == ["members"]
                members = [each for each in realm["users"].values() if rest[0] in each["groups"]]
                found = [{"id": each["id"], "username": each["username"]} for each in members]
            return 200, found[int(query["first"]) :][: int(query["max"])]
        new = f"id-{next(self.ids)}"
        realm["groups"][new] = {"id": new, "path": "/" + thing["name"], **thing}
        return 201, None, new

    def _clients(self, method: str, realm: Any, rest: list[str], thing: Any, query: Any) -> tuple[Any, ...]:
        clients = realm["clients"]
        if not rest and method == "GET":
            return 200, [each for each in clients.values() if each["clientId"] == query["clientId"]]
        if not rest:
            new = f"id-{next(self.ids)}"
            mappers = [{"id": f"id-{next(self.ids)}", **each} for each in thing.pop("protocolMappers", [])]
            clients[new] = {"id": new, "secret": "made-by-keycloak", **thing, "protocolMappers": mappers}
            return 201, None, new
        client = clients[rest[0]]
        if rest[1:] == ["client-secret"]:
            return 200, {"type": "secret", "value": client["secret"]}
        if rest[1:3] == ["protocol-mappers", "models"]:
            if method == "POST":
                client["protocolMappers"].append({"id": f"id-{next(self.ids)}", **thing})
                return 201, None, client["protocolMappers"][-1]["id"]
            client["protocolMappers"] = [thing if each["id"] == rest[3] else each for each in client["protocolMappers"]]
            return 204, None
        if method == "PUT":
            kept = {key: client[key] for key in ("secret", "protocolMappers")}
            clients[rest[0]] = {**kept, **thing}
        return 200, clients[rest[0]]

    def _users(  # noqa: PLR0911  a route each
        self, method: str, realm: Any, rest: list[str], thing: Any, query: Any
    ) -> tuple[Any, ...]:
        users = realm["users"]
        shown = {
            key: {k: v for k, v in each.items() if k not in ("groups", "credentials")} for key, each in users.items()
        }
        if not rest and method == "GET":
            if "username" not in query:
                return 200, list(shown.values())[int(query["first"]) :][: int(query["max"])]
            return 200, [each for each in shown.values() if each["username"] == query["username"]]
        if not rest:
            if thing.get("email") in [each.get("email") for each in users.values()] and thing.get("email"):
                return 409, {"errorMessage": "User exists with same email"}
            new = f"id-{next(self.ids)}"
            groups = {path.removeprefix("/") for path in thing.pop("groups", [])}
            users[new] = {
                "id": new,
                "credentials": [],
                **thing,
                "groups": {self.named("groups", g)["id"] for g in groups},
            }
            return 201, None, new
        user = users[rest[0]]
        if rest[1:] == ["groups"]:
            return 200, [realm["groups"][each] for each in sorted(user["groups"])]
        if rest[1:2] == ["groups"]:
            (user["groups"].add if method == "PUT" else user["groups"].discard)(rest[2])
            return 204, None
        if rest[1:] == ["credentials"]:
            return 200, [{"type": each["type"]} for each in user["credentials"]]
        if rest[1:] == ["reset-password"]:
            user["credentials"].append(thing)
            return 204, None
        if method == "PUT":
            if "@" not in thing.get("email", "@"):
                return 400, {"errors": [{"field": "email", "errorMessage": "error-invalid-email", "params": ["email"]}]}
            users[rest[0]] = {**thing, "groups": user["groups"], "credentials": user["credentials"]}
        return 200, shown[rest[0]]

    def members(self, group: str) -> set[str]:
        identity = self.named("groups", group)["id"]
        return {each["username"] for each in self.realm()["users"].values() if identity in each["groups"]}


class Connection:
    """What http.client.HTTPConnection has."""

    sock = None

    def __init__(self, keycloak: FakeKeycloak) -> None:
        self._keycloak = keycloak
        self._keycloak.connections += 1

    def request(
        self, method: str, target: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> None:
        with self._keycloak.lock:
            self._answer = self._keycloak.answer(method, target, body, headers or {})

    def getresponse(self) -> Any:
        status, answer, *location = self._answer
        response = io.BytesIO(b"" if answer is None else json.dumps(answer).encode())
        response.status, response.headers = status, Message()  # type: ignore[attr-defined]
        for each in location:
            response.headers["Location"] = f"http://keycloak/admin/{each}"  # type: ignore[attr-defined]
        return response

    def connect(self) -> None:
        self.sock = self

    def close(self) -> None:
        self.sock = None


@pytest.fixture
def keycloak(monkeypatch: pytest.MonkeyPatch) -> FakeKeycloak:
    fake = FakeKeycloak()
    monkeypatch.setattr(keycloak_realm, "ServiceConnection", lambda *args, **kwargs: Connection(fake))
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    return fake


@pytest.fixture
def secrets(cluster: Any) -> Any:
    cluster.secret("keycloak/keycloak-admin", {"username": b"admin", "password": ADMIN_PASSWORD.encode()})
    cluster.secret("keycloak/oidc", {"client-secret": CLIENT_SECRET.encode()})
    cluster.secret("keycloak/users", {"ada": ADA_PASSWORD.encode(), "bob": BOB_PASSWORD.encode()})
    return cluster


USERS_SECRET = {"namespace": "keycloak", "name": "users"}
ADA = {
    "name": "ada",
    "email": "Ada@example.org",
    "first_name": "Ada",
    "last_name": "Lovelace",
    "groups": ["admins", "users"],
    "password_secret": USERS_SECRET,
}
CLIENT = {
    "client_id": "mlflow",
    "name": "MLflow",
    "secret": {"namespace": "keycloak", "name": "oidc"},
    "redirect_uris": ["https://a/callback", "https://b/callback"],
    "post_logout_redirect_uris": ["https://a/out", "https://b/out"],
    "attributes": {"use.refresh.tokens": True},
    "mappers": [
        {
            "name": "groups",
            "type": "oidc-group-membership-mapper",
            "config": {"full.path": False, "claim.name": "groups"},
        },
        {"name": "audience", "type": "oidc-audience-mapper", "config": {"included.client.audience": "mlflow"}},
    ],
}


def declared(**more: Any) -> dict[str, Any]:
    """Give the options of most tests, with differences."""
    options = {
        "service": {"namespace": "keycloak", "name": "keycloak"},
        "admin_secret": {"namespace": "keycloak", "name": "keycloak-admin"},
        "realm": "mlflow",
        "settings": {
            "displayName": "MLflow",
            "ssoSessionIdleTimeout": 28800,
            "attributes": {"frontendUrl": "https://a"},
        },
        "groups": ["admins", "users"],
        "clients": [CLIENT],
        "users": [ADA],
    }
    return copy.deepcopy({**options, **more})


@pytest.fixture
def made(keycloak: FakeKeycloak, secrets: Any, run: Any) -> FakeKeycloak:
    """Give a Keycloak with the realm as most tests declare it."""
    assert run("keycloak_realm", **declared())["changed"] is True
    keycloak.requests.clear()
    return keycloak


# --- what is made -----------------------------------------------------------------------------------------------------


def test_makes_everything(keycloak, secrets, run):
    result = run("keycloak_realm", **declared())
    assert result["changes"] == [
        "realm mlflow: created",
        "group admins: created",
        "group users: created",
        "client mlflow: created",
        "user ada: created",
    ]
    assert keycloak.realm()["rep"]["enabled"] is True
    client = keycloak.named("clients", "mlflow")
    assert client["secret"] == CLIENT_SECRET
    assert client["attributes"] == {
        "use.refresh.tokens": "true",
        "pkce.code.challenge.method": "S256",
        "post.logout.redirect.uris": "https://a/out##https://b/out",
    }
    flows = ("standardFlowEnabled", "implicitFlowEnabled", "directAccessGrantsEnabled", "serviceAccountsEnabled")
    assert [client[flow] for flow in flows] == [True, False, False, False]
    assert client["protocolMappers"][0]["config"] == {"full.path": "false", "claim.name": "groups"}
    user = keycloak.named("users", "ada")
    assert user["credentials"] == [{"type": "password", "value": ADA_PASSWORD, "temporary": True}]
    assert (user["email"], user["enabled"], user["emailVerified"]) == ("ada@example.org", True, True)
    assert keycloak.members("admins") == keycloak.members("users") == {"ada"}


def test_a_second_run_changes_nothing(made, run):
    result = run("keycloak_realm", **declared())
    assert (result["changed"], result["changes"]) == (False, [])
    assert made.writes() == []
    assert result["diff"] == []


def test_a_user_is_made_in_one_request(made, run):
    run(
        "keycloak_realm", **declared(users=[ADA, {"name": "bob", "groups": ["users"], "password_secret": USERS_SECRET}])
    )
    assert made.writes() == ["POST /admin/realms/mlflow/users"]
    assert made.named("users", "bob")["credentials"][0]["value"] == BOB_PASSWORD


# --- what was made by hand --------------------------------------------------------------------------------------------


def test_undeclared_things_survive(made, run):
    realm = made.realm()
    realm["rep"].update(passwordPolicy="length(12)", smtpServer={"host": "mail", "password": "**********"})
    realm["rep"]["attributes"]["cibaExpiresIn"] = "99"
    client = made.named("clients", "mlflow")
    client.update(description="by hand", fullScopeAllowed=False)
    client["attributes"]["access.token.lifespan"] = "600"
    client["protocolMappers"].append({"id": "x", "name": "team", "protocolMapper": "y", "config": {"a": "b"}})
    client["protocolMappers"][0]["config"]["multivalued"] = "true"
    user = made.named("users", "ada")
    user.update(attributes={"team": ["blue"]}, requiredActions=["CONFIGURE_TOTP"])
    user["groups"].add("hand")
    realm["groups"]["hand"] = {"id": "hand", "name": "hand", "path": "/hand"}
    realm["groups"]["sub"] = {"id": "sub", "name": "admins", "path": "/hand/admins"}
    user["groups"].add("sub")
    before = copy.deepcopy(realm)

    changed = declared(settings={"displayName": "Other", "attributes": {"frontendUrl": "https://b"}})
    changed["clients"][0]["name"] = "Other"
    changed["clients"][0]["mappers"][0]["config"]["claim.name"] = "roles"
    changed["users"][0] |= {"last_name": "King", "groups": ["users"]}
    result = run("keycloak_realm", **changed)

    assert result["changes"] == [
        "realm mlflow: attributes, displayName changed",
        "client mlflow: name changed",
        "client mlflow, mapper groups: config changed",
        "user ada: lastName changed",
        "user ada: removed from admins",
    ]
    before["rep"]["displayName"] = "Other"
    before["rep"]["attributes"]["frontendUrl"] = "https://b"
    client_before = before["clients"][client["id"]]
    client_before["name"] = "Other"
    client_before["protocolMappers"][0]["config"]["claim.name"] = "roles"
    user_before = before["users"][user["id"]]
    user_before["lastName"] = "King"
    user_before["groups"].discard(made.named("groups", "admins")["id"])
    assert made.realm() == before
    assert run("keycloak_realm", **changed)["changed"] is False


@pytest.mark.parametrize(
    ("hand", "change"),
    [
        (lambda fake: fake.realm()["rep"].update(displayName="x"), "realm mlflow: displayName changed"),
        (lambda fake: fake.named("clients", "mlflow").update(secret="x"), "client mlflow: secret changed"),
        (
            lambda fake: fake.named("clients", "mlflow").update(redirectUris=["https://a/callback", "*"]),
            "client mlflow: redirectUris changed",
        ),
        (
            lambda fake: fake.named("clients", "mlflow").update(directAccessGrantsEnabled=True),
            "client mlflow: directAccessGrantsEnabled changed",
        ),
        (
            lambda fake: fake.named("clients", "mlflow")["protocolMappers"].pop(),
            "client mlflow, mapper audience: created",
        ),
        (lambda fake: fake.named("users", "ada")["groups"].clear(), "user ada: added to admins, added to users"),
        (lambda fake: fake.named("users", "ada")["credentials"].clear(), "user ada: first password set"),
    ],
)
def test_declared_things_come_back(made, run, hand, change):
    whole = copy.deepcopy(made.realm())
    hand(made)
    checked = run("keycloak_realm", check=True, **declared())
    assert checked["changes"] == [change]
    assert made.writes() == []
    result = run("keycloak_realm", **declared())
    assert result["changes"] == [change]
    assert len(made.writes()) == (2 if "added" in change else 1)
    for mapper in [
        *made.named("clients", "mlflow")["protocolMappers"],
        *whole["clients"].popitem()[1]["protocolMappers"],
    ]:
        mapper.pop("id")
    assert made.realm()["rep"] == whole["rep"]
    assert run("keycloak_realm", **declared())["changed"] is False


def test_settings_of_the_realm_of_administrators_are_kept(made, run):
    made.realms["master"] = {"rep": {"bruteForceProtected": False, "loginTheme": "company"}}
    options = declared(master_settings={"bruteForceProtected": True})
    result = run("keycloak_realm", **options)
    assert result["changes"] == ["realm master: bruteForceProtected changed"]
    assert made.realms["master"]["rep"] == {"bruteForceProtected": True, "loginTheme": "company"}
    assert run("keycloak_realm", **options)["changed"] is False


def test_a_declared_address_is_verified_again_after_a_user_changed_it(made, run):
    made.named("users", "ada").update(email="grants@example.org", emailVerified=False)
    run("keycloak_realm", **declared())
    user = made.named("users", "ada")
    assert (user["email"], user["emailVerified"]) == ("ada@example.org", True)


def test_order_in_lists_does_not_matter(made, run):
    made.named("clients", "mlflow")["redirectUris"].reverse()
    assert run("keycloak_realm", **declared())["changed"] is False


@pytest.mark.parametrize("kind", ["password", "webauthn-passwordless"])
def test_a_password_is_never_set_again(made, run, kind):
    mine = [{"type": kind, "value": "my own"}]
    made.named("users", "ada")["credentials"] = mine
    assert run("keycloak_realm", **declared())["changed"] is False
    assert made.named("users", "ada")["credentials"] == mine


def test_a_user_of_a_directory_gets_no_password(made, run):
    made.named("users", "ada").update(credentials=[], federationLink="ldap")
    assert run("keycloak_realm", **declared())["changed"] is False


def test_without_groups_memberships_are_left_alone(made, run):
    assert run("keycloak_realm", **declared(users=[{"name": "ada"}]))["changed"] is False
    assert made.members("admins") == {"ada"}
    assert run("keycloak_realm", **declared(users=[{"name": "ada", "groups": []}]))["changed"] is True
    assert made.members("admins") == made.members("users") == set()


# --- check mode and the difference ------------------------------------------------------------------------------------


@pytest.mark.parametrize("many", [1, 20])
def test_exclusive_takes_out_who_is_not_declared(made, run, monkeypatch, many):
    monkeypatch.setattr(reconciling, "MANY", many)
    monkeypatch.setattr(reconciling, "PAGE", 2)
    admins = made.named("groups", "admins")["id"]
    made.realm()["groups"]["other"] = {"id": "other", "path": "/other", "name": "other"}
    for name in ("eve", "mallory", "bob"):
        made.realm()["users"][name] = {"id": name, "username": name, "credentials": [], "groups": {admins, "other"}}
    bob = {"name": "bob", "groups": None}
    assert not run("keycloak_realm", **declared(users=[ADA, bob]))["changed"]
    made.requests.clear()

    planned = run("keycloak_realm", **declared(users=[ADA, bob], exclusive=True), check=True)
    assert made.writes() == []
    result = run("keycloak_realm", **declared(users=[ADA, bob], exclusive=True))

    assert (
        result["changes"]
        == planned["changes"]
        == ["user bob: removed from admins", "group admins: eve, mallory removed"]
    )
    assert json.loads(result["diff"][-1]["after"])["group admins"] == {"members": ["ada", "bob"]}
    assert made.members("admins") == made.members("users") == {"ada"}
    assert made.members("other") == {"eve", "mallory", "bob"}
    assert not run("keycloak_realm", **declared(users=[ADA, bob], exclusive=True))["changed"]


@pytest.fixture
def many(made, run, cluster):
    """Options with 41 users and 22 groups, of which there is one and two."""
    names = [f"user{number}" for number in range(40)]
    cluster.secret("keycloak/users", {name: b"planted" for name in ["ada", *names]})
    users = [{"name": name, "groups": ["users"], "password_secret": USERS_SECRET} for name in names]
    return declared(users=[ADA, *users], groups=["admins", "users", *(f"group{number}" for number in range(20))])


def test_many_users_are_made_over_several_connections_and_verified_in_one_list(made, run, many):
    made.connections = 0

    run("keycloak_realm", **many)

    assert made.connections == 1 + 40 // 8
    posted = [each for each in made.requests if each.startswith("POST ") and each.endswith("/users")]
    assert len(posted) == 40
    assert not [each for each in made.requests if each.startswith("GET ") and each.endswith("/users/id")]
    assert len([each for each in made.requests if "/users?first" in each]) == 2


def test_many_users_of_a_directory_are_looked_for_by_name(made, run, many):
    """They are in no list until then, and have their passwords there."""
    made.realm()["components"] = [{"providerType": "org.keycloak.storage.UserStorageProvider"}]
    known = {"id": "ldap", "username": "user7", "federationLink": "ldap", "credentials": [], "groups": set()}
    serve = made.serve

    def found_by_name(method, url, body, headers):
        if "username=user7" in url.query:
            made.realm()["users"]["ldap"] = known
        return serve(method, url, body, headers)

    made.serve = found_by_name

    result = run("keycloak_realm", **many)

    assert "user user7: added to users" in result["changes"]
    assert "user user7: created" not in result["changes"]
    assert not known["credentials"]
    assert not run("keycloak_realm", **many)["changed"]


def test_second_run_of_many_users_takes_few_requests(made, run, many):
    run("keycloak_realm", **many)
    made.requests.clear()

    result = run("keycloak_realm", **many)

    assert not result["changed"]
    assert made.writes() == []
    # Token, realm, groups, client and its secret, users, and members of 22 groups.
    assert len(made.requests) == result["requests"] == 6 + 22


def test_credentials_are_asked_for_where_none_are_recorded(made, run, many):
    """After the former version, an interruption, or a change of the realm's attributes by hand."""
    run("keycloak_realm", **many)
    record = made.realm()["rep"]["attributes"].pop(reconciling.RECORD)
    lost = made.named("users", "user7")
    lost["credentials"] = []
    made.requests.clear()

    planned = run("keycloak_realm", **many, check=True)
    assert made.writes() == []
    result = run("keycloak_realm", **many)

    assert result["changes"] == planned["changes"] == ["user user7: first password set"]
    assert made.realm()["rep"]["attributes"][reconciling.RECORD] == record
    assert made.realm()["rep"]["attributes"]["frontendUrl"] == "https://a"
    assert not run("keycloak_realm", **many)["changed"]


def test_check_mode_without_a_realm(keycloak, secrets, run):
    result = run("keycloak_realm", check=True, **declared())
    assert len(result["changes"]) == 5
    assert keycloak.writes() == []


@pytest.mark.parametrize("lacking", ["secret", "service"])
def test_check_mode_before_anything_is_there(keycloak, cluster, run, lacking):
    if lacking == "service":
        cluster.secret("keycloak/keycloak-admin", {"username": b"admin", "password": b"x"})
        keycloak.unreachable = Unreachable("there is no Service keycloak in the namespace keycloak", absent=True)
    result = run("keycloak_realm", check=True, **declared())
    assert result["changed"] is True
    assert len(result["changes"]) == 5
    assert result["msg"].startswith("Keycloak does not run yet: ")


def test_check_mode_takes_a_secret_to_come(made, cluster, run):
    user = {"name": "carl", "password_secret": USERS_SECRET}
    assert run("keycloak_realm", check=True, **declared(users=[ADA, user]))["changes"] == ["user carl: created"]
    result = run("keycloak_realm", **declared(users=[ADA, user]))
    assert result["msg"] == "Secret keycloak/users has no key carl, which is to hold the first password of user carl"


def test_no_secret_is_shown(keycloak, secrets, run):
    outputs = [run("keycloak_realm", check=check, **declared())["_output"] for check in (True, False, False)]
    keycloak.named("clients", "mlflow")["secret"] = "another-s3cret"
    last = run("keycloak_realm", **declared())
    assert last["diff"][-1]["before"] == '{\n  "client mlflow": {\n    "secret": "another"\n  }\n}\n'
    keycloak.password = "other"
    outputs += [last["_output"], run("keycloak_realm", **declared())["_output"]]
    for output in outputs:
        for planted in (*PLANTED, "another-s3cret", "token-"):
            assert planted not in output
            assert json.dumps(planted)[1:-1] not in output


def test_the_difference_names_what_changes(made, run):
    made.named("users", "ada")["lastName"] = "Byron"
    difference = run("keycloak_realm", **declared())["diff"][-1]
    assert json.loads(difference["before"]) == {"user ada": {"lastName": "Byron"}}
    assert json.loads(difference["after"]) == {"user ada": {"lastName": "Lovelace"}}


# --- what goes wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"users": [ADA, {**ADA, "name": "ADA"}]}, "users declares ada more than once"),
        ({"clients": [CLIENT, CLIENT]}, "clients declares mlflow more than once"),
        (
            {"users": [{**ADA, "groups": ["wheel"]}]},
            "users gives ada the group 'wheel', which groups does not declare: it declares admins, users",
        ),
        ({"groups": ["a/b"]}, "groups has 'a/b': a name that is not empty and has no slash"),
        ({"settings": {"realm": "x"}}, "settings.realm cannot be set: a realm is known by it"),
        (
            {"settings": {"smtpServer": {"host": "m", "password": "p"}}},
            "settings.smtpServer.password is a secret and is not taken from a variable: leave it out, and set it in "
            "the admin console, where it is kept",
        ),
    ],
)
def test_contradictions_fail_before_anything_is_asked(keycloak, secrets, run, options, message):
    assert run("keycloak_realm", **declared(**options))["msg"] == message
    assert keycloak.requests == []


def test_a_wrong_admin_password(made, run):
    made.password = "changed in the console"
    result = run("keycloak_realm", **declared())
    assert result["failed"] is True
    assert result["msg"].startswith(
        "Keycloak does not accept the administrator admin of Secret keycloak/keycloak-admin (Invalid user credentials)"
    )
    assert "bootstrap-admin" in result["msg"]


def test_refusals_are_sentences(made, run):
    bad_mail = declared(users=[{**ADA, "email": "no-address"}])
    assert run("keycloak_realm", **bad_mail)["msg"] == (
        "Keycloak refused to change email of the user ada: email: error-invalid-email (HTTP 400)"
    )
    taken = declared(users=[{"name": "bob", "email": "ada@example.org"}])
    assert run("keycloak_realm", **taken)["msg"] == (
        "Keycloak refused to create the user bob: User exists with same email (HTTP 409)"
    )
    made.answers["PUT /admin/realms/mlflow"] = (400, {"error": 'Unrecognized field "displayNam"'})
    assert run("keycloak_realm", **declared(settings={"displayNam": "x"}))["msg"] == (
        'Keycloak refused to change displayNam of the realm mlflow: Unrecognized field "displayNam" (HTTP 400)'
    )


def test_what_is_not_kept_is_an_error(made, run):
    assert run("keycloak_realm", **declared(settings={"ignored": 1}))["msg"] == (
        "Keycloak did not keep ignored of the realm mlflow: there is no such field, or it does not take this value"
    )


def test_a_token_that_ends_is_renewed(keycloak, secrets, run):
    keycloak.token_uses = 3
    assert run("keycloak_realm", **declared())["changed"] is True
    assert run("keycloak_realm", **declared())["changed"] is False


def test_a_read_survives_a_broken_connection(made, run):
    made.drops = 1
    assert run("keycloak_realm", **declared())["changed"] is False


def test_a_database_that_restarts_is_waited_for(keycloak, secrets, run, monkeypatch):
    broken = {
        "POST /realms/master/protocol/openid-connect/token": (500, {"error": "unknown_error"}),
        "GET /admin/realms/mlflow": (500, {"error": "unknown_error"}),
        "POST /admin/realms/mlflow/users": (500, {"error": "unknown_error"}),
    }
    keycloak.answers = dict(broken)
    monkeypatch.setattr("time.sleep", lambda seconds: keycloak.answers.pop(next(iter(keycloak.answers))))
    result = run("keycloak_realm", **declared())
    assert len(result["changes"]) == 5
    assert keycloak.answers == {}
    assert run("keycloak_realm", **declared())["changed"] is False
    keycloak.answers = {"GET /admin/realms/mlflow": (500, {"error": "unknown_error"})}
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    assert run("keycloak_realm", **declared())["msg"] == (
        "Keycloak refused to read the realm mlflow: unknown_error (HTTP 500)"
    )


def test_a_server_that_starts_is_waited_for(made, run, monkeypatch):
    made.unreachable = Unreachable("Service keycloak/keycloak has no ready pod", transient=True)
    waits = []

    def wait(seconds):
        waits.append(seconds)
        if len(waits) == 3:
            made.unreachable = None

    monkeypatch.setattr("time.sleep", wait)
    assert run("keycloak_realm", **declared())["changed"] is False
    assert len(waits) == 3


def test_a_server_that_never_comes(made, run):
    made.unreachable = Unreachable("Service keycloak/keycloak has no ready pod: keycloak-0 is Pending", transient=True)
    result = run("keycloak_realm", **declared(timeout=0))
    assert result["msg"] == (
        "Keycloak cannot be reached: Service keycloak/keycloak has no ready pod: keycloak-0 is Pending"
    )


def test_no_admin_secret(keycloak, cluster, run):
    cluster.namespace("keycloak")
    assert run("keycloak_realm", **declared())["msg"] == (
        "Secret keycloak/keycloak-admin has no key username, which is to hold the administrator's username"
    )


# --- any input --------------------------------------------------------------------------------------------------------

NAMES = ["a", "b", "c d", "e%f", "grün", "&?#"]
SOME = st.sets(st.sampled_from(NAMES))


@pytest.mark.usefixtures("secrets")
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(groups=SOME, member=SOME, by_hand=SOME)
def test_any_membership_settles_in_one_run(run, keycloak, groups, member, by_hand):
    keycloak.realms.clear()
    options = declared(groups=sorted(groups), clients=[], users=[{"name": "ada", "groups": sorted(member & groups)}])
    run("keycloak_realm", **options)
    made = {each["name"]: key for key, each in keycloak.realm()["groups"].items()}
    for name in by_hand:
        if name not in made:
            keycloak.realm()["groups"][name] = {"id": name, "name": name, "path": f"/{name}"}
        keycloak.named("users", "ada")["groups"].add(made.get(name, name))
    run("keycloak_realm", **options)
    is_in = {name for name in by_hand | groups if "ada" in keycloak.members(name)}
    assert is_in == (member & groups) | (by_hand - groups)
    assert run("keycloak_realm", **options)["changed"] is False
