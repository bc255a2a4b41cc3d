# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action plugin of cluster_info: reads the cluster from the control node, without a process of its own."""

from __future__ import annotations

import ipaddress
import re
from typing import Any, ClassVar

from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.client import (
    FIELD_MANAGER,
    Api,
    KubeError,
    auth_argument_spec,
)
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.listing import (
    DEPLOYMENTS,
    MANAGED_BY,
    OURS,
    STATEFUL_SETS,
    VOLUMES,
    Listing,
)
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.quantity import mebibytes
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.workload import judge
from ansible_collections.mlops.mlflow.plugins.module_utils.sealing.controller import NAMES_ONLY, controllers
from ansible_collections.mlops.mlflow.plugins.module_utils.sealing.crypto import API_VERSION
from ansible_collections.mlops.mlflow.plugins.plugin_utils.local_action import LocalAction

DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
NETWORK_POLICIES = "/apis/networking.k8s.io/v1/networkpolicies"
DEFAULT_INGRESS_CLASS = "ingressclass.kubernetes.io/is-default-class"
INGRESSES = "/apis/networking.k8s.io/v1/ingresses"
INGRESS_CLASSES = "/apis/networking.k8s.io/v1/ingressclasses"
GATEWAY_GROUP = "gateway.networking.k8s.io"
GATEWAYS = f"/apis/{GATEWAY_GROUP}/v1/gateways"
GATEWAY_CLASSES = f"/apis/{GATEWAY_GROUP}/v1/gatewayclasses"
HTTP_ROUTES = f"/apis/{GATEWAY_GROUP}/v1/httproutes"
GATEWAY_KINDS = f"/apis/{GATEWAY_GROUP}/v1"
# Of the Gateway API 1.4 and newer.
BACKEND_POLICIES = f"/apis/{GATEWAY_GROUP}/v1/backendtlspolicies"
# Nodes have a part each of the network of pods, which is at least this large as a rule.
WHOLE_NETWORKS = {4: 16, 6: 56}
SEALED_SECRETS = f"/apis/{API_VERSION}/sealedsecrets"
CERT_MANAGER = "cert-manager.io"
MONITORING = "monitoring.coreos.com"
MONITORS = {
    "PodMonitor": f"/apis/{MONITORING}/v1/podmonitors",
    "PrometheusRule": f"/apis/{MONITORING}/v1/prometheusrules",
}
CONFIG_MAPS = "/api/v1/configmaps"
# What the sidecar of Grafana's charts looks for.
DASHBOARDS = {"labelSelector": f"{OURS},grafana_dashboard"}
AUTOSCALERS = "/apis/autoscaling/v2/horizontalpodautoscalers"
PRIORITY_CLASSES = "/apis/scheduling.k8s.io/v1/priorityclasses"
CERTIFICATES = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/certificates.{CERT_MANAGER}"


class ActionModule(LocalAction):
    """Looks at the cluster."""

    ARGUMENTS: ClassVar[dict[str, Any]] = {
        **auth_argument_spec(),
        "pod_networks": {"type": "bool", "default": False},
    }

    def act(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Read all that is returned."""
        try:
            return {"changed": False, **look(self.connect(options), options["pod_networks"])}
        except KubeError as error:
            return {"failed": True, "msg": f"The cluster cannot be used: {error}"}


def minor_version(version: dict[str, Any]) -> int:
    """Give the minor version as a number; managed clusters write it as V(34+)."""
    digits = re.match(r"\d+", str(version.get("minor", "")))
    return int(digits.group()) if digits else 0


def default_class(classes: list[dict[str, Any]], annotation: str = DEFAULT_CLASS) -> str:
    """Name the default class: of several the newest, as Kubernetes has it; empty if there is none.

    Args:
        classes: storage classes or ingress classes.
        annotation: what marks a class as the default.
    """
    defaults = [
        each["metadata"] for each in classes if (each["metadata"].get("annotations") or {}).get(annotation) == "true"
    ]
    # The newest takes precedence, and of those of the same second the first by name.
    defaults.sort(key=lambda each: each["name"])
    defaults.sort(key=lambda each: each.get("creationTimestamp") or "", reverse=True)
    return defaults[0]["name"] if defaults else ""


def places(things: list[dict[str, Any]]) -> list[str]:
    """Give namespace/name of each."""
    return sorted(f"{each['metadata']['namespace']}/{each['metadata']['name']}" for each in things)


def managed_by(thing: dict[str, Any]) -> str:
    """Say who manages a thing; empty where it does not tell."""
    return str((thing["metadata"].get("labels") or {}).get(MANAGED_BY, ""))


def used_ports(services: list[dict[str, Any]]) -> dict[str, str]:
    """Map each node port that is taken to namespace/name of its Service."""
    return {
        str(port): f"{each['metadata']['namespace']}/{each['metadata']['name']}"
        for each in services
        for port in [
            *(one.get("nodePort") for one in each["spec"].get("ports") or []),
            each["spec"].get("healthCheckNodePort"),
        ]
        if port
    }


def volumes(claims: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Map namespace/name of each claim that is not being deleted to its class and size."""
    return {
        f"{each['metadata']['namespace']}/{each['metadata']['name']}": {
            "class": each["spec"].get("storageClassName") or "",
            "mib": mebibytes(each["spec"]["resources"]["requests"]["storage"]),
        }
        for each in claims
        if not each["metadata"].get("deletionTimestamp")
    }


def images(workloads: list[dict[str, Any]]) -> dict[str, str]:
    """Map namespace/name of each workload that is not being deleted to the image of its first container."""
    return {
        f"{each['metadata']['namespace']}/{each['metadata']['name']}": containers[0]["image"]
        for each in workloads
        if not each["metadata"].get("deletionTimestamp")
        and (containers := each["spec"]["template"]["spec"]["containers"])
    }


def issuers(kind: str, things: list[dict[str, Any]]) -> list[str]:
    """Give kind/namespace/name of each issuer of cert-manager, or kind/name where it has no namespace."""
    return sorted(
        "/".join([kind, *(each["metadata"][key] for key in ("namespace", "name") if each["metadata"].get(key))])
        for each in things
    )


def networks_of_pods(nodes: list[dict[str, Any]]) -> list[str]:
    """Give the networks of the pods of these nodes, each so large that it holds those of further nodes as a rule."""
    found = set()
    for each in nodes:
        for text in each["spec"].get("podCIDRs") or []:
            network = ipaddress.ip_network(text, strict=False)
            whole = min(WHOLE_NETWORKS[network.version], network.prefixlen)
            found.add(network.supernet(new_prefix=whole))
    return [str(each) for each in sorted(found, key=lambda each: (each.version, each))]


def named(kind: str, api_version: str, things: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Name things as manifests without content."""
    return [
        {
            "apiVersion": api_version,
            "kind": kind,
            "metadata": {key: each["metadata"][key] for key in ("namespace", "name")},
        }
        for each in things
        if not each["metadata"].get("deletionTimestamp")
    ]


def listeners(gateways: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Map namespace/name of each Gateway to its listeners."""
    return {
        f"{each['metadata']['namespace']}/{each['metadata']['name']}": [
            {
                "name": one["name"],
                "protocol": one["protocol"],
                "port": one["port"],
                "hostname": one.get("hostname") or "",
                "namespaces": ((one.get("allowedRoutes") or {}).get("namespaces") or {}).get("from") or "Same",
            }
            for one in each["spec"].get("listeners") or []
        ]
        for each in gateways
    }


def look(api: Api, pod_networks: bool = False) -> dict[str, Any]:
    """Read all that the action returns.

    Args:
        api: the API server.
        pod_networks: whether to read the nodes for the networks of their pods.

    Raises:
        KubeError: The cluster cannot be used.
    """
    listing = Listing(api)
    readable, items = listing.read, listing.items
    version = api.get("/version")
    if "gitVersion" not in version:
        raise KubeError(
            f"{api.settings.server} ({api.settings.source}) does not answer as a Kubernetes API server does"
        )
    # Namespaces come first after the version, which anonymous users may read: here a wrong token shows.
    namespaces = api.json("GET", "/api/v1/namespaces", accept=NAMES_ONLY).get("items") or []
    classes = items("storage_classes", "/apis/storage.k8s.io/v1/storageclasses")
    services = items("node_ports", "/api/v1/services")
    ours = {"labelSelector": OURS}
    claims = items("volumes", VOLUMES, query=ours)
    stateful = items("images", STATEFUL_SETS, query=ours)
    policies = items("network_policies", NETWORK_POLICIES, query=ours, accept=NAMES_ONLY)
    groups = sorted(each["name"] for each in api.get("/apis").get("groups") or [])
    sealing = API_VERSION.partition("/")[0] in groups
    sealed = items("sealed_secrets", SEALED_SECRETS, accept=NAMES_ONLY) if sealing else []
    unsealing = readable("sealed_secrets_controllers", lambda: controllers(api)) if sealing else None
    issuing = f"/apis/{CERT_MANAGER}/v1" if CERT_MANAGER in groups else ""
    deployments = items("deployments", DEPLOYMENTS, query=ours) if sealing or issuing else []
    cluster_issuers = items("issuers", f"{issuing}/clusterissuers", accept=NAMES_ONLY) if issuing else []
    local_issuers = items("issuers", f"{issuing}/issuers", accept=NAMES_ONLY) if issuing else []
    own_issuers = [each for each in local_issuers if managed_by(each) == FIELD_MANAGER]
    certificates = items("certificates", f"{issuing}/certificates", query=ours) if issuing else []
    definition = readable("cert_manager", lambda: api.json("GET", CERTIFICATES)) if issuing else None
    ingress_classes = items("ingress_classes", INGRESS_CLASSES)
    routes = named("Ingress", "networking.k8s.io/v1", items("routes", INGRESSES, query=ours))
    gateways, gateway_classes, gateway_kinds = [], [], []
    if GATEWAY_GROUP in groups:
        resources = readable("gateway_kinds", lambda: api.json("GET", GATEWAY_KINDS).get("resources")) or []
        gateway_kinds = sorted({each["kind"] for each in resources})
        routes += named("HTTPRoute", f"{GATEWAY_GROUP}/v1", items("routes", HTTP_ROUTES, query=ours))
        if "BackendTLSPolicy" in gateway_kinds:
            policed = items("routes", BACKEND_POLICIES, query=ours)
            routes += named("BackendTLSPolicy", f"{GATEWAY_GROUP}/v1", policed)
        gateways = items("gateways", GATEWAYS)
        gateway_classes = items("gateway_classes", GATEWAY_CLASSES, accept=NAMES_ONLY, query=ours)
    monitors = named("ConfigMap", "v1", items("monitors", CONFIG_MAPS, query=DASHBOARDS, accept=NAMES_ONLY))
    for kind, path in MONITORS.items() if MONITORING in groups else ():
        monitors += named(kind, f"{MONITORING}/v1", items("monitors", path, query=ours))
    nodes = items("pod_networks", "/api/v1/nodes") if pod_networks else []
    autoscalers = items("autoscalers", AUTOSCALERS, query=ours, accept=NAMES_ONLY)
    priority_classes = items("priority_classes", PRIORITY_CLASSES, accept=NAMES_ONLY)
    return {
        "server_version": version["gitVersion"],
        "minor": minor_version(version),
        "namespaces": sorted(
            each["metadata"]["name"] for each in namespaces if not each["metadata"].get("deletionTimestamp")
        ),
        "storage_classes": sorted(each["metadata"]["name"] for each in classes),
        "default_storage_class": default_class(classes),
        "node_ports": used_ports(services),
        "services": places(services),
        "volumes": volumes(claims),
        "images": images(stateful),
        "api_groups": groups,
        "sealed_secrets_controllers": unsealing or {},
        "deployments": places(deployments),
        "ready": places([each for each in deployments if judge({"kind": "Deployment", **each}).ready]),
        "sealed_secrets": places(sealed),
        "issuers": [*issuers("ClusterIssuer", cluster_issuers), *issuers("Issuer", local_issuers)],
        "own_issuers": places(own_issuers),
        "certificates": places(certificates),
        "cert_manager": managed_by(definition or {"metadata": {}}),
        "network_policies": places(policies),
        "ingress_classes": {each["metadata"]["name"]: managed_by(each) for each in ingress_classes},
        "default_ingress_class": default_class(ingress_classes, DEFAULT_INGRESS_CLASS),
        "routes": routes,
        "monitors": monitors,
        "gateways": listeners(gateways),
        "gateway_kinds": gateway_kinds,
        "gateway_classes": sorted(each["metadata"]["name"] for each in gateway_classes),
        "pod_networks": networks_of_pods(nodes),
        "autoscalers": places(autoscalers),
        "priority_classes": sorted(each["metadata"]["name"] for each in priority_classes),
        "unreadable": listing.unreadable,
    }
