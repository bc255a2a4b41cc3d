# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""MLflow's check of the Host header, its CORS rules and its security headers, for all routes of every login mode.

With mlflow-oidc-auth, MLflow applies them to its Flask application only: not to FastAPI's routes, the login and
mlflow-oidc-auth's pages. Redirects there name the host of the request; here they name the public one.
"""

import os
from urllib.parse import urlsplit

from fastapi import FastAPI
from mlflow.environment_variables import MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE, MLFLOW_SERVER_X_FRAME_OPTIONS
from mlflow.server import fastapi_security
from mlflow.tracing.constant import TRACE_RENDERER_ASSET_PATH
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mlops_mlflow_server import public

# What is the case where this does not fit.
CONSEQUENCE = "requests with any Host header would be accepted"
# Browsers that were here once come by https only, for a year. Hosts below this one are none of this server's.
_STAY = (b"strict-transport-security", b"max-age=31536000")
# Whoever probes a pod does so by its address.
_PROBES = frozenset({"/health/live", "/health/ready", "/health/startup"})
_CALLBACK = "/callback"
CHECKS = (
    fastapi_security.SecurityHeadersMiddleware,
    fastapi_security.CORSBlockingMiddleware,
    fastapi_security.HostValidationMiddleware,
    CORSMiddleware,
)


class Hosts(fastapi_security.HostValidationMiddleware):
    """MLflow's check of the Host header, without the probes."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] in _PROBES:
            await self.app(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def install(application: FastAPI, after: type | None = None) -> bool:
    """Let MLflow's checks precede all other middleware of a FastAPI application.

    Args:
        application: the application; MLflow's checks are added if it has none.
        after: middleware that precedes even those, since it reads what a trusted proxy says of the host.

    Returns:
        Whether this version has the expected names.
    """
    if application.middleware_stack is not None:
        return False
    if not any(each.cls in CHECKS for each in application.user_middleware):
        fastapi_security.init_fastapi_security(application)
    own = [each for each in application.user_middleware if each.cls in CHECKS]
    others = [each for each in application.user_middleware if each.cls not in CHECKS]
    first = [each for each in others if after is not None and each.cls is after]
    for middleware in own:
        if middleware.cls is fastapi_security.HostValidationMiddleware:
            middleware.cls = Hosts
    # MLflow's keeps only one of several cookies; `Headers` does its work.
    own = [each for each in own if each.cls is not fastapi_security.SecurityHeadersMiddleware]
    application.user_middleware[:] = first + own + [each for each in others if each not in first]
    if MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE.get() == "true":
        return True
    is_checked = "*" in fastapi_security.get_allowed_hosts() or any(each.cls is Hosts for each in own)
    return is_checked and (after is None or len(first) == 1)


def public_base() -> tuple[str, str] | None:
    """Return scheme and host of the public URL, which the redirect URI of the login begins with, or None."""
    callback = urlsplit(os.environ.get("OIDC_REDIRECT_URI", ""))
    if callback.scheme and callback.netloc and callback.path.endswith(_CALLBACK):
        return callback.scheme, callback.netloc
    return None


class Headers:
    """ASGI application that adds MLflow's security headers, and makes redirects to this server name its public URL.

    Where that is https, it also tells browsers to stay there.
    """

    def __init__(self, application: ASGIApp):
        self._application = application
        self._public = public_base()
        self._is_off = MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE.get() == "true"
        frame = (MLFLOW_SERVER_X_FRAME_OPTIONS.get() or "NONE").upper()
        self._is_secure = public.url().scheme == "https"
        self._frame = None if frame == "NONE" else (b"x-frame-options", frame.encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._is_off:
            await self._application(scope, receive, send)
            return

        async def completed_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": self._completed(scope, message)}
            await send(message)

        await self._application(scope, receive, completed_send)

    def _completed(self, scope: dict, message: dict) -> list[tuple[bytes, bytes]]:
        headers = list(message.get("headers", ()))
        names = {name.lower() for name, _unused in headers}
        if b"x-content-type-options" not in names:
            headers.append((b"x-content-type-options", b"nosniff"))
        if self._is_secure and _STAY[0] not in names:
            headers.append(_STAY)
        is_renderer = scope["path"].startswith(TRACE_RENDERER_ASSET_PATH)
        if self._frame is not None and b"x-frame-options" not in names and not is_renderer:
            headers.append(self._frame)
        if self._public is None or message["status"] not in range(300, 400):
            return headers
        host = dict(scope["headers"]).get(b"host", b"")
        return [
            (name, self._redirect(value, host) if name.lower() == b"location" else value) for name, value in headers
        ]

    def _redirect(self, location: bytes, host: bytes) -> bytes:
        """Return `location` at the public URL, if it is one at the host that the request named."""
        parts = urlsplit(location.decode("latin1"))
        if self._public is None or not parts.netloc or parts.netloc != host.decode("latin1"):
            return location
        return parts._replace(scheme=self._public[0], netloc=self._public[1]).geturl().encode("latin1")
