# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The public URL of the server: scheme, host and path by which clients outside of the cluster call it.

It is a setting, so no header has to tell it. Calls below its path go on without the path, which is their ASGI
`root_path`, and so the edge has nothing to rewrite. Calls without it, such as those of probes and of pods, are served
as they come. A call with the path twice is none of MLflow: Starlette and Flask would take both off, but what checks
permissions and limits only one. What a proxy says of the host is made right for mlflow-oidc-auth, which would append
`X-Forwarded-Port` to an `X-Forwarded-Host` that has its port already.
"""

import os
from urllib.parse import SplitResult, urlsplit

from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from mlops_mlflow_server.addresses import is_trusted_proxy

# The prefix is that of the setting, and the others are in `Host` once they are read.
_READ = frozenset({b"x-forwarded-host", b"x-forwarded-port", b"x-forwarded-prefix"})
_DEFAULT_PORTS = (b"", b"80", b"443")


def url() -> SplitResult:
    """Return the public URL; all parts are empty if it is not set."""
    return urlsplit(os.environ.get("MLOPS_PUBLIC_URL", ""))


class Public:
    """ASGI application around all others, see the module."""

    def __init__(self, application: ASGIApp):
        self._application = application
        self._scheme = url().scheme
        self._host = url().netloc.lower().encode()
        self._prefix = url().path.rstrip("/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not self._host:
            await self._application(scope, receive, send)
            return
        headers = self._headers(scope)
        scope = {**scope, "headers": headers}
        if dict(headers).get(b"host", b"").lower() == self._host:
            scope["scheme"] = self._scheme
        path = scope["path"]
        if self._prefix and path == self._prefix:
            # Pages name their files relative to the path, which has to end in a slash.
            query = f"?{scope['query_string'].decode('latin1')}" if scope["query_string"] else ""
            await RedirectResponse(f"{self._prefix}/{query}", 308)(scope, receive, send)
            return
        if self._prefix and path.startswith(f"{self._prefix}/"):
            length = len(self._prefix)
            if f"{path[length:]}/".startswith(f"{self._prefix}/"):
                await PlainTextResponse("Not Found", 404)(scope, receive, send)
                return
            scope |= {"path": path[length:], "root_path": self._prefix}
            # The prefix has no character that would be escaped.
            if scope.get("raw_path", b"").startswith(f"{self._prefix}/".encode()):
                scope["raw_path"] = scope["raw_path"][length:]
        await self._application(scope, receive, send)

    def _headers(self, scope: Scope) -> list[tuple[bytes, bytes]]:
        """Return the headers of a request with the host that its client named, as far as that is to be believed."""
        said = {name: value for name, value in scope["headers"] if name in _READ}
        headers = [(name, value) for name, value in scope["headers"] if name not in _READ]
        host = said.get(b"x-forwarded-host", b"").strip()
        client = scope.get("client")
        if not host or not client or not is_trusted_proxy(client[0]):
            return headers
        port = said.get(b"x-forwarded-port", b"").strip()
        if port not in _DEFAULT_PORTS and not host.endswith(b":" + port):
            host += b":" + port
        return [(name, host if name == b"host" else value) for name, value in headers]
