"""An identity provider with a certificate of a private CA: mlflow_oidc_ca_secret."""

import json
import pathlib

import pytest

SCRIPT = pathlib.Path(__file__).parent / "in_pod" / "private_ca.py"


@pytest.fixture(scope="module")
def results(stack):
    return json.loads(stack.execute("mlflow", "python", "-", text=SCRIPT.read_text()).splitlines()[-1])


def test_provider_is_not_trusted_without_its_ca(results):
    """Neither for a login, nor for the check of a bearer token."""
    assert [word for word in results["without"] if "CERTIFICATE_VERIFY_FAILED" not in word] == []


def test_provider_is_trusted_with_its_ca(results):
    """With the pods' environment variable, for both ways in which the server calls a provider."""
    login, keys = results["with"]
    assert "token_endpoint" in login
    assert keys == ["keys"]


def test_public_cas_stay_trusted(results):
    """The variable does not replace OpenSSL's directory."""
    assert results["public"] > 50
