"""Let the deployment's own account issue access tokens for service accounts.

mlflow-oidc-auth issues a token only to somebody who signed in at the identity provider, so that a leaked token cannot
make others that outlive it. Whoever keeps a deployment in code has a token and no browser. So the administrator that
the deployment made for this, `MLOPS_ADMIN_ACCOUNT`, may with its token issue tokens of service accounts: never of
people, and never of itself. Without the variable nothing changes.
"""

import asyncio
import os

from fastapi import Request
from mlflow_oidc_auth import dependencies
from mlflow_oidc_auth.store import store

VARIABLE = "MLOPS_ADMIN_ACCOUNT"


def _is_service_account(username: str) -> bool:
    detail = store.get_user_detail(username)
    return bool(detail and detail["is_service_account"])


async def may_issue(request: Request) -> None:
    """Stand for mlflow-oidc-auth's `require_interactive_login`, which decides all other cases."""
    account = os.environ.get(VARIABLE, "")
    whose = request.path_params.get("username", "")
    state = request.state
    if (
        account
        and getattr(state, "auth_method", None) == "basic"
        and getattr(state, "username", None) == account
        and whose
        and whose.lower() != account.lower()
        and await asyncio.to_thread(_is_service_account, whose)
    ):
        return
    await dependencies.require_interactive_login(request)


def install(application) -> bool:
    """Put `may_issue` in the place of the dependency; return whether this mlflow-oidc-auth has it."""
    if not hasattr(dependencies, "require_interactive_login") or not hasattr(store, "get_user_detail"):
        return False
    application.dependency_overrides[dependencies.require_interactive_login] = may_issue
    return True
