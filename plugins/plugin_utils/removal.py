# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects that are to be gone from a cluster, and what still holds them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.client import Api, ApiError, KubeError, quoted
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.workload import claims, one_line

PODS = 5  # that are named


@dataclass
class Removal:
    """An object that is to be gone.

    Attributes:
        namespace: Empty for an object of the cluster.
        gone: Whether it was gone at the last look; it is not looked for again then.
    """

    api_version: str
    kind: str
    name: str
    namespace: str = ""
    gone: bool = False
    _path: str = field(default="", repr=False)
    _found: dict[str, Any] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace + '/' if self.namespace else ''}{self.name}"

    def look(self, api: Api) -> bool:
        """Look for it once; says whether it is gone.

        Raises:
            KubeError: The API server refuses, or the object has no namespace and needs one.
        """
        if not self.gone:
            path = self._path or self._resolve(api)
            found = api.find(path) if path else None
            self.gone, self._found = found is None, found or {}
        return self.gone

    def _resolve(self, api: Api) -> str:
        """Give its path in the API; empty where the cluster does not know its kind, so that there can be none."""
        group = f"/api{'' if '/' not in self.api_version else 's'}/{self.api_version}"
        known = (api.find(group) or {}).get("resources") or []
        resource = next((each for each in known if each["kind"] == self.kind and "/" not in each["name"]), None)
        if resource is None:
            return ""
        if resource.get("namespaced") and not self.namespace:
            raise KubeError(f"gone names {self.kind} {self.name} without its namespace")
        within = f"/namespaces/{quoted(self.namespace)}" if resource.get("namespaced") else ""
        self._path = f"{group}{within}/{resource['name']}/{quoted(self.name)}"
        return self._path

    def blockers(self, api: Api) -> list[str]:
        """Say what holds it: finalizers, pods, or that it is not being deleted."""
        metadata = self._found.get("metadata") or {}
        if not metadata.get("deletionTimestamp"):
            return ["it is not being deleted"]
        finalizers = [*(metadata.get("finalizers") or []), *((self._found.get("spec") or {}).get("finalizers") or [])]
        words = [f"finalizers {', '.join(finalizers)}"] if finalizers else []
        for each in (self._found.get("status") or {}).get("conditions") or []:
            # https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/namespace-v1/#NamespaceStatus
            if self.kind == "Namespace" and each.get("status") == "True":
                words.append(one_line(each.get("message")))
        pods = self._pods(api)
        if pods:
            more = f" and {len(pods) - PODS} more" if len(pods) > PODS else ""
            words.append(f"pods {', '.join(pods[:PODS])}{more}")
        return words or ["nothing that can be seen"]

    def _pods(self, api: Api) -> list[str]:
        """Name the pods that may hold it: those that use a claim, or else those of its namespace that are ending."""
        namespace = self.name if self.kind == "Namespace" else self.namespace
        if not namespace:
            return []
        try:
            pods = api.get(f"/api/v1/namespaces/{quoted(namespace)}/pods").get("items") or []
        except ApiError:
            return []
        if self.kind == "PersistentVolumeClaim":
            return [pod["metadata"]["name"] for pod in pods if self.name in claims(pod)]
        return [f"{pod['metadata']['name']} (terminating)" for pod in pods if pod["metadata"].get("deletionTimestamp")]
