# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of watching workloads, and of what is reported of them."""

from __future__ import annotations

import re
from typing import Any

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.client import Api, KubeError, Settings
from ansible_collections.mlops.mlflow.plugins.plugin_utils.removal import Removal
from ansible_collections.mlops.mlflow.plugins.plugin_utils.workload_report import Reporter, explain
from ansible_collections.mlops.mlflow.plugins.plugin_utils.workload_watch import Target, Watch

APP = "/apis/apps/v1/namespaces/ns"
CORE = "/api/v1/namespaces/ns"
JOBS = "/apis/batch/v1/namespaces/ns/jobs"
LABELS = {"app": "x"}
REVISION = "deployment.kubernetes.io/revision"
READY = {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1, "readyReplicas": 1}
PULL = {"waiting": {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "nope"'}}
CRASH = {"waiting": {"reason": "CrashLoopBackOff"}}


class World:
    """A fake cluster with time of its own, and shorthand for what is in it."""

    def __init__(self, cluster: Any) -> None:
        self.cluster = cluster
        self.now = 1000.0
        self.at: dict[float, Any] = {}  # what happens when

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        for when in [when for when in self.at if when <= self.now]:
            self.at.pop(when)()

    @property
    def api(self) -> Api:
        return Api(Settings(server=self.cluster.url, source="test", kubeconfig="/my config", context="kind"))

    def watch(
        self, *targets: Target, serves: Any = (), gone: Any = (), fail_fast_after: int = 90, **more: Any
    ) -> Watch:
        how = {"clock": self.clock, "sleep": self.sleep, "fail_fast_after": fail_fast_after}
        return Watch(self.api, targets, list(serves), gone, **how, **more)

    def failure(self, *targets: Target, seconds: float = 300, **more: Any) -> str:
        """Wait in vain, and give why the first of the workloads has failed."""
        watch = self.watch(*targets, **more)
        assert watch.wait(seconds) is False
        return watch.failed[targets[0]]

    def deployment(self, status: dict[str, Any] | None = None, revision: str = "2") -> Target:
        self.cluster.store(
            f"{APP}/deployments/web",
            {
                "kind": "Deployment",
                "metadata": {"generation": 1, "annotations": {REVISION: revision}},
                "spec": {"replicas": 1, "selector": {"matchLabels": LABELS}},
                "status": status or {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1},
            },
        )
        for each in ("1", "2"):
            owner = [{"uid": f"uid-{APP}/deployments/web"}]
            metadata = {"labels": LABELS, "annotations": {REVISION: each}, "ownerReferences": owner}
            self.cluster.store(f"{APP}/replicasets/web-{each}", {"metadata": metadata, "spec": {}})
        return Target("Deployment", "ns", "web")

    def stateful_set(self, status: dict[str, Any], **spec: Any) -> Target:
        self.cluster.store(
            f"{APP}/statefulsets/db",
            {
                "kind": "StatefulSet",
                "metadata": {"generation": 1},
                "spec": {"replicas": 1, "selector": {"matchLabels": LABELS}, **spec},
                "status": {"observedGeneration": 1, **status},
            },
        )
        return Target("StatefulSet", "ns", "db")

    def job(self, name: str, status: dict[str, Any], created: str = "2026-01-01T00:00:00Z") -> Target:
        self.cluster.store(
            f"{JOBS}/{name}",
            {
                "kind": "Job",
                "metadata": {"labels": {"mlops.mlflow/job": "provision"}, "creationTimestamp": created},
                "spec": {"selector": {"matchLabels": LABELS}},
                "status": status,
            },
        )
        return Target("Job", "ns", name)

    def pod(self, name: str, owner: str, state: dict[str, Any], **more: Any) -> dict[str, Any]:
        container = {"name": "c", "ready": False, "restartCount": 0, "state": state, **more.pop("container", {})}
        conditions = [{"type": "PodScheduled", "status": "True"}, *more.pop("conditions", [])]
        labels = {**LABELS, **more.pop("labels", {})}
        thing = {
            "metadata": {"labels": labels, "ownerReferences": [{"uid": f"uid-{owner}"}], **more.pop("metadata", {})},
            "spec": more.pop("spec", {}),
            "status": {"phase": "Pending", "conditions": conditions, "containerStatuses": [container]},
        }
        return self.cluster.store(f"{CORE}/pods/{name}", thing)

    def event(self, of: str, reason: str, message: str) -> None:
        number = len(self.cluster.objects)
        body = {"involvedObject": {"uid": f"uid-{of}"}, "type": "Warning", "reason": reason, "message": message}
        self.cluster.store(f"{CORE}/events/e{number}", body)


@pytest.fixture
def world(cluster) -> World:
    """Give a world without workloads."""
    return World(cluster)


# --- waiting ----------------------------------------------------------------------------------------------------------


def test_all_ready_takes_one_look_and_no_time(world):
    targets = [world.deployment(READY), world.job("j", {"conditions": [{"type": "Complete", "status": "True"}]})]
    assert world.watch(*targets, targets[0]).wait(300) is True
    assert world.now == 1000
    assert world.cluster.requests == [f"GET {each.path}" for each in targets]


def test_waits_until_it_is_ready(world):
    target = world.deployment()
    world.at[1007.0] = lambda: world.deployment(READY)
    assert world.watch(target).wait(300) is True
    assert world.now == 1007


def test_all_must_be_ready_at_once(world):
    flapping, other = world.deployment(READY), world.stateful_set({"currentRevision": "a", "updateRevision": "a"})
    world.at[1002.0] = world.deployment
    ready = {"currentRevision": "a", "updateRevision": "a", "updatedReplicas": 1, "readyReplicas": 1}
    world.at[1004.0] = lambda: world.stateful_set(ready)
    assert world.watch(flapping, other).wait(20) is False


def test_a_complete_job_may_be_removed_while_others_are_waited_for(world):
    job, other = world.job("j", {"conditions": [{"type": "Complete", "status": "True"}]}), world.deployment()
    world.at[1002.0] = lambda: world.cluster.objects.pop(job.path)
    world.at[1004.0] = lambda: world.deployment(READY)
    assert world.watch(job, other).wait(20) is True


def test_stops_in_time(world):
    target = world.deployment()
    watch = world.watch(target)
    assert watch.wait(10) is False
    assert world.now == 1010
    assert watch.pending() == ["Deployment ns/web (0 of 1 pods ready)"]


def test_what_is_missing_may_come_within_ten_seconds(world):
    world.at[1005.0] = lambda: world.deployment(READY)
    assert world.watch(Target("Deployment", "ns", "web")).wait(300) is True


def test_what_stays_missing_fails(world):
    assert re.search(r"^Deployment ns/web is not there$", world.failure(Target("Deployment", "ns", "web"), seconds=300))
    assert world.now == 1010


def test_a_job_that_is_deleted_fails_at_once(world):
    target = world.job("j", {})
    world.at[1002.0] = lambda: world.cluster.objects.pop(f"{JOBS}/j")
    assert world.failure(target) == "Job ns/j was deleted while it was waited for"
    assert world.now == 1002


def test_a_failed_job_fails_at_once_and_names_its_last_pod(world):
    condition = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "it has"}
    target = world.job("j", {})
    world.at[1001.0] = lambda: world.job("j", {"conditions": [condition]})
    for number in range(3):
        ended = {"terminated": {"exitCode": number + 1, "reason": "Error"}}
        world.pod(f"j-{number}", f"{JOBS}/j", ended, metadata={"creationTimestamp": f"2026-01-01T00:00:0{number}Z"})
    failure = world.failure(target)
    assert failure == ("Job ns/j failed, BackoffLimitExceeded: it has; pod j-2: container c crashed (exit code 3)")
    assert world.now == 1001


def test_a_job_that_had_failed_before_is_run_once_more(world):
    failed = {"conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}]}
    target = world.job("j", failed)
    job = world.cluster.objects[f"{JOBS}/j"]
    labels = {"app": "x", "controller-uid": "1", "batch.kubernetes.io/job-name": "j"}
    job["spec"]["template"] = {"metadata": {"labels": labels}, "spec": {"containers": []}}
    job["metadata"]["annotations"] = {"a": "b"}
    world.at[1003.0] = lambda: world.cluster.objects[f"{JOBS}/j"].update(status=failed)
    assert re.search(r"^Job ns/j failed, BackoffLimitExceeded$", world.failure(target, seconds=300))
    copy = world.cluster.objects[f"{JOBS}/j"]
    assert copy is not job
    assert copy["spec"] == {"template": {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": []}}}
    assert copy["metadata"]["labels"] == {"mlops.mlflow/job": "provision"}
    assert copy["metadata"]["annotations"] == {"a": "b"}
    assert len(world.cluster.writes()) == 2


def test_a_job_that_had_failed_before_may_stay_as_it_is(world):
    condition = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}
    target = world.job("j", {"conditions": [condition]})
    assert world.failure(target, rerun=False) == "Job ns/j failed, BackoffLimitExceeded"
    assert (world.now, world.cluster.writes()) == (1000, [])


def test_an_api_server_that_restarts_is_waited_for(world):
    target = world.deployment(READY)
    world.cluster.answers[f"GET {target.path}"] = (500, {})
    world.at[1004.0] = world.cluster.answers.clear
    assert world.watch(target).wait(300) is True
    assert world.now == 1004


def test_an_api_server_that_stays_away_is_named(world):
    target = world.deployment(READY)
    world.cluster.answers[f"GET {target.path}"] = (500, world.cluster.status(500, "", "etcd is away")[1])
    with pytest.raises(KubeError, match=r"answered GET .* with 500: etcd is away"):
        world.watch(target).wait(5)


def test_what_is_forbidden_fails_at_once(world):
    target = world.deployment()
    world.cluster.answers[f"GET {target.path}"] = world.cluster.status(403, "Forbidden", "no deployments for you")
    with pytest.raises(KubeError, match=r"403 Forbidden.: no deployments for you"):
        world.watch(target).wait(300)
    assert world.now == 1000


# --- giving up early --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "after"),
    [
        ({"waiting": {"reason": "InvalidImageName", "message": "m"}}, 0),
        ({"waiting": {"reason": "ErrImageNeverPull", "message": "m"}}, 0),
        ({"waiting": {"reason": "CreateContainerConfigError", "message": "m"}}, 30),
        (PULL, 90),
        (CRASH, 90),
    ],
)
def test_gives_up_when_a_problem_lasts(world, state, after):
    target = world.deployment()
    world.pod("web-2-a", f"{APP}/replicasets/web-2", state)
    assert re.search(
        r"^Deployment ns/web does not become ready: pod web-2-a: container c is", world.failure(target, seconds=300)
    )
    assert world.now == 1000 + after


def test_fail_fast_can_be_turned_off(world):
    target = world.deployment()
    world.pod("web-2-a", f"{APP}/replicasets/web-2", PULL)
    assert world.watch(target, fail_fast_after=0).wait(300) is False


def test_a_problem_that_went_away_is_forgotten(world):
    target = world.deployment()
    world.pod("web-2-a", f"{APP}/replicasets/web-2", PULL)
    world.at[1060.0] = lambda: world.pod("web-2-a", f"{APP}/replicasets/web-2", {"waiting": {}})
    world.at[1070.0] = lambda: world.pod("web-2-a", f"{APP}/replicasets/web-2", PULL)
    assert world.failure(target, seconds=300)
    assert world.now == 1160


def test_a_crashing_container_runs_in_between_and_is_still_crashing(world):
    target = world.deployment()
    owner = f"{APP}/replicasets/web-2"
    last = {"restartCount": 2, "lastState": {"terminated": {"exitCode": 1}}}
    world.pod("web-2-a", owner, CRASH, container=last)
    world.at[1050.0] = lambda: world.pod("web-2-a", owner, {"running": {}}, container=last)
    world.at[1100.0] = lambda: world.pod("web-2-a", owner, CRASH, container=last)
    assert re.search(r"keeps crashing, CrashLoopBackOff .exit code 1, 2 restarts", world.failure(target, seconds=300))
    assert world.now == 1100, "while it runs it may become ready, so that it is not given up then"


def test_pods_of_an_earlier_specification_do_not_count(world):
    target = world.deployment()
    world.pod("web-1-a", f"{APP}/replicasets/web-1", PULL)
    world.pod("other", f"{APP}/replicasets/of-another-one", PULL)
    assert world.watch(target).wait(200) is False


def test_crashes_of_a_job_are_its_own_business(world):
    target = world.job("j", {})
    world.pod("j-0", f"{JOBS}/j", CRASH)
    assert world.watch(target).wait(200) is False


def test_an_image_that_a_job_cannot_pull_is_given_up(world):
    target = world.job("j", {})
    world.pod("j-0", f"{JOBS}/j", PULL)
    assert world.failure(target, seconds=200)


def test_a_broken_pod_that_a_stateful_set_will_not_replace(world):
    target = world.stateful_set({"currentRevision": "a", "updateRevision": "b", "updatedReplicas": 0})
    world.pod("db-0", f"{APP}/statefulsets/db", PULL, labels={"controller-revision-hash": "a"})
    failure = world.failure(target, seconds=300)
    assert "kubectl -n ns delete pod db-0" in failure
    assert world.now == 1030


def test_a_broken_pod_that_a_parallel_stateful_set_replaces(world):
    status = {"currentRevision": "a", "updateRevision": "b", "updatedReplicas": 0}
    target = world.stateful_set(status, podManagementPolicy="Parallel")
    world.pod("db-0", f"{APP}/statefulsets/db", PULL, labels={"controller-revision-hash": "a"})
    assert world.watch(target).wait(100) is False


def test_pods_that_may_not_be_created(world):
    target = world.stateful_set({})
    world.event(f"{APP}/statefulsets/db", "FailedCreate", 'pods "db-0" is forbidden: violates PodSecurity')
    failure = world.failure(target, seconds=300)
    assert failure == (
        'StatefulSet ns/db does not become ready: no pod is created: pods "db-0" is forbidden: violates PodSecurity'
    )
    assert world.now == 1030

    failing = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"}
    target = world.deployment({"observedGeneration": 1, "conditions": [failing]})
    assert re.search(r"no pod is created: exceeded quota", world.failure(target, seconds=300))


def test_a_volume_of_a_missing_secret(world):
    target = world.deployment()
    world.pod("web-2-a", f"{APP}/replicasets/web-2", {"waiting": {"reason": "ContainerCreating"}})
    world.event(f"{CORE}/pods/web-2-a", "FailedMount", 'MountVolume.SetUp failed: secret "x" not found')
    assert re.search(r'FailedMount: MountVolume.SetUp failed: secret "x" not found', world.failure(target, seconds=300))
    assert world.now == pytest.approx(1100, abs=2)


# --- several at once --------------------------------------------------------------------------------------------------


def waits_for(dependency: str, **more: Any) -> dict[str, Any]:
    """Give the status of an init container that waits for a dependency."""
    return {"name": f"wait-for-{dependency}", "ready": False, "restartCount": 0, "state": {"running": {}}, **more}


def blocked(world: World, dependency: str, **more: Any) -> Target:
    """Give a StatefulSet whose only pod waits for a dependency."""
    target = world.stateful_set({"currentRevision": "a", "updateRevision": "a", "updatedReplicas": 1})
    labels = {"controller-revision-hash": "a"}
    starting = {"waiting": {"reason": "PodInitializing"}}
    pod = world.pod("db-0", f"{APP}/statefulsets/db", starting, labels=labels)
    pod["status"]["initContainerStatuses"] = [waits_for(dependency, **more)]
    return target


def broken(world: World) -> Target:
    """Give a Deployment whose image has an invalid name."""
    target = world.deployment()
    world.pod("web-2-a", f"{APP}/replicasets/web-2", {"waiting": {"reason": "InvalidImageName", "message": "m"}})
    return target


UP = {"currentRevision": "a", "updateRevision": "a", "updatedReplicas": 1, "readyReplicas": 1}


def test_a_failure_does_not_cut_short_the_wait_for_others(world):
    failing, other = broken(world), world.stateful_set({})
    world.at[1050.0] = lambda: world.stateful_set(UP)
    watch = world.watch(failing, other)
    assert watch.wait(300) is False
    assert world.now == 1050
    assert list(watch.failed) == [failing]
    assert watch.not_ready() == [failing]


def test_all_that_failed_is_reported_with_its_pods_and_commands(world):
    failing, other = broken(world), world.stateful_set({})
    world.event(f"{APP}/statefulsets/db", "FailedCreate", "exceeded quota")
    watch = world.watch(other, failing)
    assert watch.wait(300) is False
    assert world.now == 1030
    text = explain(watch, world.api)
    assert text.splitlines()[:2] == [
        "StatefulSet ns/db does not become ready: no pod is created: exceeded quota",
        "Deployment ns/web does not become ready: pod web-2-a: container c is waiting, InvalidImageName: m",
    ]
    kubectl = "kubectl --kubeconfig '/my config' --context kind -n ns"
    for part in ("describe statefulset db", "describe deployment web", "describe pod web-2-a"):
        assert f"    {kubectl} {part}" in text.splitlines()


def test_what_heals_while_others_are_waited_for_has_not_failed(world):
    healing, other = broken(world), world.stateful_set({})
    world.at[1010.0] = lambda: world.deployment(READY)
    world.at[1020.0] = lambda: world.stateful_set(UP)
    assert world.watch(healing, other).wait(300) is True


def test_what_has_failed_comes_first(world):
    failing, other = broken(world), world.stateful_set({})
    watch = world.watch(other, failing)
    assert watch.wait(60) is False
    assert watch.not_ready() == [failing, other]
    assert watch.pending()[1] == "Deployment ns/web (failed)"


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"restartCount": 3, "lastState": {"terminated": {"exitCode": 0}}},
        {"restartCount": 3, "lastState": {"terminated": {"exitCode": 75}}},
        {"restartCount": 3, "lastState": {"terminated": {"exitCode": 75}}, "state": CRASH},
        {"restartCount": 3, "state": {"terminated": {"exitCode": 75}}},
    ],
)
def test_waiting_for_a_dependency_is_no_crash(world, state):
    target = blocked(world, "postgres", **state)
    watch = world.watch(target)
    assert watch.wait(200) is False
    assert watch.failed == {}
    restarts = ", 3 restarts" if state else ""
    words = f"pod db-0: it waits for postgres (init container wait-for-postgres{restarts})"
    assert watch.pending() == [f"StatefulSet ns/db (0 of 1 pods ready; {words})"]
    assert explain(watch, world.api).splitlines()[0] == f"StatefulSet ns/db is not ready after 200 s: {words}"


@pytest.mark.parametrize(
    "state",
    [
        {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "m"}}},
        *(
            {"restartCount": 3, "lastState": {"terminated": {"exitCode": code}}, "state": CRASH}
            for code in (0, 1, 127, 137)
        ),
    ],
)
def test_an_init_container_that_cannot_even_wait_fails(world, state):
    assert "container wait-for-postgres" in world.failure(blocked(world, "postgres", **state))
    assert world.now == 1090


def test_an_init_container_that_crashes_after_a_while_fails(world):
    last = {"restartCount": 2, "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}
    target = blocked(world, "postgres", **last, state=CRASH)
    world.at[1050.0] = lambda: blocked(world, "postgres", **last)
    world.at[1100.0] = lambda: blocked(world, "postgres", **last, state=CRASH)
    assert "container wait-for-postgres keeps crashing" in world.failure(target)
    assert world.now == 1100


@pytest.mark.parametrize("state", [{}, {"state": CRASH}])
def test_why_it_waited_in_vain_is_shown(world, state):
    ended = {"exitCode": 75, "message": "Waited 5 s in vain,\nno such role\n"}
    watch = world.watch(blocked(world, "postgres", restartCount=1, lastState={"terminated": ended}, **state))
    assert watch.wait(5) is False
    assert explain(watch, world.api).splitlines()[0] == (
        "StatefulSet ns/db is not ready after 5 s: pod db-0: it waits for postgres "
        "(init container wait-for-postgres, 1 restart): Waited 5 s in vain, no such role"
    )


def test_what_only_waits_for_others_is_not_waited_for_once_one_failed(world):
    failing, waiting = broken(world), blocked(world, "web")
    watch = world.watch(waiting, failing)
    assert watch.wait(300) is False
    assert world.now == 1015
    assert [line.partition(" (")[0] for line in explain(watch, world.api).splitlines()[:2]] == [
        "Deployment ns/web does not become ready: pod web-2-a: container c is waiting, InvalidImageName: m",
        "StatefulSet ns/db is not ready after 15 s: pod db-0: it waits for web",
    ]


def test_what_waits_for_something_ready_is_waited_for(world):
    failing, waiting = broken(world), blocked(world, "other")
    other = world.job("other", {"conditions": [{"type": "Complete", "status": "True"}]})
    world.at[1060.0] = lambda: world.stateful_set(UP)
    watch = world.watch(waiting, failing, other)
    assert watch.wait(300) is False
    assert world.now == 1060
    assert watch.not_ready() == [failing]


def test_what_is_ready_but_not_provisioned_is_not_waited_for(world):
    postgres = Target("Deployment", "ns", "postgres")
    world.deployment(READY)
    world.cluster.store(postgres.path, world.cluster.objects.pop(f"{APP}/deployments/web"))
    provision, waiting = world.job("postgres-provision-1a2b", {}), blocked(world, "postgres")
    failed = {"conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}]}
    world.at[1020.0] = lambda: world.job(provision.name, failed)
    watch = world.watch(waiting, postgres, provision)
    assert watch.wait(600) is False
    assert world.now == 1035
    assert watch.not_ready() == [provision, waiting]


def test_what_begins_to_heal_has_not_failed(world):
    healing, other = world.deployment(), world.stateful_set({})
    pod = ("web-2-a", f"{APP}/replicasets/web-2")
    world.pod(*pod, PULL)
    world.at[1100.0] = lambda: world.pod(*pod, {"running": {}})
    world.at[1110.0] = lambda: world.stateful_set(UP)
    world.at[1120.0] = lambda: world.deployment(READY)
    watch = world.watch(healing, other)
    assert watch.wait(95) is False
    assert list(watch.failed) == [healing]
    assert watch.wait(300) is True


def test_once_what_failed_has_healed_all_is_waited_for(world):
    healing, waiting = broken(world), blocked(world, "elsewhere")
    world.at[1010.0] = lambda: world.deployment(READY)
    world.at[1100.0] = lambda: world.stateful_set(UP)
    assert world.watch(waiting, healing).wait(300) is True


def test_what_waits_where_nothing_failed_is_waited_for(world):
    waiting = blocked(world, "web")
    world.at[1100.0] = lambda: world.stateful_set(UP)
    assert world.watch(waiting).wait(300) is True


def test_progress_is_reported_every_15_seconds(world):
    reports: list[tuple[float, list[str]]] = []
    world.watch(world.deployment()).wait(40, lambda elapsed, lines: reports.append((elapsed, lines)))
    assert reports == [(15, ["Deployment ns/web (0 of 1 pods ready)"]), (30, ["Deployment ns/web (0 of 1 pods ready)"])]


# --- what is to be gone -----------------------------------------------------------------------------------------------

KINDS = {"resources": [{"name": "pods/log", "kind": "Pod"}, {"name": "pods", "kind": "Pod", "namespaced": True}]}
KINDS["resources"] += [{"name": "namespaces", "kind": "Namespace", "namespaced": False}]
KINDS["resources"] += [{"name": "persistentvolumeclaims", "kind": "PersistentVolumeClaim", "namespaced": True}]
ENDING = "2026-01-01T00:00:00Z"


def test_waits_until_objects_are_gone(world):
    world.cluster.answers["GET /api/v1"] = (200, KINDS)
    world.cluster.namespace("one", "two")
    for when, name in ((1010.0, "one"), (1020.0, "two")):
        world.at[when] = lambda name=name: world.cluster.objects.pop(f"/api/v1/namespaces/{name}")
    removals = [Removal("v1", "Namespace", name) for name in ("one", "two", "never-there")]
    assert world.watch(gone=removals).wait(300) is True
    assert world.now == 1020
    assert len([each for each in world.cluster.requests if each == "GET /api/v1"]) == 3


def test_a_kind_that_the_cluster_does_not_know_is_gone(world):
    world.cluster.answers["GET /apis/bitnami.com/v1alpha1"] = world.cluster.status(404, "NotFound", "")
    assert world.watch(gone=[Removal("bitnami.com/v1alpha1", "SealedSecret", "x", "ns")]).wait(5) is True


def test_what_holds_an_object_is_named(world):
    world.cluster.answers["GET /api/v1"] = (200, KINDS)
    condition = {"type": "NamespaceContentRemaining", "status": "True", "message": "claims. has 1 instance"}
    body = {"metadata": {"deletionTimestamp": ENDING}, "spec": {"finalizers": ["kubernetes"]}}
    world.cluster.store("/api/v1/namespaces/ns", {**body, "status": {"conditions": [condition]}})
    ending = {"metadata": {"deletionTimestamp": ENDING, "finalizers": ["kubernetes.io/pvc-protection"]}}
    world.cluster.store(f"{CORE}/persistentvolumeclaims/data", ending)
    world.cluster.store("/api/v1/namespaces/kept", {"metadata": {}})
    volumes = [{"persistentVolumeClaim": {"claimName": "data"}}]
    world.pod("db-0", "x", {}, metadata={"deletionTimestamp": ENDING}, spec={"volumes": volumes})
    watch = world.watch(
        gone=[
            Removal("v1", "Namespace", "ns"),
            Removal("v1", "PersistentVolumeClaim", "data", "ns"),
            Removal("v1", "Namespace", "kept"),
        ]
    )
    assert watch.wait(30) is False
    assert watch.pending()[0] == "Namespace ns to be gone"
    kubectl = "kubectl --kubeconfig '/my config' --context kind"
    assert explain(watch, world.api).splitlines() == [
        "Namespace ns is not gone after 30 s: finalizers kubernetes; claims. has 1 instance; pods db-0 (terminating)",
        "PersistentVolumeClaim ns/data is not gone after 30 s: finalizers kubernetes.io/pvc-protection; pods db-0",
        "Namespace kept is not gone after 30 s: it is not being deleted",
        "look further:",
        f"  {kubectl} describe namespace ns",
        f"  {kubectl} -n ns describe persistentvolumeclaim data",
        f"  {kubectl} describe namespace kept",
    ]


def test_an_object_of_a_namespace_needs_one(world):
    world.cluster.answers["GET /api/v1"] = (200, KINDS)
    with pytest.raises(KubeError, match=r"^gone names Pod x without its namespace$"):
        world.watch(gone=[Removal("v1", "Pod", "x")]).wait(0)


# --- serving ----------------------------------------------------------------------------------------------------------

SERVE = {"namespace": "ns", "service": "http:web:5000", "path": "health", "contains": "OK"}
PROXY = f"GET {CORE}/services/http:web:5000/proxy/health"


def test_waits_until_it_serves(world):
    target = world.deployment(READY)
    world.cluster.answers[PROXY] = (503, b"no endpoints")
    world.at[1003.0] = lambda: world.cluster.answers.update({PROXY: (200, b"not yet")})
    world.at[1006.0] = lambda: world.cluster.answers.update({PROXY: (200, b"all OK here")})
    watch = world.watch(target, serves=[SERVE])
    assert watch.wait(4) is False
    assert watch.pending() == ["Service ns/http:web:5000/health (the answer does not contain 'OK')"]
    assert watch.wait(300) is True
    assert world.now == 1006


def test_what_is_not_served_is_named(world):
    world.cluster.answers[PROXY] = world.cluster.status(503, "ServiceUnavailable", "no endpoints available")
    watch = world.watch(world.deployment(READY), serves=[SERVE])
    assert watch.wait(4) is False
    sentence = explain(watch, world.api)
    assert sentence.startswith("Service ns/http:web:5000/health does not answer as it should after 4 s: ")
    assert sentence.endswith("with 503: no endpoints available")


# --- telling ----------------------------------------------------------------------------------------------------------


def test_report_of_a_crashing_pod(world):
    target = world.deployment()
    last = {"restartCount": 1, "lastState": {"terminated": {"exitCode": 1}}}
    world.pod("web-2-a", f"{APP}/replicasets/web-2", CRASH, container=last)
    world.pod("web-1-a", f"{APP}/replicasets/web-1", {"running": {}}, conditions=[{"type": "Ready", "status": "True"}])
    world.event(f"{CORE}/pods/web-2-a", "BackOff", "Back-off restarting")
    log = "\n".join(f"line {number}" for number in range(3))
    world.cluster.answers[f"GET {CORE}/pods/web-2-a/log"] = (200, log.encode() + b"\n\xff")
    watch = world.watch(target)
    assert watch.wait(4) is False
    report = Reporter(world.api).report(target, watch.seen[target])
    assert [each["name"] for each in report["pods"]] == ["web-2-a"]
    assert report["pods"][0]["events"] == ["Warning BackOff: Back-off restarting"]
    assert report["pods"][0]["logs"] == [
        {"container": "c", "previous": True, "lines": ["line 0", "line 1", "line 2", "\N{REPLACEMENT CHARACTER}"]}
    ]
    assert any("tailLines=20" in each and "previous=true" in each for each in world.cluster.requests)
    text = explain(watch, world.api)
    assert text.splitlines()[0] == (
        "Deployment ns/web is not ready after 4 s: pod web-2-a: "
        "container c keeps crashing, CrashLoopBackOff (exit code 1, 1 restart)"
    )
    kubectl = "kubectl --kubeconfig '/my config' --context kind -n ns"
    assert report["commands"] == [
        f"{kubectl} describe deployment web",
        f"{kubectl} describe pod web-2-a",
        f"{kubectl} logs web-2-a -c c --previous",
    ]
    for part in ("line 2", "BackOff", "end of the log before the restart of container c", f"{kubectl} logs web-2-a"):
        assert part in text


def test_report_of_a_claim_that_is_not_bound(world):
    target = world.stateful_set({"currentRevision": "a", "updateRevision": "a", "updatedReplicas": 1})
    volumes = [{"persistentVolumeClaim": {"claimName": "data-db-0"}}]
    pod = world.pod("db-0", f"{APP}/statefulsets/db", {"waiting": {}}, spec={"volumes": volumes})
    message = "pod has unbound immediate PersistentVolumeClaims"
    pod["status"] = {
        "phase": "Pending",
        "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}],
    }
    pod["metadata"]["labels"]["controller-revision-hash"] = "a"
    claim = f"{CORE}/persistentvolumeclaims/data-db-0"
    world.cluster.store(claim, {"spec": {"storageClassName": "fast"}, "status": {"phase": "Pending"}})
    world.event(claim, "ProvisioningFailed", 'storageclass "fast" not found')
    watch = world.watch(target)
    assert watch.wait(4) is False
    text = explain(watch, world.api)
    assert text.splitlines()[0] == (
        "StatefulSet ns/db is not ready after 4 s: PersistentVolumeClaim data-db-0 is not bound "
        '(storage class fast): Warning ProvisioningFailed: storageclass "fast" not found'
    )
    assert "claim data-db-0: Pending, storage class fast" in text


def test_percent_signs_in_messages_survive(world):
    target = world.deployment()
    world.pod("web-2-a", f"{APP}/replicasets/web-2", {"waiting": {"reason": "ImagePullBackOff", "message": "100%s %"}})
    watch = world.watch(target)
    watch.wait(2)
    assert "ImagePullBackOff: 100%s %" in explain(watch, world.api)


# --- tidying ----------------------------------------------------------------------------------------------------------


DONE = {"conditions": [{"type": "Complete", "status": "True"}]}
PRUNE = {"prune_label": "mlops.mlflow/job"}


def jobs(world: World) -> list[str]:
    """Name the Jobs that are there."""
    return sorted(path.removeprefix(f"{JOBS}/") for path in world.cluster.objects if path.startswith(f"{JOBS}/"))


def test_prunes_the_jobs_that_are_superseded(world):
    target = world.job("new", DONE, "2026-01-02T00:00:00Z")
    world.job("old", DONE)
    world.job("old-and-running", {})
    world.job("going", DONE)
    world.cluster.objects[f"{JOBS}/going"]["metadata"]["deletionTimestamp"] = ENDING
    world.job("other", DONE)
    world.cluster.objects[f"{JOBS}/other"]["metadata"]["labels"] = {"mlops.mlflow/job": "something-else"}
    watch = world.watch(target, **PRUNE)
    assert watch.wait(1) is True
    assert (watch.pruned, watch.rerun) == (["ns/old", "ns/old-and-running"], [])
    assert jobs(world) == ["going", "new", "other"]


@pytest.mark.parametrize("status", [{}, {"conditions": [{"type": "Failed", "status": "True"}]}])
def test_prunes_where_the_wait_fails(world, status):
    target = world.job("new", status, "2026-01-02T00:00:00Z")
    world.job("old", DONE)
    watch = world.watch(target, broken(world), rerun=False, **PRUNE)
    assert watch.wait(5) is False
    assert (watch.pruned, jobs(world)) == (["ns/old"], ["new"])


def test_jobs_that_are_waited_for_stay(world):
    targets = [world.job("one", DONE), world.job("two", DONE, "2026-01-02T00:00:00Z")]
    watch = world.watch(*targets, **PRUNE)
    assert watch.wait(1) is True
    assert (watch.pruned, watch.rerun, jobs(world)) == ([], [], ["one", "two"])


@pytest.mark.parametrize("status", [DONE, {}])
def test_a_job_after_which_another_one_began_is_run_once_more(world, status):
    target = world.job("came-back", DONE)
    world.cluster.objects[target.path]["spec"]["template"] = {}
    world.job("newer", status, "2026-01-02T00:00:00Z")
    world.at[1005.0] = lambda: world.cluster.objects[target.path].update(status=DONE)
    watch = world.watch(target, rerun=False, **PRUNE)
    assert watch.wait(60) is True
    assert world.now == 1005
    assert (watch.rerun, watch.pruned, jobs(world)) == (["ns/came-back"], ["ns/newer"], ["came-back"])


def test_pruning_is_tried_until_the_api_server_answers(world):
    target = world.job("new", DONE, "2026-01-02T00:00:00Z")
    old = world.job("old", DONE)
    world.cluster.answers[f"DELETE {old.path}"] = (500, {})
    world.at[1003.0] = world.cluster.answers.clear
    watch = world.watch(target, **PRUNE)
    assert watch.wait(60) is True
    assert (watch.pruned, jobs(world)) == (["ns/old"], ["new"])


# --- certificates


CERTIFICATES = "/apis/cert-manager.io/v1/namespaces/ns"
CHALLENGES = "/apis/acme.cert-manager.io/v1/namespaces/ns/challenges"


def certificate(world: World, *conditions: dict[str, Any]) -> Target:
    """Store a Certificate for two hosts, of an issuer and with challenges of them."""
    issuer = {"kind": "Issuer", "name": "acme"}
    spec = {"issuerRef": issuer, "dnsNames": ["a.example.com", "b.example.com"], "secretName": "its-secret"}
    thing = {"metadata": {"generation": 1}, "spec": spec, "status": {"conditions": list(conditions)}}
    world.cluster.store(f"{CERTIFICATES}/certificates/tls", thing)
    return Target("Certificate", "ns", "tls")


def test_a_certificate_waits_for_challenges(world):
    target = certificate(world, {"type": "Ready", "status": "False", "message": "no Secret", "observedGeneration": 1})
    ready = {"conditions": [{"type": "Ready", "status": "True"}]}
    world.cluster.store(f"{CERTIFICATES}/issuers/acme", {"status": ready})
    for name, host, reason in (
        ("1", "b.example.com", "wrong status code '404', expected '200'"),
        ("2", "a.example.com", ""),
        ("3", "c.example.com", "of another"),
    ):
        thing = {"spec": {"dnsName": host}, "status": {"reason": reason}}
        world.cluster.store(f"{CHALLENGES}/{name}", thing)
    watch = world.watch(target)
    assert watch.wait(20) is False
    assert watch.seen[target].verdict.note == (
        "no Secret; challenge of b.example.com: wrong status code '404', expected '200'"
    )


@pytest.mark.parametrize(
    ("issuer", "words"),
    [
        (None, "Issuer acme is not there"),
        ({}, "Issuer acme is not ready: cert-manager has not looked at it yet"),
        (
            {"conditions": [{"type": "Ready", "status": "False", "message": "no account"}]},
            "Issuer acme is not ready: no account",
        ),
    ],
)
def test_a_certificate_waits_for_its_issuer(world, issuer, words):
    target = certificate(world)
    if issuer is not None:
        world.cluster.store(f"{CERTIFICATES}/issuers/acme", {"status": issuer})
    watch = world.watch(target)
    assert watch.wait(20) is False
    assert watch.seen[target].verdict.note == f"cert-manager has not looked at it yet; {words}"
    assert f"Certificate ns/tls is not ready after 20 s: cert-manager has not looked at it yet; {words}" in explain(
        watch, world.api
    )


@pytest.mark.parametrize(
    ("secret", "issuing", "given_up"),
    [
        ("its-secret", {"status": "True"}, False),
        ("its-secret", {"status": "False", "reason": "Failed", "message": "no CA"}, True),
        ("another", {"status": "True"}, True),
    ],
)
def test_a_pod_waits_for_a_secret_that_is_still_issued(world, secret, issuing, given_up):
    """As long as the Certificate has not failed, a pod that mounts its Secret has not either."""
    target = world.deployment()
    certificate(world, {"type": "Issuing", "observedGeneration": 1, **issuing})
    world.pod("web-2-a", f"{APP}/replicasets/web-2", {"waiting": {"reason": "ContainerCreating"}})
    world.event(f"{CORE}/pods/web-2-a", "FailedMount", f'MountVolume.SetUp failed: secret "{secret}" not found')
    watch = world.watch(target)
    assert watch.wait(300) is False
    assert (target in watch.failed) is given_up


def test_a_certificate_that_was_refused_fails_at_once(world):
    """cert-manager tries again an hour later. It is no Job, which would be run again."""
    words = "The certificate request has failed to complete and will be retried: order is invalid"
    refused = {"type": "Issuing", "status": "False", "reason": "Failed", "message": words, "observedGeneration": 1}
    target = certificate(world, refused)
    assert world.failure(target) == f"Certificate ns/tls failed, {words}"
    assert world.now < 1010
