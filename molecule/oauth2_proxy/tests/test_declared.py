"""access.yml with oauth2-proxy: permissions of a group, and programs that bypass the proxy."""

import json

import pytest
import requests

from tests.lib import proxied
from tests.lib import stack as stacks

USER = "demo-user"
API = "/api/2.0/mlflow"


@pytest.fixture(scope="module")
def name():
    """The name of all objects of these tests."""
    return f"declared-{int(stacks.time.time())}"


@pytest.fixture(scope="module")
def converge(stack, name, tmp_path_factory):
    """A function that runs access.yml and returns its result."""
    path = tmp_path_factory.mktemp("access") / "variables.json"
    tree = {
        "experiments": [name],
        "users": {USER: {}},
        "groups": {name: {"members": [USER], "experiments": {name: "READ"}}},
        "service_accounts": {
            f"{name}-robot": {"tokens": [{"name": "ci", "secret": {"namespace": name, "name": "ci"}}]}
        },
    }
    clients = [{"name": f"{name}-client", "namespaces": [name]}]
    path.write_text(json.dumps({"mlflow_access": tree, "mlflow_clients": clients}))
    stack.kubectl("create", "namespace", name)
    yield lambda: stack.playbook("-e", f"@{path}", playbook="playbooks/access.yml")
    for account in (f"{name}-robot", f"{name}-client"):
        stack.administrate("DELETE", "users/delete", {"username": account})
    stack.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="module")
def made(converge):
    done = converge()
    assert done.code == 0, done.output
    assert done.count("changed") > 0
    return done


def test_second_run_changes_nothing(made, converge):
    done = converge()
    assert done.code == 0, done.output
    assert done.count("changed") == 0, done.output


def test_group_member_can_read_but_not_write(made, stack, name):
    session, _unused = stack.sign_in(USER)
    found = session.get(
        f"{stack.mlflow_url}{API}/experiments/get-by-name", params={"experiment_name": name}, timeout=60
    )
    assert found.status_code == 200, found.text
    body = {"experiment_id": found.json()["experiment"]["experiment_id"], "key": "tests", "value": "1"}
    answer = session.post(f"{stack.mlflow_url}{API}/experiments/set-experiment-tag", json=body, timeout=60)
    assert answer.status_code == 403, answer.text


def test_programs_bypass_the_proxy(made, stack, name):
    client = stack.secret(name, "mlflow-credentials")
    assert str(client["MLFLOW_TRACKING_URI"]) == stack.api_url
    robot = stack.secret(name, "ci")
    for account, user, password in (
        (f"{name}-client", client["MLFLOW_TRACKING_USERNAME"], client["MLFLOW_TRACKING_PASSWORD"]),
        (f"{name}-robot", robot["username"], robot["password"]),
    ):
        answer = requests.get(stack.api_url + proxied.CURRENT, auth=(user, password), timeout=60)
        assert answer.json()["user"]["username"] == account
