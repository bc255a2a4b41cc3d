"""Signing keys of bearer tokens: a new key is fetched at once, and forged tokens cause few requests."""

import pytest
from joserfc.jwk import RSAKey
from mlflow_oidc_auth import auth
from mlflow_oidc_auth.middleware import auth_middleware

from mlops_mlflow_server import keys


@pytest.fixture
def validate(idp, restored, monkeypatch):
    """mlflow-oidc-auth's function, patched, with empty caches and one key known."""
    restored(auth, "_get_provider_jwks")
    restored(auth_middleware, "validate_token")
    monkeypatch.setattr(keys, "_fetched", {})
    auth._provider_jwks_cache.clear()
    assert keys.install()
    auth_middleware.validate_token(idp.token())
    assert idp.asked.count("jwks") == 1
    return auth_middleware.validate_token


def refused(validate, token):
    with pytest.raises(Exception):  # noqa: B017, PT011  (the kinds are joserfc's and ValueError)
        validate(token)


def test_known_key_is_not_fetched(validate, idp):
    assert validate(idp.token())["preferred_username"] == "ada"
    assert idp.asked.count("jwks") == 1


def test_new_key_is_fetched_at_once(validate, idp):
    idp.rotate()
    assert validate(idp.token())["preferred_username"] == "ada"
    assert validate(idp.token(key=idp.keys[1]))["preferred_username"] == "ada"
    assert idp.asked.count("jwks") == 2


def test_tokens_with_a_wrong_signature_cause_one_fetch(validate, idp):
    forged = RSAKey.generate_key(2048, {"kid": idp.keys[0].kid})
    for _unused in range(10):
        refused(validate, idp.token(key=forged))
    assert idp.asked.count("jwks") <= 2
    assert validate(idp.token())


def test_tokens_with_unknown_keys_cause_one_fetch(validate, idp):
    for number in range(10):
        refused(validate, idp.token(key=RSAKey.generate_key(2048, {"kid": f"unknown-{number}"})))
    assert idp.asked.count("jwks") <= 2


@pytest.mark.parametrize("text", ["", "x", "W10.W10.x", "eyJhIjoxfQ.e30.x", "a.b.c.d.e"])
def test_malformed_token_causes_no_fetch(validate, idp, text):
    refused(validate, text)
    assert idp.asked.count("jwks") == 1


@pytest.mark.parametrize("claims", [{"aud": "another"}, {"iss": "http://elsewhere"}, {"exp": 1}], ids=str)
def test_claims_are_still_checked(validate, idp, claims):
    refused(validate, idp.token(**claims))


def test_fetch_is_allowed_again_after_the_pause(monkeypatch):
    monkeypatch.setattr(keys, "_fetched", {})
    assert keys.may_fetch("another", 100.0)
    assert not keys.may_fetch("another", 100.0 + keys.PAUSE - 1)
    assert keys.may_fetch("another", 100.0 + keys.PAUSE)
