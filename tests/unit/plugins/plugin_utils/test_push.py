# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pushing to a registry: asked first, pushed only what is missing."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from ansible_collections.mlops.mlflow.plugins.plugin_utils import machine, push

IMAGES = {"mlflow": "localhost/mlops-mlflow/mlflow:3-abc", "minio": "localhost/mlops-mlflow/minio:1-def"}


class Engine:
    """Records its calls."""

    name = "podman"

    def __init__(self):
        self.calls = []

    def output(self, *arguments, timeout=120):
        """Note a command."""
        self.calls.append(arguments)
        return ""


@pytest.fixture
def registry():
    """A registry that has, hides or lacks images, by their path."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            codes = {"/v2/there/": 200, "/v2/private/": 401, "/v2/": 404}
            self.send_response(next(code for path, code in codes.items() if self.path.startswith(path)))
            self.end_headers()

        def log_message(self, *_arguments):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("path", "changed", "commands"), [("there", False, 0), ("private", False, 2), ("none", True, 2)]
)
def test_push(registry, path, changed, commands):
    engine = Engine()
    pushed = push.push(engine, IMAGES, ["mlflow"], f"{registry}/{path}", say=[].append, check_mode=False)
    assert pushed == {"mlflow": {"image": f"{registry}/{path}/mlflow:3-abc", "changed": changed}}
    assert len(engine.calls) == commands
    if commands:
        assert engine.calls[1] == ("push", "--tls-verify=false", f"{registry}/{path}/mlflow:3-abc")


def test_check_mode_pushes_nothing(registry):
    engine = Engine()
    lines = []
    pushed = push.push(engine, IMAGES, ["mlflow", "minio"], registry, say=lines.append, check_mode=True)
    assert [item["changed"] for item in pushed.values()] == [True, True]
    assert engine.calls == []
    assert lines == [f"would push {registry}/mlflow:3-abc", f"would push {registry}/minio:1-def"]


def test_a_registry_that_does_not_answer(registry):
    with pytest.raises(machine.MachineError, match=r"images_push_registry is '127\.0\.0\.1:1': it does not answer"):
        push.push(Engine(), IMAGES, ["mlflow"], "127.0.0.1:1", say=[].append, check_mode=False)


@pytest.mark.parametrize(
    ("registry_name", "expected"),
    [("localhost:5000", True), ("127.0.0.1:5000/x", True), ("localhost", True), ("registry.example.com:5000/x", False)],
)
def test_loopback(registry_name, expected):
    assert push.loopback(registry_name) is expected


def test_names_are_lines_of_an_inventory():
    pushed = {"mlflow": "registry.example.com/mlflow:3-abc", "oauth2_proxy": "registry.example.com/oauth2-proxy:7-abc"}
    assert push.inventory_lines(pushed) == [
        "mlflow_image: registry.example.com/mlflow:3-abc",
        "mlflow_oauth2_proxy_image: registry.example.com/oauth2-proxy:7-abc",
    ]
