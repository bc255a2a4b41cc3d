# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the claims of the collection's own Keycloak are worth: groups by their paths, and verified e-mail addresses.

A group below another one may have the name of a group at the top level, and whoever manages `/team` may make
`/team/mlflow-admins`. Keycloak therefore sends paths. A path counts as the group's name, as before, unless that is the
name of a group that is declared at the top level: then it stays a path, which nobody grants anything by accident.

Users may change their address in Keycloak. Where MLflow takes its user names from it, only a verified address counts.
"""

import os
from typing import Any

from mlflow_oidc_auth import group_patterns
from mlflow_oidc_auth.middleware import auth_middleware
from mlflow_oidc_auth.routers import auth as router
from mlflow_oidc_auth.utils import oidc_field_extraction as extraction

from mlops_mlflow_server import groups

# Modules that have imported the function by its name, each of which reads the groups of a token.
_READERS = (group_patterns, auth_middleware, router, groups)
_NORMALIZE, _EXTRACT = "normalize_group_values", "extract_field_from_payload"


def group_name(path: str, top_level: frozenset[str]) -> str:
    """Return the name by which MLflow knows the group with this path.

    Args:
        path: a path such as /team/analysts, or the name of a group, as tokens had it before.
        top_level: names of groups that only count at the top level.
    """
    if not path.startswith("/"):
        return path
    _parents, slash, name = path[1:].rpartition("/")
    return path if slash and name in top_level else name


def install() -> bool:
    """Patch how mlflow-oidc-auth reads these claims, where the variables ask for it; return whether it could."""
    if names := os.environ.get("MLOPS_TOP_LEVEL_GROUPS"):
        normalize = getattr(group_patterns, _NORMALIZE, None)
        if normalize is None or any(getattr(reader, _NORMALIZE, None) is not normalize for reader in _READERS):
            return False
        top_level = frozenset(names.split("/"))

        def normalize_group_values(group_values: object) -> list[str]:
            return [name for path in normalize(group_values) if (name := group_name(path, top_level))]

        for reader in _READERS:
            setattr(reader, _NORMALIZE, normalize_group_values)
    if os.environ.get("MLOPS_VERIFIED_EMAIL") == "true":
        extract = getattr(extraction, _EXTRACT, None)
        if extract is None:
            return False

        def extract_field_from_payload(
            payload: Any, field_list: Any, field_type_name: str, *arguments: Any, **options: Any
        ) -> Any:
            if field_type_name == "username" and payload.get("email_verified") is not True:
                field_list = [field for field in field_list if field != "email"]
                if not field_list:
                    return None, "The identity provider has not verified your e-mail address"
            return extract(payload, field_list, field_type_name, *arguments, **options)

        setattr(extraction, _EXTRACT, extract_field_from_payload)
    return True
