"""Write a line for each module that Ansible executes, including those called by action plugins."""

DOCUMENTATION = """
name: module_calls
type: aggregate
short_description: Writes a line of JSON for each execution of a module
description:
  - Asserts, includes and facts run inside Ansible and cost milliseconds, while each module is a process of its own.
    A play's recap counts both, and a loop as one. This counts the processes.
requirements:
  - enabled by C(ANSIBLE_CALLBACKS_ENABLED)
options:
  path:
    description: The file to append to; each line has C(module), C(task), C(seconds) and C(requests).
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


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "module_calls"
    CALLBACK_NEEDS_ENABLED = True

    def set_options(self, task_keys=None, var_options=None, direct=None):
        super().set_options(task_keys=task_keys, var_options=var_options, direct=direct)
        # Workers are forks of this process, so they have the wrapper too; each line is a single write.
        ActionBase._execute_module = _written(ActionBase._execute_module, self.get_option("path"))


def _written(execute, path):
    @functools.wraps(execute)
    def wrapper(self, module_name=None, *arguments, **options):
        begun = time.monotonic()
        result = {}
        try:
            result = execute(self, module_name, *arguments, **options)
            return result
        finally:
            line = {
                "module": module_name or self._task.action,
                "task": self._task.get_name(),
                "seconds": round(time.monotonic() - begun, 3),
                # Output of modules that call a server.
                "requests": result.get("requests"),
            }
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(descriptor, f"{json.dumps(line)}\n".encode())
            finally:
                os.close(descriptor)

    return wrapper
