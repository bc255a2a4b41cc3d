# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the action plugin workload_wait: how it repeats the module."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ansible.plugins.action import ActionBase
from ansible_collections.mlops.mlflow.plugins.action import workload_wait


@pytest.fixture
def play(monkeypatch):
    """Give a function that runs the action with the answers of the module; 15 s pass with each."""
    now = [0.0]
    shown: list[str] = []
    monkeypatch.setattr(workload_wait.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(workload_wait.display, "display", lambda text, color=None: shown.append(text))
    monkeypatch.setattr(ActionBase, "run", lambda self, tmp, task_vars: {})

    def runner(answers: list[dict[str, Any]], **options: Any) -> SimpleNamespace:
        calls: list[dict[str, Any]] = []
        left = iter(answers)

        def execute(self: Any, module_name: str, module_args: dict[str, Any], task_vars: Any) -> dict[str, Any]:
            assert module_name == "mlops.mlflow.workload_wait"
            calls.append(module_args)
            now[0] += 15
            return dict(next(left))

        monkeypatch.setattr(ActionBase, "_execute_module", execute)
        action = workload_wait.ActionModule.__new__(workload_wait.ActionModule)
        action._task = SimpleNamespace(args=options)
        result = action.run(task_vars={"inventory_hostname": "kind"})
        return SimpleNamespace(calls=calls, shown=shown, result=result)

    return runner


SLICE = {"ready": False, "pending": ["Deployment a/b (0 of 1 pods ready)"], "memory": {"since": {"x": 1}}}
DONE = {"ready": True, "changed": False, "pruned": []}


def test_one_call_where_all_is_ready(play):
    played = play([DONE], timeout=100)
    assert played.calls == [{"timeout": 100}]
    assert played.shown == []
    assert played.result["ready"] is True


def test_passes_the_rest_of_the_time_and_the_memory_on(play):
    played = play([SLICE, {**SLICE, "memory": {"since": {"x": 2}}}, DONE], timeout=100)
    assert [call["timeout"] for call in played.calls] == [100, 85, 70]
    assert [call.get("elapsed") for call in played.calls] == [None, 15, 30]
    assert [call.get("memory") for call in played.calls] == [None, {"since": {"x": 1}}, {"since": {"x": 2}}]
    assert played.shown == [
        "waiting: [kind] 15 s of 100 s for Deployment a/b (0 of 1 pods ready)",
        "waiting: [kind] 30 s of 100 s for Deployment a/b (0 of 1 pods ready)",
    ]
    assert "memory" not in played.result


def test_ends_with_the_failure_of_the_module(play):
    played = play([SLICE, {"failed": True, "msg": "no"}], timeout=100)
    assert played.result["failed"] is True
    assert played.result["msg"] == "no"


def test_looks_once_more_where_the_time_ran_out_between_two_calls(play):
    played = play([SLICE, {"failed": True, "msg": "no"}], timeout=10)
    assert played.calls[1]["timeout"] == 1


def test_leaves_a_wrong_time_to_the_module(play):
    assert play([{"failed": True, "msg": "timeout is of type str"}], timeout="soon").result["failed"] is True
