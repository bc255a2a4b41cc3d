# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action plugin of workload_wait: a module could not display anything while it waits."""

from __future__ import annotations

import time
from typing import Any, ClassVar

from ansible.errors import AnsibleActionFail
from ansible.utils.display import Display
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.client import KubeError, auth_argument_spec
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.workload import PATHS
from ansible_collections.mlops.mlflow.plugins.plugin_utils.local_action import LocalAction
from ansible_collections.mlops.mlflow.plugins.plugin_utils.removal import Removal
from ansible_collections.mlops.mlflow.plugins.plugin_utils.workload_report import explain
from ansible_collections.mlops.mlflow.plugins.plugin_utils.workload_watch import Target, Watch

display = Display()


class ActionModule(LocalAction):
    """Waits for workloads, and for objects to be gone."""

    ARGUMENTS: ClassVar[dict[str, Any]] = {
        **auth_argument_spec(),
        "workloads": {
            "type": "list",
            "elements": "dict",
            "default": [],
            "options": {
                "kind": {"type": "str", "required": True, "choices": list(PATHS)},
                "namespace": {"type": "str", "required": True},
                "name": {"type": "str", "required": True},
            },
        },
        "serves": {
            "type": "list",
            "elements": "dict",
            "default": [],
            "options": {
                "namespace": {"type": "str", "required": True},
                "service": {"type": "str", "required": True},
                "path": {"type": "str", "default": "/"},
                "contains": {"type": "str", "default": ""},
            },
        },
        "gone": {
            "type": "list",
            "elements": "dict",
            "default": [],
            "options": {
                "api_version": {"type": "str", "required": True},
                "kind": {"type": "str", "required": True},
                "namespace": {"type": "str", "default": ""},
                "name": {"type": "str", "required": True},
            },
        },
        "timeout": {"type": "int", "default": 300},
        "fail_fast_after": {"type": "int", "default": 90},
        "rerun": {"type": "bool", "default": True},
        "prune_label": {"type": "str", "default": ""},
    }

    def act(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Wait, and give the module's result."""
        for name in ("timeout", "fail_fast_after"):
            if options[name] < 0:
                raise AnsibleActionFail(f"{name} is {options[name]}: a number of seconds, 0 or more")
        result: dict[str, Any] = {"changed": False, "ready": False, "waited": 0, "pruned": [], "rerun": []}
        if self._task.check_mode or not (options["workloads"] or options["serves"] or options["gone"]):
            return {**result, "ready": not self._task.check_mode}
        host, timeout = task_vars.get("inventory_hostname", ""), options["timeout"]

        def progress(elapsed: float, lines: list[str]) -> None:
            for line in lines:
                display.display(f"waiting: [{host}] {elapsed:.0f} s of {timeout} s for {line}", color="bright blue")

        begun = time.monotonic()
        try:
            api = self.connect(options)
            watch = Watch(
                api,
                [Target(**each) for each in options["workloads"]],
                options["serves"],
                [Removal(**each) for each in options["gone"]],
                fail_fast_after=options["fail_fast_after"],
                rerun=options["rerun"],
                prune_label=options["prune_label"],
            )
            result |= {"pruned": watch.pruned, "rerun": watch.rerun}
            result["ready"] = watch.wait(timeout, progress)
            if not result["ready"]:
                result |= {"failed": True, "msg": explain(watch, api)}
        except KubeError as error:
            result |= {"failed": True, "msg": f"The workloads cannot be waited for: {error}"}
        changed = bool(result["pruned"] or result["rerun"])
        return {**result, "changed": changed, "waited": round(time.monotonic() - begun)}
