"""People: through oauth2-proxy, Keycloak's login page and the bridge, to accounts of MLflow's own."""

import access_token
import pytest
import requests

from tests.lib import proxied
from tests.lib import stack as stacks

USER = "demo-user"


def current(session, url):
    """Who MLflow says that one is."""
    answer = session.get(url + proxied.CURRENT, timeout=60)
    answer.raise_for_status()
    return answer.json()["user"]


@pytest.fixture(scope="module")
def user(stack):
    """A session of demo-user."""
    session, answer = stack.sign_in(USER)
    assert (answer.status_code, answer.headers["Location"]) == (302, "/back"), answer.text
    return session


def test_a_person_gets_an_account_at_the_first_visit(stack):
    if stack.account("demo-admin"):  # of an earlier run of this test
        stack.administrate("DELETE", "users/delete", {"username": "demo-admin"})
    session, _ = stack.sign_in("demo-admin")
    assert stack.account("demo-admin") is None, "a login alone is no visit"
    profile = current(session, stack.mlflow_url)
    assert (profile["username"], profile["is_admin"]) == ("demo-admin", False)
    assert stack.account("demo-admin")["id"] == profile["id"]
    assert current(session, stack.mlflow_url)["id"] == profile["id"]


def test_a_new_person_sees_nothing_of_others_and_manages_what_they_make(stack, user):
    url = f"{stack.mlflow_url}/ajax-api/2.0/mlflow/experiments"
    mine = user.post(f"{url}/create", json={"name": f"of demo-user {stacks.time.time()}"}, timeout=60)
    assert mine.status_code == 200, mine.text
    number = mine.json()["experiment_id"]
    renamed = {"experiment_id": number, "new_name": f"mine {stacks.time.time()}"}
    assert user.post(f"{url}/update", json=renamed, timeout=60).status_code == 200
    other, _ = stack.sign_in("demo-admin")
    assert other.get(f"{url}/get", params={"experiment_id": number}, timeout=60).status_code == 403
    assert number not in [
        each["experiment_id"]
        for each in other.post(f"{url}/search", json={"max_results": 1000}, timeout=60).json().get("experiments", [])
    ]
    assert user.post(f"{url}/delete", json={"experiment_id": number}, timeout=60).status_code == 200


def test_the_pages_of_mlflow_are_shown(stack, user):
    page = user.get(stack.mlflow_url, timeout=60)
    assert page.status_code == 200
    assert "<title>MLflow</title>" in page.text


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 403),
        ("/signup", 403),
        ("/static-files/index.html", 403),
        ("/health", 403),
        ("/metrics", 403),
        (proxied.CURRENT, 401),
        ("/ajax-api/2.0/mlflow/experiments/search", 401),
        ("/api/3.0/mlflow/server-info", 401),
        ("/graphql", 401),
    ],
)
def test_without_a_login_nothing_is_answered(stack, path, status):
    """A page gets the page to log in at, and a program a plain refusal."""
    for headers in ({}, {"Authorization": requests.auth._basic_auth_str(*stack.administrator)}):
        answer = requests.get(stack.mlflow_url + path, headers=headers, timeout=60, allow_redirects=False)
        assert answer.status_code == status, answer.text[:300]
        assert "experiment" not in answer.text.lower()


def test_a_person_is_nobody_else_whatever_the_request_says(stack, user):
    """With the administrator's own password, and even with that of the bridge."""
    name, password = stack.administrator
    for credentials in ((name, password), (name, stack.bridge_password), ("demo-admin", stack.bridge_password)):
        header = requests.auth._basic_auth_str(*map(str, credentials))
        for forged in (
            {"Authorization": header},
            {"X-MLflow-Authorization": header},
            {"X-Forwarded-User": name, "X-Forwarded-Email": name, "X-Forwarded-Preferred-Username": name},
            {"X_Forwarded_User": name, "Remote-User": name},
        ):
            answer = user.get(stack.mlflow_url + proxied.CURRENT, headers=forged, timeout=60)
            assert answer.json()["user"]["username"] == USER, forged.keys()


def test_who_is_in_no_group_that_may_is_refused(stack):
    session, answer = stack.sign_in("demo-guest")
    assert answer.status_code == 403
    assert session.get(stack.mlflow_url + proxied.CURRENT, timeout=60).status_code == 401
    assert stack.account("demo-guest") is None


@pytest.mark.parametrize("name", ["robot", "mlflow-admin"])
def test_who_is_called_as_an_account_that_no_person_has_is_not_let_into_it(stack, name):
    session, answer = stack.sign_in(name)
    assert answer.status_code == 302
    refused = session.get(stack.mlflow_url + proxied.CURRENT, timeout=60)
    assert refused.status_code == 403
    assert refused.text == f"'{name}' is an account of a program or of the playbooks, and not for this login."


def test_both_pods_know_each_others_sessions(stack):
    first, second = stack.proxies()
    with stack.forwarded("mlflow", 4180, first) as one, stack.forwarded("mlflow", 4180, second) as two:
        session, answer = stack.sign_in(USER, f"http://localhost:{one}")
        assert answer.status_code == 302
        for port in (two, one):
            # MLflow answers under the host that people know only.
            answer = requests.get(
                f"http://localhost:{port}{proxied.CURRENT}",
                headers={"Host": stack.mlflow_url.partition("//")[2]},
                cookies=dict(session.cookies),
                timeout=60,
            )
            assert answer.json()["user"]["username"] == USER


def test_a_session_outlives_the_access_token_and_ends_with_the_account(stack):
    """Keycloak is asked again after 30 s here; its access tokens live for 60 s."""
    person = stack.keycloak_user("demo-leaver")
    session, _ = stack.sign_in("demo-leaver")
    began = stacks.time.monotonic()
    while stacks.time.monotonic() - began < 70:
        stacks.time.sleep(35)
        assert current(session, stack.mlflow_url)["username"] == "demo-leaver"
    stack.keycloak("PUT", f"users/{person['id']}", {**person, "enabled": False})
    try:
        stacks.wait_until(
            lambda: session.get(stack.mlflow_url + proxied.CURRENT, timeout=60).status_code == 401,
            45,
            "the end of the session",
            5,
        )
    finally:
        stack.keycloak("PUT", f"users/{person['id']}", {**person, "enabled": True})


def test_logout_ends_keycloaks_session_too(stack):
    person = stack.keycloak_user(USER)

    def sessions():
        return {each["id"] for each in stack.keycloak("GET", f"users/{person['id']}/sessions")}

    before = sessions()
    session, _ = stack.sign_in(USER)
    [mine] = sessions() - before
    cookies = dict(session.cookies)
    out = session.get(f"{stack.mlflow_url}/oauth2/sign_out", timeout=60, allow_redirects=False)
    assert out.status_code == 302
    assert session.get(stack.mlflow_url + proxied.CURRENT, timeout=60).status_code == 401
    assert mine not in sessions()
    # The cookie of before, kept by somebody, is of use until Keycloak is asked again.
    stacks.wait_until(
        lambda: requests.get(stack.mlflow_url + proxied.CURRENT, cookies=cookies, timeout=60).status_code == 401,
        45,
        "the end of what the cookie opens",
        5,
    )
    form = access_token._Form()
    form.feed(session.get(f"{stack.mlflow_url}/oauth2/start", timeout=60).text)
    assert form.action, "Keycloak asks for the password again"
