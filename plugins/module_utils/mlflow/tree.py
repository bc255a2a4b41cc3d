# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The variables C(mlflow_access) and C(mlflow_clients): what they may hold, and making MLflow as they say.

Ansible checks the parts of the variables and the fields of clients by the options below. Users, groups and service
accounts stand by their names, which options cannot say, so each is checked here by options of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.mlops.mlflow.plugins.module_utils.mlflow import access, tokens
from ansible_collections.mlops.mlflow.plugins.module_utils.mlflow.accounts import (
    SERVICE_ACCOUNTS,
    USERS_OPTION,
    Accounts,
)
from ansible_collections.mlops.mlflow.plugins.module_utils.mlflow.client import Changes, MlflowApi, listed
from ansible_collections.mlops.mlflow.plugins.module_utils.mlflow.declared import known_as, mapping, memberships
from ansible_collections.mlops.mlflow.plugins.module_utils.mlflow.things import (
    EXPERIMENTS,
    REGISTERED_MODELS,
    RESOURCES,
    Catalogue,
    Experiments,
    Models,
)
from ansible_collections.mlops.mlflow.plugins.module_utils.mlflow.tokens import Wanted

NAMES = {f"{kind}s": kind for kind in RESOURCES}
"""Fields of permissions by name, and their resources."""
PATTERNS = {f"{kind}_patterns": kind for kind, resource in RESOURCES.items() if resource.patterns}
"""Fields of permissions by pattern."""
FROM_THE_CLUSTER = "k8s:"
"""What the groups begin with that mlflow-oidc-auth makes of namespaces."""

_GRANTS = {name: {"type": "dict"} for name in (*NAMES, *PATTERNS)}


def _some(options: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: options["options"][name] for name in names}


ENTRIES: dict[str, dict[str, Any]] = {
    "experiments": EXPERIMENTS["options"],
    "registered_models": REGISTERED_MODELS["options"],
    "groups": {"members": {"type": "list", "elements": "str"}, **_GRANTS},
    "users": {**_some(USERS_OPTION, "display_name", "admin", "active"), **_GRANTS},
    "service_accounts": {
        **_some(SERVICE_ACCOUNTS, "display_name", "admin", "active", "source", "subject"),
        "tokens": {
            "type": "list",
            "elements": "dict",
            "options": {name: its for name, its in tokens.TOKENS["options"].items() if name != "user"},
        },
        **_GRANTS,
    },
}
"""Options of one entry of each part."""

ACCESS: dict[str, Any] = {
    "type": "dict",
    "default": {},
    "options": {
        "experiments": {"type": "list", "elements": "raw", "default": []},
        "registered_models": {"type": "list", "elements": "raw", "default": []},
        "groups": {"type": "dict", "default": {}},
        "users": {"type": "dict", "default": {}},
        "service_accounts": {"type": "dict", "default": {}},
    },
}
CLIENTS: dict[str, Any] = {**tokens.CLIENTS, "default": []}


# --- checks that need no server ---------------------------------------------------------------------------------------


@dataclass
class Surroundings:
    """What the variables are checked against.

    Attributes:
        auth: the value of mlflow_auth.
        people: the variable keycloak_users, where MLflow's users are those; None with another identity provider.
        groups: names of the realm's groups; None with another identity provider.
        admin_group: whose members administer MLflow.
        claim: by which MLflow names users.
        namespaces: those whose pods MLflow lets in; None where that is not known.
        exclusive: whether what is not declared is revoked.
    """

    auth: str = "oidc"
    people: list[dict[str, Any]] | None = None
    groups: list[str] | None = None
    admin_group: str = ""
    claim: str = "preferred_username"
    namespaces: list[str] | None = None
    exclusive: bool = False

    @property
    def plugin(self) -> str:
        """What authenticates users and programs in MLflow."""
        return "oidc" if self.auth == "oidc" else "basic"

    @property
    def names(self) -> list[str] | None:
        """The users' names in MLflow."""
        return None if self.people is None else [known_as(each, self.claim).lower() for each in self.people]


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


class _Checks:
    """Finds what is wrong with the variables, a sentence each."""

    def __init__(self, tree: dict[str, Any], clients: list[dict[str, Any]], around: Surroundings) -> None:
        self.tree = tree
        self.clients = clients
        self.around = around
        self.auth = around.auth
        self.found: list[str] = []

    def add(self, where: str, value: Any, rule: str) -> None:
        self.found.append(f"{where} is {value!r}: {rule}" if value is not None else f"{where} is not there: {rule}")

    def run(self) -> list[str]:
        for part in ("experiments", "registered_models"):
            self._check_things(part)
        for part in ("groups", "users", "service_accounts"):
            self._check_subjects(part)
        self._check_accounts_of_clients()
        self._check_passwords()
        self._check_administrators()
        return self.found

    def _check_entry(self, where: str, given: dict[str, Any], options: dict[str, Any]) -> None:
        """Check fields and their types as Ansible does."""
        unknown = [name for name in given if name not in options]
        self.found += [f"{where} has '{name}': one of {', '.join(options)}" for name in unknown]
        if not unknown:
            self.found += [f"{where}: {each}" for each in _validated(given, options).error_messages]

    def _check_things(self, part: str) -> None:
        where = f"mlflow_access.{part}"
        names = []
        for each in self.tree.get(part) or []:
            if isinstance(each, str):
                names.append(each)
            elif not isinstance(each, dict) or not isinstance(each.get("name"), str) or not each["name"]:
                self.add(where, each, "a name, or a mapping with a name")
            else:
                names.append(each["name"])
                self._check_entry(f"{where}: {each['name']}", each, ENTRIES[part])
        for name in sorted({name for name in names if names.count(name) > 1}):
            self.found.append(f"{where} has {name} more than once: each of them once")

    def _check_subjects(self, part: str) -> None:
        subjects = self.tree.get(part) or {}
        options = ENTRIES[part]
        for name, given in subjects.items():
            where = f"mlflow_access.{part}.{name}"
            entry = {} if given is None else given
            if not isinstance(entry, dict):
                self.add(where, entry, f"a mapping of {', '.join(options)}")
                continue
            before = len(self.found)
            self._check_name(part, str(name))
            for each in _GRANTS:
                self._check_grants(f"{where}.{each}", entry.get(each), each in PATTERNS)
            if part == "groups":
                self._check_members(where, str(name), entry.get("members"))
            if part == "service_accounts":
                self._check_tokens(where, entry.get("tokens"))
            if part == "users" and self.auth == "oidc" and entry.get("admin") is not None:
                self.found.append(
                    f"{where}.admin is {entry['admin']}: with mlflow_auth oidc, who is in mlflow_admin_group is one"
                )
            if len(self.found) == before:
                self._check_entry(where, entry, options)
        if part != "groups":
            self._check_unique(part, subjects)

    def _check_unique(self, part: str, subjects: dict[str, Any]) -> None:
        def folded(name: Any) -> str:
            return str(name).lower() if self.auth == "oidc" else str(name)

        names = [folded(name) for name in subjects]
        again = {name for name in names if names.count(name) > 1}
        if again:
            self.found.append(
                f"mlflow_access.{part} has {listed(again)} more than once, in upper and lower case: once each"
            )
        both = set(names) & set(map(folded, mapping(self.tree, "service_accounts"))) if part == "users" else set()
        if both:
            self.found.append(f"mlflow_access has {listed(both)} as a user and as a service account: one of the two")

    def _check_name(self, part: str, name: str) -> None:
        around, users = self.around, self.around.names
        if part == "groups" and self._is_of_the_cluster(name):
            if around.namespaces is not None and name.removeprefix(FROM_THE_CLUSTER) not in around.namespaces:
                self.found.append(
                    f"mlflow_access.groups has '{name}', but MLflow accepts no tokens of that namespace: one of "
                    f"{listed(around.namespaces)}; others are declared in mlflow_kubernetes_namespaces"
                )
        elif part == "groups" and around.groups is not None and name not in around.groups:
            self.found.append(
                f"mlflow_access.groups has '{name}', which is no group of the realm: one of "
                f"{listed(around.groups)}; others are declared in keycloak_groups"
            )
        if part == "users" and users is not None and name not in users:
            self.found.append(
                f"mlflow_access.users has '{name}', who is not in the realm: one of {listed(users)}; "
                "others are declared in keycloak_users"
            )
        if part == "users" and self.auth == "oauth2_proxy" and name != name.lower():
            self.found.append(
                f"mlflow_access.users has '{name}': with mlflow_auth oauth2_proxy in lower case, as the names "
                "of users are in MLflow"
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
            self.add(f"{where}.members", members, "a list of names of users")
            return
        if self.auth == "oidc" and self.around.people is None:
            self.found.append(
                f"{where}.members is {members!r}: who is in a group is your identity provider's to say, leave it out"
            )
            return
        known = self.around.names
        if self.auth != "oidc":
            known = [str(each) for part in ("users", "service_accounts") for each in mapping(self.tree, part)]
            declared_in = "mlflow_access.users"
        else:
            declared_in = "keycloak_users"
        for each in members:
            if known is not None and each not in known:
                self.found.append(
                    f"{where}.members has '{each}', who is not declared: one of {listed(known)}; "
                    f"others are declared in {declared_in}"
                )

    def _check_grants(self, where: str, grants: Any, pattern: bool) -> None:
        if grants is None:
            return
        if not isinstance(grants, dict):
            self.add(where, grants, f"permissions by {'pattern' if pattern else 'name'}, such as {{churn: EDIT}}")
            return
        allowed = access.PERMISSIONS[self.around.plugin]
        for name, given in grants.items():
            permission = given.get("permission") if isinstance(given, dict) else given
            if isinstance(given, dict) and (not pattern or set(given) - {"permission", "priority"}):
                self.add(f"{where}: {name}", given, "a permission" + (", perhaps with a priority" if pattern else ""))
            elif permission not in allowed:
                self.found.append(f"{where}: {name} has the permission '{permission}': one of {', '.join(allowed)}")
            elif isinstance(given, dict) and not isinstance(given.get("priority", 0), int):
                self.add(f"{where}: {name}.priority", given["priority"], "a number, of which the lowest applies")
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
            self.add(where, tokens, "a list of tokens, each with a name and a secret")
            return
        for each in tokens:
            secret = each.get("secret") if isinstance(each, dict) else None
            named = isinstance(secret, dict) and all(_is_name(secret.get(part)) for part in ("namespace", "name"))
            if not isinstance(each, dict) or not _is_name(each.get("name")):
                self.add(where, each, "a name, a secret with namespace and name, and perhaps lifetime_days")
            elif not named and (secret is not None or each.get("state") != "absent"):
                self.add(f"{where}: {each['name']}.secret", secret, "a namespace and a name")
            else:
                options = ENTRIES["service_accounts"]["tokens"]["options"]
                its = f"{where}: {each['name']}"
                if secret is not None:
                    self._check_entry(f"{its}.secret", secret, options["secret"]["options"])
                self._check_entry(its, each, options)

    def _check_accounts_of_clients(self) -> None:
        users = {str(name).lower() for name in mapping(self.tree, "users")}
        for each in self.clients:
            user = each["user"] or each["name"]
            if user.lower() in users:
                self.found.append(
                    f"mlflow_clients: {each['name']} is for the account {user}, who is a user in "
                    "mlflow_access.users: another user"
                )

    def _check_passwords(self) -> None:
        """An account of basic-auth has one password, which a token and a client would renew over one another."""
        if self.auth == "oidc":
            return
        accounts = mapping(self.tree, "service_accounts")
        with_tokens = {str(name) for name, its in accounts.items() if isinstance(its, dict) and its.get("tokens")}
        of_clients = {each["user"] or each["name"] for each in self.clients if each["state"] != "absent"}
        self.found += [
            f"mlflow_access.service_accounts.{name}.tokens and mlflow_clients are both for the account {name}: "
            f"with mlflow_auth {self.auth} it has one password, so one of the two"
            for name in sorted(with_tokens & of_clients)
        ]

    def _check_administrators(self) -> None:
        around = self.around
        if not around.exclusive or around.people is None:
            return
        groups = memberships(self.tree)
        for user in around.people:
            own = [*(user.get("groups") or []), *groups.get(known_as(user, around.claim), [])]
            if _is_enabled(user) is not False and around.admin_group in own:
                return
        self.found.append(
            f"mlflow_access_exclusive is true, and no user of keycloak_users who may log in is in mlflow_admin_group, "
            f"'{around.admin_group}': it would leave MLflow without an administrator, so name one"
        )


def _is_enabled(user: dict[str, Any]) -> bool | None:
    """Whether a user of keycloak_users may log in; None where that is not declared."""
    return None if user.get("enabled") is None else boolean(user["enabled"], strict=False)


def _validated(given: dict[str, Any], options: dict[str, Any]) -> Any:
    return ArgumentSpecValidator(options).validate(given)


def problems(tree: dict[str, Any], clients: list[dict[str, Any]], around: Surroundings) -> list[str]:
    """Give what is wrong with the variables, a sentence each.

    Args:
        tree: the variable mlflow_access, as `ACCESS` makes it.
        clients: the variable mlflow_clients, as `CLIENTS` makes it.
        around: what they are checked against.
    """
    return _Checks(tree, clients, around).run()


# --- what is declared -------------------------------------------------------------------------------------------------


@dataclass
class Declaration:
    """What the variables declare, as the parts of MLflow take it.

    Attributes:
        users: as `Accounts.ensure` takes them, and so `service_accounts`.
        experiments: as `Experiments.run` takes them.
        models: as `Models.run` takes them.
    """

    users: list[dict[str, Any]]
    service_accounts: list[dict[str, Any]]
    experiments: list[dict[str, Any]]
    models: list[dict[str, Any]]
    clients: Wanted
    tokens: Wanted
    permissions: access.Permissions
    instance: str = "mlflow"
    former_instances: list[str] = field(default_factory=list)

    def sentences(self) -> list[str]:
        """Give what would be made where nothing is there yet."""
        users = [each for each in self.users if each.get("create") is not False]
        made = [
            *(f"user {each['name']}: created" for each in users),
            *self.clients.sentences(),
            *(f"service account {each['name']}: created" for each in self.service_accounts),
            *(f"experiment {each['name']}: created" for each in self.experiments if each["state"] == "present"),
            *(f"registered model {each['name']}: created" for each in self.models if each["state"] == "present"),
        ]
        return [*made, *access.sentences(self.permissions), *self.tokens.sentences()]


def _things(tree: dict[str, Any], part: str) -> list[dict[str, Any]]:
    """Give experiments or models, of which a name alone may be given."""
    entries = [{"name": each} if isinstance(each, str) else each for each in tree.get(part) or []]
    return [_validated(each, ENTRIES[part]).validated_parameters for each in entries]


def _subjects(tree: dict[str, Any], part: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, entry in mapping(tree, part).items():
        yield str(name), _validated(entry or {}, ENTRIES[part]).validated_parameters


def _grants(subject: str, name: str, entry: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for each, kind in NAMES.items():
        for thing, permission in (entry.get(each) or {}).items():
            yield {subject: name, "resource": kind, "name": str(thing), "permission": permission}
    for each, kind in PATTERNS.items():
        for pattern, given in (entry.get(each) or {}).items():
            its = given if isinstance(given, dict) else {"permission": given}
            yield {subject: name, "resource": kind, "pattern": str(pattern), **its}


def _follow(users: list[dict[str, Any]], around: Surroundings, tree: dict[str, Any]) -> None:
    """Let accounts that MLflow has be as active as Keycloak's, and not administer where Keycloak's do not.

    MLflow learns both at a login and a renewal only, and a token lives for long after the last one. The right itself is
    given at a login: here it is only taken, from users whose groups are declared.
    """
    declared = {each["name"].lower(): each for each in users}
    members = memberships(tree)
    for user in around.people or []:
        name, enabled = known_as(user, around.claim), _is_enabled(user)
        if not name:
            continue
        follows: dict[str, Any] = {} if enabled is None else {"active": enabled}
        groups, own = user.get("groups"), members.get(name)
        are_declared = groups is not None or own is not None or around.exclusive
        if are_declared and around.admin_group and around.admin_group not in [*(groups or []), *(own or [])]:
            follows["admin"] = False
        if not follows:
            continue
        entry = declared.get(name.lower())
        if entry is None:
            users.append({"name": name, "active": None, "create": False, **follows})
            continue
        if enabled and entry.get("active") is not None:
            follows.pop("active")
        entry.update(follows)


def declaration(
    tree: dict[str, Any],
    clients: list[dict[str, Any]],
    around: Surroundings,
    *,
    users_secret: dict[str, str] | None = None,
    tracking_uri: str | None = None,
) -> Declaration:
    """Read the variables.

    Args:
        tree: the variable mlflow_access, in which there are no `problems`.
        clients: the variable mlflow_clients.
        around: what they are read for.
        users_secret: namespace and name of the Secret with first passwords of basic-auth.
        tracking_uri: the URL at which clients reach MLflow.

    Raises:
        MlflowError: a Secret is named that cannot be.
    """
    basic = around.plugin == "basic"
    parts = {part: dict(_subjects(tree, part)) for part in ("groups", "users", "service_accounts")}
    users = [{"name": name, **entry} for name, entry in parts["users"].items()]
    if basic and users_secret:
        for user in users:
            user["password_secret"] = {**users_secret, "key": user["name"]}
    if not basic:
        _follow(users, around, tree)
    own_tokens = []
    for name, entry in parts["service_accounts"].items():
        given = mapping(tree, "service_accounts")[name] or {}
        for token, as_given in zip(entry["tokens"] or [], given.get("tokens") or [], strict=True):
            # basic-auth's account has just been made, with a password that is kept nowhere: the tree gives it
            # another.
            take_over = token["take_over"] if "take_over" in as_given else basic
            own_tokens.append({**token, "user": name, "take_over": take_over})
    members = {name: entry["members"] if basic else None for name, entry in parts["groups"].items()}
    accounts = {**parts["users"], **parts["service_accounts"]}
    wanted = Declaration(
        users=users,
        service_accounts=[{"name": name, **entry} for name, entry in parts["service_accounts"].items()],
        experiments=_things(tree, "experiments"),
        models=_things(tree, "registered_models"),
        clients=tokens.wanted_clients(clients, tracking_uri, "mlflow_clients"),
        tokens=tokens.wanted_tokens(own_tokens, "mlflow_access"),
        permissions=access.Permissions(
            {
                access.GROUP: [each for n, its in parts["groups"].items() for each in _grants("group", n, its)],
                access.USER: [each for n, its in accounts.items() for each in _grants("user", n, its)],
            },
            [{"name": name, "members": its} for name, its in members.items()],
            sorted(name for name, its in accounts.items() if its["admin"]) if basic else None,
            {access.GROUP, access.USER} if around.exclusive else set(),
        ),
    )
    wanted.clients.exclusive = True
    wanted.tokens.exclusive = around.exclusive
    return wanted


# --- making it so -----------------------------------------------------------------------------------------------------


def converge(api: MlflowApi, wanted: Declaration, check_mode: bool) -> dict[str, Any]:
    """Apply what is declared to MLflow and to the Secrets of programs.

    All of it runs in check mode first, so that each error is found before the first change.

    Raises:
        MlflowError: what is declared cannot be, or MLflow refuses something.
        KubeError: the cluster cannot be used.
    """
    api.require_admin()
    api.remember()
    result = _go_through(api, wanted, Changes(check_mode=True))
    if result["changed"] and not check_mode:
        result = _go_through(api, wanted, Changes(check_mode=False))
    return result


def _go_through(api: MlflowApi, wanted: Declaration, changes: Changes) -> dict[str, Any]:
    accounts, catalogue = Accounts(api, changes), Catalogue(api)
    for each in wanted.users:
        accounts.ensure(each, service=False)
    accounts.send()
    # Before the service accounts: with basic-auth, it takes no account that is there and whose password it lacks.
    clients = tokens.ensure(accounts, wanted.clients, instance=wanted.instance)
    for each in wanted.service_accounts:
        accounts.ensure(each, service=True)
    accounts.send()
    Experiments(api, changes, catalogue).run(wanted.experiments)
    Models(api, changes, catalogue).run(wanted.models)
    kept = access.ensure(accounts, catalogue, wanted.permissions)
    issued = tokens.ensure(accounts, wanted.tokens, instance=wanted.instance, former=wanted.former_instances)
    return {**changes.result(), "kept": kept, "clients": clients, "tokens": issued}
