# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the module cluster_info."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.mlflow.plugins.action import cluster_info

CLASSES = "/apis/storage.k8s.io/v1/storageclasses"
POLICIES = "/apis/networking.k8s.io/v1/networkpolicies"
DEFAULT = {"annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}


@pytest.fixture
def live(cluster) -> Any:
    """Give a cluster with something in it."""
    cluster.answers["GET /version"] = (200, {"gitVersion": "v1.34.10", "major": "1", "minor": "34"})
    cluster.answers["GET /apis"] = (200, {"groups": [{"name": "batch"}, {"name": "apps"}]})
    cluster.namespace("kube-system", "default")
    cluster.store("/api/v1/namespaces/going", {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})
    cluster.store(f"{CLASSES}/standard", {"metadata": dict(DEFAULT)})
    cluster.store(f"{CLASSES}/fast", {"metadata": {}})
    services = {
        "items": [
            {"metadata": {"namespace": "a", "name": "web"}, "spec": {"ports": [{"nodePort": 30800}, {"port": 1}]}},
            {"metadata": {"namespace": "b", "name": "lb"}, "spec": {"ports": [], "healthCheckNodePort": 31000}},
            {"metadata": {"namespace": "c", "name": "external"}, "spec": {}},
        ]
    }
    cluster.answers["GET /api/v1/services"] = (200, services)
    for name, labels in (("data", {"app.kubernetes.io/managed-by": "mlops.mlflow"}), ("other", {})):
        requests = {"resources": {"requests": {"storage": "10Gi"}}}
        cluster.store(
            f"/api/v1/namespaces/db/persistentvolumeclaims/{name}",
            {"metadata": {"labels": labels}, "spec": {"storageClassName": "fast", **requests}},
        )
    for name, labels in (("postgres", {"app.kubernetes.io/managed-by": "mlops.mlflow"}), ("other", {})):
        pod = {"spec": {"containers": [{"image": "postgres:17"}, {"image": "sidecar:1"}]}}
        place = f"/apis/apps/v1/namespaces/db/statefulsets/{name}"
        cluster.store(place, {"metadata": {"labels": labels}, "spec": {"template": pod}})
    policies = [{"metadata": {"namespace": "db", "name": "default-deny"}}]
    cluster.answers[f"GET {POLICIES}"] = (200, {"items": policies})
    cluster.store(f"{cluster_info.INGRESS_CLASSES}/nginx", {"metadata": {}})
    cluster.store(f"{cluster_info.PRIORITY_CLASSES}/high", {"metadata": {}})
    for name, labels in (("mlflow", {"app.kubernetes.io/managed-by": "mlops.mlflow"}), ("other", {})):
        place = f"/apis/autoscaling/v2/namespaces/mlflow/horizontalpodautoscalers/{name}"
        cluster.store(place, {"metadata": {"labels": labels}})
    marked = {"annotations": {cluster_info.DEFAULT_INGRESS_CLASS: "true"}}
    marked["labels"] = {"app.kubernetes.io/managed-by": "Helm"}
    cluster.store(f"{cluster_info.INGRESS_CLASSES}/traefik", {"metadata": marked})
    for name, labels in (("mlflow", {"app.kubernetes.io/managed-by": "mlops.mlflow"}), ("other", {})):
        place = f"/apis/networking.k8s.io/v1/namespaces/mlflow/ingresses/{name}"
        cluster.store(place, {"metadata": {"labels": labels}})
    return cluster


@pytest.mark.parametrize("check", [True, False])
def test_tells_what_a_playbook_must_know(live, run, check):
    result = run("cluster_info", check=check)
    assert {key: result[key] for key in result if key != "_output"} == {
        "changed": False,
        "server_version": "v1.34.10",
        "minor": 34,
        "namespaces": ["default", "kube-system"],
        "storage_classes": ["fast", "standard"],
        "default_storage_class": "standard",
        "node_ports": {"30800": "a/web", "31000": "b/lb"},
        "services": ["a/web", "b/lb", "c/external"],
        "volumes": {"db/data": {"class": "fast", "mib": 10240}},
        "images": {"db/postgres": "postgres:17"},
        "api_groups": ["apps", "batch"],
        "sealed_secrets_controllers": {},
        "deployments": [],
        "ready": [],
        "sealed_secrets": [],
        "issuers": [],
        "own_issuers": [],
        "certificates": [],
        "cert_manager": "",
        "network_policies": ["db/default-deny"],
        "ingress_classes": {"nginx": "", "traefik": "Helm"},
        "default_ingress_class": "traefik",
        "routes": [
            {
                "apiVersion": "networking.k8s.io/v1",
                "kind": "Ingress",
                "metadata": {"namespace": "mlflow", "name": "mlflow"},
            }
        ],
        "monitors": [],
        "gateways": {},
        "gateway_kinds": [],
        "gateway_classes": [],
        "pod_networks": [],
        "autoscalers": ["mlflow/mlflow"],
        "priority_classes": ["high"],
        "unreadable": [],
    }
    assert len(live.requests) == 13
    assert f"GET {POLICIES}?labelSelector=app.kubernetes.io%2Fmanaged-by%3Dmlops.mlflow" in live.requests
    assert live.writes() == []
    assert "the-token-of-the-tests" not in result["_output"]


def test_volumes_that_go_are_none(live, run):
    live.store(
        "/api/v1/namespaces/db/persistentvolumeclaims/data",
        {
            "metadata": {
                "labels": {"app.kubernetes.io/managed-by": "mlops.mlflow"},
                "deletionTimestamp": "2026-01-01T00:00:00Z",
            },
            "spec": {"resources": {"requests": {"storage": "1Gi"}}},
        },
    )
    assert run("cluster_info")["volumes"] == {}


SEALED = "/apis/bitnami.com/v1alpha1/sealedsecrets"
DEPLOYMENTS = "/apis/apps/v1/deployments"


@pytest.fixture
def sealing(live) -> Any:
    """Give a cluster that knows SealedSecrets."""
    live.answers["GET /apis"] = (200, {"groups": [{"name": "bitnami.com"}]})
    sealed = [{"metadata": {"namespace": "mlflow", "name": "login"}}, {"metadata": {"namespace": "a", "name": "own"}}]
    live.answers[f"GET {SEALED}"] = (200, {"items": sealed})
    named, labelled = "sealed-secrets-controller", {"app.kubernetes.io/name": "sealed-secrets"}
    managed = {"app.kubernetes.io/managed-by": "mlops.mlflow"}
    ready = {"spec": {"replicas": 1}, "status": {"replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}}
    starting = {"spec": {"replicas": 2}, "status": {"replicas": 2, "updatedReplicas": 2, "availableReplicas": 1}}
    deployments = [
        {"metadata": {"namespace": "sealed-secrets", "name": named, "labels": managed}, **ready},
        {"metadata": {"namespace": "kube-system", "name": "by-a-chart", "labels": labelled}, **starting},
        {"metadata": {"namespace": "mlflow", "name": "mlflow", "labels": managed}, **starting},
    ]
    live.answers[f"GET {DEPLOYMENTS}"] = (200, {"items": deployments})
    return live


def test_tells_of_sealed_secrets(sealing, run):
    result = run("cluster_info")
    assert result["sealed_secrets"] == ["a/own", "mlflow/login"]
    assert "mlflow/mlflow" in result["deployments"]
    assert result["ready"] == ["sealed-secrets/sealed-secrets-controller"]
    assert result["sealed_secrets_controllers"] == {
        "kube-system/by-a-chart": "",
        "sealed-secrets/sealed-secrets-controller": "mlops.mlflow",
    }


def test_sealed_secrets_that_may_not_be_listed(sealing, run):
    for path in (SEALED, DEPLOYMENTS):
        sealing.answers[f"GET {path}"] = sealing.status(403, "Forbidden", "no")
    result = run("cluster_info")
    assert result["unreadable"] == ["sealed_secrets", "sealed_secrets_controllers", "deployments"]
    assert result["sealed_secrets"] == []
    assert result["sealed_secrets_controllers"] == {}


def test_an_api_group_without_sealed_secrets(sealing, run):
    sealing.answers[f"GET {SEALED}"] = sealing.status(404, "NotFound", "no")
    assert run("cluster_info")["sealed_secrets"] == []


def test_tells_of_cert_manager(live, run):
    live.answers["GET /apis"] = (200, {"groups": [{"name": "cert-manager.io"}]})
    own = {"namespace": "mlflow", "name": "mlflow-acme", "labels": {"app.kubernetes.io/managed-by": "mlops.mlflow"}}
    for kind, places in (
        ("clusterissuers", [{"name": "letsencrypt"}, {"name": "company"}]),
        ("issuers", [{"namespace": "mlflow", "name": "company"}, own]),
        ("certificates", [{"namespace": "mlflow", "name": "mlflow-tls"}]),
    ):
        items = [{"metadata": each} for each in places]
        live.answers[f"GET /apis/cert-manager.io/v1/{kind}"] = (200, {"items": items})
    labels = {"app.kubernetes.io/managed-by": "Helm"}
    live.store(cluster_info.CERTIFICATES, {"metadata": {"labels": labels}})
    result = run("cluster_info")
    assert result["cert_manager"] == "Helm"
    assert result["issuers"] == [
        "ClusterIssuer/company",
        "ClusterIssuer/letsencrypt",
        "Issuer/mlflow/company",
        "Issuer/mlflow/mlflow-acme",
    ]
    assert result["own_issuers"] == ["mlflow/mlflow-acme"]
    assert result["certificates"] == ["mlflow/mlflow-tls"]


def test_networks_of_pods(live, run):
    nodes = [["10.244.0.0/24", "fd00:10:244::/64"], ["10.244.1.0/24"], ["10.99.0.0/12"], None]
    items = [{"spec": {"podCIDRs": each} if each else {}} for each in nodes]
    live.answers["GET /api/v1/nodes"] = (200, {"items": items})
    found = run("cluster_info", pod_networks=True)["pod_networks"]
    assert found == ["10.96.0.0/12", "10.244.0.0/16", "fd00:10:244::/56"]


def test_gateways(live, run):
    live.answers["GET /apis"] = (200, {"groups": [{"name": "gateway.networking.k8s.io"}]})
    route = {"metadata": {"namespace": "keycloak", "name": "keycloak"}}
    going = {"metadata": {"namespace": "keycloak", "name": "a", "deletionTimestamp": "2026-01-01T00:00:00Z"}}
    live.answers[f"GET {cluster_info.HTTP_ROUTES}"] = (200, {"items": [route, going]})
    listeners = [
        {"name": "web", "protocol": "HTTP", "port": 80},
        {
            "name": "websecure",
            "protocol": "HTTPS",
            "port": 443,
            "hostname": "*.example.com",
            "allowedRoutes": {"namespaces": {"from": "All"}},
        },
    ]
    gateway = {"metadata": {"namespace": "edge", "name": "public"}, "spec": {"listeners": listeners}}
    own = {"metadata": {"name": "traefik"}}
    live.answers[f"GET {cluster_info.GATEWAY_CLASSES}"] = (200, {"items": [own]})
    live.answers[f"GET {cluster_info.GATEWAYS}"] = (200, {"items": [gateway]})
    result = run("cluster_info")
    assert [(each["kind"], each["metadata"]["name"]) for each in result["routes"]] == [
        ("Ingress", "mlflow"),
        ("HTTPRoute", "keycloak"),
    ]
    assert result["gateway_classes"] == ["traefik"]
    assert result["gateway_kinds"] == []
    assert result["gateways"] == {
        "edge/public": [
            {"name": "web", "protocol": "HTTP", "port": 80, "hostname": "", "namespaces": "Same"},
            {"name": "websecure", "protocol": "HTTPS", "port": 443, "hostname": "*.example.com", "namespaces": "All"},
        ]
    }


def test_policies_of_a_gateway(live, run):
    """They are looked for where the Gateway API has them."""
    live.answers["GET /apis"] = (200, {"groups": [{"name": "gateway.networking.k8s.io"}]})
    kinds = [{"kind": kind} for kind in ("HTTPRoute", "HTTPRoute", "BackendTLSPolicy")]
    live.answers[f"GET {cluster_info.GATEWAY_KINDS}"] = (200, {"resources": kinds})
    policy = {"metadata": {"namespace": "minio", "name": "minio"}}
    live.answers[f"GET {cluster_info.BACKEND_POLICIES}"] = (200, {"items": [policy]})
    result = run("cluster_info")
    assert result["gateway_kinds"] == ["BackendTLSPolicy", "HTTPRoute"]
    assert result["routes"][-1]["kind"] == "BackendTLSPolicy"


def test_monitors(live, run):
    """Those of the Prometheus operator are looked for where the cluster has it, dashboards in any case."""
    labels = {"app.kubernetes.io/managed-by": "mlops.mlflow", "grafana_dashboard": "1"}
    path = "/api/v1/namespaces/mlflow/configmaps"
    live.store(f"{path}/mlflow-dashboards", {"metadata": {"labels": labels}})
    live.store(f"{path}/of-the-collection", {"metadata": {"labels": {"app.kubernetes.io/managed-by": "mlops.mlflow"}}})
    live.store(f"{path}/of-others", {"metadata": {"labels": {"grafana_dashboard": "1"}}})
    dashboards = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"namespace": "mlflow", "name": "mlflow-dashboards"},
    }
    assert run("cluster_info")["monitors"] == [dashboards]
    live.answers["GET /apis"] = (200, {"groups": [{"name": "monitoring.coreos.com"}]})
    for kind, path in cluster_info.MONITORS.items():
        live.answers[f"GET {path}"] = (200, {"items": [{"metadata": {"namespace": "mlflow", "name": kind.lower()}}]})
    result = run("cluster_info")
    assert result["monitors"][0] == dashboards
    assert result["monitors"][1:] == [
        {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": kind,
            "metadata": {"namespace": "mlflow", "name": kind.lower()},
        }
        for kind in ("PodMonitor", "PrometheusRule")
    ]
    live.answers[f"GET {cluster_info.MONITORS['PodMonitor']}"] = live.status(403, "Forbidden", "no")
    assert run("cluster_info")["unreadable"] == ["monitors"]


def test_what_may_not_be_listed_of_the_edge(live, run):
    for path in (cluster_info.INGRESS_CLASSES, cluster_info.INGRESSES, "/api/v1/nodes"):
        live.answers[f"GET {path}"] = live.status(403, "Forbidden", "no")
    result = run("cluster_info", pod_networks=True)
    assert result["unreadable"] == ["ingress_classes", "routes", "pod_networks"]
    assert (result["ingress_classes"], result["routes"], result["pod_networks"]) == ({}, [], [])


@pytest.mark.parametrize(("minor", "number"), [("34", 34), ("34+", 34), ("", 0), (None, 0)])
def test_minor_version(minor, number):
    assert cluster_info.minor_version({"minor": minor}) == number


@pytest.mark.parametrize(
    ("classes", "name"),
    [
        ([], ""),
        ([("a", "", False)], ""),
        ([("a", "2026-01-01T00:00:00Z", True), ("b", "2026-01-02T00:00:00Z", True)], "b"),
        ([("b", "2026-01-01T00:00:00Z", True), ("a", "2026-01-01T00:00:00Z", True)], "a"),
    ],
)
def test_default_class(classes, name):
    made = [
        {"metadata": {"name": each, "creationTimestamp": when, **(DEFAULT if default else {})}}
        for each, when, default in classes
    ]
    assert cluster_info.default_class(made) == name


def test_what_may_not_be_listed_is_named(live, run):
    live.answers["GET /api/v1/services"] = live.status(403, "Forbidden", "no")
    live.answers[f"GET {CLASSES}"] = live.status(403, "Forbidden", "no")
    result = run("cluster_info")
    assert result["unreadable"] == ["storage_classes", "node_ports"]
    assert result["default_storage_class"] == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kubeconfig": "/no/such"}, "kubeconfig_path is '/no/such': there is no such file"),
        ({"context": "nope"}, "kubeconfig_context is 'nope': {kubeconfig} has no such context (it has fake, other)"),
        ({"context": "other"}, "context 'other' of {kubeconfig} names the cluster 'gone', which it lacks"),
    ],
)
def test_a_wrong_kubeconfig_fails_in_a_sentence(run, kubeconfig, options, message):
    result = run("cluster_info", **options)
    assert result["failed"] is True
    assert result["msg"] == "The cluster cannot be used: " + message.format(kubeconfig=kubeconfig)


def test_a_token_that_is_not_accepted(live, run, kubeconfig):
    live.answers["GET /api/v1/namespaces"] = live.status(401, "Unauthorized", "Unauthorized")
    result = run("cluster_info")
    assert result["msg"] == (
        f"The cluster cannot be used: the API server {live.url} does not accept the credentials of "
        f"kubeconfig_path {kubeconfig}, context fake (401 Unauthorized)"
    )


def test_a_user_who_may_not_list_namespaces(live, run):
    live.answers["GET /api/v1/namespaces"] = live.status(403, "Forbidden", "namespaces is forbidden")
    assert run("cluster_info")["msg"].endswith("(403 Forbidden): namespaces is forbidden")


def test_a_server_of_another_kind(cluster, run):
    cluster.answers["GET /version"] = (200, {"version": "1"})
    assert "does not answer as a Kubernetes API server does" in run("cluster_info")["msg"]


def test_a_cluster_that_is_stopped_is_named(run, kubeconfig):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        text = Path(kubeconfig).read_text()
        server = text.split("server: ")[1].split()[0]
        Path(kubeconfig).write_text(text.replace(server, f"http://127.0.0.1:{probe.getsockname()[1]}"))
        message = run("cluster_info")["msg"]
    assert message.endswith(
        f"(kubeconfig_path {kubeconfig}, context fake) refused the connection: is the cluster running?"
    )


def test_what_a_secret_option_holds_is_hidden(run):
    result = run("cluster_info", kubeconfig="", host="http://127.0.0.1:1/planted-key", api_key="planted-key")
    assert "http://127.0.0.1:1/********" in result["msg"]
    assert "planted-key" not in result["_output"]
