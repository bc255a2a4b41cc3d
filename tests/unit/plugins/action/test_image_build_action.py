# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the action plugin image_build: where images come from, and what is installed for it."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from ansible_collections.mlops.mlflow.plugins.action import image_build
from ansible_collections.mlops.mlflow.plugins.plugin_utils import local_action, machine

OPTIONS = {
    "source": "auto",
    "registries": ["hub.example", "quay.example"],
    "engine": "auto",
    "engine_url": "",
    "system_packages": {"engine": ["podman"], "packages": {"mmdebstrap": ["mmdebstrap", "keyring"]}},
}


@pytest.fixture
def options(tmp_path):
    """The role's options."""
    return {**OPTIONS, "cache_directory": str(tmp_path / "cache")}


@pytest.fixture
def action(monkeypatch):
    """The action, with what it says noted."""
    lines: list[str] = []
    monkeypatch.setattr(local_action.display, "display", lambda text, color=None: lines.append(text))
    module = image_build.ActionModule.__new__(image_build.ActionModule)
    module._task = SimpleNamespace(check_mode=False)
    module.lines = lines
    return module


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """A PATH of the test's own; returns a function that puts programs on it."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", str(directory))

    def add(**scripts):
        for name, script in scripts.items():
            path = directory / name.replace("_", "-")
            path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
            path.chmod(0o755)

    return add


def test_the_source_is_found_out_once(action, options, tmp_path, monkeypatch):
    answers = [{"hub.example": "", "quay.example": "quay.example: timed out"}]
    monkeypatch.setattr(machine, "registries_answer", lambda _hosts: answers.pop())
    assert action._source(options, tmp_path / "cache") == ("packages", "no answer from quay.example: timed out")
    source, reason = action._source(options, tmp_path / "cache")
    assert source == "packages"
    assert reason.startswith("no answer from quay.example: timed out (found out on 20")
    assert json.loads((tmp_path / "cache/source.json").read_text(encoding="utf-8"))["source"] == "packages"


def test_registries_that_answer(action, options, tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "registries_answer", lambda hosts: dict.fromkeys(hosts, ""))
    action._task.check_mode = True
    assert action._source(options, tmp_path) == ("registry", "hub.example and quay.example answer")
    assert not (tmp_path / "source.json").exists()
    assert action._source({**options, "source": "packages"}, tmp_path)[0] == "packages"


def test_without_privilege_the_command_is_given(action, options, programs, monkeypatch):
    programs(apt_get="exit 0")
    monkeypatch.setattr(machine, "privilege", lambda: None)
    with pytest.raises(machine.MachineError) as failure:
        action._install(options, "packages")
    assert str(failure.value) == (
        "this machine lacks podman, mmdebstrap, keyring. Run this, then the playbook again: sudo sh -c 'apt-get update "
        "&& DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends podman mmdebstrap keyring'"
    )


def test_only_what_is_missing_is_installed(action, options, programs, monkeypatch):
    programs(podman="echo '{}'", apt_get="exit 0", sh='exec /bin/sh "$@"')
    monkeypatch.setattr(machine, "privilege", list)
    assert action._install(options, "registry") == []
    action._task.check_mode = True
    assert action._install(options, "packages") == ["mmdebstrap", "keyring"]
    assert action.lines[-1].endswith("would install mmdebstrap, keyring")
    action._task.check_mode = False
    assert action._install(options, "packages") == ["mmdebstrap", "keyring"]
    assert "installing mmdebstrap, keyring (as root) ..." in action.lines[-2]


def test_a_failed_installation_shows_its_output(action, options, programs, monkeypatch):
    programs(podman="echo '{}'", apt_get="echo 'E: no such package'; exit 100", sh='exec /bin/sh "$@"')
    monkeypatch.setattr(machine, "privilege", list)
    with pytest.raises(machine.MachineError, match=r"installing mmdebstrap, keyring failed.*\nE: no such package"):
        action._install(options, "packages")


def test_an_engine_that_is_there_but_broken_is_not_installed_again(action, options, programs):
    programs(podman="echo 'cannot clone: Operation not permitted' >&2; exit 125", apt_get="exit 0")
    with pytest.raises(machine.MachineError, match=r"no container engine works here .*cannot clone"):
        action._install(options, "packages")


STEPS = {name: {"title": name, "image": {"directory": name}} for name in ("stack", "server")}
SOURCE = {"node": "", "build": {"stack": "stack"}, "optional": {"vault": "server"}, "published": {}}


@pytest.fixture
def build(action, options, monkeypatch):
    """A function that builds targets and extras with nothing real; gives the steps that ran and the images."""
    ran: list[str] = []
    monkeypatch.setattr(machine, "find_engine", lambda *_unused: SimpleNamespace(name="podman", workarounds=[]))
    monkeypatch.setattr(image_build.ActionModule, "_install", lambda *_unused: [])
    monkeypatch.setattr(image_build.building.Builder, "plan", lambda _self, steps: list(steps))
    monkeypatch.setattr(image_build.building.Builder, "ensure", lambda _self, steps: ran.extend(steps))
    monkeypatch.setattr(image_build.building.Builder, "reference", lambda _self, step: f"localhost/{step}")
    monkeypatch.setattr(image_build.building.Builder, "output", lambda _self, step: image_build.Path("/out") / step)

    def run(**more):
        given = {
            "source": "packages",
            "steps": STEPS,
            "sources": {"packages": SOURCE},
            "files": "",
            "push_registry": "",
        }
        given |= {
            "targets": ["stack"],
            "extra": [],
            "go_minimum": "1.26.0",
            "go_package": "",
            "go_hashes": [],
            "versions": {},
        }
        result = action.act({**options, **given, **more}, {})
        return ran, result["images"]

    return run


def test_what_is_optional_is_built_only_where_it_is_asked_for(build):
    assert build() == (["stack"], {"stack": "localhost/stack"})


def test_what_is_asked_for_besides_is_built_with_the_targets(build):
    assert build(extra=["vault"]) == (["stack", "server"], {"stack": "localhost/stack", "vault": "localhost/server"})


def test_what_is_asked_for_besides_must_be_known(build):
    with pytest.raises(machine.MachineError, match="images_extra has 'redis': any of vault"):
        build(extra=["redis"])


def test_names_of_what_was_pushed_are_shown(build, action, monkeypatch):
    pushed = {"stack": {"image": "registry.example.com/stack:1-abc", "changed": False}}
    monkeypatch.setattr(image_build.push, "push", lambda *_unused, **__: pushed)
    build(push_registry="registry.example.com", push=["stack"])
    assert action.lines[-2].endswith("for the inventory:")
    assert action.lines[-1] == "      stack_image: registry.example.com/stack:1-abc"
