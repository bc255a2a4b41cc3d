#!/usr/bin/python
# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module C(mlflow_service_account)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mlflow_service_account
short_description: Make accounts of programs in MLflow as declared
version_added: 0.1.0
author: mlops.mlflow maintainers (@mlops-mlflow)
description:
  - Ensures service accounts, all in one call, with mlflow-oidc-auth and with MLflow's basic-auth.
  - A new one can do nothing until it has an access token (M(mlops.mlflow.mlflow_token), M(mlops.mlflow.mlflow_client))
    or an identity at a provider, and until something is granted to it.
  - What is not declared is left alone, other accounts as well as fields of a declared one.
notes:
  - MLflow's basic-auth knows no difference between people and programs. A service account there is an account whose
    password nobody knows, until one is issued.
  - With mlflow-oidc-auth, names are kept in lower case.
extends_documentation_fragment:
  - mlops.mlflow.mlflow_accounts.service_accounts
  - mlops.mlflow.mlflow
  - mlops.mlflow.mlflow.accounts
  - kubernetes.core.k8s_auth_options
options:
  service_accounts:
    description: Accounts of programs.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Accounts of two programs, one with a token of ours, one with Keycloak's (client credentials)
  mlops.mlflow.mlflow_service_account:
    url: https://mlflow.example.com
    admin_secret: {namespace: mlflow, name: mlflow-admin}
    service_accounts:
      - name: nightly-training
      - name: service-account-crawler
        source: default
"""

RETURN = r"""
changes:
  description: What was changed, or in check mode would be, in words.
  returned: success
  type: list
  elements: str
  sample: ["service account nightly-training: created"]
service_accounts:
  description: The declared accounts that are there, as MLflow has them.
  returned: success
  type: list
  elements: dict
  sample: [{"name": "nightly-training", "admin": false, "active": true, "service_account": true, "source": "internal"}]
requests:
  description: How many requests were sent to MLflow.
  returned: success
  type: int
  sample: 3
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.mlflow.plugins.module_utils.mlflow.accounts import account_options, run_accounts
from ansible_collections.mlops.mlflow.plugins.module_utils.mlflow.client import CONSTRAINTS, argument_spec

ARGUMENT_SPEC = argument_spec(service_accounts=account_options(source={"type": "str"}, subject={"type": "str"}))


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True, **CONSTRAINTS)
    run_accounts(module, "service_accounts", service=True)


if __name__ == "__main__":
    main()
