"""What all scenarios share, so that one can take tests of another."""

pytest_plugins = ["tests.lib.fixtures"]
