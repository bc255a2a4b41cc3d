# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the module workload_wait."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.client import Api, KubeError, Settings
from ansible_collections.mlops.mlflow.plugins.modules import workload_wait
from ansible_collections.mlops.mlflow.plugins.modules.workload_wait import NeverReadyError, Target, Waiter

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

    def waiter(self, *targets: Target, **more: Any) -> Waiter:
        options = {"fail_fast_after": 90, "memory": {}, **more}
        api = Api(Settings(server=self.cluster.url, source="test", kubeconfig="/my config", context="kind"))
        serves = options.pop("serves", [])
        return Waiter(api, list(targets), serves, clock=self.clock, sleep=self.sleep, **options)

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
    assert world.waiter(*targets, targets[0]).wait(300) is True
    assert world.now == 1000
    assert world.cluster.requests == [f"GET {each.path}" for each in targets]


def test_waits_until_it_is_ready(world):
    target = world.deployment()
    world.at[1007.0] = lambda: world.deployment(READY)
    assert world.waiter(target).wait(300) is True
    assert world.now == 1007


def test_all_must_be_ready_at_once(world):
    flapping, other = world.deployment(READY), world.stateful_set({"currentRevision": "a", "updateRevision": "a"})
    world.at[1002.0] = world.deployment
    ready = {"currentRevision": "a", "updateRevision": "a", "updatedReplicas": 1, "readyReplicas": 1}
    world.at[1004.0] = lambda: world.stateful_set(ready)
    assert world.waiter(flapping, other).wait(20) is False


def test_a_complete_job_may_be_removed_while_others_are_waited_for(world):
    job, other = world.job("j", {"conditions": [{"type": "Complete", "status": "True"}]}), world.deployment()
    world.at[1002.0] = lambda: world.cluster.objects.pop(job.path)
    world.at[1004.0] = lambda: world.deployment(READY)
    assert world.waiter(job, other).wait(20) is True


def test_stops_in_time(world):
    target = world.deployment()
    waiter = world.waiter(target)
    assert waiter.wait(10) is False
    assert world.now == 1010
    assert waiter.pending() == ["Deployment ns/web (0 of 1 pods ready)"]


def test_what_is_missing_may_come_within_ten_seconds(world):
    world.at[1005.0] = lambda: world.deployment(READY)
    assert world.waiter(Target("Deployment", "ns", "web")).wait(300) is True


def test_what_stays_missing_fails(world):
    with pytest.raises(NeverReadyError, match=r"^Deployment ns/web is not there$"):
        world.waiter(Target("Deployment", "ns", "web")).wait(300)
    assert world.now == 1010


def test_a_job_that_is_deleted_fails_at_once_and_across_calls(world):
    target = world.job("j", {})
    waiter = world.waiter(target)
    assert waiter.wait(2) is False
    del world.cluster.objects[f"{JOBS}/j"]
    with pytest.raises(NeverReadyError, match=r"^Job ns/j was deleted while it was waited for$"):
        world.waiter(target, memory=waiter.memory).wait(100)
    assert world.now == 1002


def test_a_failed_job_fails_at_once_and_names_its_last_pod(world):
    condition = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "it has"}
    target = world.job("j", {"conditions": [condition]})
    memory = {"was_there": [str(target)]}
    for number in range(3):
        ended = {"terminated": {"exitCode": number + 1, "reason": "Error"}}
        world.pod(f"j-{number}", f"{JOBS}/j", ended, metadata={"creationTimestamp": f"2026-01-01T00:00:0{number}Z"})
    with pytest.raises(NeverReadyError) as failure:
        world.waiter(target, memory=memory).wait(300)
    assert str(failure.value) == (
        "Job ns/j failed, BackoffLimitExceeded: it has; pod j-2: container c crashed (exit code 3)"
    )
    assert world.now == 1000


def test_a_job_that_had_failed_before_is_run_once_more(world):
    failed = {"conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}]}
    target = world.job("j", failed)
    job = world.cluster.objects[f"{JOBS}/j"]
    labels = {"app": "x", "controller-uid": "1", "batch.kubernetes.io/job-name": "j"}
    job["spec"]["template"] = {"metadata": {"labels": labels}, "spec": {"containers": []}}
    job["metadata"]["annotations"] = {"a": "b"}
    world.at[1003.0] = lambda: world.cluster.objects[f"{JOBS}/j"].update(status=failed)
    with pytest.raises(NeverReadyError, match=r"^Job ns/j failed, BackoffLimitExceeded$"):
        world.waiter(target).wait(300)
    copy = world.cluster.objects[f"{JOBS}/j"]
    assert copy is not job
    assert copy["spec"] == {"template": {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": []}}}
    assert copy["metadata"]["labels"] == {"mlops.mlflow/job": "provision"}
    assert copy["metadata"]["annotations"] == {"a": "b"}
    assert len(world.cluster.writes()) == 2


def test_a_job_that_was_run_again_is_a_change(world, run):
    target = world.job("j", {"conditions": [{"type": "Failed", "status": "True"}]})
    world.cluster.objects[f"{JOBS}/j"]["spec"]["template"] = {}
    done = {"conditions": [{"type": "Complete", "status": "True"}]}

    def complete(method: str, path: str) -> None:
        if method == "GET" and "".join(world.cluster.requests[-1:]).startswith("PATCH"):
            world.cluster.objects[path]["status"] = done

    world.cluster.before = complete
    result = run("workload_wait", workloads=[option(target)], timeout=5)
    assert result["changed"] is True
    assert result["rerun"] == ["ns/j"]


def test_an_api_server_that_restarts_is_waited_for(world):
    target = world.deployment(READY)
    world.cluster.answers[f"GET {target.path}"] = (500, {})
    world.at[1004.0] = world.cluster.answers.clear
    assert world.waiter(target).wait(300) is True
    assert world.now == 1004


def test_an_api_server_that_stays_away_is_named(world):
    target = world.deployment(READY)
    world.cluster.answers[f"GET {target.path}"] = (500, world.cluster.status(500, "", "etcd is away")[1])
    with pytest.raises(KubeError, match=r"answered GET .* with 500: etcd is away"):
        world.waiter(target).wait(5)


def test_what_is_forbidden_fails_at_once(world):
    target = world.deployment()
    world.cluster.answers[f"GET {target.path}"] = world.cluster.status(403, "Forbidden", "no deployments for you")
    with pytest.raises(KubeError, match=r"403 Forbidden.: no deployments for you"):
        world.waiter(target).wait(300)
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
    with pytest.raises(NeverReadyError, match=r"^Deployment ns/web does not become ready: pod web-2-a: container c is"):
        world.waiter(target).wait(300)
    assert world.now == 1000 + after


def test_patience_spans_several_calls(world):
    target = world.deployment()
    world.pod("web-2-a", f"{APP}/replicasets/web-2", PULL)
    memory: dict[str, Any] = {}
    for _slice in range(5):
        waiter = world.waiter(target, memory=memory)
        assert waiter.wait(15) is False
        memory = waiter.memory
    with pytest.raises(NeverReadyError):
        world.waiter(target, memory=memory).wait(15)
    assert world.now == 1090


def test_fail_fast_can_be_turned_off(world):
    target = world.deployment()
    world.pod("web-2-a", f"{APP}/replicasets/web-2", PULL)
    assert world.waiter(target, fail_fast_after=0).wait(300) is False


def test_a_problem_that_went_away_is_forgotten(world):
    target = world.deployment()
    world.pod("web-2-a", f"{APP}/replicasets/web-2", PULL)
    world.at[1060.0] = lambda: world.pod("web-2-a", f"{APP}/replicasets/web-2", {"waiting": {}})
    world.at[1070.0] = lambda: world.pod("web-2-a", f"{APP}/replicasets/web-2", PULL)
    with pytest.raises(NeverReadyError):
        world.waiter(target).wait(300)
    assert world.now == 1160


def test_a_crashing_container_runs_in_between_and_is_still_crashing(world):
    target = world.deployment()
    owner = f"{APP}/replicasets/web-2"
    last = {"restartCount": 2, "lastState": {"terminated": {"exitCode": 1}}}
    world.pod("web-2-a", owner, CRASH, container=last)
    world.at[1050.0] = lambda: world.pod("web-2-a", owner, {"running": {}}, container=last)
    world.at[1100.0] = lambda: world.pod("web-2-a", owner, CRASH, container=last)
    with pytest.raises(NeverReadyError, match=r"keeps crashing, CrashLoopBackOff .exit code 1, 2 restarts"):
        world.waiter(target).wait(300)
    assert world.now == 1100, "while it runs it may become ready, so that it is not given up then"


def test_pods_of_an_earlier_specification_do_not_count(world):
    target = world.deployment()
    world.pod("web-1-a", f"{APP}/replicasets/web-1", PULL)
    world.pod("stranger", f"{APP}/replicasets/of-somebody-else", PULL)
    assert world.waiter(target).wait(200) is False


def test_crashes_of_a_job_are_its_own_business(world):
    target = world.job("j", {})
    world.pod("j-0", f"{JOBS}/j", CRASH)
    assert world.waiter(target).wait(200) is False


def test_an_image_that_a_job_cannot_pull_is_given_up(world):
    target = world.job("j", {})
    world.pod("j-0", f"{JOBS}/j", PULL)
    with pytest.raises(NeverReadyError):
        world.waiter(target).wait(200)


def test_a_broken_pod_that_a_stateful_set_will_not_replace(world):
    target = world.stateful_set({"currentRevision": "a", "updateRevision": "b", "updatedReplicas": 0})
    world.pod("db-0", f"{APP}/statefulsets/db", PULL, labels={"controller-revision-hash": "a"})
    with pytest.raises(NeverReadyError) as failure:
        world.waiter(target).wait(300)
    assert "kubectl -n ns delete pod db-0" in str(failure.value)
    assert world.now == 1030


def test_a_broken_pod_that_a_parallel_stateful_set_replaces(world):
    status = {"currentRevision": "a", "updateRevision": "b", "updatedReplicas": 0}
    target = world.stateful_set(status, podManagementPolicy="Parallel")
    world.pod("db-0", f"{APP}/statefulsets/db", PULL, labels={"controller-revision-hash": "a"})
    assert world.waiter(target).wait(100) is False


def test_pods_that_may_not_be_created(world):
    target = world.stateful_set({})
    world.event(f"{APP}/statefulsets/db", "FailedCreate", 'pods "db-0" is forbidden: violates PodSecurity')
    with pytest.raises(NeverReadyError) as failure:
        world.waiter(target).wait(300)
    assert str(failure.value) == (
        'StatefulSet ns/db does not become ready: no pod is created: pods "db-0" is forbidden: violates PodSecurity'
    )
    assert world.now == 1030

    failing = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"}
    target = world.deployment({"observedGeneration": 1, "conditions": [failing]})
    with pytest.raises(NeverReadyError, match=r"no pod is created: exceeded quota"):
        world.waiter(target).wait(300)


def test_a_volume_of_a_missing_secret(world):
    target = world.deployment()
    world.pod("web-2-a", f"{APP}/replicasets/web-2", {"waiting": {"reason": "ContainerCreating"}})
    world.event(f"{CORE}/pods/web-2-a", "FailedMount", 'MountVolume.SetUp failed: secret "x" not found')
    with pytest.raises(NeverReadyError, match=r'FailedMount: MountVolume.SetUp failed: secret "x" not found'):
        world.waiter(target).wait(300)
    assert world.now == pytest.approx(1100, abs=2)


# --- serving ----------------------------------------------------------------------------------------------------------

SERVE = {"namespace": "ns", "service": "http:web:5000", "path": "health", "contains": "OK"}
PROXY = f"GET {CORE}/services/http:web:5000/proxy/health"


def test_waits_until_it_serves(world):
    target = world.deployment(READY)
    world.cluster.answers[PROXY] = (503, b"no endpoints")
    world.at[1003.0] = lambda: world.cluster.answers.update({PROXY: (200, b"not yet")})
    world.at[1006.0] = lambda: world.cluster.answers.update({PROXY: (200, b"all OK here")})
    waiter = world.waiter(target, serves=[SERVE])
    assert waiter.wait(4) is False
    assert waiter.pending() == ["Service ns/http:web:5000/health (the answer does not contain 'OK')"]
    assert waiter.wait(300) is True
    assert world.now == 1006


def test_what_is_not_served_is_named(world):
    world.cluster.answers[PROXY] = world.cluster.status(503, "ServiceUnavailable", "no endpoints available")
    waiter = world.waiter(world.deployment(READY), serves=[SERVE])
    assert waiter.wait(4) is False
    sentence = waiter.sentence(waiter.reports(), 4)
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
    waiter = world.waiter(target)
    assert waiter.wait(4) is False
    reports = waiter.reports()
    assert [each["name"] for each in reports[0]["pods"]] == ["web-2-a"]
    assert reports[0]["pods"][0]["events"] == ["Warning BackOff: Back-off restarting"]
    assert reports[0]["pods"][0]["logs"] == [
        {"container": "c", "previous": True, "lines": ["line 0", "line 1", "line 2", "\N{REPLACEMENT CHARACTER}"]}
    ]
    assert any("tailLines=20" in each and "previous=true" in each for each in world.cluster.requests)
    assert waiter.sentence(reports, 4) == (
        "Deployment ns/web is not ready after 4 s: pod web-2-a: "
        "container c keeps crashing, CrashLoopBackOff (exit code 1, 1 restart)"
    )
    kubectl = "kubectl --kubeconfig '/my config' --context kind -n ns"
    assert reports[0]["commands"] == [
        f"{kubectl} describe deployment web",
        f"{kubectl} describe pod web-2-a",
        f"{kubectl} logs web-2-a -c c --previous",
    ]
    text = workload_wait.describe(reports)
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
    waiter = world.waiter(target)
    assert waiter.wait(4) is False
    reports = waiter.reports()
    assert waiter.sentence(reports, 4) == (
        "StatefulSet ns/db is not ready after 4 s: PersistentVolumeClaim data-db-0 is not bound "
        '(storage class fast): Warning ProvisioningFailed: storageclass "fast" not found'
    )
    assert "claim data-db-0: Pending, storage class fast" in workload_wait.describe(reports)


def test_percent_signs_in_messages_survive(world):
    target = world.deployment()
    world.pod("web-2-a", f"{APP}/replicasets/web-2", {"waiting": {"reason": "ImagePullBackOff", "message": "100%s %"}})
    waiter = world.waiter(target)
    waiter.wait(2)
    assert "ImagePullBackOff: 100%s %" in waiter.sentence(waiter.reports(), 2)


# --- tidying ----------------------------------------------------------------------------------------------------------


def test_prunes_the_jobs_that_are_superseded(world):
    done = {"conditions": [{"type": "Complete", "status": "True"}]}
    target = world.job("new", done, "2026-01-02T00:00:00Z")
    world.job("old", done)
    world.job("old-and-running", {})
    world.job("newer-and-running", {}, "2026-01-03T00:00:00Z")
    world.job("newer-and-done", done, "2026-01-03T00:00:00Z")
    other = world.job("other", done)
    world.cluster.objects[f"{JOBS}/{other.name}"]["metadata"]["labels"] = {"mlops.mlflow/job": "something-else"}
    waiter = world.waiter(target)
    assert waiter.wait(1) is True
    assert waiter.prune("mlops.mlflow/job") == ["ns/old", "ns/old-and-running", "ns/newer-and-done"]
    assert sorted(path.rsplit("/", 1)[1] for path in world.cluster.objects) == ["new", "newer-and-running", "other"]
    assert waiter.prune("mlops.mlflow/job") == []


# --- the module -------------------------------------------------------------------------------------------------------


def option(target: Target) -> dict[str, str]:
    """Give a target as the option takes it."""
    return {"kind": target.kind, "namespace": target.namespace, "name": target.name}


def test_module_succeeds(world, run):
    result = run("workload_wait", workloads=[option(world.deployment(READY))], prune_label="mlops.mlflow/job")
    assert result["changed"] is False
    assert result["ready"] is True
    assert result["pruned"] == []


def test_module_returns_between_two_slices_what_the_next_must_know(world, run):
    target = world.deployment()
    world.pod("web-2-a", f"{APP}/replicasets/web-2", PULL)
    result = run("workload_wait", workloads=[option(target)], timeout=100, progress_every=1)
    assert result["ready"] is False
    assert "failed" not in result
    assert result["pending"] == [
        "Deployment ns/web (0 of 1 pods ready; pod web-2-a: container c is waiting, "
        'ImagePullBackOff: Back-off pulling image "nope")'
    ]
    assert list(result["memory"]["since"])


def test_module_fails_when_the_time_is_up(world, run, kubeconfig):
    target = world.deployment()
    world.pod("web-2-a", f"{APP}/replicasets/web-2", PULL)
    result = run("workload_wait", workloads=[option(target)], timeout=1, elapsed=299)
    assert result["failed"] is True
    assert result["msg"].splitlines()[0] == (
        "Deployment ns/web is not ready after 300 s: pod web-2-a: container c is waiting, "
        'ImagePullBackOff: Back-off pulling image "nope"'
    )
    assert f"kubectl --kubeconfig {kubeconfig} --context fake -n ns describe pod web-2-a" in result["msg"]


def test_module_in_check_mode_asks_nothing(world, run):
    result = run("workload_wait", check=True, workloads=[{"kind": "Job", "namespace": "ns", "name": "none"}])
    assert result["changed"] is False
    assert world.cluster.requests == []


def test_module_without_anything_to_wait_for(world, run):
    assert run("workload_wait", workloads=[])["ready"] is True
    assert world.cluster.requests == []


def test_module_refuses_a_negative_time(run):
    assert run("workload_wait", timeout=-1)["msg"] == "timeout is -1: a number of seconds, 0 or more"
