# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check permissions on MCP servers.

Without workspaces, mlflow-oidc-auth shows every MCP server of the registry, with its versions, tags and addresses, to
every authenticated user (https://github.com/mlflow-oidc/mlflow-oidc-auth/pull/364). Here a server is visible like any
other object: to users with a permission, or to all if the default permission includes READ.
"""


def install() -> bool:
    """Replace the permission check; return whether this version of mlflow-oidc-auth has one."""
    from mlflow_oidc_auth.middleware import mcp_server_registry  # noqa: PLC0415  (another version may lack it)
    from mlflow_oidc_auth.utils.permissions import can_read_mcp_server  # noqa: PLC0415  (the same)

    if not hasattr(mcp_server_registry, "_may_read"):
        return False
    # The module looks the name up at each call, so replacing the attribute is enough.
    mcp_server_registry._may_read = can_read_mcp_server
    return True
