# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter C(pending_workloads)."""

from __future__ import annotations

from typing import Any

from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.workload import PATHS, judge

DOCUMENTATION = r"""
name: pending_workloads
short_description: Picks the workloads that are not ready out of what M(kubernetes.core.k8s) returned
version_added: 0.1.0
author: The mlops.mlflow maintainers (@mlops-mlflow)
description:
  - Takes the registered result of M(kubernetes.core.k8s), for one object or for a list of them.
  - Gives its Deployments, StatefulSets, DaemonSets and Jobs that were not ready when they were applied, in the form
    that M(mlops.mlflow.workload_wait) takes.
  - One whose specification was changed is not ready, since its status is still that of the one before.
positional: _input
options:
  _input:
    description: The registered result.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Wait for what was applied
  mlops.mlflow.workload_wait:
    workloads: "{{ applied | mlops.mlflow.pending_workloads }}"
"""

RETURN = r"""
_value:
  description: The workloads, each a dictionary of V(kind), V(namespace) and V(name).
  type: list
  elements: dict
"""


def pending_workloads(applied: dict[str, Any]) -> list[dict[str, str]]:
    """Give kind, namespace and name of the workloads that are not ready, in the result of kubernetes.core.k8s.

    Args:
        applied: The registered result; C(result.results) holds it for a list, C(result) for one object.

    Returns:
        The workloads in the order in which they were applied; empty where there is none.
    """
    result = applied.get("result") or {}
    objects = [each.get("result") or {} for each in result["results"]] if "results" in result else [result]
    return [
        {"kind": each["kind"], "namespace": each["metadata"]["namespace"], "name": each["metadata"]["name"]}
        for each in objects
        if each.get("kind") in PATHS and not judge(each).ready
    ]


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Any]:
        """Give the filters of this file by name."""
        return {"pending_workloads": pending_workloads}
