# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers that this package gives instead of MLflow, in the form of MLflow's errors, which its clients show."""

import json
import math
from collections.abc import Iterable
from typing import NamedTuple

from starlette.types import Send

from mlops_mlflow_server import metrics

# What a client that was refused may still send, so that it reads the answer before the connection is closed.
LINGER_BYTES = 256 * 1024
LINGER_SECONDS = 1.0


class Refusal(NamedTuple):
    """HTTP status, MLflow's name of the error, a sentence for the user, and the reason for metrics."""

    status: int
    code: str
    message: str
    reason: str


async def answer(
    send: Send, status: int, body: bytes, headers: Iterable[tuple[bytes, bytes]] = (), *, is_open: bool = False
) -> None:
    """Answer with JSON that no cache keeps; with `is_open`, the caller ends the answer."""
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [
                (b"content-type", b"application/json"),
                (b"content-length", str(len(body)).encode()),
                (b"cache-control", b"no-store"),
                *headers,
            ],
        }
    )
    await send({"type": "http.response.body", "body": body, "more_body": is_open})


async def refuse(
    send: Send, refusal: Refusal, headers: Iterable[tuple[bytes, bytes]] = (), *, is_open: bool = False
) -> None:
    """Answer with an error; with `is_open`, the caller ends the answer."""
    metrics.REFUSED.labels(refusal.reason).inc()
    body = json.dumps({"error_code": refusal.code, "message": refusal.message}).encode()
    await answer(send, refusal.status, body, headers, is_open=is_open)


def busy(message: str, reason: str) -> Refusal:
    """Return a refusal that MLflow's clients try again."""
    return Refusal(429, "REQUEST_LIMIT_EXCEEDED", message, reason)


def retry_after(seconds: float = 1) -> tuple[bytes, bytes]:
    """Return the header that goes with `busy`."""
    return b"retry-after", str(math.ceil(seconds)).encode()
