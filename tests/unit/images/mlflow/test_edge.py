"""What the applications leave open, closed."""

import asyncio
import sys

import pytest


@pytest.fixture
def edge(load):
    return load("edge")


def status_of(edge, path, kind="http"):
    """Who answers a call: "inside", or the edge with this status."""
    sent = []

    async def inside(scope, receive, send):
        sent.append("inside")

    async def send(message):
        sent.append(message.get("status", message.get("body")))

    asyncio.run(edge.Edge(inside)({"type": kind, "path": path}, None, send))
    return sent[0]


@pytest.mark.parametrize("path", ["/metrics", "/metrics/", "//metrics", "/metrics/x", "/Metrics"])
def test_metrics_are_not_shown_here(edge, path):
    assert status_of(edge, path) == 404


@pytest.mark.parametrize(
    "path", ["/", "", "/health", "/api/2.0/mlflow/metrics/get-history", "/api/3.0/mlflow/traces/metrics"]
)
def test_all_else_is_let_through(edge, path):
    assert status_of(edge, path) == "inside"
    assert status_of(edge, "/metrics", "lifespan") == "inside"


def test_mcp_servers_are_shown_to_who_may_read_them(edge):
    assert edge.install()
    registry = sys.modules["mlflow_oidc_auth.middleware.mcp_server_registry"]
    assert registry._may_read is sys.modules["mlflow_oidc_auth.utils.permissions"].can_read_mcp_server


def test_says_where_nobody_is_asked(edge):
    del sys.modules["mlflow_oidc_auth.middleware.mcp_server_registry"]._may_read
    assert not edge.install()
