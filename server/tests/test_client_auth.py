"""Client authentication at the identity provider."""

import base64
import string
import types
from urllib.parse import unquote_plus

import pytest


@pytest.fixture
def client_auth(load):
    return load("client_auth")


@pytest.mark.parametrize("secret", ["plain", string.printable, "100%41+1", "a:b", "é€"])
def test_header_decodes_to_the_credentials(client_auth, secret):
    client = types.SimpleNamespace(client_id="mlflow", client_secret=secret)
    uri, headers, body = client_auth.basic(client, "POST", "http://login", {"Accept": "json"}, "code=1")
    assert (uri, body, headers["Accept"]) == ("http://login", "code=1", "json")
    scheme, _unused, content = headers["Authorization"].partition(" ")
    assert scheme == "Basic"
    words = base64.b64decode(content).decode("ascii").split(":")
    assert [unquote_plus(word) for word in words] == ["mlflow", secret]


def test_alphanumeric_secret_is_sent_unchanged(client_auth):
    client = types.SimpleNamespace(client_id="mlflow", client_secret="Abc-123_.~")
    _unused, headers, _unused = client_auth.basic(client, "POST", "", {}, "")
    assert base64.b64decode(headers["Authorization"].split()[1]) == b"mlflow:Abc-123_.~"


def test_replaces_authlibs_function(client_auth):
    assert client_auth.install()
    assert client_auth.ClientAuth.DEFAULT_AUTH_METHODS["client_secret_basic"] is client_auth.basic
    client_auth.ClientAuth.DEFAULT_AUTH_METHODS.clear()
    assert not client_auth.install()
