"""The providers configured for service account tokens."""

import base64
import json

import pytest
from mlflow_oidc_auth import kubernetes
from mlflow_oidc_auth.config import config

from lib import process
from mlops_mlflow_server import providers

FLAT = {
    "OIDC_PROVIDER_DISPLAY_NAME": "Log in",
    "OIDC_DISCOVERY_URL": "http://keycloak/.well-known/openid-configuration",
    "OIDC_CLIENT_ID": "mlflow",
    "OIDC_ISSUER": "https://login.example.com/realms/mlflow",
    "OIDC_AUDIENCE": "mlflow",
}
PODS = {"MLOPS_KUBERNETES_NAMESPACES": "team-a, team-b", "MLOPS_KUBERNETES_AUDIENCE": "mlflow-api"}
OWN = {"iss": "https://kubernetes.default.svc", "aud": ["https://kubernetes.default.svc"]}


def entries(found):
    return {entry["id"]: entry for entry in json.loads(found["AUTH_PROVIDERS"])}


@pytest.mark.parametrize("namespaces", ["", " ", ",", " , "])
def test_without_namespaces_nothing_is_set(namespaces):
    given = {**FLAT, **PODS, "MLOPS_KUBERNETES_NAMESPACES": namespaces}
    assert providers.environment(given, read=lambda: pytest.fail("the pod has no token then")) == {}


def test_both_providers_are_listed():
    found = entries(providers.environment({**FLAT, **PODS}, read=lambda: OWN))
    person, pod = found["default"], found["cluster"]
    assert (person["type"], person["issuer"], person["audience"]) == ("oidc", FLAT["OIDC_ISSUER"], "mlflow")
    assert person["discovery_url"] == FLAT["OIDC_DISCOVERY_URL"]
    assert (person["userinfo_groups"], person["public_client"]) == (False, False)
    assert (pod["type"], pod["issuer"], pod["audience"]) == ("k8s", OWN["iss"], "mlflow-api")
    assert pod["namespace_allowlist"] == ["team-a", "team-b"]
    assert (pod["in_cluster"], pod["admin_source"]) == (True, "none")
    every = person["allowed_algorithms"] + pod["allowed_algorithms"]
    assert not [name for name in every if name.startswith("HS") or name.lower() == "none"]


def test_single_provider_switches_are_kept():
    flat = {**FLAT, "OIDC_USERINFO_GROUPS": "True", "OIDC_PUBLIC_CLIENT": "1"}
    person = entries(providers.environment({**flat, **PODS}, read=lambda: OWN))["default"]
    assert (person["userinfo_groups"], person["public_client"]) == (True, True)


@pytest.mark.parametrize("name", ["OIDC_ISSUER", "OIDC_AUDIENCE", "OIDC_DISCOVERY_URL", "OIDC_CLIENT_ID"])
def test_missing_variable_is_named(name):
    with pytest.raises(ValueError, match=name):
        providers.environment({**FLAT, **PODS, name: " "}, read=lambda: OWN)


@pytest.mark.parametrize("audience", ["", "https://kubernetes.default.svc", "also-mine"])
def test_audience_of_the_api_server_is_refused(audience):
    own = {"iss": "https://kubernetes.default.svc", "aud": ["https://kubernetes.default.svc", "also-mine"]}
    with pytest.raises(ValueError, match="MLOPS_KUBERNETES_AUDIENCE"):
        providers.environment({**FLAT, **PODS, "MLOPS_KUBERNETES_AUDIENCE": audience}, read=lambda: own)


def test_own_token_is_read(tmp_path):
    body = base64.urlsafe_b64encode(json.dumps(OWN).encode()).rstrip(b"=").decode()
    (tmp_path / "token").write_text(f"eyJ9.{body}.c2ln\n")
    assert providers.own_token(str(tmp_path / "token")) == OWN


@pytest.mark.parametrize("text", ["", "nothing", "a.b.c", "a.W10.c"])
def test_invalid_token_is_reported(tmp_path, text):
    (tmp_path / "token").write_text(text)
    with pytest.raises(ValueError, match="is not a JSON web token"):
        providers.own_token(str(tmp_path / "token"))


def test_missing_token_is_reported(tmp_path):
    with pytest.raises(ValueError, match="needs a token of its own"):
        providers.own_token(str(tmp_path / "token"))


CONFIGURED = """
import json
from mlflow_oidc_auth.config import config
print(json.dumps([
    [each.id, each.type, each.issuer, each.audience, each.jwks_uri, each.in_cluster, each.admin_source,
     each.interactive, list(each.namespace_allowlist), list(each.allowed_algorithms)]
    for each in config.AUTH_PROVIDERS.providers
]))
"""


def test_mlflow_oidc_auth_accepts_both_providers():
    found = providers.environment({**FLAT, **PODS}, read=lambda: OWN)
    person, pod = process.result(CONFIGURED, OIDC_CLIENT_SECRET="secret", **{**FLAT, **found})
    assert person[:4] == ["default", "oidc", FLAT["OIDC_ISSUER"], "mlflow"]
    assert "HS256" not in person[-1]
    assert pod[:-1] == [
        "cluster", "k8s", OWN["iss"], "mlflow-api", providers.KEYS, True, "none", False, ["team-a", "team-b"],
    ]  # fmt: skip
    assert sorted(pod[-1]) == ["ES256", "ES384", "ES512", "RS256"]


def test_algorithms_are_those_of_a_single_provider():
    assert sorted(config.AUTH_PROVIDERS.by_id("default").allowed_algorithms) == sorted(providers._OF_THE_PROVIDER)


def test_mlflow_oidc_auth_reads_the_same_token():
    assert kubernetes.IN_CLUSTER_TOKEN_PATH == providers.TOKEN
