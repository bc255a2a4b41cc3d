"""Secrets of the stack appear nowhere else."""

import base64
import dataclasses
import json
import pathlib
import re
import time

import pytest

from tests.lib import stack as stacks
from tests.lib.leaks import PLANTED, Watcher, leaks


@pytest.fixture(scope="module")
def secrets(stack):
    found = stack.secret_values()
    kinds = {name.split("/")[1] for name in found}
    assert {"mlflow-db-credentials", "mlflow-s3-secret", "mlflow-oidc-credentials", "keycloak-users"} <= kinds
    return found


@dataclasses.dataclass
class Run:
    """The traces of a run of site.yml."""

    output: str
    arguments: str
    events: str
    remembered: str


@pytest.fixture(scope="module")
def run(stack, tmp_path_factory):
    """Two runs of site.yml with recreated Jobs: with the highest verbosity, and with JSON output."""
    remembered = tmp_path_factory.mktemp("leaks") / "remembered.json"
    playbook = pathlib.Path(__file__).parent / "leaks.yml"
    output, events = {}, {}
    for name, words, environment in (
        ("output", ["-vvv", "--diff"], {}),
        ("events", ["-e", f"remembered={remembered}"], {"ANSIBLE_STDOUT_CALLBACK": "ansible.posix.jsonl"}),
    ):
        for component in ("postgres", "minio", "mlflow"):
            stack.kubectl("-n", stacks.NAMESPACES[component], "delete", "jobs", "--all", "--wait=true")
        with Watcher() as watcher:
            done = stack.playbook(
                *words,
                playbook="playbooks/site.yml" if name == "output" else playbook,
                environment={"ANSIBLE_LOG_PATH": "", **environment},
            )
            time.sleep(0.5)
        assert done.code == 0, done.output
        output[name], events[name] = done.output, watcher.text
    return Run(output["output"], "\n".join(events.values()), output["events"], remembered.read_text())


def test_output_of_a_run(run, secrets):
    assert "mlflow-db-credentials" in run.output
    assert leaks(secrets, run.output) == []


def test_events_of_a_run(run, secrets):
    """Ansible's callback events: every result, with diffs and arguments."""
    assert '"v2_runner_on_ok"' in run.events
    assert "mlflow-db-credentials" in run.events
    assert leaks(secrets, run.events) == []


def test_facts_of_a_run(run, secrets):
    assert "platform_ensured" in json.loads(run.remembered)
    assert leaks(secrets, run.remembered) == []


def test_arguments_of_processes(run, secrets):
    assert "ansible-playbook" in run.arguments
    assert re.search(r"\bpsql\b", run.arguments), "the provision Job was not seen"
    assert leaks(secrets, run.arguments) == []


def test_sealed_files(stack, secrets):
    """The directory for git, if the stack has one. No file contains sealing keys."""
    texts = [path.read_text() for path in (stack.directory / "sealed").rglob("*") if path.is_file()]
    assert leaks(secrets, "\n".join(texts)) == []


def test_objects_of_the_cluster(stack, secrets):
    """Pod specifications, ConfigMaps, annotations and events contain no secrets."""
    kinds = [
        kind
        for kind in stack.kubectl("api-resources", "--verbs=list", "--namespaced", "-o", "name").split()
        if kind != "secrets"
    ]
    for namespace in stack.namespaces.values():
        listed = stack.kubectl("-n", namespace, "get", ",".join(kinds), "-o", "json", "--show-managed-fields")
        assert '"kind": "Pod"' in listed
        assert leaks(secrets, listed) == []
        names = stack.kubectl("-n", namespace, "get", "secrets", "-o", "jsonpath={.items[*].metadata}")
        assert leaks(secrets, names) == []


def test_logs_of_the_pods(stack, secrets):
    for namespace in stack.namespaces.values():
        for pod in stack.kubectl("-n", namespace, "get", "pods", "-o", "name").split():
            logs = stack.kubectl("-n", namespace, "logs", pod, "--all-containers", "--tail=-1")
            assert leaks(secrets, logs) == [], pod


@pytest.mark.parametrize("form", ["as it is", "base64"])
@pytest.mark.parametrize("kind", sorted(PLANTED))
def test_planted_secret_is_found(stack, kind, form):
    """Control: the search finds a planted secret in a ConfigMap, in arguments, and in a run's output."""
    value = PLANTED[kind]
    secrets = {kind: value}
    planted = value if form == "as it is" else base64.b64encode(value.encode()).decode()
    stack.kubectl("-n", "mlflow", "create", "configmap", "planted", f"--from-literal=key={planted}")
    try:
        listed = stack.kubectl("-n", "mlflow", "get", "configmaps", "-o", "json")
    finally:
        stack.kubectl("-n", "mlflow", "delete", "configmap", "planted")
    assert leaks(secrets, listed) == [kind]

    with Watcher() as watcher:
        done = stack.playbook("--check", "-e", json.dumps({"planted": planted}), "--tags", "none-such", "-vvv")
    assert done.code == 0
    assert leaks(secrets, watcher.text) == [kind]
    assert leaks(secrets, json.dumps({"msg": planted})) == [kind]
    assert leaks(secrets, "nothing of the kind") == []
