# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of how declared permissions are compared with those there are, against both plugins' APIs in memory."""

from __future__ import annotations

import itertools
import re
from typing import Any
from urllib.parse import unquote

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils.mlflow import access
from ansible_collections.mlops.mlflow.plugins.module_utils.mlflow.client import MlflowError
from ansible_collections.mlops.mlflow.plugins.modules.mlflow_experiment import Experiments
from ansible_collections.mlops.mlflow.plugins.modules.mlflow_registered_model import Models
from hypothesis import given, settings
from hypothesis import strategies as st

READS = ("GET", "search")


class FakeApi:
    """Experiments and models, as both plugins have them, and an administrator who calls."""

    plugin = ""

    def __init__(self) -> None:
        self.requests = 0
        self.sent: list[tuple[str, str]] = []
        self.experiments: dict[str, dict[str, Any]] = {}
        self.models: dict[str, dict[str, Any]] = {}
        self.users = ["ada", "bob", "root"]
        self.numbers = itertools.count(1)
        for name in ("churn", "ds-one", "ds-two"):
            self.experiment(name)
        self.model("churn")
        self.model("greeting", prompt=True)

    def experiment(self, name: str, tags: dict[str, str] | None = None, stage: str = "active") -> str:
        number = str(next(self.numbers))
        self.experiments[number] = {
            "name": name,
            "tags": tags or {},
            "lifecycle_stage": stage,
            "artifact_location": "s3",
        }
        return number

    def model(self, name: str, *, prompt: bool = False, tags: dict[str, str] | None = None) -> None:
        more = {access.IS_PROMPT: "true"} if prompt else {}
        self.models[name] = {"tags": {**(tags or {}), **more}, "description": "", "aliases": {}, "versions": ["1"]}

    def number(self, name: str) -> str:
        return next(number for number, each in self.experiments.items() if each["name"] == name)

    def writes(self) -> list[str]:
        return [f"{m} {p}" for m, p in self.sent if m != "GET" and not p.endswith("/search")]

    def whoami(self) -> dict[str, Any]:
        return {"name": "root", "admin": True}

    def require_admin(self) -> None:
        pass

    def find(self, path: str, query: Any = None, *, what: str = "") -> Any:
        try:
            return self.request("GET", path, query=query, what=what)
        except MlflowError as error:
            if error.absent:
                return None
            raise

    def request(self, method: str, path: str, body: Any = None, query: Any = None, *, what: str = "") -> Any:
        self.requests += 1
        path, _, tail = path.partition("?")
        self.sent.append((method, path))
        query = {**dict(each.split("=") for each in tail.split("&") if each), **(query or {})}
        for pattern, handler in self.routes().items():
            found = re.fullmatch(pattern, f"{method} {path}")
            if found:
                return handler(*(each and unquote(each) for each in found.groups()), body or query)
        raise MlflowError(f"MLflow refused to {what}: no route {method} {path} (HTTP 404)", 404)

    def routes(self) -> dict[str, Any]:
        return {
            f"POST {access.V2}/experiments/search": self._search,
            f"POST {access.V2}/experiments/create": self._create,
            f"POST {access.V2}/experiments/(delete|restore)": self._stage,
            f"POST {access.V2}/experiments/set-experiment-tag": self._tag,
            f"GET {access.V2}/registered-models/search": self._search_models,
            f"POST {access.V2}/registered-models/create": self._create_model,
            f"GET {access.V2}/registered-models/get": self._get_model,
            f"DELETE {access.V2}/registered-models/delete": lambda body: self.models.pop(body["name"]) and {},
            f"PATCH {access.V2}/registered-models/update": lambda body: self.models[body["name"]].update(body),
            f"POST {access.V2}/registered-models/set-tag": self._tag_model,
            f"(POST|DELETE) {access.V2}/registered-models/alias": self._alias,
            f"GET {access.V2}/model-versions/get": self._version,
            f"GET {access.V3}/scorers/list": lambda query: {
                "scorers": [{"scorer_name": "quality"}] if query["experiment_id"] == self.number("churn") else []
            },
            f"GET {access.V3}/gateway/endpoints/list": lambda _: {"endpoints": [{"endpoint_id": "e-1", "name": "gpt"}]},
            f"GET {access.V3}/gateway/[a-z-]+/list": lambda _: {},
            f"GET {access.V3}/mcp-servers": lambda _: {"mcp_servers": []},
        }

    def _search(self, body: dict[str, Any]) -> dict[str, Any]:
        # Two at a time, so that a second page is always asked for.
        start = int(body.get("page_token") or 0)
        found = [
            {**each, "experiment_id": number, "tags": _pairs(each["tags"])} for number, each in self.experiments.items()
        ]
        more = {"next_page_token": str(start + 2)} if start + 2 < len(found) else {}
        return {"experiments": found[start : start + 2], **more}

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
                if (access.IS_PROMPT in each["tags"]) == prompts
            ]
        }

    def _get_model(self, query: dict[str, Any]) -> dict[str, Any]:
        if query["name"] not in self.models:
            raise MlflowError("no such model", 404)
        return {"registered_model": {}}

    def _create_model(self, body: dict[str, Any]) -> dict[str, Any]:
        if body["name"] == "refused":
            raise MlflowError("a name that it does not take", 400)
        self.model(body["name"], tags={each["key"]: each["value"] for each in body["tags"]})
        self.models[body["name"]]["description"] = body["description"]
        if body["name"] == "left":
            raise MlflowError("Permission already exists", 400)
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
            raise MlflowError("no such version", 404)
        return {}


def _pairs(tags: dict[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in tags.items()]


class Hand:
    """A further connection to the same server."""

    def __init__(self, api: FakeApi) -> None:
        self._api = api
        self.requests = 0

    def request(self, method: str, path: str) -> Any:
        self.requests += 1
        self._api.requests -= 1  # it is this one's
        return self._api.request(method, path)

    def close(self) -> None:
        pass


@pytest.fixture(autouse=True, scope="module")
def _further_connections() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(access, "open_api", lambda params: Hand(params["api"]))
        yield


class FakeOidc(FakeApi):
    """Grants by name and by pattern, as mlflow-oidc-auth has them; with C(bulk) in one answer too."""

    plugin = "oidc"

    def __init__(self, *, bulk: bool = False) -> None:
        super().__init__()
        self.bulk = bulk
        self.groups = ["science", "others"]
        # (user or group, its name, part of the path, target) -> what is granted
        self.grants: dict[tuple[str, str, str, str], dict[str, Any]] = {}

    def grant(self, *key: str, priority: int = 100) -> None:
        """Take kind, subject, part of the path, target and permission."""
        *its, permission = key
        row = {"id": next(self.numbers), "permission": permission, "priority": priority}
        self.grants[tuple(its)] = row

    def permission(self, kind: str, subject: str, part: str, target: str) -> str | None:
        found = self.grants.get((kind, subject, part, target))
        return found and found["permission"]

    def routes(self) -> dict[str, Any]:
        base = f"{access.V2}/permissions"
        return {
            **super().routes(),
            f"GET {access.V2}/users/details": lambda _: [{"username": each} for each in self.users],
            f"GET {base}/groups": lambda _: list(self.groups),
            f"POST {base}/groups": lambda body: self.groups.append(body["group_name"]),
            f"GET {access.SNAPSHOT}": self._snapshot,
            f"(GET) {base}/(user|group)s/([^/]+)/(.+)": self._list,
            f"(POST|PATCH|DELETE) {base}/(user|group)s/([^/]+)/(.+-patterns)(?:/([0-9]+))?": self._pattern,
            f"(POST|PATCH|DELETE) {base}/(user|group)s/([^/]+)/((?:gateways/)?[a-z-]+)/(.+)": self._exact,
        }

    def _snapshot(self, query: dict[str, Any]) -> dict[str, Any]:
        if not self.bulk:
            raise MlflowError("no such page", 404)
        parts = {its.path: (name, "name") for name, its in access.RESOURCES.items()}
        parts |= {its.patterns: (name, "pattern") for name, its in access.RESOURCES.items() if its.patterns}
        return {
            "grants": [
                {**row, "subject": subject, "resource": parts[part][0], "form": parts[part][1], "target": target}
                for (kind, subject, part, target), row in self.grants.items()
                if kind == query["subject"]
            ]
        }

    def _list(self, _method: str, kind: str, subject: str, part: str, _query: Any) -> list[dict[str, Any]]:
        known = self.groups if kind == "group" else self.users
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
            raise MlflowError(f"HTTP {status}", status)
        if method == "DELETE":
            del self.grants[key]
        else:
            self.grant(*key, body["permission"])
        return {}

    def _pattern(self, method: str, *rest: Any) -> dict[str, Any]:
        kind, subject, part, number, body = rest
        if method == "POST":
            assert (kind, subject, part, body["regex"]) not in self.grants, "MLflow keeps the same pattern twice"
        else:
            key = next(key for key, row in self.grants.items() if str(row["id"]) == number)
            del self.grants[key]
        if method != "DELETE":
            self.grant(kind, subject, part, body["regex"], body["permission"], priority=body["priority"])
        return {}


class FakeBasic(FakeApi):
    """Roles with their grants, as MLflow's basic-auth has them; a user's own are in a hidden one."""

    plugin = "basic"

    def __init__(self) -> None:
        super().__init__()
        self.admins = {"root"}
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
        return f"__user_{self.users.index(user)}__"

    def routes(self) -> dict[str, Any]:
        return {
            **super().routes(),
            f"GET {access.V2}/users/list": self._list,
            f"PATCH {access.V2}/users/update-admin": self._admin,
            f"GET {access.V3}/roles/list": lambda _: {"roles": [self._shown(each) for each in self.roles.values()]},
            f"POST {access.V3}/roles/create": self._make,
            f"POST {access.V3}/roles/permissions/add": self._add,
            f"PATCH {access.V3}/roles/permissions/update": self._update,
            f"DELETE {access.V3}/roles/permissions/remove": self._remove,
            f"(POST) {access.V3}/roles/assign": self._assign,
            f"(DELETE) {access.V3}/roles/unassign": self._assign,
            f"POST {access.V3}/users/permissions/grant": self._grant,
        }

    def _shown(self, role: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in role.items() if key != "members"}

    def _list(self, _query: Any) -> dict[str, Any]:
        return {
            "users": [
                {
                    "id": number,
                    "username": name,
                    "is_admin": name in self.admins,
                    "roles": [self._shown(each) for each in self.roles.values() if name in each["members"]],
                }
                for number, name in enumerate(self.users)
            ]
        }

    def _admin(self, body: dict[str, Any]) -> dict[str, Any]:
        (self.admins.add if body["is_admin"] else self.admins.discard)(body["username"])
        return {}

    def _make(self, body: dict[str, Any]) -> dict[str, Any]:
        number = next(self.numbers)
        self.roles[number] = {"id": number, "permissions": [], "members": set(), **body}
        return {"role": self._shown(self.roles[number])}

    def _add(self, body: dict[str, Any]) -> dict[str, Any]:
        rows = self.roles[body["role_id"]]["permissions"]
        same = ("resource_type", "resource_pattern")
        assert not [row for row in rows if all(row[key] == body[key] for key in same)], "it is there"
        rows.append({"id": next(self.numbers), **body})
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


def converge(
    api: FakeApi, kind: str, *permissions: dict[str, Any], exclusive: bool = False, check: bool = False, **more: Any
) -> dict[str, Any]:
    """Run the work of the module of this kind."""
    subjects = [{**each, kind: each.get(kind, "science" if kind == "group" else "ada")} for each in permissions]
    entries = [{"resource": "experiment", **each} for each in subjects]
    params = {"permissions": entries, "exclusive": exclusive, "to_come": {}, "groups": [], "api": api, **more}
    return access.work_on(params, check, kind)(api)


def names(api: FakeApi, kind: str, *permissions: dict[str, Any], **more: Any) -> list[str]:
    """The changes alone."""
    return converge(api, kind, *permissions, **more)["changes"]


@pytest.fixture(params=["lists", "bulk"])
def oidc(request: pytest.FixtureRequest) -> FakeOidc:
    return FakeOidc(bulk=request.param == "bulk")


@pytest.fixture
def basic() -> FakeBasic:
    return FakeBasic()


@pytest.fixture(params=["oidc", "basic"])
def api(request: pytest.FixtureRequest) -> FakeApi:
    return FakeOidc() if request.param == "oidc" else FakeBasic()


# What is declared


def test_change_is_told_as_a_person_would(api):
    converge(api, "group", {"name": "churn", "permission": "READ"})

    result = converge(api, "group", {"name": "churn", "permission": "EDIT"})

    assert result["changes"] == ["group science: experiment churn: READ -> EDIT"]
    assert result["diff"] == [{"prepared": "group science: experiment churn: READ -> EDIT\n"}]


def test_second_run_changes_nothing_and_writes_nothing(api):
    declared = (
        {"name": "churn", "permission": "READ"},
        {"pattern": "^ds-", "permission": "EDIT"},
        {"pattern": ".*", "permission": "READ", "resource": "registered_model"},
        {"name": "churn", "permission": "USE", "resource": "registered_model"},
        {"name": "greeting", "permission": "READ", "resource": "prompt"},
        {"name": "churn/quality", "permission": "EDIT", "resource": "scorer"},
        {"name": "gpt", "permission": "USE", "resource": "gateway_endpoint"},
    )
    for kind in ("group", "user"):
        assert converge(api, kind, *declared)["changed"]
        api.sent.clear()

        result = converge(api, kind, *declared)

        assert result["changes"] == []
        assert not result["changed"]
        assert api.writes() == []


def test_check_mode_tells_the_same_and_writes_nothing(api):
    declared = ({"name": "churn", "permission": "READ"}, {"pattern": "^ds-", "permission": "EDIT"})

    told = names(api, "group", *declared, check=True)

    assert api.writes() == []
    assert names(api, "group", *declared) == told
    assert told


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        (
            {"name": "chrun", "permission": "READ"},
            "no experiment chrun, on which groups are to have permissions: there is churn",
        ),
        ({"name": "zzz", "permission": "READ"}, "there are churn, ds-one, ds-two"),
        ({"name": "churn", "permission": "WRITE"}, "has the permission 'WRITE': one of"),
        (
            {"name": "churn", "permission": "READ", "group": "strangers"},
            "MLflow has no group strangers: there are others, science",
        ),
        ({"name": "churn", "permission": "READ", "priority": 5}, "only a pattern has one"),
        ({"pattern": "(", "permission": "READ"}, "is no regular expression"),
        ({"name": "quality", "permission": "READ", "resource": "scorer"}, "a scorer is named EXPERIMENT/SCORER"),
        ({"name": "churn", "permission": "READ", "resource": "prompt"}, "no prompt churn"),
        ({"name": "greeting", "permission": "READ", "resource": "registered_model"}, "no registered model greeting"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_changed(api, entry, sentence):
    with pytest.raises(MlflowError) as error:
        converge(api, "group", {"name": "ds-one", "permission": "READ"}, entry, groups=[{"name": "new"}])

    assert sentence in str(error.value)
    assert api.writes() == []


def test_unknown_user_is_named(api):
    with pytest.raises(MlflowError, match="MLflow has no user eve: there are ada, bob, root"):
        converge(api, "user", {"name": "churn", "permission": "READ", "user": "eve"})


def test_names_of_users_are_folded_where_the_server_does(oidc, basic):
    entry = {"name": "churn", "permission": "READ", "user": "Ada"}
    assert names(oidc, "user", entry) == ["user ada: experiment churn: none -> READ"]
    assert names(oidc, "user", entry, exclusive=True) == []
    new = {**entry, "user": "Eve"}
    assert names(oidc, "user", new, check=True, to_come={"users": ["Eve"]}) == [
        "user eve: experiment churn: none -> READ"
    ]
    with pytest.raises(MlflowError, match="MLflow has no user Ada"):
        converge(basic, "user", entry)


def test_permission_of_the_other_plugin_is_refused(oidc, basic):
    with pytest.raises(MlflowError, match="'DENY': one of NO_PERMISSIONS, READ, USE, EDIT, MANAGE"):
        converge(oidc, "group", {"name": "churn", "permission": "DENY"})
    with pytest.raises(MlflowError, match="'NO_PERMISSIONS': one of DENY, READ, USE, EDIT, MANAGE"):
        converge(basic, "group", {"name": "churn", "permission": "NO_PERMISSIONS"})


def test_two_declarations_that_differ_are_refused(api):
    twice = ({"name": "churn", "permission": "READ"}, {"name": "churn", "permission": "EDIT"})
    with pytest.raises(MlflowError, match="group science: experiment churn is declared twice"):
        converge(api, "group", *twice)
    assert names(api, "group", *(twice[:1] * 2)) == ["group science: experiment churn: none -> READ"]


def test_what_is_absent_is_taken_away(api):
    converge(api, "group", {"name": "churn", "permission": "READ"}, {"pattern": ".*", "permission": "READ"})

    gone = ({"name": "churn", "state": "absent"}, {"pattern": ".*", "state": "absent"})

    assert names(api, "group", *gone) == [
        "group science: experiment churn: READ -> none",
        "group science: experiments like .*: READ -> none",
    ]
    assert names(api, "group", *gone) == []


def test_what_is_to_come_is_known_in_check_mode_only(api):
    to_come = {"users": ["eve"], "experiments": ["fraud"]}
    entry = {"name": "fraud", "permission": "READ", "user": "eve"}

    assert names(api, "user", entry, check=True, to_come=to_come) == ["user eve: experiment fraud: none -> READ"]
    with pytest.raises(MlflowError, match="no user eve"):
        converge(api, "user", entry, to_come=to_come)


# Groups


def test_group_is_made_before_it_is_granted_anything(api):
    changes = names(api, "group", {"name": "churn", "permission": "READ", "group": "new"}, groups=[{"name": "new"}])

    assert changes == ["group new: created", "group new: experiment churn: none -> READ"]
    assert names(api, "group", groups=[{"name": "new"}]) == []


def test_members_are_the_identity_providers(oidc):
    with pytest.raises(MlflowError, match="group science has members: with the login by oidc"):
        converge(oidc, "group", groups=[{"name": "science", "members": ["ada"]}])


def test_members_are_added_and_only_exclusively_removed(basic):
    names(basic, "group", groups=[{"name": "science", "members": ["ada", "bob"]}])
    assert basic.role("science")["members"] == {"ada", "bob"}

    assert names(basic, "group", groups=[{"name": "science", "members": ["ada"]}]) == []
    changes = names(basic, "group", groups=[{"name": "science", "members": ["ada"]}], exclusive=True)

    assert changes == ["group science: bob removed"]
    assert basic.role("science")["members"] == {"ada"}


def test_unknown_member_is_named(basic):
    with pytest.raises(MlflowError, match="MLflow has no user eve, of whom group science is to consist"):
        converge(basic, "group", groups=[{"name": "science", "members": ["eve"]}])
    assert basic.writes() == []


# Exclusively


def test_exclusive_takes_away_what_is_not_declared(oidc):
    for part, target in (
        ("experiments", "1"),
        ("experiment-patterns", "^x"),
        ("prompts", "greeting"),
        ("scorers", "1/q"),
    ):
        oidc.grant("group", "others", part, target, "READ")

    changes = names(oidc, "group", {"name": "churn", "permission": "READ"}, exclusive=True)

    assert changes == [
        "group others: experiment churn: READ -> none",
        "group others: experiments like ^x: READ -> none",
        "group others: prompt greeting: READ -> none",
        "group others: scorer churn/q: READ -> none",
        "group science: experiment churn: none -> READ",
    ]
    assert list(oidc.grants) == [("group", "science", "experiments", "1")]


def test_exclusive_leaves_makers_what_they_made(oidc):
    oidc.grant("user", "ada", "experiments", oidc.number("ds-one"), "MANAGE")
    oidc.grant("user", "ada", "experiments", oidc.number("ds-two"), "READ")
    oidc.grant("user", "ada", "experiment-patterns", "^ds", "MANAGE")
    made = oidc.experiment("made", {access.CREATED_BY: access.ANSIBLE})
    oidc.grant("user", "ada", "experiments", made, "MANAGE")
    oidc.grant("user", "root", "experiments", made, "MANAGE")

    result = converge(oidc, "user", exclusive=True)

    assert result["kept"] == ["user ada: experiment ds-one: MANAGE"]
    assert result["changes"] == [
        "user ada: experiment ds-two: READ -> none",
        "user ada: experiment made: MANAGE -> none",
        "user ada: experiments like ^ds: MANAGE -> none",
    ]
    assert oidc.permission("user", "root", "experiments", made) == "MANAGE"


def test_exclusive_leaves_makers_what_they_made_in_basic_auth(basic):
    for name, permission in (("ds-one", "MANAGE"), ("ds-two", "READ")):
        converge(basic, "user", {"name": name, "permission": permission})

    result = converge(basic, "user", exclusive=True)

    assert result["kept"] == ["user ada: experiment ds-one: MANAGE"]
    assert result["changes"] == ["user ada: experiment ds-two: READ -> none"]


def test_exclusive_takes_away_what_nothing_can_be_declared_on(basic):
    """MANAGE on the workspace is MANAGE on everything, with workspaces off as well."""
    for resource, permission in (("workspace", "MANAGE"), ("run", "READ")):
        row = {"resource_type": resource, "resource_pattern": "*", "permission": permission}
        basic._add({"role_id": basic.role("others")["id"], **row})
    basic._grant({"username": "ada", "resource_type": "workspace", "resource_id": "*", "permission": "MANAGE"})
    assert names(basic, "group", {"name": "churn", "permission": "READ"}) == [
        "group science: experiment churn: none -> READ"
    ]

    changes = names(basic, "group", {"name": "churn", "permission": "READ"}, exclusive=True)
    result = converge(basic, "user", exclusive=True)

    assert changes == ["group others: run: READ -> none", "group others: workspace: MANAGE -> none"]
    assert (result["changes"], result["kept"]) == (["user ada: workspace: MANAGE -> none"], [])
    assert basic.granted("others") == basic.granted(basic.own("ada")) == {}


def test_what_somebody_else_changed_is_put_back(api):
    declared = {"name": "churn", "permission": "READ"}
    converge(api, "group", declared)
    converge(api, "group", {"name": "churn", "permission": "MANAGE"}, {"name": "ds-one", "permission": "READ"})

    assert names(api, "group", declared, exclusive=True) == [
        "group science: experiment ds-one: READ -> none",
        "group science: experiment churn: MANAGE -> READ",
    ]


def test_less_comes_before_more(api):
    converge(api, "group", {"name": "churn", "permission": "READ"})
    api.sent.clear()

    converge(api, "group", {"name": "ds-one", "permission": "READ"}, exclusive=True)

    assert [each.split()[0] for each in api.writes()] == ["DELETE", "POST"]


def test_last_administrator_stays(basic):
    basic.admins |= {"ada"}
    with pytest.raises(MlflowError, match="would take the right to administer from ada, and leave nobody but root"):
        converge(basic, "user", admins=[], exclusive=True)
    assert basic.admins == {"root", "ada"}

    assert names(basic, "user", admins=["bob"], exclusive=True) == [
        "user bob: administrator: no -> yes",
        "user ada: administrator: yes -> no",
    ]
    assert names(basic, "user", admins=["bob"], exclusive=True) == []
    assert names(basic, "user", admins=[]) == []


def test_administrators_are_the_identity_providers(oidc):
    with pytest.raises(MlflowError, match="admins is given: with the login by oidc"):
        converge(oidc, "user", admins=["ada"])


# Patterns


def test_pattern_is_kept_with_its_priority(oidc):
    entry = {"pattern": "^ds-", "permission": "READ"}
    assert names(oidc, "group", entry) == ["group science: experiments like ^ds-: none -> READ"]

    changed = names(oidc, "group", {**entry, "priority": 5})

    assert changed == ["group science: experiments like ^ds-: READ -> READ (priority 5)"]
    assert [row["priority"] for row in oidc.grants.values()] == [5]


def test_servers_without_a_pattern_say_so(oidc, basic):
    with pytest.raises(MlflowError, match="no patterns for MCP servers"):
        converge(oidc, "group", {"pattern": ".*", "permission": "READ", "resource": "mcp_server"})
    with pytest.raises(MlflowError, match="no patterns for scorers"):
        converge(basic, "group", {"pattern": "^q", "permission": "READ", "resource": "scorer"})


def test_pattern_is_written_out_for_basic_auth(basic):
    declared = (
        {"pattern": "^ds-", "permission": "READ", "priority": 2},
        {"pattern": ".*two", "permission": "EDIT", "priority": 1},
        {"name": "ds-one", "permission": "MANAGE"},
    )

    assert names(basic, "group", *declared) == [
        "group science: experiment ds-one: none -> MANAGE",
        "group science: experiment ds-two: none -> EDIT",
    ]
    number = basic.experiment("ds-three")
    assert names(basic, "group", *declared) == ["group science: experiment ds-three: none -> READ"]
    assert basic.granted("science")["experiment", number] == "READ"


def test_pattern_of_everything_is_kept_by_basic_auth(basic):
    converge(basic, "group", {"pattern": ".*", "permission": "READ"})

    assert basic.granted("science") == {("experiment", "*"): "READ"}


def test_basic_auth_has_its_own_names_of_things(basic):
    converge(
        basic,
        "user",
        {"name": "gpt", "permission": "USE", "resource": "gateway_endpoint"},
        {"name": "churn/quality", "permission": "READ", "resource": "scorer"},
        {"name": "churn", "permission": "READ", "resource": "registered_model"},
    )

    assert set(basic.granted(basic.own("ada"))) == {
        ("gateway_endpoint", "e-1"),
        ("scorer", f"{basic.number('churn')}/quality"),
        ("registered_model", "churn"),
    }


# Requests


def test_lists_are_few():
    declared = [
        {"group": group, "name": name, "permission": "READ"}
        for group in ("science", "others")
        for name in ("churn", "ds-one", "ds-two")
    ]
    for api, most in ((FakeOidc(bulk=True), 4), (FakeOidc(), 6), (FakeBasic(), 3)):
        converge(api, "group", *declared)
        api.requests = 0

        converge(api, "group", *declared)

        pages = 2  # of the experiments, two each
        assert api.requests <= most + pages


def test_nothing_declared_is_nothing_asked(api):
    assert converge(api, "group")["changes"] == []
    assert api.sent == []


# Whatever is declared and whatever there is

RESOURCES = {"experiment": ["churn", "ds-one", "ds-two"], "registered_model": ["churn"], "prompt": ["greeting"]}
ENTRIES = st.lists(
    st.sampled_from([(kind, name) for kind, things in RESOURCES.items() for name in things]).flatmap(
        lambda its: st.tuples(
            st.just(its[0]), st.just(its[1]), st.sampled_from(["science", "others"]), st.sampled_from(["READ", "EDIT"])
        )
    ),
    max_size=8,
    unique_by=lambda each: each[:3],
)


@settings(deadline=None)
@given(st.sampled_from(["bulk", "lists", "basic"]), ENTRIES, ENTRIES)
def test_exclusive_makes_it_as_declared_whatever_there_was(which, before, after):
    api = FakeBasic() if which == "basic" else FakeOidc(bulk=which == "bulk")

    def entries(rows):
        return [{"resource": r, "name": n, "group": g, "permission": p} for r, n, g, p in rows]

    converge(api, "group", *entries(before))

    told = names(api, "group", *entries(after), exclusive=True, check=True)

    assert names(api, "group", *entries(after), exclusive=True) == told
    assert names(api, "group", *entries(after), exclusive=True) == []
    assert len(told) == len(set(before) ^ set(after)) - len(
        {row[:3] for row in set(before) - set(after)} & {row[:3] for row in set(after) - set(before)}
    )


# Experiments and models


def experiment(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "description": None, "tags": {}, "artifact_location": None, "state": "present", **more}


def model(name: str, **more: Any) -> dict[str, Any]:
    empty = {"description": None, "tags": {}, "aliases": {}, "delete_versions": False, "state": "present"}
    return {"name": name, **empty, **more}


def ensure(cls: Any, api: FakeApi, *wanted: dict[str, Any], check: bool = False) -> list[str]:
    its = cls(api, check)
    its.run(list(wanted))
    return its.outcome.changes


def test_experiment_is_made_once(api):
    wanted = experiment("fraud", description="Who cheats", tags={"team": "ds", "level": 3})

    assert ensure(Experiments, api, wanted, check=True) == ["experiment fraud: created"]
    assert api.writes() == []
    assert ensure(Experiments, api, wanted) == ["experiment fraud: created"]
    assert ensure(Experiments, api, wanted) == []
    tags = api.experiments[api.number("fraud")]["tags"]
    assert tags == {"team": "ds", "level": "3", "mlflow.note.content": "Who cheats", access.CREATED_BY: access.ANSIBLE}


def test_experiment_is_changed_deleted_and_restored(api):
    assert ensure(Experiments, api, experiment("churn", tags={"team": "ds"})) == [
        "experiment churn: tag team: none -> ds"
    ]
    assert access.CREATED_BY not in api.experiments[api.number("churn")]["tags"], "somebody else made it"
    gone = experiment("churn", state="absent")
    assert ensure(Experiments, api, gone) == ["experiment churn: deleted"]
    assert ensure(Experiments, api, gone) == []
    assert ensure(Experiments, api, experiment("churn")) == ["experiment churn: restored"]


def test_place_of_artifacts_cannot_be_changed(api):
    with pytest.raises(MlflowError, match="has the artifact_location 's3://other', and its files are in 's3'"):
        ensure(Experiments, api, experiment("new"), experiment("churn", artifact_location="s3://other"))
    assert api.writes() == []


def test_nothing_is_declared_twice(api):
    with pytest.raises(MlflowError, match="experiment churn is declared twice"):
        ensure(Experiments, api, experiment("churn"), experiment("churn"))
    with pytest.raises(MlflowError, match="registered model churn is declared twice"):
        ensure(Models, api, model("churn"), model("churn"))


def test_model_gets_description_tags_and_aliases(api):
    wanted = model("churn", description="Leaves", tags={"team": "ds"}, aliases={"champion": 1, "old": None})
    api.models["churn"]["aliases"] = {"old": "1", "mine": "1"}

    assert ensure(Models, api, wanted) == [
        "registered model churn: description: none -> Leaves",
        "registered model churn: tag team: none -> ds",
        "registered model churn: alias champion: none -> 1",
        "registered model churn: alias old: 1 -> none",
    ]
    assert ensure(Models, api, wanted) == []
    assert api.models["churn"]["aliases"] == {"mine": "1", "champion": "1"}


def test_alias_needs_its_version(api):
    with pytest.raises(
        MlflowError, match="registered model churn has no version 7, which is to have the alias champion"
    ):
        ensure(Models, api, model("new"), model("churn", aliases={"champion": 7}))
    assert api.writes() == []


def test_model_with_versions_is_not_deleted_by_accident(api):
    gone = model("churn", state="absent")
    with pytest.raises(MlflowError, match="registered model churn has versions: delete_versions must be true"):
        ensure(Models, api, gone)

    assert ensure(Models, api, {**gone, "delete_versions": True}) == ["registered model churn: deleted"]
    assert ensure(Models, api, gone) == []


def test_permission_that_was_left_of_a_former_model_is_no_failure(api):
    assert ensure(Models, api, model("left")) == ["registered model left: created"]
    assert ensure(Models, api, model("left")) == []
    with pytest.raises(MlflowError, match="does not take"):
        ensure(Models, api, model("refused"))
