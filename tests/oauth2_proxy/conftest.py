"""The stack with oauth2-proxy in front, and a server that tells what reached it."""

import http.server
import json
import pathlib
import threading

import proxied
import pytest
from ansible.plugins.loader import init_plugin_loader
from proxied import stacks

# In place before any test renders the role: it can't be put in later.
init_plugin_loader([])


def pytest_addoption(parser):
    group = parser.getgroup("mlops.mlflow")
    group.addoption(
        "--proxied-dir", default=stacks.REPOSITORY / "build" / "test", help="directory of the stack to test"
    )
    group.addoption(
        "--proxied-inventory", action="append", help="inventories that deployed it, by default those of the scenario"
    )


@pytest.fixture(scope="session")
def stack(request):
    """The stack that the scenario `oauth2_proxy` deploys."""
    scenario = stacks.REPOSITORY / "extensions" / "molecule" / "oauth2_proxy" / "inventory"
    given = request.config.getoption("--proxied-inventory")
    inventories = given or [stacks.REPOSITORY / "tests" / "inventory", scenario]
    return proxied.ProxiedStack(pathlib.Path(request.config.getoption("--proxied-dir")), inventories)


class _Echo(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        content = json.dumps({"path": self.path, "headers": self.headers.items()}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="session")
def echo():
    """The URL of a server that answers with the request it got."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Echo)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


@pytest.fixture(scope="session")
def proxy_program():
    """The program, which the scenario built."""
    path = proxied.find_proxy()
    assert path, "There is no oauth2-proxy: build it with images_extra: [oauth2_proxy]"
    return path
