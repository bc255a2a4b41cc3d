# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keycloak's admin REST API, and a reconciler of what is declared of one realm.

Paths and representations: https://www.keycloak.org/docs-api/latest/rest-api/index.html. The transport is given
(anything like an http.client connection), and so is the reader of Secrets: nothing here knows of Kubernetes.
"""

from __future__ import annotations

import copy
import http.client
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote, urlencode

from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.portforward import Unreachable

BROKEN = (http.client.HTTPException, OSError)
"""What a connection that broke raises."""

AT_ONCE = 8  # connections, where there is much to be read
MANY = 20  # users for whom lists are read
PAGE = 500
ATTEMPTS = 4
PAUSE = 2.0  # seconds between them


class KeycloakError(Exception):
    """One sentence on what Keycloak refused, or on what was asked of it that can't be."""


class Refused(KeycloakError):
    """An answer that is an error.

    :param status: HTTP status
    :param reason: Keycloak's own words
    """

    def __init__(self, what: str, status: int, reason: str) -> None:
        super().__init__(f"Keycloak refused to {what}: {reason} (HTTP {status})")
        self.status = status
        self.reason = reason

    @property
    def transient(self) -> bool:
        """Whether waiting may help: Keycloak answers 500 for as long as its database restarts."""
        return self.status >= 500


def explain_answer(body: bytes) -> str:
    """Keycloak's own words in the body of an error: it has four shapes for them."""
    try:
        answer = json.loads(body)
    except ValueError:
        return body.decode(errors="replace").strip()[:200] or "no reason given"
    if not isinstance(answer, dict):
        return str(answer)[:200]
    errors = [answer, *(answer.get("errors") or [])]
    words = []
    for error in errors:
        message = error.get("errorMessage") or error.get("error_description") or error.get("error")
        if message:
            # Validation of user profiles: {"field": "email", "errorMessage": "error-invalid-email", "params": [...]}
            words.append(f"{error['field']}: {message}" if error.get("field") else str(message))
    return "; ".join(dict.fromkeys(words)) or "no reason given"


class Admin:
    """A session with the admin REST API.

    :param connection: an C(http.client.HTTPConnection), or what behaves like one; it is reopened after a failure
    :param token_realm: the realm of the administrator's account
    :param another: opens further connections, where there is much to be read
    """

    def __init__(
        self,
        connection,
        token_realm: str = "master",  # noqa: S107 - a realm's name
        another: Callable[[], Any] | None = None,
    ) -> None:
        self._connection = connection
        self._another = another
        self._token_realm = token_realm
        self._token_path = f"/realms/{quote(token_realm, safe='')}/protocol/openid-connect/token"
        self._account: dict[str, str] = {}
        self._token = ""
        self.requests = 0

    def login(self, username: str, password: str, timeout: float = 0) -> None:
        """Gets a token, and waits up to P(timeout) seconds for a server that is still starting.

        :raises Refused: the account is not accepted
        :raises Unreachable: no connection within the time limit
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

    def _renew(self) -> None:
        form = urlencode({"grant_type": "password", "client_id": "admin-cli", **self._account})
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        status, _headers, body = self._exchange("POST", self._token_path, form.encode(), headers, repeatable=True)
        if status != 200:
            raise Refused("log the administrator in", status, explain_answer(body))
        self._token = json.loads(body)["access_token"]

    def _exchange(self, method: str, path: str, body: bytes | None, headers: dict, repeatable: bool):
        """One request and its whole answer, over one connection that is kept; a read is repeated once on a new one."""
        for attempt in (1, 2):
            try:
                self.requests += 1
                self._connection.request(method, path, body=body, headers=headers)
                response = self._connection.getresponse()
                return response.status, response.headers, response.read()
            except BROKEN as error:
                cause = str(error) or type(error).__name__
                self._connection.close()
                if not repeatable or attempt == 2:
                    raise Unreachable(
                        f"the connection broke during {method} {path.partition('?')[0]}: {cause}",
                        transient=True,
                    ) from None
        raise AssertionError  # the loop returns or raises

    def call(self, what: str, method: str, path: str, body: Any = None, **query) -> tuple[int, Any, dict]:
        """One request below C(/admin/realms).

        :param what: the deed in words, for the sentence of a refusal: "Keycloak refused to <what>"
        :param query: parameters of the URL; booleans become C(true) and C(false)
        :returns: status (2xx or 404), parsed answer or None, headers
        :raises Refused: any other status
        :raises Unreachable: the connection broke
        """
        url = f"/admin/realms{path}"
        if query:
            url += "?" + urlencode({k: str(v).lower() if isinstance(v, bool) else v for k, v in query.items()})
        data = None if body is None else json.dumps(body).encode()
        for attempt in (1, 2):
            headers = {"Authorization": f"Bearer {self._token}", "Accept": "application/json"}
            if data is not None:
                headers["Content-Type"] = "application/json"
            status, answer_headers, answer = self._exchange(method, url, data, headers, repeatable=method == "GET")
            if status == 401 and attempt == 1:
                self._renew()  # an administrator's token lives for a minute
                continue
            break
        if status == 404 and method == "GET":
            return status, None, answer_headers
        if status >= 300:
            raise Refused(what, status, explain_answer(answer))
        return status, json.loads(answer) if answer else None, answer_headers

    def get(self, what: str, path: str, **query) -> Any:
        """The answer, or None where there is no such thing (404)."""
        return self.call(what, "GET", path, **query)[1]

    def get_all(self, asked: list[tuple[str, str]]) -> list[Any]:
        """The answers of C(get) to pairs of what and path, in order; of many, over several connections."""
        hands = min(AT_ONCE, len(asked) // 8 + 1)
        if hands == 1 or self._another is None:
            return [self.get(what, path) for what, path in asked]
        answers: list[Any] = [None] * len(asked)

        def work(hand: Admin, first: int) -> None:
            try:
                for number in range(first, len(asked), hands):
                    answers[number] = hand.get(*asked[number])
            finally:
                hand._connection.close()

        others = [Admin(self._another(), self._token_realm) for _ in range(hands)]
        for other in others:
            other._account, other._token = self._account, self._token
        with ThreadPoolExecutor(hands) as pool:
            running = [pool.submit(work, other, first) for first, other in enumerate(others)]
        for other, future in zip(others, running, strict=True):
            self.requests += other.requests
            future.result()
        return answers

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
    before, after = {}, {}
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
    """P(have) with the declared fields of P(want) laid over it, at any depth."""
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
    return want


class Reconciler:
    """Makes one realm as declared and leaves alone what is not declared.

    :param admin: a session that is logged in
    :param read_secret: reader of a value by (reference, purpose); returns None only in check mode, for a Secret to come
    :param check_mode: only finds out what would be done
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
        self.changes: list[str] = []
        self.before: dict[str, Any] = {}
        self.after: dict[str, Any] = {}

    def run(self, declared: dict) -> None:
        """Reconciles settings, groups, clients and users, in this order; the changes are noted in the attributes.

        After a failure that may pass it begins again, which is safe since everything is read before it is written.

        :param declared: C(settings), C(groups), C(clients), C(users) and C(exclusive) as the module's options
        :raises KeycloakError: Keycloak refuses something, or what is declared can't be
        :raises Unreachable: the connection broke, again and again
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
        if self._exists and (exclusive or len(users) >= MANY):
            self._read_members(groups)
        if self._exists and len(users) >= MANY:
            # Lists, in place of two requests a user.
            listed = self._pages("read the users", "/users", briefRepresentation=False)
            self._users = {user["username"]: user for user in listed}
            self._read_credentials(users)
        for user in users:
            self._reconcile_user({**user, "groups": user.get("groups") or []} if exclusive else user, groups)
        if exclusive:
            self._remove_strangers({user["name"].lower() for user in users}, groups)

    def _read_members(self, groups: dict[str, str | None]) -> None:
        self._members = {
            name: {
                user["id"]: user["username"]
                for user in self._pages(f"read who is in the group {name}", f"/groups/{group}/members")
            }
            for name, group in groups.items()
            if group is not None
        }

    def _read_credentials(self, users: list[dict]) -> None:
        """Keycloak has no list of them: a request a user, which the users' own turns would make one after the other."""
        found = [self._find_listed(user["name"]) for user in users if user.get("password_secret")]
        ids = [user["id"] for user in found if user and not user.get("federationLink")]
        asked = [("read credentials", f"{self._path}/users/{each}/credentials") for each in ids]
        self._credentials = dict(zip(ids, self._admin.get_all(asked), strict=True))

    def _remove_strangers(self, known: set[str], groups: dict[str, str | None]) -> None:
        """Takes those out of the declared groups whom nobody declared."""
        for name, members in self._members.items():
            strangers = {user: its for user, its in members.items() if its.lower() not in known}
            if not strangers:
                continue
            words = ", ".join(sorted(strangers.values()))
            before = {"members": sorted(members.values())}
            after = {"members": sorted(set(members.values()) - set(strangers.values()))}
            if self._note(f"group {name}", f"{words} removed", before, after):
                for user, its in strangers.items():
                    path = f"{self._path}/users/{user}/groups/{groups[name]}"
                    self._admin.delete(f"remove the user {its} from {name}", path)

    def _pages(self, what: str, path: str, **query) -> list[dict]:
        found: list[dict] = []
        while True:
            page = self._get(what, path, first=len(found), max=PAGE, **query) or []
            found += page
            if len(page) < PAGE:
                return found

    def _find_listed(self, name: str) -> dict | None:
        return (self._users or {}).get(name.lower())

    def _find_user(self, name: str) -> dict | None:
        # One of a directory such as LDAP may be in no list until it is asked for by name.
        listed = self._find_listed(name)
        if listed:
            return listed
        found = self._get(f"read the user {name}", "/users", username=name, exact=True) or []
        return found[0] if found else None

    def _note(self, thing: str, what: str, before: Any = None, after: Any = None) -> bool:
        """Notes a change, and returns whether it is to be made."""
        change = f"{thing}: {what}"
        if change not in self.changes:
            self.changes.append(change)
        if before is not None:
            self.before.setdefault(thing, {}).update(before)
        if after is not None:
            self.after.setdefault(thing, {}).update(after)
        return not self._check_mode

    def _get(self, what: str, path: str, **query) -> Any:
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
        if have is None:
            want = merged({"enabled": True}, settings)
            if self._note(thing, "created", after=want):
                self._admin.create(f"create the {thing}", "", {"realm": self._realm, **want})
                self._exists = True
                self._verify(thing, settings, self._get(f"read the {thing}", ""))
            return
        before, after = differing(settings, have)
        if after and self._note(thing, f"{_listed(after)} changed", before, after):
            # The whole representation goes back: where fields lack, Keycloak resets some (those of CIBA and of PAR).
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
        if "email" in want:
            body["emailVerified"] = True  # who declares an address answers for it
        body["groups"] = [f"/{group}" for group in memberships]
        if user.get("password_secret"):
            body["credentials"] = [self._credential(thing, user)]
        uuid = self._admin.create(f"create the {thing}", f"{self._path}/users", body)
        self._verify(thing, want, self._get(f"read the {thing}", f"/users/{uuid}"))

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
        if uuid not in self._credentials:
            self._credentials[uuid] = self._get(f"read the credentials of the {thing}", f"{path}/credentials")
        kinds = {credential["type"] for credential in self._credentials[uuid] or []}
        if kinds & {"password", "webauthn-passwordless"}:
            return
        if self._note(thing, "first password set"):
            body = self._credential(thing, user)
            self._admin.put(f"set the password of the {thing}", f"{self._path}{path}/reset-password", body)
