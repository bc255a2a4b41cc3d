"""What mlflow-oidc-auth leaves open, closed."""

import pytest


@pytest.fixture
def edge(load):
    return load("edge")


def test_mcp_server_is_shown_to_who_was_given_it(edge, monkeypatch):
    monkeypatch.setattr(edge, "can_read_mcp_server", lambda name, user: (name, user) == ("a/b", "ada"))
    assert edge.may_read("a/b", "ada")
    assert not edge.may_read("a/b", "bob")
    assert not edge.may_read("a/c", "ada")


def test_takes_the_place_of_the_plugins_own(edge, monkeypatch):
    own = edge.mcp_server_registry._may_read
    monkeypatch.setattr(edge.mcp_server_registry, "_may_read", own)
    assert edge.install()
    assert edge.mcp_server_registry._may_read is edge.may_read


def test_says_where_there_is_none(edge, monkeypatch):
    monkeypatch.delattr(edge.mcp_server_registry, "_may_read")
    assert not edge.install()
