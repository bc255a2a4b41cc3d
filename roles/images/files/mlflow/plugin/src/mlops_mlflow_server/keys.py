"""The keys of those who sign bearer tokens.

mlflow-oidc-auth keeps them for minutes, and so refuses what was signed with a key that is newer; yet it asks for them
again at each token whose signature is wrong, which anybody can send. Here a key that is not known is asked for, and
nobody makes the server ask more often than every `PAUSE` seconds.
"""

import base64
import json
import threading
import time

from mlflow_oidc_auth import auth
from mlflow_oidc_auth.middleware import auth_middleware

PAUSE = 10

_asked: dict[str, float] = {}
_lock = threading.Lock()


def may_ask(provider_id: str, now: float) -> bool:
    """Return whether the provider's keys may be asked for again; if so, take note of it."""
    with _lock:
        if now - _asked.get(provider_id, float("-inf")) < PAUSE:
            return False
        _asked[provider_id] = now
        return True


def knows(keys, token: str) -> bool:
    """Return whether the key that `token` names is among `keys`; what names none is somebody else's to refuse."""
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
    """Put both in front of mlflow-oidc-auth's functions; return whether they are named as they were."""
    fetch, validate = getattr(auth, "_get_provider_jwks", None), getattr(auth_middleware, "validate_token", None)
    if fetch is None or validate is None or not hasattr(auth, "resolve_token_provider"):
        return False

    def keys_of(provider, force_refresh=False):
        return fetch(provider, force_refresh=force_refresh and may_ask(provider.id, time.monotonic()))

    def validate_token(token):
        provider = auth.resolve_token_provider(token)
        if not knows(keys_of(provider), token):
            keys_of(provider, force_refresh=True)
        return validate(token)

    auth._get_provider_jwks = keys_of
    auth_middleware.validate_token = validate_token
    return True
