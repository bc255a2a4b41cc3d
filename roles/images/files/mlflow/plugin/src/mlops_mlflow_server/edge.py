"""What the applications leave open, closed at the edge.

- `/metrics` answers everybody who reaches the server. Metrics have a port of their own here, which no Service leads to
  (`mlops_mlflow_server.metrics`), and no answer at the port for people and programs.
- Without workspaces mlflow-oidc-auth shows every MCP server of the registry, with its versions, tags and addresses, to
  whoever is logged in (https://github.com/mlflow-oidc/mlflow-oidc-auth/pull/364). Here a server is shown as everything
  else is: to those who were given a permission, or where the default permission lets everybody read.
"""

import json

_NOTHING = json.dumps({"error_code": "ENDPOINT_NOT_FOUND", "message": "There is nothing here."}).encode()


class Edge:
    """ASGI application in front of another one that keeps some paths from it."""

    def __init__(self, application):
        self._application = application

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http" and is_closed(scope["path"]):
            headers = [(b"content-type", b"application/json"), (b"content-length", str(len(_NOTHING)).encode())]
            await send({"type": "http.response.start", "status": 404, "headers": headers})
            await send({"type": "http.response.body", "body": _NOTHING})
        else:
            await self._application(scope, receive, send)


def is_closed(path: str) -> bool:
    """Tell whether nobody is answered at this path, however it is spelt."""
    return path.strip("/").split("/")[0].lower() == "metrics"


def install() -> bool:
    """Show MCP servers to those only who may read them; say whether mlflow-oidc-auth asks anybody about it."""
    from mlflow_oidc_auth.middleware import mcp_server_registry  # noqa: PLC0415
    from mlflow_oidc_auth.utils.permissions import can_read_mcp_server  # noqa: PLC0415

    if not hasattr(mcp_server_registry, "_may_read"):
        return False
    # Looked up at each call, and so takes whatever stands there.
    mcp_server_registry._may_read = can_read_mcp_server
    return True
