#!/usr/bin/python
# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module C(mlflow_permission)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mlflow_permission
short_description: What single users may do on MLflow's experiments, models, prompts and gateway
version_added: 0.1.0
author: mlops.mlflow maintainers (@mlops-mlflow)
description:
  - Ensures the permissions of single users and service accounts, and with O(exclusive) that there are no others, all
    in one call. Those of groups are for M(mlops.mlflow.mlflow_group_permission).
  - Whoever makes an experiment, a model or another thing has MANAGE on it. Neither plugin keeps who made a thing, and
    this permission looks like any other. So O(exclusive) leaves a user's MANAGE on a name alone, but on what
    M(mlops.mlflow.mlflow_experiment) and M(mlops.mlflow.mlflow_registered_model) made, which is nobody's own.
  - Everything is checked before the first change, such as the names of users and of what they may use.
extends_documentation_fragment:
  - mlops.mlflow.mlflow_access.user
  - mlops.mlflow.mlflow
  - mlops.mlflow.mlflow.permissions
  - kubernetes.core.k8s_auth_options
options:
  admins:
    description:
      - Users that are to administer MLflow, and with O(exclusive) no others but the account that asks. It is refused
        if it would leave that account alone.
      - Only with basic-auth; with mlflow-oidc-auth the identity provider's groups say who does.
    type: list
    elements: str
  exclusive:
    description:
      - Whether to take away all permissions of all users that are not in O(permissions), but the makers' own.
      - With basic-auth also those on what cannot be declared, such as a workspace, on which MANAGE is MANAGE on
        everything.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Let the nightly training log runs, and a reviewer look on
  mlops.mlflow.mlflow_permission:
    kubeconfig: "{{ kubeconfig_path }}"
    service: {namespace: mlflow, name: mlflow}
    admin_secret: {namespace: mlflow, name: mlflow-admin}
    permissions:
      - {user: nightly, resource: experiment, name: churn, permission: EDIT}
      - {user: nightly, resource: registered_model, name: churn, permission: EDIT}
      - {user: ada, resource: experiment, pattern: "^churn", permission: READ}
      - {user: bob, resource: experiment, name: churn, state: absent}
"""

RETURN = r"""
changes:
  description: What was changed, or would be, one thing in an entry.
  returned: success
  type: list
  elements: str
  sample: ["user ada: experiment churn: READ -> EDIT"]
kept:
  description: With O(exclusive), what is not declared and was left alone as the makers' own.
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
    TO_COME,
    USER,
    all_of_it,
    permission_options,
    work_on,
)

ARGUMENT_SPEC: dict[str, Any] = {
    "permissions": permission_options(USER),
    "admins": {"type": "list", "elements": "str"},
    "exclusive": {"type": "bool", "default": False},
    "to_come": TO_COME,
}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec=mlflow.argument_spec(**ARGUMENT_SPEC), **mlflow.CONSTRAINTS, supports_check_mode=True
    )
    mlflow.run(module, work_on(module.params, module.check_mode, USER), lambda: all_of_it(USER, module.params))


if __name__ == "__main__":
    main()
