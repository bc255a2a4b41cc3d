"""A logout that ends the session at the identity provider too, whichever process it comes to.

mlflow-oidc-auth sends the browser to the provider's `end_session_endpoint` only where the process happens to have read
the provider's metadata already: one that has served no login since it started ends its own session and no other. And it
asks the provider to send the browser back to the host of the request, which the provider refuses if it is another one
than the public URL, as behind a proxy that ends TLS.
"""

from mlflow_oidc_auth.config import config
from mlflow_oidc_auth.routers import auth as router

_NEEDED = ("_revoke_refresh_token_at_idp", "_provider_metadata", "_client_for_refresh", "_build_ui_url")
_CALLBACK = "/callback"


def public(url: str, base: str, callback: str | None) -> str:
    """Return `url`, which begins with `base`, at the public URL that the provider knows by `callback`."""
    if not callback or not callback.endswith(_CALLBACK) or not url.startswith(base):
        return url
    return callback.removesuffix(_CALLBACK) + url[len(base) :]


def install() -> bool:
    """Have the metadata read before they are looked at; return whether mlflow-oidc-auth is made as it was."""
    if not all(hasattr(router, name) for name in _NEEDED):
        return False
    revoke = router._revoke_refresh_token_at_idp

    async def revoke_refresh_token_at_idp(provider_id, tokens, username):
        # Bounded in time, and never raises: a provider that is away keeps nobody from logging out here.
        await router._provider_metadata(router._client_for_refresh(provider_id))
        await revoke(provider_id, tokens, username)

    build = router._build_ui_url

    def build_ui_url(request, path, query_params=None):
        base = str(request.base_url).rstrip("/")
        return public(build(request, path, query_params), base, config.OIDC_REDIRECT_URI)

    router._revoke_refresh_token_at_idp = revoke_refresh_token_at_idp
    router._build_ui_url = build_ui_url
    return True
