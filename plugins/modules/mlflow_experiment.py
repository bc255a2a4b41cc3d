#!/usr/bin/python
# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module C(mlflow_experiment)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mlflow_experiment
short_description: Ensures experiments of MLflow
version_added: 0.1.0
author: mlops.mlflow maintainers (@mlops-mlflow)
description:
  - Ensures that experiments exist with their tags, or are deleted, all in one call.
  - What it creates has the tag C(mlops.mlflow.created_by) with the value C(ansible), by which
    M(mlops.mlflow.mlflow_permission) knows that no user owns it.
notes:
  - MLflow keeps a deleted experiment with its runs, and its name is taken until C(mlflow gc). If it is declared again,
    it is restored.
  - Tags that are not declared are left alone.
extends_documentation_fragment:
  - mlops.mlflow.mlflow
  - mlops.mlflow.mlflow.things
  - kubernetes.core.k8s_auth_options
options:
  experiments:
    description: Experiments that must exist, or must not.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The experiment's name.
        type: str
        required: true
      description:
        description: The text that MLflow shows above its runs.
        type: str
      tags:
        description: The tags to set. Values become strings, as MLflow stores them.
        type: dict
        default: {}
      artifact_location:
        description:
          - Where the files of its runs are stored. The default is the server's location.
          - It is set when the experiment is created, and cannot be changed.
        type: str
      state:
        description: Whether it exists.
        type: str
        choices: [present, absent]
        default: present
"""

EXAMPLES = r"""
- name: Ensure the team's experiments
  mlops.mlflow.mlflow_experiment:
    kubeconfig: "{{ kubeconfig_path }}"
    service: {namespace: mlflow, name: mlflow}
    admin_secret: {namespace: mlflow, name: mlflow-admin}
    experiments:
      - name: churn
        description: Who leaves, and why
        tags: {team: data-science}
      - {name: try-out, state: absent}
"""

RETURN = r"""
changes:
  description: What was changed, or would be, an entry for each change.
  returned: success
  type: list
  elements: str
  sample: ["experiment churn: created", "experiment churn: tag team: none -> data-science"]
experiments:
  description: The ids of the declared experiments that exist, by name.
  returned: success
  type: dict
  sample: {"churn": "7"}
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
from ansible_collections.mlops.mlflow.plugins.module_utils.mlflow.things import EXPERIMENTS, Catalogue, Experiments

ARGUMENT_SPEC = mlflow.argument_spec(experiments=EXPERIMENTS)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, **mlflow.CONSTRAINTS, supports_check_mode=True)
    wanted = module.params["experiments"]

    def work(api: mlflow.MlflowApi) -> dict[str, Any]:
        changes = mlflow.Changes(module.check_mode)
        experiments = Experiments(api, changes, Catalogue(api))
        experiments.run(wanted)
        return {**changes.result(), "experiments": experiments.ids}

    def nothing_yet() -> dict[str, Any]:
        changes = [f"experiment {each['name']}: created" for each in wanted if each["state"] == "present"]
        return {"changes": changes, "experiments": {}}

    mlflow.run(module, work, nothing_yet)


if __name__ == "__main__":
    main()
