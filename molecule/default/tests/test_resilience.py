"""Loss of a pod while clients work."""

import re
import time

import pytest
import requests

from tests.lib import stack as stacks

LONG_RUN = """
    import sys, time
    import mlflow

    mlflow.set_experiment(sys.argv[1])
    with mlflow.start_run() as run:
        print("started", run.info.run_id, flush=True)
        for step in range(int(sys.argv[2])):
            mlflow.log_metric("step", step, step=step)
            mlflow.log_text(str(step), f"steps/{step}.txt")
            time.sleep(0.1)
    print("ended", run.info.run_id, flush=True)
"""


class Visitor(stacks.Background):
    """Calls MLflow ten times a second on new connections, and counts the answers."""

    def __init__(self, url, credentials):
        super().__init__()
        self.url = url
        self.credentials = credentials
        self.answers = []

    def run(self):
        while not self.done.wait(0.1):
            begun = time.monotonic()
            try:
                status = requests.get(self.url, auth=self.credentials, timeout=30).status_code
            except requests.RequestException as error:
                status = type(error).__name__
            self.answers.append((begun, time.monotonic() - begun, status))

    @property
    def failed(self):
        return [answer for answer in self.answers if answer[2] != 200]


@pytest.fixture
def visitor(stack, admin_token):
    return Visitor(f"{stack.mlflow_url}/api/2.0/mlflow/experiments/search?max_results=1", (stacks.ADMIN, admin_token))


def all_ready(stack, component, count):
    stacks.wait_until(lambda: len(stack.ready(component)) == count, 180, f"{count} ready pods of {component}")


@pytest.mark.parametrize("ended", ["deleted", "killed"])
def test_loss_of_an_mlflow_pod_during_a_run(stack, admin_token, mark, ended):
    """Draining or killing a pod loses no step of a run."""
    steps = 40
    all_ready(stack, "mlflow", 2)
    process = stack.start_client(LONG_RUN, stacks.ADMIN, admin_token, f"resilience-{mark}", steps)
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("started"):
            break
    time.sleep(1)
    victim = stack.ready("mlflow")[0].metadata.name
    grace = {"grace_period_seconds": 0} if ended == "killed" else {}
    stack.core.delete_namespaced_pod(victim, "mlflow", **grace)
    rest, _unused = process.communicate(timeout=240)
    assert process.returncode == 0, "".join(lines) + rest
    run = re.search(r"ended (\w+)", rest).group(1)
    rows = stack.sql("mlflow", f"SELECT count(*), max(step) FROM metrics WHERE run_uuid = '{run}' AND key = 'step'")
    assert rows == [[str(steps), str(steps - 1)]]
    assert len([entry for entry in stack.objects() if run in entry["key"]]) == steps
    all_ready(stack, "mlflow", 2)


def test_rollout_loses_no_requests(stack, visitor):
    all_ready(stack, "mlflow", 2)
    with visitor:
        stack.kubectl("-n", "mlflow", "rollout", "restart", "deployment/mlflow")
        stack.kubectl("-n", "mlflow", "rollout", "status", "deployment/mlflow", "--timeout=300s")
        time.sleep(8)  # the last pod is draining
    assert len(visitor.answers) > 50
    assert visitor.failed == []


def test_postgresql_restarts(stack, visitor):
    """Clients are served again within 10 s after PostgreSQL's pod was evicted."""
    all_ready(stack, "postgres", 1)
    pod = stack.ready("postgres")[0].metadata.name
    with visitor:
        time.sleep(1)
        begun = time.monotonic()
        stack.core.delete_namespaced_pod(pod, "postgres")
        all_ready(stack, "postgres", 1)
        time.sleep(10)
    assert time.monotonic() - begun < 60
    failed = visitor.failed
    assert visitor.answers[-1][2] == 200
    if failed:
        assert failed[-1][0] + failed[-1][1] - failed[0][0] < 10, failed


def test_minio_restarts(stack, admin_token, mark, visitor):
    """Artifact calls are delayed by seconds, and tracking calls not at all."""
    script = """
        import sys, time
        import mlflow

        mlflow.set_experiment(sys.argv[1])
        slowest = 0
        with mlflow.start_run():
            print("started", flush=True)
            begun = time.monotonic()
            while time.monotonic() - begun < 25:
                before = time.monotonic()
                mlflow.log_text("x", f"{before}.txt")
                slowest = max(slowest, time.monotonic() - before)
                time.sleep(0.1)
        print("slowest", slowest, flush=True)
    """
    process = stack.start_client(script, stacks.ADMIN, admin_token, f"resilience-{mark}")
    for line in process.stdout:
        if line.startswith("started"):
            break
    with visitor:
        time.sleep(2)
        stack.core.delete_namespaced_pod(stack.ready("minio")[0].metadata.name, "minio")
        rest, _unused = process.communicate(timeout=240)
    assert process.returncode == 0, rest
    assert float(re.search(r"slowest (\S+)", rest).group(1)) < 20, rest
    assert visitor.failed == []
    assert max(answer[1] for answer in visitor.answers) < 5


def test_services_work_after_a_restart_of_kube_proxy(stack):
    """At its start and hourly, kube-proxy reads the kernel's rules, and must recognize its own."""
    proxies = ("--namespace", "kube-system")
    stack.kubectl(*proxies, "delete", "pods", "--selector", "k8s-app=kube-proxy")
    stack.kubectl(*proxies, "rollout", "status", "daemonset/kube-proxy", "--timeout=120s")
    # kube-proxy syncs within seconds after its start. Each request uses a new connection.
    for _second in range(20):
        assert requests.get(f"{stack.mlflow_url}/health", timeout=10).status_code == 200
        assert requests.get(f"{stack.keycloak_url}/realms/mlflow", timeout=10).status_code == 200
        time.sleep(1)
