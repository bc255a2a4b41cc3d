#!/usr/bin/python
# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module C(mlflow_registered_model)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mlflow_registered_model
short_description: Registered models of MLflow, with their tags and aliases
version_added: 0.1.0
author: mlops.mlflow maintainers (@mlops-mlflow)
description:
  - Ensures that registered models are there with their tags and aliases, or that they are not, all in one call.
  - What it makes has the tag C(mlops.mlflow.created_by) with the value C(ansible), by which
    M(mlops.mlflow.mlflow_permission) knows that it is nobody's own.
notes:
  - Tags and aliases that are not declared are left alone.
  - A model of which there are versions is deleted only with O(models[].delete_versions), since MLflow keeps nothing
    of it.
extends_documentation_fragment:
  - mlops.mlflow.mlflow
  - mlops.mlflow.mlflow.things
  - kubernetes.core.k8s_auth_options
options:
  models:
    description: Registered models that must be there, or must not.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The model's name.
        type: str
        required: true
      description:
        description: What people read above its versions.
        type: str
      tags:
        description: Tags that it must have. Values become strings, as MLflow keeps them.
        type: dict
        default: {}
      aliases:
        description:
          - "Versions by alias, such as C({champion: 3}). A version of null takes the alias away."
          - The versions must be there.
        type: dict
        default: {}
      delete_versions:
        description: Whether O(models[].state=absent) deletes a model of which there are versions.
        type: bool
        default: false
      state:
        description: Whether it is to be there.
        type: str
        choices: [present, absent]
        default: present
"""

EXAMPLES = r"""
- name: Ensure the model, and say which version is in use
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
  description: What was changed, or would be, one thing in an entry.
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
from ansible_collections.mlops.mlflow.plugins.module_utils.mlflow.access import (
    ANSIBLE,
    CREATED_BY,
    V2,
    Outcome,
    registered_models,
    tag_changes,
    tagged_options,
    tags,
    tags_of,
    twice,
)

ARGUMENT_SPEC = {
    "models": tagged_options(
        aliases={"type": "dict", "default": {}}, delete_versions={"type": "bool", "default": False}
    )
}

BASE = f"{V2}/registered-models"


class Models:
    """Makes registered models as declared.

    :param check_mode: only find out what would be done
    """

    def __init__(self, api: mlflow.MlflowApi, check_mode: bool) -> None:
        self._api = api
        self._check_mode = check_mode
        self.outcome = Outcome()

    def run(self, wanted: list[dict[str, Any]]) -> None:
        """Ensure them. What cannot be is said before the first change.

        :raises mlflow.MlflowError: something is declared that cannot be
        """
        if not wanted:
            return
        twice("registered model", wanted)
        there = {each["name"]: each for each in registered_models(self._api)}
        for each in wanted:
            self._check(each, there.get(each["name"]))
        for each in wanted:
            found = there.get(each["name"])
            if each["state"] == "absent":
                self._remove(found)
            else:
                self._ensure(each, found)

    def _check(self, each: dict[str, Any], found: dict[str, Any] | None) -> None:
        name = each["name"]
        if each["state"] == "absent":
            if found and found.get("latest_versions") and not each["delete_versions"]:
                raise mlflow.MlflowError(
                    f"registered model {name} has versions: delete_versions must be true for it to be deleted"
                )
            return
        have = _aliases(found)
        for alias, version in each["aliases"].items():
            if version is None or have.get(alias) == str(version):
                continue
            query = {"name": name, "version": str(version)}
            if found is None or self._api.find(f"{V2}/model-versions/get", query) is None:
                raise mlflow.MlflowError(
                    f"registered model {name} has no version {version}, which is to have the alias {alias}"
                )

    def _do(self, method: str, path: str, body: dict[str, Any], what: str) -> None:
        if not self._check_mode:
            self._api.request(method, f"{BASE}/{path}", body, what=what)

    def _remove(self, found: dict[str, Any] | None) -> None:
        if found is not None:
            self.outcome.changes.append(f"registered model {found['name']}: deleted")
            try:
                self._do("DELETE", "delete", {"name": found["name"]}, f"delete the registered model {found['name']}")
            except mlflow.MlflowError as error:
                if not error.absent:
                    raise

    def _ensure(self, each: dict[str, Any], found: dict[str, Any] | None) -> None:
        name = each["name"]
        thing = f"registered model {name}"
        if found is None:
            self.outcome.changes.append(f"{thing}: created")
            wanted = tags_of(each) | {CREATED_BY: ANSIBLE}
            body = {
                "name": name,
                "description": each["description"] or "",
                "tags": [{"key": key, "value": value} for key, value in wanted.items()],
            }
            try:
                self._do("POST", "create", body, f"make the {thing}")
            except mlflow.MlflowError:
                # mlflow-oidc-auth refuses its maker's permission where one is left of a former model of this name,
                # but the model is there by then.
                if self._api.find(f"{BASE}/get", {"name": name}) is None:
                    raise
            return
        description = each["description"]
        if description is not None and description != found.get("description", ""):
            self.outcome.note(f"{thing}: description", found.get("description") or None, description)
            self._do("PATCH", "update", {"name": name, "description": description}, f"describe the {thing}")
        for key, before, after in tag_changes(tags_of(each), tags(found)):
            self.outcome.note(f"{thing}: tag {key}", before, after)
            self._do("POST", "set-tag", {"name": name, "key": key, "value": after}, f"set the tag {key} of the {thing}")
        have = _aliases(found)
        for alias, wish in each["aliases"].items():
            version = None if wish is None else str(wish)
            if have.get(alias) == version:
                continue
            self.outcome.note(f"{thing}: alias {alias}", have.get(alias), version)
            body = {"name": name, "alias": alias}
            if version is None:
                self._do("DELETE", "alias", body, f"take away the alias {alias} of the {thing}")
            else:
                self._do("POST", "alias", body | {"version": version}, f"set the alias {alias} of the {thing}")


def _aliases(found: dict[str, Any] | None) -> dict[str, str]:
    return {each["alias"]: str(each["version"]) for each in (found or {}).get("aliases") or []}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec=mlflow.argument_spec(**ARGUMENT_SPEC), **mlflow.CONSTRAINTS, supports_check_mode=True
    )
    wanted = module.params["models"]

    def work(api: mlflow.MlflowApi) -> dict[str, Any]:
        its = Models(api, module.check_mode)
        its.run(wanted)
        return its.outcome.result()

    def nothing_yet() -> dict[str, Any]:
        return {
            "changes": [f"registered model {each['name']}: created" for each in wanted if each["state"] == "present"]
        }

    mlflow.run(module, work, nothing_yet)


if __name__ == "__main__":
    main()
