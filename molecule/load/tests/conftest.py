"""The stack behind Traefik, at the address of its Service."""

import pytest

from tests.lib.edge import EdgeStack
from tests.lib.fixtures import stack_of


@pytest.fixture(scope="session")
def stack(request):
    return stack_of(request.config, EdgeStack, "load")
