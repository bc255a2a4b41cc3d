#!/usr/bin/python
# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module C(mlflow_user)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mlflow_user
short_description: Ensures accounts of users and of programs in MLflow
version_added: 0.1.0
author: mlops.mlflow maintainers (@mlops-mlflow)
description:
  - Ensures accounts of users and service accounts, all in one call, with mlflow-oidc-auth and with MLflow's
    basic-auth.
  - What is not declared is left alone, both other accounts and other fields of declared ones.
  - With mlflow-oidc-auth a user's account is created at the first login, so this is needed only to grant something to
    a user beforehand, or to deactivate or remove an account.
  - A new service account can do nothing until it has an access token (M(mlops.mlflow.mlflow_token),
    M(mlops.mlflow.mlflow_client)) or an identity at a provider, and until something is granted to it.
notes:
  - With mlflow-oidc-auth, the identity provider's groups decide at each login whether a user is an administrator.
  - With mlflow-oidc-auth, names are kept in lower case.
  - MLflow's basic-auth does not distinguish users and programs. A service account there is an account with a random
    password that is kept nowhere, until one is issued.
extends_documentation_fragment:
  - mlops.mlflow.mlflow_accounts
  - mlops.mlflow.mlflow
  - mlops.mlflow.mlflow.accounts
  - kubernetes.core.k8s_auth_options
"""

EXAMPLES = r"""
- name: Create the account of ada before her first login, and deactivate that of bob
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
        password_secret: {namespace: mlflow, name: mlflow-first-passwords}

- name: Accounts of two programs, one with a token of ours, one with Keycloak's (client credentials)
  mlops.mlflow.mlflow_user:
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
  sample: ["user ada: created"]
users:
  description: The declared accounts that exist, as MLflow has them.
  returned: success
  type: list
  elements: dict
  sample: [{"name": "ada", "admin": false, "active": true, "service_account": false, "display_name": "Ada Lovelace"}]
service_accounts:
  description: The declared service accounts that exist, as MLflow has them.
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

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.mlflow.plugins.module_utils.mlflow.accounts import (
    SERVICE_ACCOUNTS,
    USERS_OPTION,
    Accounts,
    check_names,
)
from ansible_collections.mlops.mlflow.plugins.module_utils.mlflow.client import (
    CONSTRAINTS,
    Changes,
    MlflowApi,
    argument_spec,
    run,
)

ARGUMENT_SPEC = argument_spec(users=USERS_OPTION, service_accounts=SERVICE_ACCOUNTS)
KINDS = {"users": "user", "service_accounts": "service account"}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True, **CONSTRAINTS)
    declared = {option: module.params[option] for option in KINDS}

    def work(api: MlflowApi) -> dict[str, Any]:
        for option, entries in declared.items():
            check_names(option, [each["name"] for each in entries])
        accounts = Accounts(api, Changes(module.check_mode))
        if any(declared.values()):
            api.require_admin()
        for option, entries in declared.items():
            for each in entries:
                accounts.ensure(each, service=option == "service_accounts")
        accounts.send()
        found = {
            option: [have.shown() for have in (accounts.find(each["name"]) for each in entries) if have]
            for option, entries in declared.items()
        }
        return {**accounts.changes.result(), **found}

    def nothing_yet() -> dict[str, Any]:
        changes = [
            f"{KINDS[option]} {each['name']}: created"
            for option, entries in declared.items()
            for each in entries
            if each["state"] == "present" and each.get("create") is not False
        ]
        return {"changed": bool(changes), "changes": changes, **{option: [] for option in KINDS}}

    run(module, work, nothing_yet)


if __name__ == "__main__":
    main()
