# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of what the clients of MLflow and of Keycloak share."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils.connections import WORKERS, Wire, explain, in_parallel
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"error": "unknown_error"}', "unknown_error"),
        (b'{"error": "invalid_grant", "error_description": "Invalid user credentials"}', "Invalid user credentials"),
        (b'{"errorMessage": "User exists with same email"}', "User exists with same email"),
        (b'{"field": "email", "errorMessage": "error-invalid-email", "params": []}', "email: error-invalid-email"),
        (
            b'{"errors": [{"field": "a", "errorMessage": "x"}, {"field": "b", "errorMessage": "y"}]}',
            "a: x; b: y",
        ),
        (b"", "no reason given"),
        (b"{}", "no reason given"),
        (b"[1]", "[1]"),
        (b"<html>Bad gateway</html>", "no reason given"),
        (b'{"error_code": "RESOURCE_DOES_NOT_EXIST"}', "RESOURCE_DOES_NOT_EXIST"),
        (b'{"detail": [{"loc": ["body", "name"], "msg": "is missing", "input": "planted"}]}', "body.name: is missing"),
        (b"\xff\xfe" + b"x" * 500, "\ufffd\ufffd" + "x" * 198),
    ],
)
def test_words_of_an_error(body, words):
    assert explain(body)[1] == words


@given(st.binary(max_size=60))
def test_any_body_is_explained(body):
    assert explain(body)[1]


class Connection:
    """Breaks so many times, then answers."""

    def __init__(self, *breaks: bool) -> None:
        self.sock: Any = None
        self.breaks = list(breaks)
        self.sent = 0
        self.status, self.headers = 200, {}

    def connect(self) -> None:
        self.sock = self

    def request(self, *_given: Any, **_more: Any) -> None:
        self.sent += 1
        if self.breaks and self.breaks.pop(0):
            raise ConnectionResetError

    def getresponse(self) -> Connection:
        return self

    def read(self) -> bytes:
        return b"done"

    def close(self) -> None:
        self.sock = None


def get(wire: Wire, safe: bool = True) -> bytes:
    return wire.exchange("GET", "/", None, {}, safe=safe).body


def test_safe_request_is_repeated_once_where_a_kept_connection_broke():
    wire = Wire(Connection(False, True))
    get(wire)

    assert get(wire) == b"done"
    assert wire.requests == wire.connection.sent == 3

    wire = Wire(Connection(False, True, True))
    get(wire)
    with pytest.raises(ConnectionResetError):
        get(wire)


@pytest.mark.parametrize(("used", "safe"), [(False, True), (True, False)])
def test_new_connection_and_a_write_are_not_tried_again(used, safe):
    wire = Wire(Connection(*[False] * used, True))
    if used:
        get(wire)

    with pytest.raises(ConnectionResetError):
        get(wire, safe)
    assert wire.connection.sent == used + 1


class Session:
    """Counts what it is asked, and the sessions of its kind."""

    made: list[Session]

    def __init__(self) -> None:
        self.requests = 0
        self.closed = False

    def another(self) -> Session:
        self.made.append(Session())
        return self.made[-1]

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def session():
    Session.made = []
    return Session()


@pytest.mark.parametrize(
    ("items", "requests", "workers"),
    [(0, None, 0), (1, None, 0), (8, None, 0), (9, None, 2), (200, None, WORKERS), (3, 200, 3), (1, 200, 0)],
)
def test_much_work_is_done_over_several_connections(session, items, requests, workers):
    def work(own: Session, item: int) -> int:
        own.requests += 1
        return item * 2

    results = in_parallel(session, list(range(items)), work, requests)

    assert results == [each * 2 for each in range(items)]
    assert session.requests == items
    assert len(session.made) == workers
    assert all(each.closed for each in session.made)


def test_after_a_failure_nothing_else_is_begun(session):
    begun = []
    failing = threading.Event()

    def work(own: Session, item: int) -> None:
        own.requests += 1
        begun.append(item)
        if item == 0:
            failing.set()
            raise ValueError("the first")
        failing.wait(5)

    with pytest.raises(ValueError, match="the first"):
        in_parallel(session, list(range(100)), work)

    assert len(begun) < 100
    assert session.requests == len(begun)
