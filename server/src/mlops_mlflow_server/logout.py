# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""End the session at the identity provider at logout, in every worker process.

mlflow-oidc-auth redirects to the provider's `end_session_endpoint` only if the process has already read the provider's
metadata: a process that has served no login ends only its own session. Also, it uses the host of the request for the
post-logout redirect URI, which the provider refuses if it differs from the public URL, as behind a TLS-terminating
proxy.
"""

from typing import Any

from fastapi import Request
from mlflow_oidc_auth.config import config
from mlflow_oidc_auth.routers import auth as router

_NEEDED = ("_revoke_refresh_token_at_idp", "_provider_metadata", "_client_for_refresh", "_build_ui_url")
_CALLBACK = "/callback"


def public(url: str, base: str, callback: str | None) -> str:
    """Return `url` with `base` replaced by the public URL, which is derived from the redirect URI `callback`."""
    if not callback or not callback.endswith(_CALLBACK) or not url.startswith(base):
        return url
    return callback.removesuffix(_CALLBACK) + url[len(base) :]


def install() -> bool:
    """Patch the logout; return whether this version of mlflow-oidc-auth has the expected names."""
    if not all(hasattr(router, name) for name in _NEEDED):
        return False
    revoke = router._revoke_refresh_token_at_idp

    async def revoke_refresh_token_at_idp(provider_id: str, tokens: Any, username: str | None) -> None:
        # Has a timeout and never raises, so a logout succeeds even if the provider does not answer.
        await router._provider_metadata(router._client_for_refresh(provider_id))
        await revoke(provider_id, tokens, username)

    build = router._build_ui_url

    def build_ui_url(request: Request, path: str, query_params: dict | None = None) -> str:
        base = str(request.base_url).rstrip("/")
        return public(build(request, path, query_params), base, config.OIDC_REDIRECT_URI)

    router._revoke_refresh_token_at_idp = revoke_refresh_token_at_idp
    router._build_ui_url = build_ui_url
    return True
