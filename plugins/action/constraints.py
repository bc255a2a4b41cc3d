# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action plugin of constraints: checks the variables of a role on the control node."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.mlops.mlflow.plugins.plugin_utils.constraints import Constraint, check, variable


class ActionModule(ActionBase):
    """Evaluates on the control node; nothing is sent to the host."""

    _requires_connection = False
    _VALID_ARGS: frozenset[str] = frozenset({"variables"})

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Compare the variables with meta/constraints.yml of the role that the task is in."""
        result = super().run(tmp, task_vars)
        role = (task_vars or {}).get("role_path")
        if not role:
            raise AnsibleActionFail("constraints is for tasks of a role.")
        file = Path(role, "meta", "constraints.yml")
        entries = self._loader.load_from_file(str(file), trusted_as_template=True)
        _validation, options = self.validate_argument_spec({"variables": {"type": "list", "elements": "str"}})
        chosen = options["variables"]
        constraints = {
            path: Constraint(**entry) for path, entry in entries.items() if chosen is None or variable(path) in chosen
        }
        constraints = {
            path: each for path, each in constraints.items() if self._templar.evaluate_conditional(each.when)
        }
        names = {variable(path) for path in constraints}
        problems = check(constraints, {name: self._templar.resolve_variable_expression(name) for name in names})
        if problems:
            return {**result, "failed": True, "msg": "\n".join(problems)}
        return {**result, "changed": False}
