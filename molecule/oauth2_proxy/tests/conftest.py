"""The stack with oauth2-proxy in front, and a server that echoes requests."""

import http.server
import json
import threading

import pytest

from tests.lib import proxied
from tests.lib.fixtures import stack_of


@pytest.fixture(scope="session")
def stack(request):
    """The stack of the scenario `oauth2_proxy`."""
    return stack_of(request.config, proxied.ProxiedStack, "oauth2_proxy")


class _Echo(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        content = json.dumps({"path": self.path, "headers": self.headers.items()}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_unused):
        pass


@pytest.fixture(scope="session")
def echo():
    """The URL of a server that answers with the received request."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Echo)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


@pytest.fixture(scope="session")
def proxy_program():
    """The program oauth2-proxy, built by the scenario."""
    path = proxied.find_proxy()
    assert path, "There is no oauth2-proxy: build it with images_extra: [oauth2_proxy]"
    return path
