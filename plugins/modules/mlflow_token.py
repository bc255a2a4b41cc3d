#!/usr/bin/python
# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module C(mlflow_token)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mlflow_token
short_description: Keep access tokens of MLflow's service accounts in Secrets
version_added: 0.1.0
author: mlops.mlflow maintainers (@mlops-mlflow)
description:
  - Ensures for each token a Secret of the cluster that holds it, with the account's name.
  - A token is renewed some time before it ends. The old one remains valid for O(tokens[].grace_days) more.
  - Its Secrets are identified by labels and annotations. It never changes other Secrets.
  - Tokens pass through no variable, argument, log, difference or returned value.
  - M(mlops.mlflow.mlflow_client) does this and more for programs that use MLflow's own client.
extends_documentation_fragment:
  - mlops.mlflow.mlflow_tokens.tokens
  - mlops.mlflow.mlflow
  - kubernetes.core.k8s_auth_options
options:
  tokens:
    description: The tokens. Others are left alone, unless O(exclusive).
    type: list
    elements: dict
    required: true
  exclusive:
    description: Whether tokens that are not declared are revoked and their Secrets removed, among those of O(instance).
    type: bool
    default: false
  former_instances:
    description:
      - Other values of O(instance), by which Secrets of O(tokens) may be labelled. They get the label of O(instance).
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: A token for a program of another cluster, which other means copy there
  mlops.mlflow.mlflow_token:
    url: https://mlflow.example.com
    admin_secret: {namespace: mlflow, name: mlflow-admin}
    tokens:
      - user: training
        name: spark
        lifetime_days: 30
        renew_before_days: 10
        secret: {namespace: team-a, name: mlflow-spark}
"""

RETURN = r"""
changes:
  description: What was changed, or in check mode would be, in words.
  returned: success
  type: list
  elements: str
  sample: ["token training/spark in Secret team-a/mlflow-spark: token issued, since there is none"]
tokens:
  description: Names and dates of what was delivered. C(expires) of basic-auth is when the password is to be renewed.
  returned: success
  type: list
  elements: dict
  sample:
    - name: training/spark
      user: training
      namespace: team-a
      secret: mlflow-spark
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
    TOKENS,
    Wanted,
    run_deliveries,
    wanted_tokens,
)

ARGUMENT_SPEC = argument_spec(
    tokens={**TOKENS, "required": True},
    instance={"type": "str"},
    exclusive={"type": "bool", "default": False},
    former_instances={"type": "list", "elements": "str", "default": []},
)


def wanted(params: dict[str, Any]) -> Wanted:
    """Read the options."""
    found = wanted_tokens(params["tokens"])
    found.exclusive = params["exclusive"]
    return found


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True, **CONSTRAINTS)
    run_deliveries(module, "tokens", wanted)


if __name__ == "__main__":
    main()
