"""The stack with an external database and object store."""

import datetime

import pytest

from tests.lib import stack as stacks
from tests.lib.elsewhere import ELSEWHERE, ExternalStack
from tests.lib.fixtures import stack_of


@pytest.fixture
def stack(request, monkeypatch):
    for component, namespace in ELSEWHERE.items():
        monkeypatch.setitem(stacks.NAMESPACES, component, namespace)
    return stack_of(request.config, ExternalStack, "external")


@pytest.fixture
def admin_token(stack):
    """An access token of demo-admin."""
    return stack.environment["MLFLOW_TRACKING_PASSWORD"]


@pytest.fixture
def name():
    """The name of an experiment of this test."""
    return datetime.datetime.now(datetime.UTC).strftime("external-%Y%m%d-%H%M%S-%f")
