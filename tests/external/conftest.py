"""The stack whose database and object store stand elsewhere."""

import datetime

import pytest
from elsewhere import ELSEWHERE, ExternalStack, stacks


@pytest.fixture
def stack(monkeypatch):
    for component, namespace in ELSEWHERE.items():
        monkeypatch.setitem(stacks.NAMESPACES, component, namespace)
    return ExternalStack(stacks.REPOSITORY / "build" / "test", stacks.REPOSITORY / "tests" / "inventory")


@pytest.fixture
def admin_token(stack):
    """An access token of demo-admin."""
    return stack.environment["MLFLOW_TRACKING_PASSWORD"]


@pytest.fixture
def name():
    """An experiment's name, of this test."""
    return datetime.datetime.now(datetime.UTC).strftime("external-%Y%m%d-%H%M%S-%f")
