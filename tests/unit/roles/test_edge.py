"""What leads from the public URLs into the cluster, and what follows from there being an edge."""

import functools

import pytest

from tests.lib import rendering

EDGE = {
    "mlflow_image": "localhost/mlflow:1",
    "platform_edge": "ingress",
    "platform_ingress_class": "public",
    "mlflow_url": "https://mlflow.example.com",
    "keycloak_url": "https://login.example.com",
}


@functools.cache
def get_role(name):
    """A role, loaded once."""
    return rendering.Role(name)


def ingresses(role, **options):
    """The Ingresses of a role by their names."""
    found = get_role(role).render(f"{role}.ingress.yaml.j2", EDGE | options)
    return {each["metadata"]["name"]: each for each in found}


def paths(ingress):
    """What an Ingress leads into the cluster, by host."""
    return {rule["host"]: [each["path"] for each in rule["http"]["paths"]] for rule in ingress["spec"]["rules"]}


def test_without_an_edge_nothing_is_as_it_was_not():
    """A stack at node ports stays what it was."""
    for role in ("mlflow", "keycloak"):
        assert get_role(role).render(f"{role}.ingress.yaml.j2", {}) == []
        assert get_role(role).value(f"{role}_service_type") == "NodePort"
        assert get_role(role).value(f"{role}_component")["switched_off"] == []
    assert get_role("mlflow").value("mlflow_trusted_proxies") == []
    assert not [name for name in get_role("keycloak").value("__keycloak_env") if "PROXY" in name or "ADMIN" in name]


@pytest.mark.parametrize("role", ["mlflow", "keycloak"])
def test_a_node_port_beside_tls_has_to_be_asked_for(role):
    url = {f"{role}_url": "https://one.example.com"}
    assert get_role(role).value(f"{role}_service_type", url) == "ClusterIP"
    assert get_role(role).value(f"{role}_service_type", EDGE | {f"{role}_url": "http://one.example.com"}) == "ClusterIP"
    service = get_role(role).render(f"{role}.service.yaml.j2", url | {f"{role}_service_type": "NodePort"})[0]
    assert service["spec"]["ports"][0]["nodePort"]


def test_mlflow_and_its_service():
    (ingress,) = ingresses("mlflow", mlflow_url="https://MLflow.example.com:8443").values()
    assert paths(ingress) == {"mlflow.example.com": ["/"]}
    assert ingress["spec"]["ingressClassName"] == "public"
    assert ingress["spec"]["rules"][0]["http"]["paths"][0]["backend"] == {
        "service": {"name": "mlflow", "port": {"name": "http"}}
    }


def test_a_realm_without_its_administration():
    (ingress,) = ingresses("keycloak", keycloak_realm="team").values()
    (found,) = paths(ingress).values()
    assert {"/realms/team", "/realms/team/", "/resources/"} <= set(found)
    assert not [each for each in found if each in ("/", "/realms/") or "admin" in each or "master" in each]
    assert all(
        each["pathType"] == "Prefix" for each in ingress["spec"]["rules"][0]["http"]["paths"] if each["path"][-1] == "/"
    )


@pytest.mark.parametrize(
    ("url", "names"),
    [
        ("https://admin.example.com", ["keycloak", "keycloak-admin"]),
        ("https://login.example.com", ["keycloak"]),
        # By kubectl port-forward.
        ("http://localhost:8080", ["keycloak"]),
    ],
)
def test_the_administration_where_it_is_asked_for(url, names):
    found = ingresses("keycloak", keycloak_admin_url=url)
    assert list(found) == names
    reached = {host for each in found.values() for host, some in paths(each).items() if "/admin/" in some}
    assert reached == ({url.removeprefix("https://")} if url.startswith("https") else set())
    assert get_role("keycloak").value("__keycloak_env", EDGE | {"keycloak_admin_url": url})["KC_HOSTNAME_ADMIN"] == url


@pytest.mark.parametrize(
    ("tls", "url", "wanted"),
    [
        ("none", "http://mlflow.example.com", None),
        ("none", "https://mlflow.example.com", [{"hosts": ["mlflow.example.com"]}]),
        ("secret", "https://mlflow.example.com", [{"hosts": ["mlflow.example.com"], "secretName": "mlflow-tls"}]),
    ],
)
def test_certificates(tls, url, wanted):
    assert ingresses("mlflow", platform_tls=tls, mlflow_url=url)["mlflow"]["spec"].get("tls") == wanted


@pytest.mark.parametrize("preset", ["traefik", "haproxy", "nginx", "none"])
def test_annotations(preset):
    more = {"example.com/more": "1", "nginx.ingress.kubernetes.io/proxy-body-size": "1g"}
    for scheme in ("http", "https"):
        url = f"{scheme}://mlflow.example.com"
        options = {"platform_ingress_preset": preset, "platform_ingress_annotations": more, "mlflow_url": url}
        annotations = ingresses("mlflow", **options)["mlflow"]["metadata"]["annotations"]
        assert all(isinstance(each, str) for each in annotations.values())
        assert annotations | more == annotations, "those of the inventory come first"
        redirects = [name for name, value in annotations.items() if "ssl-redirect" in name and value == "true"]
        assert bool(redirects) == (scheme == "https" and preset in ("haproxy", "nginx"))


def test_whom_the_servers_believe():
    assert get_role("mlflow").value("mlflow_trusted_proxies", EDGE) == ["10.244.0.0/16"]
    environment = get_role("keycloak").value(
        "__keycloak_env", EDGE | {"platform_edge_networks": ["10.1.0.0/16", "10.2.0.1"]}
    )
    assert environment["KC_PROXY_HEADERS"] == "xforwarded"
    assert environment["KC_PROXY_TRUSTED_ADDRESSES"] == "10.1.0.0/16,10.2.0.1"


@pytest.mark.parametrize(("options", "gone"), [({"platform_edge": "none"}, ["mlflow", "old"]), ({}, ["old"])])
def test_what_is_switched_off_goes(options, gone):
    routes = [
        {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"namespace": namespace, "name": name}}
        for namespace, name in (("mlflow", "mlflow"), ("mlflow", "old"), ("elsewhere", "old"))
    ]
    found = {"platform_cluster": rendering.CLUSTER | {"routes": routes}}
    component = get_role("mlflow").value("mlflow_component", EDGE | found | options)
    assert [each["metadata"]["name"] for each in component["switched_off"]] == gone
