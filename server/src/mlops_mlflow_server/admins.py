# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Let the right to administer follow the identity provider for access tokens and bearer tokens too.

mlflow-oidc-auth updates the right of a user at a login, and `groups` at each renewal of a session. An access token
lives for up to a year, and a user who has left the administrators' group and never opens the page again would keep the
right by it. Here a user administers by an access token only while one of the user's sessions is live and its tokens are
not expired; expired ones are renewed first, which updates the right. A bearer token administers only if it names the
administrators' group itself; where groups do not come from tokens, it is treated like an access token.

This takes nothing else from the user, and is undone by the next login. Service accounts are not concerned, nor users
whom an administrator made one by hand and who have never logged in at the provider.
"""

import asyncio
import copy
from contextvars import ContextVar
from typing import Any

from mlflow_oidc_auth.config import config
from mlflow_oidc_auth.entities.auth_context import AUTH_CONTEXT_KEY
from mlflow_oidc_auth.middleware import AuthMiddleware
from mlflow_oidc_auth.routers import auth as router
from mlflow_oidc_auth.session.token_vault import get_token_vault
from mlflow_oidc_auth.store import store
from mlflow_oidc_auth.utils import request_helpers_fastapi as helpers
from starlette.requests import Request

from mlops_mlflow_server import callers

# Sessions of one user that are renewed for one call at most.
MOST_SESSIONS = 3
_NEEDED = ("_authenticate_user", "_get_user_auth_facts", "_is_session_expired")

# The user of the current call whose right to administer does not count.
unconfirmed: ContextVar[str | None] = ContextVar("mlops_unconfirmed", default=None)


def _providers() -> list[Any]:
    """Return the providers whose groups make administrators."""
    return [each for each in config.AUTH_PROVIDERS.interactive_providers() if each.admin_source == "claims"]


def _sessions(username: str) -> list[tuple[str, Any]]:
    """Return the newest sessions of a user that these providers opened, with their tokens."""
    found = [
        session
        for provider in _providers()
        for session in store.list_live_auth_sessions_for_provider(username, provider.id)
    ]
    vault = get_token_vault()
    opened = [(session_id, vault.decrypt(sealed)) for session_id, sealed in found[-MOST_SESSIONS:]]
    return [(session_id, tokens) for session_id, tokens in opened if tokens is not None]


def _comes_from_provider(username: str) -> bool:
    """Return whether a provider decides whether this user is an administrator."""
    return bool(_providers()) and store.user_identity_repo.has_real_binding(username)


def _is_limited(username: str, is_admin: bool, is_service_account: bool) -> bool:
    """Return whether this administrator does not administer in the current call."""
    return is_admin and unconfirmed.get() == username and not is_service_account and _comes_from_provider(username)


class _Profiles:
    """The store, for mlflow-oidc-auth's own routes, which read there whether the caller is an administrator."""

    def __getattr__(self, name: str) -> Any:
        return getattr(store, name)

    def get_user_profile(self, username: str) -> Any:
        """Return a user's profile; the caller administers only if the authentication of this call says so."""
        found = store.get_user_profile(username)
        caller = callers.scope().get(AUTH_CONTEXT_KEY)
        if caller is None or caller.username != found.username or caller.is_admin or not found.is_admin:
            return found
        limited = copy.copy(found)
        limited.is_admin = False
        return limited


async def is_confirmed(username: str) -> bool:
    """Return whether the provider has confirmed this administrator's login within the lifetime of its tokens."""
    sessions = await asyncio.to_thread(_sessions, username)
    if any(not AuthMiddleware._is_session_expired(tokens) for _unused, tokens in sessions):
        return True
    for session_id, _unused in sessions:
        resolved = await asyncio.to_thread(store.resolve_auth_session, session_id)
        if resolved is not None and await router.refresh_session_with_idp(session_id, resolved):
            return True
    return False


def _needs_session(header: str) -> bool:
    if header.startswith("Basic "):
        return True
    return header.startswith("Bearer ") and bool(config.OIDC_GROUP_DETECTION_PLUGIN or config.OIDC_USERINFO_GROUPS)


def install() -> bool:
    """Patch mlflow-oidc-auth's middleware; return whether this version has the expected names."""
    if not all(hasattr(AuthMiddleware, name) for name in _NEEDED):
        return False
    if not hasattr(router, "refresh_session_with_idp") or not hasattr(store, "list_live_auth_sessions_for_provider"):
        return False
    if getattr(helpers, "store", None) is not store:
        return False
    authenticate, facts_of = AuthMiddleware._authenticate_user, AuthMiddleware._get_user_auth_facts

    async def authenticate_user(self: Any, request: Request) -> tuple:
        unconfirmed.set(None)
        outcome = await authenticate(self, request)
        if outcome[0] and outcome[1] and _needs_session(request.headers.get("authorization") or ""):
            is_admin, _active, _denial, (is_service_account, _source) = await asyncio.to_thread(
                facts_of, self, outcome[1]
            )
            if is_admin and not is_service_account and not await is_confirmed(outcome[1]):
                unconfirmed.set(outcome[1])
        return outcome

    def get_user_auth_facts(self: Any, username: str) -> tuple:
        found = facts_of(self, username)
        return (False, *found[1:]) if _is_limited(username, found[0], found[3][0]) else found

    helpers.store = _Profiles()
    AuthMiddleware._authenticate_user = authenticate_user
    AuthMiddleware._get_user_auth_facts = get_user_auth_facts
    return True
