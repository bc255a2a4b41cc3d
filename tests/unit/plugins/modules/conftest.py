# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An MLflow in memory, with accounts, tokens and permissions of its two plugins, as unforgiving as the real ones."""

from __future__ import annotations

import base64
import itertools
import json
import re
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils.mlflow.access import SNAPSHOT
from ansible_collections.mlops.mlflow.plugins.module_utils.mlflow.things import IS_PROMPT, RESOURCES, V2, V3

ADMIN = "mlflow-admin"
ADMIN_PASSWORD = "the-admins-planted-password"
USERS = f"{V2}/users"


class Refusal(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


class FakeMlflow:
    """What is in it can be looked at and changed.

    Attributes:
        experiments: by number.
        models: by name, prompts too.
        accounts: by name, with C(admin), C(service), C(active), C(display_name), C(source), C(password).
        tokens: by account, rows with the plaintext in C(token).
        requests: method and path of each request.
        answers: answers by "METHOD path" that take precedence: status and body.
    """

    plugin = ""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.page = 0  # experiments in an answer, where it is not the client's to say
        self.experiments: dict[str, dict[str, Any]] = {}
        self.models: dict[str, dict[str, Any]] = {}
        self.accounts: dict[str, dict[str, Any]] = {}
        self.tokens: dict[str, list[dict[str, Any]]] = {}
        self.requests: list[str] = []
        self.answers: dict[str, tuple[int, Any]] = {}
        self.identities: dict[str, list[dict[str, str]]] = {}
        self.may_issue = True
        self.lag = timedelta(0)  # by how much it believes to be in the past
        self.url = ""
        self._ids = itertools.count(1)
        self.account(ADMIN, admin=True, service=True, password=ADMIN_PASSWORD)

    def account(self, name: str, password: str = "", **more: Any) -> None:
        """Make an account."""
        self.accounts[name] = {
            "admin": False,
            "service": False,
            "active": True,
            "display_name": name,
            "source": "internal",
            "password": password,
            **more,
        }
        self.tokens[name] = []

    def lets_in(self, name: str, secret: str) -> bool:
        """Say whether a password or token is good."""
        account = self.accounts.get(name)
        if not account or not account["active"]:
            return False
        now = datetime.now(UTC).isoformat()
        return bool(secret) and (
            account["password"] == secret
            or any(row["token"] == secret and row["expires_at"] > now for row in self.tokens[name])
        )

    def writes(self) -> list[str]:
        """Give the requests that were no reads."""
        return [each for each in self.requests if not each.startswith("GET ") and not each.endswith("/search")]

    def serve(self, method: str, target: str, body: Any, authorization: str) -> tuple[int, Any]:
        """Answer a request."""
        url = urlsplit(target)
        with self.lock:
            self.requests.append(f"{method} {url.path}")
            if f"{method} {url.path}" in self.answers:
                return self.answers[f"{method} {url.path}"]
            if url.path == "/version":
                return 200, b"3.17.2"
            name, _colon, secret = base64.b64decode(authorization.removeprefix("Basic ")).decode().partition(":")
            if not self.lets_in(name, secret):
                return 401, b"You are not authenticated."
            query = {key: value[0] for key, value in parse_qs(url.query).items()}
            if url.path.startswith(USERS):
                parts = [unquote(part) for part in url.path.removeprefix(USERS).strip("/").split("/") if part]
                return self._accounts(method, name, parts, body)
            try:
                return self._route(f"{method} {url.path}", body or query)
            except Refusal as refusal:
                return refusal.status, {"detail": str(refusal)}

    def _accounts(self, method: str, me: str, parts: list[str], body: Any) -> tuple[int, Any]:
        raise NotImplementedError

    def _route(self, asked: str, given: Any) -> tuple[int, Any]:
        for pattern, handler in self.routes().items():
            found = re.fullmatch(pattern, asked)
            if found:
                return 200, handler(*(each and unquote(each) for each in found.groups()), given)
        raise Refusal(404, "Not Found")

    # Experiments and models

    def experiment(self, name: str, tags: dict[str, str] | None = None, stage: str = "active") -> str:
        number = str(next(self._ids))
        self.experiments[number] = {
            "name": name,
            "tags": tags or {},
            "lifecycle_stage": stage,
            "artifact_location": "s3",
        }
        return number

    def model(self, name: str, *, prompt: bool = False, tags: dict[str, str] | None = None) -> None:
        more = {IS_PROMPT: "true"} if prompt else {}
        self.models[name] = {"tags": {**(tags or {}), **more}, "description": "", "aliases": {}, "versions": ["1"]}

    def number(self, name: str) -> str:
        return next(number for number, each in self.experiments.items() if each["name"] == name)

    def routes(self) -> dict[str, Any]:
        """Give what answers, by method and path."""
        return {
            f"POST {V2}/experiments/search": self._search,
            f"POST {V2}/experiments/create": self._create,
            f"POST {V2}/experiments/(delete|restore)": self._stage,
            f"POST {V2}/experiments/set-experiment-tag": self._tag,
            f"GET {V2}/registered-models/search": self._search_models,
            f"POST {V2}/registered-models/create": self._create_model,
            f"GET {V2}/registered-models/get": self._get_model,
            f"DELETE {V2}/registered-models/delete": lambda body: self.models.pop(body["name"]) and {},
            f"PATCH {V2}/registered-models/update": lambda body: self.models[body["name"]].update(body),
            f"POST {V2}/registered-models/set-tag": self._tag_model,
            f"(POST|DELETE) {V2}/registered-models/alias": self._alias,
            f"GET {V2}/model-versions/get": self._version,
            f"GET {V3}/scorers/list": lambda query: {
                "scorers": [{"scorer_name": "quality"}] if query["experiment_id"] == self.number("churn") else []
            },
            f"GET {V3}/gateway/endpoints/list": lambda _unused: {"endpoints": [{"endpoint_id": "e-1", "name": "gpt"}]},
            f"GET {V3}/gateway/[a-z-]+/list": lambda _unused: {},
            f"GET {V3}/mcp-servers": lambda _unused: {"mcp_servers": []},
        }

    def _search(self, body: dict[str, Any]) -> dict[str, Any]:
        start = int(body.get("page_token") or 0)
        size = self.page or body["max_results"]
        found = [
            {**each, "experiment_id": number, "tags": _pairs(each["tags"])} for number, each in self.experiments.items()
        ]
        more = {"next_page_token": str(start + size)} if start + size < len(found) else {}
        return {"experiments": found[start : start + size], **more}

    def _create(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"experiment_id": self.experiment(body["name"], {each["key"]: each["value"] for each in body["tags"]})}

    def _stage(self, deed: str, body: dict[str, Any]) -> dict[str, Any]:
        self.experiments[body["experiment_id"]]["lifecycle_stage"] = "deleted" if deed == "delete" else "active"
        return {}

    def _tag(self, body: dict[str, Any]) -> dict[str, Any]:
        self.experiments[body["experiment_id"]]["tags"][body["key"]] = body["value"]
        return {}

    def _search_models(self, query: dict[str, Any]) -> dict[str, Any]:
        prompts = query.get("filter") is not None
        return {
            "registered_models": [
                {
                    "name": name,
                    "description": each["description"],
                    "tags": _pairs(each["tags"]),
                    "aliases": [{"alias": alias, "version": version} for alias, version in each["aliases"].items()],
                    "latest_versions": [{"version": version} for version in each["versions"]],
                }
                for name, each in self.models.items()
                if (IS_PROMPT in each["tags"]) == prompts
            ]
        }

    def _get_model(self, query: dict[str, Any]) -> dict[str, Any]:
        if query["name"] not in self.models:
            raise Refusal(404, "no such model")
        return {"registered_model": {}}

    def _create_model(self, body: dict[str, Any]) -> dict[str, Any]:
        if body["name"] == "refused":
            raise Refusal(400, "a name that it does not take")
        self.model(body["name"], tags={each["key"]: each["value"] for each in body["tags"]})
        self.models[body["name"]]["description"] = body["description"]
        if body["name"] == "left":
            raise Refusal(400, "Permission already exists")
        return {}

    def _tag_model(self, body: dict[str, Any]) -> dict[str, Any]:
        self.models[body["name"]]["tags"][body["key"]] = body["value"]
        return {}

    def _alias(self, method: str, body: dict[str, Any]) -> dict[str, Any]:
        aliases = self.models[body["name"]]["aliases"]
        if method == "DELETE":
            del aliases[body["alias"]]
        else:
            aliases[body["alias"]] = body["version"]
        return {}

    def _version(self, query: dict[str, Any]) -> dict[str, Any]:
        if query["version"] not in self.models[query["name"]]["versions"]:
            raise Refusal(404, "no such version")
        return {}


def _pairs(tags: dict[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in tags.items()]


class FakeOidc(FakeMlflow):
    """mlflow-oidc-auth: service accounts and tokens, and grants by name and by pattern."""

    plugin = "oidc"

    def __init__(self) -> None:
        super().__init__()
        self.bulk = False  # whether all grants are in one answer, as of our image
        self.groups = ["science", "others"]
        # (user or group, its name, part of the path, target) -> what is granted
        self.grants: dict[tuple[str, str, str, str], dict[str, Any]] = {}

    def grant(self, *key: str, priority: int = 100) -> None:
        """Take kind, subject, part of the path, target and permission."""
        *its, permission = key
        row = {"id": next(self._ids), "permission": permission, "priority": priority}
        self.grants[tuple(its)] = row

    def permission(self, kind: str, subject: str, part: str, target: str) -> str | None:
        found = self.grants.get((kind, subject, part, target))
        return found and found["permission"]

    def routes(self) -> dict[str, Any]:
        base = f"{V2}/permissions"
        return {
            **super().routes(),
            f"GET {base}/groups": lambda _unused: list(self.groups),
            f"POST {base}/groups": lambda body: self.groups.append(body["group_name"]),
            f"GET {SNAPSHOT}": self._snapshot,
            f"(GET) {base}/(user|group)s/([^/]+)/(.+)": self._list,
            f"(POST|PATCH|DELETE) {base}/(user|group)s/([^/]+)/(.+-patterns)(?:/([0-9]+))?": self._pattern,
            f"(POST|PATCH|DELETE) {base}/(user|group)s/([^/]+)/((?:gateways/)?[a-z-]+)/(.+)": self._exact,
        }

    def _snapshot(self, query: dict[str, Any]) -> dict[str, Any]:
        if not self.bulk:
            raise Refusal(404, "no such page")
        parts = {its.path: (name, "name") for name, its in RESOURCES.items()}
        parts |= {its.patterns: (name, "pattern") for name, its in RESOURCES.items() if its.patterns}
        return {
            "grants": [
                {**row, "subject": subject, "resource": parts[part][0], "form": parts[part][1], "target": target}
                for (kind, subject, part, target), row in self.grants.items()
                if kind == query["subject"]
            ]
        }

    def _list(self, _method: str, kind: str, subject: str, part: str, _query: Any) -> list[dict[str, Any]]:
        known = self.groups if kind == "group" else self.accounts
        assert subject in known, f"{subject} was not looked for first: MLflow answers 500 for a group, or anything"
        rows = {target: row for (k, s, p, target), row in self.grants.items() if (k, s, p) == (kind, subject, part)}
        if part.endswith("patterns"):
            return [{"regex": target, **row, "id": str(row["id"])} for target, row in rows.items()]
        if part == "scorers":
            return [
                {"experiment_id": target.split("/")[0], "scorer_name": target.split("/")[1], **row}
                for target, row in rows.items()
            ]
        if kind == "group":
            if part == "registered-models":  # with the prompts among them
                more = {t: r for (k, s, p, t), r in self.grants.items() if (k, s, p) == (kind, subject, "prompts")}
                rows = {**rows, **more}
            return [self._named(part, target, row) for target, row in rows.items()]
        # Of a user what holds for him, wherever it comes from.
        everything = {"experiments": list(self.experiments), "prompts": ["greeting"], "registered-models": ["churn"]}
        nothing = {"permission": "NO_PERMISSIONS", "kind": "fallback"}
        return [
            self._named(part, target, {**rows[target], "kind": "user"} if target in rows else nothing)
            for target in everything.get(part, ["gpt"])
        ]

    def _named(self, part: str, target: str, row: dict[str, Any]) -> dict[str, Any]:
        row = {key: row[key] for key in ("permission", "kind") if key in row}
        return {"id": target, "name": "whatever", **row} if part == "experiments" else {"name": target, **row}

    def _exact(self, method: str, *rest: Any) -> dict[str, Any]:
        *its, body = rest
        key = tuple(its)
        if (method == "POST") == (key in self.grants):
            status = 409 if method == "POST" else 404
            raise Refusal(status, f"HTTP {status}")
        if method == "DELETE":
            del self.grants[key]
        else:
            self.grant(*key, body["permission"])
        return {}

    def _pattern(self, method: str, *rest: Any) -> dict[str, Any]:
        kind, subject, part, number, body = rest
        if method == "POST":
            assert (kind, subject, part, body["regex"]) not in self.grants, "MLflow keeps the same pattern two times"
        else:
            key = next(key for key, row in self.grants.items() if str(row["id"]) == number)
            del self.grants[key]
        if method != "DELETE":
            self.grant(kind, subject, part, body["regex"], body["permission"], priority=body["priority"])
        return {}

    def _row(self, name: str) -> dict[str, Any]:
        account = self.accounts[name]
        return {
            "username": name,
            "display_name": account["display_name"],
            "is_admin": account["admin"],
            "is_service_account": account["service"],
            "active": account["active"],
            "managed_by": "manual",
            "service_account_source": account["source"] if account["service"] else None,
        }

    def _accounts(self, method: str, me: str, parts: list[str], body: Any) -> tuple[int, Any]:  # noqa: PLR0911  a route each
        if parts == ["current"]:
            return 200, self._row(me)
        if not self.accounts[me]["admin"]:
            return 403, {"detail": "Administrator privileges required for this operation"}
        if parts == ["details"]:
            return 200, [self._row(name) for name in self.accounts]
        if not parts and method == "POST":
            name = body["username"].lower()
            if name in self.accounts:
                admins = [each for each, account in self.accounts.items() if account["admin"]]
                if admins == [name] and not body["is_admin"]:
                    return 409, {"detail": "the last active administrator stays one"}
                self.accounts[name].update(admin=body["is_admin"], service=body["is_service_account"])
                return 200, {"message": "already exists"}
            self.account(
                name,
                admin=body["is_admin"],
                service=body["is_service_account"],
                display_name=body["display_name"],
                source=body.get("service_account_source", "internal"),
            )
            return 201, {"message": "created"}
        if not parts and method == "DELETE":
            del self.accounts[body["username"]], self.tokens[body["username"]]
            return 200, {"message": "deleted"}
        name = parts[0]
        if name not in self.accounts:
            return 404, {"detail": f"User {name} not found"}
        if parts[1:] == ["active"]:
            self.accounts[name]["active"] = body["active"]
            return 200, self._row(name)
        if parts[1:] == ["identities"]:
            return 200, self.identities.get(name, [])
        if parts[1:] == ["service-account-source"]:
            self.accounts[name]["source"] = body["source"]
            self.identities[name] = [{"provider_id": body["source"], "subject": body.get("subject", "first")}]
            return 200, {}
        return self._tokens(method, name, parts[2:], body)

    def _tokens(self, method: str, name: str, parts: list[str], body: Any) -> tuple[int, Any]:
        rows = self.tokens[name]
        shown = ("id", "name", "token_prefix", "created_at", "expires_at", "last_used_at")
        if method == "GET":
            return 200, {"tokens": [{key: row[key] for key in shown} for row in rows]}
        if method == "DELETE":
            left = [row for row in rows if str(row["id"]) != parts[0]]
            if len(left) == len(rows):
                return 404, {"detail": "token not found"}
            self.tokens[name] = left
            return 200, {"deleted": 1}
        if not self.may_issue or not self.accounts[name]["service"]:
            return 403, {"detail": "Access tokens can only be issued from an interactive sign-in"}
        if any(row["name"] == body["name"] for row in rows):
            return 409, {"detail": "a token of that name already exists"}
        return 201, self.issue(name, body["name"], body["expiration"])

    def issue(self, name: str, token: str, expires: str) -> dict[str, Any]:
        """Issue a token."""
        number = next(self._ids)
        row = {
            "id": number,
            "name": token,
            "token_prefix": f"{number:08x}",
            "created_at": datetime.now(UTC).isoformat(),
            "expires_at": expires,
            "last_used_at": None,
            "token": f"mlf_{number:08x}_planted-token-{number}",
        }
        self.tokens[name].append(row)
        return row


class FakeBasic(FakeMlflow):
    """MLflow's basic-auth: accounts with passwords, and roles with grants; a user's own are in a hidden one."""

    plugin = "basic"

    def __init__(self) -> None:
        super().__init__()
        self.roles: dict[int, dict[str, Any]] = {}
        for name in ("science", "others"):
            self._make({"name": name, "workspace": "default"})

    def role(self, name: str) -> dict[str, Any]:
        return next(each for each in self.roles.values() if each["name"] == name)

    def granted(self, name: str) -> dict[tuple[str, str], str]:
        try:
            rows = self.role(name)["permissions"]
        except StopIteration:
            return {}
        return {(row["resource_type"], row["resource_pattern"]): row["permission"] for row in rows}

    def own(self, user: str) -> str:
        return f"__user_{list(self.accounts).index(user)}__"

    def routes(self) -> dict[str, Any]:
        return {
            **super().routes(),
            f"GET {V3}/roles/list": lambda _unused: {"roles": [self._shown(each) for each in self.roles.values()]},
            f"POST {V3}/roles/create": self._make,
            f"POST {V3}/roles/permissions/add": self._add,
            f"PATCH {V3}/roles/permissions/update": self._update,
            f"DELETE {V3}/roles/permissions/remove": self._remove,
            f"(POST) {V3}/roles/assign": self._assign,
            f"(DELETE) {V3}/roles/unassign": self._assign,
            f"POST {V3}/users/permissions/grant": self._grant,
        }

    def _shown(self, role: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in role.items() if key != "members"}

    def _make(self, body: dict[str, Any]) -> dict[str, Any]:
        number = next(self._ids)
        self.roles[number] = {"id": number, "permissions": [], "members": set(), **body}
        return {"role": self._shown(self.roles[number])}

    def _add(self, body: dict[str, Any]) -> dict[str, Any]:
        rows = self.roles[body["role_id"]]["permissions"]
        same = ("resource_type", "resource_pattern")
        assert not [row for row in rows if all(row[key] == body[key] for key in same)], "it is there"
        rows.append({"id": next(self._ids), **body})
        return {}

    def _row(self, number: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        return next(
            (each["permissions"], row)
            for each in self.roles.values()
            for row in each["permissions"]
            if row["id"] == number
        )

    def _update(self, body: dict[str, Any]) -> dict[str, Any]:
        self._row(body["role_permission_id"])[1]["permission"] = body["permission"]
        return {}

    def _remove(self, body: dict[str, Any]) -> dict[str, Any]:
        rows, row = self._row(body["role_permission_id"])
        rows.remove(row)
        return {}

    def _assign(self, method: str, body: dict[str, Any]) -> dict[str, Any]:
        members = self.roles[body["role_id"]]["members"]
        (members.add if method == "POST" else members.remove)(body["username"])
        return {}

    def _grant(self, body: dict[str, Any]) -> dict[str, Any]:
        hidden = self.own(body["username"])
        if not any(each["name"] == hidden for each in self.roles.values()):
            self._make({"name": hidden, "workspace": "default"})
            self.role(hidden)["members"].add(body["username"])
        more = {"resource_pattern": body["resource_id"], "role_id": self.role(hidden)["id"]}
        return self._add({"resource_type": body["resource_type"], "permission": body["permission"], **more})

    def _accounts(self, method: str, me: str, parts: list[str], body: Any) -> tuple[int, Any]:  # noqa: PLR0911  a route each
        what = f"{method} {'/'.join(parts)}"
        if what == "GET current":
            return 200, {
                "user": {"id": 1, "username": me, "is_admin": self.accounts[me]["admin"]},
                "is_basic_auth": True,
            }
        if not self.accounts[me]["admin"]:
            return 403, b"Permission denied"
        if what == "GET list":
            rows = [
                {
                    "id": number,
                    "username": name,
                    "is_admin": account["admin"],
                    "roles": [self._shown(each) for each in self.roles.values() if name in each["members"]],
                }
                for number, (name, account) in enumerate(self.accounts.items())
            ]
            return 200, {"users": rows}
        name = body["username"]
        if what == "POST create":
            if name in self.accounts:
                return 400, {"error_code": "RESOURCE_ALREADY_EXISTS", "message": f"User {name} already exists"}
            self.account(name, password=body["password"])
            return 200, {"user": {"username": name}}
        if name not in self.accounts:
            return 404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": f"User {name} not found"}
        if what == "PATCH update-admin":
            self.accounts[name]["admin"] = body["is_admin"]
        elif what == "PATCH update-password":
            self.accounts[name]["password"] = body["password"]
        elif what == "DELETE delete":
            del self.accounts[name]
        else:
            return 404, b"Not Found"
        return 200, {}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fake: FakeMlflow = self.server.fake  # type: ignore[attr-defined]
        code, answer = fake.serve(
            self.command, self.path, json.loads(body) if body else None, self.headers.get("Authorization") or ""
        )
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        if code == 302:
            self.send_header("Location", "https://login.example.com/oauth?secret=1")
        if code == 503:
            self.send_header("Retry-After", "0.1")
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815  the names that http.server asks for

    def log_message(self, *_args: Any) -> None:
        """Say nothing."""


def _served(plugin: str) -> Iterator[FakeMlflow]:
    fake = FakeOidc() if plugin == "oidc" else FakeBasic()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    server.fake = fake  # type: ignore[attr-defined]
    fake.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield fake
    server.shutdown()
    server.server_close()


@pytest.fixture
def oidc() -> Iterator[FakeOidc]:
    """Give an MLflow with mlflow-oidc-auth, and its administrator."""
    yield from _served("oidc")


@pytest.fixture
def basic() -> Iterator[FakeMlflow]:
    """Give an MLflow with basic-auth, and its administrator."""
    yield from _served("basic")


@pytest.fixture(params=["oidc", "basic"])
def mlflow(request: pytest.FixtureRequest) -> Iterator[FakeMlflow]:
    """Give an MLflow with each of the plugins."""
    yield from _served(request.param)
