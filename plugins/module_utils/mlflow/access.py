# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may do what on an MLflow: grants as declared against grants as they are.

A grant is what one user or one group may do on one thing by its name, or on all things whose names match a pattern.
mlflow-oidc-auth keeps both forms. MLflow's basic-auth keeps names only: there a group is a role of that name in the
default workspace, and a pattern is written out for the names there are at the time of the run.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

from ansible_collections.mlops.mlflow.plugins.module_utils.mlflow.client import (
    MlflowApi,
    MlflowError,
    open_api,
    segment,
)

V2, V3 = "/api/2.0/mlflow", "/api/3.0/mlflow"
SNAPSHOT = "/api/3.0/mlops/grants"
"""All grants in one answer: a route of our own image. Other servers are asked for many lists instead."""

AT_ONCE = 8  # connections, where many lists are to be read
DELETED = " (deleted)"  # behind the name of a deleted experiment
WORKSPACE = "default"  # of the roles that are our groups
PAGE = 1000
FIRST_PRIORITY = 100  # of a pattern for which none is given
CREATED_BY = "mlops.mlflow.created_by"
"""Tag of the experiments and models that were made as declared: nobody has MANAGE there for having made them."""
ANSIBLE = "ansible"
IS_PROMPT = "mlflow.prompt.is_prompt"

USER, GROUP = "user", "group"
NAME, PATTERN = "name", "pattern"
EVERY = ".*"  # the pattern that basic-auth has as well, as *

PERMISSIONS = {
    "oidc": ("NO_PERMISSIONS", "READ", "USE", "EDIT", "MANAGE"),
    "basic": ("DENY", "READ", "USE", "EDIT", "MANAGE"),
}
ALL_PERMISSIONS = ("READ", "USE", "EDIT", "MANAGE", "NO_PERMISSIONS", "DENY")


class Resource(NamedTuple):
    """A kind of thing that grants are given on.

    :param words: what a message calls one
    :param path: the part of mlflow-oidc-auth's paths for grants by name
    :param patterns: the one for grants by pattern; empty where there are none
    """

    words: str
    path: str
    patterns: str


RESOURCES = {
    "experiment": Resource("experiment", "experiments", "experiment-patterns"),
    "registered_model": Resource("registered model", "registered-models", "registered-models-patterns"),
    "prompt": Resource("prompt", "prompts", "prompts-patterns"),
    "scorer": Resource("scorer", "scorers", "scorer-patterns"),
    "gateway_endpoint": Resource("gateway endpoint", "gateways/endpoints", "gateways/endpoints-patterns"),
    "gateway_secret": Resource("gateway secret", "gateways/secrets", "gateways/secrets-patterns"),
    "gateway_model_definition": Resource(
        "gateway model definition", "gateways/model-definitions", "gateways/model-definitions-patterns"
    ),
    "mcp_server": Resource("MCP server", "mcp-servers", ""),
}

# Where the server lists them, the list's name in the answer, and the fields of its id and its name.
CATALOGUES = {
    "gateway_endpoint": (f"{V3}/gateway/endpoints/list", "endpoints", "endpoint_id", "name"),
    "gateway_secret": (f"{V3}/gateway/secrets/list", "secrets", "secret_id", "secret_name"),
    "gateway_model_definition": (
        f"{V3}/gateway/model-definitions/list",
        "model_definitions",
        "model_definition_id",
        "name",
    ),
    "mcp_server": (f"{V3}/mcp-servers?max_results={PAGE}", "mcp_servers", "name", "name"),
}


class Key(NamedTuple):
    """What a grant is about: it is there once."""

    subject: str  # of the call's kind, user or group
    resource: str
    form: str  # NAME or PATTERN
    target: str  # as people name it


@dataclass(frozen=True)
class Grant:
    """What is granted.

    :param handle: what the server calls the grant, where that is needed to change it
    """

    permission: str
    priority: int | None = None  # of a pattern: the lowest wins
    handle: Any = None

    def same(self, other: Grant) -> bool:
        """Whether both grant the same."""
        return (self.permission, self.priority) == (other.permission, other.priority)

    def __str__(self) -> str:
        if self.priority is None or self.priority == FIRST_PRIORITY:
            return self.permission
        return f"{self.permission} (priority {self.priority})"


def said(kind: str, key: Key) -> str:
    """Give a grant's key as a person would say it."""
    if key.resource not in RESOURCES:
        return f"{kind} {key.subject}: {key.resource}" + ("" if key.target == EVERY else f" {key.target}")
    words = RESOURCES[key.resource].words
    if key.form == PATTERN:
        return f"{kind} {key.subject}: {words}s like {key.target}"
    return f"{kind} {key.subject}: {words} {key.target}"


def listed(names: Iterable[str], most: int = 10) -> str:
    """Give names for a sentence, and not more than so many."""
    names = sorted(set(names))
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest if names else "none"


def quantified(count: int, noun: str) -> str:
    """Give "1 user" or "2 users"."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


# --- what is declared -------------------------------------------------------------------------------------------------


def folded(kind: str, name: str, plugin: str) -> str:
    """Give a subject's name as the server keeps it: mlflow-oidc-auth keeps users in lower case."""
    return name.lower() if kind == USER and plugin == "oidc" else name


def declared(kind: str, entries: list[dict[str, Any]], plugin: str) -> tuple[dict[Key, Grant], set[Key]]:
    """Give the grants that are to be there, and the keys of those that are not.

    :param kind: USER or GROUP
    :raises MlflowError: an entry cannot be
    """
    wanted: dict[Key, Grant] = {}
    unwanted: set[Key] = set()
    for entry in entries:
        form = PATTERN if entry.get("pattern") is not None else NAME
        key = Key(folded(kind, entry[kind], plugin), entry["resource"], form, entry[form])
        _check_entry(kind, key, entry, plugin)
        priority = None
        if form == PATTERN:
            priority = FIRST_PRIORITY if entry.get("priority") is None else entry["priority"]
        absent = entry.get("state") == "absent"
        grant = Grant(entry.get("permission") or "", priority)
        if key in unwanted or (key in wanted and (absent or not wanted[key].same(grant))):
            raise MlflowError(f"{said(kind, key)} is declared twice, and not the same: leave one")
        if absent:
            unwanted.add(key)
        else:
            wanted[key] = grant
    return wanted, unwanted


def _check_entry(kind: str, key: Key, entry: dict[str, Any], plugin: str) -> None:
    resource = RESOURCES[key.resource]
    if key.form == NAME and entry.get("priority") is not None:
        raise MlflowError(f"{said(kind, key)} has a priority, and only a pattern has one")
    if key.form == PATTERN:
        try:
            re.compile(key.target)
        except re.error as error:
            raise MlflowError(
                f"{said(kind, key)}: the pattern is no regular expression ({error}); for all things it is {EVERY}"
            ) from None
        if plugin == "oidc" and not resource.patterns:
            raise MlflowError(f"{said(kind, key)}: MLflow has no patterns for {resource.words}s, name each")
    if entry.get("state") == "absent":
        return
    if entry.get("permission") not in PERMISSIONS[plugin]:
        raise MlflowError(
            f"{said(kind, key)} has the permission '{entry.get('permission')}': "
            f"one of {', '.join(PERMISSIONS[plugin])} with the login by {plugin}"
        )


# --- requests ---------------------------------------------------------------------------------------------------------


class Reader:
    """Reads lists, many of them over several connections.

    :param params: the module's options, to open further connections
    """

    def __init__(self, api: MlflowApi, params: dict[str, Any]) -> None:
        self.api = api
        self._params = params

    def read(self, paths: list[str]) -> list[Any]:
        """Give the answers to GET of each path, in order."""
        hands = min(AT_ONCE, len(paths) // 8 + 1)
        if hands == 1:
            return [self.api.request("GET", path) for path in paths]
        _ = self.api.plugin  # asked once
        others = [open_api(self._params) for _ in range(hands)]
        shares = [list(range(each, len(paths), hands)) for each in range(hands)]
        answers: list[Any] = [None] * len(paths)

        def work(api: MlflowApi, share: list[int]) -> None:
            try:
                for number in share:
                    answers[number] = api.request("GET", paths[number])
            finally:
                api.close()

        with ThreadPoolExecutor(hands) as pool:
            running = [pool.submit(work, api, share) for api, share in zip(others, shares, strict=True)]
        for api, future in zip(others, running, strict=True):
            self.api.requests += api.requests
            future.result()
        return answers


def experiments(api: MlflowApi) -> list[dict[str, Any]]:
    """Give all experiments, deleted ones too."""
    found: list[dict[str, Any]] = []
    token = None
    while True:
        body = {"max_results": PAGE, "view_type": "ALL", **({"page_token": token} if token else {})}
        answer = api.request("POST", f"{V2}/experiments/search", body, what="list the experiments")
        found += answer.get("experiments") or []
        token = answer.get("next_page_token")
        if not token:
            return found


def registered_models(api: MlflowApi, prompts: bool = False) -> list[dict[str, Any]]:
    """Give all registered models, or all prompts: MLflow keeps both in one registry."""
    found: list[dict[str, Any]] = []
    token = None
    filter_string = f"tags.`{IS_PROMPT}` = 'true'" if prompts else None
    while True:
        query = {"max_results": PAGE, "filter": filter_string, "page_token": token}
        answer = api.request("GET", f"{V2}/registered-models/search", query=query, what="list the registered models")
        found += answer.get("registered_models") or []
        token = answer.get("next_page_token")
        if not token:
            break
    return [each for each in found if (tags(each).get(IS_PROMPT) == "true") == prompts]


def tags(thing: dict[str, Any]) -> dict[str, str]:
    """Give the tags of an experiment or a model by their keys."""
    return {each["key"]: each.get("value", "") for each in thing.get("tags") or []}


def tags_of(each: dict[str, Any], note: str = "") -> dict[str, str]:
    """Give the tags that a thing is to have, as MLflow keeps them.

    :param note: the tag that holds the description, if one does
    """
    wanted = {key: _text(value) for key, value in (each.get("tags") or {}).items()}
    if note and each.get("description") is not None:
        wanted[note] = each["description"]
    return wanted


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)


def tag_changes(wanted: dict[str, str], have: dict[str, str]) -> list[tuple[str, str | None, str]]:
    """Give the tags that differ: key, value before, value after."""
    return [(key, have.get(key), value) for key, value in sorted(wanted.items()) if have.get(key) != value]


def twice(words: str, wanted: list[dict[str, Any]]) -> None:
    """See that nothing is declared twice.

    :raises MlflowError: something is
    """
    names = [each["name"] for each in wanted]
    again = {name for name in names if names.count(name) > 1}
    if again:
        raise MlflowError(f"{words} {listed(again)} is declared twice: leave one")


class Catalogue:
    """The things there are, by the names people use and by what grants call them. Each kind is read once.

    :param to_come: names, by resource, that an earlier task makes outside check mode
    """

    def __init__(self, reader: Reader, to_come: dict[str, list[str]] | None = None) -> None:
        self._reader = reader
        self._to_come = to_come or {}
        self._names: dict[str, dict[str, str]] = {}  # resource -> id -> name
        self._by_name: dict[str, dict[str, str]] = {}  # resource -> name -> id
        self._made: dict[str, set[str]] = {}  # resource -> names of those that were made as declared

    @property
    def _api(self) -> MlflowApi:
        return self._reader.api

    def ids(self, resource: str) -> dict[str, str]:
        """Give the names of a kind of thing by what grants call them."""
        if resource in self._names:
            return self._names[resource]
        made: set[str] = set()
        if resource == "experiment":
            found = experiments(self._api)
            # A name is taken by the living one; of a deleted one the id is told too.
            self._names[resource] = {
                each["experiment_id"]: each["name"]
                if each.get("lifecycle_stage") != "deleted"
                else each["name"] + DELETED
                for each in found
            }
            made = {each["name"] for each in found if tags(each).get(CREATED_BY) == ANSIBLE}
        elif resource in ("registered_model", "prompt"):
            found = registered_models(self._api, resource == "prompt")
            self._names[resource] = {each["name"]: each["name"] for each in found}
            made = {each["name"] for each in found if tags(each).get(CREATED_BY) == ANSIBLE}
        elif resource == "scorer":
            self._names[resource] = {}
        else:
            self._names[resource] = self._other(resource)
        self._made[resource] = made
        return self._names[resource]

    def _other(self, resource: str) -> dict[str, str]:
        path, field, id_field, name_field = CATALOGUES[resource]
        found = self._api.find(path, what=f"list the {RESOURCES[resource].words}s") or {}
        # mlflow-oidc-auth names a gateway's things in its grants, and basic-auth has their ids.
        which = name_field if self._api.plugin == "oidc" else id_field
        items = found.get(field) or []
        return {str(each[which]): str(each[name_field]) for each in items if each.get(which) and each.get(name_field)}

    def was_made(self, resource: str, name: str) -> bool:
        """Whether a thing was made as declared, by mlflow_experiment or mlflow_registered_model."""
        self.ids(resource)
        return name in self._made[resource]

    def id_of(self, resource: str, name: str) -> str | None:
        """Give what grants call a thing, and None where there is none of this name."""
        if resource == "scorer":
            return self._scorer_id(name)
        if resource not in self._by_name:
            # Of two of one name the first, as ever.
            self._by_name[resource] = {its: found for found, its in reversed(self.ids(resource).items())}
        return self._by_name[resource].get(name)

    def _scorer_id(self, name: str) -> str | None:
        """Scorers are named EXPERIMENT/SCORER. Both may have slashes, so the longest experiment is taken."""
        by_name = {its: found for found, its in self.ids("experiment").items()}
        for experiment in sorted((each for each in by_name if name.startswith(f"{each}/")), key=len, reverse=True):
            scorer = name[len(experiment) + 1 :]
            answer = self._api.find(f"{V3}/scorers/list", {"experiment_id": by_name[experiment]}) or {}
            if any(each.get("scorer_name") == scorer for each in answer.get("scorers") or []):
                return f"{by_name[experiment]}/{scorer}"
        return None

    def name_of(self, resource: str, found: str) -> str:
        """Give a thing's name by what grants call it; a thing that is gone keeps that."""
        if resource == "scorer":
            experiment, _, scorer = found.partition("/")
            return f"{self.ids('experiment').get(experiment, experiment)}/{scorer}"
        return self.ids(resource).get(found, found)

    def is_to_come(self, resource: str, name: str) -> bool:
        """Whether an earlier task makes it outside check mode."""
        if resource == "scorer":
            return any(name.startswith(f"{each}/") for each in self._to_come.get("experiment") or [])
        return name in (self._to_come.get(resource) or [])

    def matching(self, resource: str, pattern: str) -> list[str]:
        """Give the names that a pattern matches, from the beginning of the name as mlflow-oidc-auth does."""
        found = [its for its in self.ids(resource).values() if not its.endswith(DELETED)]
        return sorted(its for its in found if re.match(pattern, its))

    def check(self, kind: str, keys: Iterable[Key]) -> None:
        """See that what is named is there.

        :raises MlflowError: something is not
        """
        unknown: dict[str, set[str]] = {}
        for key in keys:
            if key.form != NAME or self.is_to_come(key.resource, key.target):
                continue
            if self.id_of(key.resource, key.target) is None:
                unknown.setdefault(key.resource, set()).add(key.target)
        for resource, names in unknown.items():
            words = RESOURCES[resource].words
            living = [each for each in self.ids(resource).values() if not each.endswith(DELETED)]
            close = [near for name in names for near in get_close_matches(name, living, 3)]
            there = f"there is {listed(close)}" if close else f"there are {listed(living)}"
            if resource == "scorer":
                there = "a scorer is named EXPERIMENT/SCORER"
            raise MlflowError(
                f"MLflow has no {words} {listed(names)}, on which {kind}s are to have permissions: {there}"
            )


# --- the two servers --------------------------------------------------------------------------------------------------


class Server:
    """The grants of one kind of subject on a server.

    :param kind: USER or GROUP
    """

    def __init__(self, reader: Reader, catalogue: Catalogue, kind: str) -> None:
        self.reader = reader
        self.api = reader.api
        self.catalogue = catalogue
        self.kind = kind

    def subjects(self) -> list[str]:
        """Give the names of all users or groups."""
        raise NotImplementedError

    def present(self, wanted: dict[Key, Grant], unwanted: set[Key], everything: bool) -> dict[Key, Grant]:
        """Give the grants there are: all of them, or at least those of the keys that are asked for."""
        raise NotImplementedError

    def expand(self, wanted: dict[Key, Grant], unwanted: set[Key]) -> tuple[dict[Key, Grant], set[Key]]:
        """Write out what the server cannot keep."""
        return wanted, unwanted

    def set(self, key: Key, grant: Grant, before: Grant | None) -> None:
        """Make or change a grant."""
        raise NotImplementedError

    def remove(self, key: Key, before: Grant) -> None:
        """Take a grant away."""
        raise NotImplementedError

    def _id(self, key: Key) -> str:
        found = self.catalogue.id_of(key.resource, key.target)
        if found is None:
            raise MlflowError(f"{said(self.kind, key)}: it was deleted meanwhile")
        return found


class OidcServer(Server):
    """mlflow-oidc-auth."""

    def __init__(self, reader: Reader, catalogue: Catalogue, kind: str) -> None:
        super().__init__(reader, catalogue, kind)
        self._base = f"{V2}/permissions/{kind}s"

    def subjects(self) -> list[str]:
        if self.kind == GROUP:
            return list(self.api.request("GET", self._base, what="list the groups"))
        return [each["username"] for each in self.api.request("GET", f"{V2}/users/details", what="list the users")]

    def present(self, wanted: dict[Key, Grant], unwanted: set[Key], everything: bool) -> dict[Key, Grant]:
        snapshot = self.api.find(SNAPSHOT, {"subject": self.kind}, what="list the grants")
        if isinstance(snapshot, dict) and isinstance(snapshot.get("grants"), list):
            return dict(self._from_snapshot(each) for each in snapshot["grants"])
        return self._from_lists(wanted, unwanted, everything)

    def _from_snapshot(self, row: dict[str, Any]) -> tuple[Key, Grant]:
        if row["form"] == PATTERN:
            key = Key(row["subject"], row["resource"], PATTERN, row["target"])
            return key, Grant(row["permission"], row["priority"], row["id"])
        resource = row["resource"]
        if resource == "registered_model" and row["target"] in self.catalogue.ids("prompt"):
            resource = "prompt"  # they are in one table
        name = self.catalogue.name_of(resource, row["target"])
        return Key(row["subject"], resource, NAME, name), Grant(row["permission"], None, row["target"])

    def _from_lists(self, wanted: dict[Key, Grant], unwanted: set[Key], everything: bool) -> dict[Key, Grant]:
        asked: set[tuple[str, str, str]] = {(key.subject, key.resource, key.form) for key in [*wanted, *unwanted]}
        if everything:
            asked |= {
                (subject, resource, form)
                for subject in self.subjects()
                for resource, its in RESOURCES.items()
                for form in (NAME, PATTERN)
                # Nobody has a grant on a name where there is no name.
                if (its.patterns if form == PATTERN else resource == "scorer" or self.catalogue.ids(resource))
            }
        order = sorted(asked)
        paths = [f"{self._base}/{segment(subject)}/{self._path(resource, form)}" for subject, resource, form in order]
        found: dict[Key, Grant] = {}
        for (subject, resource, form), rows in zip(order, self.reader.read(paths), strict=True):
            for row in rows:
                if form == PATTERN:
                    key = Key(subject, resource, PATTERN, row["regex"])
                    found[key] = Grant(row["permission"], row["priority"], int(row["id"]))
                elif self.kind == GROUP or resource == "scorer" or row.get("kind") == "user":
                    # A user's list says what holds for the user; what was granted to the user is of kind `user`.
                    target = self._target(resource, row)
                    key = Key(subject, resource, NAME, self.catalogue.name_of(resource, target))
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

    def _place(self, key: Key, before: Grant | None) -> str:
        base = f"{self._base}/{segment(key.subject)}/{self._path(key.resource, key.form)}"
        if key.form == PATTERN:
            return base
        # A thing that is gone is known by what grants call it alone.
        found = self._id(key) if before is None else before.handle
        if key.resource == "scorer":
            experiment, _, scorer = found.partition("/")
            return f"{base}/{segment(experiment)}/{segment(scorer)}"
        return f"{base}/{segment(found)}"

    def set(self, key: Key, grant: Grant, before: Grant | None) -> None:
        place = self._place(key, before)
        what = f"set {said(self.kind, key)} to {grant}"
        if key.form == PATTERN:
            body = {"regex": key.target, "priority": grant.priority, "permission": grant.permission}
            if before is None:
                self.api.request("POST", place, body, what=what)
            else:
                self.api.request("PATCH", f"{place}/{before.handle}", body, what=what)
            return
        body = {"permission": grant.permission}
        if before is None:
            try:
                self.api.request("POST", place, body, what=what)
                return
            except MlflowError as error:
                if not error.exists:
                    raise
        self.api.request("PATCH", place, body, what=what)

    def remove(self, key: Key, before: Grant) -> None:
        place = self._place(key, before)
        if key.form == PATTERN:
            place = f"{place}/{before.handle}"
        try:
            self.api.request("DELETE", place, what=f"take away {said(self.kind, key)}")
        except MlflowError as error:
            if not error.absent:
                raise


class BasicServer(Server):
    """MLflow's basic-auth. Its lists of users and roles hold all grants."""

    def __init__(self, reader: Reader, catalogue: Catalogue, kind: str) -> None:
        super().__init__(reader, catalogue, kind)
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
        return list(self._own_roles())

    def expand(self, wanted: dict[Key, Grant], unwanted: set[Key]) -> tuple[dict[Key, Grant], set[Key]]:
        """Write patterns out: a name wins over a pattern, and of two patterns the one of lower priority."""
        expanded = {key: grant for key, grant in wanted.items() if key.form == NAME or key.target == EVERY}
        expanded = {key: Grant(grant.permission) for key, grant in expanded.items()}
        patterns = [(key, its) for key, its in wanted.items() if key.form == PATTERN and key.target != EVERY]
        for key, grant in sorted(patterns, key=lambda each: (each[1].priority or 0, each[0])):
            if key.resource == "scorer":
                raise MlflowError(f"{said(self.kind, key)}: basic-auth has no patterns for scorers, name each")
            for name in self.catalogue.matching(key.resource, key.target):
                expanded.setdefault(Key(key.subject, key.resource, NAME, name), Grant(grant.permission))
        gone = {key for key in unwanted if key.form == NAME or key.target == EVERY}
        for key in unwanted - gone:
            names = self.catalogue.matching(key.resource, key.target)
            gone |= {Key(key.subject, key.resource, NAME, name) for name in names}
        return expanded, gone - set(expanded)

    def present(self, wanted: dict[Key, Grant], unwanted: set[Key], everything: bool) -> dict[Key, Grant]:
        del wanted, unwanted, everything  # one list holds all
        found = {}
        for subject, role in self._own_roles().items():
            for row in role.get("permissions") or []:
                # Of all kinds, also of those that nothing can be declared on, such as workspaces: MANAGE there is
                # MANAGE on everything, so that exclusive has to see it.
                if row["resource_pattern"] == "*":
                    key = Key(subject, row["resource_type"], PATTERN, EVERY)
                else:
                    key = Key(subject, row["resource_type"], NAME, self._name(row))
                found[key] = Grant(row["permission"], None, row["id"])
        return found

    def _name(self, row: dict[str, Any]) -> str:
        found = row["resource_pattern"]
        if row["resource_type"] not in RESOURCES:
            return found
        if row["resource_type"] == "scorer":
            experiment, _, scorer = found.partition("/")
            found = f"{experiment}/{unquote(scorer)}"
        return self.catalogue.name_of(row["resource_type"], found)

    def _pattern(self, key: Key) -> str:
        if key.form == PATTERN:
            return "*"
        found = self._id(key)
        if key.resource == "scorer":
            experiment, _, scorer = found.partition("/")
            return f"{experiment}/{quote(scorer, safe='')}"
        return found

    def set(self, key: Key, grant: Grant, before: Grant | None) -> None:
        what = f"set {said(self.kind, key)} to {grant}"
        if before is not None:
            body = {"role_permission_id": before.handle, "permission": grant.permission}
            self.api.request("PATCH", f"{V3}/roles/permissions/update", body, what=what)
        elif self.kind == GROUP:
            if key.subject not in self._own_roles():
                self._roles = None  # it was made meanwhile
            role = self._own_roles()[key.subject]
            body = {
                "role_id": role["id"],
                "resource_type": key.resource,
                "resource_pattern": self._pattern(key),
                "permission": grant.permission,
            }
            self.api.request("POST", f"{V3}/roles/permissions/add", body, what=what)
        else:
            body = {
                "username": key.subject,
                "resource_type": key.resource,
                "resource_id": self._pattern(key),
                "permission": grant.permission,
            }
            self.api.request("POST", f"{V3}/users/permissions/grant", body, what=what)

    def remove(self, key: Key, before: Grant) -> None:
        body = {"role_permission_id": before.handle}
        try:
            self.api.request("DELETE", f"{V3}/roles/permissions/remove", body, what=f"take away {said(self.kind, key)}")
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


class Outcome:
    """What was changed, or would be, as a person would say it."""

    def __init__(self) -> None:
        self.changes: list[str] = []
        self.kept: list[str] = []

    def note(self, thing: str, before: Any, after: Any) -> None:
        """Note one change; None is what is not there."""
        self.changes.append(f"{thing}: {'none' if before is None else before} -> {'none' if after is None else after}")

    def result(self) -> dict[str, Any]:
        """Give what a module returns."""
        result: dict[str, Any] = {"changed": bool(self.changes), "changes": self.changes}
        if self.changes:
            result["diff"] = [{"prepared": "".join(f"{each}\n" for each in self.changes)}]
        return result


def server(reader: Reader, catalogue: Catalogue, kind: str) -> Server:
    """Give the server's grants by its plugin."""
    return (OidcServer if reader.api.plugin == "oidc" else BasicServer)(reader, catalogue, kind)


def is_personal(catalogue: Catalogue, kind: str, key: Key, grant: Grant) -> bool:
    """Whether a grant may be what somebody has for having made the thing.

    Neither plugin keeps who made a thing: the maker's grant is a row like any other. So a user's MANAGE on a name
    counts as the maker's, but for what was made as declared.
    """
    if kind != USER or key.form != NAME or key.resource not in RESOURCES or grant.permission != "MANAGE":
        return False
    return not (key.resource in ("experiment", "registered_model") and catalogue.was_made(key.resource, key.target))


class Plan(NamedTuple):
    """What is to be changed of the grants of one kind of subject.

    :param removals: what is to go, and what it is
    :param settings: what is to be, and what it is before
    """

    removals: list[tuple[Key, Grant]]
    settings: list[tuple[Key, Grant, Grant | None]]
    kept: list[str]


def plan(its: Server, entries: list[dict[str, Any]], *, exclusive: bool, subjects_to_come: Iterable[str] = ()) -> Plan:
    """Find out what is to be changed, and see that it can be.

    :param exclusive: take away what is not declared, but the makers' MANAGE
    :param subjects_to_come: users or groups that are not there yet, and will be
    :raises MlflowError: what is declared cannot be
    """
    kind = its.kind
    wanted, unwanted = declared(kind, entries, its.api.plugin)
    if not wanted and not unwanted and not exclusive:
        return Plan([], [], [])
    there = set(its.subjects())
    unknown = (
        {key.subject for key in wanted} - there - {folded(kind, each, its.api.plugin) for each in subjects_to_come}
    )
    if unknown:
        raise MlflowError(f"MLflow has no {kind} {listed(unknown)}: there are {listed(there)}")
    its.catalogue.check(kind, wanted)
    wanted, unwanted = its.expand(wanted, unwanted)
    present = its.present(
        {key: grant for key, grant in wanted.items() if key.subject in there},
        {key for key in unwanted if key.subject in there},
        exclusive,
    )
    surplus = {key for key in unwanted if key in present}
    kept = []
    if exclusive:
        # The account that asks has what it has for having made what is declared.
        me = its.api.whoami()["name"] if kind == USER else None
        for key in present.keys() - wanted.keys() - surplus:
            if key.subject == me:
                continue
            if is_personal(its.catalogue, kind, key, present[key]):
                kept.append(f"{said(kind, key)}: {present[key]}")
            else:
                surplus.add(key)
    settings = [
        (key, grant, present.get(key))
        for key, grant in sorted(wanted.items(), key=lambda each: each[0])
        if key not in present or not present[key].same(grant)
    ]
    return Plan([(key, present[key]) for key in sorted(surplus)], settings, sorted(kept))


def carry_out(its: Server, planned: Plan, outcome: Outcome, check_mode: bool) -> None:
    """Do what was planned. What is taken away goes first, so that nobody has more for a moment than before or after."""
    outcome.kept += planned.kept
    for key, before in planned.removals:
        outcome.note(said(its.kind, key), before, None)
        if not check_mode:
            its.remove(key, before)
    for key, grant, present in planned.settings:
        outcome.note(said(its.kind, key), present, grant)
        if not check_mode:
            its.set(key, grant, present)


def ensure_groups(
    api: MlflowApi,
    groups: list[dict[str, Any]],
    *,
    exclusive: bool,
    check_mode: bool,
    outcome: Outcome,
    users_to_come: Iterable[str] = (),
) -> None:
    """Make groups that are not there, and with basic-auth their members what is declared.

    :param groups: each a C(name), and perhaps C(members)
    :param exclusive: take out members that are not declared, of groups for which some are
    """
    if api.plugin == "oidc":
        _ensure_oidc_groups(api, groups, check_mode, outcome)
    else:
        _ensure_roles(api, groups, exclusive, check_mode, outcome, users_to_come=set(users_to_come))


def _ensure_oidc_groups(api: MlflowApi, groups: list[dict[str, Any]], check_mode: bool, outcome: Outcome) -> None:
    for group in groups:
        if group.get("members") is not None:
            raise MlflowError(
                f"group {group['name']} has members: with the login by oidc they are the identity provider's to say"
            )
    if not groups:
        return
    base = f"{V2}/permissions/groups"
    there = set(api.request("GET", base, what="list the groups"))
    for name in [each["name"] for each in groups if each["name"] not in there]:
        outcome.changes.append(f"group {name}: created")
        if not check_mode:
            api.request("POST", base, {"group_name": name}, what=f"make the group {name}")


def _ensure_roles(
    api: MlflowApi,
    groups: list[dict[str, Any]],
    exclusive: bool,
    check_mode: bool,
    outcome: Outcome,
    *,
    users_to_come: set[str],
) -> None:
    if not groups:
        return
    there = roles(api)
    everybody = users(api)
    names = {each["username"] for each in everybody}
    for group in groups:
        unknown = set(group.get("members") or []) - names - users_to_come
        if unknown:
            raise MlflowError(
                f"MLflow has no user {listed(unknown)}, of whom group {group['name']} is to consist: "
                f"there are {listed(names)}"
            )
    for group in groups:
        name = group["name"]
        role = there.get(name)
        if role is None:
            outcome.changes.append(f"group {name}: created")
            if not check_mode:
                body = {"name": name, "workspace": WORKSPACE}
                role = api.request("POST", f"{V3}/roles/create", body, what=f"make the group {name}")["role"]
        if group.get("members") is None:
            continue
        members = {
            each["username"]
            for each in everybody
            if role is not None and any(its["id"] == role["id"] for its in each.get("roles") or [])
        }
        for user in sorted(set(group["members"]) - members):
            outcome.changes.append(f"group {name}: {user} added")
            if not check_mode:
                body = {"username": user, "role_id": role["id"]}
                api.request("POST", f"{V3}/roles/assign", body, what=f"add {user} to the group {name}")
        for user in sorted(members - set(group["members"])) if exclusive else []:
            outcome.changes.append(f"group {name}: {user} removed")
            if not check_mode:
                body = {"username": user, "role_id": role["id"]}
                api.request("DELETE", f"{V3}/roles/unassign", body, what=f"take {user} out of the group {name}")


def ensure_admins(
    api: MlflowApi,
    wanted: list[str],
    *,
    exclusive: bool,
    check_mode: bool,
    outcome: Outcome,
    users_to_come: Iterable[str] = (),
) -> None:
    """Make administrators of basic-auth as declared. All is checked before the first change.

    :param exclusive: take the right from those who are not declared, but from the account that asks
    :raises MlflowError: it cannot be
    """
    if api.plugin == "oidc":
        raise MlflowError(
            "admins is given: with the login by oidc, whoever is in the provider's group of administrators is one"
        )
    there = {each["username"]: bool(each.get("is_admin")) for each in users(api)}
    unknown = set(wanted) - set(there) - set(users_to_come)
    if unknown:
        raise MlflowError(f"MLflow has no user {listed(unknown)}, who is to administer it: there are {listed(there)}")
    me = api.whoami()["name"]
    surplus = sorted(name for name, admin in there.items() if admin and name not in wanted and name != me)
    if exclusive and surplus and not set(wanted) - {me}:
        raise MlflowError(
            f"exclusive would take the right to administer from {listed(surplus)}, and leave nobody but {me}: "
            "name one who is to keep it"
        )
    for name in sorted(set(wanted)):
        if not there.get(name, False):
            outcome.changes.append(f"user {name}: administrator: no -> yes")
            _set_admin(api, name, True, check_mode)
    for name in surplus if exclusive else []:
        outcome.changes.append(f"user {name}: administrator: yes -> no")
        _set_admin(api, name, False, check_mode)


def _set_admin(api: MlflowApi, name: str, admin: bool, check_mode: bool) -> None:
    if not check_mode:
        what = f"{'give' if admin else 'take'} {name} the right to administer"
        api.request("PATCH", f"{V2}/users/update-admin", {"username": name, "is_admin": admin}, what=what)


# --- what both modules share ------------------------------------------------------------------------------------------


def permission_options(kind: str) -> dict[str, Any]:
    """Give the options of a list of grants."""
    return {
        "type": "list",
        "elements": "dict",
        "default": [],
        "mutually_exclusive": [("name", "pattern")],
        "required_one_of": [("name", "pattern")],
        "required_if": [("state", "present", ["permission"])],
        "options": {
            kind: {"type": "str", "required": True},
            "resource": {"type": "str", "choices": list(RESOURCES), "default": "experiment"},
            "name": {"type": "str"},
            "pattern": {"type": "str"},
            "permission": {"type": "str"},
            "priority": {"type": "int"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
    }


def tagged_options(**own: Any) -> dict[str, Any]:
    """Give the options of a list of experiments or models.

    :param own: those that one kind of thing has alone
    """
    return {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "name": {"type": "str", "required": True},
            "description": {"type": "str"},
            "tags": {"type": "dict", "default": {}},
            **own,
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
    }


TO_COME = {
    "type": "dict",
    "default": {},
    "options": {
        name: {"type": "list", "elements": "str", "default": []}
        for name in ("users", "experiments", "registered_models")
    },
}


def work_on(params: dict[str, Any], check_mode: bool, kind: str) -> Callable[[MlflowApi], dict[str, Any]]:
    """Give the work of mlflow_permission or mlflow_group_permission, for C(mlflow.run)."""

    def work(api: MlflowApi) -> dict[str, Any]:
        api.require_admin()
        outcome = Outcome()
        coming = params["to_come"] or {} if check_mode else {}
        to_come = {
            "experiment": coming.get("experiments") or [],
            "registered_model": coming.get("registered_models") or [],
        }
        reader = Reader(api, params)
        catalogue = Catalogue(reader, to_come)
        users_to_come = list(coming.get("users") or [])
        groups = params.get("groups") or []
        names = [each["name"] for each in groups]
        its = server(reader, catalogue, kind)
        planned = plan(
            its,
            params["permissions"],
            exclusive=params["exclusive"],
            subjects_to_come=names if kind == GROUP else users_to_come,
        )
        how = {"exclusive": params["exclusive"], "check_mode": check_mode, "users_to_come": users_to_come}
        if params.get("admins") is not None:
            ensure_admins(api, params["admins"], outcome=outcome, **how)
        ensure_groups(api, groups, outcome=outcome, **how)
        carry_out(its, planned, outcome, check_mode)
        return {**outcome.result(), **({"kept": outcome.kept} if kind == USER else {})}

    return work


def all_of_it(kind: str, params: dict[str, Any]) -> dict[str, Any]:
    """Give the result where nothing is there yet."""
    changes = [f"group {each['name']}: created" for each in params.get("groups") or []]
    for entry in params["permissions"]:
        if entry.get("state") != "absent":
            form = PATTERN if entry.get("pattern") is not None else NAME
            key = Key(entry[kind], entry["resource"], form, entry[form])
            changes.append(f"{said(kind, key)}: none -> {entry['permission']}")
    return {"changes": changes, **({"kept": []} if kind == USER else {})}
