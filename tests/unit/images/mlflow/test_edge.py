"""What mlflow-oidc-auth leaves open, closed."""

import sys

import pytest


@pytest.fixture
def edge(load):
    return load("edge")


def test_mcp_servers_are_shown_to_who_may_read_them(edge):
    assert edge.install()
    registry = sys.modules["mlflow_oidc_auth.middleware.mcp_server_registry"]
    assert registry._may_read is sys.modules["mlflow_oidc_auth.utils.permissions"].can_read_mcp_server


def test_says_where_nobody_is_asked(edge):
    del sys.modules["mlflow_oidc_auth.middleware.mcp_server_registry"]._may_read
    assert not edge.install()
