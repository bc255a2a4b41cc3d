#!/usr/bin/python
# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module C(mlflow_experiment)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mlflow_experiment
short_description: Experiments of MLflow
version_added: 0.1.0
author: mlops.mlflow maintainers (@mlops-mlflow)
description:
  - Ensures that experiments are there with their tags, or are deleted, all in one call.
  - What it makes has the tag C(mlops.mlflow.created_by) with the value C(ansible), by which
    M(mlops.mlflow.mlflow_permission) knows that it is nobody's own.
notes:
  - MLflow keeps a deleted experiment with its runs, and its name is not free until C(mlflow gc). Declared again, it is
    restored.
  - Tags that are not declared are left alone.
extends_documentation_fragment:
  - mlops.mlflow.mlflow
  - mlops.mlflow.mlflow.things
  - kubernetes.core.k8s_auth_options
options:
  experiments:
    description: Experiments that must be there, or must not.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The experiment's name.
        type: str
        required: true
      description:
        description: What people read above its runs.
        type: str
      tags:
        description: Tags that it must have. Values become strings, as MLflow keeps them.
        type: dict
        default: {}
      artifact_location:
        description:
          - Where the files of its runs go. The server's own place, if not given.
          - It is set when the experiment is made, and cannot be changed.
        type: str
      state:
        description: Whether it is to be there.
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
  description: What was changed, or would be, one thing in an entry.
  returned: success
  type: list
  elements: str
  sample: ["experiment churn: created", "experiment churn: tag team: none -> data-science"]
experiments:
  description: The ids of the experiments that are declared and there, by name.
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
from ansible_collections.mlops.mlflow.plugins.module_utils.mlflow.access import (
    ANSIBLE,
    CREATED_BY,
    V2,
    Outcome,
    experiments,
    tag_changes,
    tagged_options,
    tags,
    tags_of,
    twice,
)

ARGUMENT_SPEC = {"experiments": tagged_options(artifact_location={"type": "str"})}

NOTE = "mlflow.note.content"  # the tag that holds the description


class Experiments:
    """Makes experiments as declared.

    :param check_mode: only find out what would be done
    """

    def __init__(self, api: mlflow.MlflowApi, check_mode: bool) -> None:
        self._api = api
        self._check_mode = check_mode
        self.outcome = Outcome()
        self.ids: dict[str, str] = {}

    def run(self, wanted: list[dict[str, Any]]) -> None:
        """Ensure them. What cannot be is said before the first change.

        :raises mlflow.MlflowError: something is declared that cannot be
        """
        if not wanted:
            return
        twice("experiment", wanted)
        there = {each["name"]: each for each in experiments(self._api)}
        for each in wanted:
            found = there.get(each["name"])
            place = each["artifact_location"]
            if found and place and each["state"] == "present" and found["artifact_location"] != place:
                raise mlflow.MlflowError(
                    f"experiment {each['name']} has the artifact_location '{place}', and its files are in "
                    f"'{found['artifact_location']}': that cannot be changed"
                )
        for each in wanted:
            found = there.get(each["name"])
            if each["state"] == "absent":
                self._remove(found)
            elif found is None:
                self._make(each)
            else:
                self._change(each, found)

    def _do(self, method: str, path: str, body: dict[str, Any], what: str) -> Any:
        return {} if self._check_mode else self._api.request(method, f"{V2}/experiments/{path}", body, what=what)

    def _remove(self, found: dict[str, Any] | None) -> None:
        if found is None or found["lifecycle_stage"] == "deleted":
            return
        self.outcome.changes.append(f"experiment {found['name']}: deleted")
        body = {"experiment_id": found["experiment_id"]}
        self._do("POST", "delete", body, f"delete the experiment {found['name']}")

    def _make(self, each: dict[str, Any]) -> None:
        name = each["name"]
        wanted = tags_of(each, NOTE) | {CREATED_BY: ANSIBLE}
        body = {"name": name, "tags": [{"key": key, "value": value} for key, value in wanted.items()]}
        if each["artifact_location"]:
            body["artifact_location"] = each["artifact_location"]
        self.outcome.changes.append(f"experiment {name}: created")
        made = self._do("POST", "create", body, f"make the experiment {name}")
        if made:
            self.ids[name] = made["experiment_id"]

    def _change(self, each: dict[str, Any], found: dict[str, Any]) -> None:
        name, number = each["name"], found["experiment_id"]
        self.ids[name] = number
        if found["lifecycle_stage"] == "deleted":
            self.outcome.changes.append(f"experiment {name}: restored")
            self._do("POST", "restore", {"experiment_id": number}, f"restore the experiment {name}")
        for key, before, after in tag_changes(tags_of(each, NOTE), tags(found)):
            thing = "description" if key == NOTE else f"tag {key}"
            self.outcome.note(f"experiment {name}: {thing}", before, after)
            body = {"experiment_id": number, "key": key, "value": after}
            self._do("POST", "set-experiment-tag", body, f"set the {thing} of the experiment {name}")


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec=mlflow.argument_spec(**ARGUMENT_SPEC), **mlflow.CONSTRAINTS, supports_check_mode=True
    )
    wanted = module.params["experiments"]

    def work(api: mlflow.MlflowApi) -> dict[str, Any]:
        its = Experiments(api, module.check_mode)
        its.run(wanted)
        return {**its.outcome.result(), "experiments": its.ids}

    def nothing_yet() -> dict[str, Any]:
        changes = [f"experiment {each['name']}: created" for each in wanted if each["state"] == "present"]
        return {"changes": changes, "experiments": {}}

    mlflow.run(module, work, nothing_yet)


if __name__ == "__main__":
    main()
