#!/usr/bin/python
# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module C(mlflow_client)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mlflow_client
short_description: Give programs of the cluster an account of MLflow, with its credentials in a Secret
version_added: 0.1.0
author: mlops.mlflow maintainers (@mlops-mlflow)
description:
  - Ensures for each client a service account of MLflow, and in each of its namespaces a Secret with a token of its own
    in the variables that MLflow's clients read, C(MLFLOW_TRACKING_URI), C(MLFLOW_TRACKING_USERNAME) and
    C(MLFLOW_TRACKING_PASSWORD).
  - A token is renewed some time before it ends. The old one remains valid for O(clients[].grace_days) more.
  - A namespace that a client no longer declares loses its Secret, and its token is revoked first. So does a client with
    O(clients[].state=absent), and with O(exclusive) every client that is not declared.
  - Its Secrets are identified by labels and annotations. It never changes other Secrets.
  - Tokens pass through no variable, argument, log, difference or returned value.
extends_documentation_fragment:
  - mlops.mlflow.mlflow_tokens.clients
  - mlops.mlflow.mlflow
  - kubernetes.core.k8s_auth_options
options:
  clients:
    description: The programs.
    type: list
    elements: dict
    required: true
  tracking_uri:
    description: The URL at which clients reach MLflow. By default O(url).
    type: str
  exclusive:
    description: Whether clients that are not declared are removed, among those of O(instance).
    type: bool
    default: false
  remove_accounts:
    description:
      - Whether the service account and all its permissions are removed with the last Secret of a client.
      - Otherwise the account stays, without a token.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Credentials for pipelines in two namespaces, and for CI, and no others
  mlops.mlflow.mlflow_client:
    service: {namespace: mlflow, name: mlflow}
    admin_secret: {namespace: mlflow, name: mlflow-admin}
    tracking_uri: http://mlflow.mlflow.svc:5000
    exclusive: true
    clients:
      - name: pipelines
        namespaces: [team-a, team-b]
      - name: ci
        namespaces: [ci]
        tracking_uri: https://mlflow.example.com
        lifetime_days: 30
        renew_before_days: 10
"""

RETURN = r"""
changes:
  description: What was changed, or in check mode would be, in words.
  returned: success
  type: list
  elements: str
  sample: ["client training in Secret team-a/mlflow-credentials: token issued, since there is none"]
clients:
  description: Names and dates of what was delivered. C(expires) of basic-auth is when the password is to be renewed.
  returned: success
  type: list
  elements: dict
  sample:
    - name: training
      user: training
      namespace: team-a
      secret: mlflow-credentials
      expires: "2027-02-20T05:20:00+00:00"
      renewed: true
requests:
  description: How many requests were sent to MLflow.
  returned: success
  type: int
  sample: 4
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.mlflow.plugins.module_utils.mlflow.client import CONSTRAINTS, argument_spec
from ansible_collections.mlops.mlflow.plugins.module_utils.mlflow.tokens import (
    CLIENTS,
    Wanted,
    run_deliveries,
    wanted_clients,
)

ARGUMENT_SPEC = argument_spec(
    clients={**CLIENTS, "required": True},
    tracking_uri={"type": "str"},
    exclusive={"type": "bool", "default": False},
    remove_accounts={"type": "bool", "default": False},
    instance={"type": "str"},
)


def wanted(params: dict[str, Any]) -> Wanted:
    """Read the options."""
    found = wanted_clients(params["clients"], params["tracking_uri"] or params["url"])
    found.exclusive, found.remove_accounts = params["exclusive"], params["remove_accounts"]
    return found


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True, **CONSTRAINTS)
    run_deliveries(module, "clients", wanted)


if __name__ == "__main__":
    main()
