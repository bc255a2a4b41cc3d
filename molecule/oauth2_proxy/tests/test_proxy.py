"""oauth2-proxy with the configuration of its pods: what it passes on, and where its secrets are."""

import base64
import json

import pytest
import requests

from tests.lib import proxied

# Headers in which a client might pass a user; deliberately independent of the role's list.
IDENTITY = [
    "Authorization",
    "X-MLflow-Authorization",
    "X-Forwarded-User",
    "X-Forwarded-Email",
    "X-Forwarded-Preferred-Username",
    "X-Forwarded-Groups",
    "X-Forwarded-Access-Token",
    "X-Auth-Request-User",
    "X-Auth-Request-Email",
    "X-Auth-Request-Preferred-Username",
    "X-Auth-Request-Groups",
    "X-Auth-Request-Access-Token",
    "X-Remote-User",
    "Remote-User",
]


@pytest.fixture(scope="module")
def proxy(stack, echo, proxy_program, tmp_path_factory):
    """The URL of oauth2-proxy with the configuration of its pods, in front of the echo server."""
    alpha, arguments = stack.configuration()
    keys = stack.secret(proxied.NAMESPACE, proxied.KEYS)
    client = stack.secret(proxied.NAMESPACE, "mlflow-oidc-credentials")
    secrets = {
        "keys/bridge-password": keys["bridge-password"],
        "keys/cookie-secret": keys["cookie-secret"],
        "client/client-secret": client["client-secret"],
        "ca/ca.crt": stack.ca_file().read_text(),
    }
    inside = "https://keycloak-internal.keycloak.svc:8443"
    assert inside in json.dumps(alpha)
    replaced = [(inside, stack.keycloak_url)]
    folder = tmp_path_factory.mktemp("proxy")
    with proxied.running(folder, (alpha, arguments), secrets, echo, replaced=replaced) as url:
        yield url


@pytest.fixture(scope="module")
def session(stack, proxy):
    """A session of demo-user."""
    session, answer = stack.sign_in("demo-user", proxy)
    assert answer.status_code == 302, answer.text
    return session


def received(answer):
    """Return the headers that reached the server, by their names in lower case."""
    found = {}
    for name, value in answer.json()["headers"]:
        found.setdefault(name.lower(), []).append(value)
    return found


def test_server_receives_the_user(stack, proxy, session):
    headers = received(session.get(f"{proxy}/x", timeout=60))
    assert [proxied.basic(each) for each in headers["authorization"]] == [("demo-user", str(stack.bridge_password))]
    assert headers.keys() & {name.lower() for name in IDENTITY} == {"authorization"}


@pytest.mark.parametrize("name", IDENTITY)
def test_identity_headers_of_clients_are_removed(stack, proxy, session, name):
    mark = "forged"
    for written in (name, name.lower(), name.upper(), name.replace("-", "_"), name.lower().replace("-", "_")):
        answer = session.get(f"{proxy}/x", headers={written: mark, "X-Unrelated": "kept"}, timeout=60)
        headers = received(answer)
        assert headers["x-unrelated"] == ["kept"]
        assert mark not in json.dumps(answer.json()), written
        assert [proxied.basic(each) for each in headers["authorization"]] == [("demo-user", str(stack.bridge_password))]


def test_requests_without_a_session_do_not_reach_the_server(stack, proxy):
    """Neither with MLflow's passwords, nor with the bridge password, nor from a probe."""
    credentials = base64.b64encode(f"demo-user:{stack.bridge_password}".encode()).decode()
    for headers in (
        {},
        {"Authorization": f"Basic {credentials}"},
        {"X-Forwarded-User": "demo-user", "X-Forwarded-Email": "demo-user"},
        {"X-Forwarded-Uri": "/ping", "X-Forwarded-Host": "localhost"},
        {"User-Agent": "GoogleHC/1.0"},
        {"User-Agent": "kube-probe/1.34"},
        {"Cookie": "_oauth2_proxy=forged"},
    ):
        for path in ("/", "/api/2.0/mlflow/experiments/search", "/x#/ping", "//api/", "/static-files/x", "/ping/../x"):
            answer = requests.get(proxy + path, headers=headers, timeout=60, allow_redirects=False)
            assert answer.status_code in (301, 401, 403), (path, headers.keys(), answer.status_code)
            assert '"headers"' not in answer.text, (path, headers.keys())


def test_escaped_paths_are_passed_unchanged(proxy, session):
    path = "/api/2.0/mlflow-artifacts/artifacts/0/a%2Fb%20c%3Fd"
    assert session.get(proxy + path, timeout=60).json()["path"] == path


def test_cookie_is_http_only_and_same_site(stack, proxy):
    _unused, answer = stack.sign_in("demo-user", proxy)
    cookies = [line.lower() for line in answer.raw.headers.getlist("Set-Cookie") if line.startswith("_oauth2_proxy")]
    assert cookies
    for line in cookies:
        assert "httponly" in line
        assert "samesite=lax" in line


def test_configuration_and_pods_contain_no_secrets(stack):
    alpha, arguments = stack.configuration()
    deployment = stack.apps.read_namespaced_deployment("mlflow-oauth2-proxy", proxied.NAMESPACE)
    pods = stack.core.list_namespaced_pod(proxied.NAMESPACE, label_selector=proxied.PROXY)
    text = json.dumps([alpha, arguments, stack.api.sanitize_for_serialization([deployment, pods])])
    logs = "".join(stack.core.read_namespaced_pod_log(name, proxied.NAMESPACE) for name in stack.proxies())
    values = stack.secret_values()
    assert len(values) > 10
    assert [name for name, value in values.items() if value in text] == []
    assert [name for name, value in values.items() if value in logs] == []


def test_pods_are_unprivileged(stack):
    for name in stack.proxies():
        pod = stack.core.read_namespaced_pod(name, proxied.NAMESPACE)
        assert pod.spec.automount_service_account_token is False
        assert pod.spec.security_context.run_as_non_root is True
        [container] = pod.spec.containers
        security = container.security_context
        assert security.read_only_root_filesystem is True
        assert security.allow_privilege_escalation is False
        assert security.capabilities.drop == ["ALL"]
    namespace = stack.core.read_namespace(proxied.NAMESPACE)
    assert namespace.metadata.labels["pod-security.kubernetes.io/enforce"] == "restricted"
