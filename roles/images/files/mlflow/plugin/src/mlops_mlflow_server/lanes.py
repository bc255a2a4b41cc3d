"""Threads for MLflow's WSGI application, apart for artifacts and for everything else.

One artifact call that waits for the object store must not hold up the tracking calls of its worker. mlflow-oidc-auth
mounts MLflow's Flask application through asgiref, which even runs all of a process's calls in one single thread unless
a `ThreadSensitiveContext` is open (asgiref.sync). Here each call has its own thread, and the two kinds have their own
bounds, so that neither can use up the other's.
"""

import asyncio

from asgiref.sync import ThreadSensitiveContext
from starlette.routing import Mount

from mlops_mlflow_server.settings import count


def touches_object_store(path: str) -> bool:
    """Tell whether a call to this path may wait for the object store: MLflow names all of those so."""
    return "artifact" in path


class Lanes:
    """The mount of the Flask application with bounded concurrency for each of two kinds of calls."""

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
    """Put lanes around what `application` mounts of the class `mounted`; return how many there were."""
    replaced = 0
    for route in application.routes:
        if isinstance(route, Mount) and isinstance(route.app, mounted):
            route.app = Lanes(route.app)
            replaced += 1
    return replaced
