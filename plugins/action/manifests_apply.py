# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action plugin of manifests_apply: has kubernetes.core.k8s apply a list, and says what came of each object."""

from __future__ import annotations

import time
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.workload import PATHS, judge

ARGUMENTS: dict[str, Any] = {
    "kubeconfig": {"type": "raw"},
    "context": {"type": "str"},
    "manifests": {"type": "list", "elements": "dict", "required": True},
    "field_manager": {"type": "str", "required": True},
    "api_groups": {"type": "list", "elements": "str"},
}
# What kubernetes.core says of a kind that the API server does not serve.
UNKNOWN = "Failed to find exact match"
# Seconds before each try of kinds that were defined just before: the API server serves them a moment later.
TRIES = (0, 1, 2, 4, 8, 15)


class ActionModule(ActionBase):
    """Calls the module once for all objects."""

    _supports_check_mode = True
    _supports_diff = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Apply the objects, and pick from the module's result, which holds each object whole."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        _validation, options = self.validate_argument_spec(argument_spec=ARGUMENTS)
        manifests = options["manifests"]
        if not manifests:
            return {**result, "changed": False, "changed_objects": [], "pending": [], "jobs": []}
        first, later = by_definition(manifests, options["api_groups"])
        arguments = {
            "apply": True,
            # An object that is refused is no reason to leave out what other components need.
            "continue_on_error": True,
            # Who set which field when is noise in a difference.
            "hidden_fields": ["metadata.managedFields"],
            "server_side_apply": {"field_manager": options["field_manager"], "force_conflicts": True},
            **{name: options[name] for name in ("kubeconfig", "context") if options[name]},
        }
        failure, applied = self._apply(first, arguments, task_vars)
        if failure:
            return {**result, **failure}
        if later and self._task.check_mode:
            # The API server cannot try what it does not know.
            applied += [{"changed": True} for _each in later]
        elif later:
            for seconds in TRIES:
                time.sleep(seconds)
                failure, others = self._apply(later, arguments, task_vars)
                if failure:
                    return {**result, **failure}
                if not any(UNKNOWN in str((each.get("error") or {}).get("msg")) for each in others):
                    break
            applied += others
        return {**result, **summary(first + later, applied)}

    def _apply(
        self, manifests: list[dict[str, Any]], arguments: dict[str, Any], task_vars: dict[str, Any] | None
    ) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Have the module apply objects; gives the module's failure, and what it returned for each."""
        arguments = {"definition": manifests, **arguments}
        returned = self._execute_module("kubernetes.core.k8s", module_args=arguments, task_vars=task_vars)
        if returned.get("failed"):
            return returned, []
        return {}, returned["result"]["results"] if len(manifests) > 1 else [returned]


def by_definition(
    manifests: list[dict[str, Any]], groups: list[str] | None
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Split off the objects of kinds that others of them define, in API groups that the cluster does not have yet.

    Args:
        manifests: what is applied.
        groups: the API groups that the cluster has; None if that is not known.
    """
    if groups is None:
        return manifests, []
    new = {each["spec"]["group"] for each in manifests if each["kind"] == "CustomResourceDefinition"} - set(groups)
    later = [each for each in manifests if each["apiVersion"].rpartition("/")[0] in new]
    return [each for each in manifests if each not in later], later


def summary(manifests: list[dict[str, Any]], applied: list[dict[str, Any]]) -> dict[str, Any]:
    """Give what a task returns of applied objects.

    Args:
        manifests: what was applied.
        applied: what the module returned for each, in the same order.

    Returns:
        C(changed); C(changed_objects), as kind and place; C(pending), the workloads that are not ready, and C(jobs),
        all Jobs, as module C(workload_wait) takes them; C(diff), with a header for each object that differs; and where
        objects were refused, C(failed) and C(msg), which names each with the reason.
    """
    changed, pending, diffs, refused = [], [], [], []
    for manifest, one in zip(manifests, applied, strict=True):
        live = one.get("result") or {}
        metadata = manifest["metadata"]
        place = "/".join(filter(None, (metadata.get("namespace"), metadata["name"])))
        title = f"{manifest['kind']} {place}"
        if one.get("error"):
            refused.append(f"{title}: {one['error'].get('msg', 'refused without a reason')}")
        if one.get("changed"):
            changed.append(title)
        if one.get("changed") and one.get("diff"):
            diffs.append({"before_header": title, "after_header": title, **one["diff"]})
        if live.get("kind") in PATHS and not judge(live).ready:
            home = live["metadata"]["namespace"]
            pending.append({"kind": live["kind"], "namespace": home, "name": live["metadata"]["name"]})
    jobs = [
        {"kind": "Job", "namespace": each["metadata"]["namespace"], "name": each["metadata"]["name"]}
        for each in manifests
        if each["kind"] == "Job"
    ]
    failure = {"failed": True, "msg": "The cluster refused " + "\nand ".join(refused)} if refused else {}
    return {
        "changed": bool(changed),
        "changed_objects": changed,
        "pending": pending,
        "jobs": jobs,
        "diff": diffs,
        **failure,
    }
