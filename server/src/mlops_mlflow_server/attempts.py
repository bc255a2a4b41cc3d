# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Limit logins and wrong credentials.

- The login pages: per address, since each call writes to the database or asks the identity provider.
- Wrong passwords and tokens: per address and name, and with a higher limit per address, which alone counts for bearer
  tokens. No account is locked, which anyone could bring about for any account: credentials that this process has
  accepted before always pass, and so do right ones from another address.

The windows slide, and both their number and what each holds is bounded.
"""

import collections
import hmac
import secrets
import threading
import time
from collections.abc import Callable, Hashable

from cachetools import LRUCache, TTLCache
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mlops_mlflow_server import answers
from mlops_mlflow_server.addresses import client_address
from mlops_mlflow_server.credentials import basic
from mlops_mlflow_server.settings import count

WINDOW_SECONDS = 60.0
# An address may stand for a whole office.
PER_ADDRESS = 60
MOST = 20_000
REMEMBERED_SECONDS = 24 * 3600
# In the scope: a function that the login mode calls once the credentials of a request are accepted.
ACCEPTED = "mlops.accepted"
_LOGINS = answers.busy("Too many logins from your address. Try again in a minute.", "logins")
_FAILURES = answers.busy("Too many wrong passwords or tokens. Try again in a minute.", "wrong credentials")
_HEADERS = (b"authorization", b"x-mlflow-authorization")


class Window:
    """At most `limit` events per key in any `seconds`."""

    def __init__(self, limit: int, seconds: float = WINDOW_SECONDS, clock: Callable[[], float] = time.monotonic):
        self._limit = limit
        self._seconds = seconds
        self._clock = clock
        self._events: LRUCache = LRUCache(maxsize=MOST)
        self._lock = threading.Lock()

    def wait(self, key: Hashable) -> float:
        """Return the seconds until another event of this key is within the limit: 0 if it is now."""
        with self._lock:
            times = self._events.get(key)
            if times is None or len(times) < self._limit:
                return 0.0
            return max(0.0, times[0] + self._seconds - self._clock())

    def add(self, key: Hashable) -> None:
        """Count an event."""
        with self._lock:
            times = self._events.get(key)
            if times is None:
                times = self._events[key] = collections.deque(maxlen=self._limit)
            times.append(self._clock())


class Attempts:
    """ASGI application around one that authenticates, see the module.

    Args:
        application: the application within.
        is_login: whether a path is that of a login page.
    """

    def __init__(
        self, application: ASGIApp, is_login: Callable[[str], bool], clock: Callable[[], float] = time.monotonic
    ):
        self._application = application
        self._is_login = is_login
        failures = count("MLOPS_FAILURES_PER_MINUTE", 10)
        self._logins = Window(count("MLOPS_LOGINS_PER_MINUTE", 300), clock=clock)
        self._failures = Window(failures, clock=clock)
        self._of_address = Window(failures * PER_ADDRESS, clock=clock)
        self._key = secrets.token_bytes(32)
        self._accepted: TTLCache = TTLCache(maxsize=MOST, ttl=REMEMBERED_SECONDS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._application(scope, receive, send)
        elif self._is_login(scope["path"]):
            await self._login(scope, receive, send)
        else:
            header = next((value for name, value in scope["headers"] if name in _HEADERS), None)
            if header is None:
                await self._application(scope, receive, send)
            else:
                await self._with_credentials(scope, receive, send, header.decode("latin1"))

    async def _login(self, scope: Scope, receive: Receive, send: Send) -> None:
        address = client_address(scope)
        if wait := self._logins.wait(address):
            await answers.refuse(send, _LOGINS, [answers.retry_after(wait)])
            return
        self._logins.add(address)
        await self._application(scope, receive, send)

    async def _with_credentials(self, scope: Scope, receive: Receive, send: Send, header: str) -> None:
        given = b"\n".join(value for name, value in scope["headers"] if name in _HEADERS)
        digest = hmac.digest(self._key, given, "sha256")
        if digest in self._accepted:
            await self._application(scope, receive, send)
            return
        address = client_address(scope)
        named = self._named(address, header)
        wait = max(self._failures.wait(named) if named else 0, self._of_address.wait(address))
        if wait:
            await answers.refuse(send, _FAILURES, [answers.retry_after(wait)])
            return
        is_accepted = False

        def accept() -> None:
            nonlocal is_accepted
            is_accepted = True
            self._accepted[digest] = None

        async def noted_send(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 401 and not is_accepted:
                if named:
                    self._failures.add(named)
                self._of_address.add(address)
            await send(message)

        scope[ACCEPTED] = accept
        await self._application(scope, receive, noted_send)

    def _named(self, address: str, header: str) -> tuple[str, bytes] | None:
        """Return address and name, of which the latter may be as long as a header; None if it names nobody."""
        known = basic(header)
        return (address, hmac.digest(self._key, known[0].encode(), "sha256")) if known else None


def accepted(scope: dict) -> None:
    """Note that the credentials of this request are right."""
    accept = scope.get(ACCEPTED)
    if accept is not None:
        accept()
