#!/usr/bin/python
# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module C(keycloak_realm)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: keycloak_realm
short_description: Settings, groups, clients and users of a Keycloak realm
version_added: 0.1.0
author: mlops.mlflow maintainers (@mlops-mlflow)
description:
  - Ensures a realm with settings, groups, confidential OpenID Connect clients and users, all in one call.
  - It owns what is declared and leaves alone what is not, such as settings, clients, mappers, users, groups and
    memberships that a person made in the admin console. Nothing is deleted but a declared user's membership in a
    declared group, and with O(exclusive) anybody else's.
  - Keycloak is reached by a port-forward through the API server to a ready pod of its Service, so that its admin API
    has to be exposed to nobody.
  - Passwords and client secrets are read by the module itself from Kubernetes Secrets. They pass through no variable,
    argument, log, difference or returned value.
notes:
  - The Keycloak modules of community.general and middleware_automation.keycloak take the administrator's password, the
    clients' secrets and the users' passwords as arguments, through the playbook's variables; this one takes the names
    of Secrets. They need about one call for each object, and some of them report changes at every run for clients,
    mappers and attributes.
  - Lists of scalars are compared in any order, and dictionaries by the keys that are declared.
  - A field that Keycloak takes but does not keep is an error, since it would be changed at every run.
  - The account that the kubeconfig names needs C(get) on the Service and the Secrets, C(list) on pods, and C(get) and
    C(create) on pods/portforward.
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - mlops.mlflow.api
attributes:
  check_mode:
    description: Can run in check mode. Where Keycloak does not run yet, all that is declared counts as to be made.
    support: full
  diff_mode:
    description: Shows the declared fields that differ. Secrets are named, never shown.
    support: full
options:
  service:
    description: The Service of Keycloak's HTTP port.
    type: dict
    required: true
    suboptions:
      namespace:
        description: Its namespace.
        type: str
        required: true
      name:
        description: Its name.
        type: str
        required: true
      port:
        description: Number or name of its port. Its first port, if not given.
        type: str
  admin_secret:
    description: The Secret that holds an administrator's account of the realm C(master).
    type: dict
    required: true
    suboptions:
      namespace:
        description: Its namespace.
        type: str
        required: true
      name:
        description: Its name.
        type: str
        required: true
      username_key:
        description: The key of the user name.
        type: str
        default: username
      password_key:
        description: The key of the password.
        type: str
        default: password
  realm:
    description: The realm's name.
    type: str
    required: true
  settings:
    description:
      - Attributes of the realm as the admin REST API names them, for example C(displayName), C(sslRequired),
        C(ssoSessionIdleTimeout) (seconds) or C(bruteForceProtected).
      - The password of C(smtpServer) is not taken, since it is a secret. One that is set in the admin console is kept.
    type: dict
    default: {}
  groups:
    description: Names of groups at the top level that must be there.
    type: list
    elements: str
    default: []
  clients:
    description: Confidential OpenID Connect clients that must be there.
    type: list
    elements: dict
    default: []
    suboptions:
      client_id:
        description: The client's id in the protocol.
        type: str
        required: true
      name:
        description: The name that people see.
        type: str
      secret:
        description: The Secret that holds the client's secret. Without it, Keycloak makes one at creation.
        type: dict
        suboptions:
          namespace:
            description: Its namespace.
            type: str
            required: true
          name:
            description: Its name.
            type: str
            required: true
          key:
            description: The key of the client secret.
            type: str
            default: client-secret
      base_url:
        description: Where Keycloak's pages link back to.
        type: str
      redirect_uris:
        description: The URIs to which a login may return.
        type: list
        elements: str
      web_origins:
        description: The origins from which a browser's scripts may call Keycloak.
        type: list
        elements: str
      post_logout_redirect_uris:
        description: The URIs to which a logout may return.
        type: list
        elements: str
      attributes:
        description: Further attributes. Values become strings, as Keycloak keeps them.
        type: dict
        default: {}
      mappers:
        description: Protocol mappers that must be there, by name.
        type: list
        elements: dict
        default: []
        suboptions:
          name:
            description: The mapper's name.
            type: str
            required: true
          type:
            description: The provider, for example V(oidc-group-membership-mapper) or V(oidc-audience-mapper).
            type: str
            required: true
          config:
            description: Its configuration. Values become strings, as Keycloak keeps them.
            type: dict
            default: {}
      pkce:
        description: The method of PKCE that a login must use. V(none) asks for none.
        type: str
        choices: [S256, plain, none]
        default: S256
      standard_flow:
        description: Whether people log in with a browser (authorization code).
        type: bool
        default: true
      implicit_flow:
        description: Whether the implicit flow is on.
        type: bool
        default: false
      direct_access_grants:
        description: Whether the client may exchange a user's password for a token.
        type: bool
        default: false
      service_accounts:
        description: Whether the client may get a token for itself (client credentials).
        type: bool
        default: false
  users:
    description: Users that must be there.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The user name. Keycloak keeps it in lower case.
        type: str
        required: true
      email:
        description: The e-mail address. A new user's is taken as verified.
        type: str
      first_name:
        description: The first name.
        type: str
      last_name:
        description: The last name. A user who lacks a name or an address is asked for it at login.
        type: str
      enabled:
        description: Whether the user may log in. A new one may.
        type: bool
      groups:
        description:
          - The groups among O(groups) of which the user is a member, exactly; other memberships are left alone.
          - If it is not given, all memberships are left alone, but with O(exclusive) those in O(groups).
        type: list
        elements: str
      password_secret:
        description:
          - The Secret that holds the first password. It is set when the user is created, or has neither a password nor
            a passkey, and never again.
          - A user of a directory such as LDAP gets none.
        type: dict
        suboptions:
          namespace:
            description: Its namespace.
            type: str
            required: true
          name:
            description: Its name.
            type: str
            required: true
          key:
            description: The key of the password. The user's name, if not given.
            type: str
      temporary:
        description: Whether the first password must be changed at the first login.
        type: bool
        default: true
  exclusive:
    description:
      - Whether O(groups) have no other members than those of O(users) who name them. Others are taken out, also users
        of a directory and service accounts of clients; their accounts stay.
      - Groups that a directory fills are not to be among them, since it would put its users back.
    type: bool
    default: false
  timeout:
    description: Seconds to wait for a ready pod of Keycloak and its answer to the login.
    type: int
    default: 60
"""

EXAMPLES = r"""
- name: Ensure the realm with MLflow's client, a group and a user
  mlops.mlflow.keycloak_realm:
    kubeconfig: "{{ kubeconfig_path }}"
    service: {namespace: keycloak, name: keycloak, port: http}
    admin_secret: {namespace: keycloak, name: keycloak-admin}
    realm: mlflow
    settings:
      displayName: MLflow
      ssoSessionIdleTimeout: 28800
    groups: [mlflow-users]
    clients:
      - client_id: mlflow
        secret: {namespace: keycloak, name: mlflow-oidc-credentials}
        redirect_uris: ["https://mlflow.example.org/callback"]
        mappers:
          - name: groups
            type: oidc-group-membership-mapper
            config: {claim.name: groups, full.path: false, id.token.claim: true, access.token.claim: true}
    users:
      - name: ada
        email: ada@example.org
        first_name: Ada
        last_name: Lovelace
        groups: [mlflow-users]
        password_secret: {namespace: keycloak, name: keycloak-users}
"""

RETURN = r"""
realm:
  description: Name of the realm.
  returned: success
  type: str
  sample: mlflow
changes:
  description: What was changed, or would be, one thing in an entry.
  returned: success
  type: list
  elements: str
  sample: ["client mlflow: redirectUris changed", "user ada: added to mlflow-users"]
requests:
  description: How many requests were sent to Keycloak.
  returned: success, where Keycloak runs
  type: int
  sample: 19
msg:
  description: Why nothing was compared.
  returned: in check mode, where Keycloak does not run yet
  type: str
  sample: "Keycloak does not run yet: there is no Service keycloak in the namespace keycloak"
"""

from collections import Counter
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.client import (
    Api,
    ApiError,
    KubeError,
    auth_argument_spec,
    connect,
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

SMTP_SECRETS = ("password", "authTokenClientSecret")


ARGUMENT_SPEC: dict[str, Any] = {
    "service": {**service_option(), "required": True},
    "admin_secret": {
        **secret_option(username_key="username", password_key="password"),  # noqa: S106 - names of keys
        "required": True,
    },
    "realm": {"type": "str", "required": True},
    "settings": {"type": "dict", "default": {}},
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


def log_in(admin: Admin, reader: SecretReader, params: dict[str, Any]) -> None:
    """Log the administrator in.

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
    try:
        admin.login(username, password, params["timeout"])
    except Refused as refused:
        if refused.status not in (400, 401):
            raise
        raise KeycloakError(
            f"Keycloak does not accept the administrator {username} of Secret {where} ({refused.reason}): it takes the "
            "password from there only at its first start on an empty database, so write the one it has into the "
            "Secret, or make another administrator by 'kc.sh bootstrap-admin user', as the role keycloak's README shows"
        ) from None


def sentences(params: dict[str, Any]) -> list[str]:
    """Name what would be made where there is nothing yet."""
    return [
        f"realm {params['realm']}: created",
        *(f"group {name}: created" for name in params["groups"]),
        *(f"client {client['client_id']}: created" for client in params["clients"]),
        *(f"user {user['name']}: created" for user in params["users"]),
    ]


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec={**auth_argument_spec(), **ARGUMENT_SPEC}, supports_check_mode=True)
    params = module.params
    unmask(module)
    service = params["service"]
    try:
        check(params)
        api = connect(params)
        reader = SecretReader(Secrets(api).read, module.check_mode)
        where = {"namespace": service["namespace"], "service": service["name"], "port": service["port"]}
        connection = ServiceConnection(api, **where)
        # A client of the API server is for one thread.
        admin = Admin(connection, another=lambda: ServiceConnection(Api(api.settings), **where))
        reconciler = Reconciler(admin, params["realm"], reader.for_reconciler, module.check_mode)
        try:
            if module.check_mode:
                params["timeout"] = 0
            log_in(admin, reader, params)
            reconciler.run(declared(params))
        finally:
            connection.close()
            unmask(module, *reader.values)
    except (NotThereYet, Unreachable) as error:
        if module.check_mode and (isinstance(error, NotThereYet) or error.absent or error.transient):
            changes = sentences(params)
            module.exit_json(
                changed=True,
                realm=params["realm"],
                changes=changes,
                msg=f"Keycloak does not run yet: {error}",
                diff={"before": "", "after": "\n".join(changes) + "\n"},
            )
        module.fail_json(msg=f"Keycloak cannot be reached: {error}")
    except KeycloakError as error:
        module.fail_json(msg=str(error))
    except KubeError as error:
        module.fail_json(msg=f"The cluster cannot be used: {error}")
    module.exit_json(realm=params["realm"], requests=admin.requests, **reconciler.changes.result())


if __name__ == "__main__":
    main()
