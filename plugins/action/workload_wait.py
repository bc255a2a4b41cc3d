# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action plugin of M(mlops.mlflow.workload_wait): calls the module until it is done, and displays progress."""

from __future__ import annotations

import time
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

display = Display()


class ActionModule(ActionBase):
    """A module cannot display anything while it runs, so it runs in slices."""

    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the module in slices until all is ready, or it failed."""
        result = super().run(tmp, task_vars)
        given = dict(self._task.args)
        begun = time.monotonic()
        try:
            timeout = int(given.get("timeout", 300))
        except (TypeError, ValueError):
            timeout = 0  # the module says what is wrong with it
        arguments = given
        while True:
            returned = self._execute_module(
                module_name="mlops.mlflow.workload_wait", module_args=arguments, task_vars=task_vars
            )
            memory = returned.pop("memory", None)
            if memory is None or returned.get("failed"):
                break
            elapsed = round(time.monotonic() - begun)
            host = (task_vars or {}).get("inventory_hostname", "")
            for line in returned.get("pending", []):
                display.display(f"waiting: [{host}] {elapsed} s of {timeout} s for {line}", color="bright blue")
            # At least one more look, however slow the start of the last one was.
            arguments = {**given, "timeout": max(timeout - elapsed, 1), "elapsed": elapsed, "memory": memory}
        result.update(returned)
        result.setdefault("waited", 0)
        return result
