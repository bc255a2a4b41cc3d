"""The stack behind Traefik."""

import pytest

from tests.lib import pages
from tests.lib.edge import EdgeStack
from tests.lib.fixtures import stack_of


@pytest.fixture(scope="session")
def stack(request):
    return stack_of(request.config, EdgeStack, "edge")


@pytest.fixture(scope="module")
def browser(stack, browser_path):
    with pages.running(browser_path, stack.browser_flags()) as started:
        yield started
