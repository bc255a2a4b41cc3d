"""What the edge lets in, by which names and paths, and what it does not."""

import socket
import ssl
import urllib.parse

import pytest
import requests

from tests.lib import stack as stacks

DISCOVERY = "/realms/mlflow/.well-known/openid-configuration"


def host_of(url):
    return urllib.parse.urlsplit(url).hostname


def test_http_leads_to_https(stack):
    for url in (stack.mlflow_url, stack.keycloak_url):
        path = f"{urllib.parse.urlsplit(url).path}/some/where?x=1"
        answer = stack.asked(host_of(url), path, secure=False)
        assert answer.status in (301, 308)
        assert answer.headers["Location"] == f"https://{urllib.parse.urlsplit(url).netloc}{path}"


def test_browsers_stay_with_https(stack):
    for url in (f"{stack.mlflow_url}/health", stack.keycloak_url + DISCOVERY):
        answer = requests.get(url, timeout=60)
        assert answer.status_code == 200
        assert int(answer.headers["Strict-Transport-Security"].split(";")[0].removeprefix("max-age=")) >= 31536000


@pytest.mark.parametrize(
    ("version", "taken"),
    [
        (ssl.TLSVersion.TLSv1, False),
        (ssl.TLSVersion.TLSv1_1, False),
        (ssl.TLSVersion.TLSv1_2, True),
        (ssl.TLSVersion.TLSv1_3, True),
    ],
)
def test_versions_of_tls(stack, version, taken):
    context = stack.context()
    # The library's own limits are not those that are tested.
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    raw = socket.create_connection(("127.0.0.1", stack.port), timeout=60)
    try:
        with context.wrap_socket(raw, server_hostname=host_of(stack.mlflow_url)) as one:
            assert taken
            assert one.version() == f"TLSv{version.name.removeprefix('TLSv').replace('_', '.')}"
            name = one.cipher()[0]
            assert "GCM" in name or "POLY1305" in name or "CCM" in name, name
    except (ssl.SSLError, ConnectionError):
        assert not taken


@pytest.mark.parametrize("header", ["evil.example", "mlflow.mlflow.svc:5000", "login.example.test.evil.example"])
def test_a_strangers_host(stack, header):
    """Neither the edge nor MLflow answers to it, whatever the certificate's name."""
    for url in (stack.mlflow_url, stack.keycloak_url):
        answer = stack.asked(header, "/health", name=host_of(url))
        assert answer.status == 404
        assert b"OK" not in answer.body


def test_a_host_within_mlflow(stack):
    """What gets past an edge, MLflow refuses."""
    with stack.forwarded("mlflow", 5000) as port:
        headers = {"Host": "evil.example"}
        for path in ("/callback?error=x", "/api/2.0/mlflow/experiments/search?max_results=1"):
            answer = requests.get(f"http://127.0.0.1:{port}{path}", headers=headers, timeout=60, allow_redirects=False)
            assert answer.status_code == 403


def test_nothing_is_beside_the_edge(stack):
    for component in ("mlflow", "keycloak", "minio", "postgres"):
        for service in stack.core.list_namespaced_service(stacks.NAMESPACES[component]).items:
            assert service.spec.type == "ClusterIP", service.metadata.name


CLOSED = [
    "",
    "/",
    "/admin",
    "/admin/",
    "/admin/master/console/",
    "/admin/realms",
    "/admin/realms/mlflow/users",
    "/admin/serverinfo",
    "/realms/master",
    "/realms/master/",
    "/realms/master/protocol/openid-connect/auth",
    "/realms/master/.well-known/openid-configuration",
    "/realms/",
    "/realms/mlflow-other",
    "/metrics",
    "/health",
    "/health/ready",
    "/js/keycloak.js",
    "/.well-known/openid-configuration/realms/master",
    "/.well-known/oauth-authorization-server/realms/master",
    "/realms/mlflow/../master",
    "/realms/mlflow/../../admin/master/console/",
    "/realms/mlflow/%2e%2e/master",
    "/realms/mlflow/%2E%2E/%2e%2e/admin/master/console/",
    "/realms/mlflow/..%2fmaster",
    "/realms/mlflow/..%2F..%2Fadmin/master/console/",
    "/realms/mlflow/..;/master/.well-known/openid-configuration",
    "/realms/mlflow/%5c..%5cmaster",
    "/realms/mlflow//../../admin/master/console/",
    "/resources/../admin/master/console/",
    "/resources/..%2fadmin/master/console/",
    "/realms//master",
    "//admin/master/console/",
    "/REALMS/master",
    "/realms/%6d%61ster",
    "/%61dmin/master/console/",
]


@pytest.mark.parametrize("path", CLOSED)
def test_keycloaks_administration_is_not_reached(stack, path):
    base = urllib.parse.urlsplit(stack.keycloak_url).path
    answer = stack.asked(host_of(stack.keycloak_url), base + path or "/")
    assert answer.status in (400, 404) or answer.headers.get("Location", "").endswith(
        ("/realms/mlflow/", "/realms/")
    ), path
    for word in (b"master", b"adminv2", b"keycloak_", b"console"):
        assert word not in answer.body.replace(path.encode(), b""), path


def test_what_users_of_the_realm_need(stack):
    found = requests.get(stack.keycloak_url + DISCOVERY, timeout=60).json()
    assert found["issuer"] == f"{stack.keycloak_url}/realms/mlflow"
    for name in ("authorization_endpoint", "token_endpoint", "jwks_uri", "end_session_endpoint"):
        assert found[name].startswith(f"{stack.keycloak_url}/realms/mlflow/")
    assert requests.get(found["jwks_uri"], timeout=60).json()["keys"]
    assert requests.get(f"{stack.keycloak_url}/realms/mlflow", timeout=60).json()["realm"] == "mlflow"
    assert requests.get(f"{stack.keycloak_url}/realms/mlflow/account/", timeout=60).status_code == 200


def test_who_says_where_a_client_is(stack):
    """A header of the client's own changes nothing that MLflow or Keycloak believe."""
    forged = {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "http", "X-Forwarded-Prefix": "/evil"}
    for url in (f"{stack.mlflow_url}/login", f"{stack.mlflow_url}/logout"):
        answer = requests.get(url, headers=forged, timeout=60, allow_redirects=False)
        assert "evil" not in answer.headers.get("Location", "")
        assert answer.headers.get("Location", "https:").startswith(("https:", "/"))
    assert requests.get(stack.keycloak_url + DISCOVERY, headers=forged, timeout=60).json()["issuer"] == (
        f"{stack.keycloak_url}/realms/mlflow"
    )
