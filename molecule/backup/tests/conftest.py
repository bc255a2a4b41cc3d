"""The stack with backups, on a cluster whose namespaces the tests may delete."""

import pytest

from tests.lib import DIRECTORY, INVENTORY, REPOSITORY
from tests.lib.drill import Drill


@pytest.fixture(scope="session")
def drill(say):
    """The tests' cluster, with the stack on it."""
    return Drill(DIRECTORY, INVENTORY, say, REPOSITORY / "molecule" / "backup" / "inventory")
