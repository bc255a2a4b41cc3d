"""Names and passwords over HTTP: who is let in, and what the others are told."""

import pytest
import requests

from tests.lib import stack as stacks

SEARCH = "/api/2.0/mlflow/experiments/search?max_results=1"


def test_token_is_let_in(stack, admin_token):
    answer = requests.get(stack.mlflow_url + SEARCH, auth=(stacks.ADMIN, admin_token), timeout=60)
    assert answer.status_code == 200, answer.text


def test_everybody_is_who_the_token_says(stack, admin_token, user_token):
    for user, token, administrator in ((stacks.ADMIN, admin_token, True), (stacks.USER, user_token, False)):
        profile = requests.get(
            f"{stack.mlflow_url}/api/2.0/mlflow/users/current", auth=(user, token), timeout=60
        ).json()
        assert (profile["username"], profile["is_admin"]) == (user, administrator)


@pytest.mark.parametrize(
    "credentials",
    [
        pytest.param(None, id="none"),
        pytest.param((stacks.ADMIN, "wrong"), id="wrong password"),
        pytest.param((stacks.ADMIN, ""), id="empty password"),
        pytest.param(("nobody", "wrong"), id="unknown name"),
    ],
)
def test_others_are_not(stack, credentials):
    answer = requests.get(stack.mlflow_url + SEARCH, auth=credentials, timeout=60, allow_redirects=False)
    assert answer.status_code in (401, 302), answer.text
    assert "experiments" not in answer.text


def test_the_login_password_is_no_token(stack):
    """A person's password is for the identity provider only."""
    answer = requests.get(stack.mlflow_url + SEARCH, auth=(stacks.ADMIN, stack.password(stacks.ADMIN)), timeout=60)
    assert answer.status_code == 401


def test_somebody_elses_token(stack, admin_token):
    answer = requests.get(stack.mlflow_url + SEARCH, auth=(stacks.USER, admin_token), timeout=60)
    assert answer.status_code == 401


def test_a_token_mints_no_token(stack, admin_token):
    answer = requests.post(
        f"{stack.mlflow_url}/api/2.0/mlflow/users/current/tokens",
        json={"name": "second", "expiration": "2030-01-01"},
        auth=(stacks.ADMIN, admin_token),
        timeout=60,
    )
    assert answer.status_code == 403, answer.text


def test_health_needs_no_credentials(stack):
    assert requests.get(f"{stack.mlflow_url}/health", timeout=60).status_code == 200


def test_metrics_are_for_the_cluster_only(stack, admin_token):
    """They have a port of their own, which no Service leads to; where people come in there is nothing."""
    for credentials in (None, (stacks.ADMIN, admin_token)):
        answer = requests.get(f"{stack.mlflow_url}/metrics", auth=credentials, timeout=60)
        assert (answer.status_code, "mlflow" in answer.text) == (404, False)
    with stack.forwarded("mlflow", 5001) as port:
        answer = requests.get(f"http://localhost:{port}/metrics", timeout=60)
    assert "mlflow_http_request_total" in answer.text
    ports = {
        port.target_port
        for service in stack.core.list_namespaced_service(stacks.NAMESPACES["mlflow"]).items
        for port in service.spec.ports
    }
    assert not ports & {5001, "metrics"}


def test_another_host_name_is_refused(stack, admin_token):
    """A page of somebody else that a browser resolves to this server (DNS rebinding) gets nothing."""
    answer = requests.get(
        stack.mlflow_url + SEARCH, headers={"Host": "evil.example"}, auth=(stacks.ADMIN, admin_token), timeout=60
    )
    assert answer.status_code == 403, answer.text
