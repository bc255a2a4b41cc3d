#!/usr/bin/python
# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module C(mlflow_user)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mlflow_user
short_description: Make accounts of people in MLflow as declared
version_added: 0.1.0
author: mlops.mlflow maintainers (@mlops-mlflow)
description:
  - Ensures accounts of people, all in one call, with mlflow-oidc-auth and with MLflow's basic-auth.
  - What is not declared is left alone, other accounts as well as fields of a declared one.
  - With mlflow-oidc-auth a person's account is made at the first login, so that this is needed only to grant something
    to somebody beforehand, or to deactivate or remove an account.
notes:
  - With mlflow-oidc-auth, whether a person is an administrator is told anew at each login, by the provider's groups.
  - With mlflow-oidc-auth, names are kept in lower case.
extends_documentation_fragment:
  - mlops.mlflow.mlflow_accounts.users
  - mlops.mlflow.mlflow
  - mlops.mlflow.mlflow.accounts
  - kubernetes.core.k8s_auth_options
options:
  users:
    description: Accounts of people.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Let ada be known before her first login, and bob no longer in
  mlops.mlflow.mlflow_user:
    url: https://mlflow.example.com
    admin_secret: {namespace: mlflow, name: mlflow-admin}
    users:
      - name: ada
        display_name: Ada Lovelace
      - name: bob
        active: false

- name: Accounts of basic-auth, of a server that is not exposed
  mlops.mlflow.mlflow_user:
    service: {namespace: mlflow, name: mlflow}
    admin_secret: {namespace: mlflow, name: mlflow-admin}
    users:
      - name: ada
        password_secret: {namespace: mlflow, name: mlflow-people}
"""

RETURN = r"""
changes:
  description: What was changed, or in check mode would be, in words.
  returned: success
  type: list
  elements: str
  sample: ["user ada: created"]
users:
  description: The declared accounts that are there, as MLflow has them.
  returned: success
  type: list
  elements: dict
  sample: [{"name": "ada", "admin": false, "active": true, "service_account": false, "display_name": "Ada Lovelace"}]
requests:
  description: How many requests were sent to MLflow.
  returned: success
  type: int
  sample: 3
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.mlflow.plugins.module_utils.mlflow.accounts import account_options, run_accounts
from ansible_collections.mlops.mlflow.plugins.module_utils.mlflow.client import CONSTRAINTS, argument_spec

ARGUMENT_SPEC = argument_spec(users=account_options(create={"type": "bool", "default": True}))


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True, **CONSTRAINTS)
    run_accounts(module, "users", service=False)


if __name__ == "__main__":
    main()
