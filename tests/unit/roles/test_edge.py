"""What leads from the public URLs into the cluster, and what follows from there being an edge."""

import functools

import pytest

from tests.lib import checks, rendering
from tests.lib.options import BASE

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


def made(role, kind, options):
    """What leads to a role's pods, of one kind, by their names."""
    return {each["metadata"]["name"]: each for each in get_role(role).edge(options) if each["kind"] == kind}


def ingresses(role, **options):
    """The Ingresses of a role by their names."""
    return made(role, "Ingress", EDGE | options)


def paths(ingress):
    """What an Ingress leads into the cluster, by host."""
    return {rule["host"]: [each["path"] for each in rule["http"]["paths"]] for rule in ingress["spec"]["rules"]}


def test_without_an_edge_nothing_is_as_it_was_not():
    """A stack at node ports stays what it was."""
    for role in ("mlflow", "keycloak"):
        assert get_role(role).edge() == []
        assert get_role(role).value(f"{role}_service_type") == "NodePort"
        assert get_role(role).registered(BASE.get(role))["switched_off"] == []
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
    component = get_role("mlflow").registered(EDGE | found | options)
    assert [each["metadata"]["name"] for each in component["switched_off"]] == gone


GATEWAY = EDGE | {"platform_edge": "gateway", "platform_gateway": {"name": "public", "namespace": "edge"}}


def test_routes_of_a_gateway():
    given = GATEWAY | {"mlflow_url": "https://ai.example.com:8443/mlflow", "mlflow_api_url": "https://api.example.com"}
    given |= {"platform_gateway": GATEWAY["platform_gateway"] | {"section_name": "https", "http_section_name": "http"}}
    found = {name: each["spec"] for name, each in made("mlflow", "HTTPRoute", given).items()}
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
    assert made("mlflow", "Ingress", given) == {}
    (rule,) = made("keycloak", "HTTPRoute", GATEWAY)["keycloak"]["spec"]["rules"]
    assert rule["backendRefs"] == [{"name": "keycloak", "port": 8080}]


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
    assert "--redirect-url=https://ai.example.com/mlflow/oauth2/callback" in arguments
    assert "--proxy-prefix=/mlflow/oauth2" in arguments
    assert "--api-route=^/mlflow/api/" in arguments
    assert "--cookie-path=/mlflow" in arguments, "the host's other applications, Keycloak among them, get no session"
    assert {"--cookie-secure=true", "--reverse-proxy=true", "--trusted-proxy-ip=10.244.0.0/16"} <= set(arguments)
    (client, *_programs) = get_role("keycloak").value("__keycloak_clients", given | {"mlflow_auth": "oauth2_proxy"})
    assert client["redirect_uris"] == ["https://ai.example.com/mlflow/oauth2/callback"]


def test_a_stack_at_node_ports_is_told_nothing_new():
    names = [each["name"] for each in get_role("mlflow").value("__mlflow_server_env", {"mlflow_image": "x"})]
    assert "MLOPS_PUBLIC_URL" not in names
    arguments = get_role("mlflow").value("__mlflow_oauth2_proxy_arguments", {"mlflow_auth": "oauth2_proxy"})
    assert not [each for each in arguments if each.startswith(("--proxy-prefix", "--cookie-path", "--reverse-proxy"))]
    assert "--api-route=^/api/" in arguments


@pytest.mark.parametrize(("classes", "api", "gone"), [([], False, 0), (["traefik"], True, 0), (["traefik"], False, 1)])
def test_a_class_of_gateways_that_is_left_over(classes, api, gone):
    found = {"platform_cluster": rendering.CLUSTER | {"gateway_classes": classes}, "traefik_gateway_api": api}
    assert len(get_role("traefik").value("traefik_component", found)["switched_off"]) == gone


# --- MinIO's S3
S3 = EDGE | {
    "minio_image": "localhost/minio:1",
    "mlflow_artifacts_direct": True,
    "mlflow_s3_public_url": "https://s3.example.com",
    "platform_ingress_preset": "nginx",
}


@pytest.mark.parametrize(
    "options",
    [
        {"mlflow_artifacts_direct": False},
        {"platform_edge": "none"},
        # Another store has a way of its own.
        {"mlflow_s3_endpoint": ""},
        {"mlflow_s3_endpoint": "https://s3.elsewhere.example.com"},
        {"platform_components": ["mlflow"]},
    ],
)
def test_minio_is_not_reached_unless_asked_for(options):
    given = S3 | {"platform_tls": "own_ca", "platform_edge_namespaces": ["edge"]} | options
    component = get_role("minio").registered(given)
    assert component["edge_objects"] == []
    assert not [each for each in component["secrets"] if each["name"] == "minio-tls"]
    assert "annotations" not in get_role("minio").render("minio.service.yaml.j2", given)[0]["metadata"]
    assert get_role("minio").render("minio-ca.configmap.yaml.j2", given) == []
    assert "minio" not in get_role("traefik").value("__traefik_watched", given)
    assert "serversTransports" not in get_role("traefik").value("__traefik_dynamic", given)["http"]


def test_only_the_bucket_is_reached():
    given = S3 | {"mlflow_s3_bucket": "artifacts", "platform_tls": "own_ca"}
    (ingress,) = made("minio", "Ingress", given).values()
    assert ingress["metadata"]["namespace"] == "minio"
    assert paths(ingress) == {"s3.example.com": ["/artifacts", "/artifacts/"]}
    backends = [each["backend"]["service"] for each in ingress["spec"]["rules"][0]["http"]["paths"]]
    assert backends == [{"name": "minio", "port": {"name": "https-s3"}}] * 2
    ports = get_role("minio").render("minio.service.yaml.j2", given)[0]["spec"]["ports"]
    assert [each["name"] for each in ports] == ["https-s3"]
    assert ingress["spec"]["tls"] == [{"hosts": ["s3.example.com"], "secretName": "minio-tls"}]
    secrets = {each["name"]: each for each in get_role("minio").registered(given)["secrets"]}
    assert secrets["minio-tls"]["certificate"]["hosts"] == ["s3.example.com"]
    assert get_role("mlflow").value("platform_public_urls", given)["mlflow_s3_public_url"] == "https://s3.example.com"
    environment = {each["name"]: each.get("value") for each in get_role("mlflow").value("__mlflow_server_env", given)}
    assert environment["MLOPS_S3_PUBLIC_URL"] == "https://s3.example.com"
    assert environment["MLFLOW_S3_ENDPOINT_URL"] == "https://minio.minio.svc:9000"


@pytest.mark.parametrize("preset", ["nginx", "haproxy", "traefik"])
def test_what_a_controller_is_told_of_minios_port(preset):
    """For its own CA; a port in clear needs nothing."""
    for tls in (True, False):
        given = S3 | {"platform_ingress_preset": preset, "platform_internal_tls": tls}
        (ingress,) = made("minio", "Ingress", given).values()
        (service, _peers) = get_role("minio").render("minio.service.yaml.j2", given)
        annotations = ingress["metadata"]["annotations"] | service["metadata"].get("annotations", {})
        told = {"HTTPS", "h1-ssl", "https"} & set(annotations.values())
        assert bool(told) is tls
        if preset == "nginx" and tls:
            assert annotations["nginx.ingress.kubernetes.io/proxy-ssl-secret"] == "minio/minio-server-tls"
            assert annotations["nginx.ingress.kubernetes.io/proxy-ssl-name"] == "minio.minio.svc"
            assert annotations["nginx.ingress.kubernetes.io/proxy-ssl-verify"] == "on"
        # MLflow's own port is in clear.
        mlflow = made("mlflow", "Ingress", given)["mlflow"]["metadata"]["annotations"]
        assert not {"HTTPS", "h1-ssl"} & set(mlflow.values())
    names = get_role("minio").value("__minio_certificates", S3)[0]["hosts"]
    assert "minio.minio.svc" in names, "what controllers verify"


def test_our_traefik_verifies_minio():
    components = ["minio", "keycloak", "mlflow", "traefik"]
    given = S3 | {"platform_components": components, "platform_ingress_preset": "traefik", "traefik_image": "x"}
    given |= {"platform_edge_backend_tls": False}
    ensured = {"platform_ensured": {"certificates": {"mlflow/mlflow-ca": "the CA"}}}
    service = get_role("minio").render("minio.service.yaml.j2", given)[0]["metadata"]["annotations"]
    assert service["traefik.ingress.kubernetes.io/service.serverstransport"] == "minio@file"
    transports = get_role("traefik").value("__traefik_dynamic", given | ensured)["http"]["serversTransports"]
    assert transports == {"minio": {"serverName": "minio.minio.svc", "rootCAs": ["the CA"]}}
    assert "mlflow-ca" in [each["name"] for each in get_role("traefik").registered(given)["secrets"]]
    assert "minio" in get_role("traefik").value("__traefik_watched", given)
    flows = {each["name"]: each["to"] for each in get_role("traefik").value("__traefik_flows", given) if "to" in each}
    assert flows["traefik-to-minio"] == [{"namespace": "minio", "pods": ["minio"]}]
    clear = given | {"platform_internal_tls": False}
    assert "serversTransports" not in get_role("traefik").value("__traefik_dynamic", clear)["http"]


OURS = EDGE | {"platform_components": ["keycloak", "mlflow", "traefik"], "traefik_image": "x"}
# Annotations, Service and port that an edge leads to, of components that may be reached by TLS.
TRANSPORT = "traefik.ingress.kubernetes.io/service.serverstransport"
BACKENDS = {
    "mlflow": ("mlflow-internal", "mlflow-internal.mlflow.svc"),
    "keycloak": ("keycloak-internal", "keycloak-internal.keycloak.svc"),
}


@pytest.mark.parametrize("role", BACKENDS)
def test_our_traefik_reaches_pods_by_tls(role):
    name, host = BACKENDS[role]
    (service,) = get_role(role).render(f"{name}.service.yaml.j2", OURS)
    assert service["metadata"]["annotations"][TRANSPORT] == f"{role}@file"
    for ingress in made(role, "Ingress", OURS | {"keycloak_admin_url": "https://admin.example.com"}).values():
        for path in ingress["spec"]["rules"][0]["http"]["paths"]:
            assert path["backend"] == {"service": {"name": name, "port": {"name": "https"}}}
    assert "https" in [each["name"] for each in service["spec"]["ports"]]
    ensured = {"platform_ensured": {"certificates": {"mlflow/mlflow-ca": "the CA"}}}
    transports = get_role("traefik").value("__traefik_dynamic", OURS | ensured)["http"]["serversTransports"]
    assert transports[role] == {"serverName": host, "rootCAs": ["the CA"]}
    certificates = get_role(role).value(f"__{role}_certificates", OURS)
    assert host in certificates[0]["hosts"], "what Traefik verifies"


@pytest.mark.parametrize(
    "options",
    [
        {"platform_internal_tls": False},
        {"platform_edge_backend_tls": False},
        # It does not follow from another edge that it can.
        {"platform_components": ["keycloak", "mlflow"], "platform_ingress_preset": "nginx"},
        {"platform_components": ["keycloak", "mlflow"], "platform_ingress_preset": "traefik"},
        {"platform_components": ["keycloak", "mlflow"]} | {"platform_edge": "gateway"},
    ],
)
@pytest.mark.parametrize("role", BACKENDS)
def test_pods_are_reached_in_clear_otherwise(role, options):
    given = OURS | {"platform_gateway": {"name": "public", "namespace": "edge"}} | options
    assert made(role, "BackendTLSPolicy", given) == {}
    for ingress in made(role, "Ingress", given).values():
        ports = [each["backend"]["service"]["port"]["name"] for each in ingress["spec"]["rules"][0]["http"]["paths"]]
        assert set(ports) == {"http"}
    (service,) = get_role(role).render(f"{role}.service.yaml.j2", given)
    assert "annotations" not in service["metadata"]


@pytest.mark.parametrize("role", BACKENDS)
def test_a_gateway_verifies_pods_where_asked_for(role):
    name, host = BACKENDS[role]
    ensured = {"platform_ensured": {"certificates": {"mlflow/mlflow-ca": "the CA"}}}
    given = GATEWAY | ensured | {"platform_edge_backend_tls": True, "mlflow_api_url": "https://api.example.com"}
    (policy,) = made(role, "BackendTLSPolicy", given).values()
    assert policy["spec"]["validation"]["hostname"] == host
    assert policy["spec"]["targetRefs"] == [{"group": "", "kind": "Service", "name": name, "sectionName": "https"}]
    (reference,) = policy["spec"]["validation"]["caCertificateRefs"]
    configs = get_role(role).render(f"{role}-ca.configmap.yaml.j2", given)
    assert {"name": reference["name"], "data": {"ca.crt": "the CA"}} in [
        {"name": each["metadata"]["name"], "data": each["data"]} for each in configs
    ]


def test_pages_of_oauth2_proxy_are_reached_in_clear():
    given = OURS | {"mlflow_auth": "oauth2_proxy", "mlflow_api_url": "https://api.example.com"}
    ingresses = made("mlflow", "Ingress", given)
    (pages,) = get_role("mlflow").render("mlflow.service.yaml.j2", given)
    assert "annotations" not in pages["metadata"]
    assert [each["name"] for each in pages["spec"]["ports"]] == ["http"]
    ports = {
        name: {path["backend"]["service"]["port"]["name"] for path in each["spec"]["rules"][0]["http"]["paths"]}
        for name, each in ingresses.items()
    }
    assert ports == {"mlflow": {"http"}, "mlflow-api": {"https"}}
    (programs,) = get_role("mlflow").render("mlflow-internal.service.yaml.j2", given)
    assert programs["spec"]["selector"] == {"app.kubernetes.io/name": "mlflow"}, "past the proxy"
    assert programs["metadata"]["annotations"][TRANSPORT] == "mlflow@file"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"platform_ingress_preset": "none"}, ["platform_ingress_preset", "platform_edge_backend_tls true"]),
        ({"platform_ingress_preset": "nginx"}, []),
        ({"platform_ingress_preset": "traefik"}, ["mlflow_service_annotations and keycloak_service_annotations"]),
        (
            {"platform_ingress_preset": "traefik", "mlflow_service_annotations": {TRANSPORT: "a@file"}},
            ["keycloak_service_annotations is without"],
        ),
        ({"platform_internal_tls": False, "platform_ingress_preset": "none"}, []),
    ],
)
def test_what_is_refused_of_tls_to_pods(options, words):
    given = EDGE | {"platform_components": ["keycloak", "mlflow"], "platform_edge_backend_tls": True} | options
    message = checks.refusal(rendering.Role("mlflow", beside=("keycloak",)), given, "platform")
    assert all(word in message for word in words)
    assert bool(message) is bool(words), message


def test_annotations_of_minios_service_precede():
    own = {"traefik.ingress.kubernetes.io/service.serverstransport": "edge-minio@kubernetescrd", "a": "b"}
    given = S3 | {"platform_ingress_preset": "traefik", "minio_service_annotations": own}
    service = get_role("minio").render("minio.service.yaml.j2", given)[0]["metadata"]["annotations"]
    assert service == own | {"traefik.ingress.kubernetes.io/service.serversscheme": "https"}


def test_a_gateway_verifies_minio():
    gateway = {"platform_edge": "gateway", "platform_gateway": GATEWAY["platform_gateway"]}
    given = S3 | gateway | {"platform_ensured": {"certificates": {"mlflow/mlflow-ca": "the CA"}}}
    policy = made("minio", "BackendTLSPolicy", given)["minio"]["spec"]
    assert policy["validation"]["hostname"] == "minio.minio.svc"
    (authority,) = get_role("minio").render("minio-ca.configmap.yaml.j2", given)
    assert [each["name"] for each in policy["validation"]["caCertificateRefs"]] == [authority["metadata"]["name"]]
    assert authority["data"] == {"ca.crt": "the CA"}
    (rule,) = made("minio", "HTTPRoute", given)["minio"]["spec"]["rules"]
    assert rule["backendRefs"] == [{"name": "minio", "port": 9000}]
    clear = given | {"platform_internal_tls": False}
    assert made("minio", "BackendTLSPolicy", clear) == {}
    assert get_role("minio").render("minio-ca.configmap.yaml.j2", clear) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, []),
        ({"mlflow_s3_public_url": "https://s3.example.com/"}, []),
        ({"mlflow_s3_public_url": "https://ai.example.com/s3"}, ["mlflow_s3_public_url", "without a path"]),
        ({"mlflow_s3_public_url": "https://mlflow.example.com:8443"}, ["mlflow_s3_public_url", "a host of its own"]),
        ({"mlflow_s3_public_url": "https://login.example.com"}, ["mlflow_s3_public_url", "a host of its own"]),
        ({"mlflow_s3_public_url": "http://s3.example.com"}, ["mlflow_s3_public_url", "https, as mlflow_url is"]),
        ({"mlflow_s3_bucket": "minio"}, ["mlflow_s3_bucket", "another name"]),
        ({"platform_ingress_preset": "none"}, ["platform_ingress_preset", "traefik, haproxy or nginx"]),
        ({"platform_ingress_preset": "none", "platform_internal_tls": False}, []),
        ({"platform_ingress_preset": "none", "mlflow_artifacts_direct": False}, []),
        ({"platform_ingress_preset": "traefik"}, ["minio_service_annotations", "ServersTransport"]),
        (
            {
                "platform_ingress_preset": "traefik",
                "minio_service_annotations": {"traefik.ingress.kubernetes.io/service.serverstransport": "a@file"},
            },
            [],
        ),
    ],
)
def test_what_is_refused_of_a_url_for_minio(options, words):
    refused = [checks.refusal(get_role("minio"), S3 | options, each) for each in ("minio", "platform")]
    message = " ".join(each for each in refused if each)
    assert all(word in message for word in words)
    assert bool(message) is bool(words), message


@pytest.mark.parametrize(("kinds", "unreadable"), [([], []), ([], ["gateway_kinds"]), (["BackendTLSPolicy"], [])])
def test_a_gateway_that_can_not_verify_minio(kinds, unreadable):
    cluster = {"platform_cluster": rendering.CLUSTER | {"gateway_kinds": kinds, "unreadable": unreadable}}
    message = checks.refusal(get_role("minio"), S3 | {"platform_edge": "gateway"} | cluster, "platform")
    assert ("1.4 or newer" in message) is (not kinds and not unreadable)


def test_a_url_for_minio_that_no_edge_is_found_by():
    given = S3 | {"mlflow_s3_public_url": "https://192.0.2.1"}
    assert "mlflow_s3_public_url is 'https://192.0.2.1'" in checks.refusal(get_role("mlflow"), given, "platform")
    given = S3 | {"mlflow_s3_public_url": "http://s3.example.com", "platform_tls": "own_ca"}
    assert "mlflow_s3_public_url is 'http://s3.example.com'" in checks.refusal(get_role("mlflow"), given, "platform")
