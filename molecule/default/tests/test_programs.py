"""Programs: pods with service account tokens, and clients of Keycloak."""

import base64
import contextlib
import json
import time

import pytest
import requests
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.lib import stack as stacks

UNLISTED = "unlisted"
AUDIENCE = "mlflow-api"
WHO = "/api/2.0/mlflow/users/current"


@pytest.fixture(scope="module")
def team(stack):
    """A listed namespace, and another one whose pods are refused."""
    allowed = stack.variables.get("mlflow_kubernetes_namespaces") or []
    if not allowed:
        pytest.skip("the inventory of this stack allows no namespace: mlflow_kubernetes_namespaces")
    restricted = {"pod-security.kubernetes.io/enforce": "restricted"}
    for name in (allowed[0], UNLISTED):
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": restricted}}
        stack.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", text=json.dumps(namespace))
    yield allowed[0]
    stack.kubectl("delete", "namespace", UNLISTED, "--wait=false")
    for kind, name in (("cronjob", "nightly"), ("job", "nightly-now"), ("job", "train"), ("serviceaccount", "nightly")):
        stack.kubectl("-n", allowed[0], "delete", kind, name, "--ignore-not-found", "--wait=false")


def token_of(stack, namespace, audience, account="default"):
    """Return a token of a service account, as a pod would get it."""
    return stacks.Hidden(stack.kubectl("-n", namespace, "create", "token", account, f"--audience={audience}").strip())


def bearer(stack, token, path=WHO, method="GET", **options):
    """Return MLflow's answer to a bearer token."""
    headers = {"Authorization": f"Bearer {token}"}
    return requests.request(method, f"{stack.mlflow_url}{path}", headers=headers, timeout=60, **options)


def profile(stack, admin_token, name):
    """Return an account as an administrator sees it, or None."""
    listed = requests.get(
        f"{stack.mlflow_url}/api/2.0/mlflow/users/details",
        params={"service": "true"},
        auth=(stacks.ADMIN, admin_token),
        timeout=60,
    )
    listed.raise_for_status()
    found = [user for user in listed.json() if user["username"] == name]
    return found[0] if found else None


# Pods


def test_pod_logs_with_its_service_account_token(stack, team, admin_token):
    well, output = stack.run_example("job.yaml", team)
    assert well, output
    logged = output.rpartition("logged ")[2].split()[0]
    answer = requests.get(
        f"{stack.mlflow_url}/api/2.0/mlflow/runs/get",
        params={"run_id": logged},
        auth=(stacks.ADMIN, admin_token),
        timeout=60,
    )
    assert answer.json()["run"]["data"]["metrics"][0]["key"] == "loss"
    assert [each for each in stack.objects() if logged in each["key"]], "the artifact is not in the bucket"
    account = profile(stack, admin_token, f"default.{team}@serviceaccount.cluster.local")
    assert (account["is_service_account"], account["is_admin"]) == (True, False)


def test_pod_of_another_namespace_is_refused(stack, team, admin_token):
    well, output = stack.run_example("job.yaml", UNLISTED)
    assert not well
    assert "Authentication required" in output
    assert profile(stack, admin_token, f"default.{UNLISTED}@serviceaccount.cluster.local") is None


def test_cron_job(stack, team, admin_token):
    for each in stack.example("cronjob.yaml", team):
        stack.kubectl("apply", "-f", "-", text=json.dumps(each))
    stack.kubectl("-n", team, "delete", "job", "nightly-now", "--ignore-not-found")
    stack.kubectl("-n", team, "create", "job", "nightly-now", "--from=cronjob/nightly")
    well, output = stack.outcome(team, "nightly-now")
    assert well, output
    assert "logged" in output
    assert profile(stack, admin_token, f"nightly.{team}@serviceaccount.cluster.local")["is_service_account"]


def test_pod_cannot_see_objects_of_others(stack, team, example):
    token = token_of(stack, team, AUDIENCE)
    assert bearer(stack, token).json()["username"] == f"default.{team}@serviceaccount.cluster.local"
    asked = {"run_id": example["run_id"]}
    assert bearer(stack, token, "/api/2.0/mlflow/runs/get", params=asked).status_code == 403
    assert bearer(stack, token, "/api/2.0/mlflow/users/details").status_code == 403


def test_pod_token_cannot_create_tokens(stack, team):
    """A stolen token cannot be used after it has expired."""
    asked = {"name": "kept", "expiration": "2026-12-31T00:00:00+00:00"}
    token = token_of(stack, team, AUDIENCE)
    assert bearer(stack, token, f"{WHO}/tokens", "POST", json=asked).status_code in (403, 409)


def issuer(stack):
    return json.loads(stack.kubectl("get", "--raw", "/.well-known/openid-configuration"))["issuer"]


def test_tokens_with_another_audience_or_namespace_are_refused(stack, team):
    """Default tokens for the API server, tokens with another audience, and tokens of other namespaces."""
    assert bearer(stack, token_of(stack, team, AUDIENCE)).status_code == 200
    for namespace, audience in ((team, issuer(stack)), (team, "another-audience"), (UNLISTED, AUDIENCE)):
        assert bearer(stack, token_of(stack, namespace, audience)).status_code == 401, (namespace, audience)


def part(value):
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def read(token):
    """Return header and claims of a token."""
    return [json.loads(base64.urlsafe_b64decode(each + "==")) for each in token.split(".")[:2]]


def forged(header, claims):
    """Return a token with these claims, signed with an unknown key."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    body = f"{part(header)}.{part(claims)}"
    return f"{body}.{part(key.sign(body.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def forgeries(token):
    """Return manipulated variants of a valid token, by name."""
    header, claims = read(token)
    name, body, signature = token.split(".")
    other = {**claims, "sub": "system:serviceaccount:kube-system:default", "preferred_username": stacks.ADMIN}
    return {
        "another key under the same name": forged(header, claims),
        "another key under another name": forged({**header, "kid": "nobody"}, claims),
        "no algorithm": f"{part({**header, 'alg': 'none'})}.{body}.",
        "a shared secret's algorithm": f"{part({**header, 'alg': 'HS256'})}.{body}.{signature}",
        "other claims": f"{name}.{part(other)}.{signature}",
        "another issuer": forged(header, {**claims, "iss": "https://login.example.com"}),
        "no signature": f"{name}.{body}.",
    }


def test_forged_tokens_are_refused(stack, team):
    token = token_of(stack, team, AUDIENCE)
    assert {name: bearer(stack, each).status_code for name, each in forgeries(token).items()} == dict.fromkeys(
        forgeries(token), 401
    )


# Clients of Keycloak


class Keycloak:
    """Keycloak's admin API for the realm."""

    def __init__(self, stack):
        data = stack.core.read_namespaced_secret("keycloak-admin", "keycloak").data
        name, password = (base64.b64decode(data[key]).decode() for key in ("username", "password"))
        self.url = stack.keycloak_url
        self.token = self.tokens("master", client_id="admin-cli", username=name, password=password)

    def tokens(self, realm="mlflow", auth=None, **fields):
        asked = {"grant_type": "password" if "password" in fields else "client_credentials", **fields}
        place = f"{self.url}/realms/{realm}/protocol/openid-connect/token"
        answer = requests.post(place, data=asked, auth=auth, timeout=60)
        answer.raise_for_status()
        return stacks.Hidden(answer.json()["access_token"])

    def __call__(self, method, path, **options):
        headers = {"Authorization": f"Bearer {self.token}"}
        answer = requests.request(
            method, f"{self.url}/admin/realms/mlflow{path}", headers=headers, timeout=60, **options
        )
        answer.raise_for_status()
        return answer.json() if answer.content else None

    @contextlib.contextmanager
    def client(self, name, *mappers, **fields):
        """Create a client and remove it afterwards; yield its ID and secret."""
        made = {"clientId": name, "secret": f"{name}-{time.time_ns()}", "publicClient": False, **fields}
        made["protocolMappers"] = [{"protocol": "openid-connect", **mapper} for mapper in mappers]
        self("POST", "/clients", json=made)
        (found,) = self("GET", "/clients", params={"clientId": name})
        try:
            yield name, made["secret"]
        finally:
            self("DELETE", f"/clients/{found['id']}")


FOR_MLFLOW = {
    "name": "audience",
    "protocolMapper": "oidc-audience-mapper",
    "config": {"included.client.audience": "mlflow", "access.token.claim": "true"},
}
WITH_GROUPS = {
    "name": "groups",
    "protocolMapper": "oidc-group-membership-mapper",
    "config": {"claim.name": "groups", "full.path": "false", "access.token.claim": "true"},
}


@pytest.fixture(scope="module")
def keycloak(stack):
    return Keycloak(stack)


@pytest.fixture
def declared(stack):
    """Client ID, secret and Secret of a program in the inventory."""
    programs = stack.variables.get("keycloak_service_accounts") or []
    if not programs:
        pytest.skip("the inventory of this stack declares no program: keycloak_service_accounts")
    place = programs[0]["namespaces"][0]
    data = stack.core.read_namespaced_secret(f"keycloak-client-{programs[0]['name']}", place).data
    assert set(data) == {"client-id", "client-secret", "token-url"}
    return tuple(stacks.Hidden(base64.b64decode(data[key]).decode()) for key in ("client-id", "client-secret"))


@contextlib.contextmanager
def service_account(stack, admin_token, name):
    """Create a service account for tokens of the provider; remove it afterwards."""
    users, admin = f"{stack.mlflow_url}/api/2.0/mlflow/users", (stacks.ADMIN, admin_token)
    asked = {
        "username": name,
        "display_name": name,
        "is_service_account": True,
        "service_account_source": "default",
    }
    made = requests.post(users, json=asked, auth=admin, timeout=60)
    assert made.status_code in (200, 201), made.text
    try:
        yield
    finally:
        requests.delete(users, json={"username": name}, auth=admin, timeout=60).raise_for_status()


def test_keycloak_client_logs_in_with_its_token(stack, keycloak, declared, admin_token, mark):
    token = keycloak.tokens(auth=declared)
    assert read(token)[1]["iss"] == f"{stack.keycloak_url}/realms/mlflow"
    name = f"service-account-{declared[0]}"
    assert bearer(stack, token).status_code == 401, "there is no account for it"
    with service_account(stack, admin_token, name):
        assert bearer(stack, token).json()["username"] == name
        made = bearer(
            stack, token, "/api/2.0/mlflow/experiments/create", "POST", json={"name": f"{declared[0]}-{mark}"}
        )
        assert made.status_code == 200, made.text
        assert {what: bearer(stack, each).status_code for what, each in forgeries(token).items()} == dict.fromkeys(
            forgeries(token), 401
        )
    stacks.wait_until(lambda: bearer(stack, token).status_code == 401, 60, "the end of a deleted account")


def test_tokens_of_other_clients_and_realms_are_refused(stack, keycloak, admin_token):
    name = "tests-elsewhere"
    for mappers, status in (([FOR_MLFLOW], 200), ([], 401)):
        account = service_account(stack, admin_token, f"service-account-{name}")
        with account, keycloak.client(name, *mappers, serviceAccountsEnabled=True) as client:
            assert bearer(stack, keycloak.tokens(auth=client)).status_code == status, mappers
    assert bearer(stack, keycloak.token).status_code == 401, "of another realm"


def test_user_token_requires_an_admitted_group(stack, keycloak, user_token):
    """As at the login page. The fixture user_token ensures that the user has logged in once."""
    assert user_token
    login = {"username": stacks.USER, "password": stack.password(stacks.USER)}
    direct = {"directAccessGrantsEnabled": True}
    with keycloak.client("tests-with-groups", FOR_MLFLOW, WITH_GROUPS, **direct) as client:
        assert bearer(stack, keycloak.tokens(auth=client, **login)).json()["username"] == stacks.USER
    with keycloak.client("tests-without-groups", FOR_MLFLOW, **direct) as client:
        assert bearer(stack, keycloak.tokens(auth=client, **login)).status_code == 401
