"""Threads for MLflow's WSGI application, apart for artifacts and for everything else.

mlflow-oidc-auth mounts MLflow's Flask application through asgiref, which runs all of a process's calls in one
single thread unless a `ThreadSensitiveContext` is open (asgiref.sync). One artifact call that waits for the
object store then holds up every tracking call of the worker. Here each call has its own thread, and the two
kinds have their own bounds, so that neither can use up the other's.
"""

import asyncio

from asgiref.sync import ThreadSensitiveContext
from mlflow_oidc_auth.middleware.auth_aware_wsgi_middleware import AuthAwareWSGIMiddleware
from starlette.routing import Mount

from mlops_mlflow_server.settings import count


def touches_object_store(path: str) -> bool:
    """Tell whether a call to this path may wait for the object store: MLflow names all of those so."""
    return "artifact" in path


class LaneWSGIMiddleware(AuthAwareWSGIMiddleware):
    """The mount of the Flask application with bounded concurrency for each of two kinds of calls."""

    def __init__(self, flask_app):
        super().__init__(flask_app)
        self._artifacts = asyncio.Semaphore(count("MLOPS_ARTIFACT_THREADS", 8))
        self._others = asyncio.Semaphore(count("MLOPS_TRACKING_THREADS", 8))

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        lane = self._artifacts if touches_object_store(scope["path"]) else self._others
        async with lane, ThreadSensitiveContext():
            await super().__call__(scope, receive, send)


def install(application) -> int:
    """Replace the mounts of the Flask application in `application`; return how many there were."""
    replaced = 0
    for route in application.routes:
        if isinstance(route, Mount) and isinstance(route.app, AuthAwareWSGIMiddleware):
            route.app = LaneWSGIMiddleware(route.app.flask_app)
            replaced += 1
    return replaced
