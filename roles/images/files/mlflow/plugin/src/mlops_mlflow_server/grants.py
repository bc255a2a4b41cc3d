"""All grants in one answer, for administrators: mlflow-oidc-auth itself lists them by user, by group and by kind.

Whoever keeps the grants of two hundred users in code would need thousands of its lists to see that nothing has changed.
It reads only; what is granted is changed by mlflow-oidc-auth's own routes.
"""

from typing import Literal

from fastapi import APIRouter, Depends
from mlflow_oidc_auth.db.models import SqlGroup, SqlUser
from mlflow_oidc_auth.dependencies import check_admin_permission
from mlflow_oidc_auth.permission_kinds import GRANT_KINDS
from mlflow_oidc_auth.store import store

PATH = "/api/3.0/mlops/grants"
WORKSPACES = (None, "default", "*")  # where there are no others

router = APIRouter()


# No coroutine: FastAPI runs it in a thread, so that the queries hold up nothing else.
@router.get(PATH, summary="List all grants of users or groups", tags=["grants"])
def list_grants(
    subject: Literal["user", "group"],
    _admin: str = Depends(check_admin_permission),
) -> dict:
    """Give each grant with its subject, its resource, its form, its target and its permission."""
    return {"grants": read(subject)}


def read(subject: str) -> list[dict]:
    """Read the grants of users or groups: a query for each kind of thing and form."""
    owner, owner_id = (SqlUser, "user_id") if subject == "user" else (SqlGroup, "group_id")
    name = SqlUser.username if subject == "user" else SqlGroup.group_name
    found = []
    with store.ManagedSessionMaker(read_only=True) as session:
        for kind in GRANT_KINDS:
            # Prompts are registered models, and in the same tables.
            if kind.workspace_level or kind.shares_tables_of:
                continue
            for role, form in ((subject, "name"), (f"{subject}_regex", "pattern")):
                model = kind.model_for(role)
                if model is None:
                    continue
                query = session.query(model, name).join(owner, owner.id == getattr(model, owner_id))
                found += [_row(kind, form, row, who) for row, who in query if _is_here(row)]
    return found


def _is_here(row) -> bool:
    return getattr(row, "workspace", None) in WORKSPACES


def _row(kind, form: str, row, who: str) -> dict:
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


def install(application) -> None:
    """Put the route before MLflow's own, which take every path."""
    application.router.routes[0:0] = router.routes
