# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A kind cluster's configuration, ports and files."""

from __future__ import annotations

import json
import socket

import pytest
from ansible_collections.mlops.mlflow.plugins.plugin_utils import kind, machine


class Engine(machine.Engine):
    """An engine that answers from a list."""

    def __init__(self, answers):
        super().__init__("docker")
        self.answers = answers
        self.asked = []

    def run(self, *arguments, timeout=120, stdin=None):
        self.asked.append(" ".join(arguments))
        for beginning, answer in self.answers.items():
            if " ".join(arguments).startswith(beginning):
                return answer
        return 0, "", ""


def cluster(tmp_path, answers):
    """A cluster of an engine that answers from a list."""
    return kind.Cluster(Engine(answers), "trial", tmp_path / "trial", [].append)


def test_ports_that_are_taken():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        taken = server.getsockname()[1]
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            free = other.getsockname()[1]
        assert kind.taken_ports([free, taken]) == [taken]


def test_configuration_of_an_ordinary_machine_is_kinds_own():
    config = kind.configuration("trial", [30800], own_node=False, limited=False)
    assert config == {
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "name": "trial",
        "networking": {"apiServerAddress": "127.0.0.1"},
        "nodes": [
            {
                "role": "control-plane",
                "extraPortMappings": [
                    {"containerPort": 30800, "hostPort": 30800, "listenAddress": "127.0.0.1", "protocol": "TCP"}
                ],
            }
        ],
    }


def test_configuration_of_a_built_node_on_a_limited_machine():
    pins = {"etcd": "3.6.14", "coredns": "1.14.7"}
    config = kind.configuration("trial", [], own_node=True, limited=True, pins=pins)
    assert config["featureGates"] == {"KubeletInUserNamespace": True}
    assert config["networking"]["disableDefaultCNI"] is True
    patches = {patch["kind"]: patch for patch in map(json.loads, config["kubeadmConfigPatches"])}
    assert patches["ClusterConfiguration"]["etcd"]["local"]["imageTag"] == "3.6.14"
    assert patches["ClusterConfiguration"]["dns"]["imageTag"] == "v1.14.7"
    assert patches["ClusterConfiguration"]["imageRepository"].startswith("localhost/")


def test_further_configuration_is_merged():
    extra = {"networking": {"ipFamily": "ipv4"}, "featureGates": {"A": True}, "nodes": [{"role": "worker"}]}
    config = kind.configuration("trial", [], own_node=False, limited=False, extra=extra)
    assert config["networking"] == {"apiServerAddress": "127.0.0.1", "ipFamily": "ipv4"}
    assert [node["role"] for node in config["nodes"]] == ["control-plane", "worker"]


def test_private_files_are_private_and_written_once(tmp_path):
    path = tmp_path / "new/kubeconfig"
    assert kind.write_private(path, "a") is True
    assert path.stat().st_mode & 0o777 == 0o600
    assert kind.write_private(path, "a") is False
    path.chmod(0o644)
    assert kind.write_private(path, "a") is True
    assert path.stat().st_mode & 0o777 == 0o600
    assert kind.write_private(path, "b") is True
    assert path.read_text(encoding="utf-8") == "b"
    assert [entry.name for entry in path.parent.iterdir()] == ["kubeconfig"]


@pytest.mark.parametrize("message", ["Error: no such container x", "Error: No such object: x", "x not found"])
def test_no_container(tmp_path, message):
    assert cluster(tmp_path, {"container inspect": (1, "", message)}).container() is None


def test_an_engine_that_cannot_tell_is_no_missing_container(tmp_path):
    with pytest.raises(kind.KindError, match="docker cannot tell about trial-control-plane: permission denied"):
        cluster(tmp_path, {"container inspect": (1, "", "permission denied")}).container()


def test_container(tmp_path):
    inspected = [
        {
            "Id": "abc",
            "State": {"Running": True, "Pid": 1},
            "Config": {"Image": "kindest/node:v1"},
            "HostConfig": {"PortBindings": {"6443/tcp": [{"HostPort": "41000"}], "80/tcp": None}},
        }
    ]
    assert cluster(tmp_path, {"container inspect": (0, json.dumps(inspected), "")}).container() == {
        "id": "abc",
        "running": True,
        "image": "kindest/node:v1",
        "ports": {6443: 41000},
    }


def test_a_cluster_goes_with_the_volume_of_its_node(tmp_path):
    named = "volume ls --quiet --filter label=trial-control-plane"
    trial = cluster(tmp_path, {"ps --all": (0, "", ""), named: (0, "0123abc\n", "")})
    assert trial.delete() is True
    assert "volume rm --force 0123abc" in trial.engine.asked


def test_forget_removes_only_what_is_named(tmp_path):
    trial = cluster(tmp_path, {})
    (trial.directory / "bin").mkdir(parents=True)
    (trial.directory / "bin/kind").symlink_to("/nonexistent")
    (trial.directory / "kubeconfig").touch()
    (trial.directory / "screenshots").mkdir()
    assert trial.forget(["kubeconfig", "bin", "images.json"]) is True
    assert [entry.name for entry in trial.directory.iterdir()] == ["screenshots"]
    assert trial.forget(["kubeconfig", "bin"]) is False
    (trial.directory / "screenshots").rmdir()
    trial.forget([])
    assert not trial.directory.exists()


def test_a_node_that_cannot_start_says_why(tmp_path, monkeypatch):
    monkeypatch.setattr(kind.time, "sleep", lambda _seconds: None)
    trial = cluster(tmp_path, {"start": (125, "", "Error: port is already allocated")})
    assert trial.start(1) == "Error: port is already allocated"
    trial = cluster(tmp_path, {"exec trial-control-plane test -e": (1, "", "")})
    assert trial.start(1) == "its creation never came to its end"
