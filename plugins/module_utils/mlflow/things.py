# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What permissions are for: the catalogue of what MLflow has, and declared experiments and models."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import Any, NamedTuple

from ansible_collections.mlops.mlflow.plugins.module_utils.mlflow.client import (
    SEARCH,
    Changes,
    MlflowApi,
    MlflowError,
    Writes,
    listed,
)

V2, V3 = "/api/2.0/mlflow", "/api/3.0/mlflow"
MODELS = f"{V2}/registered-models"
DELETED = " (deleted)"  # behind the name of a deleted experiment
PAGE = 1000
CREATED_BY = "mlops.mlflow.created_by"
"""Tag of the experiments and models that a declaration made: no user has MANAGE there for having made them."""
ANSIBLE = "ansible"
IS_PROMPT = "mlflow.prompt.is_prompt"
NOTE = "mlflow.note.content"  # the tag that holds an experiment's description


class Resource(NamedTuple):
    """A kind of thing that grants are given on.

    Args:
        words: what a message calls one.
        path: the part of mlflow-oidc-auth's paths for grants by name.
        patterns: the one for grants by pattern; empty where there are none.
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


# --- options ----------------------------------------------------------------------------------------------------------


def tagged_options(**own: Any) -> dict[str, Any]:
    """Give the options of a list of experiments or models.

    Args:
        own: those that one kind of thing has alone.
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


EXPERIMENTS = tagged_options(artifact_location={"type": "str"})
REGISTERED_MODELS = tagged_options(
    aliases={"type": "dict", "default": {}}, delete_versions={"type": "bool", "default": False}
)

# --- what there is ----------------------------------------------------------------------------------------------------


def paged(ask: Callable[[dict[str, Any]], Any], key: str, most: float = math.inf) -> list[dict[str, Any]]:
    """Give a list that MLflow pages.

    Args:
        ask: gives the answer to C(max_results) and C(page_token).
        key: where the answer has the list.
        most: how many are read.
    """
    found: list[dict[str, Any]] = []
    page: dict[str, Any] = {}
    while len(found) < most:
        answer = ask({"max_results": int(min(PAGE, most - len(found))), **page})
        found += answer.get(key) or []
        if not answer.get("next_page_token"):
            break
        page = {"page_token": answer["next_page_token"]}
    return found


def experiments(api: MlflowApi) -> list[dict[str, Any]]:
    """Give all experiments, deleted ones too."""
    what = "list the experiments"
    return paged(lambda page: api.request("POST", SEARCH, {"view_type": "ALL", **page}, what=what), "experiments")


def registered_models(api: MlflowApi, prompts: bool = False) -> list[dict[str, Any]]:
    """Give all registered models, or all prompts: MLflow keeps both in one registry."""
    query = {"filter": f"tags.`{IS_PROMPT}` = 'true'"} if prompts else {}
    path, what = f"{MODELS}/search", "list the registered models"
    found = paged(lambda page: api.request("GET", path, query={**query, **page}, what=what), "registered_models")
    return [each for each in found if (tags(each).get(IS_PROMPT) == "true") == prompts]


def tags(thing: dict[str, Any]) -> dict[str, str]:
    """Give the tags of an experiment or a model by their keys."""
    return {each["key"]: each.get("value", "") for each in thing.get("tags") or []}


def tags_of(each: dict[str, Any], note: str = "") -> dict[str, str]:
    """Give the tags that a thing is to have, as MLflow keeps them.

    Args:
        note: the tag that holds the description, if one does.
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


def check_names(words: str, wanted: list[dict[str, Any]]) -> None:
    """See that each thing is declared once.

    Raises:
        MlflowError: one is declared more than once.
    """
    names = [each["name"] for each in wanted]
    again = {name for name in names if names.count(name) > 1}
    if again:
        raise MlflowError(f"{words} {listed(again)} is declared more than once: leave one")


class Catalogue:
    """The things there are, by the names users know and by what grants call them. Each kind is read once.

    What is made or deleted by the same call is entered here, in check mode too.
    """

    def __init__(self, api: MlflowApi) -> None:
        self._api = api
        self._names: dict[str, dict[str, str]] = {}  # resource -> id -> name
        self._by_name: dict[str, dict[str, str]] = {}  # resource -> name -> id
        self._scorers: dict[str, str | None] = {}  # name -> id
        self._entered: dict[str, dict[str, str | None]] = {}  # resource -> id -> name, or None of what was deleted
        self._declared: dict[str, set[str]] = {}  # resource -> names of those that a declaration made

    def add(self, resource: str, name: str, found: str) -> None:
        """Enter a thing.

        Args:
            found: what grants call it; anything in check mode.
        """
        self._enter(resource, found, name)

    def drop(self, resource: str, found: str) -> None:
        """Take a thing out."""
        self._enter(resource, found, None)

    def _enter(self, resource: str, found: str, name: str | None) -> None:
        self._entered.setdefault(resource, {})[found] = name
        self._by_name.pop(resource, None)
        self._names.pop(resource, None)

    def ids(self, resource: str) -> dict[str, str]:
        """Give the names of a kind of thing by what grants call them."""
        if resource in self._names:
            return self._names[resource]
        made: set[str] = set()
        if resource == "experiment":
            found = experiments(self._api)
            # A name is taken by the living one; a deleted one is listed with its id too.
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
        names = {**self._names[resource], **self._entered.get(resource, {})}
        self._names[resource] = {found: name for found, name in names.items() if name is not None}
        self._declared[resource] = made
        return self._names[resource]

    def _other(self, resource: str) -> dict[str, str]:
        path, field, id_field, name_field = CATALOGUES[resource]
        found = self._api.find(path, what=f"list the {RESOURCES[resource].words}s") or {}
        # mlflow-oidc-auth names a gateway's things in its grants, and basic-auth has their ids.
        which = name_field if self._api.plugin == "oidc" else id_field
        items = found.get(field) or []
        return {str(each[which]): str(each[name_field]) for each in items if each.get(which) and each.get(name_field)}

    def was_declared(self, resource: str, name: str) -> bool:
        """Whether a declaration made a thing, by mlflow_experiment or mlflow_registered_model."""
        self.ids(resource)
        return name in self._declared[resource]

    def id_of(self, resource: str, name: str) -> str | None:
        """Give what grants call a thing, and None where there is none of this name."""
        if resource == "scorer":
            # Kept for the threads that write, where nothing may be read.
            if name not in self._scorers:
                self._scorers[name] = self._scorer_id(name)
            return self._scorers[name]
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
            experiment, _unused, scorer = found.partition("/")
            return f"{self.ids('experiment').get(experiment, experiment)}/{scorer}"
        return self.ids(resource).get(found, found)

    def matching(self, resource: str, pattern: str) -> list[str]:
        """Give the names that a pattern matches, from the beginning of the name as mlflow-oidc-auth does."""
        found = [its for its in self.ids(resource).values() if not its.endswith(DELETED)]
        return sorted(its for its in found if re.match(pattern, its))

    def check(self, kind: str, named: Iterable[tuple[str, str]]) -> None:
        """See that what is named is there.

        Args:
            kind: who is to have permissions on it, user or group.
            named: resources and names.

        Raises:
            MlflowError: something is not.
        """
        unknown: dict[str, set[str]] = {}
        for resource, name in named:
            if self.id_of(resource, name) is None:
                unknown.setdefault(resource, set()).add(name)
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


# --- declared ---------------------------------------------------------------------------------------------------------


class Experiments:
    """Applies declared experiments.

    Args:
        changes: where changes are noted, and whether they are made.
        catalogue: learns of them.
    """

    def __init__(self, api: MlflowApi, changes: Changes, catalogue: Catalogue) -> None:
        self._api = api
        self._changes = changes
        self._catalogue = catalogue
        self._writes = Writes(api)
        self.ids: dict[str, str] = {}

    def run(self, wanted: list[dict[str, Any]]) -> None:
        """Ensure them. Everything is checked before the first change.

        Raises:
            MlflowError: something is declared that cannot be.
        """
        if not wanted:
            return
        check_names("experiment", wanted)
        there = {each["name"]: each for each in experiments(self._api)}
        for each in wanted:
            found = there.get(each["name"])
            place = each["artifact_location"]
            if found and place and each["state"] == "present" and found["artifact_location"] != place:
                raise MlflowError(
                    f"experiment {each['name']} has the artifact_location '{place}', and its files are in "
                    f"'{found['artifact_location']}': that cannot be changed"
                )
        for each in wanted:
            found = there.get(each["name"])
            if each["state"] == "absent":
                self._remove(found)
            elif found is None:
                self._make(each)
            else:
                self._change(each, found)
        self._writes.send()

    def _post(self, name: str, path: str, body: dict[str, Any], what: str) -> None:
        self._writes.add(name, lambda api: api.request("POST", f"{V2}/experiments/{path}", body, what=what))

    def _remove(self, found: dict[str, Any] | None) -> None:
        if found is None or found["lifecycle_stage"] == "deleted":
            return
        name, body = found["name"], {"experiment_id": found["experiment_id"]}
        self._catalogue.drop("experiment", found["experiment_id"])
        if self._changes.note(f"experiment {name}", "deleted"):
            self._post(name, "delete", body, f"delete the experiment {name}")

    def _make(self, each: dict[str, Any]) -> None:
        name = each["name"]
        wanted = tags_of(each, NOTE) | {CREATED_BY: ANSIBLE}
        body = {"name": name, "tags": [{"key": key, "value": value} for key, value in wanted.items()]}
        if each["artifact_location"]:
            body["artifact_location"] = each["artifact_location"]
        if not self._changes.note(f"experiment {name}", "created"):
            self._catalogue.add("experiment", name, f"the new {name}")
            return

        def make(api: MlflowApi) -> None:
            made = api.request("POST", f"{V2}/experiments/create", body, what=f"make the experiment {name}")
            self.ids[name] = made["experiment_id"]
            self._catalogue.add("experiment", name, made["experiment_id"])

        self._writes.add(name, make)

    def _change(self, each: dict[str, Any], found: dict[str, Any]) -> None:
        name, number = each["name"], found["experiment_id"]
        self.ids[name] = number
        if found["lifecycle_stage"] == "deleted":
            self._catalogue.add("experiment", name, number)
            if self._changes.note(f"experiment {name}", "restored"):
                self._post(name, "restore", {"experiment_id": number}, f"restore the experiment {name}")
        for key, before, after in tag_changes(tags_of(each, NOTE), tags(found)):
            thing = "description" if key == NOTE else f"tag {key}"
            if self._changes.turn(f"experiment {name}: {thing}", before, after):
                body = {"experiment_id": number, "key": key, "value": after}
                self._post(name, "set-experiment-tag", body, f"set the {thing} of the experiment {name}")


class Models:
    """Applies declared registered models.

    Args:
        changes: where changes are noted, and whether they are made.
        catalogue: learns of them.
    """

    def __init__(self, api: MlflowApi, changes: Changes, catalogue: Catalogue) -> None:
        self._api = api
        self._changes = changes
        self._catalogue = catalogue
        self._writes = Writes(api)

    def run(self, wanted: list[dict[str, Any]]) -> None:
        """Ensure them. Everything is checked before the first change.

        Raises:
            MlflowError: something is declared that cannot be.
        """
        if not wanted:
            return
        check_names("registered model", wanted)
        there = {each["name"]: each for each in registered_models(self._api)}
        for each in wanted:
            self._check(each, there.get(each["name"]))
        for each in wanted:
            found = there.get(each["name"])
            if each["state"] == "absent":
                self._remove(found)
            else:
                self._ensure(each, found)
        self._writes.send()

    def _check(self, each: dict[str, Any], found: dict[str, Any] | None) -> None:
        name = each["name"]
        if each["state"] == "absent":
            if found and found.get("latest_versions") and not each["delete_versions"]:
                raise MlflowError(
                    f"registered model {name} has versions: delete_versions must be true for it to be deleted"
                )
            return
        have = _aliases(found)
        for alias, version in each["aliases"].items():
            if version is None or have.get(alias) == str(version):
                continue
            query = {"name": name, "version": str(version)}
            if found is None or self._api.find(f"{V2}/model-versions/get", query) is None:
                raise MlflowError(
                    f"registered model {name} has no version {version}, which is to have the alias {alias}"
                )

    def _write(self, method: str, path: str, body: dict[str, Any], what: str) -> None:
        self._writes.add(body["name"], lambda api: api.request(method, f"{MODELS}/{path}", body, what=what))

    def _remove(self, found: dict[str, Any] | None) -> None:
        if found is None:
            return
        name = found["name"]
        self._catalogue.drop("registered_model", name)
        if not self._changes.note(f"registered model {name}", "deleted"):
            return

        def remove(api: MlflowApi) -> None:
            try:
                what = f"delete the registered model {name}"
                api.request("DELETE", f"{MODELS}/delete", {"name": name}, what=what)
            except MlflowError as error:
                if not error.absent:
                    raise

        self._writes.add(name, remove)

    def _ensure(self, each: dict[str, Any], found: dict[str, Any] | None) -> None:
        name = each["name"]
        thing = f"registered model {name}"
        if found is None:
            self._make(each, thing)
            return
        before, after = found.get("description") or "", each["description"]
        if after not in (None, before) and self._changes.turn(f"{thing}: description", before or None, after):
            self._write("PATCH", "update", {"name": name, "description": after}, f"describe the {thing}")
        for key, before, after in tag_changes(tags_of(each), tags(found)):
            if self._changes.turn(f"{thing}: tag {key}", before, after):
                body = {"name": name, "key": key, "value": after}
                self._write("POST", "set-tag", body, f"set the tag {key} of the {thing}")
        have = _aliases(found)
        for alias, wish in each["aliases"].items():
            version = None if wish is None else str(wish)
            if have.get(alias) == version:
                continue
            if not self._changes.turn(f"{thing}: alias {alias}", have.get(alias), version):
                continue
            body = {"name": name, "alias": alias}
            if version is None:
                self._write("DELETE", "alias", body, f"take away the alias {alias} of the {thing}")
            else:
                self._write("POST", "alias", body | {"version": version}, f"set the alias {alias} of the {thing}")

    def _make(self, each: dict[str, Any], thing: str) -> None:
        name = each["name"]
        self._catalogue.add("registered_model", name, name)
        if not self._changes.note(thing, "created"):
            return
        wanted = tags_of(each) | {CREATED_BY: ANSIBLE}
        body = {
            "name": name,
            "description": each["description"] or "",
            "tags": [{"key": key, "value": value} for key, value in wanted.items()],
        }

        def make(api: MlflowApi) -> None:
            try:
                api.request("POST", f"{MODELS}/create", body, what=f"make the {thing}")
            except MlflowError:
                # mlflow-oidc-auth refuses its maker's permission where one is left of a former model of this name,
                # but the model is there by then.
                if api.find(f"{MODELS}/get", {"name": name}) is None:
                    raise

        self._writes.add(name, make)


def _aliases(found: dict[str, Any] | None) -> dict[str, str]:
    return {each["alias"]: str(each["version"]) for each in (found or {}).get("aliases") or []}
