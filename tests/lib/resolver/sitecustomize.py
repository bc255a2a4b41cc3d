"""Names below example.test are this machine: Python imports this file at its start from a folder in PYTHONPATH."""

import socket

DOMAIN = ".example.test"
_getaddrinfo = socket.getaddrinfo


def getaddrinfo(host, *arguments, **options):
    """As the system's, but for these names."""
    text = host.decode() if isinstance(host, bytes) else host
    return _getaddrinfo("127.0.0.1" if text and text.endswith(DOMAIN) else host, *arguments, **options)


socket.getaddrinfo = getaddrinfo
