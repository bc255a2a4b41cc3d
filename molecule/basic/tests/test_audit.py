"""The audit log is complete: many changes while all pods are replaced, and a line for each."""

import collections
import concurrent.futures
import json
import subprocess
import threading
import time

import pytest
import requests

from tests.lib import stack as stacks
from tests.lib.callers import create
from tests.lib.traffic import RETRIES

CHANGES, CLIENTS = 10000, 16
# How many are made before the rollout begins, and how many after its end at least.
BEFORE, AFTER = 1000, 1000
# Between two changes of a client during the rollout, so that there are changes until its end.
PAUSE = 0.2
NAMESPACE = stacks.NAMESPACES["mlflow"]


class Followed(stacks.Background):
    """Follows the logs of all pods of MLflow from their beginning to their end, since they go with their pods.

    Attributes:
        files: of each pod, by its name.
    """

    def __init__(self, stack, folder):
        super().__init__()
        self._stack, self._folder = stack, folder
        self._processes = {}
        self.files = {}

    def run(self):
        while not self.done.wait(0.5):
            self._look()
        # Once more: what has been written by now is all that is looked for.
        time.sleep(5)
        for process in self._processes.values():
            process.terminate()
            process.wait()

    def _look(self):
        for pod in self._stack.pods("mlflow"):
            name, running = pod.metadata.name, self._processes.get(pod.metadata.name)
            if pod.metadata.labels["app.kubernetes.io/name"] == "mlflow" and (running is None or running.poll()):
                self.files[name] = self._folder / name
                command = ["kubectl", "--kubeconfig", self._stack.kubeconfig, "-n", NAMESPACE, "logs", "-f", name]
                # From the beginning each time, so what came before is written over.
                with open(self.files[name], "wb") as file:
                    self._processes[name] = subprocess.Popen(
                        [*command, "--container=mlflow"], stdout=file, stderr=subprocess.DEVNULL
                    )

    def lines(self, experiment):
        """Return the lines of runs that were created in this experiment, by pod."""
        found = {}
        for name, file in self.files.items():
            lines = [json.loads(line) for line in file.read_text().splitlines() if line.startswith('{"audit":')]
            found[name] = [
                line
                for line in lines
                if line["route"].endswith("/runs/create") and line["names"].get("experiment_id") == experiment
            ]
        return found


class Changes:
    """Clients that create runs.

    Attributes:
        answered: the id of the request and that of the run, for each that was answered with success.
        failed: attempts that were answered in another way, or not at all.
    """

    def __init__(self, caller, experiment):
        self._caller, self.experiment = caller, experiment
        self._local = threading.local()
        self.answered, self.failed = [], []
        self.is_rolling, self.rolled = threading.Event(), threading.Event()

    def _session(self):
        if not hasattr(self._local, "session"):
            session = self._local.session = requests.Session()
            session.trust_env = False
            session.auth = (self._caller.name, self._caller.password)
            session.mount("http://", requests.adapters.HTTPAdapter(max_retries=RETRIES))
        return self._local.session

    def make(self, number):
        """Make one change, with the retries of MLflow's client."""
        if number >= CHANGES - AFTER:
            self.rolled.wait(900)
        elif self.is_rolling.is_set() and not self.rolled.is_set():
            time.sleep(PAUSE)
        answer = self._session().post(
            f"{self._caller.url}/api/2.0/mlflow/runs/create",
            json={"experiment_id": self.experiment, "run_name": f"change-{number}"},
            timeout=120,
        )
        assert answer.status_code == 200, f"{answer.status_code} {answer.text[:300]}"
        self.failed += [each.status or str(each.error) for each in answer.raw.retries.history]
        self.answered.append((answer.headers["x-request-id"], answer.json()["run"]["info"]["run_id"]))


@pytest.fixture
def changes(stack, admin, name):
    experiment = create(admin, f"{name}-audit")
    yield Changes(admin, experiment)
    # Other tests search in what there is.
    admin.well("POST", "2.0/mlflow/experiments/delete", {"experiment_id": experiment})


def test_every_change_during_a_rollout_has_its_line(stack, admin, changes, tmp_path, say):
    before = {pod.metadata.name for pod in stack.ready("mlflow")}
    began = time.monotonic()
    with Followed(stack, tmp_path) as followed, concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        stacks.wait_until(lambda: before <= followed.files.keys(), 60, "the logs of all pods")
        made = [pool.submit(changes.make, number) for number in range(CHANGES)]
        try:
            stacks.wait_until(lambda: len(changes.answered) >= BEFORE, 300, f"{BEFORE} changes")
            changes.is_rolling.set()
            stack.kubectl("-n", NAMESPACE, "rollout", "restart", "deployment/mlflow")
            stack.kubectl("-n", NAMESPACE, "rollout", "status", "deployment/mlflow", "--timeout=600s")
            during = len(changes.answered)
        finally:
            changes.rolled.set()
        for each in made:
            each.result()
        seconds = time.monotonic() - began
        pods = {pod.metadata.name for pod in stack.ready("mlflow")}

    assert not pods & before
    lines = followed.lines(changes.experiment)
    found = [line for each in lines.values() for line in each]
    say(
        f"{len(changes.answered)} changes by {CLIENTS} clients in {seconds:.0f} s, {during - BEFORE} of them during "
        f"the rollout, {len(changes.failed)} attempts failed: {len(found)} lines, of each pod "
        f"{sorted(len(each) for each in lines.values())}"
    )
    assert len(changes.answered) == CHANGES
    # Pods of before and after have answered.
    assert before | pods <= {pod for pod, each in lines.items() if each}
    identifiers = collections.Counter(line["id"] for line in found)
    assert set(identifiers.values()) == {1}
    known = {identifier for identifier, _run in changes.answered}
    written = [line for line in found if line["id"] in known]
    # Each is named by what it made, and the change is said to be done.
    assert sorted((line["id"], line["names"]["run_id"]) for line in written) == sorted(changes.answered)
    assert len(written) == CHANGES
    assert {(line["event"], line["result"], line["user"]) for line in written} == {("create", "done", admin.name)}
    # What is in the database and has no line was not answered: only an attempt that failed may leave such a run.
    rows = stack.sql("mlflow", f"SELECT run_uuid FROM runs WHERE experiment_id = {int(changes.experiment)}")
    unwritten = {run for (run,) in rows} - {line["names"].get("run_id") for line in found}
    assert len(unwritten) <= len(changes.failed), unwritten
    assert len(found) - CHANGES <= len(changes.failed)
