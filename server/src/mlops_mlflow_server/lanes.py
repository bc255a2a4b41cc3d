# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Separate threads for artifact calls and for all other calls of MLflow's WSGI application, shared out fairly.

An artifact call that waits for the object store must not delay the tracking calls of its worker: each of the two kinds
has its own limit. The threads are those of `wsgi`.

A call takes a thread only when its body is there, so that a client that does not send holds none; the body of an
artifact's upload passes through. One account, or one address where there are no accounts, runs at most three quarters
of the calls of a kind at once; those that wait take turns by account; their number and the time that they wait are
limited.
"""

import asyncio
import collections
from collections.abc import Callable, Hashable

from fastapi import FastAPI
from starlette.requests import ClientDisconnect
from starlette.routing import Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mlops_mlflow_server import answers, bounds, metrics
from mlops_mlflow_server.settings import count, number

# What is the case where this does not fit.
CONSEQUENCE = "clients that send nothing would take all threads"
_BUSY = answers.busy("You have too many requests at once. Try again in a moment.", "calls of account")
_NO_BODY = answers.Refusal(413, "INVALID_PARAMETER_VALUE", "Without a login, this path takes no body.", "body")
# Who calls, where the login mode knows it and the scope does not: see `account` in `install`.
ACCOUNT = "mlops.account"


def touches_object_store(path: str) -> bool:
    """Return whether a call to this path may wait for the object store, which MLflow's paths show."""
    return "artifact" in path


class Busy(Exception):
    """A caller has too many calls at once, or has waited too long."""


class Lane:
    """The calls of one kind: how many run at once, and who is next.

    Args:
        threads: how many run at once.
        most: how many one caller may have, running or waiting.
        patience: seconds that a call waits.
        name: what it is, for metrics.
    """

    def __init__(self, threads: int, most: int, patience: float, name: str = "others"):
        self._free = threads
        self._running_now = metrics.RUNNING.labels(name)
        self._waiting_now = metrics.WAITING.labels(name)
        metrics.THREADS.labels(name).inc(threads)
        self._share = max(1, threads * 3 // 4)
        self._most = most
        self._patience = patience
        self._calls: collections.Counter = collections.Counter()
        self._running: collections.Counter = collections.Counter()
        # Callers in the order of their turns.
        self._waiting: collections.OrderedDict = collections.OrderedDict()

    def enter(self, caller: Hashable) -> None:
        """Count a call of this caller.

        Raises:
            Busy: there are too many.
        """
        if self._calls[caller] >= self._most:
            raise Busy
        self._calls[caller] += 1

    def leave(self, caller: Hashable) -> None:
        """Count a call less."""
        _decrease(self._calls, caller)

    async def acquire(self, caller: Hashable) -> None:
        """Wait for this caller's turn.

        Raises:
            Busy: it does not come in time.
        """
        if self._free and self._running[caller] < self._share:
            self._take(caller)
            return
        self._waiting_now.inc()
        try:
            await self._wait(caller)
        finally:
            self._waiting_now.dec()

    async def _wait(self, caller: Hashable) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(caller, collections.deque()).append(turn)
        try:
            async with asyncio.timeout(self._patience):
                await turn
        except (TimeoutError, asyncio.CancelledError) as error:
            if turn.done() and not turn.cancelled():
                self.release(caller)
            else:
                self._forget(caller, turn)
            if isinstance(error, TimeoutError):
                raise Busy from None
            raise

    def release(self, caller: Hashable) -> None:
        """End a call, and let those run whose turn it is."""
        self._free += 1
        self._running_now.dec()
        _decrease(self._running, caller)
        while self._free:
            following = next((each for each in self._waiting if self._running[each] < self._share), None)
            if following is None:
                return
            turns = self._waiting.pop(following)
            turn = turns.popleft()
            if turns:
                # To the end: all callers take turns.
                self._waiting[following] = turns
            self._take(following)
            turn.set_result(None)

    def _take(self, caller: Hashable) -> None:
        self._free -= 1
        self._running_now.inc()
        self._running[caller] += 1

    def _forget(self, caller: Hashable, turn: asyncio.Future) -> None:
        turns = self._waiting.get(caller, ())
        if turn in turns:
            turns.remove(turn)
            if not turns:
                del self._waiting[caller]


def _decrease(counter: collections.Counter, caller: Hashable) -> None:
    counter[caller] -= 1
    if counter[caller] <= 0:
        del counter[caller]


class Lanes:
    """The mounted Flask application with a limit for each of the two kinds of calls.

    Args:
        application: the Flask application as an ASGI application. For an upload it reads the body itself, else the body
            is there.
        account: the name of the caller of an ASGI request, or None; not given where there are no accounts.
    """

    def __init__(self, application: ASGIApp, account: Callable[[Scope], str | None] | None = None):
        self.app = application
        self._account = account
        most = count("MLOPS_REQUESTS_PER_ACCOUNT", 128)
        patience = number("MLOPS_WAITING_TIMEOUT", 60)
        self._artifacts = Lane(count("MLOPS_ARTIFACT_THREADS", 8), most, patience, "artifacts")
        self._others = Lane(count("MLOPS_TRACKING_THREADS", 8), most, patience)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        account = self._account(scope) if self._account else None
        if self._account and account is None and bounds.length_of_body(scope["headers"]) != 0:
            await answers.refuse(send, _NO_BODY)
            return
        caller = ("account", account) if account is not None else ("address", scope.get(bounds.ADDRESS))
        lane = self._artifacts if touches_object_store(scope["path"]) else self._others
        try:
            lane.enter(caller)
        except Busy:
            await answers.refuse(send, _BUSY, [answers.retry_after()])
            return
        try:
            await self._run(lane, caller, scope, receive, send)
        except Busy:
            await answers.refuse(send, _BUSY, [answers.retry_after()])
        finally:
            lane.leave(caller)

    async def _run(self, lane: Lane, caller: Hashable, scope: Scope, receive: Receive, send: Send) -> None:
        body = _passing(receive) if bounds.is_upload(scope) else await _complete(receive)
        if body is None:
            return
        await lane.acquire(caller)
        try:
            await self.app(scope, body, send)
        finally:
            lane.release(caller)


async def _complete(receive: Receive) -> Callable | None:
    """Return a `receive` that gives the complete body at once; None if the client has left before its end."""
    chunks = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        chunks.append(message.get("body", b""))
        if not message.get("more_body", False):
            break
    first: Message | None = {"type": "http.request", "body": b"".join(chunks), "more_body": False}

    async def replay() -> Message:
        nonlocal first
        message, first = first, None
        return message if message is not None else await receive()

    return replay


def _passing(receive: Receive) -> Callable:
    """Return a `receive` for an upload; what the client has sent until it leaves must not be taken for the whole."""
    is_complete = False

    async def pass_on() -> Message:
        nonlocal is_complete
        message = await receive()
        if message["type"] != "http.request" and not is_complete:
            raise ClientDisconnect
        is_complete = is_complete or not message.get("more_body", False)
        return message

    return pass_on


def install(application: FastAPI, mounted: type, account: Callable[[Scope], str | None] | None = None) -> int:
    """Wrap the mounts of class `mounted` in `application`; return their number. `account` is as in `Lanes`."""
    replaced = 0
    for route in application.routes:
        if isinstance(route, Mount) and isinstance(route.app, mounted):
            route.app = Lanes(route.app, account)
            replaced += 1
    return replaced
