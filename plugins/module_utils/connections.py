# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the clients of MLflow and of Keycloak share: connections that are kept, errors in words, work in parallel."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol, TypeVar

from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.portforward import Unreachable

BROKEN = (http.client.HTTPException, OSError)
"""What a connection that broke raises."""

IDLE = 3.0
"""Seconds after which a kept connection is not trusted with a write."""

WORKERS = 8
"""Most connections that work in parallel."""

SHARE = 8
"""Requests that are worth a further connection."""


class Answer(NamedTuple):
    """An HTTP answer, read to its end."""

    status: int
    headers: Any
    body: bytes


class Wire:
    """One connection that is kept, and opened again after a failure.

    Attributes:
        connection: an `http.client.HTTPConnection`, or what behaves like one.
        requests: how many were sent.
    """

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.requests = 0
        self._used: float | None = None

    def close(self) -> None:
        """Drop the connection; the next request opens another."""
        self.connection.close()

    def exchange(self, method: str, target: str, body: bytes | None, headers: dict[str, str], *, safe: bool) -> Answer:
        """Send one request and read the whole answer.

        Args:
            method: of HTTP.
            target: path and query.
            body: what is sent; None sends nothing.
            headers: as they are sent.
            safe: whether the request may be sent again, which happens once, where a kept connection had broken.

        Raises:
            Unreachable: no pod is ready.
            HTTPException: the connection broke.
            OSError: the same, or there is none.
        """
        if not safe and self._used is not None and time.monotonic() - self._used > IDLE:
            self.close()
        kept = self._used is not None
        while True:
            try:
                if self.connection.sock is None:
                    self.connection.connect()
                self.requests += 1
                self.connection.request(method, target, body=body, headers=headers)
                response = self.connection.getresponse()
                answer = Answer(response.status, response.headers, response.read())
                self._used = time.monotonic()
                return answer
            except Unreachable:
                self.close()
                raise
            except BROKEN:
                self.close()
                if not (safe and kept):
                    raise
                kept = False


class Client:
    """A client of one server over one kept connection.

    Args:
        connection: an `http.client.HTTPConnection`, or what behaves like one; it is opened again after a failure.
    """

    def __init__(self, connection: Any) -> None:
        self._wire = Wire(connection)

    @property
    def requests(self) -> int:
        """How many requests were sent, those of other threads included."""
        return self._wire.requests

    @requests.setter
    def requests(self, count: int) -> None:
        self._wire.requests = count

    def close(self) -> None:
        """Drop the connection; the next request opens another."""
        self._wire.close()


def explain(body: bytes) -> tuple[str, str]:
    """Give the error code and the words of an answer that is an error.

    MLflow, FastAPI, basic-auth and Keycloak have a form each; Keycloak alone has five.
    """
    try:
        answer = json.loads(body)
    except ValueError:
        text = "" if b"<" in body else " ".join(body.decode(errors="replace").split())
        return "", text[:200] or "no reason given"
    if not isinstance(answer, dict):
        return "", str(answer)[:200]
    code = str(answer.get("error_code") or "")
    words = []
    for each in [answer, *(answer.get("errors") or [])]:
        detail = each.get("detail")
        if isinstance(detail, list):  # FastAPI's validation: what was sent is in it too, and is left out
            words += [
                f"{'.'.join(map(str, e.get('loc') or []))}: {e.get('msg')}" for e in detail if isinstance(e, dict)
            ]
            continue
        names = ("detail", "message", "errorMessage", "error_description", "error")
        message = next((each[name] for name in names if each.get(name)), None)
        if message:
            # Validation of user profiles: {"field": "email", "errorMessage": "error-invalid-email", "params": [...]}
            words.append(f"{each['field']}: {message}" if each.get("field") else str(message))
    return code, " ".join("; ".join(dict.fromkeys(words)).split()) or code or "no reason given"


class Session(Protocol):
    """A client that can open another one like it, for one more thread."""

    requests: int

    def another(self) -> Any:
        """Give a client with a connection of its own."""

    def close(self) -> None:
        """Close the connection."""


S = TypeVar("S", bound=Session)
T = TypeVar("T")
R = TypeVar("R")


def in_parallel(session: S, items: Sequence[T], work: Callable[[S, T], R], requests: int | None = None) -> list[R]:
    """Work on items over several connections, and give the results in their order.

    After a failure what runs is finished, nothing else begun, and the first failure raised.

    Args:
        session: does the work alone where there is little of it, and counts the requests of all.
        items: what to work on.
        work: called with a session and an item, in a thread.
        requests: how many they take in all; by default one an item.
    """
    workers = min(WORKERS, len(items), -(-(len(items) if requests is None else requests) // SHARE))
    if workers < 2:
        return [work(session, item) for item in items]
    results: list[Any] = [None] * len(items)
    left = iter(range(len(items)))  # `next` of it is atomic
    failed: list[int] = []

    def run(own: S) -> None:
        try:
            for number in left:
                if failed:
                    return
                try:
                    results[number] = work(own, items[number])
                except Exception:
                    failed.append(number)
                    raise
        finally:
            own.close()

    sessions = [session.another() for _unused in range(workers)]
    with ThreadPoolExecutor(workers) as pool:
        running = [pool.submit(run, own) for own in sessions]
    for own, future in zip(sessions, running, strict=True):
        session.requests += own.requests
        future.exception()
    for future in running:
        future.result()
    return results
