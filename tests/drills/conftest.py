"""The cluster of the drills."""

import contextlib

import pytest

from tests.lib import DIRECTORY, INVENTORY
from tests.lib import stack as stacks
from tests.lib.drill import KIND, Drill

pytest_plugins = ["tests.lib.fixtures"]
MARK = "used"  # as molecule/shared/ marks a cluster that something was deployed on


def pytest_addoption(parser):
    group = parser.getgroup("mlops.mlflow")
    group.addoption(
        "--keep-cluster", action="store_true", help="use the tests' cluster as it stands, and leave it standing"
    )


@pytest.fixture(scope="session")
def drill(request, say):
    """The tests' cluster, created for the drills and removed after them; a leftover one is removed first."""
    made = Drill(DIRECTORY, INVENTORY, say)
    keep = request.config.getoption("--keep-cluster")
    if not keep:
        say("creating the cluster of the drills ...")
        made.run("molecule/shared/destroy.yml").expect_success("removing what an earlier run left")
    made.run(KIND).expect_success("making the cluster")
    (made.directory / MARK).write_text("drills\n")
    if not keep:
        made.clear()  # a leftover cluster of another checkout has no mark in this one
    there = {each.metadata.name for each in made.stack.core.list_namespace().items}
    if not there & set(stacks.NAMESPACES.values()):
        made.never = made.stack.everything()
    if not keep:
        made.deploy_on_empty()
    yield made
    if not keep:
        say("removing the cluster of the drills ...")
        made.run("molecule/shared/destroy.yml").expect_success("removing the cluster")


@pytest.fixture
def deployed(drill):
    """The cluster with the stack, whatever state the previous drill left."""
    drill.ensure()
    return drill


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    found = item.funcargs.get("drill") if report.failed else None
    if found:
        found.whole = False
        path = found.logs / f"{''.join(c if c.isalnum() else '-' for c in item.name)}.log"
        with path.open("w") as stream, contextlib.suppress(OSError):
            stream.write(found.stack.kubectl("get", "all,pvc", "-A", "-o", "wide", check=False))
            stream.write(found.stack.kubectl("get", "events", "-A", "--sort-by=.lastTimestamp", check=False)[-16000:])
        report.sections.append(("What the cluster looked like", str(path)))
    return report
