"""mlflow-oidc-auth's check of a bearer token, off the event loop and with an eye on the groups that the token names.

The check may ask the identity provider for its keys. On the event loop that stops the whole worker, probes included,
for as long as the provider takes.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar, copy_context

from mlflow_oidc_auth.middleware import AuthMiddleware, auth_middleware

from mlops_mlflow_server import groups

# What mlflow-oidc-auth's `dispatch` reads of a bearer token, beside the user's name.
_MARKS = ("_WORKLOAD_BEARER", "_BEARER_IDENTITY")
_REPLACED = ("_authenticate_bearer_token", "_maybe_provision_bearer_user", "_provider_for", "_get_user_auth_facts")
# Their own, so that tokens that wait for a slow provider hold up nobody else.
_threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="mlops-bearer")
_shut_out: ContextVar[bool] = ContextVar("mlops_shut_out", default=False)


def install() -> bool:
    """Put this into mlflow-oidc-auth's middleware; return whether it is made as it was."""
    if not all(hasattr(AuthMiddleware, name) for name in _REPLACED):
        return False
    if not all(hasattr(auth_middleware, name) for name in _MARKS):
        return False
    authenticate, provision = AuthMiddleware._authenticate_bearer_token, AuthMiddleware._maybe_provision_bearer_user
    facts_of = AuthMiddleware._get_user_auth_facts

    async def check(self, auth_header):
        _shut_out.set(False)
        outcome = await authenticate(self, auth_header)
        # A service account is let in by being one, and a person by a group: at the login, and here.
        if outcome[0] and _shut_out.get() and not facts_of(self, outcome[1])[3][0]:
            return False, None, "The token names no group that may log in"
        return outcome

    async def authenticate_bearer_token(self, auth_header):
        context = copy_context()

        def run():
            with asyncio.Runner() as runner:
                return runner.run(check(self, auth_header), context=context)

        outcome = await asyncio.get_running_loop().run_in_executor(_threads, run)
        for name in _MARKS:
            mark = getattr(auth_middleware, name)
            if mark in context:
                mark.set(context[mark])
        return outcome

    def maybe_provision_bearer_user(self, username, token, payload):
        said = groups.said(payload)
        provider = self._provider_for(token) if said is not None else None
        _shut_out.set(provider is not None and not groups.admitted(provider, said))
        provision(self, username, token, payload)

    AuthMiddleware._authenticate_bearer_token = authenticate_bearer_token
    AuthMiddleware._maybe_provision_bearer_user = maybe_provision_bearer_user
    return True
