# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cache mlflow-oidc-auth's user look-up for Basic credentials, and move it off the event loop.

The look-up is a synchronous query, which on the event loop blocks the whole worker, probes included. A program that
logs sends the same token many times a second, and each request costs two transactions. Valid credentials are therefore
cached for as long as permissions are (`PERMISSION_CACHE_TTL_SECONDS`); a revoked token is accepted no longer than that.
"""

import asyncio
import hashlib
import hmac
import secrets
from contextvars import ContextVar

from cachetools import TTLCache
from fastapi import FastAPI, Request
from mlflow_oidc_auth.config import config
from mlflow_oidc_auth.middleware import AuthMiddleware

from mlops_mlflow_server import attempts, metrics

_facts: ContextVar[tuple | None] = ContextVar("mlops_user_facts", default=None)


class Recent:
    """Cache of recently validated Basic credentials, for use by one event loop.

    Args:
        seconds: lifetime of an entry; 0 disables the cache.
        most: maximum number of entries.
    """

    def __init__(self, seconds: float, most: int = 4096):
        self._key = secrets.token_bytes(32)
        self._known: TTLCache = TTLCache(maxsize=most, ttl=seconds)

    def _name(self, header: str) -> bytes | None:
        """Return a keyed hash of a header `Authorization: Basic`, or None for another scheme."""
        if not header.startswith("Basic "):
            return None
        return hmac.digest(self._key, header.encode(), hashlib.sha256)

    def find(self, header: str) -> tuple | None:
        """Return the cached facts of this header, or None."""
        return self._known.get(self._name(header))

    def remember(self, header: str, facts: tuple) -> None:
        """Cache the facts of a validated header."""
        name = self._name(header)
        if name is not None:
            self._known[name] = facts


_recent = Recent(config.PERMISSION_CACHE_TTL_SECONDS)


class OffLoopAuthMiddleware(AuthMiddleware):
    """AuthMiddleware that looks up the user in a thread once the credentials are validated, for use by `dispatch`."""

    async def _authenticate_user(self, request: Request) -> tuple[bool, str | None, str]:
        header = request.headers.get("authorization") or ""
        known = _recent.find(header)
        if header:
            metrics.LOGIN_CHECKS.labels("token", "hit" if known else "miss").inc()
        _facts.set(known)
        if known:
            attempts.accepted(request.scope)
            return True, known[0], ""
        outcome = await super()._authenticate_user(request)
        holds, username = outcome[0], outcome[1]
        if holds and username:
            attempts.accepted(request.scope)
        if holds and username and getattr(request.state, "resolved_session", None) is None:
            facts = await asyncio.to_thread(super()._get_user_auth_facts, username)
            _facts.set((username, facts))
            # facts[1]: whether the account is active.
            if facts[1]:
                _recent.remember(header, (username, facts))
        return outcome

    def _get_user_auth_facts(self, username: str) -> tuple:
        known = _facts.get()
        if known is not None and known[0] == username:
            return known[1]
        return super()._get_user_auth_facts(username)


def install(application: FastAPI) -> int:
    """Replace AuthMiddleware in `application`; return the number of replacements."""
    if not hasattr(AuthMiddleware, "_get_user_auth_facts") or application.middleware_stack is not None:
        return 0
    replaced = 0
    for middleware in application.user_middleware:
        if middleware.cls is AuthMiddleware:
            middleware.cls = OffLoopAuthMiddleware
            replaced += 1
    return replaced
