# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Separate threads for artifact calls and for all other calls of MLflow's WSGI application.

An artifact call that waits for the object store must not delay the tracking calls of its worker. mlflow-oidc-auth
mounts MLflow's Flask application through asgiref, which runs all calls of a process in a single thread unless a
`ThreadSensitiveContext` is open (asgiref.sync). Here each call has its own thread, and each of the two kinds has its
own limit.
"""

import asyncio

from asgiref.sync import ThreadSensitiveContext
from starlette.routing import Mount

from mlops_mlflow_server.settings import count


def touches_object_store(path: str) -> bool:
    """Return whether a call to this path may wait for the object store, which MLflow's paths show."""
    return "artifact" in path


class Lanes:
    """The mounted Flask application with a concurrency limit for each of the two kinds of calls."""

    def __init__(self, application):
        self.app = application
        self._artifacts = asyncio.Semaphore(count("MLOPS_ARTIFACT_THREADS", 8))
        self._others = asyncio.Semaphore(count("MLOPS_TRACKING_THREADS", 8))

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        lane = self._artifacts if touches_object_store(scope["path"]) else self._others
        async with lane, ThreadSensitiveContext():
            await self.app(scope, receive, send)


def install(application, mounted: type) -> int:
    """Wrap the mounts of class `mounted` in `application`; return their number."""
    replaced = 0
    for route in application.routes:
        if isinstance(route, Mount) and isinstance(route.app, mounted):
            route.app = Lanes(route.app)
            replaced += 1
    return replaced
