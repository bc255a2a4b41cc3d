"""Loss of pods while clients work: failed requests are counted, and clients that retry lose nothing."""

import concurrent.futures
import dataclasses
import threading
import time
import urllib.parse

import kubernetes
import pytest
import requests
import requests.adapters
import urllib3

from tests.lib import stack as stacks

RATE = 20  # requests per second
SECONDS = 30
BEFORE = 5  # seconds until the pod is removed
ROLLOUT_SECONDS = 120

# The retries of MLflow's own client: https://mlflow.org/docs/latest/api_reference/python_api/mlflow.environment_variables.html
RETRIES = urllib3.Retry(
    total=7,
    backoff_factor=2,
    backoff_jitter=1.0,
    status_forcelist=(408, 429, 500, 502, 503, 504),
    allowed_methods=None,
    respect_retry_after_header=True,
)


@dataclasses.dataclass
class Answer:
    """The result of one request: its status or error, the number of failed attempts, and its duration."""

    status: int | str
    failed: list[str]
    seconds: float


class Traffic:
    """Logs metrics at a constant rate, one per request, without waiting for earlier answers."""

    def __init__(self, url, credentials, run):
        assert urllib.parse.urlsplit(url).hostname in ("localhost", "127.0.0.1"), "only for a stack of this machine"
        self.url = f"{url}/api/2.0/mlflow/runs/log-metric"
        self.credentials = credentials
        self.run = run
        self.local = threading.local()

    def _session(self):
        if not hasattr(self.local, "session"):
            self.local.session = requests.Session()
            self.local.session.auth = self.credentials
            self.local.session.mount("http://", requests.adapters.HTTPAdapter(max_retries=RETRIES))
        return self.local.session

    def _log(self, number):
        metric = {"run_id": self.run, "key": f"n{number}", "value": number, "timestamp": number, "step": 0}
        begun = time.monotonic()
        try:
            answer = self._session().post(self.url, json=metric, timeout=30)
        except requests.RequestException as error:
            return Answer(type(error).__name__, [], time.monotonic() - begun)
        history = answer.raw.retries.history if answer.raw.retries else ()
        failed = [str(each.status or type(each.error).__name__) for each in history]
        return Answer(answer.status_code, failed, time.monotonic() - begun)

    def go(self, fault, seconds=SECONDS):
        """Return the answers to all requests during this time; call `fault` once in between."""
        begun = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(RATE * seconds) as pool:
            answers = []
            for number in range(RATE * seconds):
                time.sleep(max(0, begun + number / RATE - time.monotonic()))
                if number == RATE * BEFORE:
                    fault()
                answers.append(pool.submit(self._log, number))
            return [answer.result() for answer in answers]


def new_run(stack, credentials):
    """Create a run in a new experiment."""

    def ask(path, **content):
        answer = requests.post(f"{stack.mlflow_url}/api/2.0/mlflow/{path}", json=content, auth=credentials, timeout=60)
        answer.raise_for_status()
        return answer.json()

    experiment = ask("experiments/create", name=f"faults-{time.time_ns()}")["experiment_id"]
    return ask("runs/create", experiment_id=experiment)["run"]["info"]["run_id"]


def tell(deployed, what, answers):
    """Print a summary of the requests; return the failed attempts, and the requests that failed permanently."""
    failed = [each for answer in answers for each in answer.failed]
    kinds = ", ".join(f"{failed.count(kind)} times {kind}" for kind in sorted(set(failed)))
    lost = [answer.status for answer in answers if answer.status != 200]
    longest = max(answer.seconds for answer in answers)
    deployed.say(
        f"  {what}: of {len(answers)} requests {sum(bool(answer.failed) for answer in answers)} were tried again "
        f"({kinds or 'no attempt failed'}), {len(lost)} were lost, and the longest took {longest:.1f} s"
    )
    return failed, lost


def logged(stack, run):
    """Return the number of distinct metrics in a run."""
    [[rows, keys]] = stack.sql("mlflow", f"SELECT count(*), count(DISTINCT key) FROM metrics WHERE run_uuid = '{run}'")
    assert rows == keys, "metrics were stored more than once"
    return int(rows)


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

    answers = Traffic(stack.mlflow_url, credentials, run).go(fault)
    lost = tell(deployed, component, answers)[1]
    assert lost == [], "requests that failed for good"
    stacks.wait_until(lambda: len(stack.ready(component)) == pods, 180, f"{pods} ready pods of {component}")
    assert logged(stack, run) == len(answers)


@pytest.mark.parametrize("way", ["rollout", "drain"])
def test_mlflow_rollout_under_traffic(deployed, way):
    """All pods of MLflow are replaced, and no attempt fails."""
    stack = deployed.stack
    credentials = (stacks.ADMIN, stack.environment["MLFLOW_TRACKING_PASSWORD"])
    run = new_run(stack, credentials)
    pods = [pod.metadata.name for pod in stack.ready("mlflow")]
    assert len(pods) == 2
    replaced = threading.Event()

    def everybody_new():
        names = {pod.metadata.name for pod in stack.ready("mlflow")}
        return len(names) == 2 and not names & set(pods)

    def roll():
        stack.kubectl("-n", "mlflow", "rollout", "restart", "deployment/mlflow")
        stacks.wait_until(everybody_new, ROLLOUT_SECONDS, "all pods are new ones")
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
        stacks.wait_until(everybody_new, ROLLOUT_SECONDS, "all pods are new ones")
        replaced.set()

    def fault():
        threading.Thread(target=roll if way == "rollout" else drain, daemon=True).start()

    answers = Traffic(stack.mlflow_url, credentials, run).go(fault, ROLLOUT_SECONDS)
    failed, lost = tell(deployed, f"mlflow, {way}", answers)
    assert replaced.is_set(), f"not all pods were replaced within {ROLLOUT_SECONDS} s"
    assert failed == [], "tries that failed"
    assert lost == [], "requests that failed for good"
    assert logged(stack, run) == len(answers)
