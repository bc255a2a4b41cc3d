"""Programs bypass oauth2-proxy, with a name and a password of MLflow."""

import secrets

import pytest
import requests

from tests.lib import proxied
from tests.lib import stack as stacks


def ask(stack, user, password, path=proxied.CURRENT):
    return requests.get(stack.api_url + path, auth=(user, str(password)), timeout=60)


@pytest.fixture(scope="module")
def program(stack):
    """Name and password of an account that an administrator created."""
    name, password = "ci-tests", secrets.token_urlsafe(24)
    stack.administrate("POST", "users/create", {"username": name, "password": password})
    yield name, stacks.Hidden(password)
    stack.administrate("DELETE", "users/delete", {"username": name})


def test_the_playbooks_account_is_the_administrator(stack):
    profile = ask(stack, *stack.administrator).json()["user"]
    assert (profile["username"], profile["is_admin"]) == (stack.administrator[0], True)


def test_password_determines_the_program(stack, program):
    profile = ask(stack, *program).json()["user"]
    assert (profile["username"], profile["is_admin"]) == (program[0], False)


def test_a_stock_client_logs_a_run(stack, program, monkeypatch):
    monkeypatch.setattr(type(stack), "mlflow_url", stack.api_url)
    done = stack.client(
        """
        import sys

        import mlflow

        mlflow.set_experiment(sys.argv[1])
        with mlflow.start_run() as run:
            mlflow.log_metric("accuracy", 0.5)
            mlflow.log_text("hello", "greeting.txt")
        print(mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/greeting.txt"))
        """,
        *program,
        f"of a program {stacks.time.time()}",
    )
    assert done.stdout.strip().splitlines()[-1] == "hello"


@pytest.mark.parametrize("password", ["", "wrong", "wrong-password-of-the-bridge-000000000000000000"])
def test_wrong_passwords_are_refused(stack, program, password):
    for name in (program[0], stack.administrator[0], "demo-user", "nobody"):
        assert ask(stack, name, password).status_code == 401


def test_proxy_headers_without_the_bridge_password_are_ignored(stack):
    forged = {"X-Forwarded-User": "demo-user", "X-Forwarded-Email": "demo-user@example.com", "Remote-User": "demo-user"}
    answer = requests.get(stack.api_url + proxied.CURRENT, headers=forged, timeout=60)
    assert answer.status_code == 401


def test_provider_password_is_refused(stack):
    assert ask(stack, "demo-user", stack.password("demo-user")).status_code == 401


def test_user_with_a_password_for_programs(stack):
    session, _unused = stack.sign_in("demo-user")
    number = session.get(stack.mlflow_url + proxied.CURRENT, timeout=60).json()["user"]["id"]
    password = secrets.token_urlsafe(24)
    stack.administrate("PATCH", "users/update-password", {"username": "demo-user", "password": password})
    assert ask(stack, "demo-user", password).json()["user"]["id"] == number
    assert session.get(stack.mlflow_url + proxied.CURRENT, timeout=60).json()["user"]["id"] == number


def test_bridge_password_does_not_open_reserved_accounts(stack):
    """Even for a caller who has it."""
    for name in (stack.administrator[0], stack.administrator[0].upper(), "robot"):
        assert ask(stack, name, stack.bridge_password).status_code == 403
