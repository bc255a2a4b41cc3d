# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Monitors: which pods of a component serve metrics, as data, and the PodMonitors by which Prometheus finds them."""

from __future__ import annotations

from typing import Any

from ansible_collections.mlops.mlflow.plugins.filter.flows import LABELS, POD_NAME

API_VERSION = "monitoring.coreos.com/v1"


def with_monitors(
    components: list[dict[str, Any]], settings: dict[str, Any], existing: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Add to components the PodMonitors of what serves metrics in them.

    Args:
        components: as roles register them.
        settings: C(operator), whether Prometheus finds its targets by objects of its operator, and C(labels), further
            labels of these.
        existing: PodMonitors, PrometheusRules and ConfigMaps of dashboards of the collection in the cluster, as
            manifests without content.

    Returns:
        The components, with manifests as C(monitor_objects), and more C(switched_off).
    """
    added = []
    for each in components:
        made = [_pod_monitor(each, monitor, settings) for monitor in each.get("monitors") or []]
        made = made if settings["operator"] else []
        kept = [("PodMonitor", one["metadata"]["name"]) for one in made]
        left = [
            one
            for one in existing
            if one["metadata"]["namespace"] == each["namespace"]
            and not (settings["operator"] and one["kind"] in ("ConfigMap", "PrometheusRule"))
            and (one["kind"], one["metadata"]["name"]) not in kept
        ]
        added.append({**each, "monitor_objects": made, "switched_off": [*(each.get("switched_off") or []), *left]})
    return added


def _pod_monitor(component: dict[str, Any], monitor: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Give the PodMonitor of the pods of one name."""
    name = monitor["pods"]
    endpoint: dict[str, Any] = {"port": monitor["port"], "path": monitor.get("path") or "/metrics"}
    if monitor.get("own_labels"):
        endpoint["honorLabels"] = True
    if monitor.get("host"):
        ca = {"secret": {"name": monitor["secret"], "key": "ca.crt"}}
        endpoint |= {"scheme": "https", "tlsConfig": {"ca": ca, "serverName": monitor["host"]}}
    if monitor.get("token"):
        endpoint["authorization"] = {"credentials": {"name": monitor["token"], "key": "token"}}
    return {
        "apiVersion": API_VERSION,
        "kind": "PodMonitor",
        "metadata": {
            "name": name,
            "namespace": component["namespace"],
            "labels": {**settings["labels"], POD_NAME: name, **LABELS},
        },
        "spec": {
            "jobLabel": POD_NAME,
            "selector": {"matchLabels": {POD_NAME: name}},
            "podMetricsEndpoints": [endpoint],
        },
    }


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Any]:
        """Give the filter of this file by name."""
        return {"with_monitors": with_monitors}
