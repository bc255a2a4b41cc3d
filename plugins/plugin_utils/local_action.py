# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the action plugins that work on the control node have in common."""

from __future__ import annotations

import copy
import json
import os
import time
from typing import Any, ClassVar

from ansible.errors import AnsibleActionFail
from ansible.module_utils.common.parameters import remove_values
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.client import Api, connect, unmask

PATHS = ("kubeconfig", "ca_cert", "client_cert", "client_key")
display = Display()


class LocalAction(ActionBase):
    """Runs where ansible-playbook runs, without the process of a module, which takes half a second to start.

    As for a module, what secret options hold is hidden in the result.

    :cvar ARGUMENTS: the options, as a module's argument_spec
    :cvar ERRORS: exceptions whose text is a sentence for a user already
    :cvar ELSEWHERE: why no other connection than local will do, up to the colon
    :cvar INSTEAD: what to do about it
    :ivar params: the options that were given, with defaults
    :ivar no_log_values: texts that are hidden in the result
    """

    TRANSFERS_FILES = False
    ARGUMENTS: ClassVar[dict[str, Any]] = {}
    ERRORS: ClassVar[tuple[type[Exception], ...]] = ()
    ELSEWHERE = "this runs on the control node"
    INSTEAD = "set ansible_connection to local"

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Check the options and the connection, then act."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        if self._connection.transport != "local":
            raise AnsibleActionFail(
                f"{self.ELSEWHERE}, but this host is reached by {self._connection.transport}: {self.INSTEAD}"
            )
        # This process runs this task alone; a module would have the task's environment too.
        environment: dict[str, Any] = {}
        self._compute_environment_string(environment)
        os.environ.update({name: str(value) for name, value in environment.items()})
        # As a module gets them: plain values, where Ansible's own know where they come from, and how to be decrypted.
        self._task.args = json.loads(json.dumps(self._task.args, default=str))
        spec = copy.deepcopy(self.ARGUMENTS)  # defaults are filled in there
        validation, self.params = self.validate_argument_spec(argument_spec=spec)
        self.no_log_values: set[str] = set(validation._no_log_values)  # Ansible has no public name for it
        unmask(self)
        try:
            acted = self.act(self.params, task_vars or {})
        except self.ERRORS as error:
            raise AnsibleActionFail(remove_values(str(error), self.no_log_values)) from None
        result.update(remove_values(acted, self.no_log_values))
        return result

    def act(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Do the task, and give the result."""
        raise NotImplementedError

    def connect(self, options: dict[str, Any]) -> Api:
        """Give a client of the API server. As for modules, a relative path begins at the playbook's folder.

        Raises:
            KubeError: In one sentence, what is missing or wrong.
        """
        base = self._loader.get_basedir()
        placed = {
            name: os.pathsep.join(
                os.path.join(base, os.path.expanduser(path)) for path in options[name].split(os.pathsep)
            )
            for name in PATHS
            if isinstance(options.get(name), str) and options[name]
        }
        return connect({**options, **placed})

    def say(self, text: str) -> None:
        """A line of progress, outside of the task's own result."""
        display.display(f"    {time.strftime('%H:%M:%S')} {text}", color="bright gray")
