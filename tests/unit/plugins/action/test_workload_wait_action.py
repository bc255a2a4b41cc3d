# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the action plugin workload_wait."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleActionFail
from ansible_collections.mlops.mlflow.plugins.action import workload_wait as action
from ansible_collections.mlops.mlflow.plugins.modules import workload_wait as documented
from ansible_collections.mlops.mlflow.plugins.plugin_utils import workload_watch

WEB = {"kind": "Deployment", "namespace": "ns", "name": "web"}
PATH = "/apis/apps/v1/namespaces/ns/deployments/web"
UP = {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}


@pytest.fixture
def shown(monkeypatch) -> list[str]:
    """What is displayed."""
    lines: list[str] = []
    monkeypatch.setattr(action.display, "display", lambda text, color=None: lines.append(text))
    return lines


@pytest.fixture
def act(kubeconfig, monkeypatch, shown):
    """Give a function that acts as a task would; a second passes in a hundredth of one."""
    monkeypatch.setattr(workload_watch, "INTERVAL", 0.01)

    def do(check: bool = False, **options: Any) -> dict[str, Any]:
        module = action.ActionModule.__new__(action.ActionModule)
        module._task = SimpleNamespace(check_mode=check)
        module._loader = SimpleNamespace(get_basedir=lambda: "/")
        defaults = {name: option.get("default") for name, option in action.ActionModule.ARGUMENTS.items()}
        given = {**defaults, "kubeconfig": kubeconfig, **options}
        return module.act(given, {"inventory_hostname": "kind"})

    return do


def deployment(cluster: Any, status: dict[str, Any]) -> None:
    """Put a Deployment into the cluster."""
    spec = {"replicas": 1, "selector": {"matchLabels": {"app": "x"}}}
    cluster.store(PATH, {"metadata": {"generation": 1}, "spec": spec, "status": status})


def test_succeeds(act, cluster):
    deployment(cluster, UP)
    result = act(workloads=[WEB], prune_label="mlops.mlflow/job")
    assert result == {"changed": False, "ready": True, "waited": 0, "pruned": [], "rerun": []}


def test_displays_what_it_waits_for(act, cluster, shown, monkeypatch):
    monkeypatch.setattr(workload_watch, "PROGRESS_EVERY", 0.5)
    deployment(cluster, {})
    assert act(workloads=[WEB], timeout=1)["failed"] is True
    assert [line.partition(" s of ")[2] for line in shown] == ["1 s for Deployment ns/web (its rollout has not begun)"]
    assert shown[0].startswith("waiting: [kind] ")


def test_fails_with_sentence_and_command(act, cluster, kubeconfig):
    deployment(cluster, {})
    result = act(workloads=[WEB], timeout=1)
    assert (result["failed"], result["ready"], result["changed"]) == (True, False, False)
    assert result["msg"].splitlines()[0] == "Deployment ns/web is not ready after 1 s: its rollout has not begun"
    assert f"kubectl --kubeconfig {kubeconfig} --context fake -n ns describe deployment web" in result["msg"]


def test_a_job_that_was_run_again_is_a_change(act, cluster):
    path = "/apis/batch/v1/namespaces/ns/jobs/j"
    spec = {"selector": {"matchLabels": {"app": "x"}}, "template": {}}
    failed = {"conditions": [{"type": "Failed", "status": "True"}]}
    cluster.store(path, {"kind": "Job", "metadata": {}, "spec": spec, "status": failed})

    def complete(method: str, path: str) -> None:
        if method == "GET" and "".join(cluster.requests[-1:]).startswith("PATCH"):
            cluster.objects[path]["status"] = {"conditions": [{"type": "Complete", "status": "True"}]}

    cluster.before = complete
    result = act(workloads=[{"kind": "Job", "namespace": "ns", "name": "j"}], timeout=5)
    assert (result["changed"], result["ready"], result["rerun"]) == (True, True, ["ns/j"])


def test_what_was_pruned_is_named_where_the_wait_fails(act, cluster):
    for name, created in (("new", "2026-01-02T00:00:00Z"), ("old", "2026-01-01T00:00:00Z")):
        metadata = {"labels": {"mlops.mlflow/job": "provision"}, "creationTimestamp": created}
        cluster.store(f"/apis/batch/v1/namespaces/ns/jobs/{name}", {"metadata": metadata, "spec": {}, "status": {}})
    new = {"kind": "Job", "namespace": "ns", "name": "new"}
    result = act(workloads=[new], prune_label="mlops.mlflow/job", timeout=0)
    assert (result["failed"], result["changed"], result["pruned"]) == (True, True, ["ns/old"])


def test_jobs_that_had_failed_before_are_not_run_again_where_that_is_off(act, cluster):
    failed = {"conditions": [{"type": "Failed", "status": "True"}]}
    cluster.store("/apis/batch/v1/namespaces/ns/jobs/j", {"metadata": {}, "spec": {}, "status": failed})
    result = act(workloads=[{"kind": "Job", "namespace": "ns", "name": "j"}], rerun=False)
    assert (result["failed"], result["rerun"]) == (True, [])
    assert result["msg"].startswith("Job ns/j failed, no reason given")


def test_an_object_that_is_gone(act, cluster):
    cluster.answers["GET /api/v1"] = (200, {"resources": [{"name": "namespaces", "kind": "Namespace"}]})
    given = {"api_version": "v1", "kind": "Namespace", "namespace": "", "name": "old"}
    assert act(gone=[given])["ready"] is True
    cluster.namespace("old")
    assert act(gone=[given], timeout=0)["msg"].startswith(
        "Namespace old is not gone after 0 s: it is not being deleted"
    )


def test_a_cluster_that_cannot_be_used(act):
    result = act(workloads=[WEB], context="nowhere")
    assert result["failed"] is True
    assert result["msg"].startswith("The workloads cannot be waited for: kubeconfig_context is 'nowhere': ")


def test_a_relative_kubeconfig_begins_at_the_playbooks_folder(act, cluster, kubeconfig):
    deployment(cluster, UP)
    assert act(workloads=[WEB], kubeconfig=kubeconfig.removeprefix("/"))["ready"] is True


def test_check_mode_asks_nothing(act, cluster):
    result = act(check=True, workloads=[WEB])
    assert (result["changed"], result["ready"]) == (False, False)
    assert cluster.requests == []


def test_nothing_to_wait_for(act, cluster):
    assert act(context="nowhere")["ready"] is True
    assert cluster.requests == []


def test_a_negative_time(act):
    with pytest.raises(AnsibleActionFail, match=r"^timeout is -1: a number of seconds, 0 or more$"):
        act(timeout=-1)


def test_the_documented_options_are_those_that_it_takes():
    options = yaml.safe_load(documented.DOCUMENTATION)["options"]
    own = {name for name in action.ActionModule.ARGUMENTS if name not in action.auth_argument_spec()}
    assert set(options) == own
    for name, option in options.items():
        spec = action.ActionModule.ARGUMENTS[name]
        assert option.get("default") == spec.get("default")
        assert set(option.get("suboptions") or ()) == set(spec.get("options") or ())
