#!/usr/bin/python
# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module C(mlflow_permission)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mlflow_permission
short_description: Ensures what groups and users may do on MLflow's experiments, models, prompts and gateway
version_added: 0.1.0
author: mlops.mlflow maintainers (@mlops-mlflow)
description:
  - Ensures the permissions of groups, users and service accounts, and with O(exclusive) that there are no others, all
    in one call.
  - Groups are mlflow-oidc-auth's groups, or with MLflow's basic-auth roles of that name in its default workspace.
  - Who creates an experiment, a model or another thing has MANAGE on it. Neither plugin keeps who created it, and
    this permission looks like any other. So O(exclusive) leaves a user's MANAGE on a name alone, except on
    what M(mlops.mlflow.mlflow_experiment) and M(mlops.mlflow.mlflow_registered_model) created, which no user owns.
  - Everything is checked before the first change, such as the names of groups, users and objects.
extends_documentation_fragment:
  - mlops.mlflow.mlflow
  - mlops.mlflow.mlflow.permissions
  - kubernetes.core.k8s_auth_options
notes:
  - mlflow-oidc-auth stores patterns, which also apply to objects that are created later. basic-auth stores no pattern
    but V(.*), so others are replaced by permissions for the names that exist at the time of the run.
  - A run that changes nothing reads lists only. A server of our own image returns all permissions in one answer. With
    another mlflow-oidc-auth, a few lists are read for each group or user, and with basic-auth two lists in all.
options:
  permissions:
    description: Permissions that must exist, or must not.
    type: list
    elements: dict
    default: []
    suboptions:
      user:
        description:
          - The user, or the service account. It must exist.
          - One of O(permissions[].user) and O(permissions[].group) is needed.
        type: str
      group:
        description: The group.
        type: str
      resource:
        description: What kind of object the permission is for.
        type: str
        choices:
          - experiment
          - registered_model
          - prompt
          - scorer
          - gateway_endpoint
          - gateway_secret
          - gateway_model_definition
          - mcp_server
        default: experiment
      name:
        description:
          - The name of the object, which must exist. A scorer is named C(EXPERIMENT/SCORER).
          - One of O(permissions[].name) and O(permissions[].pattern) is needed.
        type: str
      pattern:
        description:
          - A regular expression that matches from the beginning of a name; V($) at its end matches the end of the name.
          - mlflow-oidc-auth has no patterns for MCP servers, and basic-auth none for scorers.
        type: str
      permission:
        description:
          - With mlflow-oidc-auth V(NO_PERMISSIONS), V(READ), V(USE), V(EDIT) or V(MANAGE).
          - With basic-auth V(DENY), which overrides every other one, V(READ), V(USE), V(EDIT) or V(MANAGE).
        type: str
      priority:
        description: If two patterns match, the one with the lower number applies. The default is 100.
        type: int
      state:
        description: Whether the permission exists.
        type: str
        choices: [present, absent]
        default: present
  groups:
    description:
      - Groups that must exist. mlflow-oidc-auth creates a group at the first login of a member, or here, so that
        something can be granted to it before.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The group's name.
        type: str
        required: true
      members:
        description:
          - Users that must be in the group, and with O(exclusive) no others.
          - Only with basic-auth; with mlflow-oidc-auth the identity provider decides who is in a group.
        type: list
        elements: str
  admins:
    description:
      - The administrators of MLflow, and with O(exclusive) no others but the account of this call. A call that would
        leave only that account is refused.
      - Only with basic-auth; with mlflow-oidc-auth the identity provider's groups decide.
    type: list
    elements: str
  exclusive:
    description:
      - Whether to revoke all permissions of O(subjects) that are not in O(permissions), except those of creators.
      - With basic-auth, this includes permissions that cannot be declared, such as MANAGE on a workspace, which is
        MANAGE on everything.
    type: bool
    default: false
  subjects:
    description:
      - To whose permissions O(exclusive) applies. The default is groups if O(groups) or a group in O(permissions) is
        given, and users if O(admins) or a user in O(permissions) is.
    type: list
    elements: str
    choices: [group, user]
"""

EXAMPLES = r"""
- name: Let the nightly training log runs, and a reviewer read them
  mlops.mlflow.mlflow_permission:
    kubeconfig: "{{ kubeconfig_path }}"
    service: {namespace: mlflow, name: mlflow}
    admin_secret: {namespace: mlflow, name: mlflow-admin}
    permissions:
      - {user: nightly, resource: experiment, name: churn, permission: EDIT}
      - {user: nightly, resource: registered_model, name: churn, permission: EDIT}
      - {user: ada, resource: experiment, pattern: "^churn", permission: READ}
      - {user: bob, resource: experiment, name: churn, state: absent}

- name: Let the data scientists edit their experiments, and reviewers read one
  mlops.mlflow.mlflow_permission:
    url: https://mlflow.example.org
    username: "{{ mlflow_admin }}"
    password: "{{ mlflow_token }}"
    groups:
      - name: data-science
      - name: reviewers
    permissions:
      - {group: data-science, resource: experiment, pattern: "^ds-", permission: EDIT}
      - {group: data-science, resource: registered_model, name: churn, permission: MANAGE}
      - {group: reviewers, resource: experiment, name: churn, permission: READ}

- name: The same through the API server, and revoke all other permissions of groups
  mlops.mlflow.mlflow_permission:
    kubeconfig: "{{ kubeconfig_path }}"
    service: {namespace: mlflow, name: mlflow}
    admin_secret: {namespace: mlflow, name: mlflow-admin}
    exclusive: true
    subjects: [group]
    permissions:
      - {group: reviewers, name: churn, permission: READ}
"""

RETURN = r"""
changes:
  description: What was changed, or would be, an entry for each change.
  returned: success
  type: list
  elements: str
  sample: ["user ada: experiment churn: READ -> EDIT"]
kept:
  description: With O(exclusive), what is not declared and stays since a user may have it as creator.
  returned: success
  type: list
  elements: str
  sample: ["user ada: experiment my-own: MANAGE"]
requests:
  description: How many requests were sent to MLflow.
  returned: success
  type: int
  sample: 6
msg:
  description: Why nothing was compared.
  returned: in check mode, where MLflow does not run yet
  type: str
  sample: "MLflow does not run yet: there is no Service mlflow in the namespace mlflow"
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.mlflow.plugins.module_utils.mlflow import client as mlflow
from ansible_collections.mlops.mlflow.plugins.module_utils.mlflow.access import (
    GROUP,
    USER,
    Permissions,
    ensure,
    permission_options,
    sentences,
)
from ansible_collections.mlops.mlflow.plugins.module_utils.mlflow.accounts import Accounts
from ansible_collections.mlops.mlflow.plugins.module_utils.mlflow.things import Catalogue

ARGUMENT_SPEC = mlflow.argument_spec(
    permissions=permission_options(),
    groups={
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "name": {"type": "str", "required": True},
            "members": {"type": "list", "elements": "str"},
        },
    },
    admins={"type": "list", "elements": "str"},
    exclusive={"type": "bool", "default": False},
    subjects={"type": "list", "elements": "str", "choices": [GROUP, USER]},
)


def wanted(params: dict[str, Any]) -> Permissions:
    """Read the options.

    Raises:
        MlflowError: it is open whose permissions are exclusive.
    """
    entries = {kind: [each for each in params["permissions"] if each[kind] is not None] for kind in (GROUP, USER)}
    subjects = params["subjects"]
    if subjects is None:
        of_groups, of_users = entries[GROUP] or params["groups"], entries[USER] or params["admins"] is not None
        subjects = [kind for kind, given in ((GROUP, of_groups), (USER, of_users)) if given]
        if params["exclusive"] and not subjects:
            raise mlflow.MlflowError("exclusive is true and nothing is declared: name in subjects whose permissions go")
    exclusive = set(subjects) if params["exclusive"] else set()
    return Permissions(entries, params["groups"], params["admins"], exclusive)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, **mlflow.CONSTRAINTS, supports_check_mode=True)

    def work(api: mlflow.MlflowApi) -> dict[str, Any]:
        declared = wanted(module.params)
        api.require_admin()
        api.remember()
        changes = mlflow.Changes(module.check_mode)
        kept = ensure(Accounts(api, changes), Catalogue(api), declared)
        return {**changes.result(), "kept": kept}

    mlflow.run(module, work, lambda: {"changes": sentences(wanted(module.params)), "kept": []})


if __name__ == "__main__":
    main()
