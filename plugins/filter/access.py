# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters C(access_*), which read the variable C(mlflow_access)."""

from __future__ import annotations

import re
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean

RESOURCES = {
    "experiments": "experiment",
    "registered_models": "registered_model",
    "prompts": "prompt",
    "scorers": "scorer",
    "gateway_endpoints": "gateway_endpoint",
    "gateway_secrets": "gateway_secret",
    "gateway_model_definitions": "gateway_model_definition",
    "mcp_servers": "mcp_server",
}
# Of these, mlflow-oidc-auth has no patterns.
PATTERNS = {f"{resource[:-1]}_patterns": kind for resource, kind in RESOURCES.items() if kind != "mcp_server"}
GRANTS = (*RESOURCES, *PATTERNS)

FIELDS = {
    "experiments": ("name", "description", "tags", "artifact_location", "state"),
    "registered_models": ("name", "description", "tags", "aliases", "delete_versions", "state"),
    "groups": ("members", *GRANTS),
    "users": ("display_name", "admin", "active", *GRANTS),
    "service_accounts": ("display_name", "admin", "active", "source", "subject", "tokens", *GRANTS),
}
LIFE = ("lifetime_days", "renew_before_days", "grace_days", "take_over", "state")
TOKEN_FIELDS = ("name", "secret", *LIFE)
SECRET_FIELDS = ("namespace", "name", "username_key", "password_key")
CLIENT_FIELDS = ("name", "user", "namespaces", "secret_name", "tracking_uri", *LIFE)
PERMISSIONS = {
    "oidc": ("NO_PERMISSIONS", "READ", "USE", "EDIT", "MANAGE"),
    "basic": ("DENY", "READ", "USE", "EDIT", "MANAGE"),
}
SUBJECTS = {"groups": "group", "users": "user", "service_accounts": "user"}
FROM_THE_CLUSTER = "k8s:"  # groups that mlflow-oidc-auth makes of namespaces


def _plugin(auth: str) -> str:
    return "oidc" if auth == "oidc" else "basic"


def _listed(names: Any) -> str:
    return ", ".join(sorted(map(str, names))) or "none"


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _things(tree: dict[str, Any], part: str) -> list[dict[str, Any]]:
    """Give experiments or models, of which a name alone may be given."""
    return [{"name": each} if isinstance(each, str) else dict(each) for each in tree.get(part) or []]


class _Problems:
    def __init__(
        self,
        tree: Any,
        auth: str,
        people: list[str] | None,
        groups: list[str] | None,
        *,
        namespaces: list[str] | None,
        clients: Any,
    ) -> None:
        self.tree = tree
        self.auth = auth
        self.people = people
        self.groups = groups
        self.namespaces = namespaces
        self.clients = [] if clients is None else clients
        self.found: list[str] = []

    def say(self, where: str, value: Any, rule: str) -> None:
        self.found.append(f"{where} is {value!r}: {rule}" if value is not None else f"{where} is not there: {rule}")

    def check(self) -> list[str]:
        if not isinstance(self.tree, dict):
            self.say("mlflow_access", self.tree, f"a mapping of {', '.join(FIELDS)}")
            return self.found
        for part in self.tree:
            if part not in FIELDS:
                self.say("mlflow_access", part, f"its parts are {', '.join(FIELDS)}")
        for part in ("experiments", "registered_models"):
            self._check_things(part)
        for part in SUBJECTS:
            self._check_subjects(part)
        self._check_clients()
        self._check_passwords()
        return self.found

    def _check_passwords(self) -> None:
        """An account of basic-auth has one password, which a token and a client would renew over one another."""
        accounts = self.tree.get("service_accounts")
        if self.auth == "oidc" or not isinstance(accounts, dict) or not isinstance(self.clients, list):
            return
        tokens = {str(name) for name, its in accounts.items() if isinstance(its, dict) and its.get("tokens")}
        clients = {
            str(each.get("user") or each.get("name"))
            for each in self.clients
            if isinstance(each, dict) and each.get("state") != "absent"
        }
        for name in sorted(tokens & clients):
            self.found.append(
                f"mlflow_access.service_accounts.{name}.tokens and mlflow_clients are both for the account {name}: "
                f"with mlflow_auth {self.auth} it has one password, so one of the two"
            )

    def _check_things(self, part: str) -> None:
        things = self.tree.get(part) or []
        where = f"mlflow_access.{part}"
        if not isinstance(things, list):
            self.say(where, things, "a list of names, or of mappings with a name")
            return
        names = []
        for each in things:
            if isinstance(each, str):
                names.append(each)
            elif not isinstance(each, dict) or not isinstance(each.get("name"), str) or not each["name"]:
                self.say(where, each, "a name, or a mapping with a name")
            else:
                names.append(each["name"])
                self._check_fields(f"{where}: {each['name']}", each, FIELDS[part])
        for name in sorted({name for name in names if names.count(name) > 1}):
            self.found.append(f"{where} has {name} twice: each of them once")

    def _check_fields(self, where: str, given: dict[str, Any], fields: tuple[str, ...]) -> None:
        for field in given:
            if field not in fields:
                self.found.append(f"{where} has '{field}': one of {', '.join(fields)}")

    def _check_subjects(self, part: str) -> None:
        subjects = self.tree.get(part) or {}
        if not isinstance(subjects, dict):
            self.say(f"mlflow_access.{part}", subjects, "a mapping of names")
            return
        for name, given in subjects.items():
            where = f"mlflow_access.{part}.{name}"
            entry = {} if given is None else given
            if not isinstance(entry, dict):
                self.say(where, entry, f"a mapping of {', '.join(FIELDS[part])}")
                continue
            self._check_fields(where, entry, FIELDS[part])
            self._check_name(part, str(name))
            for field in GRANTS:
                self._check_grants(f"{where}.{field}", entry.get(field), field in PATTERNS)
            if part == "groups":
                self._check_members(where, str(name), entry.get("members"))
            if part == "service_accounts":
                self._check_tokens(where, entry.get("tokens"))
            if part == "users" and self.auth == "oidc" and entry.get("admin") is not None:
                self.found.append(
                    f"{where}.admin is {entry['admin']}: with mlflow_auth oidc, who is in mlflow_admin_group is one"
                )
        if part != "groups":
            self._check_twice(part, subjects)

    def _check_twice(self, part: str, subjects: dict[str, Any]) -> None:
        def folded(name: Any) -> str:
            return str(name).lower() if self.auth == "oidc" else str(name)

        names = [folded(name) for name in subjects]
        again = {name for name in names if names.count(name) > 1}
        if again:
            self.found.append(f"mlflow_access.{part} has {_listed(again)} twice, in upper and lower case: once each")
        accounts = self.tree.get("service_accounts")
        both = set(names) & set(map(folded, accounts)) if part == "users" and isinstance(accounts, dict) else set()
        if both:
            self.found.append(f"mlflow_access has {_listed(both)} as a user and as a service account: one of the two")

    def _check_name(self, part: str, name: str) -> None:
        if part == "groups" and self._is_of_the_cluster(name):
            if self.namespaces is not None and name.removeprefix(FROM_THE_CLUSTER) not in self.namespaces:
                self.found.append(
                    f"mlflow_access.groups has '{name}', whose namespace MLflow lets nobody in from: one of "
                    f"{_listed(self.namespaces)}; others are declared in mlflow_kubernetes_namespaces"
                )
        elif part == "groups" and self.groups is not None and name not in self.groups:
            self.found.append(
                f"mlflow_access.groups has '{name}', which is no group of the realm: one of "
                f"{_listed(self.groups)}; others are declared in keycloak_groups"
            )
        if part == "users" and self.people is not None and name not in self.people:
            self.found.append(
                f"mlflow_access.users has '{name}', who is not in the realm: one of {_listed(self.people)}; "
                "others are declared in keycloak_users"
            )
        if part == "users" and self.auth == "oauth2_proxy" and name != name.lower():
            self.found.append(
                f"mlflow_access.users has '{name}': with mlflow_auth oauth2_proxy in lower case, as whoever logs in is "
                "called in MLflow"
            )
        if part == "groups" and name.startswith("__user_"):
            self.found.append(
                f"mlflow_access.groups has '{name}': MLflow keeps names that begin with __user_ for itself"
            )

    def _is_of_the_cluster(self, name: str) -> bool:
        return self.auth == "oidc" and name.startswith(FROM_THE_CLUSTER)

    def _check_members(self, where: str, name: str, members: Any) -> None:
        if members is None:
            return
        if self._is_of_the_cluster(name):
            self.found.append(
                f"{where}.members is {members!r}: in {name} is who comes from the namespace, leave it out"
            )
            return
        if not isinstance(members, list) or not all(isinstance(each, str) for each in members):
            self.say(f"{where}.members", members, "a list of names of users")
            return
        if self.auth == "oidc" and self.people is None:
            self.found.append(
                f"{where}.members is {members!r}: who is in a group is your identity provider's to say, leave it out"
            )
            return
        known = self.people
        if self.auth != "oidc":
            parts = [self.tree.get(each) for each in ("users", "service_accounts")]
            known = [str(name) for each in parts if isinstance(each, dict) for name in each]
            declared_in = "mlflow_access.users"
        else:
            declared_in = "keycloak_users"
        for each in members:
            if known is not None and each not in known:
                self.found.append(
                    f"{where}.members has '{each}', whom nobody declared: one of {_listed(known)}; "
                    f"others are declared in {declared_in}"
                )

    def _check_grants(self, where: str, grants: Any, pattern: bool) -> None:
        if grants is None:
            return
        if not isinstance(grants, dict):
            self.say(where, grants, f"permissions by {'pattern' if pattern else 'name'}, such as {{churn: EDIT}}")
            return
        allowed = PERMISSIONS[_plugin(self.auth)]
        for name, given in grants.items():
            permission = given.get("permission") if isinstance(given, dict) else given
            if isinstance(given, dict) and (not pattern or set(given) - {"permission", "priority"}):
                self.say(f"{where}: {name}", given, "a permission" + (", perhaps with a priority" if pattern else ""))
            elif permission not in allowed:
                self.found.append(f"{where}: {name} has the permission '{permission}': one of {', '.join(allowed)}")
            elif isinstance(given, dict) and not isinstance(given.get("priority", 0), int):
                self.say(f"{where}: {name}.priority", given["priority"], "a number, of which the lowest wins")
            if pattern:
                try:
                    re.compile(str(name))
                except re.error as error:
                    self.found.append(f"{where} has the pattern '{name}': a regular expression ({error})")

    def _check_tokens(self, where: str, tokens: Any) -> None:
        where = f"{where}.tokens"
        if tokens is None:
            return
        if not isinstance(tokens, list):
            self.say(where, tokens, "a list of tokens, each with a name and a secret")
            return
        for each in tokens:
            secret = each.get("secret") if isinstance(each, dict) else None
            named = isinstance(secret, dict) and all(_is_name(secret.get(part)) for part in ("namespace", "name"))
            if not isinstance(each, dict) or not _is_name(each.get("name")):
                self.say(where, each, "a name, a secret with namespace and name, and perhaps lifetime_days")
            elif not named and (secret is not None or each.get("state") != "absent"):
                self.say(f"{where}: {each['name']}.secret", secret, "a namespace and a name")
            else:
                self._check_fields(f"{where}: {each['name']}", each, TOKEN_FIELDS)
                self._check_fields(f"{where}: {each['name']}.secret", secret or {}, SECRET_FIELDS)

    def _check_clients(self) -> None:
        where = "mlflow_clients"
        if not isinstance(self.clients, list):
            self.say(where, self.clients, "a list of clients, each with a name and namespaces")
            return
        users = self.tree.get("users")
        people = {str(name).lower() for name in users} if isinstance(users, dict) else set()
        for each in self.clients:
            if not isinstance(each, dict) or not _is_name(each.get("name")):
                self.say(where, each, "a name, namespaces, and perhaps user, secret_name or lifetime_days")
                continue
            its = f"{where}: {each['name']}"
            self._check_fields(its, each, CLIENT_FIELDS)
            namespaces = each.get("namespaces")
            listed = isinstance(namespaces, list) and namespaces and all(_is_name(name) for name in namespaces)
            if not listed and each.get("state") != "absent":
                self.say(f"{its}.namespaces", namespaces, "a list of namespaces, one or more")
            user = each.get("user") or each["name"]
            if not isinstance(user, str):
                self.say(f"{its}.user", user, "the name of a service account")
            elif user.lower() in people:
                self.found.append(
                    f"{its} is for the account {user}, who is a person in mlflow_access.users: another user"
                )


def access_problems(
    tree: Any,
    auth: str = "oidc",
    people: list[str] | None = None,
    groups: list[str] | None = None,
    *,
    namespaces: list[str] | None = None,
    clients: Any = None,
) -> list[str]:
    """Give what is wrong with the variable mlflow_access, a sentence each.

    :param tree: the variable
    :param auth: the value of mlflow_auth
    :param people: names of the identity provider's users, where they are declared too
    :param groups: names of its groups
    :param namespaces: those whose pods MLflow lets in
    :param clients: the variable mlflow_clients
    """
    return _Problems(tree, auth, people, groups, namespaces=namespaces, clients=clients).check()


def _grants(subject: str, name: str, entry: dict[str, Any]) -> list[dict[str, Any]]:
    found = []
    for field, kind in RESOURCES.items():
        for thing, permission in (entry.get(field) or {}).items():
            found.append({subject: name, "resource": kind, "name": str(thing), "permission": permission})
    for field, kind in PATTERNS.items():
        for pattern, given in (entry.get(field) or {}).items():
            its = given if isinstance(given, dict) else {"permission": given}
            found.append({subject: name, "resource": kind, "pattern": str(pattern), **its})
    return found


def _known_as(user: dict[str, Any], claim: str) -> str:
    """Give the name by which MLflow calls somebody of keycloak_users."""
    return str(user.get("email") or "").lower() if claim == "email" else str(user["name"])


def _follow(users: list[dict[str, Any]], people: list[dict[str, Any]], claim: str) -> None:
    """Let accounts that MLflow has be as active as Keycloak's: a token lives for long after the last login."""
    declared = {each["name"].lower(): each for each in users}
    for person in people:
        name = _known_as(person, claim)
        if person.get("enabled") is None or not name:
            continue
        enabled = boolean(person["enabled"], strict=False)
        if name not in declared:
            users.append({"name": name, "active": enabled, "create": False})
        elif not enabled or "active" not in declared[name]:
            declared[name]["active"] = enabled


def access_plan(
    tree: dict[str, Any] | None,
    auth: str = "oidc",
    namespace: str = "",
    users_secret: str = "",
    clients: list[dict[str, Any]] | None = None,
    *,
    people: list[dict[str, Any]] | None = None,
    claim: str = "preferred_username",
) -> dict[str, Any]:
    """Turn the variable mlflow_access into what the modules take.

    :param tree: the variable
    :param auth: the value of mlflow_auth
    :param namespace: where users_secret is
    :param users_secret: the Secret of basic-auth's first passwords
    :param clients: the variable mlflow_clients
    :param people: the variable keycloak_users, where MLflow's people are those
    :param claim: by which MLflow calls them
    """
    tree = tree or {}
    parts = {part: {str(k): v or {} for k, v in (tree.get(part) or {}).items()} for part in SUBJECTS}
    basic = _plugin(auth) == "basic"
    users = []
    for name, entry in parts["users"].items():
        fields = ("display_name", "active", "admin") if basic else ("display_name", "active")
        user = {"name": name, **{k: entry[k] for k in fields if k in entry}}
        if basic:
            user["password_secret"] = {"namespace": namespace, "name": users_secret, "key": name}
        users.append(user)
    to_come = {each["name"] for each in users} | set(access_programs(tree, clients))
    _follow(users, people or [], claim)
    fields = ("display_name", "admin", "active", "source", "subject")
    accounts = [{"name": n, **{k: e[k] for k in fields if k in e}} for n, e in parts["service_accounts"].items()]
    # basic-auth's account has just been made, with a password that nobody knows: it is the tree's to give another.
    known = {"take_over": True} if basic else {}
    tokens = [
        {"user": n, **known, **each} for n, e in parts["service_accounts"].items() for each in e.get("tokens") or []
    ]
    groups = []
    for name, entry in parts["groups"].items():
        members = {"members": entry["members"]} if basic and entry.get("members") is not None else {}
        groups.append({"name": name, **members})
    experiments, models = _things(tree, "experiments"), _things(tree, "registered_models")
    return {
        "experiments": experiments,
        "registered_models": models,
        # What only check mode needs: an earlier task makes it otherwise.
        "to_come": {
            "users": sorted(to_come),
            "experiments": [each["name"] for each in experiments],
            "registered_models": [each["name"] for each in models],
        },
        "users": users,
        "service_accounts": accounts,
        "tokens": tokens,
        "groups": groups,
        "admins": sorted(n for part in ("users", "service_accounts") for n, e in parts[part].items() if e.get("admin")),
        "group_permissions": [each for n, e in parts["groups"].items() for each in _grants("group", n, e)],
        "user_permissions": [
            each
            for part in ("users", "service_accounts")
            for n, e in parts[part].items()
            for each in _grants("user", n, e)
        ],
    }


def access_members(tree: Any) -> dict[str, list[str]]:
    """Give the groups of each user whom the variable mlflow_access names as a member."""
    groups = tree.get("groups") if isinstance(tree, dict) else None
    found: dict[str, list[str]] = {}
    for name, entry in groups.items() if isinstance(groups, dict) else ():
        members = entry.get("members") if isinstance(entry, dict) else None
        for user in members if isinstance(members, list) else ():
            found.setdefault(str(user), []).append(str(name))
    return found


def access_programs(tree: Any, clients: Any = None) -> list[str]:
    """Give the accounts of programs that the variables mlflow_access and mlflow_clients name."""
    accounts = tree.get("service_accounts") if isinstance(tree, dict) else None
    found = {str(name) for name in accounts} if isinstance(accounts, dict) else set()
    for client in clients if isinstance(clients, list) else ():
        if isinstance(client, dict):
            found |= {str(client[field]) for field in ("name", "user") if client.get(field)}
    return sorted(found)


def access_people(
    users: list[dict[str, Any]], tree: Any, namespace: str = "", secret: str = "", claim: str = "preferred_username"
) -> list[dict[str, Any]]:
    """Turn the variable keycloak_users into what keycloak_realm takes, with the groups that mlflow_access gives.

    :param users: the variable keycloak_users; what an entry leaves out, the module leaves alone
    :param tree: the variable mlflow_access
    :param namespace: where secret is
    :param secret: the Secret of first passwords
    :param claim: by which MLflow, and so the tree, calls people
    """
    members = access_members(tree)
    found = []
    for user in users:
        its = {field: value for field, value in user.items() if field != "temporary_password"}
        name = str(user["name"])
        known_as = _known_as(user, claim)
        if known_as in members:
            its["groups"] = list(dict.fromkeys([*(user.get("groups") or []), *members[known_as]]))
        temporary = boolean(user.get("temporary_password", True), strict=False)
        password = {"namespace": namespace, "name": secret, "key": name}
        found.append({**its, "temporary": temporary, "password_secret": password})
    return found


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Any]:
        """Give the filters of this file by name."""
        return {
            "access_problems": access_problems,
            "access_plan": access_plan,
            "access_members": access_members,
            "access_people": access_people,
            "access_programs": access_programs,
        }
