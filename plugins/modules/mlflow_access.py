#!/usr/bin/python
# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module C(mlflow_access)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mlflow_access
short_description: Applies who may do what in MLflow, in one call
version_added: 0.1.0
author: mlops.mlflow maintainers (@mlops-mlflow)
description:
  - Ensures the experiments, registered models, groups, users, service accounts, permissions and tokens that the
    variables C(mlflow_access) and C(mlflow_clients) of the role C(mlflow) declare.
  - Everything is checked before the first change, such as what exists in MLflow and in the cluster, and who made the
    Secrets. A second run changes nothing and reads a few lists.
  - Each step is also a module of its own, M(mlops.mlflow.mlflow_user), M(mlops.mlflow.mlflow_client),
    M(mlops.mlflow.mlflow_experiment), M(mlops.mlflow.mlflow_registered_model), M(mlops.mlflow.mlflow_permission) and
    M(mlops.mlflow.mlflow_token), whose documentation says more about each.
extends_documentation_fragment:
  - mlops.mlflow.mlflow
  - mlops.mlflow.mlflow.permissions
  - kubernetes.core.k8s_auth_options
options:
  mlflow_access:
    description: Who may do what. What is not declared is left alone, unless O(exclusive).
    type: dict
    default: {}
    suboptions:
      experiments:
        description:
          - Experiments that must exist, each a name, or a mapping with C(name) and perhaps C(description), C(tags),
            C(artifact_location) and C(state), see M(mlops.mlflow.mlflow_experiment).
        type: list
        elements: raw
        default: []
      registered_models:
        description:
          - Registered models that must exist, each a name, or a mapping with C(name) and perhaps C(description),
            C(tags), C(aliases), C(delete_versions) and C(state), see M(mlops.mlflow.mlflow_registered_model).
        type: list
        elements: raw
        default: []
      groups:
        description:
          - Groups by name, each with perhaps C(members) and permissions.
          - Permissions by name are C(experiments), C(registered_models), C(prompts), C(scorers), C(gateway_endpoints),
            C(gateway_secrets), C(gateway_model_definitions) and C(mcp_servers), each a mapping of names to permissions.
          - Permissions by pattern are C(experiment_patterns) and so on, each a mapping of regular expressions to
            permissions, or to mappings with C(permission) and C(priority).
        type: dict
        default: {}
      users:
        description: Users by name, each with perhaps C(display_name), C(admin), C(active), and permissions as groups.
        type: dict
        default: {}
      service_accounts:
        description:
          - Programs by name, each with perhaps C(display_name), C(admin), C(active), C(source), C(subject), C(tokens),
            and permissions as groups.
          - C(tokens) are as in M(mlops.mlflow.mlflow_token), without C(user).
        type: dict
        default: {}
  mlflow_clients:
    description: Programs of the cluster, as in M(mlops.mlflow.mlflow_client). Others of O(instance) are removed.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The client's name, which its tokens in MLflow bear.
        type: str
        required: true
      user:
        description: The service account. It is created if missing. The default is O(mlflow_clients[].name).
        type: str
      namespaces:
        description: The namespaces that get the Secret. They must exist.
        type: list
        elements: str
        default: []
      secret_name:
        description: The Secret's name.
        type: str
        default: mlflow-credentials
      tracking_uri:
        description: The URL at which the client reaches MLflow. By default O(tracking_uri).
        type: str
      lifetime_days:
        description: How long a token is valid, in days, at most 365.
        type: int
        default: 90
      renew_before_days:
        description: How many days before its end a token is renewed.
        type: int
        default: 30
      grace_days:
        description: How many days after a renewal the old token remains valid. With basic-auth it ends at once.
        type: int
        default: 7
      take_over:
        description: Whether, with basic-auth, an existing account that this module did not create gets a new password.
        type: bool
        default: false
      state:
        description: Whether the client is there.
        type: str
        choices: [present, absent]
        default: present
  auth:
    description: How users log in, the value of C(mlflow_auth). What may be declared depends on it.
    type: str
    choices: [oidc, basic, oauth2_proxy]
    default: oidc
  exclusive:
    description:
      - Whether permissions and tokens that are not declared are revoked, and with basic-auth memberships and the right
        to administer. A user's MANAGE on what this module did not create stays.
    type: bool
    default: false
  people:
    description:
      - The users of our Keycloak, the value of C(keycloak_users). Users and members must be among them. A user who may
        not log in loses sessions and tokens of MLflow.
      - Without it, users are those of another identity provider.
    type: list
    elements: dict
  groups:
    description: The groups of the realm, which must include the declared groups. Without it, any may be declared.
    type: list
    elements: str
  admin_group:
    description: The group of the realm whose members administer MLflow. With O(exclusive), a user has to be in it.
    type: str
    default: ""
  claim:
    description: The claim by which MLflow names users.
    type: str
    default: preferred_username
  namespaces:
    description: The namespaces whose service accounts MLflow accepts, for groups C(k8s:NAMESPACE).
    type: list
    elements: str
  users_secret:
    description: The Secret with the first passwords of users of basic-auth, by their names.
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
  tracking_uri:
    description: The URL at which clients reach MLflow. By default O(url).
    type: str
  instance:
    description:
      - A name for this MLflow, which labels the Secrets, so that several may share a cluster. By default the Service's
        namespace and name, or the URL's host.
    type: str
  former_instances:
    description:
      - Other values of O(instance), by which Secrets of tokens may be labelled. They get the label of O(instance).
    type: list
    elements: str
    default: []
  issued_after:
    description:
      - A time, such as V(2026-12-01T09:30:00Z). Tokens that were issued before are renewed, as if they ended soon.
      - Without it they are renewed when they are about to end.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Apply who may do what
  mlops.mlflow.mlflow_access:
    service: {namespace: mlflow, name: mlflow}
    admin_secret: {namespace: mlflow, name: mlflow-admin}
    tracking_uri: http://mlflow.mlflow.svc:5000
    mlflow_access:
      experiments: [churn]
      groups:
        data-science:
          experiments: {churn: EDIT}
          experiment_patterns: {"^ds-": READ}
      service_accounts:
        nightly:
          experiments: {churn: READ}
          tokens:
            - name: ci
              secret: {namespace: ci, name: mlflow-token}
    mlflow_clients:
      - name: pipelines
        namespaces: [team-a]
"""

RETURN = r"""
changes:
  description: What was changed, or in check mode would be, an entry for each change.
  returned: success
  type: list
  elements: str
  sample: ["group data-science: experiment churn: READ -> EDIT"]
kept:
  description: With O(exclusive), what is not declared and stays since a user may have it as creator.
  returned: success
  type: list
  elements: str
  sample: ["user ada: experiment my-own: MANAGE"]
clients:
  description: Names and dates of the Secrets of O(mlflow_clients), as of M(mlops.mlflow.mlflow_client).
  returned: success
  type: list
  elements: dict
  sample: [{"name": "pipelines", "user": "pipelines", "namespace": "team-a", "secret": "mlflow-credentials"}]
tokens:
  description: Names and dates of the Secrets of tokens, as of M(mlops.mlflow.mlflow_token).
  returned: success
  type: list
  elements: dict
  sample: [{"name": "nightly/ci", "user": "nightly", "namespace": "ci", "secret": "mlflow-token"}]
requests:
  description: How many requests were sent to MLflow.
  returned: success
  type: int
  sample: 8
msg:
  description: Why nothing was compared.
  returned: in check mode, where MLflow does not run yet
  type: str
  sample: "MLflow does not run yet: there is no Service mlflow in the namespace mlflow"
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.mlflow.plugins.module_utils.mlflow.client import (
    CONSTRAINTS,
    MlflowApi,
    MlflowError,
    argument_spec,
    run,
)
from ansible_collections.mlops.mlflow.plugins.module_utils.mlflow.tokens import default_instance, moment
from ansible_collections.mlops.mlflow.plugins.module_utils.mlflow.tree import (
    ACCESS,
    CLIENTS,
    Declaration,
    Surroundings,
    converge,
    declaration,
    problems,
)

ARGUMENT_SPEC = argument_spec(
    mlflow_access=ACCESS,
    mlflow_clients=CLIENTS,
    auth={"type": "str", "choices": ["oidc", "basic", "oauth2_proxy"], "default": "oidc"},
    exclusive={"type": "bool", "default": False},
    people={"type": "list", "elements": "dict"},
    groups={"type": "list", "elements": "str"},
    admin_group={"type": "str", "default": ""},
    claim={"type": "str", "default": "preferred_username"},
    namespaces={"type": "list", "elements": "str"},
    users_secret={
        "type": "dict",
        "no_log": False,
        "options": {"namespace": {"type": "str", "required": True}, "name": {"type": "str", "required": True}},
    },
    tracking_uri={"type": "str"},
    instance={"type": "str"},
    former_instances={"type": "list", "elements": "str", "default": []},
    issued_after={"type": "str", "default": ""},
)
SURROUNDINGS = ("auth", "people", "groups", "admin_group", "claim", "namespaces", "exclusive")


def read(params: dict[str, Any]) -> Declaration:
    """Read the options.

    Raises:
        MlflowError: what is wrong with them.
    """
    tree, clients = params["mlflow_access"], params["mlflow_clients"]
    around = Surroundings(**{name: params[name] for name in SURROUNDINGS})
    found = problems(tree, clients, around)
    if found:
        raise MlflowError(found[0])
    uri = params["tracking_uri"] or params["url"]
    wanted = declaration(tree, clients, around, users_secret=params["users_secret"], tracking_uri=uri)
    wanted.instance = params["instance"] or default_instance(params)
    wanted.former_instances = params["former_instances"]
    if params["issued_after"]:
        after = moment(params["issued_after"])
        if after is None:
            raise MlflowError(
                f"issued_after is '{params['issued_after']}', and must be a time such as 2026-12-01T09:30:00Z"
            )
        wanted.clients.issued_after = wanted.tokens.issued_after = after
    if params["auth_plugin"] == "auto":
        params["auth_plugin"] = around.plugin
    return wanted


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True, **CONSTRAINTS)
    try:
        wanted = read(module.params)
    except MlflowError as error:
        module.fail_json(msg=str(error))

    def work(api: MlflowApi) -> dict[str, Any]:
        return converge(api, wanted, module.check_mode)

    def nothing_yet() -> dict[str, Any]:
        changes = wanted.sentences()
        return {"changed": bool(changes), "changes": changes, "kept": [], "clients": [], "tokens": []}

    run(module, work, nothing_yet)


if __name__ == "__main__":
    main()
