"""The duration of site.yml: second run, and first run on an empty cluster."""

import collections
import contextlib
import datetime
import json
import pathlib
import tempfile
import time

from tests.bench.report import Figure, Part
from tests.lib import stack as stacks

HERE = pathlib.Path(__file__).resolve().parent
CALLS_AIM = 8
SECONDS_AIM = 7
COLD_AIM = 1.25

# What a workload's pods wait for.
NEEDS = {
    "sealed-secrets-controller": [],
    "postgres": [],
    "postgres-provision": ["postgres"],
    "minio": [],
    "minio-provision": ["minio"],
    "keycloak": ["postgres-provision"],
    "mlflow-migrate": ["postgres-provision"],
    "mlflow": ["mlflow-migrate"],
}


class ConvergeError(Exception):
    """A failed playbook, with the end of its output."""


@contextlib.contextmanager
def _calls_file():
    with tempfile.TemporaryDirectory() as directory:
        yield pathlib.Path(directory) / "calls.jsonl"


def play(stack, *words, playbook="playbooks/site.yml"):
    """Run a playbook; return its seconds, its `Playbook`, and a dictionary for each module and action of ours."""
    with _calls_file() as path:
        environment = {
            "ANSIBLE_CALLBACK_PLUGINS": str(HERE / "callbacks"),
            "ANSIBLE_CALLBACKS_ENABLED": "module_calls",
            "MODULE_CALLS_PATH": str(path),
        }
        begun = time.monotonic()
        ended = stack.playbook(*words, playbook=playbook, environment=environment)
        seconds = time.monotonic() - begun
        calls = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    if ended.code != 0:
        raise ConvergeError(f"{playbook} failed:\n{ended.output[-3000:]}")
    return seconds, ended, calls


def processes(calls):
    """Return the calls of modules: an action works in a process that Ansible has anyway."""
    return [call for call in calls if call["process"]]


def pings(stack, count, *words):
    """Return the seconds of a playbook of `count` tasks that each run a minimal module."""
    tasks = [{"name": f"Ping {number + 1}", "ansible.builtin.ping": {}} for number in range(count)]
    book = [{"name": "Do nothing, often", "hosts": "mlflow", "gather_facts": False, "tasks": tasks}]
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory) / "pings.yml"
        path.write_text(json.dumps(book))
        seconds, _ended, calls = play(stack, *words, playbook=path)
    if len(calls) != count:
        raise ConvergeError(f"counted {len(calls)} executions instead of {count}")
    return seconds


def measure(stack):
    """Measure the second run of site.yml on the running stack."""
    words = ("-e", f"kind_cluster_directory={stack.directory}")
    seconds, ended, calls = play(stack, *words)
    first = ended.count("changed")
    if first:
        seconds, ended, calls = play(stack, *words)
    modules = len(processes(calls))
    least = pings(stack, modules, *words)
    part = Part(
        "Second run of site.yml",
        "Time of ansible-playbook from its start to its end, and the modules that it executed (each a process). "
        "The pings are a playbook of as many tasks that execute ansible.builtin.ping, right after it.",
    )
    part.figures = [
        Figure("module calls", str(modules), str(CALLS_AIM), modules / CALLS_AIM, "<= 1.00x"),
        Figure("time against the aim", f"{seconds:.1f} s", f"{SECONDS_AIM} s", seconds / SECONDS_AIM, "<= 1.00x"),
        Figure("time against pings", f"{seconds:.1f} s", f"{least:.1f} s", seconds / least),
        Figure("changed tasks", str(ended.count("changed")), aim="0"),
    ]
    if first:
        part.details.append(f"An earlier run changed {first} tasks, so the next one was measured.")
    counted = collections.defaultdict(list)
    for call in calls:
        counted[call["module"]].append(call["seconds"])
    inside = sum(call["seconds"] for call in calls)
    part.details.append(f"in calls {inside:.1f} s, in Ansible itself {seconds - inside:.1f} s")
    for module, times in sorted(counted.items(), key=lambda item: -sum(item[1])):
        part.details.append(f"{module}: {len(times)} calls, {sum(times):.1f} s")
    return part


# On an empty cluster


def _workload(pod):
    """Return the name of a pod's workload."""
    owner = (pod.metadata.owner_references or [None])[0]
    if owner is None:
        return pod.metadata.name
    return owner.name.rpartition("-")[0] if owner.kind in ("Job", "ReplicaSet") else owner.name


def _end(pod):
    """Return when a pod was ready, or when the last container of a Job's pod ended."""
    if pod.status.phase == "Succeeded":
        return max(status.state.terminated.finished_at for status in pod.status.container_statuses)
    conditions = {condition.type: condition for condition in pod.status.conditions or []}
    if "Ready" not in conditions or conditions["Ready"].status != "True":
        raise ConvergeError(f"{pod.metadata.namespace}/{pod.metadata.name} is not ready")
    return conditions["Ready"].last_transition_time


def timeline(stack):
    """Return start and end of each workload by name, from the timestamps of its pods (whole seconds)."""
    spans = {}
    for namespace in stacks.NAMESPACES.values():
        for pod in stack.core.list_namespaced_pod(namespace).items:
            name = _workload(pod)
            begin, end = pod.metadata.creation_timestamp, _end(pod)
            if name in spans:
                begin, end = min(begin, spans[name][0]), max(end, spans[name][1])
            spans[name] = (begin, end)
    return spans


def own_seconds(spans, needs):
    """How long each workload took by itself: from when it was made and its dependencies were ready, to when it was."""
    return {
        name: max(
            (end - max([begin, *(spans[need][1] for need in needs.get(name, []) if need in spans)])).total_seconds(), 0
        )
        for name, (begin, end) in spans.items()
    }


def longest_chain(seconds, needs):
    """Return the critical path: the longest chain of dependent workloads.

    Args:
        seconds: the seconds until each is ready, by name.
        needs: the dependencies of each, by name; names without seconds are ignored.

    Returns:
        The seconds of the chain, and its names in order.
    """
    chains = {}

    def chain(name):
        if name not in chains:
            before = [chain(need) for need in needs.get(name, []) if need in seconds]
            length, names = max(before, default=(0.0, []))
            chains[name] = (length + seconds[name], [*names, name])
        return chains[name]

    return max((chain(name) for name in seconds), default=(0.0, []))


def covered(spans):
    """Return the seconds covered by at least one of these spans."""
    total = datetime.timedelta()
    until = None
    for begin, end in sorted(spans):
        start = begin if until is None else max(begin, until)
        total += max(end - start, datetime.timedelta())
        until = end if until is None else max(until, end)
    return total.total_seconds()


def measure_cold(stack):
    """Measure site.yml on a new cluster that has the images; the cluster is removed again."""
    words = ("-e", f"kind_cluster_directory={stack.directory}")
    cluster = {"playbook": "playbooks/kind.yml"}
    play(stack, *words, "-e", "kind_cluster_state=absent", **cluster)
    try:
        play(stack, *words, **cluster)
        seconds, _ended, calls = play(stack, *words)
        spans = timeline(stack)
    finally:
        with contextlib.suppress(ConvergeError):
            play(stack, *words, "-e", "kind_cluster_state=absent", **cluster)
    each = own_seconds(spans, NEEDS)
    critical, names = longest_chain(each, NEEDS)
    one_by_one = sum(each.values())
    busy = covered(spans.values())
    part = Part(
        "First run of site.yml, on an empty cluster that has the images",
        "Time of ansible-playbook, against what the pods themselves took to be ready (Jobs: to end), by their time "
        "stamps, without the time in which they waited for other pods: along the longest chain of workloads that need "
        "one another, in all the time in which a pod was starting, and in total.",
    )
    part.figures = [
        Figure(
            "against the longest chain", f"{seconds:.1f} s", f"{critical:.0f} s", seconds / critical, f"<= {COLD_AIM}x"
        ),
        Figure("against pods starting", f"{seconds:.1f} s", f"{busy:.0f} s", seconds / busy),
        Figure("against pods added up", f"{seconds:.1f} s", f"{one_by_one:.0f} s", seconds / one_by_one),
        Figure("module calls", str(len(processes(calls)))),
    ]
    origin = min(begin for begin, _end in spans.values())
    part.details = [f"longest chain: {' -> '.join(names)}"]
    for name, (begin, end) in sorted(spans.items(), key=lambda item: item[1]):
        first, last = ((moment - origin).total_seconds() for moment in (begin, end))
        part.details.append(f"{name:26} {first:4.0f} s to {last:4.0f} s: {last - first:3.0f} s")
    return part
