# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action plugin of manifests_apply: has kubernetes.core.k8s apply a list, and says what came of each object."""

from __future__ import annotations

import time
from typing import Any, ClassVar

from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.client import APPLY_PATCH, KubeError
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.workload import PATHS, judge
from ansible_collections.mlops.mlflow.plugins.plugin_utils.local_action import LocalAction
from ansible_collections.mlops.mlflow.plugins.plugin_utils.workload_watch import Target

# Those whose pods others may count, such as a HorizontalPodAutoscaler.
SCALED = ("Deployment", "StatefulSet")
# What kubernetes.core says of a kind that the API server does not serve.
UNKNOWN = "Failed to find exact match"
# Seconds before each try of kinds that were defined just before: the API server serves them a moment later.
TRIES = (0, 1, 2, 4, 8, 15)


class ActionModule(LocalAction):
    """Calls the module once for all objects."""

    _supports_check_mode = True
    _supports_diff = True
    _supports_async = False
    ARGUMENTS: ClassVar[dict[str, Any]] = {
        "kubeconfig": {"type": "raw"},
        "context": {"type": "str"},
        "manifests": {"type": "list", "elements": "dict", "required": True},
        "field_manager": {"type": "str", "required": True},
        "api_groups": {"type": "list", "elements": "str"},
    }

    def act(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Apply the objects, and pick from the module's result, which holds each object whole."""
        if not options["manifests"]:
            return {"changed": False, "changed_objects": [], "pending": [], "jobs": []}
        try:
            manifests = self._keep_replicas(options)
        except KubeError as error:
            return {"failed": True, "msg": f"The manifests cannot be applied: {error}"}
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
            return failure
        if later and self._task.check_mode:
            # The API server cannot try what it does not know.
            applied += [{"changed": True} for _each in later]
        elif later:
            for seconds in TRIES:
                time.sleep(seconds)
                failure, others = self._apply(later, arguments, task_vars)
                if failure:
                    return failure
                if not any(UNKNOWN in str((each.get("error") or {}).get("msg")) for each in others):
                    break
            applied += others
        return summary(first + later, applied)

    def _apply(
        self, manifests: list[dict[str, Any]], arguments: dict[str, Any], task_vars: dict[str, Any]
    ) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Have the module apply objects; gives the module's failure, and what it returned for each."""
        arguments = {"definition": manifests, **arguments}
        returned = self._execute_module("kubernetes.core.k8s", module_args=arguments, task_vars=task_vars)
        if returned.get("failed"):
            return dict(returned), []
        return {}, returned["result"]["results"] if len(manifests) > 1 else [returned]

    def _keep_replicas(self, options: dict[str, Any]) -> list[dict[str, Any]]:
        """Have the number of pods stay where the manifests no longer give it, and give what to apply.

        A field that its only manager leaves out is removed, and without it one pod is the default, until an autoscaler
        has counted. So another manager takes it over first, as it is.
        https://kubernetes.io/docs/reference/using-api/server-side-apply/#transferring-ownership
        """
        manager = options["field_manager"]
        kept, api = [], None
        for each in options["manifests"]:
            kept.append(each)
            if each["kind"] not in SCALED or "replicas" in each["spec"]:
                continue
            api = api or self.connect(options)
            place = {key: each["metadata"][key] for key in ("name", "namespace")}
            path = Target(each["kind"], **place).path
            live = api.find(path)
            if live is None or not _owns_replicas(live, manager):
                continue
            there = {"replicas": live["spec"]["replicas"]}
            if self._task.check_mode:  # which tells of no change that there will not be
                kept[-1] = {**each, "spec": {**each["spec"], **there}}
                continue
            body = {"apiVersion": each["apiVersion"], "kind": each["kind"], "metadata": place, "spec": there}
            query = {"fieldManager": f"{manager}-replicas", "force": "true"}
            api.json("PATCH", path, query=query, body=body, content_type=APPLY_PATCH)
        return kept


def _owns_replicas(live: dict[str, Any], manager: str) -> bool:
    """Tell whether a manager has applied the number of pods."""
    return any(
        each.get("manager") == manager
        and each.get("operation") == "Apply"
        and "f:replicas" in (each.get("fieldsV1") or {}).get("f:spec", {})
        for each in live["metadata"].get("managedFields") or []
    )


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
