"""Tokens, permissions and long sessions in the browser."""

import contextlib
import re
import secrets
import time

import pytest
import requests
from playwright.sync_api import TimeoutError as NotShown
from playwright.sync_api import expect

from tests.lib import stack as stacks
from tests.lib.keycloak_admin import Keycloak
from tests.lib.pages import enter, go_to_login, log_in, picture, who


@pytest.fixture
def keycloak(stack, mark):
    realm = Keycloak(stack, f"browser-{mark}")
    yield realm
    realm.clear()


def test_front_page_shows_the_login_button(stack, page, screenshots):
    page.goto(stack.mlflow_url)
    expect(page.get_by_text(re.compile("log in with", re.I))).to_be_visible()
    picture(page, screenshots / "front.png")


def test_user_in_no_group_is_refused(stack, page, screenshots, keycloak, admin_token):
    """An account in the realm alone gives no access to MLflow."""
    password = stacks.Hidden(secrets.token_urlsafe(16))
    name = keycloak.user("no-group", password)
    go_to_login(stack, page)
    log_in(page, name, password)
    page.wait_for_url(lambda url: url.startswith(stack.mlflow_url) and "/callback" not in url)
    expect(
        page.get_by_text(re.compile("not (allowed|authorized|permitted)|denied|no access", re.I)).first
    ).to_be_visible()
    picture(page, screenshots / "no-group.png")
    assert who(stack, page) is None
    known = requests.get(f"{stack.mlflow_url}/api/2.0/mlflow/users", auth=(stacks.ADMIN, admin_token), timeout=60).text
    assert name not in known


def test_user_in_the_group_is_admitted(stack, page, keycloak):
    """The same user as above, but in a group."""
    password = stacks.Hidden(secrets.token_urlsafe(16))
    name = keycloak.user("member", password, [stack.variables.get("mlflow_user_group", "mlflow-users")])
    go_to_login(stack, page)
    log_in(page, name, password)
    page.wait_for_url(lambda url: url.startswith(stack.mlflow_url) and "/callback" not in url)
    assert who(stack, page) == name
    admin = stack.login(stacks.ADMIN)
    admin.delete(f"{stack.mlflow_url}/api/2.0/mlflow/users", json={"username": name}, timeout=60).raise_for_status()


def test_token_created_on_the_page_works(stack, page, screenshots, mark):
    name = f"browser-{mark}"
    enter(stack, page, stacks.USER)
    page.goto(f"{stack.mlflow_url}/oidc/ui/user/tokens")
    page.get_by_role("button", name=re.compile("create token", re.I)).click()
    page.locator("#user-token-name").fill(name)
    page.locator("form").get_by_role("button", name=re.compile("create token", re.I)).click()
    token = stacks.Hidden(page.locator("#user-token-secret").input_value())
    page.get_by_role("button", name="Done").click()
    expect(page.get_by_text(name).first).to_be_visible()
    picture(page, screenshots / "tokens.png")
    script = """
        import sys
        import mlflow

        mlflow.set_experiment(sys.argv[1])
        with mlflow.start_run():
            mlflow.log_metric("loss", 1)
    """
    stack.client(script, stacks.USER, token, name)

    listed = page.request.get(f"{stack.mlflow_url}/api/2.0/mlflow/users/current/tokens").json()["tokens"]
    row = page.get_by_role("row").filter(has_text=name)
    row.get_by_role("button").last.click()
    page.get_by_role("button", name="Delete token").last.click()
    expect(page.get_by_role("row").filter(has_text=name)).to_have_count(0)
    assert name in [each["name"] for each in listed]
    search = f"{stack.mlflow_url}/api/2.0/mlflow/experiments/search?max_results=1"
    stacks.wait_until(
        lambda: requests.get(search, auth=(stacks.USER, token), timeout=60).status_code == 401,
        10,
        "the deleted token to be refused",
    )


def test_permission_granted_on_the_page_applies(stack, page, screenshots, user_token, admin_token):
    """An administrator grants a group an experiment on the page, and a member can read it."""
    name = f"shared-{secrets.token_hex(4)}"
    made = requests.post(
        f"{stack.mlflow_url}/api/2.0/mlflow/experiments/create",
        json={"name": name},
        auth=(stacks.ADMIN, admin_token),
        timeout=60,
    ).json()["experiment_id"]
    asked = f"{stack.mlflow_url}/api/2.0/mlflow/experiments/get?experiment_id={made}"
    assert requests.get(asked, auth=(stacks.USER, user_token), timeout=60).status_code == 403
    group = stack.variables.get("mlflow_user_group", "mlflow-users")
    enter(stack, page, stacks.ADMIN)
    page.goto(f"{stack.mlflow_url}/oidc/ui/groups/{group}/experiments")
    page.get_by_role("button", name=re.compile("add experiment", re.I)).click()
    page.get_by_label(re.compile("^Experiment")).select_option(label=name)
    page.get_by_label(re.compile("^Permissions")).select_option(label="READ")
    page.get_by_role("button", name="Save").click()
    row = page.get_by_role("row").filter(has_text=name)
    expect(row).to_be_visible()
    expect(row).to_contain_text("READ")
    picture(page, screenshots / "permissions.png")
    stacks.wait_until(
        lambda: requests.get(asked, auth=(stacks.USER, user_token), timeout=60).status_code == 200,
        30,
        "the permission that was given",
    )
    grant = f"{stack.mlflow_url}/api/2.0/mlflow/permissions/groups/{group}/experiments/{made}"
    requests.delete(grant, auth=(stacks.ADMIN, admin_token), timeout=60).raise_for_status()
    page.reload()
    expect(page.get_by_text("Permissions for").first).to_be_visible()
    expect(page.get_by_role("row").filter(has_text=name)).to_have_count(0)


def test_session_outlives_its_access_token(stack, page, keycloak):
    """Refresh tokens keep a session alive after its access token has expired (five minutes by default)."""
    client = stack.variables.get("mlflow_oidc_client_id", "mlflow")
    with keycloak.access_tokens_last(client, 45):
        enter(stack, page, stacks.USER)
    page.goto("about:blank")
    time.sleep(60)
    assert who(stack, page) == stacks.USER
    page.goto(f"{stack.mlflow_url}/#/experiments")
    expect(page.get_by_text("Experiments").first).to_be_visible()
    assert page.url.startswith(stack.mlflow_url)


def test_logout_ends_the_session_at_the_provider_too(stack, page):
    enter(stack, page, stacks.USER)
    page.goto(f"{stack.mlflow_url}/logout")
    # Without the ID token, Keycloak asks for a confirmation.
    with contextlib.suppress(NotShown):
        page.locator("#kc-logout").click(timeout=3000)
        pytest.fail("Keycloak asks for a confirmation: MLflow did not send the ID token")
    assert who(stack, page) is None
    go_to_login(stack, page)  # and not back into MLflow without a login


def test_session_survives_a_restart_of_all_replicas(stack, page):
    """Sessions are in the database and keys in a Secret, so a restart of both replicas ends none."""
    enter(stack, page, stacks.USER)
    page.goto(f"{stack.mlflow_url}/#/experiments")
    before = {pod.metadata.name for pod in stack.pods("mlflow")}
    stack.kubectl("-n", stacks.NAMESPACES["mlflow"], "rollout", "restart", "deployment/mlflow")
    stack.kubectl("-n", stacks.NAMESPACES["mlflow"], "rollout", "status", "deployment/mlflow", "--timeout=300s")
    stacks.wait_until(
        lambda: not before & {pod.metadata.name for pod in stack.pods("mlflow")}, 120, "the old replicas to go"
    )
    assert who(stack, page) == stacks.USER
    page.reload()
    expect(page.get_by_text("Experiments").first).to_be_visible()
    assert page.url.startswith(stack.mlflow_url)
