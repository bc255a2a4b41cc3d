# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters C(access_*), by which other roles read the variable C(mlflow_access)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.mlops.mlflow.plugins.module_utils.mlflow.declared import known_as, memberships, programs


def access_people(
    users: list[dict[str, Any]], tree: Any, namespace: str = "", secret: str = "", claim: str = "preferred_username"
) -> list[dict[str, Any]]:
    """Turn the variable keycloak_users into what keycloak_realm takes, with the groups that mlflow_access gives.

    Args:
        users: the variable keycloak_users; what an entry leaves out, the module leaves alone.
        tree: the variable mlflow_access.
        namespace: where secret is.
        secret: the Secret of first passwords.
        claim: by which MLflow, and so the tree, names users.
    """
    members = memberships(tree)
    found = []
    for user in users:
        its = {field: value for field, value in user.items() if field != "temporary_password"}
        name = str(user["name"])
        own = members.get(known_as(user, claim))
        if own is not None:
            its["groups"] = list(dict.fromkeys([*(user.get("groups") or []), *own]))
        temporary = boolean(user.get("temporary_password", True), strict=False)
        password = {"namespace": namespace, "name": secret, "key": name}
        found.append({**its, "temporary": temporary, "password_secret": password})
    return found


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Give the filters of this file by name."""
        return {"access_people": access_people, "access_programs": programs}
