"""oauth2-proxy behind the edge and below a path; for the shape that has it."""

import http.cookiejar
import re
import urllib.parse

import pytest
import requests

from tests.lib import proxied
from tests.lib import stack as stacks

FORGED = {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "http", "X-Forwarded-Uri": "/evil"}


@pytest.fixture(scope="module")
def path(stack):
    """The path below which MLflow is."""
    if stack.variables.get("mlflow_auth") != "oauth2_proxy":
        pytest.skip("this shape of the edge has no oauth2-proxy")
    return urllib.parse.urlsplit(stack.mlflow_url).path


@pytest.fixture(scope="module")
def login(stack, path):
    """A session of demo-user, and the answer to its callback."""
    password = stack.secret(stacks.NAMESPACES["keycloak"], "keycloak-users")[stacks.USER]
    return proxied.sign_in(stack.mlflow_url, stacks.USER, password)


@pytest.fixture(scope="module")
def session(login):
    session, answer = login
    assert answer.status_code == 302, answer.text
    return session


def origin(stack):
    return stack.mlflow_url.removesuffix(urllib.parse.urlsplit(stack.mlflow_url).path)


def test_cookies_are_of_the_path_and_for_https(login, path):
    """Other applications of the host do not get them, Keycloak among them."""
    session, answer = login
    assert answer.headers["Location"] == "/back"
    (cookie,) = [each for each in session.cookies if each.name == "_oauth2_proxy"]
    assert (cookie.path, cookie.secure, cookie.domain_specified) == (path, True, False)
    for line in answer.raw.headers.getlist("Set-Cookie"):
        assert f"Path={path};" in line, line.partition("=")[0]
        assert "HttpOnly" in line
        assert "Secure" in line
    sent = http.cookiejar.CookieJar()
    sent.set_cookie(cookie)
    for url, there in ((f"{path}/", True), (path, True), ("/auth/realms/mlflow", False), (f"{path}s/", False)):
        request = requests.Request("GET", f"https://{cookie.domain}{url}", cookies=sent).prepare()
        assert ("Cookie" in request.headers) is there, url


def test_the_user_and_the_pages(stack, session, path):
    found = session.get(stack.mlflow_url + proxied.CURRENT, timeout=60)
    assert found.json()["user"]["username"] == stacks.USER
    for address in (stack.mlflow_url, f"{stack.mlflow_url}/"):
        page = session.get(address, timeout=60)
        assert (page.status_code, page.url) == (200, f"{stack.mlflow_url}/")
    files = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert files
    for file in files:
        address = urllib.parse.urljoin(page.url, file)
        assert address.startswith(f"{stack.mlflow_url}/")
        assert session.get(address, timeout=60).status_code == 200, file


def test_calls_of_pages(stack, session):
    address = f"{stack.mlflow_url}/ajax-api/2.0/mlflow/experiments/search"
    for sender, status in ((origin(stack), 200), ("https://evil.example", 403)):
        answer = session.post(address, json={"max_results": 1}, headers={"Origin": sender}, timeout=60)
        assert answer.status_code == status, answer.text


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("", 403),
        ("/", 403),
        ("/static-files/index.html", 403),
        ("/health", 403),
        (proxied.CURRENT, 401),
        ("/ajax-api/2.0/mlflow/experiments/search", 401),
        ("/graphql", 401),
        ("/v1/traces", 401),
    ],
)
def test_without_a_login(stack, path, address, status):
    """A browser gets the login page, a program gets 401, and nobody gets further."""
    for headers in ({}, FORGED, {"X-Forwarded-User": stacks.ADMIN, "Remote-User": stacks.ADMIN}):
        answer = requests.get(stack.mlflow_url + address, headers=headers, timeout=60, allow_redirects=False)
        assert answer.status_code == status


def test_the_path_twice(stack, session, path):
    assert session.get(f"{stack.mlflow_url}{path}{proxied.CURRENT}", timeout=60).status_code == 404


def test_where_a_login_leads(stack, path):
    """To the callback of the URL, whatever a client says of host and scheme, and never to another host."""
    for target in ("https://evil.example/", "//evil.example", f"{path}/"):
        answer = requests.get(
            f"{stack.mlflow_url}/oauth2/start", params={"rd": target}, headers=FORGED, timeout=60, allow_redirects=False
        )
        asked = proxied.query(answer.headers["Location"])
        assert answer.headers["Location"].startswith(f"{stack.keycloak_url}/realms/mlflow/")
        assert asked["redirect_uri"] == f"{stack.mlflow_url}/oauth2/callback"
        assert "evil" not in answer.headers["Location"]


def test_programs_go_past_the_proxy(stack, path):
    found = stack.secret(stacks.NAMESPACES["mlflow"], "mlflow-admin")
    account = (str(found["username"]), str(found["password"]))
    answer = requests.get(stack.api_url + proxied.CURRENT, auth=account, timeout=60)
    assert answer.json()["user"]["username"] == account[0]
    assert requests.get(stack.api_url + proxied.CURRENT, timeout=60).status_code == 401
    assert requests.get(f"{stack.api_url}/oauth2/start", timeout=60).status_code == 404
    # By the proxy, the same password is no login.
    assert requests.get(stack.mlflow_url + proxied.CURRENT, auth=account, timeout=60).status_code == 401


def test_logout(stack, path):
    """It ends Keycloak's session too: the login asks for the password again."""
    password = stack.secret(stacks.NAMESPACES["keycloak"], "keycloak-users")[stacks.USER]
    session, _answer = proxied.sign_in(stack.mlflow_url, stacks.USER, password)
    out = session.get(
        f"{stack.mlflow_url}/oauth2/sign_out", params={"rd": f"{path}/"}, timeout=60, allow_redirects=False
    )
    assert (out.status_code, out.headers["Location"]) == (302, f"{path}/")
    assert session.get(stack.mlflow_url + proxied.CURRENT, timeout=60).status_code == 401
    assert "kc-form-login" in session.get(f"{stack.mlflow_url}/oauth2/start", timeout=60).text
