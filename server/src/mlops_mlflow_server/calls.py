# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of the call that is being answered: for metrics, the log, the audit log and spans.

`Observed` is around all other applications. It gives each call an id, which is that of the request's header
`X-Request-ID` if this is a plain one, and which goes into the answer's header, log lines and the comments of SQL
statements. A call is complete only after the layers within have noted who calls (`callers.Scoped`) and which route it
is (Flask's signal, FastAPI's scope).
"""

import re
import secrets
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import flask
import sqlalchemy
from sqlalchemy import event
from sqlalchemy.engine import Engine
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mlops_mlflow_server import addresses, answers, bounds, logs, metrics
from mlops_mlflow_server.answers import Refusal

HEADER = b"x-request-id"
# Where spans are sent (`spans`).
SPANS = "MLOPS_OTLP_ENDPOINT"
ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
# A call of no route: it was refused before, or there is none.
NO_ROUTE = "none"
UNLOGGED = Refusal(
    503, "TEMPORARILY_UNAVAILABLE", "The audit log cannot be written. Try again in a moment.", "audit log"
)
_REFUSED = {401: "not authenticated", 403: "not allowed"}

_current: ContextVar["Call | None"] = ContextVar("mlops_call", default=None)


class Call:
    """One call, as far as it is known.

    Attributes:
        id: of this call alone, unless the client names it.
        scope: the innermost ASGI scope that is known.
        status: HTTP status of the answer, 0 before it begins.
        template: of the route, where Flask has it.
        user: who calls, where no login mode knows it.
        named: what a change names, by the names of arguments and fields.
        body: what came of a short body of JSON.
        span: of OpenTelemetry, or None where it is off.
        below: how many spans it has had below it.
    """

    __slots__ = ("_address", "began", "below", "body", "id", "named", "scope", "span", "status", "template", "user")

    def __init__(self, scope: Scope):
        given = next((value for name, value in scope["headers"] if name == HEADER), b"")
        self.id = given.decode() if ID.fullmatch(given) else secrets.token_hex(16)
        self.began = time.perf_counter()
        self.scope = scope
        self.status = 0
        self.template = ""
        self.user = ""
        self.named: dict[str, Any] = {}
        self.body: list[bytes] = []
        self.span: Any = None
        self.below = 0
        self._address = ""

    @property
    def route(self) -> str:
        """The template of its route, such as `/api/2.0/mlflow/runs/create`."""
        if self.template:
            return self.template
        context = self.scope.get("fastapi", {}).get("effective_route_context") or self.scope.get("route")
        return getattr(context, "path", None) or NO_ROUTE

    @property
    def address(self) -> str:
        """The address of its client."""
        if not self._address:
            self._address = addresses.client_address(self.scope)
        return self._address


def current() -> Call | None:
    """Return the call that is being answered, or None outside of one."""
    return _current.get()


class Observed:
    """ASGI application around all others, see the module.

    Args:
        application: the application within.
        account: the name of the caller of an ASGI scope, or None.
        audit: the audit log, or None if it is off.
        log: writes a line on a call and the seconds that it took.
        spans: the spans of calls, or None if they are off.
    """

    def __init__(
        self,
        application: ASGIApp,
        account: Callable[[Scope], str | None],
        audit: Any = None,
        log: Callable[[Call, float], None] | None = None,
        spans: Any = None,
    ):
        self._application = application
        self._account = account
        self._audit = audit
        self._log = log
        self._spans = spans

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan" and self._spans is not None:
                send = self._spans.flushing(send)
            await self._application(scope, receive, send)
            return
        call = Call(scope)
        if self._spans is not None:
            call.span = self._spans.begin(scope)
        _current.set(call)
        logs.call_id.set(call.id)
        metrics.IN_FLIGHT.inc()
        try:
            await self._answer(call, scope, receive, send)
        except Exception:
            call.status = call.status or 500
            raise
        finally:
            metrics.IN_FLIGHT.dec()
            self._end(call)

    def _end(self, call: Call) -> None:
        seconds = time.perf_counter() - call.began
        if call.status == 200 and call.scope["path"] in bounds.PROBES:
            return
        if call.status in _REFUSED:
            metrics.REFUSED.labels(_REFUSED[call.status]).inc()
        metrics.observe_call(call.route, call.scope["method"], call.status, seconds)
        if self._log is not None:
            self._log(call, seconds)
        if self._spans is not None:
            self._spans.end(call)

    async def _answer(self, call: Call, scope: Scope, receive: Receive, send: Send) -> None:
        audit = self._audit
        is_dropped = False
        header = (HEADER, call.id.encode())

        async def observed_send(message: Message) -> None:
            nonlocal is_dropped
            if message["type"] == "http.response.start":
                call.status = message["status"]
                call.user = self._account(call.scope) or call.user
                if audit is not None and not await audit.note(call):
                    is_dropped = True
                    call.status = UNLOGGED.status
                    await answers.refuse(send, UNLOGGED, [header, bounds.CLOSE, answers.retry_after()])
                    return
                message = {**message, "headers": [*message.get("headers", ()), header]}
            if not is_dropped:
                await send(message)

        if audit is not None:
            if not await audit.may_begin(scope):
                call.status = UNLOGGED.status
                await answers.refuse(send, UNLOGGED, [header, bounds.CLOSE, answers.retry_after()])
                return
            receive = audit.keeping(call, receive)
        try:
            await self._application(scope, receive, observed_send)
        finally:
            if audit is not None and not call.status:
                await audit.note(call)


def _note_route(_flask: flask.Flask, **_unused: Any) -> None:
    call = _current.get()
    rule = flask.request.url_rule
    if call is not None and rule is not None:
        call.template = rule.rule


def _comment(
    _connection: sqlalchemy.Connection, _cursor: Any, statement: str, parameters: Any, *_unused: Any
) -> tuple[str, Any]:
    call = _current.get()
    return (f"{statement} /*request_id='{call.id}'*/" if call is not None else statement), parameters


def install() -> None:
    """Let Flask tell the route of a call, and SQL statements name the call that they belong to."""
    flask.request_started.connect(_note_route)
    event.listen(Engine, "before_cursor_execute", _comment, retval=True)
