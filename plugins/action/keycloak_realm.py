# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action plugin of keycloak_realm: passwords go between Secrets and Keycloak within this process."""

from __future__ import annotations

from collections import Counter
from typing import Any, ClassVar

from ansible_collections.mlops.mlflow.plugins.module_utils.changes import Changes
from ansible_collections.mlops.mlflow.plugins.module_utils.credentials.generated import PREVIOUS
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.client import (
    Api,
    ApiError,
    KubeError,
    auth_argument_spec,
    secret_option,
    service_option,
    unmask,
)
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.portforward import ServiceConnection, Unreachable
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.secrets import NotThereYet, Secrets, SecretValues
from ansible_collections.mlops.mlflow.plugins.module_utils.keycloak.client import (
    Admin,
    KeycloakError,
    Reconciler,
    Refused,
)
from ansible_collections.mlops.mlflow.plugins.plugin_utils.local_action import LocalAction

MASTER = "master"  # the realm of Keycloak's own administrators
SMTP_SECRETS = ("password", "authTokenClientSecret")


class ActionModule(LocalAction):
    """Ensures a realm."""

    ARGUMENTS: ClassVar[dict[str, Any]] = {
        **auth_argument_spec(),
        "service": {**service_option(), "required": True},
        "path": {"type": "str", "default": ""},
        "admin_secret": {
            **secret_option(username_key="username", password_key="password"),  # noqa: S106 - names of keys
            "required": True,
        },
        "realm": {"type": "str", "required": True},
        "settings": {"type": "dict", "default": {}},
        "master_settings": {"type": "dict", "default": {}},
        "groups": {"type": "list", "elements": "str", "default": []},
        "clients": {
            "type": "list",
            "elements": "dict",
            "default": [],
            "options": {
                "client_id": {"type": "str", "required": True},
                "name": {"type": "str"},
                "secret": secret_option(key="client-secret"),
                "base_url": {"type": "str"},
                "redirect_uris": {"type": "list", "elements": "str"},
                "web_origins": {"type": "list", "elements": "str"},
                "post_logout_redirect_uris": {"type": "list", "elements": "str"},
                "attributes": {"type": "dict", "default": {}},
                "mappers": {
                    "type": "list",
                    "elements": "dict",
                    "default": [],
                    "options": {
                        "name": {"type": "str", "required": True},
                        "type": {"type": "str", "required": True},
                        "config": {"type": "dict", "default": {}},
                    },
                },
                "pkce": {"type": "str", "choices": ["S256", "plain", "none"], "default": "S256"},
                "standard_flow": {"type": "bool", "default": True},
                "implicit_flow": {"type": "bool", "default": False},
                "direct_access_grants": {"type": "bool", "default": False},
                "service_accounts": {"type": "bool", "default": False},
            },
        },
        "users": {
            "type": "list",
            "elements": "dict",
            "default": [],
            "options": {
                "name": {"type": "str", "required": True},
                "email": {"type": "str"},
                "first_name": {"type": "str"},
                "last_name": {"type": "str"},
                "enabled": {"type": "bool"},
                "groups": {"type": "list", "elements": "str"},
                "password_secret": secret_option("key"),
                "temporary": {"type": "bool", "default": True},
            },
        },
        "exclusive": {"type": "bool", "default": False},
        "timeout": {"type": "int", "default": 60},
    }

    def act(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Compare, and change what differs."""
        check_mode = bool(self._task.check_mode)
        try:
            check(options)
            return self._ensure(options, check_mode)
        except (NotThereYet, Unreachable) as error:
            if check_mode and (isinstance(error, NotThereYet) or error.absent or error.transient):
                changes = sentences(options)
                return {
                    "changed": True,
                    "realm": options["realm"],
                    "changes": changes,
                    "msg": f"Keycloak does not run yet: {error}",
                    "diff": {"before": "", "after": "\n".join(changes) + "\n"},
                }
            return {"failed": True, "msg": f"Keycloak cannot be reached: {error}"}
        except KeycloakError as error:
            return {"failed": True, "msg": str(error)}
        except KubeError as error:
            return {"failed": True, "msg": f"The cluster cannot be used: {error}"}

    def _ensure(self, options: dict[str, Any], check_mode: bool) -> dict[str, Any]:
        service, api = options["service"], self.connect(options)
        reader = SecretReader(Secrets(api).read, check_mode)
        where = {"namespace": service["namespace"], "service": service["name"], "port": service["port"]}
        connection = ServiceConnection(api, **where)
        # A client of the API server is for one thread.
        admin = Admin(connection, another=lambda: ServiceConnection(Api(api.settings), **where), base=options["path"])
        reconciler = Reconciler(admin, options["realm"], reader.for_reconciler, check_mode)
        try:
            log_in(admin, reader, {**options, "timeout": 0} if check_mode else options, reconciler.changes)
            reconciler.run(declared(options))
            if options["master_settings"]:
                master = Reconciler(admin, MASTER, reader.for_reconciler, check_mode)
                master.changes = reconciler.changes
                master.run({"settings": options["master_settings"]})
        finally:
            connection.close()
            unmask(self, *reader.values)
        return {"realm": options["realm"], "requests": admin.requests, **reconciler.changes.result()}


class SecretReader(SecretValues):
    """Reads what clients, users and the administrator name."""

    def text(self, namespace: str, name: str, key: str, purpose: str) -> str | None:
        """Give a value; None in check mode where it is still to come.

        Raises:
            KeycloakError: it is not there, empty or no text.
        """
        try:
            return super().text(namespace, name, key, purpose)
        except ApiError:
            raise
        except KubeError as error:
            raise KeycloakError(str(error)) from None

    def text_if_there(self, namespace: str, name: str, key: str) -> str | None:
        """Give a value of a Secret; None where it has none."""
        try:
            return self.text(namespace, name, key, key)
        except KeycloakError:
            return None

    def for_reconciler(self, reference: dict[str, Any], purpose: str) -> str | None:
        """Give the value that a suboption of a client or user names."""
        return self.text(reference["namespace"], reference["name"], reference["key"], purpose)


def check(params: dict[str, Any]) -> None:
    """Find what contradicts itself before Keycloak is asked.

    Raises:
        KeycloakError: in one sentence, what and where.
    """
    for name in SMTP_SECRETS:
        smtp = params["settings"].get("smtpServer")
        if isinstance(smtp, dict) and smtp.get(name):
            raise KeycloakError(
                f"settings.smtpServer.{name} is a secret and is not taken from a variable: "
                "leave it out, and set it in the admin console, where it is kept"
            )
    for name in ("id", "realm"):
        if name in params["settings"]:
            raise KeycloakError(f"settings.{name} cannot be set: a realm is known by it")
    for option, field in (("clients", "client_id"), ("users", "name")):
        names = Counter(each[field].lower() if option == "users" else each[field] for each in params[option])
        repeated = [name for name, count in names.items() if count > 1]
        if repeated:
            raise KeycloakError(f"{option} declares {repeated[0]} more than once")
    for name in params["groups"]:
        if not name or "/" in name:
            raise KeycloakError(f"groups has '{name}': a name that is not empty and has no slash")
    for user in params["users"]:
        unknown = set(user["groups"] or []) - set(params["groups"])
        if unknown:
            raise KeycloakError(
                f"users gives {user['name']} the group '{min(unknown)}', which groups does not declare: "
                f"it declares {', '.join(params['groups']) or 'none'}"
            )


def declared(params: dict[str, Any]) -> dict[str, Any]:
    """Give what is declared as the reconciler takes it."""
    users = []
    for user in params["users"]:
        secret = user["password_secret"]
        users.append({**user, "password_secret": secret and {**secret, "key": secret["key"] or user["name"]}})
    return {name: params[name] for name in ("settings", "groups", "clients", "exclusive")} | {"users": users}


def log_in(admin: Admin, reader: SecretReader, params: dict[str, Any], changes: Changes) -> None:
    """Log the administrator in; where the Secret was rotated, with the former password, and then set the new one.

    Raises:
        NotThereYet: in check mode, where the Secret is to come.
        KeycloakError, Unreachable: Keycloak does not take the account, or is not reached.
    """
    account = params["admin_secret"]
    where = f"{account['namespace']}/{account['name']}"
    username, password = (
        reader.text(account["namespace"], account["name"], account[f"{part}_key"], f"administrator's {part}")
        for part in ("username", "password")
    )
    if username is None or password is None:
        raise NotThereYet(f"Secret {where} is not there")
    reader.values.discard(username)  # a name like "admin" would blot out half of the messages
    refused = refusal(admin, username, password, params["timeout"])
    if refused is None:
        return
    former = reader.text_if_there(account["namespace"], account["name"], f"{account['password_key']}{PREVIOUS}")
    if former and refusal(admin, username, former) is None:
        if changes.note(f"administrator {username}", "password changed"):
            admin.change_password(username, password)
            admin.login(username, password)
        return
    raise KeycloakError(
        f"Keycloak does not accept the administrator {username} of Secret {where} ({refused.reason}): it takes the "
        "password from there only at its first start on an empty database, so write the one it has into the "
        "Secret, or make another administrator by 'kc.sh bootstrap-admin user', as role keycloak's README shows "
        "(after many wrong passwords Keycloak refuses the right one too, for some minutes)"
    )


def refusal(admin: Admin, username: str, password: str, timeout: float = 0) -> Refused | None:
    """Log an administrator in; return the refusal where Keycloak does not take the password."""
    try:
        admin.login(username, password, timeout)
    except Refused as refused:
        if refused.status not in (400, 401):
            raise
        return refused
    return None


def sentences(params: dict[str, Any]) -> list[str]:
    """Name what would be made where there is nothing yet."""
    return [
        f"realm {params['realm']}: created",
        *(f"group {name}: created" for name in params["groups"]),
        *(f"client {client['client_id']}: created" for client in params["clients"]),
        *(f"user {user['name']}: created" for user in params["users"]),
    ]
