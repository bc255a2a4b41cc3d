"""Write a line for each module that Ansible executes, and for each action of ours that does a module's work."""

DOCUMENTATION = """
name: module_calls
type: aggregate
short_description: Writes a line of JSON for each execution of a module
description:
  - Asserts, includes and facts run inside Ansible and cost milliseconds, while each module is a process of its own.
    A play's recap counts both, and a loop as one. This counts the processes.
  - An action of the collection that works in Ansible's own process has a line too, without C(process).
requirements:
  - enabled by C(ANSIBLE_CALLBACKS_ENABLED)
options:
  path:
    description: The file to append to; each line has C(module), C(task), C(process), C(seconds) and C(requests).
    type: path
    required: true
    env:
      - name: MODULE_CALLS_PATH
"""

import functools
import json
import os
import time

from ansible.plugins.action import ActionBase
from ansible.plugins.callback import CallbackBase
from ansible_collections.mlops.mlflow.plugins.plugin_utils.local_action import LocalAction


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "module_calls"
    CALLBACK_NEEDS_ENABLED = True

    def set_options(self, task_keys=None, var_options=None, direct=None):
        super().set_options(task_keys=task_keys, var_options=var_options, direct=direct)
        # Workers are forks of this process, so they have the wrapper too; each line is a single write.
        ActionBase._execute_module = _written(ActionBase._execute_module, self.get_option("path"), process=True)
        LocalAction.run = _written(LocalAction.run, self.get_option("path"), process=False)


def _written(execute, path, *, process):
    @functools.wraps(execute)
    def wrapper(self, *arguments, **options):
        begun = time.monotonic()
        result = {}
        try:
            result = execute(self, *arguments, **options)
            return result
        finally:
            named = options.get("module_name") or next(iter(arguments), None) if process else None
            line = {
                "module": named or self._task.action,
                "task": self._task.get_name(),
                "process": process,
                "seconds": round(time.monotonic() - begun, 3),
                # Output of what calls a server.
                "requests": result.get("requests"),
            }
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(descriptor, f"{json.dumps(line)}\n".encode())
            finally:
                os.close(descriptor)

    return wrapper
