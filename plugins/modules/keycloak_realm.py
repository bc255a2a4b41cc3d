#!/usr/bin/python
# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin C(keycloak_realm)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: keycloak_realm
short_description: Settings, groups, clients and users of a Keycloak realm
version_added: 0.1.0
author: mlops.mlflow maintainers (@mlops-mlflow)
description:
  - Ensures a realm with settings, groups, confidential OpenID Connect clients and users, all in one call.
  - It owns what is declared and leaves alone what is not, such as settings, clients, mappers, users, groups and
    memberships that a user made in the admin console. Nothing is deleted but a declared user's membership in a
    declared group, and with O(exclusive) that of any other user.
  - Keycloak is reached by a port-forward through the API server to a ready pod of its Service, so that its admin API
    need not be exposed.
  - Runs on the control node, in Ansible's own process, which is faster than a module; the connection has to be local.
  - It reads passwords and client secrets from Kubernetes Secrets by itself. They pass through no variable, argument,
    log, difference or returned value.
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
    description: Can run in check mode. Before Keycloak runs, all that is declared is reported as to be created.
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
        description: Number or name of its port. The default is its first port.
        type: str
  path:
    description: The path below which Keycloak serves, such as V(/auth), without a slash at its end.
    type: str
    default: ""
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
        description:
          - The key of the password.
          - Where Keycloak does not take it, and takes that of the key with C(-previous) behind its name, as the module
            C(credentials) keeps it after a rotation, the password is set in Keycloak.
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
  master_settings:
    description: Attributes of the realm C(master), which has the administrators of all realms, as in O(settings).
    type: dict
    default: {}
  groups:
    description: Names of groups at the top level that must exist.
    type: list
    elements: str
    default: []
  clients:
    description: Confidential OpenID Connect clients that must exist.
    type: list
    elements: dict
    default: []
    suboptions:
      client_id:
        description: The client's id in the protocol.
        type: str
        required: true
      name:
        description: The name that is displayed.
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
        description: Protocol mappers that must exist, by name.
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
        description: Whether users log in with a browser (authorization code).
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
    description: Users that must exist.
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
          - Without it, all memberships are left alone, except that O(exclusive) removes those in O(groups).
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
            description: The key of the password. The default is the user's name.
            type: str
      temporary:
        description: Whether the first password must be changed at the first login.
        type: bool
        default: true
  exclusive:
    description:
      - Whether to remove all other members from O(groups), that is, those that O(users) does not declare. This includes
        users of a directory and service accounts of clients; their accounts stay.
      - Do not list groups that a directory fills, since it would add its users again.
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
