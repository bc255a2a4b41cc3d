"""A file of 2 GiB through the edge, which no pod on its way holds, in memory or on disk."""

from tests.lib import stack as stacks
from tests.lib.clients import ROUND_TRIP

MEBIBYTES = 2048
# Of a pod more than it used before: buffers, and what a collector has not collected yet.
MOST = 512


class Watch(stacks.Background):
    """The most that each pod uses meanwhile."""

    def __init__(self, stack):
        super().__init__()
        self.stack = stack
        self.most = {}

    def run(self):
        while not self.done.wait(2):
            for pod, used in self.stack.usage().items():
                known = self.most.setdefault(pod, used)
                self.most[pod] = stacks.Usage(max(known.memory, used.memory), max(known.storage, used.storage))


def test_no_pod_holds_a_large_file(stack, admin_token, mark):
    before = stack.usage()
    with Watch(stack) as watch:
        done = stack.client(ROUND_TRIP, stacks.ADMIN, admin_token, MEBIBYTES, f"edge-large-{mark}")
    run, _digest, times = done.stdout.splitlines()[-1].split(maxsplit=2)
    assert [entry["size"] for entry in stack.objects() if run in entry["key"]] == [MEBIBYTES << 20]
    grown = {
        pod: (used.memory - before[pod].memory, used.storage - before[pod].storage)
        for pod, used in watch.most.items()
        if pod in before
    }
    print(f"{MEBIBYTES} MiB: {times}")
    for pod, (memory, storage) in sorted(grown.items()):
        print(f"{pod}: {memory:+.0f} MiB of memory, {storage:+.0f} MiB of storage")
    assert {"mlflow", "minio", "traefik"} <= {pod.partition("/")[0] for pod in grown}
    assert {pod: used for pod, used in grown.items() if max(used) > MOST} == {}
