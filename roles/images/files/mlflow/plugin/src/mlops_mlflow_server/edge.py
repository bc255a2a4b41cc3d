"""What mlflow-oidc-auth leaves open, closed.

Without workspaces it shows every MCP server of the registry, with its versions, tags and addresses, to whoever is
logged in (https://github.com/mlflow-oidc/mlflow-oidc-auth/pull/364). Here a server is shown as everything else is: to
those who were given a permission, or where the default permission lets everybody read.
"""


def install() -> bool:
    """Show MCP servers to those only who may read them; say whether mlflow-oidc-auth asks anybody about it."""
    from mlflow_oidc_auth.middleware import mcp_server_registry  # noqa: PLC0415
    from mlflow_oidc_auth.utils.permissions import can_read_mcp_server  # noqa: PLC0415

    if not hasattr(mcp_server_registry, "_may_read"):
        return False
    # Looked up at each call, and so takes whatever stands there.
    mcp_server_registry._may_read = can_read_mcp_server
    return True
