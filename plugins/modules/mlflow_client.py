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
  - A token is renewed some time before it ends. The old one is honoured for O(clients[].grace_days) more.
  - A namespace that a client no longer declares loses its Secret, and its token is revoked first. So does a client with
    O(clients[].state=absent), and with O(exclusive) every client that is not declared.
  - Secrets are known by labels and annotations. One that this module did not make is never written.
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
      - Whether the service account goes when the last Secret of a client does, with all that was granted to it.
      - Else the account is left without a token.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Credentials for pipelines in two namespaces, and for CI; nobody else's
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

URI = "MLFLOW_TRACKING_URI"
USERNAME = "MLFLOW_TRACKING_USERNAME"
PASSWORD = "MLFLOW_TRACKING_PASSWORD"  # noqa: S105 - the name of the variable

ARGUMENT_SPEC = argument_spec(
    clients=delivery_options(
        name={"type": "str", "required": True},
        user={"type": "str"},
        namespaces={"type": "list", "elements": "str", "default": []},
        secret_name={"type": "str", "default": "mlflow-credentials", "no_log": False},
        tracking_uri={"type": "str"},
    ),
    tracking_uri={"type": "str"},
    exclusive={"type": "bool", "default": False},
    remove_accounts={"type": "bool", "default": False},
    instance={"type": "str"},
)


def deliveries(params: dict[str, Any]) -> list[Delivery]:
    """Give what is declared, a Secret each.

    :raises MlflowError: what is declared can't be
    """
    found = []
    names = [client["name"] for client in params["clients"]]
    for name in names:
        if names.count(name) > 1:
            raise MlflowError(f"clients declares {name} more than once")
    for client in params["clients"]:
        if client["state"] == "absent":
            continue
        if not client["namespaces"]:
            raise MlflowError(f"clients: {client['name']} has no namespaces, so there is nowhere to put its Secret")
        uri = client["tracking_uri"] or params["tracking_uri"] or params["url"]
        if not uri:
            raise MlflowError(f"clients: {client['name']} has no tracking_uri, the URL at which it reaches MLflow")
        user = client["user"] or client["name"]
        for namespace in dict.fromkeys(client["namespaces"]):
            found.append(
                Delivery(
                    kind="client",
                    owner=client["name"],
                    user=user,
                    token=f"{client['name']}/{namespace}",
                    namespace=namespace,
                    secret=client["secret_name"],
                    values={URI: uri.rstrip("/"), USERNAME: user},
                    password_key=PASSWORD,
                    lifetime=client["lifetime_days"],
                    renew_before=client["renew_before_days"],
                    grace=client["grace_days"],
                    take_over=client["take_over"],
                )
            )
    check(found, "clients")
    return found


def ensure_account(accounts: Accounts, user: str, client: str) -> None:
    """Make the service account of a client if it is not there.

    :raises MlflowError: the account is a person's
    """
    account = accounts.find(user)
    if account is None:
        accounts.ensure({"name": user, "display_name": user}, service=True)
    elif account.service is False:
        raise MlflowError(
            f"client {client}: the account {user} is a person's, and a program gets one of its own: give another user"
        )


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True, **CONSTRAINTS)
    params = module.params

    def work(api: MlflowApi) -> dict[str, Any]:
        wanted = deliveries(params)
        changes = Changes(module.check_mode)
        accounts = Accounts(api, changes)
        instance = params["instance"] or default_instance(params)
        tokens = Tokens(api, changes, accounts, "client", instance=instance)
        tokens.look(wanted, every=params["exclusive"] or any(each["state"] == "absent" for each in params["clients"]))
        places = {each.where for each in wanted}
        declared = {client["name"] for client in params["clients"]}
        gone = tokens.undeclared(places, None if params["exclusive"] else declared)
        if not wanted and not gone:
            return {**changes.result(), "clients": []}
        api.require_admin()
        for each in wanted:
            ensure_account(accounts, each.user, each.owner)
        results = tokens.ensure(wanted)
        users = {accounts.key(each.user) for each in wanted}
        for kept in gone:
            user = kept.user
            tokens.remove(kept, still=user in users)
            account = accounts.find(user)
            if params["remove_accounts"] and account and not account.admin and user not in users | tokens.users():
                accounts.remove(account, f"service account {user}")
        tokens.revoke_strays(wanted)
        return {**changes.result(), "clients": results}

    run(module, work, lambda: all_issued(deliveries(params), "clients"))


if __name__ == "__main__":
    main()
