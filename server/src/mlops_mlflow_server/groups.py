# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Apply the identity provider's groups at every token renewal, not only at login.

mlflow-oidc-auth reads groups at login, but a session lasts for weeks, and the claims of its renewed tokens are ignored.
Here a renewal updates the user's groups and administrator rights, and ends the session of a user who is in no group
that may log in. A bearer token of such a user is refused as well.

A token without the claim counts as a token without groups, as at login: providers omit an empty claim. If groups come
from elsewhere (UserInfo, a plugin of mlflow-oidc-auth), tokens do not contain them, and a renewal changes nothing.
"""

import asyncio
import base64
import json
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

from mlflow_oidc_auth import user as users
from mlflow_oidc_auth.config import config
from mlflow_oidc_auth.group_patterns import admitting_rule, normalize_group_values
from mlflow_oidc_auth.logger import get_logger
from mlflow_oidc_auth.provisioning_policy import admin_from_claims, groups_to_apply
from mlflow_oidc_auth.routers import auth as router
from mlflow_oidc_auth.store import store

_logger = get_logger()
_renewal: ContextVar[dict | None] = ContextVar("mlops_renewal", default=None)


def groups_in_claims(claims: Mapping[str, Any]) -> list[str] | None:
    """Return the groups in a token's `claims`, or None if groups do not come from tokens."""
    if config.OIDC_GROUP_DETECTION_PLUGIN or config.OIDC_USERINFO_GROUPS:
        return None
    return normalize_group_values(claims.get(config.OIDC_GROUPS_ATTRIBUTE, []))


def admitted(provider: Any, groups: list[str]) -> bool:
    """Return whether a member of `groups` may log in, by the rule of mlflow-oidc-auth's own login."""
    if admin_from_claims(provider, groups, config.OIDC_ADMIN_GROUP_NAME):
        return True
    return admitting_rule(groups, config.OIDC_GROUP_NAME, config.OIDC_GROUP_NAME_PATTERN) is not None


def payload(token: Any) -> dict:
    """Return the claims of a token from the provider's token endpoint; empty if it is not a readable JWT."""
    try:
        body = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except (AttributeError, IndexError, ValueError):
        return {}
    return claims if isinstance(claims, dict) else {}


def groups_at_renewal(answer: dict) -> list[str] | None:
    """Return the groups in a provider's answer to a renewal, or None if it contains no information on groups."""
    claims = payload(answer.get("id_token"))
    if not claims:
        # Not every provider sends another ID token, and an access token need not be a readable JWT.
        claims = payload(answer.get("access_token"))
        if config.OIDC_GROUPS_ATTRIBUTE not in claims:
            return None
    return groups_in_claims(claims)


def update(username: str, provider: Any, groups: list[str]) -> None:
    """Update a user's groups and administrator rights from the provider's groups."""
    written_by = f"oidc:{provider.id}"
    known = store.get_user_profile(username)
    is_admin = admin_from_claims(provider, groups, config.OIDC_ADMIN_GROUP_NAME)
    if provider.admin_source == "claims" and bool(known.is_admin) != is_admin:
        users.create_user(username=username, display_name=known.display_name, is_admin=is_admin, written_by=written_by)
    current = list(store.get_groups_for_user(username))
    wanted = groups_to_apply(provider, groups, current, is_new_user=False)
    if wanted is not None and set(wanted) != set(current):
        users.populate_groups(group_names=wanted, written_by=written_by)
        users.update_user(username=username, group_names=wanted, written_by=written_by)


def apply(session_id: str, username: str, provider: Any, groups: list[str]) -> None:
    """Apply the groups of a renewal: update the user, or end the session if the user may no longer log in."""
    if admitted(provider, groups):
        update(username, provider, groups)
        return
    store.revoke_auth_session(session_id)
    _logger.info("Ended a session of %s: the identity provider names no group that may log in", username)


def install() -> bool:
    """Patch mlflow-oidc-auth's session renewal; return whether this version has the expected names."""
    hold = getattr(router, "_refresh_holding_turn", None)
    build = getattr(router, "_session_tokens_from_response", None)
    if hold is None or build is None:
        return False

    async def holding_turn(session_id: str, vault: Any, resolved: Any) -> bool:
        found: dict[str, Any] = {}
        mark = _renewal.set(found)
        try:
            fresh = await hold(session_id, vault, resolved)
        finally:
            _renewal.reset(mark)
        username = getattr(resolved, "username", None)
        if found and username:
            # Not earlier, since the session's row was locked until here.
            await asyncio.to_thread(apply, session_id, username, found["provider"], found["groups"])
        return fresh and not found.get("refused", False)

    def tokens_from_response(token_response: dict, provider_id: str | None = None, previous: Any = None) -> Any:
        found = _renewal.get()
        provider = config.AUTH_PROVIDERS.by_id(provider_id or getattr(previous, "provider_id", None) or "default")
        groups = groups_at_renewal(token_response) if found is not None and provider is not None else None
        if found is not None and groups is not None:
            found.update(provider=provider, groups=groups, refused=not admitted(provider, groups))
        return build(token_response, provider_id=provider_id, previous=previous)

    router._refresh_holding_turn = holding_turn
    router._session_tokens_from_response = tokens_from_response
    return True
