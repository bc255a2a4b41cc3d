"""Clients outside of the cluster, which know the URL, a user, a token and the CA."""

import textwrap

import requests
from playwright.sync_api import expect

from tests.lib import stack as stacks
from tests.lib.clients import ROUND_TRIP, RUN
from tests.lib.pages import enter, picture

WHO = "path => fetch(path).then(answer => answer.ok ? answer.json() : {status: answer.status})"


def who(stack, page):
    """What the page of a browser is told of its user."""
    return page.evaluate(WHO, f"{stack.mlflow_url}/api/2.0/mlflow/users/current")


def test_login_and_logout(stack, page, screenshots):
    enter(stack, page, stacks.USER)
    assert who(stack, page)["username"] == stacks.USER
    cookies = page.context.cookies(stack.mlflow_url)
    assert cookies
    assert all(cookie["secure"] and cookie["httpOnly"] for cookie in cookies if "session" in cookie["name"])
    page.goto(f"{stack.mlflow_url}/#/experiments")
    page.reload()
    expect(page.get_by_text("Experiments").first).to_be_visible()
    assert page.url.startswith(stack.mlflow_url)
    picture(page, screenshots / "edge.png")
    page.goto(f"{stack.mlflow_url}/logout")
    page.wait_for_url(lambda url: url.startswith(stack.mlflow_url) and "/logout" not in url)
    assert who(stack, page) == {"status": 401}


def test_pages_have_all_their_files(stack, page):
    """Scripts, styles and calls of MLflow's own pages and of those of the login."""
    failed = []
    page.on("response", lambda answer: answer.status >= 400 and failed.append((answer.status, answer.url)))
    enter(stack, page, stacks.ADMIN)
    failed.clear()
    for path in ("/#/experiments", "/#/models", "/oidc/ui/user", "/oidc/ui/user/tokens", "/oidc/ui/trash"):
        page.goto(f"{stack.mlflow_url}{path}")
        page.wait_for_timeout(3000)  # pages go on asking, so that the network never rests
        assert page.url.startswith(stack.mlflow_url), page.url
    # The assistant is off.
    assert [each for each in failed if "/assistant/" not in each[1]] == []


def test_artifacts_go_through(stack, admin_token, mark):
    done = stack.client(ROUND_TRIP, stacks.ADMIN, admin_token, 300, f"edge-{mark}")
    run = done.stdout.splitlines()[-1].split()[0]
    assert [entry["size"] for entry in stack.objects() if run in entry["key"]] == [300 << 20]


TRACE = """
    import sys, time
    import mlflow
    mlflow.set_experiment(sys.argv[1])
    with mlflow.start_span("through-the-edge") as span:
        span.set_inputs({"x": 1})
    mlflow.flush_trace_async_logging()
    found = mlflow.search_traces(return_type="list")
    assert [each.data.spans[0].name for each in found] == ["through-the-edge"], found
    print("traced")
"""


def test_a_trace(stack, admin_token, mark):
    assert "traced" in stack.client(TRACE, stacks.ADMIN, admin_token, f"edge-trace-{mark}").stdout


def test_a_host_for_programs(stack, admin_token, mark):
    """It has the API, and no pages and no login."""
    url = stack.api_url
    script = f"import os; os.environ['MLFLOW_TRACKING_URI'] = '{url}'\n" + textwrap.dedent(RUN)
    stack.client(script, stacks.ADMIN, admin_token, f"edge-api-{mark}")
    for path in (
        "",
        "/",
        "/oidc/ui/",
        "/login",
        "/callback",
        "/ajax-api/2.0/mlflow/users/current",
        "/static-files/",
        "/metrics",
    ):
        assert requests.get(url + path, timeout=60, allow_redirects=False).status_code == 404, path
    assert requests.get(f"{url}/api/2.0/mlflow/users/current", timeout=60).status_code == 401


def test_a_certificate_of_another_ca(stack, admin_token, monkeypatch):
    """A client without the CA refuses the edge, rather than sending its token."""
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    script = """
        import os
        os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
        import mlflow
        mlflow.search_experiments()
    """
    done = stack.client(script, stacks.ADMIN, admin_token, check=False)
    assert done.returncode != 0
    assert "CERTIFICATE_VERIFY_FAILED" in done.stderr
