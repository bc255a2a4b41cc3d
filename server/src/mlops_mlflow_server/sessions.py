# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bound what a login stores, and bind a login and a logout to the browser that asks for them.

mlflow-oidc-auth stores a row for each login that begins, with the page to return to in full, and never deletes the rows
of logins that do not end. Here that page has at most `LONGEST_NEXT` bytes, expired rows of logins, sessions and tokens
are deleted from time to time, and the row is written in a thread instead of on the event loop.

Any web page can send a browser to `/logout`, and to `/callback` with the state of a login that another browser began;
both ended the session. Here `/logout` needs a request from MLflow's own pages, and `/callback` needs the browser's own
state, before anything is read or deleted.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from mlflow_oidc_auth.config import config
from mlflow_oidc_auth.db.models import SqlAuthSession, SqlAuthState, SqlUserToken
from mlflow_oidc_auth.middleware.route_path import routed_path
from mlflow_oidc_auth.oauth import is_oidc_configured
from mlflow_oidc_auth.routers import auth as router
from mlflow_oidc_auth.store import store
from sqlalchemy import delete, select
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from mlops_mlflow_server import calls
from mlops_mlflow_server.callers import Application, Scope
from mlops_mlflow_server.settings import number

_logger = logging.getLogger("mlflow.mlops")

LONGEST_NEXT = 2048
# Rows of a table that are deleted at once, at most.
MOST_ROWS = 10_000
# How long the list of a user's tokens still shows one that has expired.
TOKENS_SHOWN = timedelta(days=30)
LOGOUT = "/logout"
# Fetch Metadata: https://www.w3.org/TR/fetch-metadata/
_OWN_SITES = frozenset({"same-origin", "same-site", "none"})
_NEEDED = ("_sanitize_next", "_begin_login", "_process_oidc_callback_fastapi")

_state: ContextVar[str | None] = ContextVar("mlops_login_state", default=None)


def prune() -> int:
    """Delete expired logins, sessions and tokens, at most `MOST_ROWS` of each; return their number."""
    now = datetime.now(UTC).replace(tzinfo=None)
    deleted = 0
    for table, shown in ((SqlAuthState, timedelta()), (SqlAuthSession, timedelta()), (SqlUserToken, TOKENS_SHOWN)):
        expired = select(table.id).where(table.expires_at <= now - shown).limit(MOST_ROWS)
        with store.ManagedSessionMaker(read_only=False) as session:
            deleted += session.execute(delete(table).where(table.id.in_(expired))).rowcount
    return deleted


class Pruning:
    """Runs a function in a thread, at most once every `pause` seconds.

    Args:
        run: the function.
        pause: seconds between two starts.
    """

    def __init__(self, run: Callable[[], object], pause: float):
        self._run = run
        self._pause = pause
        self._last = float("-inf")

    def begin(self) -> threading.Thread | None:
        """Start the thread if it is time; return it."""
        now = time.monotonic()
        if now - self._last < self._pause:
            return None
        self._last = now
        thread = threading.Thread(target=self._safely, name="mlops-prune", daemon=True)
        thread.start()
        return thread

    def _safely(self) -> None:
        try:
            self._run()
        except Exception as error:
            _logger.warning("Expired logins and tokens could not be deleted: %s", type(error).__name__)


def is_own_browser(session: dict[str, Any], state: str) -> bool:
    """Return whether this browser began the login `state`: authlib writes it to the browser's signed cookie."""
    return any(key.startswith("_state_") and key.endswith(f"_{state}") for key in session) if state else False


def is_from_own_pages(headers: Any, hosts: frozenset[str]) -> bool:
    """Return whether a navigation comes from one of `hosts` or from the user.

    Browsers send `Sec-Fetch-Site` to https and to localhost only; elsewhere `Origin` or `Referer` must name a host.
    """
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site in _OWN_SITES
    source = headers.get("origin") or headers.get("referer") or ""
    return urlsplit(source).netloc.lower() in hosts


class OwnLogout:
    """ASGI application that refuses `/logout` from other sites to browsers that have a session."""

    def __init__(self, app: Application):
        self._app = app
        public = urlsplit(config.OIDC_REDIRECT_URI or "").netloc.lower()
        self._public = frozenset({public} if public else ())

    async def __call__(self, scope: Scope, receive: Callable, send: Callable) -> None:
        """Serve one connection."""
        if scope["type"] == "http" and routed_path(scope) == LOGOUT and scope.get("session", {}).get("session_id"):
            headers = Request(scope).headers
            own = headers.get("host", "").lower()
            if not is_from_own_pages(headers, self._public | {own}):
                answer = PlainTextResponse("Log out on a page of MLflow: this request comes from elsewhere", 403)
                await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)


def install(application: Any) -> bool:
    """Patch login, callback and logout; return whether this version has the expected names."""
    if not all(hasattr(router, name) for name in _NEEDED) or application.middleware_stack is not None:
        return False
    sanitize, begin, process = router._sanitize_next, router._begin_login, router._process_oidc_callback_fastapi
    create = store.create_auth_state
    pruning = Pruning(prune, number("MLOPS_PRUNE_PAUSE", 60))

    def sanitize_next(value: str | None) -> str | None:
        return None if value and len(value.encode("utf-8", "replace")) > LONGEST_NEXT else sanitize(value)

    async def begin_login(request: Request, provider_id: str) -> Response:
        pruning.begin()
        if is_oidc_configured(provider_id):
            target = sanitize_next(request.query_params.get("next"))
            _state.set(await asyncio.to_thread(create, provider_id, redirect_after_login=target))
        return await begin(request, provider_id)

    def create_auth_state(provider_id: str, **options: Any) -> str:
        ready = _state.get()
        _state.set(None)
        return ready or create(provider_id, **options)

    async def process_callback(
        request: Request, session: dict[str, Any], provider_id: str | None = None
    ) -> tuple[str | None, list[str]]:
        if not request.query_params.get("error") and not is_own_browser(
            session, request.query_params.get("state") or ""
        ):
            return None, ["This login was not begun in this browser"]
        username, errors = await process(request, session, provider_id=provider_id)
        call = calls.current()
        if call is not None and username and not errors:
            call.user = username
        return username, errors

    router._sanitize_next = sanitize_next
    router._begin_login = begin_login
    router._process_oidc_callback_fastapi = process_callback
    store.create_auth_state = create_auth_state
    # The innermost, so that it sees the path as the router does.
    application.user_middleware.append(Middleware(OwnLogout))
    return True
