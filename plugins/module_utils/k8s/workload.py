# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the status of workloads and pods means: ready, on its way, or broken, and why.

All functions take objects as the API server gives them, and ask it nothing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

# Where a kind lives: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/
PATHS = {
    "Deployment": "/apis/apps/v1/namespaces/{namespace}/deployments",
    "StatefulSet": "/apis/apps/v1/namespaces/{namespace}/statefulsets",
    "DaemonSet": "/apis/apps/v1/namespaces/{namespace}/daemonsets",
    "Job": "/apis/batch/v1/namespaces/{namespace}/jobs",
    # No workload, but waited for like one: https://cert-manager.io/docs/reference/api-docs/#cert-manager.io/v1.Certificate
    "Certificate": "/apis/cert-manager.io/v1/namespaces/{namespace}/certificates",
}

# Reasons of a waiting container, by what they mean for the wait.
REASONS = {
    "InvalidImageName": "hopeless",
    "ErrImageNeverPull": "hopeless",
    "CreateContainerConfigError": "config",
    "ErrImagePull": "pull",
    "ImagePullBackOff": "pull",
    "ImageInspectError": "pull",
    "RegistryUnavailable": "pull",
    "SignatureValidationFailed": "pull",
    "CrashLoopBackOff": "crash",
    "RunContainerError": "crash",
    "CreateContainerError": "crash",
    "PostStartHookError": "crash",
}
WAIT_FOR = "wait-for-"  # how the names of init containers begin that wait for a dependency, and end once it answers
IN_VAIN = 75  # exit code of an init container that waited as long as it may
STARTING = ("PodInitializing", "ContainerCreating", "")


@dataclass
class Verdict:
    """What a workload's status says.

    Args:
        ready: It is as its specification says.
        failed: Why it can never be; empty as long as it can.
        note: How far it is.
    """

    ready: bool
    note: str = ""
    failed: str = ""


@dataclass
class Problem:
    """What is wrong with a pod.

    Args:
        nature: C(hopeless), C(config), C(pull), C(crash), C(mount), C(schedule), C(dependency) or C(slow).
        text: The words after the pod's name.
        container: Name of the container; empty where it is the pod as a whole.
        acute: Whether it shows at this moment; a crashing container runs in between.
        dependency: What the pod waits for by an init container; empty where it does not.
    """

    nature: str
    text: str
    container: str = ""
    acute: bool = True
    dependency: str = ""


def one_line(text: str | None, limit: int = 400) -> str:
    """Put a message on one line of at most so many characters."""
    line = " ".join((text or "").split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def condition(thing: dict[str, Any], kind: str) -> dict[str, Any]:
    """Give the condition of a type from an object's status; empty where there is none."""
    for each in (thing.get("status") or {}).get("conditions") or []:
        if each.get("type") == kind:
            return each
    return {}


def selector(workload: dict[str, Any]) -> str:
    """Write a workload's selector as a query parameter; empty where it has none."""
    given = (workload.get("spec") or {}).get("selector") or {}
    parts = [f"{key}={value}" for key, value in (given.get("matchLabels") or {}).items()]
    for each in given.get("matchExpressions") or []:
        key, values = each["key"], ",".join(each.get("values") or [])
        parts.append(
            {
                "In": f"{key} in ({values})",
                "NotIn": f"{key} notin ({values})",
                "Exists": key,
                "DoesNotExist": f"!{key}",
            }[each["operator"]]
        )
    return ",".join(parts)


def applied(thing: dict[str, Any], manager: str) -> dict[str, Any] | None:
    """Give the part of an object that a field manager applied; None where it applied none.

    The format is that of metadata.managedFields: https://kubernetes.io/docs/reference/using-api/server-side-apply/
    """
    for each in thing["metadata"].get("managedFields") or []:
        if each.get("manager") == manager and each.get("operation") == "Apply" and not each.get("subresource"):
            return _owned(thing, each.get("fieldsV1") or {})
    return None


def _owned(value: Any, fields: dict[str, Any]) -> Any:
    """Give the part of a value that a set of fields names; an empty set names all of it."""
    below = {key: inner for key, inner in fields.items() if key != "."}
    if not below:
        return value
    if isinstance(value, dict):
        return {key: _owned(inner, below[f"f:{key}"]) for key, inner in value.items() if f"f:{key}" in below}
    # The items of a list are named by their keys or values, and keep their order.
    named = [(json.loads(key[2:]), inner) for key, inner in below.items() if key[:2] in ("k:", "v:")]
    items = []
    for item in value:
        for name, inner in named:
            if item == name or (isinstance(name, dict) and name.items() <= item.items()):
                items.append(_owned(item, inner))
                break
    return items


# --- workloads --------------------------------------------------------------------------------------------------------


def judge(workload: dict[str, Any]) -> Verdict:
    """Say how far a Deployment, StatefulSet, DaemonSet, Job or Certificate is."""
    return _JUDGES[workload["kind"]](workload)


def _observed(workload: dict[str, Any]) -> bool:
    """Whether the status is of the present specification, and not of the one before."""
    return (workload.get("status") or {}).get("observedGeneration", 0) >= workload["metadata"].get("generation", 0)


def _deployment(workload: dict[str, Any]) -> Verdict:
    wanted = workload["spec"].get("replicas", 1)
    status = workload.get("status") or {}
    if not _observed(workload):
        return Verdict(False, "its rollout has not begun")
    if workload["spec"].get("paused"):
        return Verdict(False, "its rollout is paused")
    updated, total = status.get("updatedReplicas", 0), status.get("replicas", 0)
    if updated < wanted:
        return Verdict(False, f"{updated} of {wanted} pods replaced")
    if total > updated:
        return Verdict(False, f"{total - updated} old pods are left")
    available = status.get("availableReplicas", 0)
    return Verdict(available >= wanted, f"{min(available, wanted)} of {wanted} pods ready")


def _stateful_set(workload: dict[str, Any]) -> Verdict:
    wanted = workload["spec"].get("replicas", 1)
    status = workload.get("status") or {}
    if not _observed(workload):
        return Verdict(False, "its rollout has not begun")
    strategy = workload["spec"].get("updateStrategy") or {}
    partition = (strategy.get("rollingUpdate") or {}).get("partition") or 0
    if strategy.get("type") != "OnDelete":
        updated = status.get("updatedReplicas", 0)
        if updated < wanted - partition:
            return Verdict(False, f"{updated} of {wanted - partition} pods replaced")
        if not partition and status.get("currentRevision") != status.get("updateRevision"):
            return Verdict(False, "its last pods are being replaced")
    ready = min(status.get("readyReplicas", 0), status.get("availableReplicas", status.get("readyReplicas", 0)))
    return Verdict(ready >= wanted, f"{min(ready, wanted)} of {wanted} pods ready")


def _daemon_set(workload: dict[str, Any]) -> Verdict:
    status = workload.get("status") or {}
    if not _observed(workload):
        return Verdict(False, "its rollout has not begun")
    wanted = status.get("desiredNumberScheduled", 0)
    if (workload["spec"].get("updateStrategy") or {}).get("type") != "OnDelete":
        updated = status.get("updatedNumberScheduled", 0)
        if updated < wanted:
            return Verdict(False, f"{updated} of {wanted} pods replaced")
    available = status.get("numberAvailable", 0)
    return Verdict(available >= wanted, f"{available} of {wanted} pods ready")


def _job(workload: dict[str, Any]) -> Verdict:
    if condition(workload, "Complete").get("status") == "True":
        return Verdict(True, "complete")
    failed = condition(workload, "Failed")
    if failed.get("status") == "True":
        reason, message = failed.get("reason") or "no reason given", one_line(failed.get("message"))
        return Verdict(False, "failed", f"{reason}: {message}" if message else reason)
    if workload["spec"].get("suspend"):
        return Verdict(False, "it is suspended")
    status = workload.get("status") or {}
    tries = f", {status['failed']} tries failed" if status.get("failed") else ""
    return Verdict(False, f"{status.get('succeeded', 0)} of {workload['spec'].get('completions', 1)} done{tries}")


def _certificate(certificate: dict[str, Any]) -> Verdict:
    # Each condition tells of which specification it is.
    generation = certificate["metadata"].get("generation", 0)
    ready, issuing = (
        each if each.get("observedGeneration", 0) >= generation else {}
        for each in (condition(certificate, "Ready"), condition(certificate, "Issuing"))
    )
    if ready.get("status") == "True":
        return Verdict(True, one_line(ready.get("message")))
    if issuing.get("status") == "False" and issuing.get("reason") == "Failed":
        return Verdict(False, "failed", one_line(issuing.get("message")))
    words = ready.get("message") or issuing.get("message")
    return Verdict(False, one_line(words) or "cert-manager has not looked at it yet")


_JUDGES = {
    "Deployment": _deployment,
    "StatefulSet": _stateful_set,
    "DaemonSet": _daemon_set,
    "Job": _job,
    "Certificate": _certificate,
}


# --- pods -------------------------------------------------------------------------------------------------------------


def belongs(pod: dict[str, Any], owners: set[str]) -> bool:
    """Whether one of the owners, given by uid, made a pod."""
    return any(each.get("uid") in owners for each in pod["metadata"].get("ownerReferences") or [])


def pod_is_done(pod: dict[str, Any]) -> bool:
    """Whether a pod needs no look: ready, succeeded, or on its way out."""
    if pod["metadata"].get("deletionTimestamp"):
        return True
    return (pod.get("status") or {}).get("phase") == "Succeeded" or condition(pod, "Ready").get("status") == "True"


def _exit(terminated: dict[str, Any]) -> str:
    """Say how a container ended."""
    reason = terminated.get("reason") or ""
    text = f"exit code {terminated.get('exitCode')}"
    if reason not in ("", "Error", "Completed"):
        text = f"{reason}, {text}"
    message = one_line(terminated.get("message"))
    return f"{text}: {message}" if message else text


def _waiting(status: dict[str, Any], times: str) -> Problem | None:
    """Say what a container waits for; None where it is only starting."""
    name, waiting = status["name"], status["state"]["waiting"]
    last = (status.get("lastState") or {}).get("terminated")
    reason = waiting.get("reason") or ""
    if reason in STARTING:
        return None
    nature = REASONS.get(reason, "slow")
    if nature == "crash" and last is not None:
        return Problem(nature, f"container {name} keeps crashing, {reason} ({_exit(last)}{times})", name)
    message = one_line(waiting.get("message"))
    return Problem(nature, f"container {name} is waiting, {reason}" + (f": {message}" if message else ""), name)


def _running(status: dict[str, Any], times: str) -> Problem:
    """Say what is wrong with a container that runs but is not ready."""
    name, last = status["name"], (status.get("lastState") or {}).get("terminated")
    if status.get("restartCount", 0) and last is not None:
        text = f"container {name} runs again but is not ready (before: {_exit(last)}{times})"
        return Problem("crash", text, name, acute=False)
    return Problem("slow", f"container {name} is running but not ready", name)


def _dependency_problem(status: dict[str, Any]) -> Problem | None:
    """Say what an init container waits for; None where it does not wait, or crashed."""
    name, state = status["name"], status.get("state") or {}
    ended = state.get("terminated") or (status.get("lastState") or {}).get("terminated") or {}
    in_vain = ended.get("exitCode") == IN_VAIN
    if "running" in state:
        # After success it runs once more where the whole pod is started again.
        waits = in_vain or ended.get("exitCode") in (None, 0)
    else:
        waits = in_vain and (state.get("waiting") or {}).get("reason") in (None, "CrashLoopBackOff")
    if not name.startswith(WAIT_FOR) or not waits:
        return None
    dependency, restarts = name.removeprefix(WAIT_FOR), status.get("restartCount", 0)
    times = f", {restarts} restart{'s' if restarts > 1 else ''}" if restarts else ""
    message = one_line(ended.get("message"))
    text = f"it waits for {dependency} (init container {name}{times})" + (f": {message}" if message else "")
    return Problem("dependency", text, name, acute=False, dependency=dependency)


def _container_problem(status: dict[str, Any]) -> Problem | None:
    """Say what is wrong with one container; None where it is ready or done."""
    name, state = status["name"], status.get("state") or {}
    restarts = status.get("restartCount", 0)
    times = f", {restarts} restart{'s' if restarts > 1 else ''}" if restarts else ""
    if "waiting" in state:
        return _waiting(status, times)
    if "terminated" in state and state["terminated"].get("exitCode") != 0:
        return Problem("crash", f"container {name} crashed ({_exit(state['terminated'])}{times})", name, acute=False)
    if "running" in state and not status.get("ready"):
        return _running(status, times)
    return None


def pod_problem(pod: dict[str, Any]) -> Problem | None:
    """Say what keeps a pod from being ready; None where it is ready, done, or only starting."""
    if pod_is_done(pod):
        return None
    status = pod.get("status") or {}
    init = status.get("initContainerStatuses") or []
    # A sidecar that is ended since the pod has failed tells nothing.
    found = [*map(_container_problem, status.get("containerStatuses") or [])]
    found += [_dependency_problem(each) or _container_problem(each) for each in init]
    # What is broken tells more than what waits for it.
    problems = sorted(filter(None, found), key=lambda problem: problem.nature in ("dependency", "slow"))
    if problems:
        return problems[0]
    scheduled = condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        return Problem(
            "schedule", f"no node can take it, {scheduled.get('reason')}: {one_line(scheduled.get('message'))}"
        )
    if status.get("phase") == "Failed":
        reason, message = status.get("reason") or "Failed", one_line(status.get("message"))
        return Problem("crash", f"it failed, {reason}" + (f": {message}" if message else ""), acute=False)
    return None


def pod_state(pod: dict[str, Any]) -> str:
    """Say in a few words what a pod is doing, where nothing is wrong with it."""
    status = pod.get("status") or {}
    if pod["metadata"].get("deletionTimestamp"):
        return "it is being removed"
    for each in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        state = each.get("state") or {}
        if "waiting" in state or ("running" in state and not each.get("ready")):
            what = "is being created" if "waiting" in state else "is running but not ready"
            return f"container {each['name']} {what}"
    return f"it is {status.get('phase', 'Pending')}"


def claims(pod: dict[str, Any]) -> list[str]:
    """Name the PersistentVolumeClaims of a pod."""
    return [
        each["persistentVolumeClaim"]["claimName"]
        for each in (pod.get("spec") or {}).get("volumes") or []
        if each.get("persistentVolumeClaim")
    ]


def event_lines(events: list[dict[str, Any]], limit: int = 5) -> list[str]:
    """Write the last events as lines, oldest first, with how often each came."""

    def when(event: dict[str, Any]) -> str:
        series = event.get("series") or {}
        return (
            series.get("lastObservedTime")
            or event.get("lastTimestamp")
            or event.get("eventTime")
            or event["metadata"].get("creationTimestamp")
            or ""
        )

    lines = []
    for each in sorted(events, key=when)[-limit:]:
        count = (each.get("series") or {}).get("count") or each.get("count") or 1
        times = f" ({count} times)" if count > 1 else ""
        lines.append(f"{each.get('type')} {each.get('reason')}: {one_line(each.get('message'))}{times}")
    return lines
