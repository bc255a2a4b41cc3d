"""Who reaches what: connections that pods of a cluster try, by `kubectl exec`."""

import dataclasses

from tests.lib import stack as stacks

SECONDS = 4  # for a connection; a packet that is dropped gets no answer
OPEN, CLOSED, REFUSED = "reached", "reached, no listener", "refused"
# Each target in the background: a line with its name and the status of `timeout`.
SCRIPT = """
while read -r name host port; do
  (timeout "$SECONDS_EACH" bash -c "exec 3<>/dev/tcp/$host/$port" 2>/dev/null; echo "$name $?") </dev/null &
done
wait
"""


@dataclasses.dataclass(frozen=True)
class Place:
    """Where connections are tried from: a container of a pod."""

    namespace: str
    workload: str
    container: str


@dataclasses.dataclass(frozen=True)
class Target:
    """What is called: an address and a port."""

    host: str
    port: int


def tried(stack: stacks.Stack, place: Place, targets: dict[str, Target]) -> dict[str, str]:
    """Try all targets from a place at once.

    Args:
        stack: the cluster.
        place: where from.
        targets: by their names, without spaces.

    Returns:
        For each target OPEN, CLOSED (the address answered that nothing listens), or REFUSED (no answer).
    """
    lines = "".join(f"{name} {target.host} {target.port}\n" for name, target in targets.items())
    output = stack.kubectl(
        *("-n", place.namespace, "exec", "-i", place.workload, "-c", place.container, "--"),
        *("env", f"SECONDS_EACH={SECONDS}", "bash", "-c", SCRIPT),
        text=lines,
    )
    codes = dict(line.split() for line in output.splitlines())
    return {name: {"0": OPEN, "124": REFUSED}.get(codes[name], CLOSED) for name in targets}


def table(results: dict[str, dict[str, str]]) -> str:
    """Give results by place and target as a table in Markdown."""
    places = list(results)
    targets = list(next(iter(results.values())))
    lines = ["| To | " + " | ".join(f"from {place}" for place in places) + " |", "|---" * (len(places) + 1) + "|"]
    lines += [
        f"| {target} | " + " | ".join(results[place].get(target, "-") for place in places) + " |" for target in targets
    ]
    return "\n".join(lines) + "\n"
