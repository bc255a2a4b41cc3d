#!/usr/bin/python
# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module C(workload_wait)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: workload_wait
short_description: Waits until workloads are ready, and says what is wrong where they are not
version_added: 0.1.0
author: mlops.mlflow maintainers (@mlops-mlflow)
description:
  - Waits for all workloads at once. A Deployment, StatefulSet or DaemonSet is ready when all of its pods are of its
    present specification and ready, and a Job when it is complete.
  - Every O(progress_every) seconds it displays what it waits for.
  - A failure says in its first sentence which workload, which pod and why, and then lists for each pod its state, its
    last events and the end of its log, and the command to look further.
  - It fails before the time is up where waiting is of no use. At once, where a Job failed or was deleted, where an
    image's name is invalid or an image must be there and is not. After 30 seconds, where a container's
    configuration is wrong (such as a Secret that is missing) or no pod may be created. After O(fail_fast_after)
    seconds, where an image cannot be pulled, a volume not be mounted, or a container crashes over and over.
  - A Job that had failed before the wait began is run once more, as a copy of the same name. So it heals in the next
    play once the cause is gone, and can be looked at until then.
  - Pods of earlier specifications, which a rollout is about to replace, do not count for that.
options:
  workloads:
    description: What to wait for. It must be there already, or come within ten seconds.
    type: list
    elements: dict
    default: []
    suboptions:
      kind:
        description: Kind of the workload.
        type: str
        choices: [Deployment, StatefulSet, DaemonSet, Job]
        required: true
      namespace:
        description: Its namespace.
        type: str
        required: true
      name:
        description: Its name.
        type: str
        required: true
  serves:
    description:
      - What must be served after the workloads are ready. It is asked for through the API server's proxy.
    type: list
    elements: dict
    default: []
    suboptions:
      namespace:
        description: Namespace of the Service.
        type: str
        required: true
      service:
        description: The Service as the proxy takes it, C(scheme:name:port) with the port's number or name.
        type: str
        required: true
      path:
        description: Path to ask for.
        type: str
        default: /
      contains:
        description: What the answer must contain; empty for any answer of success.
        type: str
        default: ""
  timeout:
    description: How many seconds all of it may take.
    type: int
    default: 300
  fail_fast_after:
    description:
      - How many seconds a container may crash over and over, or an image not be pulled, before the wait is given up.
      - V(0) waits until O(timeout).
    type: int
    default: 90
  prune_label:
    description:
      - Label of Jobs. After success, Jobs that share its value with one of O(workloads) in the same namespace are
        removed if they are finished or older.
      - Empty removes none.
    type: str
    default: ""
  progress_every:
    description: Seconds between two displays of what is waited for; V(0) displays nothing.
    type: int
    default: 15
  elapsed:
    description: Seconds that were waited before. Set by the action plugin, which calls the module several times.
    type: int
    default: 0
  memory:
    description: What an earlier call returned as RV(memory). Set by the action plugin.
    type: dict
    default: {}
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - mlops.mlflow.api
attributes:
  check_mode:
    description: Returns at once, since nothing was applied that could be waited for.
    support: full
  diff_mode:
    description: Shows nothing.
    support: none
"""

EXAMPLES = r"""
- name: Wait for the server and the Job that migrates its database
  mlops.mlflow.workload_wait:
    workloads:
      - {kind: Job, namespace: mlflow, name: mlflow-migrate-1a2b3c4d}
      - {kind: Deployment, namespace: mlflow, name: mlflow}
    timeout: 300
    prune_label: mlops.mlflow/job

- name: Wait for the certificate of Sealed Secrets
  mlops.mlflow.workload_wait:
    workloads:
      - {kind: Deployment, namespace: sealed-secrets, name: sealed-secrets-controller}
    serves:
      - namespace: sealed-secrets
        service: http:sealed-secrets-controller:http
        path: /v1/cert.pem
        contains: BEGIN CERTIFICATE
"""

RETURN = r"""
ready:
  description: Whether all of it is ready.
  returned: success
  type: bool
waited:
  description: Seconds that the wait took.
  returned: always
  type: int
pruned:
  description: Jobs that were removed, as namespace/name.
  returned: success
  type: list
  elements: str
rerun:
  description: Jobs that had failed before and were run once more, as namespace/name.
  returned: success
  type: list
  elements: str
pending:
  description: What is not ready, each with how far it is.
  returned: when not all of it is ready
  type: list
  elements: str
memory:
  description: What the next call must know. For the action plugin.
  returned: when O(progress_every) was reached
  type: dict
"""

import shlex
import time
from dataclasses import dataclass, field
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.client import (
    APPLY_PATCH,
    FIELD_MANAGER,
    Api,
    ApiError,
    KubeError,
    auth_argument_spec,
    connect,
    quoted,
    unmask,
)
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.workload import (
    PATHS,
    Problem,
    Verdict,
    applied,
    belongs,
    claims,
    condition,
    event_lines,
    judge,
    one_line,
    pod_is_done,
    pod_problem,
    pod_state,
    selector,
)

INTERVAL = 1.0  # seconds between two looks
MISSING_FOR = 10.0  # seconds that a workload may be missing
CONFIG_FOR = 30.0  # seconds that a container's configuration may be wrong, or no pod be created
PODS = 5  # that a report shows of each workload
PROGRESS_WIDTH = 140  # characters that progress tells of a pod
LOG_LINES = 20  # that a report shows of the end of each log
LOG_BYTES = 16384  # at most of these lines


@dataclass(frozen=True)
class Target:
    """A workload that is waited for."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"

    @property
    def path(self) -> str:
        """Path of the object in the API."""
        return f"{PATHS[self.kind].format(namespace=quoted(self.namespace))}/{quoted(self.name)}"


class NeverReadyError(Exception):
    """Waiting is of no use: the message says why, and begins with the target."""

    def __init__(self, target: Target, why: str) -> None:
        super().__init__(why)
        self.target = target


@dataclass
class Seen:
    """What one look at a workload found."""

    verdict: Verdict
    workload: dict[str, Any] = field(default_factory=dict)
    pods: list[dict[str, Any]] = field(default_factory=list)  # of its present specification
    outdated: list[dict[str, Any]] = field(default_factory=list)
    owners: list[dict[str, Any]] = field(default_factory=list)  # what made the pods, where it is not the workload


class Waiter:
    """Waits for workloads.

    :param api: client of the API server
    :param targets: what is waited for
    :param serves: what must be served afterwards, as the option says
    :param fail_fast_after: seconds that a pull or a crash may go on; 0 for ever
    :param memory: what an earlier call remembered: since when a problem has been there, by pod and container
    :param clock: gives the time in seconds since the epoch, C(sleep) waits; for tests
    """

    def __init__(
        self,
        api: Api,
        targets: list[Target],
        serves: list[dict[str, Any]],
        *,
        fail_fast_after: float,
        memory: dict[str, Any],
        clock: Any = time.time,
        sleep: Any = time.sleep,
    ) -> None:
        self._api = api
        self._targets = list(dict.fromkeys(targets))
        self._serves = serves
        self._fail_fast_after = fail_fast_after or float("inf")
        self._clock = clock
        self._sleep = sleep
        self.since: dict[str, float] = {key: float(value) for key, value in (memory.get("since") or {}).items()}
        self._was_there: set[str] = set(memory.get("was_there") or [])
        self.rerun: list[str] = list(memory.get("rerun") or [])
        self.seen: dict[Target, Seen] = {}
        self.unserved: dict[str, str] = {}  # what is not served yet, with why
        self._unreachable = ""

    @property
    def memory(self) -> dict[str, Any]:
        """What the next call must know."""
        return {"since": self.since, "was_there": sorted(self._was_there), "rerun": self.rerun}

    # --- looking ---

    def wait(self, seconds: float) -> bool:
        """Wait for at most so many seconds; says whether all is ready.

        :raises NeverReadyError: one of the targets can not become ready
        :raises KubeError: the API server does not answer, or refuses
        """
        deadline = self._clock() + seconds
        complete: set[Target] = set()
        while True:
            try:
                # All in one look, since a container that crashes over and over is ready for a moment each time. A Job
                # that is complete stays so, and may be removed.
                ready = {target for target in self._targets if target in complete or self._look(target)}
                complete = {target for target in ready if target.kind == "Job"}
                if len(ready) == len(self._targets) and self._all_served():
                    return True
                self._unreachable = ""
            except ApiError as error:
                if error.status < 500 and error.status != 429:
                    raise
                self._unreachable = str(error)
            except KubeError as error:
                # An API server that restarts is no reason to give up before the time is up.
                self._unreachable = str(error)
            left = deadline - self._clock()
            if left <= 0:
                if self._unreachable:
                    raise KubeError(self._unreachable)
                return False
            self._sleep(min(INTERVAL, left))

    def _look(self, target: Target) -> bool:
        """Look at a workload once; says whether it is ready."""
        workload = self._api.find(target.path)
        if workload is None:
            self._missing(target)
            return False
        workload.setdefault("kind", target.kind)
        verdict = judge(workload)
        if verdict.failed and str(target) not in self._was_there:
            self._run_again(target, workload)
            return False
        self._was_there.add(str(target))
        self.since.pop(f"missing {target}", None)
        seen = self.seen[target] = Seen(verdict, workload)
        if verdict.ready:
            return True
        self._find_pods(target, seen)
        if verdict.failed:
            pod = max(seen.pods, key=lambda each: each["metadata"].get("creationTimestamp") or "", default=None)
            why = f"{target} failed, {verdict.failed}"
            problem = pod and pod_problem(pod)
            raise NeverReadyError(target, why + (f"; {_pod_words(pod, problem)}" if pod and problem else ""))
        self._find_hopeless(target, seen)
        return False

    def _missing(self, target: Target) -> None:
        self.seen[target] = Seen(Verdict(False, "it is not there"))
        if str(target) in self._was_there:
            raise NeverReadyError(target, f"{target} was deleted while it was waited for")
        since = self.since.setdefault(f"missing {target}", self._clock())
        if self._clock() - since >= MISSING_FOR:
            raise NeverReadyError(target, f"{target} is not there")

    def _run_again(self, target: Target, job: dict[str, Any]) -> None:
        """Put a copy in the place of a Job that had failed before the wait began."""
        self.seen[target] = Seen(Verdict(False, "it had failed before and is run again"), job)
        self._was_there.add(str(target))
        self.rerun.append(f"{target.namespace}/{target.name}")
        preconditions = {"preconditions": {"uid": job["metadata"].get("uid")}, "propagationPolicy": "Foreground"}
        self._api.request("DELETE", target.path, body=preconditions)
        deadline = self._clock() + CONFIG_FOR
        while self._api.find(target.path) is not None:
            if self._clock() >= deadline:
                raise NeverReadyError(target, f"{target} failed before, and cannot be removed to run again")
            self._sleep(INTERVAL / 4)
        # Applied just as it was, so that the next play's apply finds nothing to change.
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        copy = {"apiVersion": "batch/v1", "kind": "Job", **_copy(target, job)}
        self._api.json("PATCH", target.path, query=query, body=copy, content_type=APPLY_PATCH)

    def _list(self, path: str, **query: Any) -> list[dict[str, Any]]:
        return self._api.get(path, **query).get("items") or []

    def _find_pods(self, target: Target, seen: Seen) -> None:
        """Find a workload's pods, and tell those of its present specification from older ones."""
        labels, namespace = selector(seen.workload), quoted(target.namespace)
        if not labels:
            return
        uid = seen.workload["metadata"].get("uid", "")
        pods = self._list(f"/api/v1/namespaces/{namespace}/pods", labelSelector=labels)
        present: set[str] = set()
        if target.kind == "Deployment":
            revision = "deployment.kubernetes.io/revision"
            sets = self._list(f"/apis/apps/v1/namespaces/{namespace}/replicasets", labelSelector=labels)
            sets = [each for each in sets if belongs(each, {uid})]

            def number(thing: dict[str, Any]) -> str:
                return (thing["metadata"].get("annotations") or {}).get(revision, "")

            seen.owners = [each for each in sets if number(each) == number(seen.workload)]
            present = {each["metadata"]["uid"] for each in seen.owners}
            mine = {each["metadata"]["uid"] for each in sets}
        else:
            mine = {uid}
        update = (seen.workload.get("status") or {}).get("updateRevision")
        for pod in pods:
            if not belongs(pod, mine):
                continue
            old = target.kind == "Deployment" and not belongs(pod, present)
            if target.kind == "StatefulSet" and update:
                old = (pod["metadata"].get("labels") or {}).get("controller-revision-hash") != update
            (seen.outdated if old else seen.pods).append(pod)

    def _find_hopeless(self, target: Target, seen: Seen) -> None:
        """Give up where a problem has lasted for longer than its kind may."""
        now = self._clock()
        found: list[tuple[str, Problem, str]] = []
        for pod in seen.pods:
            problem = pod_problem(pod) or self._creation_problem(target, pod)
            if problem is not None:
                key = f"{target} {pod['metadata'].get('uid')} {problem.container} {problem.nature}"
                found.append((key, problem, _pod_words(pod, problem)))
        if not seen.pods:
            refused = self._refusal(target, seen)
            if refused:
                found.append((f"{target} refused", Problem("config", refused), f"no pod is created: {refused}"))
        for pod in seen.outdated:
            problem = pod_problem(pod)
            in_order = seen.workload["spec"].get("podManagementPolicy", "OrderedReady") == "OrderedReady"
            if problem and problem.nature not in ("slow", "schedule") and target.kind == "StatefulSet" and in_order:
                # https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#forced-rollback
                name = pod["metadata"]["name"]
                words = (
                    f"{_pod_words(pod, problem)}; it is of an earlier specification and Kubernetes does not replace "
                    f"it while it is broken: delete it with 'kubectl -n {target.namespace} delete pod {name}'"
                )
                key = f"{target} {pod['metadata'].get('uid')} outdated"
                found.append((key, Problem("config", words), words))
        keys = {key for key, _problem, _words in found}
        self.since = {
            key: since for key, since in self.since.items() if key in keys or not key.startswith(f"{target} ")
        }
        patience = {
            "hopeless": 0.0,
            "config": min(CONFIG_FOR, self._fail_fast_after),
            "pull": self._fail_fast_after,
            "mount": self._fail_fast_after,
            "crash": float("inf") if target.kind == "Job" else self._fail_fast_after,  # a Job has a limit of its own
        }
        for key, problem, words in found:
            since = self.since.setdefault(key, now)
            if problem.acute and now - since >= patience.get(problem.nature, float("inf")):
                raise NeverReadyError(target, f"{target} does not become ready: {words}")

    def _creation_problem(self, target: Target, pod: dict[str, Any]) -> Problem | None:
        """Look into the events of a pod whose containers have been in creation for long: volumes show only there."""
        if pod_is_done(pod) or condition(pod, "PodScheduled").get("status") != "True":
            return None
        key = f"created {target} {pod['metadata'].get('uid')}"
        since = self.since.setdefault(key, self._clock())
        if self._clock() - since < MISSING_FOR:
            return None
        for event in self._events(target.namespace, pod):
            message = one_line(event.get("message"))
            if event.get("reason") == "FailedMount" and "not found" in message:
                return Problem("mount", f"a volume cannot be mounted, FailedMount: {message}")
        return None

    def _refusal(self, target: Target, seen: Seen) -> str:
        """Say why no pod may be created, by Pod Security, quota or an admission webhook; empty where one may."""
        failure = condition(seen.workload, "ReplicaFailure")
        if failure.get("status") == "True":
            return one_line(failure.get("message"))
        if target.kind == "Deployment":
            return ""
        for event in self._events(target.namespace, seen.workload):
            if event.get("reason") == "FailedCreate":
                return one_line(event.get("message"))
        return ""

    def _events(self, namespace: str, thing: dict[str, Any]) -> list[dict[str, Any]]:
        """Give an object's events; none where the user may not read them."""
        fields = f"involvedObject.uid={thing['metadata'].get('uid', '')}"
        try:
            return self._list(f"/api/v1/namespaces/{quoted(namespace)}/events", fieldSelector=fields)
        except ApiError:
            return []

    def _all_served(self) -> bool:
        """Ask once for all that must be served."""
        self.unserved = {}
        for each in self._serves:
            where = f"Service {each['namespace']}/{each['service']}"
            path = "/" + each["path"].lstrip("/")
            url = f"/api/v1/namespaces/{quoted(each['namespace'])}/services/{each['service']}/proxy{path}"
            try:
                answer = self._api.request("GET", url, accept="*/*").decode("utf-8", "replace")
            except KubeError as error:
                self.unserved[f"{where}{path}"] = str(error)
                continue
            if each["contains"] not in answer:
                self.unserved[f"{where}{path}"] = f"the answer does not contain '{each['contains']}'"
        return not self.unserved

    # --- telling ---

    def pending(self) -> list[str]:
        """Say of each target that is not ready how far it is."""
        lines = []
        for target, seen in self.seen.items():
            if seen.verdict.ready:
                continue
            words = ""
            for pod in seen.pods:
                if not pod_is_done(pod):
                    problem = pod_problem(pod)
                    words = f"; {one_line(_pod_words(pod, problem), PROGRESS_WIDTH)}"
                    break
            lines.append(f"{target} ({seen.verdict.note}{words})")
        lines.extend(f"{where} ({one_line(why, PROGRESS_WIDTH)})" for where, why in self.unserved.items())
        if self._unreachable:
            lines.append(self._unreachable)
        return lines

    def sentence(self, reports: list[dict[str, Any]], seconds: int) -> str:
        """Say in a sentence what keeps the first target that is not ready after so many seconds."""
        for report in reports:
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
            return f"{report['workload']} is not ready after {seconds} s: {why}"
        for where, why in self.unserved.items():
            return f"{where} does not answer as it should after {seconds} s: {why}"
        return f"The workloads are not ready after {seconds} s"

    def reports(self) -> list[dict[str, Any]]:
        """Tell all that helps of each target that is not ready."""
        return [self._report(target, seen) for target, seen in self.seen.items() if not seen.verdict.ready]

    def _report(self, target: Target, seen: Seen) -> dict[str, Any]:
        namespace = target.namespace
        sick = [pod for pod in [*seen.pods, *seen.outdated] if not pod_is_done(pod)]
        sick.sort(key=lambda pod: pod_problem(pod) is None)
        if target.kind == "Job":  # the last try tells most
            sick.sort(key=lambda pod: pod["metadata"].get("creationTimestamp") or "", reverse=True)
        pods = [self._pod_report(namespace, pod) for pod in sick[:PODS]]
        claim_names = list(dict.fromkeys(name for pod in sick for name in claims(pod)))
        events = [event for thing in [seen.workload, *seen.owners] if thing for event in self._events(namespace, thing)]
        kubectl = f"{self._kubectl()} -n {namespace}"
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

    def _kubectl(self) -> str:
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
            "events": event_lines(self._events(namespace, pod)),
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
            "events": event_lines(self._events(namespace, claim)),
        }

    # --- tidying ---

    def prune(self, label: str) -> list[str]:
        """Remove the Jobs that those which were waited for supersede, and name them."""
        pruned = []
        jobs = {target: seen.workload for target, seen in self.seen.items() if target.kind == "Job"}
        kept = {(target.namespace, target.name) for target in jobs}
        for target, job in jobs.items():
            value = (job["metadata"].get("labels") or {}).get(label)
            if not value:
                continue
            folder = PATHS["Job"].format(namespace=quoted(target.namespace))
            for other in self._list(folder, labelSelector=f"{label}={value}"):
                name = other["metadata"]["name"]
                finished = any(condition(other, each).get("status") == "True" for each in ("Complete", "Failed"))
                older = other["metadata"]["creationTimestamp"] <= job["metadata"]["creationTimestamp"]
                going = other["metadata"].get("deletionTimestamp")
                if (target.namespace, name) in kept or going or not (finished or older):
                    continue
                try:
                    self._api.request("DELETE", f"{folder}/{quoted(name)}", query={"propagationPolicy": "Background"})
                except ApiError as error:
                    if error.status != 404:
                        raise
                    continue
                pruned.append(f"{target.namespace}/{name}")
        return pruned


def _copy(target: Target, job: dict[str, Any]) -> dict[str, Any]:
    """Give metadata and spec of a new Job like one that ran."""
    ours = applied(job, FIELD_MANAGER) or job
    metadata, spec = ours.get("metadata") or {}, dict(ours["spec"])
    # The API server gives each Job a selector of its own, and writes it into the labels of the pods.
    spec.pop("selector", None)
    template = dict(spec["template"])
    if "metadata" in template:
        labels = template["metadata"].get("labels") or {}
        template["metadata"] = {**template["metadata"], "labels": {k: v for k, v in labels.items() if not _theirs(k)}}
    kept = {key: metadata[key] for key in ("labels", "annotations") if metadata.get(key)}
    kept = {key: {k: v for k, v in values.items() if not _theirs(k)} for key, values in kept.items()}
    return {
        "metadata": {"name": target.name, "namespace": target.namespace, **kept},
        "spec": {**spec, "template": template},
    }


def _theirs(label: str) -> bool:
    """Whether a label is one that Kubernetes gives the pods of a Job."""
    return label.removeprefix("batch.kubernetes.io/") in ("controller-uid", "job-name")


def _pod_words(pod: dict[str, Any], problem: Problem | None) -> str:
    return f"pod {pod['metadata']['name']}: {problem.text if problem else pod_state(pod)}"


def describe(reports: list[dict[str, Any]]) -> str:
    """Write reports as lines for a person."""
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
    return "\n".join(lines)


ARGUMENT_SPEC: dict[str, Any] = {
    "workloads": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "kind": {"type": "str", "required": True, "choices": list(PATHS)},
            "namespace": {"type": "str", "required": True},
            "name": {"type": "str", "required": True},
        },
    },
    "serves": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "namespace": {"type": "str", "required": True},
            "service": {"type": "str", "required": True},
            "path": {"type": "str", "default": "/"},
            "contains": {"type": "str", "default": ""},
        },
    },
    "timeout": {"type": "int", "default": 300},
    "fail_fast_after": {"type": "int", "default": 90},
    "prune_label": {"type": "str", "default": ""},
    "progress_every": {"type": "int", "default": 15},
    "elapsed": {"type": "int", "default": 0},
    "memory": {"type": "dict", "default": {}},
}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec={**auth_argument_spec(), **ARGUMENT_SPEC}, supports_check_mode=True)
    unmask(module)
    params = module.params
    for name in ("timeout", "fail_fast_after", "progress_every"):
        if params[name] < 0:
            module.fail_json(msg=f"{name} is {params[name]}: a number of seconds, 0 or more")
    if module.check_mode or not (params["workloads"] or params["serves"]):
        module.exit_json(changed=False, ready=not module.check_mode, waited=0, pruned=[], rerun=[])
    begun = time.monotonic()

    def waited() -> int:
        return params["elapsed"] + round(time.monotonic() - begun)

    waiter = None
    try:
        api = connect(params)
        targets = [Target(each["kind"], each["namespace"], each["name"]) for each in params["workloads"]]
        waiter = Waiter(
            api, targets, params["serves"], fail_fast_after=params["fail_fast_after"], memory=params["memory"]
        )
        last = not params["progress_every"] or params["timeout"] <= params["progress_every"]
        ready = waiter.wait(params["timeout"] if last else params["progress_every"])
        if ready:
            pruned = waiter.prune(params["prune_label"]) if params["prune_label"] else []
            module.exit_json(
                changed=bool(pruned or waiter.rerun), ready=True, waited=waited(), pruned=pruned, rerun=waiter.rerun
            )
        if not last:
            module.exit_json(
                changed=False, ready=False, waited=waited(), pending=waiter.pending(), memory=waiter.memory
            )
        reports = waiter.reports()
        sentence = waiter.sentence(reports, params["elapsed"] + params["timeout"])
    except NeverReadyError as error:
        # The detail of the culprit comes first, and what waits for it after.
        culprit, sentence = str(error.target), str(error)
        reports = sorted(waiter.reports(), key=lambda each: each["workload"] != culprit) if waiter else []
    except KubeError as error:
        module.fail_json(msg=f"The workloads cannot be waited for: {error}", waited=waited())
    module.fail_json(
        msg=one_line(sentence, 1000) + "\n" + describe(reports),
        waited=waited(),
    )


if __name__ == "__main__":
    main()
