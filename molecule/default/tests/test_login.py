"""Login in a real browser, with two replicas."""

import contextlib
import re
import urllib.parse

import access_token
import pytest
import requests
from playwright.sync_api import TimeoutError as NotShown
from playwright.sync_api import expect

from tests.lib import stack as stacks
from tests.lib.pages import go_to_login, log_in, picture


@pytest.mark.parametrize("user", [stacks.ADMIN, stacks.USER])
def test_user_logs_in(stack, page, screenshots, user):
    go_to_login(stack, page)
    picture(page, screenshots / "login.png")
    log_in(page, user, stack.password(user))
    page.wait_for_url(lambda url: url.startswith(stack.mlflow_url))
    profile = page.request.get(f"{stack.mlflow_url}/api/2.0/mlflow/users/current").json()
    assert (profile["username"], profile["is_admin"]) == (user, user == stacks.ADMIN)

    # Each page load calls both replicas; neither redirects to the login page.
    for _unused in range(4):
        page.goto(f"{stack.mlflow_url}/#/experiments")
        page.reload()
        expect(page.get_by_text("Experiments").first).to_be_visible()
        assert page.url.startswith(stack.mlflow_url)
    picture(page, screenshots / f"{user}.png")


def test_run_of_the_example_is_shown(stack, page, screenshots, example):
    go_to_login(stack, page)
    log_in(page, stacks.ADMIN, stack.password(stacks.ADMIN))
    page.wait_for_url(lambda url: url.startswith(stack.mlflow_url))
    page.goto(f"{stack.mlflow_url}/#/experiments/{example['experiment_id']}/runs/{example['run_id']}")
    for text in ("logistic-regression", "accuracy", "max_iter", stacks.ADMIN, "iris-classifier"):
        expect(page.get_by_text(text).first).to_be_attached()
    picture(page, screenshots / "run.png")
    page.goto(f"{stack.mlflow_url}/#/models/iris-classifier")
    expect(page.get_by_text("Version 1").first).to_be_visible()
    picture(page, screenshots / "model.png")


def test_other_user_does_not_see_the_run(stack, page, screenshots, example):
    go_to_login(stack, page)
    log_in(page, stacks.USER, stack.password(stacks.USER))
    page.wait_for_url(lambda url: url.startswith(stack.mlflow_url))
    refused = page.request.get(f"{stack.mlflow_url}/ajax-api/2.0/mlflow/runs/get?run_id={example['run_id']}")
    assert refused.status == 403
    page.goto(f"{stack.mlflow_url}/#/experiments/{example['experiment_id']}/runs/{example['run_id']}")
    expect(page.get_by_text("Logout").first).to_be_visible()
    page.wait_for_timeout(5000)  # the run would be rendered after the page's frame
    picture(page, screenshots / "refused.png")
    expect(page.get_by_text("logistic-regression")).to_have_count(0)
    expect(page.get_by_text("accuracy")).to_have_count(0)


def test_wrong_password_stays_at_the_form(stack, page, screenshots):
    go_to_login(stack, page)
    log_in(page, stacks.ADMIN, "wrong")
    expect(page.get_by_text(re.compile("invalid username or password", re.I)).first).to_be_visible()
    assert page.url.startswith(stack.keycloak_url)
    picture(page, screenshots / "wrong-password.png")


def test_logout_ends_the_session(stack, page):
    go_to_login(stack, page)
    log_in(page, stacks.USER, stack.password(stacks.USER))
    page.wait_for_url(lambda url: url.startswith(stack.mlflow_url))
    cookies = {cookie["name"]: cookie["value"] for cookie in page.context.cookies(stack.mlflow_url)}
    page.goto(f"{stack.mlflow_url}/logout")
    # Without the ID token, Keycloak asks for a confirmation.
    with contextlib.suppress(NotShown):
        page.locator("#kc-logout").click(timeout=3000)
    answer = requests.get(
        f"{stack.mlflow_url}/api/2.0/mlflow/users/current", cookies=cookies, timeout=60, allow_redirects=False
    )
    assert answer.status_code in (401, 302)
    go_to_login(stack, page)


class _Replicas(requests.Session):
    """A session that sends requests for MLflow's URL to the replicas in turn."""

    def __init__(self, url, ports):
        super().__init__()
        self.home = urllib.parse.urlsplit(url)
        self.ports = ports
        self.asked = []
        self.cookies.set_policy(access_token.new_session().cookies.get_policy())

    def send(self, request, **options):
        place = urllib.parse.urlsplit(request.url)
        if place.netloc == self.home.netloc and "Host" not in request.headers:
            port = self.ports[len(self.asked) % len(self.ports)]
            self.asked.append((port, place.path))
            request.headers["Host"] = place.netloc
            public = request.url
            request.url = place._replace(netloc=f"localhost:{port}").geturl()
            answer = super().send(request, **{**options, "allow_redirects": False})
            answer.url = public
            if options.get("allow_redirects") and answer.is_redirect:
                del request.headers["Host"]
                request.url = public
                return list(
                    self.resolve_redirects(
                        answer, request, **{name: value for name, value in options.items() if name != "allow_redirects"}
                    )
                )[-1]
            return answer
        return super().send(request, **options)


def test_login_works_across_replicas(stack):
    first, second = (pod.metadata.name for pod in stack.ready("mlflow"))
    with stack.forwarded("mlflow", 5000, first) as one, stack.forwarded("mlflow", 5000, second) as two:
        session = _Replicas(stack.mlflow_url, [one, two])
        access_token.login(stack.mlflow_url, stacks.ADMIN, stack.password(stacks.ADMIN), session)
        begun = [port for port, path in session.asked if path == "/login"]
        ended = [port for port, path in session.asked if path == "/callback"]
        assert begun == [one]
        assert ended == [two]
        for _unused in range(2):
            profile = session.get(f"{stack.mlflow_url}/api/2.0/mlflow/users/current", timeout=60)
            assert profile.json()["username"] == stacks.ADMIN
        assert {port for port, path in session.asked if path.endswith("/current")} == {one, two}
