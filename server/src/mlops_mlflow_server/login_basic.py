# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Login mode `basic`: MLflow's own basic-auth, hardened.

MLflow authenticates calls of its native routes on the event loop, with database query and password check, which blocks
the whole worker, probes included. Calls of all other routes are authenticated by Flask, after their body was
read. Here a thread does this beforehand for every call, so that a caller without an account sends no body and holds no
thread. Routes that are public upstream, such as the server's configuration, require an account.
"""

import asyncio
import concurrent.futures
import contextvars
import json
import logging
import os
from collections.abc import Callable, Coroutine
from typing import Any

from flask import request as flask_request
from mlflow.environment_variables import MLFLOW_ENABLE_WORKSPACES
from mlflow.exceptions import MlflowException
from mlflow.server import app as flask_app
from mlflow.server import auth
from mlflow.server.auth import sqlalchemy_store
from mlflow.server.fastapi_app import _EfficientWSGIMiddleware
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send
from werkzeug.datastructures import Authorization

from mlops_mlflow_server import (
    artifacts,
    assistant,
    attempts,
    basic_settings,
    compressed,
    guards,
    hosts,
    lanes,
    parts,
    passwords,
    straight,
)
from mlops_mlflow_server.callers_basic import Caller
from mlops_mlflow_server.credentials import basic as credentials
from mlops_mlflow_server.parts import MLFLOW, Part
from mlops_mlflow_server.settings import count

_logger = logging.getLogger("mlflow.mlops")

# MLflow itself serves only /health.
PROBES = frozenset({"/health/live", "/health/startup"})

# MLflow's functions that authenticate, and those that authorize without awaiting anything.
_AUTHENTICATE = ("_authenticate_fastapi_request", "_authenticate_custom_for_fastapi")
_DECIDE = ("_get_otel_validator", "_get_job_route_validator")
_ALSO = ("_find_fastapi_validator", "authenticate_request", "_authenticate_cached")
# What decides which routes are public.
_ROUTING = (
    "_PUBLIC_ROUTE_SUFFIXES",
    "_find_fastapi_validator",
    "_get_require_authentication_validator",
    "_matches_route_suffix",
    "_strip_static_prefix",
)

# There, Authorization may be for the model provider.
GATEWAY_PATH = "/gateway/"

_outcome: contextvars.ContextVar[tuple | None] = contextvars.ContextVar("mlops_caller", default=None)


class Threads:
    """A thread pool, separate from the threads that wait for the object store."""

    def __init__(self) -> None:
        # Besides those that wait for a slow hash there are always some for accounts whose password is known.
        waiting = passwords.AT_A_TIME + passwords.MOST_WAITING
        self._pool = concurrent.futures.ThreadPoolExecutor(
            max_workers=count("MLOPS_TRACKING_THREADS", 8) + waiting, thread_name_prefix="mlops-auth"
        )

    async def run(self, function: Callable, *arguments: Any) -> Any:
        """Run `function` in a thread with this call's context, and return its result."""
        context = contextvars.copy_context()
        return await asyncio.get_running_loop().run_in_executor(self._pool, context.run, function, *arguments)


class Identified:
    """ASGI application that authenticates the caller in a thread before the body is read, and before MLflow does."""

    def __init__(self, app: ASGIApp, authenticate: Callable, threads: Threads):
        self.app = app
        self._authenticate = authenticate
        self._threads = threads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # A pipelined request begins in the context of the former one.
        _outcome.set(None)
        if scope["type"] != "http" or auth.is_unprotected_route(scope["path"]):
            await self.app(scope, receive, send)
            return
        user, error = await self._threads.run(_result_of, self._authenticate, Request(scope))
        refusal = user if isinstance(user, Response) else _refusal(user, error)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        _outcome.set((user, None))
        scope[lanes.ACCOUNT] = user.username
        attempts.accepted(scope)
        await self.app(scope, receive, send)


def _refusal(user: Any, error: Exception | None) -> Response | None:
    """Return the answer to a caller who is not authenticated."""
    if isinstance(error, MlflowException):
        # Too many logins at once, or no database.
        status = error.get_http_status_code()
        return JSONResponse(json.loads(error.serialize_as_json()), status, {"Retry-After": "1"})
    if error is not None:
        _logger.error("The authentication of a call failed", exc_info=error)
    if error is None and user is not None:
        return None
    text = (
        "You are not authenticated. Please see https://www.mlflow.org/docs/latest/auth/index.html"
        "#authenticating-to-mlflow on how to authenticate."
    )
    return PlainTextResponse(text, 401, {"WWW-Authenticate": 'Basic realm="mlflow"'})


def _result_of(function: Callable, *arguments: Any) -> tuple[Any, Exception | None]:
    try:
        return function(*arguments), None
    except Exception as error:
        return None, error


def _known(function: Callable) -> Callable:
    def answer(request: Request) -> Any:
        outcome = _outcome.get() or _result_of(function, request)
        if outcome[1] is not None:
            raise outcome[1]
        return outcome[0]

    return answer


def _known_in_flask(function: Callable, is_own: bool) -> Callable:
    """Spare Flask's calls the queries that have authenticated them already."""

    def answer() -> Any:
        outcome = _outcome.get()
        if outcome is None:
            return function()
        name = outcome[0].username
        if not is_own:
            return Authorization("basic", {"username": name, "password": ""})
        given = flask_request.authorization
        return given if given is not None and given.username == name else function()

    return answer


def _own(function: Callable) -> Callable:
    """Authenticate as MLflow does, with non-ASCII passwords on native routes too, and without hiding failures."""

    def authenticate(request: Request) -> Any:
        if GATEWAY_PATH in request.url.path:
            return function(request)
        found = credentials(request.headers.get("authorization", ""))
        return auth._authenticate_cached(*found) if found is not None else None

    return authenticate


def _drive(coroutine: Coroutine) -> Any:
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    coroutine.close()
    raise RuntimeError("This function awaits something and cannot run in a thread")


def _threaded(make: Callable, threads: Threads) -> Callable:
    def made(path: str) -> Callable:
        decide = make(path)

        async def decision(username: str, request: Request) -> Any:
            return await threads.run(_drive, decide(username, request))

        return decision

    return made


def _close_public_routes() -> bool:
    """Require an account on MLflow's public routes; return whether this version has the expected names."""
    if not all(hasattr(auth, name) for name in _ROUTING):
        return False
    public, find = auth._PUBLIC_ROUTE_SUFFIXES, auth._find_fastapi_validator

    def find_also(path: str, method: str) -> Callable | None:
        found = find(path, method)
        if found is None and auth._matches_route_suffix(auth._strip_static_prefix(path), public):
            return auth._get_require_authentication_validator()
        return found

    auth._find_fastapi_validator = find_also
    auth._PUBLIC_ROUTE_SUFFIXES = ()
    return True


def account(scope: Scope) -> str | None:
    """Return the name of the account whose call this is, or None if nobody is logged in."""
    return scope.get(lanes.ACCOUNT)


def takes_no_body(path: str) -> bool:
    """Return whether a path needs no login and takes no body."""
    return auth.is_unprotected_route(path)


def is_login(_path: str) -> bool:
    """Return whether a path is that of a login page: none is."""
    return False


class _Identifying:
    """Authenticates callers in threads before their body is read."""

    def __init__(self, application: Any):
        self._application = application

    def install(self) -> bool:
        """Replace MLflow's functions; return whether this version has the expected names."""
        if not all(hasattr(auth, name) for name in (*_AUTHENTICATE, *_DECIDE, *_ALSO)):
            return False
        threads = Threads()
        is_own = auth.auth_config.authorization_function == basic_settings.OWN_AUTHENTICATION
        authenticate = _own(auth._authenticate_fastapi_request) if is_own else auth._authenticate_custom_for_fastapi
        for name in _AUTHENTICATE:
            setattr(auth, name, _known(getattr(auth, name)))
        for name in _DECIDE:
            setattr(auth, name, _threaded(getattr(auth, name), threads))
        auth.authenticate_request = _known_in_flask(auth.authenticate_request, is_own)
        self._application.user_middleware.insert(0, Middleware(Identified, authenticate, threads))
        return True


# Before MLflow makes its application.
PARTS = (
    *artifacts.PARTS,
    Part("public routes", MLFLOW, _close_public_routes, "the server's configuration would be public", required=True),
    Part(
        "passwords",
        MLFLOW,
        lambda: passwords.install(sqlalchemy_store),
        "every call computes a slow hash, and wrong passwords stop the server",
        required=True,
    ),
)


def application_parts(app: Any, identifying: _Identifying) -> tuple[Part, ...]:
    """Return the parts that patch MLflow's application."""
    return (
        Part("compressed traces", MLFLOW, compressed.install, compressed.CONSEQUENCE, required=True),
        Part("assistant", MLFLOW, lambda: assistant.install(app), assistant.CONSEQUENCE, required=True),
        Part(
            "lanes",
            MLFLOW,
            lambda: lanes.install(app, _EfficientWSGIMiddleware, account),
            lanes.CONSEQUENCE,
            required=True,
        ),
        Part("callers", MLFLOW, identifying.install, "callers without an account could send bodies", required=True),
        # Before the callers are asked who they are.
        Part("hosts", MLFLOW, lambda: hosts.install(app), hosts.CONSEQUENCE, required=True),
        Part("short way", MLFLOW, lambda: _shorten(app), "every call takes a few milliseconds longer", required=False),
        *guards.of_store(app, Caller()),
    )


def _shorten(app: Any) -> bool:
    if MLFLOW_ENABLE_WORKSPACES.get():
        return True
    return straight.install(app, flask_app, (Identified,), lambda scope: account(scope) is not None)


def application() -> ASGIApp:
    """Return the ASGI application.

    Raises:
        MisfitError: a required part does not fit.
    """
    parts.start(PARTS)
    app = auth.create_app()
    parts.start(application_parts(app, _Identifying(app)))
    return app


def databases() -> dict[str, str]:
    """Return the URIs of the databases that this way to log in needs, by what readiness calls them."""
    return {"database": basic_settings.schema_uri(os.environ["OIDC_USERS_DB_URI"])}


def checks() -> dict:
    """Return what else must hold before a pod is ready: nothing."""
    return {}
