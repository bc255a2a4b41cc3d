"""Logout in a process that has served no login, and behind a proxy; test_oidc.py logs out of a running server."""

import asyncio

import pytest
from fastapi import Request
from mlflow_oidc_auth.config import config
from mlflow_oidc_auth.oauth import ensure_all_clients_registered
from mlflow_oidc_auth.routers import auth as router

from mlops_mlflow_server import logout


@pytest.fixture
def patched(idp, restored):
    """mlflow-oidc-auth's router, patched."""
    restored(router, "_revoke_refresh_token_at_idp", "_build_ui_url")
    assert logout.install()
    return router


def test_logout_reads_the_providers_metadata_first(patched, idp):
    assert ensure_all_clients_registered() == {"default": True}
    client = router._client_for_refresh("default")
    assert client is router.oauth.oidc
    client.server_metadata.pop("end_session_endpoint", None)
    client.server_metadata.pop("_loaded_at", None)
    asyncio.run(patched._revoke_refresh_token_at_idp("default", None, "ada"))
    assert client.server_metadata["end_session_endpoint"] == f"{idp.issuer}/logout"


@pytest.mark.parametrize(
    ("callback", "comes_back_to"),
    [
        ("https://mlflow.example.com/callback", "https://mlflow.example.com/oidc/ui/auth"),
        (None, "http://10.0.0.7:5000/oidc/ui/auth"),
        ("https://mlflow.example.com/elsewhere", "http://10.0.0.7:5000/oidc/ui/auth"),
    ],
)
def test_logout_redirects_to_the_public_url(patched, monkeypatch, callback, comes_back_to):
    monkeypatch.setattr(config, "OIDC_REDIRECT_URI", callback)
    scope = {"type": "http", "scheme": "http", "server": ("10.0.0.7", 5000), "path": "/logout", "headers": []}
    request = Request({**scope, "root_path": "", "query_string": b"", "method": "GET"})
    assert patched._build_ui_url(request, "/auth") == comes_back_to


@pytest.mark.parametrize("name", logout._NEEDED)
def test_version_without_a_function_is_detected(monkeypatch, name):
    monkeypatch.delattr(router, name)
    assert not logout.install()
