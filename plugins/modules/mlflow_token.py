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
  - A token is renewed some time before it ends. The old one is honoured for O(tokens[].grace_days) more.
  - Secrets are known by labels and annotations. One that this module did not make is never written.
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
    description: Other values of O(instance), by which Secrets of O(tokens) may be labelled. They are labelled anew.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: A token for a program of another cluster's, to be carried there by other means
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
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.client import secret_option
from ansible_collections.mlops.mlflow.plugins.module_utils.mlflow.accounts import Accounts
from ansible_collections.mlops.mlflow.plugins.module_utils.mlflow.client import (
    CONSTRAINTS,
    Changes,
    MlflowApi,
    MlflowError,
    argument_spec,
    run,
)
from ansible_collections.mlops.mlflow.plugins.module_utils.mlflow.tokens import (
    Delivery,
    Tokens,
    all_issued,
    check,
    default_instance,
    delivery_options,
)

ARGUMENT_SPEC = argument_spec(
    tokens={
        **delivery_options(
            user={"type": "str", "required": True},
            name={"type": "str", "required": True},
            secret=secret_option(username_key="username", password_key="password"),  # noqa: S106 - names of keys
        ),
        "no_log": False,
    },
    instance={"type": "str"},
    exclusive={"type": "bool", "default": False},
    former_instances={"type": "list", "elements": "str", "default": []},
)


def owner(token: dict[str, Any]) -> str:
    """Give what a token is known by."""
    return f"{token['user']}/{token['name']}"


def deliveries(params: dict[str, Any]) -> list[Delivery]:
    """Give what is declared.

    :raises MlflowError: what is declared can't be
    """
    found = []
    names = [owner(token) for token in params["tokens"]]
    for token in params["tokens"]:
        if names.count(owner(token)) > 1:
            raise MlflowError(f"tokens declares {token['name']} of {token['user']} more than once")
        if token["state"] == "absent":
            continue
        secret = token["secret"]
        if not secret:
            raise MlflowError(
                f"tokens: {token['name']} of {token['user']} has no secret, and a token is kept nowhere else"
            )
        found.append(
            Delivery(
                kind="token",
                owner=owner(token),
                user=token["user"],
                token=token["name"],
                namespace=secret["namespace"],
                secret=secret["name"],
                values={secret["username_key"]: token["user"]},
                password_key=secret["password_key"],
                lifetime=token["lifetime_days"],
                renew_before=token["renew_before_days"],
                grace=token["grace_days"],
                take_over=token["take_over"],
            )
        )
    check(found, "tokens")
    return found


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True, **CONSTRAINTS)
    params = module.params

    def work(api: MlflowApi) -> dict[str, Any]:
        wanted = deliveries(params)
        changes = Changes(module.check_mode)
        accounts = Accounts(api, changes)
        instance = params["instance"] or default_instance(params)
        owners = {owner(token) for token in params["tokens"]}
        tokens = Tokens(api, changes, accounts, "token", instance=instance, former=params["former_instances"])
        absent = [token for token in params["tokens"] if token["state"] == "absent"]
        tokens.look(wanted, every=params["exclusive"] or bool(absent), owners=owners)
        places = {each.where for each in wanted}
        gone = tokens.undeclared(places, None if params["exclusive"] else owners)
        if not params["tokens"] and not gone:
            return {**changes.result(), "tokens": []}
        api.require_admin()
        for each in wanted:
            if accounts.find(each.user) is None and not module.check_mode:
                raise MlflowError(
                    f"tokens: there is no account {each.user}, so make it first, by mlflow_service_account"
                )
        results = tokens.ensure(wanted)
        users = {accounts.key(each.user) for each in wanted}
        for kept in gone:
            tokens.remove(kept, still=kept.user in users)
        for token in absent:
            tokens.revoke(token["user"], token["name"], f"token {owner(token)}")
        return {**changes.result(), "tokens": results}

    run(module, work, lambda: all_issued(deliveries(params), "tokens"))


if __name__ == "__main__":
    main()
