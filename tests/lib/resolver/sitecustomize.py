"""Names below example.test are the edge's address: Python imports this at its start from a folder in PYTHONPATH."""

import os
import socket

DOMAIN = ".example.test"
# Ports of the cluster's node are ports of this machine.
ADDRESS = "EDGE_ADDRESS"
_getaddrinfo = socket.getaddrinfo


def getaddrinfo(host, *arguments, **options):
    """As the system's, but for these names."""
    text = host.decode() if isinstance(host, bytes) else host
    found = os.environ.get(ADDRESS, "127.0.0.1") if text and text.endswith(DOMAIN) else host
    return _getaddrinfo(found, *arguments, **options)


socket.getaddrinfo = getaddrinfo
