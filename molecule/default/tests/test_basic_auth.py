"""Basic authentication: which credentials are accepted, and the answers to others."""

import pytest
import requests

from tests.lib import stack as stacks

SEARCH = "/api/2.0/mlflow/experiments/search?max_results=1"


def test_token_is_accepted(stack, admin_token):
    answer = requests.get(stack.mlflow_url + SEARCH, auth=(stacks.ADMIN, admin_token), timeout=60)
    assert answer.status_code == 200, answer.text


def test_token_determines_the_user(stack, admin_token, user_token):
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
def test_invalid_credentials_are_refused(stack, credentials):
    answer = requests.get(stack.mlflow_url + SEARCH, auth=credentials, timeout=60, allow_redirects=False)
    assert answer.status_code in (401, 302), answer.text
    assert "experiments" not in answer.text


def test_login_password_is_not_a_token(stack):
    """A user's password is valid at the identity provider only."""
    answer = requests.get(stack.mlflow_url + SEARCH, auth=(stacks.ADMIN, stack.password(stacks.ADMIN)), timeout=60)
    assert answer.status_code == 401


def test_token_of_another_user_is_refused(stack, admin_token):
    answer = requests.get(stack.mlflow_url + SEARCH, auth=(stacks.USER, admin_token), timeout=60)
    assert answer.status_code == 401


def test_token_cannot_create_tokens(stack, admin_token):
    answer = requests.post(
        f"{stack.mlflow_url}/api/2.0/mlflow/users/current/tokens",
        json={"name": "second", "expiration": "2030-01-01"},
        auth=(stacks.ADMIN, admin_token),
        timeout=60,
    )
    assert answer.status_code == 403, answer.text


def test_health_needs_no_credentials(stack):
    assert requests.get(f"{stack.mlflow_url}/health", timeout=60).status_code == 200


def test_metrics_are_not_public(stack, admin_token):
    """Metrics are served on a separate port without a Service, and not on the public one."""
    for credentials in (None, (stacks.ADMIN, admin_token)):
        answer = requests.get(f"{stack.mlflow_url}/metrics", auth=credentials, timeout=60)
        assert (answer.status_code, "mlflow" in answer.text) == (404, False)
    with stack.forwarded("mlflow", 5001) as port:
        answer = requests.get(f"http://localhost:{port}/metrics", timeout=60)
    assert "mlflow_http_request_duration_seconds_count" in answer.text
    ports = {
        port.target_port
        for service in stack.core.list_namespaced_service(stacks.NAMESPACES["mlflow"]).items
        for port in service.spec.ports
    }
    assert not ports & {5001, "metrics"}


def test_another_host_name_is_refused(stack, admin_token):
    """Requests with an unknown Host header are refused, against DNS rebinding."""
    answer = requests.get(
        stack.mlflow_url + SEARCH, headers={"Host": "evil.example"}, auth=(stacks.ADMIN, admin_token), timeout=60
    )
    assert answer.status_code == 403, answer.text
