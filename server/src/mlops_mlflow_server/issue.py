# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Allow the playbooks' account to issue access tokens for service accounts.

mlflow-oidc-auth issues tokens only to users who logged in at the identity provider, so that a leaked token cannot
create others that outlive it. Playbooks have a token and no browser. Therefore the administrator account
`MLOPS_ADMIN_ACCOUNT` may use its token to issue tokens for service accounts, but not for users, and not for itself.
Without the variable nothing changes.
"""

import asyncio
import os

from fastapi import FastAPI, Request
from mlflow_oidc_auth import dependencies
from mlflow_oidc_auth.store import store

VARIABLE = "MLOPS_ADMIN_ACCOUNT"


def _is_service_account(username: str) -> bool:
    detail = store.get_user_detail(username)
    return bool(detail and detail["is_service_account"])


async def may_issue(request: Request) -> None:
    """Replace mlflow-oidc-auth's `require_interactive_login`, which still decides all other cases."""
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


def install(application: FastAPI) -> bool:
    """Override the dependency with `may_issue`; return whether this version has the expected names."""
    if not hasattr(dependencies, "require_interactive_login") or not hasattr(store, "get_user_detail"):
        return False
    application.dependency_overrides[dependencies.require_interactive_login] = may_issue
    return True
