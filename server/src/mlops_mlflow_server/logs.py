# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The log: a line for each event, as text or, with `MLOPS_LOG_FORMAT=json`, as an object of JSON.

A call's line has its id, user, client, path, route, status and time. Query strings, headers and bodies are never
written. Does not import MLflow, which takes seconds.
"""

import contextlib
import datetime
import json
import logging
import os
import sys
import time
import urllib.parse
from contextvars import ContextVar
from typing import Any

VARIABLE = "MLOPS_LOG_FORMAT"
FORMATS = ("text", "json")
LONGEST_PATH = 1024
# Its lines are JSON already.
_OWN_FORMAT = frozenset({"mlflow_oidc_auth.audit"})
# The id of the call that is being answered.
call_id: ContextVar[str] = ContextVar("mlops_call_id", default="")


def is_json() -> bool:
    """Return whether lines are objects of JSON.

    Raises:
        ValueError: `MLOPS_LOG_FORMAT` is not one of its values.
    """
    found = os.environ.get(VARIABLE) or FORMATS[0]
    if found not in FORMATS:
        raise ValueError(f"{VARIABLE} is '{found}': it must be {' or '.join(FORMATS)}")
    return found == "json"


def encoded(level: str, logger: str, **fields: Any) -> str:
    """Return an event as an object of JSON, in one line."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
    return json.dumps({"time": now, "level": level, "logger": logger, **fields}, separators=(",", ":"))


def say(message: str) -> None:
    """Print what a command does, without buffering."""
    print(encoded("INFO", "mlops", message=message) if is_json() else message, flush=True)


def complain(message: str) -> None:
    """Print why a command fails."""
    print(encoded("ERROR", "mlops", message=message) if is_json() else message, file=sys.stderr, flush=True)


class Json(logging.Formatter):
    """Formats a record as an object of JSON, with its traceback and the id of the call that it belongs to."""

    def __init__(self, *_unused: Any, **_also: Any):
        super().__init__()

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields = {"message": record.getMessage()}
        if known := call_id.get():
            fields["id"] = known
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return encoded(record.levelname, record.name, **fields)


def install() -> None:
    """Let all loggers that exist now write JSON, if that is asked for."""
    if not is_json():
        return
    logging.captureWarnings(True)
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(Json())
    for name in ("", *logging.root.manager.loggerDict):
        if name not in _OWN_FORMAT:
            for handler in logging.getLogger(name).handlers:
                handler.setFormatter(Json())


class Calls:
    """Writes a line for each call."""

    def __init__(self) -> None:
        self._is_json = is_json()

    def __call__(self, call: Any, seconds: float) -> None:
        """Write the line of a `calls.Call`, which took these seconds."""
        line = self._json(call, seconds) if self._is_json else _text(call, seconds)
        # Without a reader of the log, calls are answered all the same.
        with contextlib.suppress(OSError):
            os.write(1, f"{line}\n".encode())

    def _json(self, call: Any, seconds: float) -> str:
        return encoded(
            "INFO",
            "call",
            id=call.id,
            user=call.user,
            address=call.address,
            method=call.scope["method"],
            route=call.route,
            path=call.scope["path"][:LONGEST_PATH],
            status=call.status,
            seconds=round(seconds, 4),
        )


def _text(call: Any, seconds: float) -> str:
    now = time.time()
    clock = f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(now))},{int(now * 1000) % 1000:03d}"
    # A user's name and a path may have line breaks.
    user, path = (urllib.parse.quote(text, safe="/@:+") for text in (call.user, call.scope["path"][:LONGEST_PATH]))
    return (
        f'{clock} INFO:     {call.address} {user or "-"} "{call.scope["method"]} {path}" {call.status}'
        f" {seconds * 1000:.0f} ms {call.id}"
    )
