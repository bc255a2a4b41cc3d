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
notes:
  - mlflow-oidc-auth issues tokens to nobody who calls it with a token. This collection's image lets the account of the
    environment variable E(MLOPS_ADMIN_ACCOUNT) issue them for service accounts. Elsewhere give an administrator's
    bearer token in O(token).
  - MLflow's basic-auth has no tokens. There the account's password is generated, and renewed as a token is; all
    Secrets of an account hold the same one; and the old one ends with the renewal.
  - Programs read a Secret's variables as they start. Restart those that run for longer than O(tokens[].grace_days).
  - The account that the kubeconfig names needs C(get), C(list), C(create), C(patch) and C(delete) on Secrets, and
    C(get) on namespaces.
extends_documentation_fragment:
  - mlops.mlflow.mlflow
  - kubernetes.core.k8s_auth_options
attributes:
  check_mode:
    description: Can run in check mode. Where MLflow does not run yet, all that is declared is said to be issued.
    support: full
  diff_mode:
    description: Shows names and dates. Tokens and passwords are never shown.
    support: full
options:
  tokens:
    description: The tokens. Others are left alone.
    type: list
    elements: dict
    required: true
    suboptions:
      user:
        description: The service account. It must be there.
        type: str
        required: true
      name:
        description: The token's name. In MLflow, the date of its issue stands behind it.
        type: str
        required: true
      secret:
        description: The Secret to keep it in. Needed where the token is to be there.
        type: dict
        suboptions:
          namespace:
            description: Its namespace, which must be there.
            type: str
            required: true
          name:
            description: Its name.
            type: str
            required: true
          username_key:
            description: The key of the account's name.
            type: str
            default: username
          password_key:
            description: The key of the token.
            type: str
            default: password
      lifetime_days:
        description: For how long a token is good, in days, at most 365.
        type: int
        default: 90
      renew_before_days:
        description: How many days before its end a token is renewed.
        type: int
        default: 30
      grace_days:
        description:
          - For how many days after a renewal the old token is honoured, unless it ends before. The first call after
            them revokes it.
          - With basic-auth the old password ends with the renewal.
        type: int
        default: 7
      take_over:
        description:
          - With basic-auth, whether an account that is there already, and whose password no Secret of this module's
            holds, gets another password. Whoever has the old one is locked out.
        type: bool
        default: false
      state:
        description: Whether the token is there. V(absent) revokes it, then removes its Secret.
        type: str
        choices: [present, absent]
        default: present
  instance:
    description:
      - A name for this MLflow, which labels the Secrets, so that several may share a cluster. By default the Service's
        namespace and name, or the URL's host.
    type: str
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
from ansible_collections.mlops.mlflow.plugins.module_utils.kube import secret_option
from ansible_collections.mlops.mlflow.plugins.module_utils.mlflow import (
    CONSTRAINTS,
    Changes,
    MlflowApi,
    MlflowError,
    argument_spec,
    run,
)
from ansible_collections.mlops.mlflow.plugins.module_utils.mlflow_accounts import Accounts
from ansible_collections.mlops.mlflow.plugins.module_utils.mlflow_tokens import (
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
        tokens = Tokens(api, changes, accounts, "token", instance=params["instance"] or default_instance(params))
        api.require_admin()
        absent = [token for token in params["tokens"] if token["state"] == "absent"]
        tokens.look(wanted, every=bool(absent))
        for each in wanted:
            if accounts.find(each.user) is None and not module.check_mode:
                raise MlflowError(
                    f"tokens: there is no account {each.user}, so make it first, by mlflow_service_account"
                )
        results = tokens.ensure(wanted)
        users = {accounts.key(each.user) for each in wanted}
        places = {each.where for each in wanted}
        for kept in tokens.undeclared(places, {owner(token) for token in params["tokens"]}):
            tokens.remove(kept, still=kept.user in users)
        for token in absent:
            tokens.revoke(token["user"], token["name"], f"token {owner(token)}")
        return {**changes.result(), "tokens": results}

    run(module, work, lambda: all_issued(deliveries(params), "tokens"))


if __name__ == "__main__":
    main()
