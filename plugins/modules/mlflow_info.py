#!/usr/bin/python
# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module C(mlflow_info)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mlflow_info
short_description: Read what an MLflow has, and who may use it
version_added: 0.1.0
author: mlops.mlflow maintainers (@mlops-mlflow)
description:
  - Reads a server's version and login, and on demand its accounts, access tokens, groups, experiments and registered
    models, with mlflow-oidc-auth and with MLflow's basic-auth.
  - It returns names and dates, never a token.
extends_documentation_fragment:
  - mlops.mlflow.mlflow
  - kubernetes.core.k8s_auth_options
attributes:
  check_mode:
    description: Can run in check mode, and does the same there. It changes nothing.
    support: full
  diff_mode:
    description: There is nothing to compare.
    support: none
options:
  gather:
    description:
      - What to read beside version and login.
      - V(users), V(groups) and V(tokens) need an administrator. V(tokens) takes a request for each service account.
    type: list
    elements: str
    choices: [users, tokens, groups, experiments, registered_models]
    default: [users, groups]
  max_results:
    description: How many experiments, and how many registered models, are read at most.
    type: int
    default: 1000
"""

EXAMPLES = r"""
- name: See which tokens end within a month
  mlops.mlflow.mlflow_info:
    url: https://mlflow.example.com
    admin_secret: {namespace: mlflow, name: mlflow-admin}
    gather: [tokens]
  register: mlflow
- name: Name them
  ansible.builtin.debug:
    msg: "{{ mlflow.tokens | selectattr('expires', '<', end) | map(attribute='name') }}"
  vars:
    end: "{{ '%Y-%m-%d' | strftime(now().timestamp() + 30 * 86400) }}"
"""

RETURN = r"""
version:
  description: MLflow's version. Empty if the server does not return it.
  returned: success
  type: str
  sample: 3.17.2
auth_plugin:
  description: MLflow's authentication plugin, V(oidc) or V(basic).
  returned: success
  type: str
  sample: oidc
account:
  description: The account of this call, with C(name) and C(admin).
  returned: success
  type: dict
  sample: {"name": "mlflow-admin", "admin": true}
users:
  description: Accounts of users and programs.
  returned: when O(gather) has V(users)
  type: list
  elements: dict
  sample: [{"name": "ada", "admin": false, "active": true, "service_account": false, "display_name": "Ada Lovelace"}]
tokens:
  description: Access tokens of service accounts. MLflow's basic-auth has none.
  returned: when O(gather) has V(tokens)
  type: list
  elements: dict
  sample:
    - user: training
      name: training/team-a 2026-11-22 05:20:00
      created: "2026-11-22T05:20:00+00:00"
      expires: "2027-02-20T05:20:00+00:00"
      last_used: null
groups:
  description: Groups with their members. They are the roles of MLflow's basic-auth.
  returned: when O(gather) has V(groups)
  type: list
  elements: dict
  sample: [{"name": "team-a", "members": ["ada"]}]
experiments:
  description: Experiments that the account may see.
  returned: when O(gather) has V(experiments)
  type: list
  elements: dict
  sample: [{"id": "1", "name": "churn", "stage": "active"}]
registered_models:
  description: Registered models that the account may see.
  returned: when O(gather) has V(registered_models)
  type: list
  elements: dict
  sample: [{"name": "churn", "aliases": {"champion": "3"}}]
requests:
  description: How many requests were sent to MLflow.
  returned: success
  type: int
  sample: 4
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.mlflow.plugins.module_utils.mlflow.access import roles, users
from ansible_collections.mlops.mlflow.plugins.module_utils.mlflow.accounts import USERS, Accounts
from ansible_collections.mlops.mlflow.plugins.module_utils.mlflow.client import (
    CONSTRAINTS,
    SEARCH,
    Changes,
    MlflowApi,
    MlflowError,
    argument_spec,
    run,
    segment,
)
from ansible_collections.mlops.mlflow.plugins.module_utils.mlflow.things import MODELS, V2, paged

GROUPS = f"{V2}/permissions/groups"

ARGUMENT_SPEC = argument_spec(
    gather={
        "type": "list",
        "elements": "str",
        "choices": ["users", "tokens", "groups", "experiments", "registered_models"],
        "default": ["users", "groups"],
    },
    max_results={"type": "int", "default": 1000},
)


def version(api: MlflowApi) -> str:
    """Give the server's version; it answers in plain text, which is JSON only by chance."""
    return api.text("/version")


def tokens(api: MlflowApi, accounts: Accounts) -> list[dict[str, Any]]:
    """Give the access tokens of service accounts."""
    if api.plugin == "basic":
        return []
    found = []
    for account in accounts.all().values():
        if not account.service:
            continue
        rows = api.request("GET", f"{USERS}/{segment(account.name)}/tokens", what=f"list the tokens of {account.name}")
        found += [
            {
                "user": account.name,
                "name": row["name"],
                "created": row["created_at"],
                "expires": row["expires_at"],
                "last_used": row["last_used_at"],
            }
            for row in rows["tokens"]
        ]
    return found


def groups(api: MlflowApi) -> list[dict[str, Any]]:
    """Give groups with their members; of basic-auth the roles of the default workspace."""
    if api.plugin == "oidc":
        names = api.request("GET", GROUPS, what="list the groups")
        found = {
            name: api.request("GET", f"{GROUPS}/{segment(name)}/users", what=f"list the members of {name}")
            for name in names
        }
        return [{"name": name, "members": sorted(each["username"] for each in rows)} for name, rows in found.items()]
    members: dict[str, list[str]] = {name: [] for name in roles(api)}
    for user in users(api):
        for role in user["roles"]:
            if role["name"] in members:
                members[role["name"]].append(user["username"])
    return [{"name": name, "members": sorted(who)} for name, who in members.items()]


def pages(api: MlflowApi, path: str, key: str, most: int) -> list[dict[str, Any]]:
    """Give what the account may see of a list."""
    what = f"list {key.replace('_', ' ')}"
    return paged(lambda page: api.request("GET", path, query=page, what=what), key, most)


def gather(api: MlflowApi, what: list[str], most: int) -> dict[str, Any]:
    """Read what is requested."""
    me = api.whoami()
    result: dict[str, Any] = {"version": version(api), "auth_plugin": api.plugin, "account": me}
    accounts = Accounts(api, Changes(check_mode=True))
    if {"users", "tokens", "groups"} & set(what):
        api.require_admin()
    if "users" in what:
        result["users"] = [account.shown() for account in accounts.all().values()]
    if "tokens" in what:
        result["tokens"] = tokens(api, accounts)
    if "groups" in what:
        result["groups"] = groups(api)
    if "experiments" in what:
        result["experiments"] = [
            {"id": each["experiment_id"], "name": each["name"], "stage": each["lifecycle_stage"]}
            for each in pages(api, SEARCH, "experiments", most)
        ]
    if "registered_models" in what:
        result["registered_models"] = [
            {"name": each["name"], "aliases": {alias["alias"]: alias["version"] for alias in each.get("aliases") or []}}
            for each in pages(api, f"{MODELS}/search", "registered_models", most)
        ]
    return result


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True, **CONSTRAINTS)

    def work(api: MlflowApi) -> dict[str, Any]:
        if module.params["max_results"] < 1:
            raise MlflowError(f"max_results is {module.params['max_results']}, and must be 1 or more")
        return gather(api, module.params["gather"], module.params["max_results"])

    run(module, work)


if __name__ == "__main__":
    main()
