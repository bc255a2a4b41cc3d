"""What the identity provider says of a person's groups, heeded whenever it says it, and not at the login alone.

mlflow-oidc-auth reads the groups at the login, and a session lasts for weeks: its tokens are renewed every few minutes,
and what they say then is passed over. Here a renewal brings the groups and the right to administer up to date, and
ends the session of who is in no group that may log in. A bearer token of such a person is refused as well.

A token that lacks the claim names no group, as at the login: providers leave it out where there is none to name. Where
groups come from elsewhere (UserInfo, a plugin of mlflow-oidc-auth), tokens say nothing of them, and change nothing.
"""

import asyncio
import base64
import json
from contextvars import ContextVar

from mlflow_oidc_auth import user as users
from mlflow_oidc_auth.config import config
from mlflow_oidc_auth.group_patterns import admitting_rule, normalize_group_values
from mlflow_oidc_auth.logger import get_logger
from mlflow_oidc_auth.provisioning_policy import admin_from_claims, groups_to_apply
from mlflow_oidc_auth.routers import auth as router
from mlflow_oidc_auth.store import store

_logger = get_logger()
_renewal: ContextVar[dict | None] = ContextVar("mlops_renewal", default=None)


def said(claims) -> list[str] | None:
    """Return the groups that a token's `claims` name, or None where groups are not in tokens."""
    if config.OIDC_GROUP_DETECTION_PLUGIN or config.OIDC_USERINFO_GROUPS:
        return None
    return normalize_group_values(claims.get(config.OIDC_GROUPS_ATTRIBUTE, []))


def admitted(provider, groups: list[str]) -> bool:
    """Return whether a member of `groups` may log in, by the rule of mlflow-oidc-auth's own login."""
    if admin_from_claims(provider, groups, config.OIDC_ADMIN_GROUP_NAME):
        return True
    return admitting_rule(groups, config.OIDC_GROUP_NAME, config.OIDC_GROUP_NAME_PATTERN) is not None


def payload(token) -> dict:
    """Return what a token from the provider's own token endpoint says; empty if it is none that can be read."""
    try:
        body = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except (AttributeError, IndexError, ValueError):
        return {}
    return claims if isinstance(claims, dict) else {}


def said_at_renewal(answer: dict) -> list[str] | None:
    """Return the groups that a provider's answer to a renewal names, or None where it says nothing of groups."""
    claims = payload(answer.get("id_token"))
    if not claims:
        # Not every provider sends an ID token again, and an access token need not be one that can be read.
        claims = payload(answer.get("access_token"))
        if config.OIDC_GROUPS_ATTRIBUTE not in claims:
            return None
    return said(claims)


def keep(username: str, provider, groups: list[str]) -> None:
    """Bring what is known of a person up to date with the groups that the provider names."""
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


def settle(session_id: str, username: str, provider, groups: list[str]) -> None:
    """Do what a renewal's groups ask for: end the session of who may not log in, or keep the person up to date."""
    if admitted(provider, groups):
        keep(username, provider, groups)
        return
    store.revoke_auth_session(session_id)
    _logger.info("A session of %s ended: the identity provider names no group that may log in", username)


def install() -> bool:
    """Put this into mlflow-oidc-auth's renewal of a session; return whether it is made as it was."""
    hold = getattr(router, "_refresh_holding_turn", None)
    build = getattr(router, "_session_tokens_from_response", None)
    if hold is None or build is None:
        return False

    async def holding_turn(session_id, vault, resolved):
        found = {}
        mark = _renewal.set(found)
        try:
            fresh = await hold(session_id, vault, resolved)
        finally:
            _renewal.reset(mark)
        username = getattr(resolved, "username", None)
        if found and username:
            # Only now: the session's row was locked until here.
            await asyncio.to_thread(settle, session_id, username, found["provider"], found["groups"])
        return fresh and not found.get("refused", False)

    def tokens_from_response(token_response, provider_id=None, previous=None):
        found = _renewal.get()
        provider = config.AUTH_PROVIDERS.by_id(provider_id or getattr(previous, "provider_id", None) or "default")
        groups = said_at_renewal(token_response) if found is not None and provider is not None else None
        if groups is not None:
            found.update(provider=provider, groups=groups, refused=not admitted(provider, groups))
        return build(token_response, provider_id=provider_id, previous=previous)

    router._refresh_holding_turn = holding_turn
    router._session_tokens_from_response = tokens_from_response
    return True
