"""What leads from the public URLs into the cluster, and what follows from there being an edge."""

import functools

import pytest

from tests.lib import checks, rendering

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
    # The console logs its users in where its realm is said to be.
    settings = get_role("keycloak").value("__keycloak_master_settings", EDGE | {"keycloak_admin_url": url})
    assert settings.get("attributes") == (
        None if names == ["keycloak"] and url[:5] == "https" else {"frontendUrl": url}
    )


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


GATEWAY = EDGE | {"platform_edge": "gateway", "platform_gateway": {"name": "public", "namespace": "edge"}}


def test_routes_of_a_gateway():
    given = GATEWAY | {"mlflow_url": "https://ai.example.com:8443/mlflow", "mlflow_api_url": "https://api.example.com"}
    given |= {"platform_gateway": GATEWAY["platform_gateway"] | {"section_name": "https", "http_section_name": "http"}}
    found = {
        each["metadata"]["name"]: each["spec"] for each in get_role("mlflow").render("mlflow.httproute.yaml.j2", given)
    }
    assert sorted(found) == ["mlflow", "mlflow-api", "mlflow-api-redirect", "mlflow-redirect"]
    assert found["mlflow"]["parentRefs"] == [{"name": "public", "namespace": "edge", "sectionName": "https"}]
    assert found["mlflow"]["hostnames"] == ["ai.example.com"]
    (rule,) = found["mlflow"]["rules"]
    assert [each["path"] for each in rule["matches"]] == [
        {"type": "Exact", "value": "/mlflow"},
        {"type": "PathPrefix", "value": "/mlflow/"},
    ]
    assert rule["backendRefs"] == [{"name": "mlflow", "port": 5000}]
    redirect = found["mlflow-redirect"]["rules"][0]["filters"][0]["requestRedirect"]
    assert (redirect["scheme"], redirect["port"]) == ("https", 8443)
    assert found["mlflow-redirect"]["parentRefs"][0]["sectionName"] == "http"
    assert get_role("mlflow").render("mlflow.ingress.yaml.j2", given) == []
    assert get_role("keycloak").render("keycloak.httproute.yaml.j2", GATEWAY)[0]["spec"]["rules"][0]["backendRefs"] == [
        {"name": "keycloak", "port": 8080}
    ]


def listener(name="https", protocol="HTTPS", namespaces="All"):
    return {"name": name, "protocol": protocol, "port": 443, "hostname": "", "namespaces": namespaces}


@pytest.mark.parametrize(
    ("gateways", "more", "says"),
    [
        ({"edge/public": [listener()]}, {}, ""),
        (
            {"edge/public": [listener(), listener("http", "HTTP")]},
            {"section_name": "https", "http_section_name": "http"},
            "",
        ),
        ({}, {}, "(the cluster has none)"),
        ({"edge/other": [listener()]}, {}, "one of edge/other"),
        ({"edge/public": [listener()]}, {"section_name": "web"}, "has the listener web: one of https"),
        ({"edge/public": [listener("http", "HTTP")]}, {}, "a listener for HTTPS"),
        ({"edge/public": [listener(), listener("http", "HTTP")]}, {"section_name": "http"}, "a listener for HTTPS"),
        ({"edge/public": [listener(namespaces="Same")]}, {}, "allowedRoutes that include keycloak and mlflow"),
    ],
)
def test_a_gateway_that_does_not_fit(gateways, more, says):
    cluster = rendering.CLUSTER | {"gateways": gateways, "api_groups": ["gateway.networking.k8s.io"]}
    given = GATEWAY | {"platform_cluster": cluster, "platform_gateway": GATEWAY["platform_gateway"] | more}
    message = checks.refusal(get_role("mlflow"), given, "platform")
    assert (says in message) if says else message == ""


def test_a_host_for_programs():
    """It has no pages and no login, and leads past oauth2-proxy."""
    given = {"mlflow_api_url": "https://api.example.com", "mlflow_auth": "oauth2_proxy"}
    found = ingresses("mlflow", **given)
    assert list(found) == ["mlflow", "mlflow-api"]
    (reached,) = paths(found["mlflow-api"]).values()
    assert {"/api/", "/v1/"} <= set(reached)
    assert not [each for each in reached if each == "/" or "ajax" in each or "oidc" in each or "log" in each]
    backends = {each["backend"]["service"]["name"] for each in found["mlflow-api"]["spec"]["rules"][0]["http"]["paths"]}
    assert backends == {"mlflow-api"}
    assert get_role("mlflow").value("mlflow_oauth2_proxy_api_url", EDGE | given) == "https://api.example.com"
    assert "api.example.com" in get_role("mlflow").value("__mlflow_hosts", EDGE | given)


def test_below_a_path():
    given = EDGE | {"mlflow_url": "https://ai.example.com/mlflow", "keycloak_url": "https://ai.example.com/auth"}
    assert "ai.example.com" in get_role("mlflow").value("__mlflow_hosts", given)
    assert get_role("mlflow").value("__mlflow_origins", given) == ["https://ai.example.com"]
    environment = {each["name"]: each.get("value") for each in get_role("mlflow").value("__mlflow_server_env", given)}
    assert environment["MLOPS_PUBLIC_URL"] == "https://ai.example.com/mlflow"
    assert environment["OIDC_REDIRECT_URI"] == "https://ai.example.com/mlflow/callback"
    assert "svc:8443/auth/realms/" in environment["OIDC_DISCOVERY_URL"]
    spec = get_role("keycloak").render("keycloak.statefulset.yaml.j2", given | {"keycloak_optimized": True})[0]["spec"]
    build = {each["name"]: each for each in spec["template"]["spec"]["initContainers"]}["build"]["args"]
    assert "--http-relative-path=/auth" in build, "a path is built in, even where the image was built already"
    arguments = get_role("mlflow").value("__mlflow_oauth2_proxy_arguments", given | {"mlflow_auth": "oauth2_proxy"})
    assert "--proxy-prefix=/mlflow/oauth2" in arguments
    assert "--api-route=^/mlflow/api/" in arguments


def test_a_stack_at_node_ports_is_told_nothing_new():
    names = [each["name"] for each in get_role("mlflow").value("__mlflow_server_env", {"mlflow_image": "x"})]
    assert "MLOPS_PUBLIC_URL" not in names
    arguments = get_role("mlflow").value("__mlflow_oauth2_proxy_arguments", {"mlflow_auth": "oauth2_proxy"})
    assert not [each for each in arguments if each.startswith("--proxy-prefix")]
    assert "--api-route=^/api/" in arguments


@pytest.mark.parametrize(("classes", "api", "gone"), [([], False, 0), (["traefik"], True, 0), (["traefik"], False, 1)])
def test_a_class_of_gateways_that_is_left_over(classes, api, gone):
    found = {"platform_cluster": rendering.CLUSTER | {"gateway_classes": classes}, "traefik_gateway_api": api}
    assert len(get_role("traefik").value("traefik_component", found)["switched_off"]) == gone
