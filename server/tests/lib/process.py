"""Processes with the server package: short ones, and servers."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import httpx

from lib.postgres import free_port

# Set by the tests alone: a variable of the machine must not decide.
# `make upstream` allows versions that are not those of requirements.txt.
_KEPT = "MLOPS_UNTESTED_VERSIONS"
_OWN = ("MLFLOW_", "_MLFLOW_", "MLOPS_", "OIDC_", "AWS_", "PG", "AUTH_", "SESSION_", "SECRET_", "PROMETHEUS_")
# Modules are compiled once, and not by a version that a test has changed.
_PYTHON = [sys.executable, "-W", "ignore"]


def environment(**variables: str) -> dict[str, str]:
    """Return this process's environment without what configures a server, and with `variables`."""
    inherited = {name: value for name, value in os.environ.items() if name == _KEPT or not name.startswith(_OWN)}
    return {**inherited, "MLFLOW_DISABLE_TELEMETRY": "true", **variables}


def run(code: str, *arguments: str, timeout: float = 120, **variables: str) -> subprocess.CompletedProcess:
    """Run Python code in a process of its own, with only these variables of the package and of what it configures."""
    return subprocess.run(
        [*_PYTHON, "-c", code, *arguments],
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def result(code: str, *arguments: str, **variables: str):
    """Run Python code as `run` does; return what it prints last, as JSON."""
    done = run(code, *arguments, **variables)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


def module(name: str, *arguments: str, timeout: float = 120, **variables: str) -> subprocess.CompletedProcess:
    """Run `python -m mlops_mlflow_server.<name>` to its end."""
    return subprocess.run(
        [*_PYTHON, "-m", f"mlops_mlflow_server.{name}", *arguments],
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


class Server:
    """A running `python -m mlops_mlflow_server.serve`.

    Args:
        folder: an empty folder for its files.
        variables: its environment.
    """

    def __init__(self, folder: pathlib.Path, variables: dict[str, str], *arguments: str):
        self.port, self.metrics_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log_file = folder / "log"
        self.drain_file = folder / "draining"
        (folder / "metrics").mkdir()
        own = {
            "MLOPS_DRAIN_FILE": str(self.drain_file),
            "MLOPS_BASIC_AUTH_FILE": str(folder / "basic_auth.ini"),
            "TMPDIR": str(folder),
        }
        options = {
            "--port": self.port,
            "--metrics-port": self.metrics_port,
            "--expose-prometheus": folder / "metrics",
            "--artifacts-destination": folder / "artifacts",
        }
        words = [str(word) for pair in options.items() for word in pair]
        with open(self.log_file, "wb") as log:
            self.process = subprocess.Popen(
                [*_PYTHON, "-m", "mlops_mlflow_server.serve", *words, *arguments],
                env=environment(**own, **variables),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait(self, seconds: float = 300) -> "Server":
        """Return when the server is ready."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            assert self.process.poll() is None, self.log()[-4000:]
            try:
                if httpx.get(f"{self.url}/health/ready", timeout=5).status_code == 200:
                    return self
            except httpx.TransportError:
                pass
            time.sleep(0.2)
        raise AssertionError(f"not ready within {seconds} s: {self.log()[-4000:]}")

    def log(self) -> str:
        """Return what the server has written."""
        return self.log_file.read_text(errors="replace")

    def audit(self, **fields) -> list[dict]:
        """Return the lines of the audit log in what the server has written, of those that have these fields."""
        lines = [json.loads(line) for line in self.log().splitlines() if line.startswith('{"audit":')]
        return [line for line in lines if fields.items() <= line.items()]

    def client(self, **options) -> httpx.Client:
        """Return an HTTP client for the server; options are httpx's."""
        return httpx.Client(base_url=self.url, timeout=30, **options)

    def metrics(self) -> httpx.Response:
        """Return what a scrape gets."""
        return httpx.get(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=30)

    def stop(self) -> None:
        """End the server with its workers."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
