"""Client authentication at the identity provider, by authlib."""

import string

import pytest
from authlib.integrations.base_client.errors import OAuthError
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.auth import ClientAuth

from lib.provider import CLIENT
from mlops_mlflow_server import client_auth


@pytest.fixture
def fetch(idp, monkeypatch):
    """A function that fetches a token with a client secret."""
    monkeypatch.setattr(ClientAuth, "DEFAULT_AUTH_METHODS", dict(ClientAuth.DEFAULT_AUTH_METHODS))
    assert client_auth.install()

    def fetch(secret):
        session = OAuth2Session(CLIENT, secret, token_endpoint_auth_method=client_auth.METHOD)
        return session.fetch_token(f"{idp.issuer}/token", grant_type="client_credentials")

    return fetch


@pytest.mark.parametrize("secret", ["plain", "Abc-123_.~", string.printable.strip(), "100%41+1", "a:b", "é€"])
def test_secret_with_any_character_is_accepted(fetch, idp, secret):
    idp.secret = secret
    assert fetch(secret)["access_token"]


def test_wrong_secret_is_refused(fetch, idp):
    with pytest.raises(OAuthError, match="invalid_client"):
        fetch(f"{idp.secret}x")


def test_version_without_the_method_is_detected(monkeypatch):
    monkeypatch.setattr(ClientAuth, "DEFAULT_AUTH_METHODS", {})
    assert not client_auth.install()
