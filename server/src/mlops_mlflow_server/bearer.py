# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Move mlflow-oidc-auth's bearer token check off the event loop, and check the token's groups.

The check may request the identity provider's keys, which on the event loop blocks the whole worker, probes included.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar, copy_context

from mlflow_oidc_auth.config import config
from mlflow_oidc_auth.middleware import AuthMiddleware, auth_middleware
from mlflow_oidc_auth.provisioning_policy import admin_from_claims

from mlops_mlflow_server import admins, groups

# Context variables of a bearer token that mlflow-oidc-auth's `dispatch` reads, in addition to the user's name.
_MARKS = ("_WORKLOAD_BEARER", "_BEARER_IDENTITY")
_REPLACED = ("_authenticate_bearer_token", "_maybe_provision_bearer_user", "_provider_for", "_get_user_auth_facts")
# Whether the token is valid, the user, and why not.
Outcome = tuple[bool, str | None, str]
# A separate pool, so that waiting for a slow provider delays no other calls.
_threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="mlops-bearer")
_not_admitted: ContextVar[bool] = ContextVar("mlops_not_admitted", default=False)
_no_administrator: ContextVar[bool] = ContextVar("mlops_no_administrator", default=False)


def install() -> bool:
    """Patch mlflow-oidc-auth's middleware; return whether this version has the expected names."""
    if not all(hasattr(AuthMiddleware, name) for name in _REPLACED):
        return False
    if not all(hasattr(auth_middleware, name) for name in _MARKS):
        return False
    authenticate, provision = AuthMiddleware._authenticate_bearer_token, AuthMiddleware._maybe_provision_bearer_user
    facts_of = AuthMiddleware._get_user_auth_facts

    async def check(self: AuthMiddleware, auth_header: str) -> Outcome:
        _not_admitted.set(False)
        _no_administrator.set(False)
        outcome = await authenticate(self, auth_header)
        # Users must be in a group that may log in, here as at the login; service accounts need no group.
        if outcome[0] and _not_admitted.get() and not facts_of(self, outcome[1])[3][0]:
            return False, None, "The token names no group that may log in"
        if outcome[0] and _no_administrator.get():
            admins.unconfirmed.set(outcome[1])
        return outcome

    async def authenticate_bearer_token(self: AuthMiddleware, auth_header: str) -> Outcome:
        context = copy_context()

        def run() -> Outcome:
            with asyncio.Runner() as runner:
                return runner.run(check(self, auth_header), context=context)

        outcome = await asyncio.get_running_loop().run_in_executor(_threads, run)
        for mark in (*(getattr(auth_middleware, name) for name in _MARKS), admins.unconfirmed):
            if mark in context:
                mark.set(context[mark])
        return outcome

    def maybe_provision_bearer_user(self: AuthMiddleware, username: str, token: str, payload: dict) -> None:
        named = groups.groups_in_claims(payload)
        provider = self._provider_for(token) if named is not None else None
        _not_admitted.set(provider is not None and named is not None and not groups.admitted(provider, named))
        _no_administrator.set(
            provider is not None and not admin_from_claims(provider, named, config.OIDC_ADMIN_GROUP_NAME)
        )
        provision(self, username, token, payload)

    AuthMiddleware._authenticate_bearer_token = authenticate_bearer_token
    AuthMiddleware._maybe_provision_bearer_user = maybe_provision_bearer_user
    return True
