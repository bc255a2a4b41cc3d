# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Login mode `basic`: MLflow's own basic-auth, hardened.

MLflow authenticates calls of its native routes on the event loop, with database query and password check, which blocks
the whole worker, probes included. Here a thread does this beforehand. Routes that are public upstream, such as the
server's configuration, require an account.
"""

import asyncio
import base64
import concurrent.futures
import contextvars
import os

from mlflow.server import auth
from mlflow.server.auth import sqlalchemy_store
from mlflow.server.fastapi_app import _EfficientWSGIMiddleware
from starlette.requests import Request

from mlops_mlflow_server import basic_settings, lanes, parts, passwords
from mlops_mlflow_server.parts import MLFLOW, Part
from mlops_mlflow_server.settings import count

# MLflow itself serves only /health.
PROBES = frozenset({"/health/live", "/health/startup"})

# MLflow's functions that authenticate, and those that authorize without awaiting anything.
_AUTHENTICATE = ("_authenticate_fastapi_request", "_authenticate_custom_for_fastapi")
_DECIDE = ("_get_otel_validator", "_get_job_route_validator")
# What decides which routes are public.
_ROUTING = (
    "_PUBLIC_ROUTE_SUFFIXES",
    "_find_fastapi_validator",
    "_get_require_authentication_validator",
    "_matches_route_suffix",
    "_strip_static_prefix",
)

_outcome = contextvars.ContextVar("mlops_caller", default=None)


class Threads:
    """A thread pool, separate from the threads that wait for the object store."""

    def __init__(self):
        self._pool = concurrent.futures.ThreadPoolExecutor(
            max_workers=count("MLOPS_TRACKING_THREADS", 8), thread_name_prefix="mlops-auth"
        )

    async def run(self, function, *arguments):
        """Run `function` in a thread with this call's context, and return its result."""
        context = contextvars.copy_context()
        return await asyncio.get_running_loop().run_in_executor(self._pool, context.run, function, *arguments)


class Identified:
    """ASGI application that authenticates the caller of a native route in a thread, before MLflow does."""

    def __init__(self, application, authenticate, threads: Threads):
        self._application = application
        self._authenticate = authenticate
        self._threads = threads

    async def __call__(self, scope, receive, send):
        if (
            scope["type"] == "http"
            and not auth.is_unprotected_route(scope["path"])
            and auth._find_fastapi_validator(scope["path"], scope["method"]) is not None
        ):
            _outcome.set(await self._threads.run(_result_of, self._authenticate, Request(scope)))
        else:
            _outcome.set(None)
        await self._application(scope, receive, send)


def _result_of(function, *arguments):
    try:
        return function(*arguments), None
    except Exception as error:
        return None, error


def _known(function):
    def answer(request):
        outcome = _outcome.get() or _result_of(function, request)
        if outcome[1] is not None:
            raise outcome[1]
        return outcome[0]

    return answer


def credentials(header: str) -> tuple[str, str] | None:
    """Return name and password of a header `Authorization: Basic`, or None for another scheme."""
    scheme, _unused, words = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, colon, password = base64.b64decode(words, validate=True).decode().partition(":")
    except ValueError:
        return None
    return (name, password) if colon else None


def _also_beyond_ascii(function):
    """Accept non-ASCII passwords on MLflow's native routes, as its other routes do."""

    def authenticate(request):
        user = function(request)
        found = credentials(request.headers.get("authorization", "")) if user is None else None
        if found is not None and not "".join(found).isascii():
            user = auth._authenticate_cached(*found)
        return user

    return authenticate


def _drive(coroutine):
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    coroutine.close()
    raise RuntimeError("This function awaits something and cannot run in a thread")


def _threaded(make, threads: Threads):
    def made(path):
        decide = make(path)

        async def decision(username, request):
            return await threads.run(_drive, decide(username, request))

        return decision

    return made


def _close_public_routes() -> bool:
    """Require an account on MLflow's public routes; return whether this version has the expected names."""
    if not all(hasattr(auth, name) for name in _ROUTING):
        return False
    public, find = auth._PUBLIC_ROUTE_SUFFIXES, auth._find_fastapi_validator

    def find_also(path, method):
        found = find(path, method)
        if found is None and auth._matches_route_suffix(auth._strip_static_prefix(path), public):
            return auth._get_require_authentication_validator()
        return found

    auth._find_fastapi_validator = find_also
    auth._PUBLIC_ROUTE_SUFFIXES = ()
    return True


class _Identifying:
    """Authenticates callers of native routes in threads; `application` is then the ASGI application that does it."""

    def __init__(self, application):
        self.application = application

    def install(self) -> bool:
        """Replace MLflow's functions; return whether this version has the expected names."""
        if not all(hasattr(auth, name) for name in (*_AUTHENTICATE, *_DECIDE, "_find_fastapi_validator")):
            return False
        threads = Threads()
        own = auth.auth_config.authorization_function == basic_settings.OWN_AUTHENTICATION
        authenticate = (
            _also_beyond_ascii(auth._authenticate_fastapi_request) if own else auth._authenticate_custom_for_fastapi
        )
        for name in _AUTHENTICATE:
            setattr(auth, name, _known(getattr(auth, name)))
        for name in _DECIDE:
            setattr(auth, name, _threaded(getattr(auth, name), threads))
        self.application = Identified(self.application, authenticate, threads)
        return True


# Before MLflow makes its application.
PARTS = (
    Part("public routes", MLFLOW, _close_public_routes, "the server's configuration would be public", required=True),
    Part(
        "passwords",
        MLFLOW,
        lambda: passwords.install(sqlalchemy_store),
        "every call computes a slow hash",
        required=False,
    ),
)


def application_parts(app, identifying: _Identifying) -> tuple[Part, ...]:
    """Return the parts that patch MLflow's application."""
    return (
        Part(
            "lanes",
            MLFLOW,
            lambda: lanes.install(app, _EfficientWSGIMiddleware),
            "artifact calls share all threads",
            required=False,
        ),
        Part("threads", MLFLOW, identifying.install, "a slow database blocks the event loop", required=False),
    )


def application():
    """Return the ASGI application.

    Raises:
        MisfitError: a required part does not fit.
    """
    parts.start(PARTS)
    app = auth.create_app()
    identifying = _Identifying(app)
    parts.start(application_parts(app, identifying))
    return identifying.application


def databases() -> dict[str, str]:
    """Return the URIs of the databases that this way to log in needs, by what readiness calls them."""
    return {"database": basic_settings.schema_uri(os.environ["OIDC_USERS_DB_URI"])}


def checks() -> dict:
    """Return what else must hold before a pod is ready: nothing."""
    return {}
