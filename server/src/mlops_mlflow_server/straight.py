# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The short way from the login to MLflow's Flask application, for calls that would get there anyway.

Between the two, each call passes middleware that only concerns FastAPI's routes, and is compared with each of these
routes, some hundreds, before it falls through to Flask. This takes longer than most calls. Flask checks permissions
itself (mlflow-oidc-auth, basic-auth), and the host before the login.

Starlette's `BaseHTTPMiddleware` runs what follows in a task of its own, which takes a millisecond, and receives each
piece of a body in two more. Middleware that only decides whether to go on does not need that.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from flask import Flask
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Mount

# How the rules of MLflow's artifacts end.
_ARTIFACT = "<path:artifact_path>"
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Straight:
    """Middleware that hands a call to the mounted Flask application if the routes of `application` would.

    Args:
        app: the next ASGI application, for all other calls.
        application: the application with the routes.
        flask: the Flask application, of whose paths those without a variable are considered, and those of artifacts.
        may: whether the caller of a request is known; all others take the long way.
    """

    def __init__(self, app: Any, application: Starlette, flask: Flask, may: Callable[[Scope], bool]):
        self.app = app
        self._application = application
        self._may = may
        self._fixed = {
            (method, rule.rule) for rule in flask.url_map.iter_rules() if not rule.arguments for method in rule.methods
        }
        # Their bodies are long.
        self._artifacts = tuple(
            {rule.rule.removesuffix(_ARTIFACT) for rule in flask.url_map.iter_rules() if rule.rule.endswith(_ARTIFACT)}
        )
        # Filled as calls come, since comparing all takes seconds.
        self._known: dict[tuple[str, str], Mount | None] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        mount = self._mount(scope)
        if mount is None or not self._may(scope):
            await self.app(scope, receive, send)
            return
        scope.update(mount.matches(scope)[1])
        await mount.handle(scope, receive, send)

    def _mount(self, scope: Scope) -> Mount | None:
        # A path prefix makes another path of it.
        if scope["type"] != "http" or scope.get("root_path"):
            return None
        key = scope["method"], scope["path"]
        if key[1].startswith(self._artifacts):
            return self._routed(scope)
        if key not in self._fixed:
            return None
        if key not in self._known:
            self._known[key] = self._routed(scope)
        return self._known[key]

    def _routed(self, scope: Scope) -> Mount | None:
        """Return the mount if the first route that matches is one, as the router decides."""
        for route in self._application.routes:
            if route.matches(dict(scope))[0] is Match.FULL:
                return route if isinstance(route, Mount) else None
        return None


class Passing(BaseHTTPMiddleware):
    """Middleware whose `dispatch` returns the answer of `call_next` as it is, without a task of its own."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        passed = Response()

        async def call_next(_request: Request) -> Response:
            return passed

        response = await self.dispatch_func(Request(scope, receive), call_next)
        await (self.app if response is passed else response)(scope, receive, send)


def pass_on(application: Starlette, *kinds: type[BaseHTTPMiddleware]) -> bool:
    """Spare middleware of these classes its tasks; return whether all of them were found."""
    found = {
        kind: each
        for kind in kinds
        for each in application.user_middleware
        if isinstance(each.cls, type) and issubclass(each.cls, kind)
    }
    if application.middleware_stack is not None or len(found) < len(kinds):
        return False
    for each in found.values():
        each.cls = type(each.cls.__name__, (Passing, each.cls), {})
    return True


def install(application: Starlette, flask: Flask, after: tuple[type, ...], may: Callable[[Scope], bool]) -> bool:
    """Add the short way after the last middleware of the classes `after`; return whether there is any."""
    places = [
        place
        for place, each in enumerate(application.user_middleware)
        if isinstance(each.cls, type) and issubclass(each.cls, after)
    ]
    if application.middleware_stack is not None or not places:
        return False
    application.user_middleware.insert(places[-1] + 1, Middleware(Straight, application, flask, may))
    return True
