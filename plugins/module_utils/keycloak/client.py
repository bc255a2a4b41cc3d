# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keycloak's admin REST API, and a reconciler of what is declared of one realm.

Paths and representations: https://www.keycloak.org/docs-api/latest/rest-api/index.html. The transport is given
(anything like an http.client connection), and so is the reader of Secrets: nothing here knows of Kubernetes.
"""

from __future__ import annotations

import copy
import hashlib
import json
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlencode

from ansible_collections.mlops.mlflow.plugins.module_utils.changes import Changes
from ansible_collections.mlops.mlflow.plugins.module_utils.connections import (
    BROKEN,
    Answer,
    Client,
    explain,
    in_parallel,
)
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.portforward import Unreachable

MANY = 20  # users for whom lists are read
DIRECTORY = "org.keycloak.storage.UserStorageProvider"  # a component of the realm
RECORD = "mlops.mlflow.first-passwords"  # attribute of the realm: who was given one
PAGE = 500
ATTEMPTS = 4
PAUSE = 2.0  # seconds between them


class KeycloakError(Exception):
    """One sentence on what Keycloak refused, or on what was asked of it that can't be."""


class Refused(KeycloakError):
    """An answer that is an error.

    Args:
        status: HTTP status.
        reason: Keycloak's own words.
    """

    def __init__(self, what: str, status: int, reason: str) -> None:
        super().__init__(f"Keycloak refused to {what}: {reason} (HTTP {status})")
        self.status = status
        self.reason = reason

    @property
    def transient(self) -> bool:
        """Whether waiting may help: Keycloak answers 500 for as long as its database restarts."""
        return self.status >= 500


class Admin(Client):
    """A session with the admin REST API.

    Args:
        connection: an C(http.client.HTTPConnection), or what behaves like one; it is reopened after a failure.
        token_realm: the realm of the administrator's account.
        another: opens further connections, where there is much to be read.
        base: the path below which Keycloak serves, without a slash at its end.
    """

    def __init__(
        self,
        connection: Any,
        token_realm: str = "master",  # noqa: S107 - a realm's name
        another: Callable[[], Any] | None = None,
        base: str = "",
    ) -> None:
        super().__init__(connection)
        self._base = base
        self._another = another
        self._token_realm = token_realm
        self._token_path = f"/realms/{quote(token_realm, safe='')}/protocol/openid-connect/token"
        self._account: dict[str, str] = {}
        self._token = ""

    def another(self) -> Admin:
        """Give a session of the same administrator with a connection of its own, for another thread."""
        if self._another is None:
            raise KeycloakError("Keycloak is reached over one connection only")
        other = Admin(self._another(), self._token_realm, base=self._base)
        other._account, other._token = self._account, self._token
        return other

    def login(self, username: str, password: str, timeout: float = 0) -> None:
        """Gets a token, and waits up to `timeout` seconds for a server that is still starting.

        Raises:
            Refused: the account is not accepted.
            Unreachable: no connection within the time limit.
        """
        self._account = {"username": username, "password": password}
        deadline = time.monotonic() + timeout
        while True:
            try:
                self._renew()
                return
            except Unreachable as error:
                if not error.transient or time.monotonic() >= deadline:
                    raise
            except Refused as error:
                # A server that starts has no realms yet.
                if not (error.transient or error.status == 404) or time.monotonic() >= deadline:
                    raise
            time.sleep(1)

    def change_password(self, username: str, password: str) -> None:
        """Set the password of a user of the administrators' realm.

        Raises:
            KeycloakError: there is no such user, or Keycloak refuses.
        """
        realm = f"/{quote(self._token_realm, safe='')}/users"
        found = self.get(f"read the administrator {username}", realm, username=username, exact=True)
        if not found:
            raise KeycloakError(f"Keycloak has no administrator {username} by now")
        body, user = {"type": "password", "value": password, "temporary": False}, f"{realm}/{found[0]['id']}"
        self.put(f"set the password of the administrator {username}", f"{user}/reset-password", body)
        self.call(f"end the sessions of the administrator {username}", "POST", f"{user}/logout")

    def _renew(self) -> None:
        form = urlencode({"grant_type": "password", "client_id": "admin-cli", **self._account})
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        status, _headers, body = self._exchange("POST", self._token_path, form.encode(), headers, safe=True)
        if status != 200:
            raise Refused("log the administrator in", status, explain(body)[1])
        self._token = json.loads(body)["access_token"]

    def _exchange(self, method: str, path: str, body: bytes | None, headers: dict[str, str], *, safe: bool) -> Answer:
        try:
            return self._wire.exchange(method, self._base + path, body, headers, safe=safe)
        except BROKEN as error:
            cause = str(error) or type(error).__name__
            raise Unreachable(
                f"the connection broke during {method} {path.partition('?')[0]}: {cause}", transient=True
            ) from None

    def call(self, what: str, method: str, path: str, body: Any = None, **query: Any) -> tuple[int, Any, dict]:
        """One request below C(/admin/realms).

        Args:
            what: the deed in words, for the sentence of a refusal: "Keycloak refused to <what>".
            query: parameters of the URL; booleans become C(true) and C(false).

        Returns:
            status (2xx or 404), parsed answer or None, headers.

        Raises:
            Refused: any other status.
            Unreachable: the connection broke.
        """
        url = f"/admin/realms{path}"
        if query:
            url += "?" + urlencode({k: str(v).lower() if isinstance(v, bool) else v for k, v in query.items()})
        data = None if body is None else json.dumps(body).encode()
        for attempt in (1, 2):
            headers = {"Authorization": f"Bearer {self._token}", "Accept": "application/json"}
            if data is not None:
                headers["Content-Type"] = "application/json"
            status, answer_headers, answer = self._exchange(method, url, data, headers, safe=method == "GET")
            if status == 401 and attempt == 1:
                self._renew()  # an administrator's token lives for a minute
                continue
            break
        if status == 404 and method == "GET":
            return status, None, answer_headers
        if status >= 300:
            raise Refused(what, status, explain(answer)[1])
        return status, json.loads(answer) if answer else None, answer_headers

    def get(self, what: str, path: str, **query: Any) -> Any:
        """The answer, or None where there is no such thing (404)."""
        return self.call(what, "GET", path, **query)[1]

    def get_all(self, asked: list[tuple[str, str]]) -> list[Any]:
        """The answers of C(get) to pairs of what and path, in order; of many, over several connections."""
        return in_parallel(self, asked, lambda admin, each: admin.get(*each))

    def create(self, what: str, path: str, body: Any) -> str:
        """Creates a thing and returns its id, which is the last part of the answer's Location."""
        headers = self.call(what, "POST", path, body)[2]
        return (headers.get("Location") or "").rpartition("/")[2]

    def put(self, what: str, path: str, body: Any = None) -> None:
        self.call(what, "PUT", path, body)

    def delete(self, what: str, path: str) -> None:
        self.call(what, "DELETE", path)


def _scalar(value: Any) -> Any:
    """Give a scalar as the string that Keycloak keeps in attributes, so that true and "true", 1 and "1" are equal."""
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def same(want: Any, have: Any) -> bool:
    """Whether a declared value is there: dictionaries by what they declare, lists of scalars in any order."""
    if isinstance(want, dict):
        return isinstance(have, dict) and all(same(value, have.get(key)) for key, value in want.items())
    if isinstance(want, list):
        have = have or []
        if not isinstance(have, list) or len(want) != len(have):
            return False
        if any(isinstance(item, (dict, list)) for item in [*want, *have]):
            return all(same(w, h) for w, h in zip(want, have, strict=True))
        return sorted(map(_scalar, want)) == sorted(map(_scalar, have))
    if isinstance(have, (dict, list)):
        return want is None and not have
    return _scalar(want) == _scalar(have)


def differing(want: dict, have: dict) -> tuple[dict, dict]:
    """The declared fields that differ, as they are and as they are to be."""
    before: dict[str, Any] = {}
    after: dict[str, Any] = {}
    for key, value in want.items():
        current = have.get(key)
        if same(value, current):
            continue
        if isinstance(value, dict) and isinstance(current, dict):
            before[key], after[key] = differing(value, current)
        else:
            before[key], after[key] = current, value
    return before, after


def merged(have: dict, want: dict) -> dict:
    """`have` with the declared fields of `want` laid over it, at any depth."""
    result = copy.deepcopy(have)
    for key, value in want.items():
        if isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        else:
            result[key] = copy.deepcopy(value)
    return result


def _listed(fields: dict) -> str:
    return ", ".join(sorted(fields))


def as_strings(values: dict | None) -> dict[str, str]:
    """Attributes and mappers' configuration, which Keycloak keeps as strings."""
    return {key: _scalar(value) for key, value in (values or {}).items()}


def desired_client(client: dict) -> dict:
    """The fields of a client's representation that a declaration owns; options that are None are left alone."""
    want: dict[str, Any] = {
        "protocol": "openid-connect",
        "enabled": True,
        "publicClient": False,
        "bearerOnly": False,
        "clientAuthenticatorType": "client-secret",
        "standardFlowEnabled": client["standard_flow"],
        "implicitFlowEnabled": client["implicit_flow"],
        "directAccessGrantsEnabled": client["direct_access_grants"],
        "serviceAccountsEnabled": client["service_accounts"],
    }
    for field, option in (
        ("name", "name"),
        ("baseUrl", "base_url"),
        ("redirectUris", "redirect_uris"),
        ("webOrigins", "web_origins"),
    ):
        if client.get(option) is not None:
            want[field] = client[option]
    attributes = as_strings(client.get("attributes"))
    if client.get("pkce") is not None:
        attributes["pkce.code.challenge.method"] = "" if client["pkce"] == "none" else client["pkce"]
    if client.get("post_logout_redirect_uris") is not None:
        attributes["post.logout.redirect.uris"] = "##".join(client["post_logout_redirect_uris"])
    if attributes:
        want["attributes"] = attributes
    return want


def desired_mapper(mapper: dict) -> dict:
    """A protocol mapper's representation."""
    return {
        "name": mapper["name"],
        "protocol": "openid-connect",
        "protocolMapper": mapper["type"],
        "config": as_strings(mapper.get("config")),
    }


def desired_user(user: dict) -> dict:
    """The fields of a user's representation that a declaration owns."""
    want = {}
    for field, option in (
        ("email", "email"),
        ("firstName", "first_name"),
        ("lastName", "last_name"),
        ("enabled", "enabled"),
    ):
        if user.get(option) is not None:
            # Keycloak lowers e-mail addresses, and would differ for ever.
            want[field] = user[option].lower() if field == "email" else user[option]
    if "email" in want:
        want["emailVerified"] = True  # who declares an address answers for it
    return want


def _recorded(user: str) -> str:
    """Give a short name for a user's id."""
    return hashlib.sha256(user.encode()).hexdigest()[:12]


class Reconciler:
    """Applies what is declared of one realm, and leaves alone what is not declared.

    Args:
        admin: a session that is logged in.
        read_secret: reader of a value by (reference, purpose); returns None only in check mode, for a Secret to come.
        check_mode: only finds out what would be done.
    """

    def __init__(
        self,
        admin: Admin,
        realm: str,
        read_secret: Callable[[dict, str], str | None],
        check_mode: bool = False,
    ) -> None:
        self._admin = admin
        self._realm = realm
        self._path = "/" + quote(realm, safe="")
        self._read_secret = read_secret
        self._check_mode = check_mode
        self._exists = False
        # Where many users are declared: all of the realm by their names, and each group's members, names by ids.
        self._users: dict[str, dict] | None = None
        self._members: dict[str, dict[str, str]] = {}
        self._credentials: dict[str, list[dict]] = {}  # of those users by their ids
        self._attributes: dict[str, str] = {}  # of the realm
        self._passwords: set[str] = set()  # ids of those who have had a first password
        self._new: list[Callable[[Admin], None]] = []  # makes users
        self._made: dict[
            str, tuple[str, dict]
        ] = {}  # of users that were made what they are called and are to be, by id
        self.changes = Changes(check_mode)

    def run(self, declared: dict) -> None:
        """Reconciles settings, groups, clients and users, in this order; the changes are noted in C(changes).

        After a failure that may pass it begins again, which is safe since everything is read before it is written.

        Args:
            declared: C(settings), C(groups), C(clients), C(users) and C(exclusive) as the module's options.

        Raises:
            KeycloakError: Keycloak refuses something, or what is declared can't be.
            Unreachable: the connection broke, again and again.
        """
        for attempt in range(1, ATTEMPTS + 1):
            try:
                self._run(declared)
                return
            except (Refused, Unreachable) as error:
                if not error.transient or attempt == ATTEMPTS:
                    raise
            time.sleep(PAUSE)

    def _run(self, declared: dict) -> None:
        self._reconcile_realm(declared.get("settings") or {})
        names = declared.get("groups") or []
        there = {group["name"]: group["id"] for group in self._pages("read the groups", "/groups")} if names else {}
        groups = {name: there.get(name) or self._create_group(name) for name in names}
        for client in declared.get("clients") or []:
            self._reconcile_client(client)
        users = declared.get("users") or []
        exclusive = bool(declared.get("exclusive"))
        self._users = None
        self._members = {}
        self._credentials = {}
        self._new, self._made = [], {}
        many = self._exists and len(users) >= MANY
        if many or (self._exists and exclusive):
            self._read_members(groups)
        if many:
            # Lists, in place of two requests a user.
            self._read_users([user["name"].lower() for user in users])
            self._read_credentials(users)
        for user in users:
            self._reconcile_user({**user, "groups": user.get("groups") or []} if exclusive else user, groups)
        self._create_users()
        if exclusive:
            self._remove_undeclared({user["name"].lower() for user in users}, groups)
        if many:
            self._record_passwords()

    def _read_members(self, groups: dict[str, str | None]) -> None:
        self._members = {
            name: {
                user["id"]: user["username"]
                for user in self._pages(f"read who is in the group {name}", f"/groups/{group}/members")
            }
            for name, group in groups.items()
            if group is not None
        }

    def _read_users(self, names: list[str]) -> None:
        listed = self._pages("read the users", "/users", briefRepresentation=False)
        self._users = {user["username"]: user for user in listed}
        others = [name for name in names if name not in self._users]
        if not others or not self._get("read the directories", "/components", type=DIRECTORY):
            return
        # One of a directory such as LDAP may be in no list until it is requested by name.
        paths = [f"{self._path}/users?{urlencode({'username': name, 'exact': 'true'})}" for name in others]
        found = self._admin.get_all([(f"read the user {name}", path) for name, path in zip(others, paths, strict=True)])
        self._users |= {name: users[0] for name, users in zip(others, found, strict=True) if users}

    def _read_credentials(self, users: list[dict]) -> None:
        """Keycloak has no list of them: a request a user, of those who are not recorded to have had a password."""
        found = [self._find_listed(user["name"]) for user in users if user.get("password_secret")]
        ids = [user["id"] for user in found if user and not user.get("federationLink")]
        recorded = set(self._attributes.get(RECORD, "").split())
        self._passwords = {each for each in ids if _recorded(each) in recorded}
        ids = [each for each in ids if each not in self._passwords]
        asked = [("read credentials", f"{self._path}/users/{each}/credentials") for each in ids]
        self._credentials = dict(zip(ids, self._admin.get_all(asked), strict=True))

    def _record_passwords(self) -> None:
        """Keep in the realm who has had a first password, so that the next run need not ask for each."""
        record = " ".join(sorted(map(_recorded, self._passwords)))
        if self._check_mode or record == self._attributes.get(RECORD, ""):
            return
        realm = self._get("read the realm", "")
        realm["attributes"] = {**(realm.get("attributes") or {}), RECORD: record}
        self._admin.put("record the first passwords", self._path, realm)

    def _remove_undeclared(self, known: set[str], groups: dict[str, str | None]) -> None:
        """Removes members that are not declared from the declared groups."""
        for name, members in self._members.items():
            undeclared = {user: its for user, its in members.items() if its.lower() not in known}
            if not undeclared:
                continue
            words = ", ".join(sorted(undeclared.values()))
            before = {"members": sorted(members.values())}
            after = {"members": sorted(set(members.values()) - set(undeclared.values()))}
            if self._note(f"group {name}", f"{words} removed", before, after):
                for user, its in undeclared.items():
                    path = f"{self._path}/users/{user}/groups/{groups[name]}"
                    self._admin.delete(f"remove the user {its} from {name}", path)

    def _pages(self, what: str, path: str, **query: Any) -> list[dict]:
        found: list[dict] = []
        while True:
            page = self._get(what, path, first=len(found), max=PAGE, **query) or []
            found += page
            if len(page) < PAGE:
                return found

    def _find_listed(self, name: str) -> dict | None:
        return (self._users or {}).get(name.lower())

    def _find_user(self, name: str) -> dict | None:
        if self._users is not None:
            return self._find_listed(name)
        found = self._get(f"read the user {name}", "/users", username=name, exact=True) or []
        return found[0] if found else None

    def _note(self, thing: str, what: str, before: Any = None, after: Any = None) -> bool:
        """Note a change, once however often it is tried, and return whether it is to be made."""
        if f"{thing}: {what}" in self.changes.sentences:
            return not self._check_mode
        return self.changes.note(thing, what, before, after)

    def _get(self, what: str, path: str, **query: Any) -> Any:
        """A read within the realm; nothing is found in a realm that check mode did not make."""
        return self._admin.get(what, self._path + path, **query) if self._exists else None

    def _verify(self, thing: str, want: dict, have: dict | None) -> None:
        """Fails for fields that Keycloak took without a word and did not keep: they would be changed at every run."""
        _before, after = differing(want, have or {})
        if after:
            raise KeycloakError(
                f"Keycloak did not keep {_listed(after)} of the {thing}: "
                "there is no such field, or it does not take this value"
            )

    def _reconcile_realm(self, settings: dict) -> None:
        thing = f"realm {self._realm}"
        have = self._admin.get(f"read the {thing}", self._path)
        self._exists = have is not None
        self._attributes = (have or {}).get("attributes") or {}
        if have is None:
            want = merged({"enabled": True}, settings)
            if self._note(thing, "created", after=want):
                self._admin.create(f"create the {thing}", "", {"realm": self._realm, **want})
                self._exists = True
                self._verify(thing, settings, self._get(f"read the {thing}", ""))
            return
        before, after = differing(settings, have)
        if after and self._note(thing, f"{_listed(after)} changed", before, after):
            # The whole representation is sent: Keycloak resets some missing fields (those of CIBA and of PAR).
            self._admin.put(f"change {_listed(after)} of the {thing}", self._path, merged(have, settings))
            self._verify(thing, settings, self._get(f"read the {thing}", ""))

    def _create_group(self, name: str) -> str | None:
        """Id of a group at the top level that was not there; None in check mode."""
        thing = f"group {name}"
        if self._note(thing, "created", after={"name": name}):
            return self._admin.create(f"create the {thing}", f"{self._path}/groups", {"name": name})
        return None

    def _reconcile_client(self, client: dict) -> None:
        client_id = client["client_id"]
        thing = f"client {client_id}"
        want = desired_client(client)
        mappers = [desired_mapper(mapper) for mapper in client.get("mappers") or []]
        secret = self._read_secret(client["secret"], f"secret of {thing}") if client.get("secret") else None
        found = self._get(f"read the {thing}", "/clients", clientId=client_id) or []
        if not found:
            if self._note(thing, "created", after={**want, "protocolMappers": [m["name"] for m in mappers]}):
                body = {"clientId": client_id, **want, "protocolMappers": mappers}
                if secret is not None:
                    body["secret"] = secret
                uuid = self._admin.create(f"create the {thing}", f"{self._path}/clients", body)
                self._verify(thing, want, self._get(f"read the {thing}", f"/clients/{uuid}"))
            return

        have = found[0]
        path = f"/clients/{have['id']}"
        before, after = differing(want, have)
        body = merged({k: v for k, v in have.items() if k not in ("protocolMappers", "secret")}, want)
        act = bool(after) and self._note(thing, f"{_listed(after)} changed", before, after)
        if secret is not None:
            current = self._get(f"read the secret of the {thing}", f"{path}/client-secret") or {}
            if current.get("value") != secret:
                act = self._note(thing, "secret changed", {"secret": "another"}, {"secret": "as declared"})
                body["secret"] = secret
        if act:
            self._admin.put(f"change {_listed(after) or 'the secret'} of the {thing}", self._path + path, body)
            self._verify(thing, want, self._get(f"read the {thing}", path))
        for mapper in mappers:
            self._reconcile_mapper(thing, path, mapper, have.get("protocolMappers") or [])

    def _reconcile_mapper(self, client: str, path: str, want: dict, mappers: list[dict]) -> None:
        name = want["name"]
        thing = f"{client}, mapper {name}"
        path = f"{self._path}{path}/protocol-mappers/models"
        have = next((mapper for mapper in mappers if mapper["name"] == name), None)
        if have is None:
            if self._note(thing, "created", after=want):
                self._admin.create(f"create the {thing}", path, want)
            return
        before, after = differing(want, have)
        if after and self._note(thing, f"{_listed(after)} changed", before, after):
            self._admin.put(f"change {_listed(after)} of the {thing}", f"{path}/{have['id']}", merged(have, want))

    def _reconcile_user(self, user: dict, groups: dict[str, str | None]) -> None:
        name = user["name"]
        thing = f"user {name}"
        want = desired_user(user)
        found = self._find_user(name)
        if not found:
            self._create_user(user, want)
            return
        if found.get("federationLink"):
            want.pop("emailVerified", None)  # a user of a directory (LDAP) has the address there
        path = f"/users/{found['id']}"
        before, after = differing(want, found)
        if after and self._note(thing, f"{_listed(after)} changed", before, after):
            whole = self._get(f"read the {thing}", path) or found
            self._admin.put(f"change {_listed(after)} of the {thing}", self._path + path, merged(whole, want))
            self._verify(thing, want, self._get(f"read the {thing}", path))
        if user.get("groups") is not None:
            self._reconcile_membership(thing, path, user["groups"], groups, found["id"])
        # A user of a directory (LDAP) has the password there.
        if user.get("password_secret") and not found.get("federationLink"):
            self._reconcile_password(thing, path, user, found["id"])

    def _create_user(self, user: dict, want: dict) -> None:
        """One request makes a user with groups and password: an interrupted run leaves none without."""
        thing = f"user {user['name']}"
        memberships = user.get("groups") or []
        body = {"username": user["name"], "enabled": True, **want}
        if not self._note(thing, "created", after={**body, "groups": sorted(memberships)}):
            return
        body["groups"] = [f"/{group}" for group in memberships]
        if user.get("password_secret"):
            body["credentials"] = [self._credential(thing, user)]

        def create(admin: Admin) -> None:
            uuid = admin.create(f"create the {thing}", f"{self._path}/users", body)
            self._made[uuid] = (thing, want)
            if "credentials" in body:
                self._passwords.add(uuid)

        self._new.append(create)

    def _create_users(self) -> None:
        """Make those that are not there, and see what Keycloak kept of them."""
        in_parallel(self._admin, self._new, lambda admin, create: create(admin))
        if len(self._made) >= MANY:
            listed = {user["id"]: user for user in self._pages("read the users", "/users", briefRepresentation=False)}
        else:
            listed = {user: self._get(f"read the {made[0]}", f"/users/{user}") for user, made in self._made.items()}
        for user, (thing, want) in self._made.items():
            self._verify(thing, want, listed.get(user))

    def _credential(self, thing: str, user: dict) -> dict:
        value = self._read_secret(user["password_secret"], f"first password of {thing}")
        return {"type": "password", "value": value, "temporary": user["temporary"]}

    def _memberships(self, thing: str, path: str, user: str) -> set[str]:
        """Names of the groups at the top level that a user is in; of the declared ones where lists were read."""
        if self._users is not None:
            return {name for name, members in self._members.items() if user in members}
        current = self._get(f"read the groups of the {thing}", f"{path}/groups") or []
        return {group["name"] for group in current if group.get("path", "").count("/") == 1}

    def _reconcile_membership(
        self, thing: str, path: str, wanted: list, groups: dict[str, str | None], user: str
    ) -> None:
        """Memberships in declared groups become what is listed; those in other groups stay."""
        have = self._memberships(thing, path, user)
        missing = sorted(set(wanted) - have)
        surplus = sorted((have & set(groups)) - set(wanted))
        if not missing and not surplus:
            return
        kept = have & set(groups)
        words = ", ".join([f"added to {g}" for g in missing] + [f"removed from {g}" for g in surplus])
        if not self._note(thing, words, {"groups": sorted(kept)}, {"groups": sorted(wanted)}):
            return
        for name in missing:
            self._admin.put(f"add the {thing} to {name}", f"{self._path}{path}/groups/{groups[name]}")
        for name in surplus:
            self._admin.delete(f"remove the {thing} from {name}", f"{self._path}{path}/groups/{groups[name]}")

    def _reconcile_password(self, thing: str, path: str, user: dict, uuid: str) -> None:
        """A first password for who has none, and no passkey either; one that is there is never touched."""
        if uuid in self._passwords:
            return
        if uuid not in self._credentials:
            self._credentials[uuid] = self._get(f"read the credentials of the {thing}", f"{path}/credentials")
        kinds = {credential["type"] for credential in self._credentials[uuid] or []}
        if not kinds & {"password", "webauthn-passwordless"}:
            if not self._note(thing, "first password set"):
                return
            body = self._credential(thing, user)
            self._admin.put(f"set the password of the {thing}", f"{self._path}{path}/reset-password", body)
        self._passwords.add(uuid)
