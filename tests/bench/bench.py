"""Print speed and size of a running stack, as ratios against a peer where there is one.

Usage: python -m tests.bench.bench --directory build/quickstart

No time makes the benchmark fail: aims are printed next to the figures, and the exit code only shows whether everything
could be measured. All traffic stays on this machine and in its cluster, and everything created is removed again.
"""

import argparse
import dataclasses
import json
import pathlib
import subprocess
import sys

import kubernetes
import requests

from tests.bench import access, backup, converge, memory, observed, report, server
from tests.lib import stack as stacks
from tests.lib.edge import EdgeStack

COLD = "cold"
# Not among those by default: the quickstart has none of what they measure, or it takes minutes.
EDGE = "edge"
BACKUP = "backup"
OBSERVED = "observed"
FURTHER = (EDGE, BACKUP, OBSERVED)
PARTS = ("memory", "second-run", "log-batch", "artifact", "small-artifacts", "many-clients", "search", "access", COLD)
ERRORS = (
    converge.ConvergeError,
    server.ServerError,
    stacks.NotYetError,
    stacks.access_token.LoginError,
    stacks.quickstart.QuickstartError,
    kubernetes.client.ApiException,
    requests.RequestException,
    subprocess.SubprocessError,
    OSError,
    RuntimeError,
)


def between(least, most):
    """Return an argument type: a whole number from `least` to `most`."""

    def number(text):
        if not text.isdecimal() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"'{text}': a whole number from {least} to {most}")
        return int(text)

    return number


def arguments_of(words=None):
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog="\n".join(__doc__.splitlines()[4:]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    repository = stacks.REPOSITORY
    add = parser.add_argument
    add(
        "--directory",
        type=pathlib.Path,
        default="build/quickstart",
        help="directory with the running stack's kubeconfig",
    )
    add(
        "--inventory",
        type=pathlib.Path,
        nargs="+",
        default=[repository / "inventory/kind"],
        help="the inventory that deployed it, or several in the order in which they were read",
    )
    add(
        "--only",
        nargs="+",
        choices=[*PARTS, *FURTHER],
        default=PARTS,
        metavar="PART",
        help=f"some of {', '.join(PARTS)}; all by default. {EDGE} is of a stack behind Traefik, such as that of the "
        f"scenario `edge`. {BACKUP} is of a stack with backups, such as that of the scenario `backup`; its backups "
        f"stay until they are too old. {OBSERVED} is what metrics, logs and spans cost, with the options of "
        f"log-batch. {COLD}, the first run of site.yml, recreates the tests' cluster and removes it again: about 3 "
        "minutes. The running stack is not touched",
    )
    add("--seconds", type=between(2, 120), default=10, help="log-batch: seconds per round (10)")
    add("--rounds", type=between(1, 10), default=3, help="log-batch: number of rounds (3)")
    add("--connections", type=between(1, 128), default=16, help="log-batch: number of connections (16)")
    add("--metrics", type=between(1, 1000), default=10, help="log-batch: values per batch (10)")
    add("--mebibytes", type=between(1, 16384), default=1024, help="artifact: its size (1024)")
    add("--runs", type=between(100, 10000000), default=100000, help="backup: number of runs (100000)")
    add("--artifacts", type=between(16, 1048576), default=10240, help="backup: MiB of their artifacts (10240)")
    add("--cold-directory", type=pathlib.Path, default="build/test", help="cold: directory of the tests' cluster")
    add("--cold-inventory", type=pathlib.Path, default=repository / "tests/inventory", help="cold: its inventory")
    add("--json", type=pathlib.Path, metavar="FILE", help="write the figures to a file as well")
    arguments = parser.parse_args(words)
    wanted = set(arguments.only)
    arguments.parts = [part for part in (*PARTS, *FURTHER) if part in wanted]
    if COLD in wanted and arguments.cold_directory.resolve() == arguments.directory.resolve():
        parser.error("--cold-directory is the running stack's and would be removed")
    if wanted != {COLD} and not (arguments.directory / "kubeconfig").exists():
        parser.error(
            f"there is no {arguments.directory / 'kubeconfig'}: run make quickstart first, or name another --directory"
        )
    return arguments


def cluster(stack):
    """Return a one-line description of the cluster."""
    nodes = stack.core.list_node().items
    version = nodes[0].status.node_info.kubelet_version
    cores = ", ".join(node.status.capacity["cpu"] for node in nodes)
    return f"Kubernetes {version}, nodes: {len(nodes)} with {cores} cores"


def measurements(arguments):
    """Return the measurements by name; each returns a `report.Part`."""
    kind = EdgeStack if EDGE in arguments.parts else stacks.Stack
    stack = kind(arguments.directory, *arguments.inventory)
    empty = stacks.Stack(arguments.cold_directory, arguments.cold_inventory)
    load = (arguments.seconds, arguments.rounds, arguments.connections, arguments.metrics)
    return stack, {
        "memory": lambda: memory.measure(stack),
        "second-run": lambda: converge.measure(stack),
        "log-batch": lambda: server.measure_log_batch(stack, *load),
        "artifact": lambda: server.measure_artifact(stack, arguments.mebibytes),
        "small-artifacts": lambda: server.measure_small_artifacts(stack),
        "many-clients": lambda: server.measure_many_clients(stack),
        EDGE: lambda: server.measure_edge(stack, arguments.mebibytes, *load),
        OBSERVED: lambda: observed.measure(stack, *load),
        BACKUP: lambda: backup.measure(stack, arguments.runs, arguments.artifacts, load),
        "search": lambda: server.measure_search(stack),
        "access": lambda: access.measure(stack),
        COLD: lambda: converge.measure_cold(empty),
    }


def main():
    arguments = arguments_of()
    stack, measure = measurements(arguments)
    about = report.machine()
    if arguments.parts != [COLD]:
        about["cluster"] = cluster(stack)
    for name, text in about.items():
        print(f"{name:8} {text}")
    print(flush=True)
    found = {}
    failed = []
    for name in arguments.parts:
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        try:
            found[name] = measure[name]()
            print(report.shown(found[name]), flush=True)
        except ERRORS as error:
            failed.append(name)
            print(f"{name}: not measured: {error}\n", file=sys.stderr, flush=True)
    if arguments.json:
        parts = {name: dataclasses.asdict(part) for name, part in found.items()}
        arguments.json.write_text(json.dumps({"about": about, "parts": parts}, indent=2) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
