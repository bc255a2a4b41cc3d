"""mlflow-oidc-auth's authentication with its look-up of a user off the event loop, and not at each request of a burst.

The look-up is a synchronous query. On the event loop it stops the whole worker, probes included, for as long
as the database takes. A program that logs sends the same token many times a second, and each time cost two
transactions, one after the other in one thread: what held is taken to hold for as long as a permission is kept
(`PERMISSION_CACHE_TTL_SECONDS`), and so a revoked token for no longer either.
"""

import asyncio
import hashlib
import hmac
import secrets
from contextvars import ContextVar

from cachetools import TTLCache
from mlflow_oidc_auth.config import config
from mlflow_oidc_auth.middleware import AuthMiddleware

_facts: ContextVar[tuple | None] = ContextVar("mlops_user_facts", default=None)


class Recent:
    """What became of user names with passwords that held a moment ago; used by one event loop.

    Args:
        seconds: for how long; 0 remembers nothing.
        most: how many are remembered.
    """

    def __init__(self, seconds: float, most: int = 4096):
        self._key = secrets.token_bytes(32)
        self._known = TTLCache(maxsize=most, ttl=seconds)

    def _name(self, header: str) -> bytes | None:
        """The name of a header `Authorization: Basic`, from which nobody reads a password; None for another one."""
        if not header.startswith("Basic "):
            return None
        return hmac.digest(self._key, header.encode(), hashlib.sha256)

    def find(self, header: str) -> tuple | None:
        """Return what was remembered of this header, or None."""
        return self._known.get(self._name(header))

    def remember(self, header: str, facts: tuple) -> None:
        """Remember a header that held."""
        name = self._name(header)
        if name is not None:
            self._known[name] = facts


_recent = Recent(config.PERMISSION_CACHE_TTL_SECONDS)


class OffLoopAuthMiddleware(AuthMiddleware):
    """Looks the user up in a thread as soon as the credentials hold, and hands the result to `dispatch`."""

    async def _authenticate_user(self, request):
        header = request.headers.get("authorization") or ""
        known = _recent.find(header)
        _facts.set(known)
        if known:
            return True, known[0], ""
        outcome = await super()._authenticate_user(request)
        holds, username = outcome[0], outcome[1]
        if holds and username and getattr(request.state, "resolved_session", None) is None:
            facts = await asyncio.to_thread(super()._get_user_auth_facts, username)
            _facts.set((username, facts))
            # The second one says whether the account is active.
            if facts[1]:
                _recent.remember(header, (username, facts))
        return outcome

    def _get_user_auth_facts(self, username):
        known = _facts.get()
        if known is not None and known[0] == username:
            return known[1]
        return super()._get_user_auth_facts(username)


def install(application) -> int:
    """Put this class in the place of AuthMiddleware in `application`; return how many were replaced."""
    if not hasattr(AuthMiddleware, "_get_user_auth_facts") or application.middleware_stack is not None:
        return 0
    replaced = 0
    for middleware in application.user_middleware:
        if middleware.cls is AuthMiddleware:
            middleware.cls = OffLoopAuthMiddleware
            replaced += 1
    return replaced
