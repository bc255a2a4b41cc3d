# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of what actions on the control node have in common, run as ansible-playbook runs them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml


@pytest.fixture
def play(tmp_path):
    """Give a function that runs one task in a play, and gives what ansible-playbook printed."""

    def run(connection: str = "local", environment: dict[str, str] | None = None, **options: Any) -> str:
        task = {"mlops.mlflow.workload_wait": options, "environment": environment or {}}
        hosts = {"hosts": "localhost", "gather_facts": False, "connection": connection, "tasks": [task]}
        (tmp_path / "play.yml").write_text(yaml.safe_dump([hosts]))
        program = Path(sys.executable).with_name("ansible-playbook")
        done = subprocess.run(
            [program, "-i", "localhost,", tmp_path / "play.yml"], capture_output=True, text=True, check=False
        )
        return " ".join((done.stdout + done.stderr).split())

    return run


WAIT = {"workloads": [{"kind": "Deployment", "namespace": "ns", "name": "web"}]}


def test_the_environment_of_a_task_is_that_of_a_module(play):
    output = play(environment={"K8S_AUTH_KUBECONFIG": "/of/the/{{ 'task' }}"}, **WAIT)
    assert "kubeconfig_path is '/of/the/task': there is no such file" in output


def test_a_relative_path_begins_at_the_playbooks_folder(play, tmp_path):
    assert f"kubeconfig_path is '{tmp_path}/relative': there is no such file" in play(kubeconfig="relative", **WAIT)


def test_another_host_is_refused(play):
    assert "this runs on the control node, but this host is reached by ssh: set ansible_connection" in play(
        "ssh", **WAIT
    )


def test_an_unknown_option_is_refused(play):
    assert "Unsupported parameters" in play(elapsed=3)
