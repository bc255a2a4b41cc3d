"""What mlflow-oidc-auth leaves open, closed.

Without workspaces it shows every MCP server of the registry, with its versions, tags and addresses, to whoever is
logged in (https://github.com/mlflow-oidc/mlflow-oidc-auth/pull/364). Here a server is shown as everything else is: to
those who were given a permission, or where the default permission lets everybody read.
"""

from mlflow_oidc_auth.middleware import mcp_server_registry
from mlflow_oidc_auth.utils.permissions import can_read_mcp_server


def may_read(name: str, username: str) -> bool:
    """Tell whether `username` may see the MCP server `name`."""
    return can_read_mcp_server(name, username)


def install() -> bool:
    """Put `may_read` in the place of mlflow-oidc-auth's own; say whether there was one."""
    if not hasattr(mcp_server_registry, "_may_read"):
        return False
    mcp_server_registry._may_read = may_read
    return True
