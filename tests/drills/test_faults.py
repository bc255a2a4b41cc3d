"""Loss of pods while clients work: failed requests are counted, and clients that retry lose nothing."""

import threading

import kubernetes
import pytest

from tests.lib import stack as stacks
from tests.lib.traffic import Traffic, logged, new_run, summarize

SECONDS = 30
ROLLOUT_SECONDS = 120


@pytest.mark.parametrize("component", ["postgres", "mlflow", "minio"])
@pytest.mark.parametrize("grace", [pytest.param(None, id="deleted"), pytest.param(0, id="killed")])
def test_pod_loss_under_traffic(deployed, component, grace):
    """20 requests per second: failed ones are retried as MLflow clients do, and none is lost."""
    stack = deployed.stack
    credentials = (stacks.ADMIN, stack.environment["MLFLOW_TRACKING_PASSWORD"])
    run = new_run(stack, credentials)
    pods = len(stack.ready(component))

    def fault():
        pod = stack.ready(component)[0].metadata.name
        stack.core.delete_namespaced_pod(
            pod, stacks.NAMESPACES[component], **({} if grace is None else {"grace_period_seconds": grace})
        )

    answers = Traffic(stack.mlflow_url, credentials, run).go(fault, SECONDS)
    lost = summarize(deployed, component, answers)[1]
    assert lost == [], "requests that failed for good"
    stacks.wait_until(lambda: len(stack.ready(component)) == pods, 180, f"{pods} ready pods of {component}")
    assert logged(stack, run) == {answer.key for answer in answers}


@pytest.mark.parametrize("way", ["rollout", "drain"])
def test_mlflow_rollout_under_traffic(deployed, way):
    """All pods of MLflow are replaced, and no attempt fails."""
    stack = deployed.stack
    credentials = (stacks.ADMIN, stack.environment["MLFLOW_TRACKING_PASSWORD"])
    run = new_run(stack, credentials)
    pods = [pod.metadata.name for pod in stack.ready("mlflow")]
    assert len(pods) == 2
    replaced = threading.Event()

    def all_are_new():
        names = {pod.metadata.name for pod in stack.ready("mlflow")}
        return len(names) == 2 and not names & set(pods)

    def roll():
        stack.kubectl("-n", "mlflow", "rollout", "restart", "deployment/mlflow")
        stacks.wait_until(all_are_new, ROLLOUT_SECONDS, "all pods are new ones")
        replaced.set()

    def drain():
        # Like kubectl drain, which retries while the disruption budget refuses.
        for name in pods:
            eviction = kubernetes.client.V1Eviction(metadata={"name": name, "namespace": "mlflow"})

            def evicted(name=name, eviction=eviction):
                try:
                    stack.core.create_namespaced_pod_eviction(name, "mlflow", eviction)
                except kubernetes.client.ApiException as error:
                    if error.status != 429:
                        raise
                    return False
                return True

            stacks.wait_until(evicted, ROLLOUT_SECONDS, f"{name} may be evicted", 1)
        stacks.wait_until(all_are_new, ROLLOUT_SECONDS, "all pods are new ones")
        replaced.set()

    def fault():
        threading.Thread(target=roll if way == "rollout" else drain, daemon=True).start()

    answers = Traffic(stack.mlflow_url, credentials, run).go(fault, ROLLOUT_SECONDS)
    failed, lost = summarize(deployed, f"mlflow, {way}", answers)
    assert replaced.is_set(), f"not all pods were replaced within {ROLLOUT_SECONDS} s"
    assert failed == [], "tries that failed"
    assert lost == [], "requests that failed for good"
    assert logged(stack, run) == {answer.key for answer in answers}
