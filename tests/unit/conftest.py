"""What unit tests share.

Ansible's finder of collections is in place before any test imports one: it can't be put in later.
"""

import os

import pytest
from ansible.plugins.loader import init_plugin_loader

from tests.lib.dry_run import Server

init_plugin_loader([])


@pytest.fixture(scope="module")
def server():
    """An API server that is asked what it takes, without anything being made."""
    if not os.path.exists(os.environ.get("KUBECONFIG", "")):
        pytest.skip("KUBECONFIG names no cluster to ask")
    with Server(os.environ["KUBECONFIG"]) as asked:
        yield asked
