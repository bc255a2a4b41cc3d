# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetch the signing keys of bearer tokens when a key is unknown, with a rate limit.

mlflow-oidc-auth caches keys for minutes and so refuses tokens that are signed with a newer key. Yet it fetches them
again for every token with a wrong signature, which anybody can send. Here the keys are fetched when a token names an
unknown key, at most once every `PAUSE` seconds.
"""

import base64
import json
import threading
import time
from typing import Any

from mlflow_oidc_auth import auth
from mlflow_oidc_auth.middleware import auth_middleware

PAUSE = 10

_fetched: dict[str, float] = {}
_lock = threading.Lock()


def may_fetch(provider_id: str, now: float) -> bool:
    """Return whether the provider's keys may be fetched again; if so, record the time."""
    with _lock:
        if now - _fetched.get(provider_id, float("-inf")) < PAUSE:
            return False
        _fetched[provider_id] = now
        return True


def knows(keys: Any, token: str) -> bool:
    """Return whether `keys` has the key that `token` names; true for malformed tokens, which are refused later."""
    try:
        head = token.partition(".")[0]
        named = json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4))).get("kid")
    except (ValueError, AttributeError):
        return True
    known = keys.get("keys") if isinstance(keys, dict) else None
    if named is None:
        return known is not None
    return any(isinstance(key, dict) and key.get("kid") == named for key in known or [])


def install() -> bool:
    """Wrap mlflow-oidc-auth's functions; return whether this version has the expected names."""
    fetch, validate = getattr(auth, "_get_provider_jwks", None), getattr(auth_middleware, "validate_token", None)
    if fetch is None or validate is None or not hasattr(auth, "resolve_token_provider"):
        return False

    def keys_of(provider: Any, force_refresh: bool = False) -> Any:
        return fetch(provider, force_refresh=force_refresh and may_fetch(provider.id, time.monotonic()))

    def validate_token(token: str) -> Any:
        provider = auth.resolve_token_provider(token)
        if not knows(keys_of(provider), token):
            keys_of(provider, force_refresh=True)
        return validate(token)

    auth._get_provider_jwks = keys_of
    auth_middleware.validate_token = validate_token
    return True
