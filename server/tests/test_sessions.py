"""Logins and logouts belong to the browser that asks for them, and leave nothing behind: with the real server."""

import datetime
import sqlite3
import time

import pytest
import requests

STATES, SESSIONS = "auth_state", "auth_sessions"


def rows(server, query, *values):
    """Query mlflow-oidc-auth's database."""
    with sqlite3.connect(server.folder / "auth.db", timeout=30) as connection:
        return connection.execute(query, values).fetchall()


def get(server, path, browser=requests, **headers):
    """Make a call without following redirects."""
    return browser.get(server.url + path, headers=headers, allow_redirects=False, timeout=60)


def is_logged_in(server, browser):
    """Return whether the browser's session is valid."""
    return get(server, "/auth/status", browser).json().get("authenticated", False)


def test_page_to_return_to_is_bounded(oidc_server):
    for length in (2048, 2049, 40_000):
        assert get(oidc_server, "/login?next=/" + "x" * (length - 1)).status_code == 302
    kept = rows(oidc_server, f"SELECT length(relay_state) FROM {STATES} ORDER BY id DESC LIMIT 3")
    assert kept == [(None,), (None,), (2048,)]


def test_expired_rows_are_deleted(oidc_server, login_provider):
    login_provider.groups["ann"] = ["people"]
    browser = login_provider.log_in(oidc_server, "ann")
    get(oidc_server, "/login")
    past = "2020-01-01 00:00:00"
    before = [rows(oidc_server, f"SELECT max(id) FROM {table}")[0][0] for table in (STATES, SESSIONS)]
    for table in (STATES, SESSIONS):
        rows(oidc_server, f"UPDATE {table} SET expires_at = ?", past)
    lately = (datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=29)).strftime("%Y-%m-%d %H:%M:%S")
    for name, expires in (("old", past), ("of late", lately), ("valid", "2999-01-01 00:00:00")):
        rows(
            oidc_server,
            "INSERT INTO user_tokens (user_id, name, token_hash, created_at, expires_at) "
            "SELECT id, ?, 'none', ?, ? FROM users WHERE username = 'ann'",
            *(name, past, expires),
        )
    assert not is_logged_in(oidc_server, browser)
    # Not at each login: `MLOPS_PRUNE_PAUSE`.
    end = time.monotonic() + 75
    while time.monotonic() < end:
        get(oidc_server, "/login")
        left = [
            rows(oidc_server, f"SELECT count(*) FROM {table} WHERE id <= ?", last)[0][0]
            for table, last in zip((STATES, SESSIONS), before, strict=True)
        ]
        if left == [0, 0]:
            break
        time.sleep(0.5)
    assert left == [0, 0]
    assert rows(oidc_server, f"SELECT count(*) FROM {STATES}")[0][0] >= 1
    tokens = rows(oidc_server, "SELECT name FROM user_tokens WHERE token_hash = 'none' ORDER BY name")
    assert tokens == [("of late",), ("valid",)]


@pytest.fixture
def browser(oidc_server, login_provider):
    """The browser of ann, who has logged in."""
    login_provider.groups["ann"] = ["people"]
    return login_provider.log_in(oidc_server, "ann")


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "cross-site", "Referer": "{url}/"},
        {"Referer": "https://other.example/"},
        {"Origin": "https://other.example"},
        {"Referer": "https://other.example/{url}"},
        {},
    ],
)
def test_other_sites_do_not_log_out(oidc_server, browser, headers):
    sent = {name: value.format(url=oidc_server.url) for name, value in headers.items()}
    assert get(oidc_server, "/logout", browser, **sent).status_code == 403
    assert is_logged_in(oidc_server, browser)


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Referer": "{url}/oidc/ui/user"},
    ],
)
def test_own_pages_log_out(oidc_server, browser, headers):
    sent = {name: value.format(url=oidc_server.url) for name, value in headers.items()}
    assert get(oidc_server, "/logout", browser, **sent).status_code == 302
    assert not is_logged_in(oidc_server, browser)


def test_callback_of_another_browser_changes_nothing(oidc_server, login_provider, browser):
    other = requests.Session()
    callback = login_provider.begin(other, oidc_server)
    answer = get(oidc_server, callback, browser)
    assert "not+begun+in+this+browser" in answer.headers["location"]
    assert is_logged_in(oidc_server, browser)
    # The other browser can still end its login.
    for known in login_provider.codes.values():
        known.setdefault("user", "ann")
    assert "error" not in get(oidc_server, callback, other).headers["location"]
    assert is_logged_in(oidc_server, other)


@pytest.mark.parametrize("state", ["", "x", "' OR 1=1", "_state_oidc_"])
def test_callback_needs_a_state(oidc_server, browser, state):
    assert "error=" in get(oidc_server, f"/callback?code=x&state={state}", browser).headers["location"]
    assert is_logged_in(oidc_server, browser)
