"""mlflow-oidc-auth's authentication with its look-up of a user off the event loop.

The look-up is a synchronous query. On the event loop it stops the whole worker, probes included, for as long
as the database takes.
"""

import asyncio
from contextvars import ContextVar

from mlflow_oidc_auth.middleware import AuthMiddleware

_facts: ContextVar[tuple | None] = ContextVar("mlops_user_facts", default=None)


class OffLoopAuthMiddleware(AuthMiddleware):
    """Looks the user up in a thread as soon as the credentials hold, and hands the result to `dispatch`."""

    async def _authenticate_user(self, request):
        _facts.set(None)
        outcome = await super()._authenticate_user(request)
        holds, username = outcome[0], outcome[1]
        if holds and username and getattr(request.state, "resolved_session", None) is None:
            _facts.set((username, await asyncio.to_thread(super()._get_user_auth_facts, username)))
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
