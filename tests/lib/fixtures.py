"""A plugin of pytest: the stack under test, who uses it, and what is kept of it when a test fails."""

import datetime
import os
import pathlib
import shutil
from collections.abc import Callable
from typing import TypeVar

import access_token
import pytest
import quickstart
import requests
import testinfra
from ansible.plugins.loader import init_plugin_loader
from testinfra.host import Host

from tests.lib import DIRECTORY, INVENTORY, REPOSITORY, drill, pages
from tests.lib import stack as stacks

AnyStack = TypeVar("AnyStack", bound=stacks.Stack)

# In place before any test imports a plugin or renders a role: it can't be put in later.
init_plugin_loader([])


def pytest_addoption(parser):
    group = parser.getgroup("mlops.mlflow")
    group.addoption("--stack-dir", type=pathlib.Path, default=DIRECTORY, help="directory of the stack to test")
    group.addoption(
        "--stack-inventory",
        type=pathlib.Path,
        action="append",
        help="inventories that deployed it, by default the tests' and the scenario's",
    )


def stack_of(config: pytest.Config, kind: type[AnyStack] = stacks.Stack, scenario: str | None = None) -> AnyStack:
    """The stack that the options name.

    Args:
        config: pytest's.
        kind: its class.
        scenario: which molecule scenario deployed it, unless the options say; by default the one that runs.
    """
    directory, inventories = config.getoption("--stack-dir"), config.getoption("--stack-inventory")
    if not inventories and directory.name == "quickstart":
        inventories = [REPOSITORY / "inventory" / "kind"]
    elif not inventories:
        scenario = scenario or os.environ.get("MOLECULE_SCENARIO_NAME", "default")
        own = REPOSITORY / "molecule" / scenario / "inventory"
        inventories = [INVENTORY, *([own] if own.exists() else [])]
    found = kind(directory, *inventories)
    if not found.kubeconfig.exists():
        pytest.fail(f"There is no {found.kubeconfig}: deploy the stack first, or name another with --stack-dir")
    return found


@pytest.fixture(scope="session")
def stack(request: pytest.FixtureRequest) -> stacks.Stack:
    """The stack under test; a scenario that has more to tell of its own gives one of its own class."""
    return stack_of(request.config)


@pytest.fixture
def pod(stack: stacks.Stack) -> Callable[..., Host]:
    """Gives testinfra's view of a container, by its component, or by its pod's name as well, and by its own."""

    def look(component: str, name: str | None = None, container: str | None = None) -> Host:
        found = next(each for each in stack.pods(component) if name in (None, each.metadata.name))
        where = f"{found.metadata.name}?namespace={found.metadata.namespace}"
        container = container or found.spec.containers[0].name
        return testinfra.get_host(f"kubectl://{where}&container={container}&kubeconfig={stack.kubeconfig}")

    return look


@pytest.fixture(scope="session")
def say(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Print a line with the time while a test runs."""
    return drill.announcer(request.config)


@pytest.fixture(scope="module")
def plugin(stack):
    """The authorization plugin of the running server: `oidc` or `basic`."""
    deployment = stack.apps.read_namespaced_deployment("mlflow", stacks.NAMESPACES["mlflow"])
    variables = {each.name: each.value for each in deployment.spec.template.spec.containers[0].env}
    return variables["MLOPS_AUTH"]


@pytest.fixture(scope="session")
def admin_token(stack):
    """An access token of demo-admin."""
    return stack.environment["MLFLOW_TRACKING_PASSWORD"]


@pytest.fixture(scope="session")
def user_token(stack):
    """An access token of demo-user, deleted after the tests."""
    session = stack.login(stacks.USER)
    token = stacks.Hidden(access_token.mint(stack.mlflow_url, session, name="tests", days=1))
    yield token
    for listed in session.get(stack.mlflow_url + access_token.TOKENS, timeout=60).json().get("tokens", []):
        if listed["name"] == "tests":
            session.delete(f"{stack.mlflow_url}{access_token.TOKENS}/{listed['id']}", timeout=60)


@pytest.fixture(scope="session")
def example(stack, admin_token):
    """The run and the model of docs/examples/iris.py, which is run if necessary."""
    if not quickstart.example_ran(stack.mlflow_url, admin_token):
        quickstart.run_example(stack.mlflow_url, admin_token)
    answer = requests.get(
        f"{stack.mlflow_url}/api/2.0/mlflow/registered-models/get",
        params={"name": quickstart.MODEL},
        auth=(stacks.ADMIN, admin_token),
        timeout=60,
    )
    version = answer.json()["registered_model"]["latest_versions"][0]
    run = requests.get(
        f"{stack.mlflow_url}/api/2.0/mlflow/runs/get",
        params={"run_id": version["run_id"]},
        auth=(stacks.ADMIN, admin_token),
        timeout=60,
    ).json()["run"]
    return {
        "run_id": version["run_id"],
        "experiment_id": run["info"]["experiment_id"],
        "model": quickstart.MODEL,
        "version": version["version"],
        "run": run,
    }


@pytest.fixture(scope="session")
def screenshots(stack):
    """The directory of the screenshots."""
    place = stack.directory / "screenshots"
    place.mkdir(exist_ok=True)
    return place


@pytest.fixture(scope="session")
def mark():
    """A name unique to this run, for objects of its tests."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y%m%d-%H%M%S")


@pytest.fixture(scope="session")
def browser_path():
    """The path of the machine's browser."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        path = shutil.which(name)
        if path:
            return path
    pytest.fail("No chromium, chromium-browser or google-chrome is on the PATH: install one")


@pytest.fixture(scope="module")
def browser(browser_path):
    with pages.running(browser_path) as started:
        yield started


@pytest.fixture
def page(browser):
    with pages.fresh(browser) as shown:
        yield shown


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed and "stack" in item.fixturenames and "stack" in item.funcargs:
        _keep_diagnostics(item.funcargs["stack"], item.name)
    return report


def _keep_diagnostics(stack, name):
    """Write pods, events and the ends of logs to a file, since the cluster is removed after a failed run."""
    place = stack.directory / "diagnostics"
    place.mkdir(exist_ok=True)
    with (place / f"{''.join(c if c.isalnum() else '-' for c in name)[:80]}.txt").open("w") as stream:
        stream.write(stack.kubectl("get", "pods", "-A", "-o", "wide", check=False))
        stream.write(stack.kubectl("get", "events", "-A", "--sort-by=.lastTimestamp", check=False)[-8000:])
        for namespace in stacks.NAMESPACES.values():
            for pod in stack.kubectl("-n", namespace, "get", "pods", "-o", "name", check=False).split():
                stream.write(f"\n== {namespace} {pod}\n")
                stream.write(stack.kubectl("-n", namespace, "logs", pod, "--all-containers", "--tail=60", check=False))
