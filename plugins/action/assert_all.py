# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action plugin of assert_all: many assertions in one task, each evaluated when it is its turn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError, AnsibleUndefinedVariable
from ansible.plugins.action import ActionBase

REQUIRED = ("name", "that", "fail_msg")
TYPES = {"name": str, "fail_msg": str, "vars": dict}
FIELDS = (*REQUIRED, "when", "vars", "loop")


class ActionModule(ActionBase):
    """Evaluates on the control node; nothing is sent to the host."""

    _requires_connection = False
    _VALID_ARGS = frozenset(("assertions",))

    @classmethod
    def finalize_task_arg(cls, name: str, value: Any, templar: Any, context: Any) -> Any:
        """Leave the assertions as they are written: one may make sense only where those before it hold."""
        if name == "assertions":
            return value
        return super().finalize_task_arg(name, value, templar, context)

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Evaluate one assertion after the other, up to the first that does not hold."""
        result = super().run(tmp, task_vars)
        variables = dict(self._templar.available_variables)
        # A wrong one is a mistake of the author's, so it is told even where one before it does not hold.
        for assertion in _read(self._task.args.get("assertions")):
            try:
                message = self._failure(assertion, variables)
            except AnsibleError as error:
                raise AnsibleActionFail(f"The assertion '{assertion['name']}' can't be evaluated.") from error
            if message is not None:
                return {**result, "failed": True, "assertion": assertion["name"], "msg": message}
        return {**result, "changed": False}

    def _failure(self, assertion: dict[str, Any], variables: dict[str, Any]) -> str | None:
        """Give the message of an assertion that does not hold, or None."""
        variables = {**variables, **assertion.get("vars", {})}
        self._templar.available_variables = variables
        for loop_variable in self._loop(assertion):
            self._templar.available_variables = {**variables, **loop_variable}
            if self._hold(assertion.get("when", True)) and not self._hold(assertion["that"]):
                return str(self._templar.template(assertion["fail_msg"]))
        return None

    def _loop(self, assertion: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Give the variable of the loop for each turn."""
        if "loop" not in assertion:
            yield {}
            return
        try:
            items = self._templar.template(assertion["loop"])
        except AnsibleUndefinedVariable:
            # As for a task: what the list lacks does not matter where the condition does not hold.
            if self._hold(assertion.get("when", True)):
                raise
            return
        if not isinstance(items, list):
            raise AnsibleError("Its loop is no list.")
        for item in items:
            yield {"item": item}

    def _hold(self, conditions: Any) -> bool:
        """Tell whether a condition holds, or all of a list; those after the first that does not are not evaluated."""
        conditions = conditions if isinstance(conditions, list) else [conditions]
        return all(self._templar.evaluate_conditional(each) for each in conditions)


def _read(assertions: Any) -> list[dict[str, Any]]:
    """Check the form of the assertions."""
    if not isinstance(assertions, list) or not assertions:
        raise AnsibleActionFail("assertions is no list of assertions.")
    for number, assertion in enumerate(assertions, 1):
        if not isinstance(assertion, Mapping):
            raise AnsibleActionFail(f"Assertion {number} is no mapping.", obj=assertion)
        which = f"Assertion {number}, '{assertion['name']}'," if "name" in assertion else f"Assertion {number}"
        if unknown := [str(field) for field in assertion if field not in FIELDS]:
            raise AnsibleActionFail(f"{which} has {', '.join(unknown)}: any of {', '.join(FIELDS)}.", obj=assertion)
        if missing := [field for field in REQUIRED if field not in assertion]:
            raise AnsibleActionFail(f"{which} lacks {', '.join(missing)}.", obj=assertion)
        for field, kind in TYPES.items():
            if not isinstance(assertion.get(field, kind()), kind):
                raise AnsibleActionFail(f"{which} has a {field} that is no {kind.__name__}.", obj=assertion)
    return assertions
