# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answer 503 during a database outage.

mlflow-oidc-auth and MLflow's basic-auth treat a failed query as an unknown user: while their database restarts, clients
with valid credentials get 401, browsers are redirected to the login page, and MLflow clients, which retry 503 but not
401, give up. Here every such answer during which a database call failed is replaced by 503 with `Retry-After`.

`/health/ready` queries all databases with connections of its own, in threads, so that neither a busy pool nor a slow
database distorts it, and `/health/live` keeps answering.
"""

import asyncio
import concurrent.futures
import json
import logging
import time

import sqlalchemy
from sqlalchemy import event
from sqlalchemy.engine import Engine
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mlops_mlflow_server import answers

_logger = logging.getLogger("mlflow.mlops")

RETRY_AFTER_SECONDS = 1
# Answers that a failed query may cause: refusals, redirects to the login page, unhandled errors.
_MASKED_STATUSES = frozenset({302, 303, 307, 401, 403, 404, 500})
# Timeout of one query; the pods' probes allow a second more.
PING_SECONDS = 4.0

# For `answers.refuse`.
AWAY = (
    answers.Refusal(503, "TEMPORARILY_UNAVAILABLE", "The database does not answer. Try again in a moment.", "database"),
    [answers.retry_after(RETRY_AFTER_SECONDS)],
)


class Watch:
    """Records when a database call of this process last failed because the database was unavailable."""

    def __init__(self) -> None:
        self.last = float("-inf")

    def listen(self) -> None:
        """Watch every SQLAlchemy engine of the process, including those created later."""
        event.listen(Engine, "handle_error", self._note)

    def _note(self, context: sqlalchemy.engine.ExceptionContext) -> None:
        original = context.original_exception
        kinds = {kind.__name__ for kind in type(original).__mro__}
        is_operational = bool(kinds & {"OperationalError", "InterfaceError"})
        if context.is_disconnect or (is_operational and not _is_of_the_query(original)):
            self.last = time.monotonic()


def _is_of_the_query(error: BaseException) -> bool:
    """Return whether the database answered and rejected the query (lock not available, out of memory)."""
    code = getattr(error, "pgcode", None) or ""
    # 08 connection, 57P shutdown and start, 53300 too many connections: https://www.postgresql.org/docs/17/errcodes-appendix.html
    return bool(code) and not (code.startswith(("08", "57P")) or code == "53300")


class Readiness:
    """The checks of `/health/ready`: the login is configured, and all databases answer.

    Args:
        databases: database URIs by their names in the answer.
        checks: additional checks by their names in the answer; each returns whether it passed.
    """

    def __init__(self, databases: dict[str, str], checks: dict):
        self._databases = databases
        self._checks = checks
        self._pool = concurrent.futures.ThreadPoolExecutor(max_workers=4, thread_name_prefix="mlops-ready")
        self._engines: dict[str, Engine] = {}
        self._reported: dict[str, bool] = {}

    def _ping(self, uri: str) -> None:
        if uri not in self._engines:
            self._engines[uri] = sqlalchemy.create_engine(
                uri, pool_size=1, max_overflow=1, pool_timeout=1, pool_pre_ping=True
            )
        with self._engines[uri].connect() as connection:
            connection.execute(sqlalchemy.text("SELECT 1"))

    async def _answers(self, name: str, uri: str) -> bool:
        reason = ""
        try:
            call = asyncio.get_running_loop().run_in_executor(self._pool, self._ping, uri)
            await asyncio.wait_for(call, PING_SECONDS)
        except TimeoutError:
            reason = f"no answer within {PING_SECONDS:g} s"
        except Exception as error:
            reason = " ".join(str(getattr(error, "orig", None) or error).split()) or type(error).__name__
        if self._reported.get(name, True) != (not reason):
            self._reported[name] = not reason
            if reason:
                _logger.error("Not ready: the %s does not answer: %s", name.replace("_", " "), reason)
            else:
                _logger.warning("Ready again: the %s answers", name.replace("_", " "))
        return not reason

    async def checks(self) -> dict[str, bool]:
        """Return the result of each check."""
        answers = await asyncio.gather(*(self._answers(name, uri) for name, uri in self._databases.items()))
        return {name: bool(ask()) for name, ask in self._checks.items()} | dict(
            zip(self._databases, answers, strict=True)
        )


class OutageAware:
    """ASGI application around MLflow's, see the module; `probes` are paths that depend on this process alone."""

    def __init__(self, application: ASGIApp, watch: Watch, readiness: Readiness, probes: frozenset = frozenset()):
        self._application = application
        self._probes = probes
        self._watch = watch
        self._readiness = readiness

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._application(scope, receive, send)
        elif scope["path"] == "/health/ready":
            await self._ready(send)
        elif scope["path"] in self._probes:
            await answers.answer(send, 200, b'{"status": "ok"}')
        else:
            await self._guarded(scope, receive, send)

    async def _ready(self, send: Send) -> None:
        checks = await self._readiness.checks()
        well = all(checks.values())
        body = json.dumps({"status": "ready" if well else "not_ready", "checks": checks}).encode()
        await answers.answer(send, 200 if well else 503, body)

    async def _guarded(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.monotonic()
        replaced = False

        async def guarded_send(message: Message) -> None:
            nonlocal replaced
            is_start = message["type"] == "http.response.start"
            if is_start and message["status"] in _MASKED_STATUSES and self._watch.last >= began:
                replaced = True
                await answers.refuse(send, *AWAY)
            elif not replaced:
                await send(message)

        await self._application(scope, receive, guarded_send)
