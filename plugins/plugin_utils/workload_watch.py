# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Watches workloads until they are ready or have failed, and objects until they are gone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.client import (
    APPLY_PATCH,
    FIELD_MANAGER,
    Api,
    ApiError,
    KubeError,
    quoted,
)
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.workload import (
    PATHS,
    Problem,
    Verdict,
    applied,
    belongs,
    condition,
    judge,
    one_line,
    pod_is_done,
    pod_problem,
    pod_state,
    selector,
)
from ansible_collections.mlops.mlflow.plugins.plugin_utils.removal import Removal

INTERVAL = 1.0  # seconds between two looks
MISSING_FOR = 10.0  # seconds that a workload may be missing
CONFIG_FOR = 30.0  # seconds that a container's configuration may be wrong, or no pod be created
BLOCKED_FOR = 15.0  # seconds after which what only waits for others, while one has failed, is given up
PROGRESS_EVERY = 15.0  # seconds between two lines of progress
PROGRESS_WIDTH = 140  # characters that progress tells of a pod


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
    """Waiting for a workload is of no use: the message says why."""


@dataclass
class Seen:
    """What one look at a workload found."""

    verdict: Verdict
    workload: dict[str, Any] = field(default_factory=dict)
    pods: list[dict[str, Any]] = field(default_factory=list)  # of its present specification
    outdated: list[dict[str, Any]] = field(default_factory=list)
    owners: list[dict[str, Any]] = field(default_factory=list)  # what made the pods, where it is not the workload

    @property
    def waiting(self) -> list[dict[str, Any]]:
        """The pods of its present specification that are not ready."""
        return [pod for pod in self.pods if not pod_is_done(pod)]


class Watch:
    """Watches workloads.

    Args:
        api: Client of the API server.
        targets: What is waited for.
        serves: What must be served once all of them are ready, as the option of M(mlops.mlflow.workload_wait) says.
        removals: What must be gone.
        fail_fast_after: Seconds that an image may not be pulled, or a container crash; 0 for ever.
        rerun: Whether Jobs that had failed before the wait began are run once more.
        prune_label: Label of Jobs: those that share its value with one that is waited for are removed; empty for none.
        clock: Gives the time in seconds, and C(sleep) waits; for tests.

    Attributes:
        seen: What the last look at each workload found.
        failed: Why a workload will not become ready, in a sentence.
        rerun: Jobs that were run once more, as namespace/name.
        pruned: Jobs that were removed, as namespace/name.
        unserved: What is not served yet, with why.
        removals: What must be gone.
        waited: Seconds that the wait took up to the last look.
    """

    def __init__(
        self,
        api: Api,
        targets: Iterable[Target],
        serves: list[dict[str, Any]],
        removals: Iterable[Removal] = (),
        *,
        fail_fast_after: float,
        rerun: bool = True,
        prune_label: str = "",
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Any] = time.sleep,
    ) -> None:
        self._api = api
        self._targets = list(dict.fromkeys(targets))
        self._serves = serves
        self.removals = list(removals)
        self._fail_fast_after = fail_fast_after or float("inf")
        self._rerun = rerun
        self._prune_label = prune_label
        self._clock = clock
        self._sleep = sleep
        self._since: dict[str, float] = {}  # when a problem was first seen, by workload, pod and container
        self._was_there: set[Target] = set()
        self._complete: set[Target] = set()  # Jobs, which stay complete and may be removed
        self._unreachable = ""
        self.rerun: list[str] = []
        self.pruned: list[str] = []
        self.seen: dict[Target, Seen] = {}
        self.failed: dict[Target, str] = {}
        self.unserved: dict[str, str] = {}
        self.waited = 0.0

    # --- looking

    def wait(
        self, seconds: float, progress: Callable[[float, list[str]], None] = lambda _elapsed, _lines: None
    ) -> bool:
        """Wait until everything is ready or gone, or nothing is left that could become so.

        Args:
            seconds: How long at most.
            progress: Called every 15 seconds with the seconds waited and a line for each thing that is waited for.

        Returns:
            Whether all of it is ready or gone.

        Raises:
            KubeError: The API server refuses, or does not answer up to the end.
        """
        begun = self._clock()
        reported = 0.0
        while True:
            try:
                if self._look_at_all():
                    return True
                self._unreachable = ""
                if self.failed and self._only_blocked():
                    self.waited = self._clock() - begun
                    return False
            except ApiError as error:
                if error.status < 500 and error.status != 429:
                    raise
                self._unreachable = str(error)
            except KubeError as error:
                # An API server that restarts is no reason to give up before the time is up.
                self._unreachable = str(error)
            self.waited = self._clock() - begun
            if self.waited >= seconds:
                if self._unreachable:
                    raise KubeError(self._unreachable)
                return False
            if self.waited - reported >= PROGRESS_EVERY:
                reported = self.waited
                progress(self.waited, self.pending())
            self._sleep(min(INTERVAL, seconds - self.waited))

    def _look_at_all(self) -> bool:
        """Look at everything once; says whether all of it is ready or gone."""
        # All in one look, since a container that crashes over and over is ready for a moment each time.
        ready = [self._is_ready(target) for target in self._targets]
        gone = [removal.look(self._api) for removal in self.removals]
        return all(ready) and all(gone) and self._all_served()

    def _is_ready(self, target: Target) -> bool:
        if target in self._complete:
            return True
        try:
            ready = self._look(target)
        except NeverReadyError as error:
            self.failed[target] = str(error)
            return False
        # One that heals while others are waited for has not failed.
        self.failed.pop(target, None)
        if ready and target.kind == "Job":
            self._complete.add(target)
        return ready

    def _only_blocked(self) -> bool:
        """Whether all that is not ready has failed, or only waits for others."""
        if any(not removal.gone for removal in self.removals):
            return False
        # What is ready does not answer as long as its Job has failed: postgres, with Job postgres-provision-1a2b.
        ready = {
            target.name
            for target, seen in self.seen.items()
            if seen.verdict.ready and not any(each.name.startswith(f"{target.name}-") for each in self.failed)
        }
        now = self._clock()
        blocked = True
        for target, seen in self.seen.items():
            if seen.verdict.ready or target in self.failed:
                continue
            key = f"blocked {target}"
            names = {problem.dependency if problem else "" for problem in map(pod_problem, seen.waiting)}
            # A pod that waits for what is ready by now goes on in a moment.
            if not names or "" in names or names & ready:
                self._since.pop(key, None)
                blocked = False
            elif now - self._since.setdefault(key, now) < BLOCKED_FOR:
                blocked = False
        return blocked

    def _look(self, target: Target) -> bool:
        """Look at a workload once; says whether it is ready."""
        workload = self._api.find(target.path)
        if workload is None:
            self._missing(target)
            return False
        workload.setdefault("kind", target.kind)
        verdict = judge(workload)
        if target not in self._was_there:
            others = self._others(target, workload)
            again = "it had failed before" if verdict.failed and self._rerun and target.kind == "Job" else ""
            if any(_created(each) > _created(workload) for each in others):
                again = "another one began after it"
            if again:
                self._run_again(target, workload, again)
            # Even where this one fails: since it began, that another one is complete says nothing.
            self._prune(target, others)
            if again:
                return False
        self._was_there.add(target)
        self._since.pop(f"missing {target}", None)
        seen = self.seen[target] = Seen(verdict, workload)
        if verdict.ready:
            return True
        self._find_pods(target, seen)
        if target.kind == "Certificate":
            self._find_issue(target, seen)
        if verdict.failed:
            pod = max(seen.pods, key=lambda each: each["metadata"].get("creationTimestamp") or "", default=None)
            why = f"{target} failed, {verdict.failed}"
            problem = pod and pod_problem(pod)
            raise NeverReadyError(why + (f"; {_pod_words(pod, problem)}" if pod and problem else ""))
        self._find_hopeless(target, seen)
        return False

    def _missing(self, target: Target) -> None:
        self.seen[target] = Seen(Verdict(False, "it is not there"))
        if target in self._was_there:
            raise NeverReadyError(f"{target} was deleted while it was waited for")
        since = self._since.setdefault(f"missing {target}", self._clock())
        if self._clock() - since >= MISSING_FOR:
            raise NeverReadyError(f"{target} is not there")

    def _run_again(self, target: Target, job: dict[str, Any], why: str) -> None:
        """Put a copy in the place of a Job that began before the wait."""
        self.seen[target] = Seen(Verdict(False, f"{why} and is run again"), job)
        self._was_there.add(target)
        self.rerun.append(f"{target.namespace}/{target.name}")
        preconditions = {"preconditions": {"uid": job["metadata"].get("uid")}, "propagationPolicy": "Foreground"}
        self._api.request("DELETE", target.path, body=preconditions)
        deadline = self._clock() + CONFIG_FOR
        while self._api.find(target.path) is not None:
            if self._clock() >= deadline:
                raise NeverReadyError(f"{target} cannot be removed to run again, {why}")
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

    def _find_issue(self, target: Target, seen: Seen) -> None:
        """Say of a Certificate what its issuer or the challenges of its hosts wait for, where that can be read."""
        spec, namespace = seen.workload["spec"], quoted(target.namespace)
        issuer = spec.get("issuerRef") or {}
        try:
            challenges = self._list(f"/apis/acme.cert-manager.io/v1/namespaces/{namespace}/challenges")
            place = f"namespaces/{namespace}/issuers" if issuer.get("kind", "Issuer") == "Issuer" else "clusterissuers"
            found = self._api.find(f"/apis/cert-manager.io/v1/{place}/{quoted(issuer.get('name', ''))}")
        except ApiError:
            return
        words = [
            f"challenge of {each['spec']['dnsName']}: {each['status']['reason']}"
            for each in challenges
            if each["spec"].get("dnsName") in (spec.get("dnsNames") or []) and (each.get("status") or {}).get("reason")
        ]
        ready = condition(found or {}, "Ready")
        name = f"{issuer.get('kind', 'Issuer')} {issuer.get('name', '')}"
        if found is None:
            words.append(f"{name} is not there")
        elif ready.get("status") != "True":
            words.append(f"{name} is not ready: {ready.get('message') or 'cert-manager has not looked at it yet'}")
        if words:
            seen.verdict.note = "; ".join([seen.verdict.note, *map(one_line, words)])

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
        self._since = {
            key: since for key, since in self._since.items() if key in keys or not key.startswith(f"{target} ")
        }
        patience = {
            "hopeless": 0.0,
            "config": min(CONFIG_FOR, self._fail_fast_after),
            "pull": self._fail_fast_after,
            "mount": self._fail_fast_after,
            "crash": float("inf") if target.kind == "Job" else self._fail_fast_after,  # a Job has a limit of its own
        }
        for key, problem, words in found:
            since = self._since.setdefault(key, now)
            if problem.acute and now - since >= patience.get(problem.nature, float("inf")):
                raise NeverReadyError(f"{target} does not become ready: {words}")

    def _creation_problem(self, target: Target, pod: dict[str, Any]) -> Problem | None:
        """Look into the events of a pod whose containers have been in creation for long: volumes show only there."""
        if pod_is_done(pod) or condition(pod, "PodScheduled").get("status") != "True":
            return None
        key = f"created {target} {pod['metadata'].get('uid')}"
        since = self._since.setdefault(key, self._clock())
        if self._clock() - since < MISSING_FOR:
            return None
        for event in events_of(self._api, target.namespace, pod):
            message = one_line(event.get("message"))
            if event.get("reason") == "FailedMount" and "not found" in message:
                nature = "slow" if self._is_issued(target.namespace, message) else "mount"
                return Problem(nature, f"a volume cannot be mounted, FailedMount: {message}")
        return None

    def _is_issued(self, namespace: str, message: str) -> bool:
        """Whether a message is about the Secret of a Certificate, which cert-manager may still make.

        Once the Secret is there, the kubelet tries to mount it again within two minutes.
        """
        try:
            certificates = self._list(PATHS["Certificate"].format(namespace=quoted(namespace)))
        except ApiError:
            return False
        return any(
            f'"{each["spec"].get("secretName")}"' in message and not judge({"kind": "Certificate", **each}).failed
            for each in certificates
        )

    def _refusal(self, target: Target, seen: Seen) -> str:
        """Say why no pod may be created, by Pod Security, quota or an admission webhook; empty where one may."""
        failure = condition(seen.workload, "ReplicaFailure")
        if failure.get("status") == "True":
            return one_line(failure.get("message"))
        if target.kind == "Deployment":
            return ""
        for event in events_of(self._api, target.namespace, seen.workload):
            if event.get("reason") == "FailedCreate":
                return one_line(event.get("message"))
        return ""

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

    # --- words

    def pending(self) -> list[str]:
        """Say of everything that is not ready how far it is."""
        lines = []
        for target, seen in self.seen.items():
            if seen.verdict.ready:
                continue
            if target in self.failed:
                lines.append(f"{target} (failed)")
                continue
            words = ""
            for pod in seen.waiting[:1]:
                words = f"; {one_line(_pod_words(pod, pod_problem(pod)), PROGRESS_WIDTH)}"
            lines.append(f"{target} ({seen.verdict.note}{words})")
        lines += [f"{removal} to be gone" for removal in self.removals if not removal.gone]
        lines += [f"{where} ({one_line(why, PROGRESS_WIDTH)})" for where, why in self.unserved.items()]
        if self._unreachable:
            lines.append(self._unreachable)
        return lines

    def not_ready(self) -> list[Target]:
        """Give what is not ready, what has failed first."""
        left = [target for target, seen in self.seen.items() if not seen.verdict.ready]
        return sorted(left, key=lambda target: target not in self.failed)

    # --- tidying

    def _others(self, target: Target, job: dict[str, Any]) -> list[dict[str, Any]]:
        """Find the Jobs that share the value of the label with a Job, but for those that are waited for."""
        value = (job["metadata"].get("labels") or {}).get(self._prune_label)
        if target.kind != "Job" or not value:
            return []
        kept = {each.name for each in self._targets if (each.kind, each.namespace) == ("Job", target.namespace)}
        folder = PATHS["Job"].format(namespace=quoted(target.namespace))
        found = self._list(folder, labelSelector=f"{self._prune_label}={value}")
        return [each for each in found if each["metadata"]["name"] not in kept]

    def _prune(self, target: Target, others: list[dict[str, Any]]) -> None:
        """Remove Jobs beside one that is waited for."""
        for metadata in (other["metadata"] for other in others):
            if metadata.get("deletionTimestamp"):
                continue
            other = Target("Job", target.namespace, metadata["name"])
            if self._api.delete(other.path, query={"propagationPolicy": "Background"}):
                self.pruned.append(f"{other.namespace}/{other.name}")


def _created(thing: dict[str, Any]) -> str:
    return thing["metadata"]["creationTimestamp"]


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


def events_of(api: Api, namespace: str, thing: dict[str, Any]) -> list[dict[str, Any]]:
    """Give an object's events; none where the user may not read them."""
    fields = f"involvedObject.uid={thing['metadata'].get('uid', '')}"
    try:
        return api.get(f"/api/v1/namespaces/{quoted(namespace)}/events", fieldSelector=fields).get("items") or []
    except ApiError:
        return []
