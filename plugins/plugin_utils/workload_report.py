# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is reported of workloads that are not ready: their pods, events, claims and logs, and what to look at next."""

from __future__ import annotations

import shlex
from typing import Any

from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.client import Api, ApiError, KubeError, quoted
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.workload import (
    Problem,
    claims,
    condition,
    event_lines,
    one_line,
    pod_is_done,
    pod_problem,
    pod_state,
)
from ansible_collections.mlops.mlflow.plugins.plugin_utils.workload_watch import Seen, Target, Watch, events_of

PODS = 5  # that a report shows of each workload
LOG_LINES = 20  # that a report shows of the end of each log
LOG_BYTES = 16384  # at most of these lines
LONGEST_SENTENCE = 1000  # characters


class Reporter:
    """Reads what a report of a workload holds.

    Args:
        api: Client of the API server.
    """

    def __init__(self, api: Api) -> None:
        self._api = api

    def report(self, target: Target, seen: Seen) -> dict[str, Any]:
        """Give all that helps with a workload that is not ready."""
        namespace = target.namespace
        sick = [pod for pod in [*seen.pods, *seen.outdated] if not pod_is_done(pod)]
        sick.sort(key=lambda pod: pod_problem(pod) is None)
        if target.kind == "Job":  # the last try tells most
            sick.sort(key=lambda pod: pod["metadata"].get("creationTimestamp") or "", reverse=True)
        pods = [self._pod_report(namespace, pod) for pod in sick[:PODS]]
        claim_names = list(dict.fromkeys(name for pod in sick for name in claims(pod)))
        events = [
            event
            for thing in [seen.workload, *seen.owners]
            if thing
            for event in events_of(self._api, namespace, thing)
        ]
        kubectl = f"{self.kubectl} -n {namespace}"
        commands = [f"{kubectl} describe {target.kind.lower()} {target.name}"]
        for pod in pods[:1]:
            commands.append(f"{kubectl} describe pod {pod['name']}")
            for log in pod["logs"][:1]:
                previous = " --previous" if log["previous"] else ""
                commands.append(f"{kubectl} logs {pod['name']} -c {log['container']}{previous}")
        return {
            "workload": str(target),
            "state": seen.verdict.note,
            "events": event_lines(events),
            "claims": [each for each in (self._claim_report(namespace, name) for name in claim_names) if each],
            "pods": pods,
            "commands": commands,
        }

    @property
    def kubectl(self) -> str:
        """The command kubectl for this cluster."""
        settings = self._api.settings
        words = ["kubectl"]
        for option, value in (("--kubeconfig", settings.kubeconfig), ("--context", settings.context)):
            words += [option, shlex.quote(value)] if value else []
        return " ".join(words)

    def _pod_report(self, namespace: str, pod: dict[str, Any]) -> dict[str, Any]:
        problem = pod_problem(pod)
        return {
            "name": pod["metadata"]["name"],
            "phase": (pod.get("status") or {}).get("phase", ""),
            "state": problem.text if problem else pod_state(pod),
            "broken": problem is not None,
            "nature": problem.nature if problem else "",
            "scheduled": condition(pod, "PodScheduled").get("status") == "True",
            "events": event_lines(events_of(self._api, namespace, pod)),
            "logs": self._logs(namespace, pod, problem),
        }

    def _logs(self, namespace: str, pod: dict[str, Any], problem: Problem | None) -> list[dict[str, Any]]:
        """Give the ends of the logs of the containers that have begun and are not ready."""
        status = pod.get("status") or {}
        logs = []
        for each in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
            state = each.get("state") or {}
            done = (state.get("terminated") or {}).get("exitCode") == 0
            crashed = bool((each.get("lastState") or {}).get("terminated"))
            if done or each.get("ready") or ("waiting" in state and not crashed):
                continue
            # While a container waits to be started again, or has just begun, only its last run tells why.
            previous = crashed and "terminated" not in state
            text = self._log(namespace, pod["metadata"]["name"], each["name"], previous)
            if not text and previous:
                previous = False
                text = self._log(namespace, pod["metadata"]["name"], each["name"], previous)
            logs.append({"container": each["name"], "previous": previous, "lines": text})
        logs.sort(key=lambda log: problem is not None and log["container"] != problem.container)
        return logs

    def _log(self, namespace: str, pod: str, container: str, previous: bool) -> list[str]:
        query = {"container": container, "tailLines": LOG_LINES, "previous": "true" if previous else None}
        path = f"/api/v1/namespaces/{quoted(namespace)}/pods/{quoted(pod)}/log"
        try:
            text = self._api.request("GET", path, query=query, accept="*/*")
        except KubeError:
            return []
        return text[-LOG_BYTES:].decode("utf-8", "replace").splitlines()

    def _claim_report(self, namespace: str, name: str) -> dict[str, Any] | None:
        """Tell of a claim that is not bound; None of one that is."""
        try:
            claim = self._api.find(f"/api/v1/namespaces/{quoted(namespace)}/persistentvolumeclaims/{quoted(name)}")
        except ApiError:
            return None
        if claim is None:
            return {"name": name, "storage_class": "", "phase": "missing", "events": [f"there is no claim {name}"]}
        phase = (claim.get("status") or {}).get("phase", "")
        if phase == "Bound":
            return None
        storage_class = claim["spec"].get("storageClassName") or "the default, and there is none"
        return {
            "name": name,
            "storage_class": storage_class,
            "phase": phase,
            "events": event_lines(events_of(self._api, namespace, claim)),
        }


def explain(watch: Watch, api: Api) -> str:
    """Say what has failed and what is not ready: a sentence for each, and below all that helps.

    Args:
        watch: What was waited for, in vain.
        api: Client of the API server.
    """
    reporter = Reporter(api)
    after = f"after {watch.waited:.0f} s"
    reports = {target: reporter.report(target, watch.seen[target]) for target in watch.not_ready()}
    sentences = [
        watch.failed.get(target) or f"{target} is not ready {after}: {reason(report)}"
        for target, report in reports.items()
    ]
    removals = [removal for removal in watch.removals if not removal.gone]
    sentences += [f"{each} is not gone {after}: {'; '.join(each.blockers(api))}" for each in removals]
    sentences += [f"{where} does not answer as it should {after}: {why}" for where, why in watch.unserved.items()]
    lines = [one_line(each, LONGEST_SENTENCE) for each in sentences or [f"The workloads are not ready {after}"]]
    lines += describe(list(reports.values()))
    if removals:
        lines.append("look further:")
    for each in removals:
        within = f" -n {each.namespace}" if each.namespace else ""
        lines.append(f"  {reporter.kubectl}{within} describe {each.kind.lower()} {each.name}")
    return "\n".join(lines)


def reason(report: dict[str, Any]) -> str:
    """Give in a sentence what keeps a workload from being ready."""
    why = report["state"]
    broken = [each for each in report["pods"] if each["broken"]]
    unbound = [each for each in report["claims"] if each["events"]]
    if unbound and not any(each["broken"] and each["scheduled"] for each in report["pods"]):
        claim = unbound[0]
        last = claim["events"][-1]
        where = f"{claim['name']} is not bound (storage class {claim['storage_class']})"
        why = f"PersistentVolumeClaim {where}: {last}"
    elif broken:
        why = f"pod {broken[0]['name']}: {broken[0]['state']}"
        probes = [each for each in broken[0]["events"] if "Unhealthy" in each or "FailedMount" in each]
        if probes and broken[0]["nature"] in ("slow", ""):
            why += f" ({probes[-1]})"
    elif report["pods"]:
        why = f"pod {report['pods'][0]['name']}: {report['pods'][0]['state']}"
        if report["pods"][0]["events"]:
            why += f" ({report['pods'][0]['events'][-1]})"
    elif report["events"]:
        why += f" ({report['events'][-1]})"
    return why


def describe(reports: list[dict[str, Any]]) -> list[str]:
    """Write reports as lines for a user."""
    lines: list[str] = []
    for report in reports:
        lines.append(f"{report['workload']}: {report['state']}")
        lines += [f"  event: {each}" for each in report["events"]]
        for claim in report["claims"]:
            lines.append(f"  claim {claim['name']}: {claim['phase']}, storage class {claim['storage_class']}")
            lines += [f"    event: {each}" for each in claim["events"]]
        for pod in report["pods"]:
            lines.append(f"  pod {pod['name']}: {pod['phase']}, {pod['state']}")
            lines += [f"    event: {each}" for each in pod["events"]]
            for log in pod["logs"]:
                which = "log before the restart" if log["previous"] else "log"
                if log["lines"]:
                    lines.append(f"    end of the {which} of container {log['container']}:")
                    lines += [f"      {line}" for line in log["lines"]]
        lines.append("  look further:")
        lines += [f"    {command}" for command in report["commands"]]
    return lines
