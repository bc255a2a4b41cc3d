"""Former administrators do not stay so by a token: with the real server and login_provider."""

import datetime
import secrets
import time

import pytest

from running import LEEWAY, server

ALL = "/api/3.0/mlops/grants?subject=user"


@pytest.fixture
def administrator(oidc_server, login_provider):
    """An administrator of the login_provider, who has logged in and made an access token: name and browser."""
    name = "cleo"
    login_provider.groups[name] = ["people", "admins"]
    browser = login_provider.log_in(oidc_server, name)
    oidc_server.passwords[name] = token_of(oidc_server, browser)
    return name, browser


def token_of(server, browser):
    """Make an access token in this browser."""
    url = f"{server.url}/api/2.0/mlflow/users/current/tokens"
    expires = (datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=30)).isoformat()
    made = browser.post(url, json={"name": secrets.token_hex(4), "expiration": expires}, timeout=60)
    assert made.ok, made.text
    return made.json()["token"]


def administers(server, user=None, bearer=None, browser=None):
    """Return whether a call as an administrator succeeds, and that the account may do other calls."""
    headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
    answers = []
    for path in ("/api/2.0/mlflow/experiments/search?max_results=1", ALL):
        if browser is not None:
            answers.append(browser.get(server.url + path, timeout=60).status_code)
        else:
            answers.append(server.call(user, "GET", path, headers=headers).status_code)
    assert answers[0] == 200
    assert answers[1] in (200, 403)
    return answers[1] == 200


def log_out(server, browser):
    """Log out on a page of MLflow."""
    answer = browser.get(
        f"{server.url}/logout", headers={"Sec-Fetch-Site": "same-origin"}, allow_redirects=False, timeout=60
    )
    assert answer.status_code == 302


def test_access_token_administers_while_logged_in(oidc_server, administrator):
    name, browser = administrator
    assert administers(oidc_server, browser=browser)
    assert administers(oidc_server, name)
    log_out(oidc_server, browser)
    assert not administers(oidc_server, name)


def test_idle_session_is_renewed_to_confirm_an_administrator(oidc_server, login_provider):
    name = "dora"
    login_provider.groups[name] = ["people", "admins"]
    login_provider.lifetime = LEEWAY + 1
    try:
        oidc_server.passwords[name] = token_of(oidc_server, login_provider.log_in(oidc_server, name))
        time.sleep(2)
        assert administers(oidc_server, name)
        login_provider.groups[name] = ["people"]
        time.sleep(2)
        assert not administers(oidc_server, name)
    finally:
        login_provider.lifetime = 300


def test_session_that_the_provider_has_ended_confirms_nothing(oidc_server, login_provider):
    name = "eve"
    login_provider.groups[name] = ["people", "admins"]
    login_provider.lifetime = LEEWAY + 1
    try:
        oidc_server.passwords[name] = token_of(oidc_server, login_provider.log_in(oidc_server, name))
        login_provider.renewable.clear()
        time.sleep(2)
        assert not administers(oidc_server, name)
    finally:
        login_provider.lifetime = 300


def test_cached_credentials_do_not_bring_the_right_back(tmp_path, login_provider):
    cached = {**login_provider.environment(), "PERMISSION_CACHE_TTL_SECONDS": "5"}
    with server(tmp_path, "oidc", **cached) as running:
        name = "finn"
        login_provider.groups[name] = ["people", "admins"]
        browser = login_provider.log_in(running, name)
        running.passwords[name] = token_of(running, browser)
        log_out(running, browser)
        assert [administers(running, name) for _unused in range(3)] == [False] * 3


@pytest.mark.parametrize(("groups", "expected"), [(["people", "admins"], True), (["people"], False)])
def test_bearer_token_administers_by_its_own_groups(oidc_server, login_provider, administrator, groups, expected):
    token = login_provider.access_token(administrator[0], groups=groups)
    assert administers(oidc_server, bearer=token) is expected


def test_account_made_an_administrator_by_hand_stays_one(oidc_server, login_provider):
    """Root has never logged in at the login_provider."""
    assert administers(oidc_server, "root")
    assert administers(oidc_server, bearer=login_provider.access_token("root", groups=["people"]))
