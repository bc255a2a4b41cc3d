#!/usr/bin/python
# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module C(mlflow_registered_model)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mlflow_registered_model
short_description: Ensures registered models of MLflow, with their tags and aliases
version_added: 0.1.0
author: mlops.mlflow maintainers (@mlops-mlflow)
description:
  - Ensures that registered models exist with their tags and aliases, or are deleted, all in one call.
  - What it creates has the tag C(mlops.mlflow.created_by) with the value C(ansible), by which
    M(mlops.mlflow.mlflow_permission) knows that no user owns it.
notes:
  - Tags and aliases that are not declared are left alone.
  - A model that has versions is deleted only with O(models[].delete_versions), since MLflow cannot restore it.
extends_documentation_fragment:
  - mlops.mlflow.mlflow
  - mlops.mlflow.mlflow.things
  - kubernetes.core.k8s_auth_options
options:
  models:
    description: Registered models that must exist, or must not.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The model's name.
        type: str
        required: true
      description:
        description: The text that MLflow shows above its versions.
        type: str
      tags:
        description: The tags to set. Values become strings, as MLflow stores them.
        type: dict
        default: {}
      aliases:
        description:
          - "Versions by alias, such as C({champion: 3}). A version of null removes the alias."
          - The versions must exist.
        type: dict
        default: {}
      delete_versions:
        description: Whether O(models[].state=absent) deletes a model that has versions.
        type: bool
        default: false
      state:
        description: Whether it exists.
        type: str
        choices: [present, absent]
        default: present
"""

EXAMPLES = r"""
- name: Ensure the model, and name the version in use
  mlops.mlflow.mlflow_registered_model:
    url: https://mlflow.example.org
    username: "{{ mlflow_admin }}"
    password: "{{ mlflow_token }}"
    models:
      - name: churn
        description: Who leaves
        tags: {team: data-science}
        aliases: {champion: 3, challenger: null}
      - {name: try-out, state: absent}
"""

RETURN = r"""
changes:
  description: What was changed, or would be, an entry for each change.
  returned: success
  type: list
  elements: str
  sample: ["registered model churn: alias champion: 2 -> 3"]
requests:
  description: How many requests were sent to MLflow.
  returned: success
  type: int
  sample: 2
msg:
  description: Why nothing was compared.
  returned: in check mode, where MLflow does not run yet
  type: str
  sample: "MLflow does not run yet: there is no Service mlflow in the namespace mlflow"
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.mlflow.plugins.module_utils.mlflow import client as mlflow
from ansible_collections.mlops.mlflow.plugins.module_utils.mlflow.things import REGISTERED_MODELS, Catalogue, Models

ARGUMENT_SPEC = mlflow.argument_spec(models=REGISTERED_MODELS)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, **mlflow.CONSTRAINTS, supports_check_mode=True)
    wanted = module.params["models"]

    def work(api: mlflow.MlflowApi) -> dict[str, Any]:
        changes = mlflow.Changes(module.check_mode)
        Models(api, changes, Catalogue(api)).run(wanted)
        return changes.result()

    def nothing_yet() -> dict[str, Any]:
        return {
            "changes": [f"registered model {each['name']}: created" for each in wanted if each["state"] == "present"]
        }

    mlflow.run(module, work, nothing_yet)


if __name__ == "__main__":
    main()
