# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What others read from the variables C(mlflow_access) and C(mlflow_clients), also where they are wrong.

It imports nothing slow: Ansible loads all filters of the collection in nearly every task.
"""

from __future__ import annotations

from typing import Any


def mapping(tree: Any, part: str) -> dict[Any, Any]:
    """Give a part of the variable mlflow_access; an empty one where it is missing or no mapping."""
    found = tree.get(part) if isinstance(tree, dict) else None
    return found if isinstance(found, dict) else {}


def known_as(user: dict[str, Any], claim: str) -> str:
    """Give the name that a user of keycloak_users has in MLflow."""
    return str(user.get("email") or "").lower() if claim == "email" else str(user["name"])


def memberships(tree: Any) -> dict[str, list[str]]:
    """Give the groups of each user whom the variable mlflow_access names as a member."""
    found: dict[str, list[str]] = {}
    for name, entry in mapping(tree, "groups").items():
        members = entry.get("members") if isinstance(entry, dict) else None
        for user in members if isinstance(members, list) else ():
            found.setdefault(str(user), []).append(str(name))
    return found


def programs(tree: Any, clients: Any = None) -> list[str]:
    """Give the accounts of programs that the variables mlflow_access and mlflow_clients name."""
    found = {str(name) for name in mapping(tree, "service_accounts")}
    for client in clients if isinstance(clients, list) else ():
        if isinstance(client, dict):
            found |= {str(client[name]) for name in ("name", "user") if client.get(name)}
    return sorted(found)
