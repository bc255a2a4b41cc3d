# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An MLflow in memory: the accounts and tokens of its two plugins, as unforgiving as the real ones."""

from __future__ import annotations

import base64
import itertools
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

ADMIN = "mlflow-admin"
ADMIN_PASSWORD = "the-admins-planted-password"


class FakeMlflow:
    """What is in it can be looked at and changed.

    :ivar accounts: by name, with C(admin), C(service), C(active), C(display_name), C(source), C(password)
    :ivar tokens: by account, rows with the plaintext in C(token)
    :ivar requests: method and path of each request
    :ivar answers: answers by "METHOD path" that take precedence: status and body
    """

    def __init__(self, plugin: str) -> None:
        self.plugin = plugin
        self.accounts: dict[str, dict[str, Any]] = {}
        self.tokens: dict[str, list[dict[str, Any]]] = {}
        self.requests: list[str] = []
        self.answers: dict[str, tuple[int, Any]] = {}
        self.identities: dict[str, list[dict[str, str]]] = {}
        self.may_issue = True
        self.lag = timedelta(0)  # by how much it believes to be in the past
        self.url = ""
        self._ids = itertools.count(1)
        self.account(ADMIN, admin=True, service=True, password=ADMIN_PASSWORD)

    def account(self, name: str, password: str = "", **more: Any) -> None:
        """Make an account."""
        self.accounts[name] = {
            "admin": False,
            "service": False,
            "active": True,
            "display_name": name,
            "source": "internal",
            "password": password,
            **more,
        }
        self.tokens[name] = []

    def lets_in(self, name: str, secret: str) -> bool:
        """Say whether a password or token is good."""
        account = self.accounts.get(name)
        if not account or not account["active"]:
            return False
        now = datetime.now(UTC).isoformat()
        return bool(secret) and (
            account["password"] == secret
            or any(row["token"] == secret and row["expires_at"] > now for row in self.tokens[name])
        )

    def writes(self) -> list[str]:
        """Give the requests that were no reads."""
        return [each for each in self.requests if not each.startswith("GET ")]

    def serve(self, method: str, target: str, body: Any, authorization: str) -> tuple[int, Any]:
        """Answer a request."""
        url = urlsplit(target)
        self.requests.append(f"{method} {url.path}")
        if f"{method} {url.path}" in self.answers:
            return self.answers[f"{method} {url.path}"]
        if url.path == "/version":
            return 200, b"3.17.2"
        name, _colon, secret = base64.b64decode(authorization.removeprefix("Basic ")).decode().partition(":")
        if not self.lets_in(name, secret):
            return 401, b"You are not authenticated."
        query = {key: value[0] for key, value in parse_qs(url.query).items()}
        parts = [unquote(part) for part in url.path.removeprefix("/api/2.0/mlflow/users").strip("/").split("/") if part]
        if not url.path.startswith("/api/2.0/mlflow/users"):
            return 404, {"detail": "Not Found"}
        if self.plugin == "basic":
            return self._basic(method, name, parts, body)
        return self._oidc(method, name, parts, body, query)

    # mlflow-oidc-auth

    def _row(self, name: str) -> dict[str, Any]:
        account = self.accounts[name]
        return {
            "username": name,
            "display_name": account["display_name"],
            "is_admin": account["admin"],
            "is_service_account": account["service"],
            "active": account["active"],
            "managed_by": "manual",
            "service_account_source": account["source"] if account["service"] else None,
        }

    def _oidc(self, method: str, me: str, parts: list[str], body: Any, _query: Any) -> tuple[int, Any]:  # noqa: PLR0911
        if parts == ["current"]:
            return 200, self._row(me)
        if not self.accounts[me]["admin"]:
            return 403, {"detail": "Administrator privileges required for this operation"}
        if parts == ["details"]:
            return 200, [self._row(name) for name in self.accounts]
        if not parts and method == "POST":
            name = body["username"].lower()
            if name in self.accounts:
                admins = [each for each, account in self.accounts.items() if account["admin"]]
                if admins == [name] and not body["is_admin"]:
                    return 409, {"detail": "the last active administrator stays one"}
                self.accounts[name].update(admin=body["is_admin"], service=body["is_service_account"])
                return 200, {"message": "already exists"}
            self.account(
                name,
                admin=body["is_admin"],
                service=body["is_service_account"],
                display_name=body["display_name"],
                source=body.get("service_account_source", "internal"),
            )
            return 201, {"message": "created"}
        if not parts and method == "DELETE":
            del self.accounts[body["username"]], self.tokens[body["username"]]
            return 200, {"message": "deleted"}
        name = parts[0]
        if name not in self.accounts:
            return 404, {"detail": f"User {name} not found"}
        if parts[1:] == ["active"]:
            self.accounts[name]["active"] = body["active"]
            return 200, self._row(name)
        if parts[1:] == ["identities"]:
            return 200, self.identities.get(name, [])
        if parts[1:] == ["service-account-source"]:
            self.accounts[name]["source"] = body["source"]
            self.identities[name] = [{"provider_id": body["source"], "subject": body.get("subject", "first")}]
            return 200, {}
        return self._tokens(method, name, parts[2:], body)

    def _tokens(self, method: str, name: str, parts: list[str], body: Any) -> tuple[int, Any]:
        rows = self.tokens[name]
        shown = ("id", "name", "token_prefix", "created_at", "expires_at", "last_used_at")
        if method == "GET":
            return 200, {"tokens": [{key: row[key] for key in shown} for row in rows]}
        if method == "DELETE":
            left = [row for row in rows if str(row["id"]) != parts[0]]
            if len(left) == len(rows):
                return 404, {"detail": "token not found"}
            self.tokens[name] = left
            return 200, {"deleted": 1}
        if not self.may_issue or not self.accounts[name]["service"]:
            return 403, {"detail": "Access tokens can only be issued from an interactive sign-in"}
        if any(row["name"] == body["name"] for row in rows):
            return 409, {"detail": "a token of that name already exists"}
        return 201, self.issue(name, body["name"], body["expiration"])

    def issue(self, name: str, token: str, expires: str) -> dict[str, Any]:
        """Issue a token."""
        number = next(self._ids)
        row = {
            "id": number,
            "name": token,
            "token_prefix": f"{number:08x}",
            "created_at": datetime.now(UTC).isoformat(),
            "expires_at": expires,
            "last_used_at": None,
            "token": f"mlf_{number:08x}_planted-token-{number}",
        }
        self.tokens[name].append(row)
        return row

    # MLflow's basic-auth

    def _basic(self, method: str, me: str, parts: list[str], body: Any) -> tuple[int, Any]:  # noqa: PLR0911
        what = f"{method} {'/'.join(parts)}"
        if what == "GET current":
            return 200, {
                "user": {"id": 1, "username": me, "is_admin": self.accounts[me]["admin"]},
                "is_basic_auth": True,
            }
        if not self.accounts[me]["admin"]:
            return 403, b"Permission denied"
        if what == "GET list":
            rows = [
                {"id": 1, "username": name, "is_admin": account["admin"], "roles": []}
                for name, account in self.accounts.items()
            ]
            return 200, {"users": rows}
        name = body["username"]
        if what == "POST create":
            if name in self.accounts:
                return 400, {"error_code": "RESOURCE_ALREADY_EXISTS", "message": f"User {name} already exists"}
            self.account(name, password=body["password"])
            return 200, {"user": {"username": name}}
        if name not in self.accounts:
            return 404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": f"User {name} not found"}
        if what == "PATCH update-admin":
            self.accounts[name]["admin"] = body["is_admin"]
        elif what == "PATCH update-password":
            self.accounts[name]["password"] = body["password"]
        elif what == "DELETE delete":
            del self.accounts[name]
        else:
            return 404, b"Not Found"
        return 200, {}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fake: FakeMlflow = self.server.fake  # type: ignore[attr-defined]
        code, answer = fake.serve(
            self.command, self.path, json.loads(body) if body else None, self.headers.get("Authorization") or ""
        )
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        if code == 302:
            self.send_header("Location", "https://login.example.com/oauth?secret=1")
        if code == 503:
            self.send_header("Retry-After", "0.1")
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815  the names that http.server asks for

    def log_message(self, *_args: Any) -> None:
        """Say nothing."""


def _served(plugin: str) -> Iterator[FakeMlflow]:
    fake = FakeMlflow(plugin)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    server.fake = fake  # type: ignore[attr-defined]
    fake.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield fake
    server.shutdown()
    server.server_close()


@pytest.fixture
def oidc() -> Iterator[FakeMlflow]:
    """Give an MLflow with mlflow-oidc-auth, and its administrator."""
    yield from _served("oidc")


@pytest.fixture
def basic() -> Iterator[FakeMlflow]:
    """Give an MLflow with basic-auth, and its administrator."""
    yield from _served("basic")


@pytest.fixture(params=["oidc", "basic"])
def mlflow(request: pytest.FixtureRequest) -> Iterator[FakeMlflow]:
    """Give an MLflow with each of the plugins."""
    yield from _served(request.param)
