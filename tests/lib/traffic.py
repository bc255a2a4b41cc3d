"""Clients that log metrics while something happens to the stack: what failed, what was tried again, what was lost."""

import concurrent.futures
import dataclasses
import threading
import time
import urllib.parse
from collections.abc import Callable
from typing import TypeVar

import requests
import requests.adapters
import urllib3

from tests.lib.drill import Drill
from tests.lib.stack import Stack

Result = TypeVar("Result")
BEFORE = 5  # seconds until the fault

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
    """The result of one request.

    Attributes:
        key: the metric that it logged.
        status: HTTP status, or the name of the error.
        failed: status or error of each attempt before the last one.
        seconds: its duration.
    """

    key: str
    status: int | str
    failed: list[str]
    seconds: float


class Traffic:
    """Logs metrics at a constant rate, one per request, without waiting for earlier answers.

    Args:
        url: MLflow's, on this machine.
        credentials: user name and token.
        run: ID of the run that gets the metrics.
        rate: requests per second.
    """

    def __init__(self, url: str, credentials: tuple[str, str], run: str, rate: int = 20) -> None:
        assert urllib.parse.urlsplit(url).hostname in ("localhost", "127.0.0.1"), "only for a stack of this machine"
        self.url = f"{url}/api/2.0/mlflow/runs/log-metric"
        self.credentials = credentials
        self.run = run
        self.rate = rate
        self.local = threading.local()

    def _session(self) -> requests.Session:
        if not hasattr(self.local, "session"):
            self.local.session = requests.Session()
            self.local.session.auth = self.credentials
            self.local.session.mount("http://", requests.adapters.HTTPAdapter(max_retries=RETRIES))
        return self.local.session

    def _log(self, number: int) -> Answer:
        key = f"n{number}"
        metric = {"run_id": self.run, "key": key, "value": number, "timestamp": number, "step": 0}
        begun = time.monotonic()
        try:
            answer = self._session().post(self.url, json=metric, timeout=30)
        except requests.RequestException as error:
            return Answer(key, type(error).__name__, [], time.monotonic() - begun)
        history = answer.raw.retries.history if answer.raw.retries else ()
        failed = [str(each.status or type(each.error).__name__) for each in history]
        return Answer(key, answer.status_code, failed, time.monotonic() - begun)

    def go(self, fault: Callable[[], None], seconds: float, until: Callable[[], bool] | None = None) -> list[Answer]:
        """Return the answers to all requests.

        Args:
            fault: called once, after the first seconds.
            seconds: for how long requests are sent, at most.
            until: ends it earlier, as soon as it returns true.
        """
        begun = time.monotonic()
        number, end = 0, int(self.rate * seconds)
        with concurrent.futures.ThreadPoolExecutor(end) as pool:
            answers = []
            while number < end and not (until and until()):
                time.sleep(max(0, begun + number / self.rate - time.monotonic()))
                if number == self.rate * BEFORE:
                    fault()
                answers.append(pool.submit(self._log, number))
                number += 1
            return [answer.result() for answer in answers]

    def during(self, act: Callable[[], Result], seconds: float) -> tuple[Result, list[Answer]]:
        """Return what `act` returns, and the answers to all requests, which are sent before it and until its end.

        Args:
            act: called after the first seconds; what it raises is raised.
            seconds: for how long requests are sent, at most.
        """
        started, ended = threading.Event(), threading.Event()
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            going = pool.submit(self.go, started.set, seconds, ended.is_set)
            try:
                started.wait(60)
                done = act()
            finally:
                ended.set()
            return done, going.result()


def new_run(stack: Stack, credentials: tuple[str, str]) -> str:
    """Create a run in a new experiment, and return its ID."""

    def ask(path, **content):
        answer = requests.post(f"{stack.mlflow_url}/api/2.0/mlflow/{path}", json=content, auth=credentials, timeout=60)
        answer.raise_for_status()
        return answer.json()

    experiment = ask("experiments/create", name=f"traffic-{time.time_ns()}")["experiment_id"]
    return ask("runs/create", experiment_id=experiment)["run"]["info"]["run_id"]


def summarize(drill: Drill, what: str, answers: list[Answer]) -> tuple[list[str], list[int | str]]:
    """Print a summary of the requests; return the failed attempts, and the requests that failed permanently."""
    failed = [each for answer in answers for each in answer.failed]
    kinds = ", ".join(f"{failed.count(kind)} times {kind}" for kind in sorted(set(failed)))
    lost = [answer.status for answer in answers if answer.status != 200]
    longest = max(answer.seconds for answer in answers)
    drill.say(
        f"  {what}: of {len(answers)} requests {sum(bool(answer.failed) for answer in answers)} were tried again "
        f"({kinds or 'no attempt failed'}), {len(lost)} were given up, and the longest took {longest:.1f} s"
    )
    return failed, lost


def logged(stack: Stack, run: str) -> set[str]:
    """Return the metrics in a run, each of which must be stored once."""
    keys = [key for [key] in stack.sql("mlflow", f"SELECT key FROM metrics WHERE run_uuid = '{run}'")]
    assert len(keys) == len(set(keys)), "metrics were stored more than once"
    return set(keys)
