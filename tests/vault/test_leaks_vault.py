"""No secret shows up where somebody else may read it, of a stack whose credentials are in Vault."""

# The same tests, with the stack of this directory.
from test_leaks import *  # noqa: F403  all of its tests and fixtures
