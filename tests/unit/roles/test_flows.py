"""The flows of the roles: who reaches what with which settings, and what becomes of policies that no flow needs."""

import functools

import pytest
import yaml

from tests.lib import rendering
from tests.lib.options import BASE

EVERYONE = BASE["minio"] | BASE["mlflow"]
POD_NETWORK = {"platform_pod_networks": ["10.244.0.0/16"]}


@functools.cache
def get_role(name):
    """A role, loaded once."""
    return rendering.Role(name)


def policies(role, **options):
    """The NetworkPolicies of a role by their names."""
    return {each["metadata"]["name"]: each for each in get_role(role).policies(EVERYONE | options)}


def flows(role, **options):
    """The flows of a role by their names, as they are described."""
    return {
        name: each["metadata"]["annotations"]["mlops.mlflow/flow"] for name, each in policies(role, **options).items()
    }


@pytest.mark.parametrize("role", rendering.COMPONENTS)
def test_every_namespace_is_closed(role):
    found = policies(role)
    assert found["default-deny"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    home = get_role(role).value(f"{role}_component.namespace")
    assert {each["metadata"]["namespace"] for each in found.values()} == {home}


@pytest.mark.parametrize("role", rendering.COMPONENTS)
def test_pods_of_flows_are_pods_of_the_role(role):
    """A flow of pods that there are none of would open nothing, and nobody would notice."""
    labels = {
        rendering.pod_template(document)["metadata"]["labels"]["app.kubernetes.io/name"]
        for options in ({}, {"mlflow_auth": "oauth2_proxy"})
        for document in get_role(role).manifests(EVERYONE | options)
        if document["kind"] in ("Deployment", "StatefulSet", "Job", "CronJob")
    }
    for options in ({}, {"mlflow_auth": "oauth2_proxy"}):
        for each in policies(role, **options).values():
            selector = each["spec"]["podSelector"]
            named = set(selector.get("matchLabels", {}).values())
            named |= {value for one in selector.get("matchExpressions", []) for value in one["values"]}
            assert named <= labels, each["metadata"]["name"]


@pytest.mark.parametrize("role", rendering.COMPONENTS)
def test_ports_of_flows_in_are_ports_of_containers(role):
    """A closed port of a container needs no flow, and an open one that no container has is a mistake."""
    options = {"platform_monitoring_namespaces": ["m"], "platform_edge_namespaces": ["e"], "keycloak_replicas": 3}
    options |= {"mlflow_auth": "oauth2_proxy", "minio_console": True}
    ports = {
        port["containerPort"]
        for document in get_role(role).manifests(EVERYONE | options)
        if document["kind"] in ("Deployment", "StatefulSet")
        for container in document["spec"]["template"]["spec"]["containers"]
        for port in container["ports"]
    }
    opened = {
        port["port"]
        for each in policies(role, **options).values()
        for rule in each["spec"].get("ingress", [])
        for port in rule["ports"]
    }
    assert opened - {57800} == ports


def test_what_is_kept_in_the_stack_is_reached_in_the_stack():
    found = flows("mlflow")
    jobs = "mlflow/mlflow-gc, mlflow/mlflow-traces"
    assert found["mlflow-to-database"] == f"mlflow/mlflow, mlflow/mlflow-migrate, {jobs} -> postgres/*:5432"
    assert found["mlflow-to-s3"] == f"mlflow/mlflow, {jobs} -> minio/*:9000"
    assert found["mlflow-to-identity-provider"] == "mlflow/mlflow -> keycloak/*:8443"
    assert flows("keycloak")["mlflow-to-keycloak"].endswith("-> keycloak/keycloak:8443")
    clear = {"platform_internal_tls": False}
    assert flows("mlflow", **clear)["mlflow-to-identity-provider"] == "mlflow/mlflow -> keycloak/*:8080"
    assert flows("keycloak", **clear)["mlflow-to-keycloak"].endswith("-> keycloak/keycloak:8080")
    assert flows("keycloak")["keycloak-to-database"] == "keycloak/keycloak -> postgres/*:5432"
    assert flows("postgres")["clients-to-postgres"] == "postgres/*, mlflow/*, keycloak/* -> postgres/postgres:5432"
    assert flows("minio")["clients-to-minio"] == "minio/*, mlflow/* -> minio/minio:9000"


def test_what_is_kept_elsewhere_is_reached_there():
    found = flows(
        "mlflow",
        platform_components=["mlflow"],
        mlflow_db_host="db.example.com",
        mlflow_db_port=6432,
        mlflow_s3_endpoint="",
        mlflow_oidc_discovery_url="https://id.example.com/.well-known/openid-configuration",
    )
    assert found["mlflow-to-database"].endswith("-> outside:6432")
    assert found["mlflow-to-s3"] == "mlflow/mlflow, mlflow/mlflow-gc, mlflow/mlflow-traces -> outside:443"
    assert found["mlflow-to-identity-provider"] == "mlflow/mlflow -> outside:443"
    assert flows("keycloak", keycloak_db_host="main.databases.svc")["keycloak-to-database"].endswith("-> databases/*")
    assert "mlflow" not in flows("postgres", mlflow_db_host="db.example.com")["clients-to-postgres"]
    assert flows("minio", mlflow_s3_endpoint="")["clients-to-minio"] == "minio/* -> minio/minio:9000"


def test_a_collector_of_spans_is_reached_where_there_is_one():
    assert "mlflow-to-collector" not in flows("mlflow")
    inside, outside = (
        flows("mlflow", mlflow_otlp_endpoint=f"http://{host}:4318")["mlflow-to-collector"]
        for host in ("collector.monitoring.svc", "collector.example.com")
    )
    assert inside == "mlflow/mlflow -> monitoring/*"
    assert outside == "mlflow/mlflow -> outside:4318"


def test_whoever_gets_credentials_is_a_client():
    roles = [{"name": "grafana", "namespaces": ["reports"]}]
    assert "reports/*" in flows("postgres", postgres_extra_roles=roles)["clients-to-postgres"]
    assert "reports/*" in flows("minio", minio_extra_buckets=roles)["clients-to-minio"]
    closed = POD_NETWORK
    assert "reports/*" in flows("keycloak", keycloak_service_accounts=roles, **closed)["users-to-keycloak"]
    found = flows(
        "mlflow",
        mlflow_clients=[{"name": "ci", "namespaces": ["ci"]}, {"name": "laptop"}],
        mlflow_kubernetes_namespaces=["team", "ci"],
        mlflow_client_namespaces=["notebooks"],
        **closed,
    )
    assert found["programs-to-mlflow"] == "notebooks/*, team/*, ci/*, outside -> mlflow/mlflow:5000,5443"


def test_users_come_by_the_edge():
    options = {"mlflow_service_type": "ClusterIP", "keycloak_service_type": "ClusterIP"}
    assert flows("mlflow", **options)["programs-to-mlflow"] == "everywhere -> mlflow/mlflow:5000,5443"
    options |= {"platform_edge_namespaces": ["traefik"]}
    assert flows("mlflow", **options)["programs-to-mlflow"] == "traefik/* -> mlflow/mlflow:5000,5443"
    assert flows("keycloak", **options)["users-to-keycloak"] == "traefik/* -> keycloak/keycloak:8080"


def test_oauth2_proxy_is_in_front_of_mlflow():
    found = flows("mlflow", mlflow_auth="oauth2_proxy", platform_edge_namespaces=["traefik"], **POD_NETWORK)
    assert found["users-to-oauth2-proxy"] == "traefik/*, outside -> mlflow/mlflow-oauth2-proxy:4180"
    assert found["programs-to-mlflow"] == "mlflow/mlflow-oauth2-proxy, traefik/* -> mlflow/mlflow:5000,5443"
    assert found["oauth2-proxy-to-mlflow"] == "mlflow/mlflow-oauth2-proxy -> mlflow/mlflow:5000"
    assert found["mlflow-to-identity-provider"] == "mlflow/mlflow-oauth2-proxy -> keycloak/*:8443"
    github = flows("mlflow", mlflow_auth="oauth2_proxy", mlflow_oauth2_proxy_provider="github")
    assert github["mlflow-to-identity-provider"] == "mlflow/mlflow-oauth2-proxy -> outside:443"


@pytest.mark.parametrize("login", ["basic", "none"])
def test_no_provider_is_called_where_there_is_none(login):
    assert "mlflow-to-identity-provider" not in flows("mlflow", mlflow_auth=login)


def test_the_api_server_is_reached_by_who_needs_it():
    with_it = {role: [name for name in flows(role) if "to-api-server" in name] for role in rendering.COMPONENTS}
    assert {role: names for role, names in with_it.items() if names} == {
        "sealed_secrets": ["sealed-secrets-to-api-server"],
        "traefik": ["traefik-to-api-server"],
        "cert_manager": ["cert-manager-to-api-server"],
        "backup": ["backup-to-api-server"],
    }
    found = flows("mlflow", mlflow_kubernetes_namespaces=["team"], platform_api_server_networks=["192.0.2.1/32"])
    assert found["mlflow-to-api-server"] == "mlflow/mlflow -> 192.0.2.1/32:443,6443"


def test_metrics_are_for_monitoring():
    for role, number in {"sealed_secrets": 8081, "minio": 9000, "keycloak": 9000, "mlflow": 5001}.items():
        name = f"monitoring-to-{role.replace('_', '-')}"
        assert name not in flows(role)
        assert flows(role, platform_monitoring_namespaces=["prometheus"])[name].endswith(f":{number}")
        assert flows(role, platform_monitoring_namespaces=["prometheus"])[name].startswith("prometheus/* ->")


def test_servers_of_keycloak_are_among_themselves():
    assert not [name for name in flows("keycloak") if name.startswith("keycloak-") and name.endswith("-keycloak")]
    found = flows("keycloak", keycloak_replicas=2)
    for name in ("keycloak-from-keycloak", "keycloak-to-keycloak"):
        assert found[name] == "keycloak/keycloak -> keycloak/keycloak:7800,57800"


# --- what role platform does with them


def registered(role, options=None):
    """What a role registers."""
    return [get_role(role).registered(EVERYONE | (options or {}))]


def test_a_component_is_registered_with_its_policies():
    (component,) = registered("postgres")
    assert [each["metadata"]["name"] for each in component["policies"]][:2] == ["default-deny", "pods-to-dns"]
    (component,) = registered("postgres", {"platform_network_policies": False})
    assert component["policies"] == []


@pytest.mark.parametrize(
    ("switched", "left", "gone"),
    [
        (True, ["postgres/default-deny", "postgres/mine-of-old", "minio/default-deny"], ["postgres/mine-of-old"]),
        (False, ["postgres/default-deny", "minio/x"], ["postgres/default-deny"]),
        (True, [], []),
    ],
)
def test_policies_that_no_flow_needs_are_removed(switched, left, gone):
    wave = registered("postgres", {"platform_network_policies": switched})
    options = {"platform_wave": wave, "platform_cluster": rendering.CLUSTER | {"network_policies": left}}
    found = get_role("postgres").value("__platform_closed", options)
    assert [f"{each['metadata']['namespace']}/{each['metadata']['name']}" for each in found] == gone
    assert {(each["apiVersion"], each["kind"]) for each in found} <= {("networking.k8s.io/v1", "NetworkPolicy")}


def test_both_ways_of_a_component_remove_them():
    """A component that stays, and one that goes."""
    for file in ("wave", "absent"):
        assert "__platform_closed" in yaml.safe_dump(rendering.tasks_of("platform", file), width=10**6)


def test_cert_manager_reaches_the_acme_server_and_the_edge():
    acme = {"email": "a@b.c", "ingress_class": "x"}
    options = {"platform_tls": "cert_manager", "platform_edge_namespaces": ["traefik"], "platform_tls_acme": acme}
    found = flows("cert_manager", **options)
    assert found["cert-manager-to-acme"] == "cert-manager/cert-manager -> outside:443"
    assert found["cert-manager-to-edge"] == "cert-manager/cert-manager -> traefik/*"
    assert "cert-manager-to-name-servers" not in found
    assert not [name for name in found if "from" in name]
    own = acme | {"server": "https://pebble.acme.svc:14000/dir", "solvers": [{"dns01": {}}]}
    found = flows("cert_manager", **options | {"platform_tls_acme": own})
    assert found["cert-manager-to-acme"] == "cert-manager/cert-manager -> acme/*"
    assert found["cert-manager-to-name-servers"] == "cert-manager/cert-manager -> outside:53/UDP,53"
    there = flows("cert_manager", platform_tls="cert_manager", platform_tls_issuer={"kind": "Issuer", "name": "x"})
    assert "cert-manager-to-acme" not in there
