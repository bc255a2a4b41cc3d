# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where pods run, and what disturbs them: what C(platform_workloads) asks for, in the manifests of all components.

Templates say nothing of it, so that each setting is there once, for all workloads alike.
"""

from __future__ import annotations

import copy
import hashlib
import json
from typing import Any

# By the kind of a workload, the path of its pods' template.
TEMPLATES = {
    "Deployment": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "DaemonSet": ("spec", "template"),
    "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
}
# Those with several pods that do the same.
REPLICATED = ("Deployment", "StatefulSet")
POD_NAME = "app.kubernetes.io/name"
# By the name of a setting, the field of the pods' specification.
FIELDS = {
    "affinity": "affinity",
    "node_selector": "nodeSelector",
    "priority_class": "priorityClassName",
    "tolerations": "tolerations",
}
# Of each item only the topology key has to be given.
SPREAD = {"maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway"}
OVER_NODES = [{"topologyKey": "kubernetes.io/hostname"}]


def placed(objects: list[dict[str, Any]], component: str, rules: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give the manifests of a component with what rules ask for, and with a PodDisruptionBudget before each workload.

    Without a rule, pods of workloads that may have several are spread over nodes, and nothing else is changed.

    Args:
        objects: the manifests, in the order in which they are applied.
        component: the component's name.
        rules: what C(platform_workloads) holds.
    """
    return [one for each in objects for one in _placed(each, component, rules)]


def settings(rules: list[dict[str, Any]], names: set[str]) -> dict[str, Any]:
    """Join the rules for one of these names, or for all: labels and annotations add up, of others the last counts."""
    found: dict[str, Any] = {}
    for rule in rules:
        if rule.get("names") and not names & set(rule["names"]):
            continue
        for key, value in rule.items():
            if key in ("labels", "annotations"):
                found[key] = {**found.get(key, {}), **(value or {})}
            elif value is not None:
                found[key] = value
    return found


def _placed(given: dict[str, Any], component: str, rules: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if given["kind"] not in TEMPLATES:
        return [given]
    thing = copy.deepcopy(given)
    template = thing
    for key in TEMPLATES[thing["kind"]]:
        template = template[key]
    chosen = settings(rules, {component, template["metadata"]["labels"].get(POD_NAME, component)})
    for metadata in (thing["metadata"], template["metadata"]):
        # Selectors are immutable, and have the component's own labels.
        _add(metadata, "labels", {**chosen.get("labels", {}), **(metadata.get("labels") or {})})
        _add(metadata, "annotations", {**(metadata.get("annotations") or {}), **chosen.get("annotations", {})})
    for key, field in FIELDS.items():
        _add(template["spec"], field, chosen.get(key))
    if thing["kind"] == "Job":
        _rename(thing, given)
    if thing["kind"] not in REPLICATED:
        return [thing]
    spread = chosen.get("topology_spread", OVER_NODES if _has_several(thing) else [])
    _add(template["spec"], "topologySpreadConstraints", [_constraint(thing, each) for each in spread])
    return [_budget(thing, chosen.get("max_unavailable", 1)), thing]


def _add(mapping: dict[str, Any], key: str, value: Any) -> None:
    """Set what is not empty."""
    if value:
        mapping[key] = value


def _has_several(thing: dict[str, Any]) -> bool:
    """Tell whether a workload has several pods, if only during an update."""
    if thing["kind"] == "Deployment":
        return (thing["spec"].get("strategy") or {}).get("type") != "Recreate"
    return int(thing["spec"].get("replicas", 1)) > 1


def _constraint(thing: dict[str, Any], item: dict[str, Any]) -> dict[str, Any]:
    """Fill in which pods are spread: those of the workload, and of a Deployment those of the same version."""
    whose: dict[str, Any] = {}
    if "labelSelector" not in item:
        whose["labelSelector"] = thing["spec"]["selector"]
        if thing["kind"] == "Deployment":
            whose["matchLabelKeys"] = ["pod-template-hash"]
    return {**SPREAD, **whose, **item}


def _budget(thing: dict[str, Any], most: Any) -> dict[str, Any]:
    """Give the PodDisruptionBudget of a workload: who drains nodes takes so many pods at a time, and broken ones."""
    metadata = thing["metadata"]
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {key: metadata[key] for key in ("name", "namespace", "labels") if key in metadata},
        "spec": {
            "maxUnavailable": int(most) if str(most).isdigit() else most,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": thing["spec"]["selector"],
        },
    }


def _rename(job: dict[str, Any], given: dict[str, Any]) -> None:
    """Give a Job whose template was changed a name of its own, since a Job's template is immutable."""
    if job["spec"] != given["spec"]:
        base, _hyphen, former = job["metadata"]["name"].rpartition("-")
        content = json.dumps([former, job["spec"]], sort_keys=True)
        job["metadata"]["name"] = f"{base}-{hashlib.sha256(content.encode()).hexdigest()[:8]}"
