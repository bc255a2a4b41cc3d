"""Permission checks on MCP servers."""

import sys

import pytest


@pytest.fixture
def edge(load):
    return load("edge")


def test_mcp_servers_require_read(edge):
    assert edge.install()
    registry = sys.modules["mlflow_oidc_auth.middleware.mcp_server_registry"]
    assert registry._may_read is sys.modules["mlflow_oidc_auth.utils.permissions"].can_read_mcp_server


def test_missing_check_is_reported(edge):
    del sys.modules["mlflow_oidc_auth.middleware.mcp_server_registry"]._may_read
    assert not edge.install()
