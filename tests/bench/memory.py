"""Memory of the idle stack."""

from tests.bench.report import Figure, Part

AIM = 1434  # MiB


def measure(stack):
    pods = {name: used.memory for name, used in sorted(stack.usage().items())}
    whole = sum(pods.values())
    part = Part(
        "Memory of the idle stack",
        "Working set of each pod, from the kubelet's stats/summary, before anything else is measured.",
    )
    part.figures = [Figure(name, f"{value:.0f} MiB") for name, value in pods.items()]
    part.figures.append(Figure("whole stack", f"{whole:.0f} MiB", f"{AIM} MiB", whole / AIM, "<= 1.00x"))
    return part
