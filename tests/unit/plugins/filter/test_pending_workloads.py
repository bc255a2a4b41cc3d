# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of the objects that were applied have to be waited for."""

from __future__ import annotations

from ansible_collections.mlops.mlflow.plugins.filter.pending_workloads import pending_workloads


def made(kind, name, generation=1, **status):
    """An object as the API server gives it, of generation 1 unless it was changed."""
    metadata = {"namespace": "ns", "name": name, "generation": generation}
    return {"kind": kind, "metadata": metadata, "spec": {}, "status": status}


def server(name, generation=1):
    return made("StatefulSet", name, generation, observedGeneration=1, replicas=1, updatedReplicas=1, readyReplicas=1)


def job(name, *conditions):
    return made("Job", name, conditions=[{"type": each, "status": "True"} for each in conditions])


def names(*objects):
    """What is pending of a list of objects, and that a list of one and one by itself are the same."""
    if len(objects) == 1:
        assert pending_workloads({"result": objects[0]}) == pending_workloads(
            {"result": {"results": [{"result": objects[0]}]}}
        )
    return [each["name"] for each in pending_workloads({"result": {"results": [{"result": each} for each in objects]}})]


def test_what_is_ready_is_left_out():
    assert names(server("postgres"), job("provision", "SuccessCriteriaMet", "Complete")) == []


def test_what_was_changed_is_not_ready():
    """Its status is of the specification before, which says ready still."""
    assert names(server("postgres", generation=2)) == ["postgres"]


def test_what_was_just_made_has_no_status():
    bare = {"kind": "Deployment", "metadata": {"namespace": "ns", "name": "new", "generation": 1}, "spec": {}}
    assert names(bare, made("Job", "first")) == ["new", "first"]


def test_a_job_that_failed_is_waited_for():
    """It is run again."""
    assert names(job("failed", "Failed"), job("complete", "Complete")) == ["failed"]


def test_what_is_no_workload_is_left_out():
    service = {"kind": "Service", "metadata": {"namespace": "ns", "name": "mlflow"}}
    assert names(service) == []
    assert names(service, server("mlflow", generation=2)) == ["mlflow"]


def test_order_and_form():
    result = {"results": [{"result": server("b", 2)}, {"result": made("Job", "a")}]}
    assert pending_workloads({"result": result}) == [
        {"kind": "StatefulSet", "namespace": "ns", "name": "b"},
        {"kind": "Job", "namespace": "ns", "name": "a"},
    ]


def test_nothing_was_applied():
    """A task that was left out in check mode has registered no result."""
    assert pending_workloads({"skipped": True}) == []
    assert pending_workloads({}) == []
