"""A logout that ends the session at the identity provider too, whichever process it comes to.

mlflow-oidc-auth sends the browser to the provider's `end_session_endpoint` only where the process happens to have read
the provider's metadata already: one that has served no login since it started ends its own session and no other.
"""

from mlflow_oidc_auth.routers import auth as router

_NEEDED = ("_revoke_refresh_token_at_idp", "_provider_metadata", "_client_for_refresh")


def install() -> bool:
    """Have the metadata read before they are looked at; return whether mlflow-oidc-auth is made as it was."""
    if not all(hasattr(router, name) for name in _NEEDED):
        return False
    revoke = router._revoke_refresh_token_at_idp

    async def revoke_refresh_token_at_idp(provider_id, tokens, username):
        # Bounded in time, and never raises: a provider that is away keeps nobody from logging out here.
        await router._provider_metadata(router._client_for_refresh(provider_id))
        await revoke(provider_id, tokens, username)

    router._revoke_refresh_token_at_idp = revoke_refresh_token_at_idp
    return True
