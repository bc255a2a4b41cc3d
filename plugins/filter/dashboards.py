# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Dashboards of Grafana, as the one of a stack."""

from __future__ import annotations

import hashlib
from typing import Any

# The namespace of a stack whose dashboards keep their names.
USUAL = "mlflow"


def dashboard_of_stack(board: dict[str, Any], stack: str, values: dict[str, Any]) -> dict[str, Any]:
    """Have a dashboard begin with a stack, and be another one than that of the next stack.

    Args:
        board: a dashboard as Grafana has it.
        stack: the namespace of the stack's MLflow.
        values: what variables of dashboards are, each a string or a list of strings.

    Returns:
        The dashboard. A Grafana refuses two with the same uid, and 40 characters are the most.
    """
    made = {**board, "templating": {"list": [_variable(each, values) for each in board["templating"]["list"]]}}
    if stack != USUAL:
        made["title"] = f"{board['title']} ({stack})"
        made["uid"] = f"{board['uid']}-{hashlib.sha256(stack.encode()).hexdigest()[:8]}"
    return made


def _variable(variable: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """Give a variable with its value, where there is one for it."""
    if variable["name"] not in values:
        return variable
    value = values[variable["name"]]
    known = {"query": value} if variable["type"] == "constant" else {}
    return {**variable, **known, "current": {"text": value, "value": value}}


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Any]:
        """Give the filter of this file by name."""
        return {"dashboard_of_stack": dashboard_of_stack}
