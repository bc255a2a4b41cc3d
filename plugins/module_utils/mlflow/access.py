# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may do what on an MLflow: declared grants against those there are.

A grant is what one user or one group may do on one thing by its name, or on all things whose names match a pattern.
mlflow-oidc-auth keeps both forms. MLflow's basic-auth keeps names only: there a group is a role of that name in the
default workspace, and a pattern is written out for the names there are at the time of the run.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

from ansible_collections.mlops.mlflow.plugins.module_utils.connections import in_parallel
from ansible_collections.mlops.mlflow.plugins.module_utils.mlflow.accounts import Accounts
from ansible_collections.mlops.mlflow.plugins.module_utils.mlflow.client import (
    MlflowApi,
    MlflowError,
    Writes,
    listed,
    segment,
)
from ansible_collections.mlops.mlflow.plugins.module_utils.mlflow.things import RESOURCES, V2, V3, Catalogue

SNAPSHOT = "/api/3.0/mlops/grants"
"""All grants in one answer: a route of our own image. Of other servers, many lists are read instead."""

WORKSPACE = "default"  # of the roles that are our groups
DEFAULT_PRIORITY = 100  # of a pattern
USER, GROUP = "user", "group"
NAME, PATTERN = "name", "pattern"
EVERY = ".*"  # the pattern that basic-auth has as well, as *

PERMISSIONS = {
    "oidc": ("NO_PERMISSIONS", "READ", "USE", "EDIT", "MANAGE"),
    "basic": ("DENY", "READ", "USE", "EDIT", "MANAGE"),
}


class GrantKey(NamedTuple):
    """What a grant is about: it is there once."""

    subject: str  # of the call's kind, user or group
    resource: str
    form: str  # NAME or PATTERN
    target: str  # by the name that users know


@dataclass(frozen=True)
class Grant:
    """What is granted.

    Args:
        handle: what the server calls the grant, where that is needed to change it.
    """

    permission: str
    priority: int | None = None  # of a pattern: the lowest takes precedence
    handle: Any = None

    def same(self, other: Grant) -> bool:
        """Whether both grant the same."""
        return (self.permission, self.priority) == (other.permission, other.priority)

    def __str__(self) -> str:
        if self.priority is None or self.priority == DEFAULT_PRIORITY:
            return self.permission
        return f"{self.permission} (priority {self.priority})"


def describe(kind: str, key: GrantKey) -> str:
    """Give a grant's key in words."""
    if key.resource not in RESOURCES:
        return f"{kind} {key.subject}: {key.resource}" + ("" if key.target == EVERY else f" {key.target}")
    words = RESOURCES[key.resource].words
    if key.form == PATTERN:
        return f"{kind} {key.subject}: {words}s like {key.target}"
    return f"{kind} {key.subject}: {words} {key.target}"


# --- what is declared -------------------------------------------------------------------------------------------------


def folded(kind: str, name: str, plugin: str) -> str:
    """Give a subject's name as the server keeps it: mlflow-oidc-auth keeps users in lower case."""
    return name.lower() if kind == USER and plugin == "oidc" else name


def declared(kind: str, entries: list[dict[str, Any]], plugin: str) -> tuple[dict[GrantKey, Grant], set[GrantKey]]:
    """Give the grants that are to be there, and the keys of those that are not.

    Args:
        kind: USER or GROUP.

    Raises:
        MlflowError: an entry cannot be.
    """
    wanted: dict[GrantKey, Grant] = {}
    unwanted: set[GrantKey] = set()
    for entry in entries:
        form = PATTERN if entry.get("pattern") is not None else NAME
        key = GrantKey(folded(kind, entry[kind], plugin), entry["resource"], form, entry[form])
        _check_entry(kind, key, entry, plugin)
        priority = None
        if form == PATTERN:
            priority = DEFAULT_PRIORITY if entry.get("priority") is None else entry["priority"]
        absent = entry.get("state") == "absent"
        grant = Grant(entry.get("permission") or "", priority)
        if key in unwanted or (key in wanted and (absent or not wanted[key].same(grant))):
            raise MlflowError(f"{describe(kind, key)} is declared more than once, and not the same: leave one")
        if absent:
            unwanted.add(key)
        else:
            wanted[key] = grant
    return wanted, unwanted


def _check_entry(kind: str, key: GrantKey, entry: dict[str, Any], plugin: str) -> None:
    resource = RESOURCES[key.resource]
    if key.form == NAME and entry.get("priority") is not None:
        raise MlflowError(f"{describe(kind, key)} has a priority, and only a pattern has one")
    if key.form == PATTERN:
        try:
            re.compile(key.target)
        except re.error as error:
            raise MlflowError(
                f"{describe(kind, key)}: the pattern is no regular expression ({error}); for all things it is {EVERY}"
            ) from None
        if plugin == "oidc" and not resource.patterns:
            raise MlflowError(f"{describe(kind, key)}: MLflow has no patterns for {resource.words}s, name each")
    if entry.get("state") == "absent":
        return
    if entry.get("permission") not in PERMISSIONS[plugin]:
        raise MlflowError(
            f"{describe(kind, key)} has the permission '{entry.get('permission')}': "
            f"one of {', '.join(PERMISSIONS[plugin])} with the login by {plugin}"
        )


# --- the two servers --------------------------------------------------------------------------------------------------


class Server:
    """The grants of one kind of subject on a server. Changes are noted at once, and made by C(send).

    Args:
        kind: USER or GROUP.
    """

    def __init__(self, accounts: Accounts, catalogue: Catalogue, kind: str) -> None:
        self.api = accounts.api
        self.accounts = accounts
        self.changes = accounts.changes
        self.catalogue = catalogue
        self.kind = kind
        self.writes = Writes(self.api)

    def send(self) -> None:
        """Make the changes that were noted.

        Raises:
            MlflowError: MLflow refuses one.
        """
        self.writes.send()

    def subjects(self) -> list[str]:
        """Give the names of all users or groups, of those that this call makes too."""
        raise NotImplementedError

    def existing(self) -> set[str]:
        """Give those that MLflow has."""
        return set(self.subjects()) - (self.accounts.created if self.kind == USER else set())

    def present(
        self, wanted: dict[GrantKey, Grant], unwanted: set[GrantKey], everything: bool
    ) -> dict[GrantKey, Grant]:
        """Give the grants there are: all of them, or at least those of the given keys."""
        raise NotImplementedError

    def ensure_groups(self, groups: list[dict[str, Any]], *, exclusive: bool) -> None:
        """Make groups that are not there, and with basic-auth their members what is declared.

        Args:
            groups: each a C(name), and perhaps C(members).
            exclusive: take out members that are not declared, of groups for which some are.

        Raises:
            MlflowError: a member is no user.
        """
        raise NotImplementedError

    def expand(
        self, wanted: dict[GrantKey, Grant], unwanted: set[GrantKey]
    ) -> tuple[dict[GrantKey, Grant], set[GrantKey]]:
        """Write out what the server cannot keep."""
        return wanted, unwanted

    def set(self, api: MlflowApi, key: GrantKey, grant: Grant, before: Grant | None) -> None:
        """Make or change a grant."""
        raise NotImplementedError

    def remove(self, api: MlflowApi, key: GrantKey, before: Grant) -> None:
        """Take a grant away."""
        raise NotImplementedError

    def _id(self, key: GrantKey) -> str:
        found = self.catalogue.id_of(key.resource, key.target)
        if found is None:
            raise MlflowError(f"{describe(self.kind, key)}: it was deleted meanwhile")
        return found


def _get(api: MlflowApi, path: str) -> Any:
    return api.request("GET", path)


class OidcServer(Server):
    """mlflow-oidc-auth."""

    def __init__(self, accounts: Accounts, catalogue: Catalogue, kind: str) -> None:
        super().__init__(accounts, catalogue, kind)
        self._base = f"{V2}/permissions/{kind}s"
        self._groups: list[str] | None = None

    def subjects(self) -> list[str]:
        if self.kind == USER:
            return list(self.accounts.all())
        if self._groups is None:
            self._groups = list(self.api.request("GET", self._base, what="list the groups"))
        return self._groups

    def ensure_groups(self, groups: list[dict[str, Any]], *, exclusive: bool) -> None:
        del exclusive  # the provider's to say
        for group in groups:
            if group.get("members") is not None:
                raise MlflowError(
                    f"group {group['name']} has members: with the login by oidc they are the identity provider's to say"
                )
        for name in [each["name"] for each in groups if each["name"] not in self.subjects()]:
            self.subjects().append(name)
            if self.changes.note(f"group {name}", "created"):
                self.writes.add(name, partial(self._create_group, name=name))

    def _create_group(self, api: MlflowApi, name: str) -> None:
        api.request("POST", self._base, {"group_name": name}, what=f"make the group {name}")

    def present(
        self, wanted: dict[GrantKey, Grant], unwanted: set[GrantKey], everything: bool
    ) -> dict[GrantKey, Grant]:
        snapshot = self.api.find(SNAPSHOT, {"subject": self.kind}, what="list the grants")
        if isinstance(snapshot, dict) and isinstance(snapshot.get("grants"), list):
            return dict(self._from_snapshot(each) for each in snapshot["grants"])
        return self._from_lists(wanted, unwanted, everything)

    def _from_snapshot(self, row: dict[str, Any]) -> tuple[GrantKey, Grant]:
        if row["form"] == PATTERN:
            key = GrantKey(row["subject"], row["resource"], PATTERN, row["target"])
            return key, Grant(row["permission"], row["priority"], row["id"])
        resource = row["resource"]
        if resource == "registered_model" and row["target"] in self.catalogue.ids("prompt"):
            resource = "prompt"  # they are in one table
        name = self.catalogue.name_of(resource, row["target"])
        return GrantKey(row["subject"], resource, NAME, name), Grant(row["permission"], None, row["target"])

    def _from_lists(
        self, wanted: dict[GrantKey, Grant], unwanted: set[GrantKey], everything: bool
    ) -> dict[GrantKey, Grant]:
        asked: set[tuple[str, str, str]] = {(key.subject, key.resource, key.form) for key in [*wanted, *unwanted]}
        if everything:
            asked |= {
                (subject, resource, form)
                for subject in self.existing()
                for resource, its in RESOURCES.items()
                for form in (NAME, PATTERN)
                # Where there is no name, there is no grant on a name.
                if (its.patterns if form == PATTERN else resource == "scorer" or self.catalogue.ids(resource))
            }
        order = sorted(asked)
        paths = [f"{self._base}/{segment(subject)}/{self._path(resource, form)}" for subject, resource, form in order]
        found: dict[GrantKey, Grant] = {}
        for (subject, resource, form), rows in zip(order, in_parallel(self.api, paths, _get), strict=True):
            for row in rows:
                if form == PATTERN:
                    key = GrantKey(subject, resource, PATTERN, row["regex"])
                    found[key] = Grant(row["permission"], row["priority"], int(row["id"]))
                elif self.kind == GROUP or resource == "scorer" or row.get("kind") == "user":
                    # A user's list says what holds for the user; what was granted to the user is of kind `user`.
                    target = self._target(resource, row)
                    key = GrantKey(subject, resource, NAME, self.catalogue.name_of(resource, target))
                    found[key] = Grant(row["permission"], None, target)
        # The list of a group's models holds its prompts too.
        prompts = set(self.catalogue.ids("prompt")) if any(key.resource == "registered_model" for key in found) else ()
        return {
            key: its for key, its in found.items() if key.resource != "registered_model" or key.target not in prompts
        }

    def _target(self, resource: str, row: dict[str, Any]) -> str:
        if resource == "scorer":
            return f"{row['experiment_id']}/{row['scorer_name']}"
        return str(row["id"] if resource == "experiment" else row["name"])

    def _path(self, resource: str, form: str) -> str:
        return RESOURCES[resource].patterns if form == PATTERN else RESOURCES[resource].path

    def _place(self, key: GrantKey, before: Grant | None) -> str:
        base = f"{self._base}/{segment(key.subject)}/{self._path(key.resource, key.form)}"
        if key.form == PATTERN:
            return base
        # Of a deleted object, only the name that grants use is known.
        found = self._id(key) if before is None else before.handle
        if key.resource == "scorer":
            experiment, _unused, scorer = found.partition("/")
            return f"{base}/{segment(experiment)}/{segment(scorer)}"
        return f"{base}/{segment(found)}"

    def set(self, api: MlflowApi, key: GrantKey, grant: Grant, before: Grant | None) -> None:
        place = self._place(key, before)
        what = f"set {describe(self.kind, key)} to {grant}"
        if key.form == PATTERN:
            body = {"regex": key.target, "priority": grant.priority, "permission": grant.permission}
            if before is None:
                api.request("POST", place, body, what=what)
            else:
                api.request("PATCH", f"{place}/{before.handle}", body, what=what)
            return
        body = {"permission": grant.permission}
        if before is None:
            try:
                api.request("POST", place, body, what=what)
                return
            except MlflowError as error:
                if not error.exists:
                    raise
        api.request("PATCH", place, body, what=what)

    def remove(self, api: MlflowApi, key: GrantKey, before: Grant) -> None:
        place = self._place(key, before)
        if key.form == PATTERN:
            place = f"{place}/{before.handle}"
        try:
            api.request("DELETE", place, what=f"take away {describe(self.kind, key)}")
        except MlflowError as error:
            if not error.absent:
                raise


class BasicServer(Server):
    """MLflow's basic-auth. Its lists of users and roles hold all grants."""

    def __init__(self, accounts: Accounts, catalogue: Catalogue, kind: str) -> None:
        super().__init__(accounts, catalogue, kind)
        self._roles: dict[str, dict[str, Any]] | None = None  # by the subject's name

    def _own_roles(self) -> dict[str, dict[str, Any]]:
        """Give the role of each group, or the hidden role of each user: basic-auth keeps their own grants there."""
        if self._roles is None:
            if self.kind == GROUP:
                self._roles = roles(self.api)
            else:
                self._roles = {}
                for user in users(self.api):
                    hidden = f"__user_{user['id']}__"
                    own = [each for each in user.get("roles") or [] if each["name"] == hidden]
                    own = [each for each in own if each.get("workspace", WORKSPACE) == WORKSPACE]
                    self._roles[user["username"]] = own[0] if own else {"id": None, "permissions": []}
        return self._roles

    def subjects(self) -> list[str]:
        return list(self._own_roles() if self.kind == GROUP else self.accounts.all())

    def ensure_groups(self, groups: list[dict[str, Any]], *, exclusive: bool) -> None:
        names = self.accounts.all() if groups else {}
        for group in groups:
            unknown = set(group.get("members") or []) - set(names)
            if unknown:
                raise MlflowError(
                    f"MLflow has no user {listed(unknown)}, of whom group {group['name']} is to consist: "
                    f"there are {listed(names)}"
                )
        for group in groups:
            self._ensure_role(group, exclusive)

    def _ensure_role(self, group: dict[str, Any], exclusive: bool) -> None:
        name, roles_there = group["name"], self._own_roles()
        if name not in roles_there:
            roles_there[name] = {"id": None, "permissions": []}
            if self.changes.note(f"group {name}", "created"):
                body = {"name": name, "workspace": WORKSPACE}

                def make(api: MlflowApi) -> None:
                    made = api.request("POST", f"{V3}/roles/create", body, what=f"make the group {name}")
                    roles_there[name]["id"] = made["role"]["id"]

                self.writes.add(name, make)
        if group.get("members") is None:
            return
        role = roles_there[name]["id"]
        members = {
            each["username"]
            for each in users(self.api)
            if role is not None and any(one["id"] == role for one in each.get("roles") or [])
        }
        for user in sorted(set(group["members"]) - members):
            if self.changes.note(f"group {name}", f"{user} added"):
                self._assign("POST", "assign", name, user)
        for user in sorted(members - set(group["members"])) if exclusive else []:
            if self.changes.note(f"group {name}", f"{user} removed"):
                self._assign("DELETE", "unassign", name, user)

    def _assign(self, method: str, path: str, name: str, user: str) -> None:
        what = (
            f"{'add' if method == 'POST' else 'take'} {user} {'to' if method == 'POST' else 'out of'} the group {name}"
        )

        def assign(api: MlflowApi) -> None:
            body = {"username": user, "role_id": self._own_roles()[name]["id"]}
            api.request(method, f"{V3}/roles/{path}", body, what=what)

        self.writes.add(name, assign)

    def expand(
        self, wanted: dict[GrantKey, Grant], unwanted: set[GrantKey]
    ) -> tuple[dict[GrantKey, Grant], set[GrantKey]]:
        """Replace patterns by names: a name takes precedence over a pattern, and of two patterns the lower priority."""
        expanded = {key: grant for key, grant in wanted.items() if key.form == NAME or key.target == EVERY}
        expanded = {key: Grant(grant.permission) for key, grant in expanded.items()}
        patterns = [(key, its) for key, its in wanted.items() if key.form == PATTERN and key.target != EVERY]
        for key, grant in sorted(patterns, key=lambda each: (each[1].priority or 0, each[0])):
            if key.resource == "scorer":
                raise MlflowError(f"{describe(self.kind, key)}: basic-auth has no patterns for scorers, name each")
            for name in self.catalogue.matching(key.resource, key.target):
                expanded.setdefault(GrantKey(key.subject, key.resource, NAME, name), Grant(grant.permission))
        gone = {key for key in unwanted if key.form == NAME or key.target == EVERY}
        for key in unwanted - gone:
            names = self.catalogue.matching(key.resource, key.target)
            gone |= {GrantKey(key.subject, key.resource, NAME, name) for name in names}
        return expanded, gone - set(expanded)

    def present(
        self, wanted: dict[GrantKey, Grant], unwanted: set[GrantKey], everything: bool
    ) -> dict[GrantKey, Grant]:
        del wanted, unwanted, everything  # one list holds all
        found = {}
        for subject, role in self._own_roles().items():
            for row in role.get("permissions") or []:
                # Of all kinds, also of those that nothing can be declared on, such as workspaces: MANAGE there is
                # MANAGE on everything, so that exclusive has to see it.
                if row["resource_pattern"] == "*":
                    key = GrantKey(subject, row["resource_type"], PATTERN, EVERY)
                else:
                    key = GrantKey(subject, row["resource_type"], NAME, self._name(row))
                found[key] = Grant(row["permission"], None, row["id"])
        return found

    def _name(self, row: dict[str, Any]) -> str:
        found = row["resource_pattern"]
        if row["resource_type"] not in RESOURCES:
            return found
        if row["resource_type"] == "scorer":
            experiment, _unused, scorer = found.partition("/")
            found = f"{experiment}/{unquote(scorer)}"
        return self.catalogue.name_of(row["resource_type"], found)

    def _pattern(self, key: GrantKey) -> str:
        if key.form == PATTERN:
            return "*"
        found = self._id(key)
        if key.resource == "scorer":
            experiment, _unused, scorer = found.partition("/")
            return f"{experiment}/{quote(scorer, safe='')}"
        return found

    def set(self, api: MlflowApi, key: GrantKey, grant: Grant, before: Grant | None) -> None:
        what = f"set {describe(self.kind, key)} to {grant}"
        if before is not None:
            body = {"role_permission_id": before.handle, "permission": grant.permission}
            api.request("PATCH", f"{V3}/roles/permissions/update", body, what=what)
        elif self.kind == GROUP:
            role = self._own_roles()[key.subject]
            body = {
                "role_id": role["id"],
                "resource_type": key.resource,
                "resource_pattern": self._pattern(key),
                "permission": grant.permission,
            }
            api.request("POST", f"{V3}/roles/permissions/add", body, what=what)
        else:
            body = {
                "username": key.subject,
                "resource_type": key.resource,
                "resource_id": self._pattern(key),
                "permission": grant.permission,
            }
            api.request("POST", f"{V3}/users/permissions/grant", body, what=what)

    def remove(self, api: MlflowApi, key: GrantKey, before: Grant) -> None:
        body = {"role_permission_id": before.handle}
        try:
            api.request("DELETE", f"{V3}/roles/permissions/remove", body, what=f"take away {describe(self.kind, key)}")
        except MlflowError as error:
            if not error.absent:
                raise


def users(api: MlflowApi) -> list[dict[str, Any]]:
    """Give the users of basic-auth with their roles and these roles' grants."""
    return list(api.request("GET", f"{V2}/users/list", what="list the users").get("users") or [])


def roles(api: MlflowApi) -> dict[str, dict[str, Any]]:
    """Give basic-auth's roles that are groups, by name."""
    found = api.request("GET", f"{V3}/roles/list", what="list the roles").get("roles") or []
    own = [each for each in found if each.get("workspace", WORKSPACE) == WORKSPACE]
    return {each["name"]: each for each in own if not each["name"].startswith("__user_")}


# --- what is to be done -----------------------------------------------------------------------------------------------


def server(accounts: Accounts, catalogue: Catalogue, kind: str) -> Server:
    """Give the server's grants by its plugin."""
    return (OidcServer if accounts.api.plugin == "oidc" else BasicServer)(accounts, catalogue, kind)


def is_personal(catalogue: Catalogue, kind: str, key: GrantKey, grant: Grant) -> bool:
    """Whether a grant may be the one that a user has for having created the thing.

    Neither plugin keeps who made a thing: the maker's grant is a row like any other. So a user's MANAGE on a name
    counts as the maker's, but for what was made by a declaration.
    """
    if kind != USER or key.form != NAME or key.resource not in RESOURCES or grant.permission != "MANAGE":
        return False
    return not (key.resource in ("experiment", "registered_model") and catalogue.was_declared(key.resource, key.target))


class Plan(NamedTuple):
    """What is to be changed of the grants of one kind of subject.

    Args:
        removals: what is to go, and what it is.
        settings: what is to be, and what it is before.
    """

    removals: list[tuple[GrantKey, Grant]]
    settings: list[tuple[GrantKey, Grant, Grant | None]]
    kept: list[str]


def plan(server: Server, entries: list[dict[str, Any]], *, exclusive: bool, new: frozenset[str] = frozenset()) -> Plan:
    """Find out what is to be changed, and see that it can be.

    Args:
        exclusive: revoke what is not declared, except the MANAGE of creators.
        new: groups that are not there yet, and will be.

    Raises:
        MlflowError: what is declared cannot be.
    """
    kind = server.kind
    wanted, unwanted = declared(kind, entries, server.api.plugin)
    if not wanted and not unwanted and not exclusive:
        return Plan([], [], [])
    there = set(server.subjects())
    unknown = {key.subject for key in wanted} - there - new
    if unknown:
        raise MlflowError(f"MLflow has no {kind} {listed(unknown)}: there are {listed(there)}")
    server.catalogue.check(kind, ((key.resource, key.target) for key in wanted if key.form == NAME))
    wanted, unwanted = server.expand(wanted, unwanted)
    old = server.existing()
    present = server.present(
        {key: grant for key, grant in wanted.items() if key.subject in old},
        {key for key in unwanted if key.subject in old},
        exclusive,
    )
    surplus = {key for key in unwanted if key in present}
    kept = []
    if exclusive:
        # The account that asks has what it has for having made what is declared.
        me = server.api.whoami()["name"] if kind == USER else None
        for key in present.keys() - wanted.keys() - surplus:
            if key.subject == me:
                continue
            if is_personal(server.catalogue, kind, key, present[key]):
                kept.append(f"{describe(kind, key)}: {present[key]}")
            else:
                surplus.add(key)
    settings = [
        (key, grant, present.get(key))
        for key, grant in sorted(wanted.items(), key=lambda each: each[0])
        if key not in present or not present[key].same(grant)
    ]
    return Plan([(key, present[key]) for key in sorted(surplus)], settings, sorted(kept))


def carry_out(server: Server, planned: Plan) -> None:
    """Do what was planned. Removals come first, so that no user has more for a moment than before or after."""
    for key, before in planned.removals:
        if server.changes.turn(describe(server.kind, key), before, None):
            server.writes.add(key.subject, partial(server.remove, key=key, before=before))
    server.send()
    for key, grant, present in planned.settings:
        if server.changes.turn(describe(server.kind, key), present, grant):
            server.writes.add(key.subject, partial(server.set, key=key, grant=grant, before=present))
    server.send()


class Permissions(NamedTuple):
    """What is declared of permissions.

    Args:
        entries: grants by kind of subject.
        groups: groups that must exist.
        admins: administrators of basic-auth; None leaves them alone.
        exclusive: the kinds of subjects that are to have nothing else.
    """

    entries: dict[str, list[dict[str, Any]]]
    groups: list[dict[str, Any]]
    admins: list[str] | None
    exclusive: set[str]


def ensure(accounts: Accounts, catalogue: Catalogue, wanted: Permissions) -> list[str]:
    """Apply declared groups, administrators and grants. All is checked before the first change.

    Returns:
        what is not declared and was left alone as the makers' own.

    Raises:
        MlflowError: what is declared cannot be, or MLflow refuses something.
    """
    groups, single = (server(accounts, catalogue, kind) for kind in (GROUP, USER))
    new = frozenset(each["name"] for each in wanted.groups)
    plans = [
        (its, plan(its, wanted.entries[its.kind], exclusive=its.kind in wanted.exclusive, new=more))
        for its, more in ((groups, new), (single, frozenset()))
    ]
    if wanted.admins is not None:
        accounts.ensure_admins(wanted.admins, exclusive=USER in wanted.exclusive)
    groups.ensure_groups(wanted.groups, exclusive=GROUP in wanted.exclusive)
    accounts.send()
    groups.send()
    for its, planned in plans:
        carry_out(its, planned)
    return [each for _server, planned in plans for each in planned.kept]


def permission_options() -> dict[str, Any]:
    """Give the options of a list of grants."""
    return {
        "type": "list",
        "elements": "dict",
        "default": [],
        "mutually_exclusive": [("name", "pattern"), ("user", "group")],
        "required_one_of": [("name", "pattern"), ("user", "group")],
        "required_if": [("state", "present", ["permission"])],
        "options": {
            "user": {"type": "str"},
            "group": {"type": "str"},
            "resource": {"type": "str", "choices": list(RESOURCES), "default": "experiment"},
            "name": {"type": "str"},
            "pattern": {"type": "str"},
            "permission": {"type": "str"},
            "priority": {"type": "int"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
    }


def sentences(wanted: Permissions) -> list[str]:
    """Give what would be made where nothing is there yet."""
    changes = [f"group {each['name']}: created" for each in wanted.groups]
    for kind, entries in wanted.entries.items():
        for entry in entries:
            if entry.get("state") != "absent":
                form = PATTERN if entry.get("pattern") is not None else NAME
                key = GrantKey(entry[kind], entry["resource"], form, entry[form])
                changes.append(f"{describe(kind, key)}: none -> {entry['permission']}")
    return changes
