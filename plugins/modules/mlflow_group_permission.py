#!/usr/bin/python
# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module C(mlflow_group_permission)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mlflow_group_permission
short_description: What groups may do on MLflow's experiments, models, prompts and gateway
version_added: 0.1.0
author: mlops.mlflow maintainers (@mlops-mlflow)
description:
  - Ensures the permissions of groups, and with O(exclusive) that there are no others, all in one call.
  - Groups are mlflow-oidc-auth's groups, or with MLflow's basic-auth roles of that name in its default workspace.
  - Everything is checked before the first change, such as the names of groups and of what they may use.
extends_documentation_fragment:
  - mlops.mlflow.mlflow_access.group
  - mlops.mlflow.mlflow
  - mlops.mlflow.mlflow.permissions
  - kubernetes.core.k8s_auth_options
options:
  groups:
    description:
      - Groups that must be there. mlflow-oidc-auth makes one at the first login of somebody in it; before, nothing can
        be granted to it.
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
          - Only with basic-auth; with mlflow-oidc-auth the identity provider says who is in a group.
        type: list
        elements: str
  exclusive:
    description:
      - Whether to take away all permissions of all groups that are not in O(permissions).
      - With basic-auth also those on what cannot be declared, such as a workspace, on which MANAGE is MANAGE on
        everything.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Let the data scientists work on their experiments, and others look on
  mlops.mlflow.mlflow_group_permission:
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

- name: The same through the API server, and take away all else
  mlops.mlflow.mlflow_group_permission:
    kubeconfig: "{{ kubeconfig_path }}"
    service: {namespace: mlflow, name: mlflow}
    admin_secret: {namespace: mlflow, name: mlflow-admin}
    exclusive: true
    permissions:
      - {group: reviewers, name: churn, permission: READ}
"""

RETURN = r"""
changes:
  description: What was changed, or would be, one thing in an entry.
  returned: success
  type: list
  elements: str
  sample: ["group data-science: experiment churn: READ -> EDIT"]
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
    TO_COME,
    all_of_it,
    permission_options,
    work_on,
)

ARGUMENT_SPEC: dict[str, Any] = {
    "permissions": permission_options(GROUP),
    "groups": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "name": {"type": "str", "required": True},
            "members": {"type": "list", "elements": "str"},
        },
    },
    "exclusive": {"type": "bool", "default": False},
    "to_come": TO_COME,
}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec=mlflow.argument_spec(**ARGUMENT_SPEC), **mlflow.CONSTRAINTS, supports_check_mode=True
    )
    mlflow.run(module, work_on(module.params, module.check_mode, GROUP), lambda: all_of_it(GROUP, module.params))


if __name__ == "__main__":
    main()
