# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who makes the current call, for checks below MLflow's routes.

MLflow and mlflow-oidc-auth authorize a call by its path and headers. What a call changes is sometimes known only in the
tracking store, so `traces` and `experiments` check there, and ask a `Caller` of the login mode. A call whose user is
unknown may do nothing: it is never taken for an administrator's.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from contextvars import ContextVar
from typing import Any, Protocol

from mlops_mlflow_server import calls

Scope = MutableMapping[str, Any]
Application = Callable[[Scope, Callable, Callable], Awaitable[None]]

_scope: ContextVar[Scope | None] = ContextVar("mlops_scope", default=None)


class Caller(Protocol):
    """The user of the current call, as a login mode knows it."""

    def is_administrator(self) -> bool:
        """Return whether the user is an administrator."""

    def may_update(self, experiment_id: str) -> bool:
        """Return whether the user may change what is in this experiment."""

    def may_update_run(self, run_id: str) -> bool:
        """Return whether the user may change this run; false for a run that does not exist."""


class Anyone:
    """The caller of login mode `none`: everyone may change everything, and nobody is an administrator."""

    def is_administrator(self) -> bool:
        """Return false: there are no accounts."""
        return False

    def may_update(self, experiment_id: str) -> bool:  # pylint: disable=unused-argument
        """Return true: any caller may change or delete this experiment by other calls."""
        return True

    def may_update_run(self, run_id: str) -> bool:  # pylint: disable=unused-argument
        """Return true: any caller may change or delete this run by other calls."""
        return True


class Scoped:
    """ASGI application that makes the scope of the current call available to `scope` and `header`."""

    def __init__(self, app: Application):
        self._app = app

    async def __call__(self, scope: Scope, receive: Callable, send: Callable) -> None:
        """Serve one connection."""
        is_call = scope["type"] == "http"
        _scope.set(scope if is_call else None)
        call = calls.current()
        if is_call and call is not None:
            call.scope = scope
        await self._app(scope, receive, send)


def scope() -> Scope:
    """Return the ASGI scope of the current call; empty outside of a call."""
    return _scope.get() or {}


def header(name: str) -> list[str]:
    """Return all values of this header of the current call."""
    wanted = name.lower().encode()
    return [value.decode("latin-1") for key, value in scope().get("headers", ()) if key.lower() == wanted]


def install(application: Any) -> bool:
    """Add `Scoped` as the outermost middleware of a FastAPI application that has not started."""
    if application.middleware_stack is not None:
        return False
    application.add_middleware(Scoped)
    return True
