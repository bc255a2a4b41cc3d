# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Accounts of MLflow: of users, and of programs.

mlflow-oidc-auth keeps users (who log in at an identity provider), service accounts, and access tokens. MLflow's
basic-auth keeps accounts with a password each, and knows no difference between them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ansible_collections.mlops.mlflow.plugins.module_utils.credentials.generated import generate
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.client import KubeError, secret_option
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.secrets import SecretValues
from ansible_collections.mlops.mlflow.plugins.module_utils.mlflow.client import (
    Changes,
    MlflowApi,
    MlflowError,
    Writes,
    listed,
    segment,
)

USERS = "/api/2.0/mlflow/users"
INTERNAL = "internal"
PASSWORD_LENGTH = 40


def _account_options(**own: Any) -> dict[str, Any]:
    """Give the options of a list of accounts.

    Args:
        own: those that one kind of account has alone.
    """
    return {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "name": {"type": "str", "required": True},
            "display_name": {"type": "str"},
            "admin": {"type": "bool"},
            "active": {"type": "bool"},
            **own,
            "password_secret": secret_option("key"),
            "update_password": {
                "type": "str",
                "choices": ["on_create", "always"],
                "default": "on_create",
                "no_log": False,
            },
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
    }


USERS_OPTION = _account_options(create={"type": "bool", "default": True})
SERVICE_ACCOUNTS = _account_options(source={"type": "str"}, subject={"type": "str"})


@dataclass
class Account:
    """An account as the server has it.

    Args:
        service: whether it is a program's; None where the server does not tell.
        source: how a service account gets in: C(internal) is by access tokens, else the id of a provider.
    """

    name: str
    admin: bool
    service: bool | None = None
    active: bool = True
    display_name: str = ""
    source: str = ""

    def shown(self) -> dict[str, Any]:
        """Give what may be shown of it."""
        known = {"name": self.name, "admin": self.admin, "active": self.active}
        if self.service is not None:
            known.update(service_account=self.service, display_name=self.display_name)
        return {**known, "source": self.source} if self.source else known


class Accounts:
    """The accounts of one server. Changes are noted at once, and made by C(send).

    Args:
        changes: where changes are noted, and whether they are made.
    """

    def __init__(self, api: MlflowApi, changes: Changes) -> None:
        self.api = api
        self.changes = changes
        self._passwords = SecretValues(api.store.read, changes.check_mode)
        self.created: set[str] = set()  # by this call
        self._writes = Writes(api)
        self._all: dict[str, Account] | None = None

    def key(self, name: str) -> str:
        """Give the name as the server tells accounts apart: mlflow-oidc-auth folds upper case."""
        return name.lower() if self.api.plugin == "oidc" else name

    def all(self) -> dict[str, Account]:
        """Give all accounts by name, of one request."""
        if self._all is None:
            if self.api.plugin == "oidc":
                rows = self.api.request("GET", f"{USERS}/details", what="list the accounts")
                found = [
                    Account(
                        row["username"],
                        bool(row["is_admin"]),
                        bool(row["is_service_account"]),
                        bool(row["active"]),
                        row["display_name"] or "",
                        (row.get("service_account_source") or INTERNAL) if row["is_service_account"] else "",
                    )
                    for row in rows
                ]
            else:
                rows = self.api.request("GET", f"{USERS}/list", what="list the accounts")["users"]
                found = [Account(row["username"], bool(row["is_admin"])) for row in rows]
            self._all = {account.name: account for account in found}
        return self._all

    def find(self, name: str) -> Account | None:
        """Give an account by its name."""
        return self.all().get(self.key(name))

    def send(self) -> None:
        """Make the changes that were noted.

        Raises:
            MlflowError: MLflow refuses one.
        """
        self._writes.send()

    # What is declared

    def ensure(self, want: dict[str, Any], service: bool) -> None:
        """Make, change or remove an account.

        Args:
            want: C(name), C(state), C(display_name), C(admin), C(active); of service accounts C(source) and C(subject);
                of basic-auth C(password_secret) and C(update_password).
            service: whether a service account is declared.

        Raises:
            MlflowError: MLflow refuses, or what is declared can't be.
        """
        have = self.find(want["name"])
        thing = f"{'service account' if service else 'user'} {want['name']}"
        if have and have.service is not None and have.service != service:
            there = "a service account" if have.service else "a user's account"
            option = "service_accounts" if have.service else "users"
            raise MlflowError(f"{thing}: there is {there} of that name, which belongs into {option}")
        if want.get("state") == "absent":
            if have:
                self.remove(have, thing)
            return
        if have is None and want.get("create") is False:
            return
        if self.api.plugin == "basic":
            self._ensure_basic(want, have, thing, service)
        elif have is None:
            self._create_oidc(want, thing, service)
        else:
            self._update_oidc(want, have, thing)

    def remove(self, have: Account, thing: str) -> None:
        """Remove an account, with its tokens and what was granted to it."""
        if have.name == self.api.whoami()["name"]:
            raise MlflowError(f"{thing}: it is the account that MLflow is called with, and cannot remove itself")
        if self.changes.note(thing, "removed", before=have.shown()):
            path = USERS if self.api.plugin == "oidc" else f"{USERS}/delete"
            body = {"username": have.name}
            self._writes.add(have.name, lambda api: api.request("DELETE", path, body, what=f"remove {thing}"))
        self.all().pop(have.name, None)

    def _note_created(self, want: dict[str, Any], thing: str, account: Account) -> bool:
        self.all()[account.name] = account
        self.created.add(account.name)
        return self.changes.note(thing, "created", after=account.shown())

    def _create_oidc(self, want: dict[str, Any], thing: str, service: bool) -> None:
        account = Account(
            self.key(want["name"]),
            bool(want.get("admin")),
            service,
            want.get("active") is not False,
            want.get("display_name") or want["name"],
            (want.get("source") or INTERNAL) if service else "",
        )
        if not self._note_created(want, thing, account):
            return
        body = {
            "username": want["name"],
            "display_name": account.display_name,
            "is_admin": account.admin,
            "is_service_account": service,
        }
        if service:
            body["service_account_source"] = account.source
            if want.get("subject"):
                body["subject"] = want["subject"]
        self._writes.add(account.name, lambda api: api.request("POST", USERS, body, what=f"create {thing}"))
        if not account.active:
            self._set_active(account, thing)

    def _set_active(self, account: Account, thing: str) -> None:
        path, body = f"{USERS}/{segment(account.name)}/active", {"active": account.active}
        what = f"{'activate' if account.active else 'deactivate'} {thing}"
        self._writes.add(account.name, lambda api: api.request("PATCH", path, body, what=what))

    def _update_oidc(self, want: dict[str, Any], have: Account, thing: str) -> None:
        before: dict[str, Any]
        admin, active, source = want.get("admin"), want.get("active"), want.get("source")
        if admin is not None and admin != have.admin:
            before, have.admin = {"admin": have.admin}, admin
            if self.changes.note(
                thing, "made an administrator" if admin else "no administrator any more", before, {"admin": admin}
            ):
                body = {
                    "username": have.name,
                    "display_name": have.display_name,
                    "is_admin": admin,
                    "is_service_account": have.service,
                }
                self._writes.add(have.name, lambda api: api.request("POST", USERS, body, what=f"change {thing}"))
        if active is not None and active != have.active:
            before, have.active = {"active": have.active}, active
            if self.changes.note(thing, "activated" if active else "deactivated", before, {"active": active}):
                self._set_active(have, thing)
        subject = want.get("subject")
        if source is not None and (source != have.source or (subject and not self._is_bound(have, source, subject))):
            before, have.source = {"source": have.source}, source
            after = {"source": source, **({"subject": subject} if subject else {})}
            if self.changes.note(thing, f"signs in by {source}", before, after):
                path, what = f"{USERS}/{segment(have.name)}/service-account-source", f"change how {thing} signs in"
                self._writes.add(have.name, lambda api: api.request("PUT", path, after, what=what))

    def _is_bound(self, have: Account, source: str, subject: str) -> bool:
        bound = self.api.request("GET", f"{USERS}/{segment(have.name)}/identities", what=f"look at {have.name}")
        return {"provider_id": source, "subject": subject} in bound

    def _ensure_basic(self, want: dict[str, Any], have: Account | None, thing: str, service: bool) -> None:
        if want.get("active") is False:
            raise MlflowError(f"{thing}: MLflow's basic-auth cannot deactivate an account, so use state absent")
        if want.get("source") not in (None, INTERNAL) or want.get("subject"):
            raise MlflowError(
                f"{thing}: MLflow's basic-auth knows no identity providers, so leave out source and subject"
            )
        admin = want.get("admin")
        if have is None:
            password = self._password(want, thing)
            if not (password or service or self.changes.check_mode):
                raise MlflowError(f"{thing}: it is new, so password_secret must name a Secret with its first password")
            account = Account(want["name"], bool(admin))
            if self._note_created(want, thing, account):
                # A program's password, kept nowhere: its token is issued by mlflow_token or mlflow_client.
                first = password or generate("password", PASSWORD_LENGTH)
                body = {"username": want["name"], "password": first.decode()}
                path = f"{USERS}/create"
                self._writes.add(account.name, lambda api: api.request("POST", path, body, what=f"create {thing}"))
                if account.admin:
                    self._set_admin(account, thing)
            return
        if admin is not None and admin != have.admin:
            before, have.admin = {"admin": have.admin}, admin
            if self.changes.note(
                thing, "made an administrator" if admin else "no administrator any more", before, {"admin": admin}
            ):
                self._set_admin(have, thing)
        password = self._password(want, thing) if want.get("update_password") == "always" else None
        if password and not self.api.accepts(have.name, password.decode()) and self.changes.note(thing, "password set"):
            self._writes.add(have.name, lambda api: _set_password(api, have.name, password))

    def _password(self, want: dict[str, Any], thing: str) -> bytes | None:
        """Give a declared password; None where none is declared or, in check mode, it is to come."""
        reference = want.get("password_secret")
        if not reference:
            return None
        place = (reference["namespace"], reference["name"], reference.get("key") or want["name"])
        try:
            value = self._passwords.text(*place, "password")
        except KubeError as error:
            raise MlflowError(f"{thing}: {error}") from None
        if value is None:
            return None
        self.api.secrets.append(value)
        return value.encode()

    def _set_admin(self, account: Account, thing: str) -> None:
        path, body = f"{USERS}/update-admin", {"username": account.name, "is_admin": account.admin}
        self._writes.add(account.name, lambda api: api.request("PATCH", path, body, what=f"change {thing}"))

    def ensure_admins(self, wanted: list[str], *, exclusive: bool) -> None:
        """Apply the declared administrators of basic-auth. All is checked before the first change.

        Args:
            exclusive: take the right from those who are not declared, but from the account that asks.

        Raises:
            MlflowError: it cannot be.
        """
        if self.api.plugin == "oidc":
            raise MlflowError(
                "admins is given: with the login by oidc, administrators are who is in the provider's group of them"
            )
        there = self.all()
        unknown = set(wanted) - set(there)
        if unknown:
            raise MlflowError(
                f"MLflow has no user {listed(unknown)}, who is to administer it: there are {listed(there)}"
            )
        me = self.api.whoami()["name"]
        surplus = sorted(each.name for each in there.values() if each.admin and each.name not in {*wanted, me})
        if exclusive and surplus and not set(wanted) - {me}:
            raise MlflowError(
                f"exclusive would take the right to administer from {listed(surplus)}, and leave it only to {me}: "
                "name one who is to keep it"
            )
        for name in [*sorted(set(wanted)), *(surplus if exclusive else [])]:
            account, admin = there[name], name in wanted
            if account.admin == admin:
                continue
            account.admin = admin
            if self.changes.note(f"user {name}", f"administrator: {'no -> yes' if admin else 'yes -> no'}"):
                self._set_admin(account, f"user {name}")

    def set_password(self, name: str, password: bytes) -> None:
        """Set a password of basic-auth at once."""
        _set_password(self.api, name, password)


def _set_password(api: MlflowApi, name: str, password: bytes) -> None:
    body = {"username": name, "password": password.decode()}
    api.request("PATCH", f"{USERS}/update-password", body, what=f"set the password of {name}")


def check_names(option: str, names: list[str]) -> None:
    """Fail for a name that is declared more than once.

    Raises:
        MlflowError: which.
    """
    seen: set[str] = set()
    for name in names:
        if name.lower() in seen:
            raise MlflowError(f"{option} declares {name} more than once")
        seen.add(name.lower())
