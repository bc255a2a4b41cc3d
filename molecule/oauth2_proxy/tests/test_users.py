"""Users: through oauth2-proxy, Keycloak's login page and the bridge, to MLflow's own accounts."""

import access_token
import pytest
import requests

from tests.lib import proxied
from tests.lib import stack as stacks

USER = "demo-user"


def current(session, url):
    """Return the name of the current user."""
    answer = session.get(url + proxied.CURRENT, timeout=60)
    answer.raise_for_status()
    return answer.json()["user"]


@pytest.fixture(scope="module")
def user(stack):
    """A session of demo-user."""
    session, answer = stack.sign_in(USER)
    assert (answer.status_code, answer.headers["Location"]) == (302, "/back"), answer.text
    return session


def test_account_is_created_at_the_first_visit(stack):
    if stack.account("demo-admin"):  # from an earlier run of this test
        stack.administrate("DELETE", "users/delete", {"username": "demo-admin"})
    session, _unused = stack.sign_in("demo-admin")
    assert stack.account("demo-admin") is None, "a login without a visit creates no account"
    profile = current(session, stack.mlflow_url)
    assert (profile["username"], profile["is_admin"]) == ("demo-admin", False)
    assert stack.account("demo-admin")["id"] == profile["id"]
    assert current(session, stack.mlflow_url)["id"] == profile["id"]


def test_new_user_sees_only_own_objects(stack, user):
    url = f"{stack.mlflow_url}/ajax-api/2.0/mlflow/experiments"
    mine = user.post(f"{url}/create", json={"name": f"of demo-user {stacks.time.time()}"}, timeout=60)
    assert mine.status_code == 200, mine.text
    number = mine.json()["experiment_id"]
    renamed = {"experiment_id": number, "new_name": f"mine {stacks.time.time()}"}
    assert user.post(f"{url}/update", json=renamed, timeout=60).status_code == 200
    other, _unused = stack.sign_in("demo-admin")
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
def test_unauthenticated_requests_are_refused(stack, path, status):
    """A browser gets the login page, and a program gets 401."""
    for headers in ({}, {"Authorization": requests.auth._basic_auth_str(*stack.administrator)}):
        answer = requests.get(stack.mlflow_url + path, headers=headers, timeout=60, allow_redirects=False)
        assert answer.status_code == status, answer.text[:300]
        assert "experiment" not in answer.text.lower()


def test_request_headers_do_not_change_the_user(stack, user):
    """Even with the administrator's password or the bridge password."""
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


def test_user_in_no_admitted_group_is_refused(stack):
    session, answer = stack.sign_in("demo-guest")
    assert answer.status_code == 403
    assert session.get(stack.mlflow_url + proxied.CURRENT, timeout=60).status_code == 401
    assert stack.account("demo-guest") is None


@pytest.mark.parametrize("name", ["robot", "mlflow-admin"])
def test_reserved_names_are_refused(stack, name):
    session, answer = stack.sign_in(name)
    assert answer.status_code == 302
    refused = session.get(stack.mlflow_url + proxied.CURRENT, timeout=60)
    assert refused.status_code == 403
    assert refused.text == f"The account '{name}' is reserved for a program or the playbooks."


def test_pods_share_sessions(stack):
    first, second = stack.proxies()
    with stack.forwarded("mlflow", 4180, first) as one, stack.forwarded("mlflow", 4180, second) as two:
        session, answer = stack.sign_in(USER, f"http://localhost:{one}")
        assert answer.status_code == 302
        for port in (two, one):
            # MLflow accepts only its public host name.
            answer = requests.get(
                f"http://localhost:{port}{proxied.CURRENT}",
                headers={"Host": stack.mlflow_url.partition("//")[2]},
                cookies=dict(session.cookies),
                timeout=60,
            )
            assert answer.json()["user"]["username"] == USER


def test_a_session_outlives_the_access_token_and_ends_with_the_account(stack):
    """The session is renewed at Keycloak after 30 s here; access tokens live for 60 s."""
    user = stack.keycloak_user("demo-leaver")
    session, _unused = stack.sign_in("demo-leaver")
    began = stacks.time.monotonic()
    while stacks.time.monotonic() - began < 70:
        stacks.time.sleep(35)
        assert current(session, stack.mlflow_url)["username"] == "demo-leaver"
    stack.keycloak("PUT", f"users/{user['id']}", {**user, "enabled": False})
    try:
        stacks.wait_until(
            lambda: session.get(stack.mlflow_url + proxied.CURRENT, timeout=60).status_code == 401,
            45,
            "the end of the session",
            5,
        )
    finally:
        stack.keycloak("PUT", f"users/{user['id']}", {**user, "enabled": True})


def test_logout_ends_keycloaks_session_too(stack):
    user = stack.keycloak_user(USER)

    def sessions():
        return {each["id"] for each in stack.keycloak("GET", f"users/{user['id']}/sessions")}

    before = sessions()
    session, _unused = stack.sign_in(USER)
    [mine] = sessions() - before
    cookies = dict(session.cookies)
    out = session.get(f"{stack.mlflow_url}/oauth2/sign_out", timeout=60, allow_redirects=False)
    assert out.status_code == 302
    assert session.get(stack.mlflow_url + proxied.CURRENT, timeout=60).status_code == 401
    assert mine not in sessions()
    # A copied cookie is valid until the session is renewed at Keycloak.
    stacks.wait_until(
        lambda: requests.get(stack.mlflow_url + proxied.CURRENT, cookies=cookies, timeout=60).status_code == 401,
        45,
        "the end of what the cookie opens",
        5,
    )
    form = access_token._Form()
    form.feed(session.get(f"{stack.mlflow_url}/oauth2/start", timeout=60).text)
    assert form.action, "Keycloak asks for the password again"
