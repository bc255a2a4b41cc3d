"""A running server with login mode oidc: what users and programs meet."""

import base64
import secrets
import time

import httpx
import pytest
from joserfc.jwk import RSAKey

import conftest
from lib.provider import CLIENT, log_in

CURRENT = "/api/2.0/mlflow/users/current"
GRANTS = "/api/3.0/mlops/grants"
MCP = "/api/3.0/mlflow/mcp-servers"


@pytest.fixture
def admin(oidc):
    """A client with the playbooks' account."""
    with oidc.client(auth=oidc.admin) as client:
        yield client


@pytest.fixture
def browser(oidc, idp):
    """A client in which a user without rights has logged in."""
    idp.user = f"user-{secrets.token_hex(4)}"
    with oidc.client() as client:
        assert log_in(client).status_code == 302
        client.username = idp.user
        yield client


def token_of(client):
    """Return an access token of a logged-in user."""
    answer = client.post(f"{CURRENT}/tokens", json={"name": secrets.token_hex(4), "expiration": _tomorrow()})
    assert answer.status_code == 201, answer.text
    return answer.json()["token"]


def _tomorrow():
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 86400))


# Login, with a client secret that needs the encoding of RFC 6749


def test_login(browser, idp):
    answer = browser.get(CURRENT)
    assert (answer.status_code, answer.json()["username"]) == (200, browser.username)
    assert not answer.json()["is_admin"]
    assert "token" in idp.asked


def test_user_without_group_cannot_log_in(oidc, idp):
    idp.user, idp.groups = "eve", ["others"]
    with oidc.client() as client:
        assert "error" in log_in(client).headers["location"]
        assert client.get(CURRENT).status_code == 401


# Groups at renewal


@pytest.fixture
def renewing(oidc, idp):
    """A logged-in user whose next call renews the session."""
    idp.user, idp.expires_in = f"user-{secrets.token_hex(4)}", 1
    with oidc.client() as client:
        assert log_in(client).status_code == 302
        idp.expires_in = 300
        time.sleep(1.1)
        yield client


def test_renewal_ends_the_session_of_a_user_who_left(renewing, idp):
    idp.groups = ["others"]
    assert renewing.get(CURRENT).status_code == 401
    idp.groups = ["mlflow"]
    assert renewing.get(CURRENT).status_code == 401


def test_renewal_without_the_claim_ends_the_session(renewing, idp):
    idp.groups = None
    assert renewing.get(CURRENT).status_code == 401


def test_renewal_updates_groups_and_rights(renewing, oidc, idp):
    idp.groups = ["mlflow-admins", "team"]
    assert renewing.get(CURRENT).status_code == 200
    assert renewing.get(CURRENT).json()["is_admin"]
    rows = oidc.databases.server.execute(
        "SELECT group_name FROM groups JOIN user_groups ON groups.id = group_id JOIN users ON users.id = user_id "
        f"WHERE username = '{idp.user}'",
        oidc.databases.users,
    )
    assert sorted(name for (name,) in rows) == ["mlflow-admins", "team"]


# Logout


def test_logout_ends_the_providers_session(browser, idp):
    # As a browser sends it from MLflow's own page; test_sessions.py has the refusals.
    answer = browser.get("/logout", headers={"Sec-Fetch-Site": "same-origin"})
    location = httpx.URL(answer.headers["location"])
    assert str(location).startswith(f"{idp.issuer}/logout?")
    assert location.params["post_logout_redirect_uri"] == "https://mlflow.example.com/oidc/ui/auth"
    assert location.params["client_id"] == CLIENT
    assert browser.get(CURRENT).status_code == 401


# Bearer tokens


@pytest.fixture
def bearer(browser, oidc, idp):
    """A function that calls with a token of a user who exists; arguments are those of `Provider.token`."""
    idp.user = browser.username
    return lambda *arguments, **claims: httpx.get(
        f"{oidc.url}{CURRENT}", headers={"Authorization": f"Bearer {idp.token(*arguments, **claims)}"}
    )


@pytest.mark.parametrize("groups", [["mlflow"], ["mlflow-admins"], "mlflow"])
def test_token_of_an_admitted_user(bearer, browser, groups):
    answer = bearer(groups=groups)
    assert (answer.status_code, answer.json().get("username")) == (200, browser.username)


@pytest.mark.parametrize("groups", [[], None, ["others"], "others"])
def test_token_without_admitted_group_is_refused(bearer, groups):
    assert bearer(groups=groups).status_code == 401


@pytest.mark.parametrize(
    "claims", [{"iss": "http://elsewhere"}, {"aud": "another"}, {"exp": 1}, {"exp": None}], ids=str
)
def test_token_for_something_else_is_refused(bearer, claims):
    assert bearer(**claims).status_code == 401


def test_forged_token_is_refused(bearer, idp):
    forged = RSAKey.generate_key(2048, {"kid": idp.keys[0].kid})
    assert [bearer(forged).status_code for _unused in range(10)] == [401] * 10
    assert idp.asked.count("jwks") <= 2


# Access tokens, and who may issue them


def test_access_token(browser, oidc):
    user = browser.username, token_of(browser)
    assert httpx.get(f"{oidc.url}{CURRENT}", auth=user).json()["username"] == user[0]
    # The same from the cache.
    assert httpx.get(f"{oidc.url}{CURRENT}", auth=user).json()["username"] == user[0]
    assert httpx.get(f"{oidc.url}{CURRENT}", auth=(user[0], "wrong")).status_code == 401
    assert httpx.get(f"{oidc.url}{CURRENT}").status_code == 401


def test_playbooks_account_issues_tokens_for_service_accounts_only(admin, browser, oidc):
    name = f"program-{secrets.token_hex(4)}"
    account = {"username": name, "display_name": name, "is_admin": False, "is_service_account": True}
    assert admin.post("/api/2.0/mlflow/users", json=account).status_code == 201
    body = {"name": "a-token", "expiration": _tomorrow()}
    answer = admin.post(f"/api/2.0/mlflow/users/{name}/tokens", json=body)
    assert answer.status_code == 201, answer.text
    program = (name, answer.json()["token"])
    assert httpx.get(f"{oidc.url}{CURRENT}", auth=program).json()["username"] == name
    for whose in (browser.username, conftest.ADMIN):
        assert admin.post(f"/api/2.0/mlflow/users/{whose}/tokens", json=body).status_code == 403
    with oidc.client(auth=program) as client:
        assert client.post(f"/api/2.0/mlflow/users/{name}/tokens", json=body).status_code == 403


# Grants


def test_grants_are_listed_for_administrators(admin, browser):
    user = browser.username
    experiment = admin.post("/api/2.0/mlflow/experiments/create", json={"name": secrets.token_hex(8)}).json()
    number = experiment["experiment_id"]
    grants = f"/api/2.0/mlflow/permissions/users/{user}"
    made = admin.post(f"{grants}/experiments/{number}", json={"permission": "READ"})
    assert made.status_code in (200, 201), made.text
    made = admin.post(
        f"{grants}/registered-models-patterns", json={"regex": "^team-.*", "priority": 5, "permission": "EDIT"}
    )
    assert made.status_code in (200, 201), made.text
    found = [
        grant for grant in admin.get(GRANTS, params={"subject": "user"}).json()["grants"] if grant["subject"] == user
    ]
    assert sorted((each["resource"], each["form"], each["target"], each["permission"]) for each in found) == [
        ("experiment", "name", number, "READ"),
        ("registered_model", "pattern", "^team-.*", "EDIT"),
    ]
    assert admin.get(GRANTS, params={"subject": "group"}).status_code == 200
    assert admin.get(GRANTS, params={"subject": "anything"}).status_code == 422


def test_grants_are_not_for_others(browser, oidc):
    assert browser.get(GRANTS, params={"subject": "user"}).status_code == 403
    assert httpx.get(f"{oidc.url}{GRANTS}", params={"subject": "user"}).status_code == 401


# MCP servers


def test_mcp_server_is_hidden_without_a_permission(admin, browser):
    name = f"team/{secrets.token_hex(4)}"
    made = admin.post(MCP, json={"name": name})
    assert made.status_code in (200, 201), made.text
    assert name in admin.get(MCP).text
    assert browser.get(f"{MCP}/{name}").status_code == 403
    assert name not in browser.get(MCP).text


# The rest of the application


def test_metrics_are_on_a_port_of_their_own(oidc, admin):
    admin.get("/api/2.0/mlflow/experiments/search", params={"max_results": 1})
    assert "mlflow_" in httpx.get(f"http://127.0.0.1:{oidc.metrics_port}/metrics").text
    for path in ("/metrics", "/metrics/"):
        assert admin.get(path).status_code == 404


def test_successful_probes_are_not_logged(oidc, admin):
    for path in ("/health/live", "/health/ready", "/health/startup"):
        assert httpx.get(f"{oidc.url}{path}").status_code == 200
    admin.get(CURRENT, params={"marker": "of-the-log"})
    assert f"GET {CURRENT}" in oidc.log()
    assert "of-the-log" not in oidc.log(), "query strings are not logged"
    assert "GET /health/" not in oidc.log().replace("503", "")


def test_draining_server_closes_connections(oidc):
    assert "connection" not in httpx.get(f"{oidc.url}/health/live").headers
    oidc.drain_file.touch()
    try:
        assert httpx.get(f"{oidc.url}/health/live").headers["connection"] == "close"
    finally:
        oidc.drain_file.unlink()


def test_outage_of_the_users_database_is_503(oidc, admin, browser):
    """A refusal would make clients give up."""
    postgres, name = oidc.databases.server, oidc.databases.users
    header = "Basic " + base64.b64encode(":".join(oidc.admin).encode()).decode()
    postgres.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    try:
        postgres.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
        time.sleep(1.1)  # the credentials are cached for a second
        answer = httpx.get(f"{oidc.url}{CURRENT}", headers={"Authorization": header})
        assert (answer.status_code, answer.headers.get("retry-after")) == (503, "1"), answer.text
        assert browser.get(CURRENT).status_code == 503
        ready = httpx.get(f"{oidc.url}/health/ready")
        assert ready.status_code == 503
        assert ready.json()["checks"] == {"oidc": True, "tracking_database": True, "database": False}
        assert httpx.get(f"{oidc.url}/health/live").status_code == 200
    finally:
        postgres.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    assert admin.get(CURRENT).status_code == 200
    assert browser.get(CURRENT).status_code == 200
