# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of what the status of workloads and pods is taken to mean."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s import workload
from hypothesis import given
from hypothesis import strategies as st


def made(kind: str, spec: dict[str, Any], status: dict[str, Any], generation: int = 2) -> dict[str, Any]:
    """Give a workload."""
    return {"kind": kind, "metadata": {"generation": generation}, "spec": spec, "status": status}


def status(**more: Any) -> dict[str, Any]:
    """Give a status of the present generation."""
    return {"observedGeneration": 2, **more}


@pytest.mark.parametrize(
    ("spec", "state", "ready", "note"),
    [
        ({"replicas": 2}, status(replicas=2, updatedReplicas=2, availableReplicas=2), True, "2 of 2 pods ready"),
        ({}, status(replicas=1, updatedReplicas=1, availableReplicas=1), True, "1 of 1 pods ready"),
        ({"replicas": 0}, status(), True, "0 of 0 pods ready"),
        ({"replicas": 2}, {}, False, "its rollout has not begun"),
        (
            {"replicas": 2},
            {"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2},
            False,
            "its rollout has not begun",
        ),
        ({"replicas": 2}, status(replicas=3, updatedReplicas=1, availableReplicas=3), False, "1 of 2 pods replaced"),
        ({"replicas": 2}, status(replicas=3, updatedReplicas=2, availableReplicas=3), False, "1 old pods are left"),
        ({"replicas": 2}, status(replicas=2, updatedReplicas=2, availableReplicas=1), False, "1 of 2 pods ready"),
        (
            {"replicas": 1, "paused": True},
            status(replicas=1, updatedReplicas=1, availableReplicas=1),
            False,
            "its rollout is paused",
        ),
    ],
)
def test_deployment(spec, state, ready, note):
    verdict = workload.judge(made("Deployment", spec, state))
    assert (verdict.ready, verdict.note, verdict.failed) == (ready, note, "")


SAME = {"currentRevision": "a", "updateRevision": "a"}
ROLLING = {"currentRevision": "a", "updateRevision": "b"}


@pytest.mark.parametrize(
    ("spec", "state", "ready"),
    [
        ({"replicas": 1}, status(**SAME, updatedReplicas=1, readyReplicas=1, availableReplicas=1), True),
        ({"replicas": 1}, status(**ROLLING, updatedReplicas=1, readyReplicas=1, availableReplicas=1), False),
        ({"replicas": 2}, status(**SAME, updatedReplicas=2, readyReplicas=1, availableReplicas=1), False),
        ({"replicas": 2}, status(**SAME, updatedReplicas=2, readyReplicas=2, availableReplicas=1), False),
        ({"replicas": 2}, status(**ROLLING, updatedReplicas=0, readyReplicas=2, availableReplicas=2), False),
        ({"replicas": 1}, {"observedGeneration": 1, **SAME, "updatedReplicas": 1, "readyReplicas": 1}, False),
        (
            {"replicas": 3, "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}},
            status(**ROLLING, updatedReplicas=1, readyReplicas=3, availableReplicas=3),
            True,
        ),
        (
            {"replicas": 3, "updateStrategy": {"type": "OnDelete"}},
            status(**ROLLING, updatedReplicas=0, readyReplicas=3, availableReplicas=3),
            True,
        ),
        ({"replicas": 0}, status(**SAME), True),
    ],
)
def test_stateful_set(spec, state, ready):
    assert workload.judge(made("StatefulSet", spec, state)).ready is ready


@pytest.mark.parametrize(
    ("state", "ready"),
    [
        (status(desiredNumberScheduled=2, updatedNumberScheduled=2, numberAvailable=2), True),
        (status(desiredNumberScheduled=2, updatedNumberScheduled=1, numberAvailable=2), False),
        (status(desiredNumberScheduled=2, updatedNumberScheduled=2, numberAvailable=1), False),
        ({}, False),
    ],
)
def test_daemon_set(state, ready):
    assert workload.judge(made("DaemonSet", {}, state)).ready is ready


def test_job():
    def job(spec: dict[str, Any] | None = None, **state: Any) -> workload.Verdict:
        return workload.judge(made("Job", spec or {}, state))

    assert job(conditions=[{"type": "Complete", "status": "True"}]).ready
    assert not job(conditions=[{"type": "Complete", "status": "False"}]).ready
    assert job(active=1, failed=2).note == "0 of 1 done, 2 tries failed"
    assert job({"suspend": True}).note == "it is suspended"
    failed = job(
        conditions=[
            {"type": "FailureTarget", "status": "True"},
            {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "Job has\nreached it"},
        ]
    )
    assert not failed.ready
    assert failed.failed == "BackoffLimitExceeded: Job has reached it"
    assert job(conditions=[{"type": "FailureTarget", "status": "True"}]).failed == "", "its pods are still being ended"


def pod(*containers: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Give a pod with the statuses of its containers."""
    return {"metadata": {"name": "p", "uid": "u"}, "status": {"containerStatuses": list(containers), **more}}


def container(state: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Give the status of a container."""
    return {"name": "c", "ready": False, "restartCount": 0, "state": state, **more}


CRASHED = {"lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}, "restartCount": 3}


@pytest.mark.parametrize(
    ("thing", "nature", "acute", "text"),
    [
        (
            pod(container({"waiting": {"reason": "ImagePullBackOff", "message": "Back-off\npulling"}})),
            "pull",
            True,
            "container c is waiting, ImagePullBackOff: Back-off pulling",
        ),
        (
            pod(container({"waiting": {"reason": "InvalidImageName"}})),
            "hopeless",
            True,
            "container c is waiting, InvalidImageName",
        ),
        (
            pod(container({"waiting": {"reason": "CreateContainerConfigError", "message": 'secret "x" not found'}})),
            "config",
            True,
            'container c is waiting, CreateContainerConfigError: secret "x" not found',
        ),
        (
            pod(container({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}}, **CRASHED)),
            "crash",
            True,
            "container c keeps crashing, CrashLoopBackOff (OOMKilled, exit code 137, 3 restarts)",
        ),
        (
            pod(container({"running": {}}, **CRASHED)),
            "crash",
            False,
            "container c runs again but is not ready (before: OOMKilled, exit code 137, 3 restarts)",
        ),
        (
            pod(container({"terminated": {"exitCode": 1, "reason": "Error"}})),
            "crash",
            False,
            "container c crashed (exit code 1)",
        ),
        (pod(container({"running": {}})), "slow", True, "container c is running but not ready"),
        (
            pod(
                container({"waiting": {"reason": "PodInitializing"}}),
                initContainerStatuses=[{**container({"waiting": {"reason": "ErrImageNeverPull"}}), "name": "init"}],
            ),
            "hopeless",
            True,
            "container init is waiting, ErrImageNeverPull",
        ),
        (
            # A sidecar that was ended with the pod.
            pod(
                container({"terminated": {"exitCode": 1, "message": "why"}}),
                initContainerStatuses=[{**container({"terminated": {"exitCode": 143}}), "name": "sidecar"}],
            ),
            "crash",
            False,
            "container c crashed (exit code 1: why)",
        ),
        (
            pod(conditions=[{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1"}]),
            "schedule",
            True,
            "no node can take it, Unschedulable: 0/1",
        ),
        (
            pod(phase="Failed", reason="Evicted", message="low on memory"),
            "crash",
            False,
            "it failed, Evicted: low on memory",
        ),
        (
            pod(
                {**container({"running": {}}), "name": "slow"},
                {**container({"waiting": {"reason": "ErrImagePull"}}), "name": "broken"},
            ),
            "pull",
            True,
            "container broken is waiting, ErrImagePull",
        ),
    ],
)
def test_problem_of_a_pod(thing, nature, acute, text):
    problem = workload.pod_problem(thing)
    assert problem is not None
    assert (problem.nature, problem.acute, problem.text) == (nature, acute, text)


@pytest.mark.parametrize(
    "thing",
    [
        pod(container({"waiting": {"reason": "ContainerCreating"}})),
        pod(container({"waiting": {}})),
        pod(container({"terminated": {"exitCode": 0}}), phase="Succeeded"),
        pod({**container({"running": {}}), "ready": True}, conditions=[{"type": "Ready", "status": "True"}]),
        pod(),
        {
            **pod(container({"waiting": {"reason": "ErrImagePull"}})),
            "metadata": {"name": "p", "deletionTimestamp": "2026-01-01T00:00:00Z"},
        },
        {"metadata": {"name": "p"}},
    ],
)
def test_a_pod_without_problem(thing):
    assert workload.pod_problem(thing) is None
    assert workload.pod_state(thing)


def test_selector_of_labels_and_expressions():
    expressions = [
        {"key": "b", "operator": "In", "values": ["x", "y"]},
        {"key": "c", "operator": "NotIn", "values": ["z"]},
        {"key": "d", "operator": "Exists"},
        {"key": "e", "operator": "DoesNotExist"},
    ]
    thing = {"spec": {"selector": {"matchLabels": {"a": "1"}, "matchExpressions": expressions}}}
    assert workload.selector(thing) == "a=1,b in (x,y),c notin (z),d,!e"
    assert workload.selector({"spec": {}}) == ""


def test_event_lines_are_the_last_ones_in_order_with_their_count():
    def event(when: str, **more: Any) -> dict[str, Any]:
        return {"metadata": {}, "type": "Warning", "reason": when, "message": "m", "lastTimestamp": when, **more}

    events = [event("2026-01-01T00:00:09Z", count=4), *(event(f"2026-01-01T00:00:0{n}Z") for n in range(8))]
    lines = workload.event_lines(events)
    assert len(lines) == 5
    assert lines[-1] == "Warning 2026-01-01T00:00:09Z: m (4 times)"
    assert lines[0].startswith("Warning 2026-01-01T00:00:04Z")
    micro = {"metadata": {}, "type": "Normal", "reason": "r", "message": None, "eventTime": "2026-01-01T00:00:00.1Z"}
    assert workload.event_lines([micro]) == ["Normal r: "]


def test_claims_of_a_pod():
    volumes = [{"name": "a", "persistentVolumeClaim": {"claimName": "data"}}, {"name": "b", "emptyDir": {}}]
    assert workload.claims({"spec": {"volumes": volumes}}) == ["data"]
    assert workload.claims({}) == []


@given(text=st.text(), limit=st.integers(1, 50))
def test_one_line_is_one_line(text, limit):
    line = workload.one_line(text, limit)
    assert len(line) <= limit
    assert "\n" not in line


def test_what_a_manager_applied():
    container = {
        "name": "c",
        "image": "i",
        "imagePullPolicy": "Always",
        "command": ["a", "b"],
        "ports": [{"containerPort": 80, "protocol": "TCP"}],
    }
    thing = {
        "metadata": {
            "name": "n",
            "labels": {"a": "1", "b": "2"},
            "finalizers": ["x", "y"],
            "managedFields": [
                {"manager": "kubelet", "operation": "Update", "fieldsV1": {"f:spec": {}}},
                {"manager": "us", "operation": "Apply", "subresource": "status", "fieldsV1": {"f:status": {}}},
                {
                    "manager": "us",
                    "operation": "Apply",
                    "fieldsV1": {
                        "f:metadata": {"f:labels": {"f:a": {}, "f:gone": {}}, "f:finalizers": {'v:"y"': {}}},
                        "f:spec": {
                            "f:containers": {
                                'k:{"name":"c"}': {
                                    ".": {},
                                    "f:name": {},
                                    "f:image": {},
                                    "f:command": {},
                                    "f:ports": {
                                        'k:{"containerPort":80,"protocol":"TCP"}': {".": {}, "f:containerPort": {}}
                                    },
                                },
                                'k:{"name":"a"}': {".": {}, "f:name": {}},
                            }
                        },
                    },
                },
            ],
        },
        "spec": {"containers": [{"name": "other"}, container, {"name": "a", "image": "x"}], "more": 1},
        "status": {"x": 1},
    }
    ports = [{"containerPort": 80}]
    assert workload.applied(thing, "us") == {
        "metadata": {"labels": {"a": "1"}, "finalizers": ["y"]},
        "spec": {
            "containers": [{"name": "c", "image": "i", "command": ["a", "b"], "ports": ports}, {"name": "a"}],
        },
    }
    assert workload.applied(thing, "them") is None


@pytest.mark.parametrize(
    ("conditions", "ready", "note", "failed"),
    [
        ([], False, "cert-manager has not looked at it yet", ""),
        ([("Ready", "True", "", "up to date", 2)], True, "up to date", ""),
        ([("Ready", "True", "", "up to date", 1)], False, "cert-manager has not looked at it yet", ""),
        ([("Ready", "False", "DoesNotExist", "no Secret", 2)], False, "no Secret", ""),
        # A renewal: the former one is still valid.
        (
            [("Ready", "True", "", "up to date", 2), ("Issuing", "True", "Renewing", "renewing", 2)],
            True,
            "up to date",
            "",
        ),
        ([("Issuing", "True", "DoesNotExist", "issuing", 2)], False, "issuing", ""),
        # Of what was asked for before.
        ([("Issuing", "False", "Failed", "order is invalid", 1)], False, "cert-manager has not looked at it yet", ""),
        (
            [("Ready", "False", "DoesNotExist", "no Secret", 2), ("Issuing", "False", "Failed", "order is invalid", 2)],
            False,
            "failed",
            "order is invalid",
        ),
        ([("Ready", "True", "", "up to date", 2), ("Issuing", "False", "Failed", "busy", 2)], True, "up to date", ""),
    ],
)
def test_certificate(conditions, ready, note, failed):
    keys = ("type", "status", "reason", "message", "observedGeneration")
    state = {"conditions": [dict(zip(keys, each, strict=True)) for each in conditions]}
    verdict = workload.judge(made("Certificate", {}, state))
    assert (verdict.ready, verdict.note, verdict.failed) == (ready, note, failed)
