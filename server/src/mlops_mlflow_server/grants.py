# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A route that lists all grants in one answer, for administrators.

mlflow-oidc-auth lists grants by user, by group and by kind: comparing those of two hundred users with the declared ones
would take thousands of requests. This route only reads; mlflow-oidc-auth's own routes change grants.
"""

from typing import Any, Literal

from fastapi import APIRouter, Depends, FastAPI
from mlflow_oidc_auth.db.models import SqlGroup, SqlUser
from mlflow_oidc_auth.dependencies import check_admin_permission
from mlflow_oidc_auth.permission_kinds import GRANT_KINDS
from mlflow_oidc_auth.store import store

PATH = "/api/3.0/mlops/grants"
WORKSPACES = (None, "default", "*")  # without workspaces, there are no others

router = APIRouter()


# Not a coroutine, so that FastAPI runs the queries in a thread.
@router.get(PATH, summary="List all grants of users or groups", tags=["grants"])
def list_grants(
    subject: Literal["user", "group"],
    _admin: str = Depends(check_admin_permission),
) -> dict:
    """Return each grant with its subject, resource, form, target and permission."""
    return {"grants": read(subject)}


def read(subject: str) -> list[dict]:
    """Read the grants of users or groups: one query per kind and form."""
    owner, owner_id = (SqlUser, "user_id") if subject == "user" else (SqlGroup, "group_id")
    name = SqlUser.username if subject == "user" else SqlGroup.group_name
    found = []
    with store.ManagedSessionMaker(read_only=True) as session:
        for kind in GRANT_KINDS:
            # Prompts are stored as registered models.
            if kind.workspace_level or kind.shares_tables_of:
                continue
            for role, form in ((subject, "name"), (f"{subject}_regex", "pattern")):
                model = kind.model_for(role)
                if model is None:
                    continue
                query = session.query(model, name).join(owner, owner.id == getattr(model, owner_id))
                found += [_row(kind, form, row, who) for row, who in query if _is_here(row)]
    return found


def _is_here(row: Any) -> bool:
    return getattr(row, "workspace", None) in WORKSPACES


def _row(kind: Any, form: str, row: Any, who: str) -> dict:
    pattern = form == "pattern"
    target = row.regex if pattern else "/".join(str(getattr(row, column)) for column in kind.key_columns)
    return {
        "id": row.id,
        "subject": who,
        "resource": "prompt" if getattr(row, "prompt", False) else kind.name,
        "form": form,
        "target": target,
        "permission": row.permission,
        "priority": row.priority if pattern else None,
    }


def install(application: FastAPI) -> None:
    """Add the route before MLflow's mount, which matches every path."""
    application.router.routes[0:0] = router.routes
