# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The audit log: who changed what, from where, and with what result, as lines of JSON; docs/audit.md has the fields.

A line is written after the change and before the answer begins, so a change that is answered with success has a line.
If a line cannot be written, the answer is 503, and calls that change something are refused with 503 before they begin,
until a line can be written again. A line is written by one system call and is shorter than what a pipe takes at once,
so lines of several workers do not mix.

Calls that change nothing are those by GET and HEAD, and searches by POST; all others count as changes, also those of
routes that are not known here. There are lines for calls that were refused because of who makes them, whatever they
ask for. Bodies are not written: of an object in JSON, only some fields that name things (`NAMES`).
"""

import asyncio
import concurrent.futures
import datetime
import errno
import json
import logging
import os
import pathlib
import re
import socket
from collections.abc import Iterable, Iterator
from typing import Any

import flask
from starlette.types import Message, Receive, Scope

from mlops_mlflow_server import metrics
from mlops_mlflow_server.calls import NO_ROUTE, Call, current
from mlops_mlflow_server.credentials import basic
from mlops_mlflow_server.settings import flag

_logger = logging.getLogger("mlflow.mlops")

VARIABLE = "MLOPS_AUDIT_LOG"
FORMAT = 1
# POSIX's least size of what a pipe takes at once, https://man7.org/linux/man-pages/man7/pipe.7.html
LONGEST_LINE = 4096
LONGEST_VALUE = 200
EVENTS = frozenset(
    ("create", "update", "delete", "permission", "token", "user", "login", "logout", "refused", "read", "log")
)
STDOUT = 1
LONGEST_BODY = 64 * 1024
# Fields of bodies that name what is changed, or that a permission consists of; none is a value that users store.
NAMES = frozenset(
    (
        *("experiment_id", "run_id", "run_uuid", "model_id", "name", "new_name", "version", "alias", "stage", "key"),
        *("trace_id", "request_id", "trace_ids", "assessment_id", "dataset_id", "artifact_path", "job_id"),
        *("webhook_id", "endpoint_id", "secret_id", "secret_name", "model_definition_id", "issue_id"),
        *("username", "user_name", "userName", "user_id", "group_name", "group_id", "displayName", "token_id"),
        *("role_id", "role_name", "resource_type", "resource_id", "resource_pattern", "pattern", "regex", "id"),
        *("permission", "is_admin", "is_service_account", "active", "expiration"),
    )
)
# Calls by POST that change nothing.
_READS = re.compile(
    r"/(search[a-z-]*|graphql|get-latest-versions|batchGetInfos|calculate-filter-correlation|traces/metrics"
    r"|presigned-download-url|ui-telemetry)/?$"
)
_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_LOGIN, _LOGOUT = re.compile(r"^/(callback|saml/acs)(/|$)"), re.compile(r"^/(logout|slo)(/|$)")
# In this order; the first that fits the template of the route names the event.
_EVENTS = (
    ("token", re.compile(r"token")),
    ("permission", re.compile(r"permission|/roles|ownership|/[gG]roups|workspace-rules|service-account-source")),
    ("user", re.compile(r"/users(/|$)|/signup|/Users|/identities|/sessions?(/|$)")),
)
_DELETES = re.compile(r"[/-](delete|remove|abort|detach|cleanup)")
_CREATES = re.compile(
    r"/(create[a-z-]*|register|generate|upload-artifact|artifacts/<path:artifact_path>|traces|logged-models|webhooks|issues"
    r"|workspaces|jobs)$"
)
# What a call that makes something answers, as {name: path}.
_MADE = (("run", "info", "run_id"), ("experiment_id",), ("model", "info", "model_id"), ("model_version", "version"))


class Sink:
    """Where lines go.

    Args:
        place: `stdout`, or the path of a folder, where each pod has a file a day.
    """

    def __init__(self, place: str):
        self._folder = pathlib.Path(place) if place != "stdout" else None
        self._day = ""
        self._file = STDOUT if self._folder is None else -1
        self._is_cut = False
        # A folder may be on a slow volume; it must not stop the event loop.
        self.threads = concurrent.futures.ThreadPoolExecutor(1, "mlops-audit") if self._folder is not None else None

    def _open(self, now: datetime.datetime) -> None:
        day = now.strftime("%Y-%m-%d")
        if self._folder is None:
            return
        # Somebody may have removed the file.
        if self._file >= 0 and day == self._day and os.fstat(self._file).st_nlink:
            return
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        path = self._folder / f"audit-{socket.gethostname()}-{day}.jsonl"
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        self._day = day

    def write(self, line: bytes, now: datetime.datetime) -> None:
        """Write a line with its end.

        Raises:
            OSError: it was not written, or not completely.
        """
        self._open(now)
        if self._is_cut:
            # What was cut off is a line of its own, which nothing takes for JSON.
            line = b"\n" + line
        written = os.write(self._file, line)
        self._is_cut = written < len(line)
        if self._is_cut:
            raise OSError(errno.ENOSPC, "Only a part of a line was written")


class Log:
    """The audit log of a worker.

    Args:
        place: as of `Sink`.
        reads: whether calls that change nothing have lines too.
    """

    def __init__(self, place: str, *, reads: bool = False):
        self._sink = Sink(place)
        self._reads = reads
        self.is_broken = False

    async def may_begin(self, scope: Scope) -> bool:
        """Return whether a call may be made: false for a change that could not be written down."""
        if not self.is_broken or not is_change(scope["method"], scope["path"]):
            return True
        return await self._write({"event": "log", "result": "writes again"})

    def keeping(self, call: Call, receive: Receive) -> Receive:
        """Return a `receive` that keeps a short body of JSON for the names in it, of routes that are not Flask's."""
        headers = dict(call.scope["headers"])
        length = headers.get(b"content-length", b"")
        if call.scope["method"] in _READING or not length.isdigit() or not 0 < int(length) <= LONGEST_BODY:
            return receive
        if b"json" not in headers.get(b"content-type", b""):
            return receive

        async def keep() -> Message:
            message = await receive()
            if message["type"] == "http.request":
                call.body.append(message.get("body", b""))
            return message

        return keep

    async def note(self, call: Call) -> bool:
        """Write down a call, if it is one to be written down; return whether its answer may be sent."""
        method, path = call.scope["method"], call.scope["path"]
        event = event_of(method, path, call.route, call.status)
        if event is None:
            if not self._reads or path.startswith("/health"):
                return True
            event = "read"
        is_written = await self._write(line_of(call, event))
        return is_written or event in ("refused", "read") or call.status >= 400

    async def _write(self, fields: dict[str, Any]) -> bool:
        now = datetime.datetime.now(datetime.UTC)
        line = encoded({"audit": FORMAT, "time": now.isoformat(timespec="milliseconds"), **fields})
        try:
            if self._sink.threads is None:
                self._sink.write(line, now)
            else:
                await asyncio.get_running_loop().run_in_executor(self._sink.threads, self._sink.write, line, now)
        except OSError as error:
            metrics.AUDIT.labels("failed").inc()
            if not self.is_broken:
                _logger.error("The audit log cannot be written, so changes are refused: %s", error)
            self.is_broken = True
            return False
        metrics.AUDIT.labels("written").inc()
        if self.is_broken:
            _logger.warning("The audit log is written again")
            self.is_broken = False
        return True


def is_change(method: str, path: str, route: str = NO_ROUTE) -> bool:
    """Return whether a call changes something.

    Args:
        method: its method.
        path: its path, of which a part may be any name that a user chose.
        route: the template of its route, which therefore decides where it is known.
    """
    if method in _READING:
        return bool(_LOGIN.match(path) or _LOGOUT.match(path))
    return method != "POST" or _READS.search(path if route == NO_ROUTE else route) is None


def event_of(method: str, path: str, route: str, status: int) -> str | None:
    """Return the name of what a call did, or None if it changes nothing.

    Args:
        method: its method.
        path: its path.
        route: the template of its route.
        status: of its answer.
    """
    if status in (401, 403):
        return "refused"
    if not is_change(method, path, route):
        return None
    if method in _READING:
        return "login" if _LOGIN.match(path) else "logout"
    for event, pattern in _EVENTS:
        if pattern.search(route):
            return event
    if method == "DELETE" or _DELETES.search(route):
        return "delete"
    return "create" if _CREATES.search(route) else "update"


def result_of(event: str, status: int, user: str) -> str:
    """Return what came of a call."""
    if status == 0:
        return "unanswered"
    if event == "login" and not user:
        # A login that fails ends on a page that says so.
        return "refused"
    if status < 400:
        return "done"
    return "refused" if status in (401, 403, 413, 429) else "failed"


def line_of(call: Call, event: str) -> dict[str, Any]:
    """Return the fields of a call's line."""
    scope = call.scope
    names = call.named
    if not call.template:
        # Of a route that is not Flask's, which has noted them.
        names = _parameters(scope.get("path_params")) | dict(_named(_json(b"".join(call.body))))
    fields = {
        "id": call.id,
        "event": event,
        "result": result_of(event, call.status, call.user),
        "user": call.user,
        "address": call.address,
        "method": scope["method"][:16],
        "route": call.route,
        "status": call.status,
        "names": names,
    }
    if call.status == 401:
        header = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        claimed = basic(header.decode("latin1"))
        if claimed is not None:
            fields["claimed"] = _short(claimed[0])
    return fields


def encoded(fields: dict[str, Any]) -> bytes:
    """Return a line, without some of its names if it would be too long."""
    while True:
        line = json.dumps(fields, separators=(",", ":")).encode() + b"\n"
        if len(line) <= LONGEST_LINE or not fields.get("names"):
            return line
        names = dict(fields["names"])
        names.popitem()
        fields = {**fields, "names": names, "cut": True}


def _json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return None


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."


def _parameters(found: Any) -> dict[str, Any]:
    # That of a mount is the whole path.
    return {name: _short(str(value)) for name, value in (found or {}).items() if name != "path"}


def _named(found: Any) -> Iterator[tuple[str, Any]]:
    """Yield what names something in an object of JSON."""
    if not isinstance(found, dict):
        return
    for name in sorted(NAMES & found.keys()):
        value = found[name]
        if isinstance(value, bool | int):
            yield name, value
        elif isinstance(value, str):
            yield name, _short(value)
        elif isinstance(value, list) and all(isinstance(each, str) for each in value):
            yield name, [_short(each) for each in value[:20]]


def _made(answer: Any, path: Iterable[str]) -> Any:
    for name in path:
        answer = answer.get(name) if isinstance(answer, dict) else None
    return answer


def _note_names(_flask: flask.Flask, response: flask.Response, **_unused: Any) -> None:
    """Note what MLflow's handlers have read of a body anyway, and the id of what they made."""
    call = current()
    request = flask.request
    if call is None or not is_change(request.method, request.path, call.route):
        return
    call.named = _parameters(request.view_args) | dict(_named(_cached(request)))
    if response.status_code != 200 or not response.is_json or not 0 < (response.content_length or 0) <= LONGEST_BODY:
        return
    if call.template.endswith(("/create", "/logged-models")):
        answer = _json(response.get_data())
        for path in _MADE:
            value = _made(answer, path)
            if isinstance(value, str | int):
                call.named.setdefault(path[-1], value)


def _cached(request: flask.Request) -> Any:
    """Return the JSON that a handler has read, without reading it here."""
    known = getattr(request, "_cached_json", (Ellipsis, Ellipsis))
    return next((each for each in known if each is not Ellipsis), None)


def log() -> Log | None:
    """Return the audit log that the environment asks for, or None.

    Raises:
        ValueError: `MLOPS_AUDIT_LOG` is not one of its values.
        OSError: its folder cannot be written to.
    """
    place = os.environ.get(VARIABLE, "").strip() or "off"
    if place == "off":
        return None
    if place != "stdout" and not place.startswith("/"):
        raise ValueError(f"{VARIABLE} is '{place}': it must be off, stdout or the path of a folder")
    found = Log(place, reads=flag("MLOPS_AUDIT_READS"))
    found._sink._open(datetime.datetime.now(datetime.UTC))
    flask.request_finished.connect(_note_names)
    return found
