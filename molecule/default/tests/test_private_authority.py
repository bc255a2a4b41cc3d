"""A provider of identities whose certificate no public authority signed: mlflow_oidc_ca_secret."""

import json
import pathlib

import pytest

SCRIPT = pathlib.Path(__file__).parent / "in_pod" / "private_authority.py"


@pytest.fixture(scope="module")
def said(stack):
    return json.loads(stack.execute("mlflow", "python", "-", text=SCRIPT.read_text()).splitlines()[-1])


def test_provider_is_not_trusted_without_its_authority(said):
    """Neither by a login, nor by the check of a bearer token."""
    assert [word for word in said["without"] if "CERTIFICATE_VERIFY_FAILED" not in word] == []


def test_provider_is_trusted_by_its_authority(said):
    """By the variable that the pods get, in both ways that the server asks a provider."""
    login, keys = said["with"]
    assert "token_endpoint" in login
    assert keys == ["keys"]


def test_public_authorities_are_trusted_beside_it(said):
    """OpenSSL looks into its directory whatever that variable says."""
    assert said["public"] > 50
