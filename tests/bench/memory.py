"""Memory of the idle stack."""

import json

from tests.bench.report import MEBIBYTE, Figure, Part
from tests.lib import stack as stacks

AIM = 1434  # MiB


def by_pod(stack):
    """Return the working set of each of the stack's pods in MiB, by "namespace/pod", as the kubelet reports it.

    The kubelet uses this figure for eviction: all memory except droppable file cache.
    https://kubernetes.io/docs/reference/instrumentation/node-metrics/
    """
    found = {}
    for node in stack.core.list_node().items:
        summary = json.loads(stack.kubectl("get", "--raw", f"/api/v1/nodes/{node.metadata.name}/proxy/stats/summary"))
        for pod in summary["pods"]:
            place = pod["podRef"]
            if place["namespace"] in stacks.NAMESPACES.values():
                working_set = pod.get("memory", {}).get("workingSetBytes", 0)
                found[f"{place['namespace']}/{place['name']}"] = working_set / MEBIBYTE
    running = {
        f"{pod.metadata.namespace}/{pod.metadata.name}"
        for component in stacks.NAMESPACES
        for pod in stack.pods(component)
    }
    return {name: found[name] for name in sorted(found) if name in running}


def measure(stack):
    pods = by_pod(stack)
    whole = sum(pods.values())
    part = Part(
        "Memory of the idle stack",
        "Working set of each pod, from the kubelet's stats/summary, before anything else is measured.",
    )
    part.figures = [Figure(name, f"{value:.0f} MiB") for name, value in pods.items()]
    part.figures.append(Figure("whole stack", f"{whole:.0f} MiB", f"{AIM} MiB", whole / AIM, "<= 1.00x"))
    return part
