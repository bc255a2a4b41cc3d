# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drain connections before the process ends.

A kept-alive connection stays with its pod even after the pod has left the Service. When the process ends, a request
that is just being sent is lost. While the file `MLOPS_DRAIN_FILE` exists, every answer asks the client to close its
connection, so that its next request reaches another pod.
"""

import os

from starlette.types import ASGIApp, Message, Receive, Scope, Send

DEFAULT_FILE = "/tmp/draining"  # noqa: S108  (the pod's own /tmp)


def file() -> str:
    """Return the path of the file that exists while the process is about to end."""
    return os.environ.get("MLOPS_DRAIN_FILE") or DEFAULT_FILE


class Draining:
    """ASGI application that adds `Connection: close` to all answers while the file exists."""

    def __init__(self, application: ASGIApp):
        self._application = application
        self._file = file()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def closing_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
            await send(message)

        leaving = scope["type"] == "http" and os.path.exists(self._file)
        await self._application(scope, receive, closing_send if leaving else send)
