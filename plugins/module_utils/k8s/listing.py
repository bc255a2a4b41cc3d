# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads a cluster for users who may not see all of it: what they may not list is empty, and noted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.client import FIELD_MANAGER, Api, ApiError

MANAGED_BY = "app.kubernetes.io/managed-by"
OURS = f"{MANAGED_BY}={FIELD_MANAGER}"
DEPLOYMENTS = "/apis/apps/v1/deployments"
STATEFUL_SETS = "/apis/apps/v1/statefulsets"
VOLUMES = "/api/v1/persistentvolumeclaims"


class Listing:
    """Lists objects of a cluster.

    Args:
        api: Client of its API server.

    Attributes:
        unreadable: What the user may not list, each by the name that the caller gave it.
    """

    def __init__(self, api: Api) -> None:
        self.api = api
        self.unreadable: list[str] = []

    def read(self, result: str, read: Callable[[], Any]) -> Any:
        """Give what a function reads; None where the user may not, or the cluster does not know it.

        Args:
            result: What to note where the user may not.

        Raises:
            KubeError: The cluster cannot be used.
        """
        try:
            return read()
        except ApiError as error:
            if error.status == 403:
                if result not in self.unreadable:
                    self.unreadable.append(result)
            elif error.status != 404:  # another definition of the API group
                raise
            return None

    def items(self, result: str, path: str, **how: Any) -> list[dict[str, Any]]:
        """Give the objects of a list; none as for C(read).

        Args:
            how: More arguments of the request.
        """
        return self.read(result, lambda: self.api.json("GET", path, **how).get("items")) or []
