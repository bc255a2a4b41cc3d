# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is asked of the machine: engines, registries, package sources, settings of tools."""

from __future__ import annotations

import os
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from ansible_collections.mlops.mlflow.plugins.plugin_utils import machine

DEB822 = """\
Types: deb
# http://old.example/debian
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb-src
URIs: http://mirror.example/debian
Suites: bookworm
Components: main

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main

Types: deb
URIs: http://mirror.example/security
Suites: bookworm-security
Components: main
Trusted: yes
"""


def program(directory, name, script):
    """Put a program on a path of one's own."""
    path = directory / name
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """A PATH that holds nothing but what a test puts there."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", str(directory))
    monkeypatch.delenv("CONTAINERS_CONF", raising=False)
    return directory


@pytest.fixture
def debian(tmp_path, monkeypatch):
    """The root of a Debian bookworm."""
    (tmp_path / "etc/apt/sources.list.d").mkdir(parents=True)
    monkeypatch.setattr(machine, "os_release", lambda: {"ID": "debian", "VERSION_CODENAME": "bookworm"})
    return tmp_path


def limits(**changed):
    """An ordinary machine's limits, with changes."""
    ordinary = {"root": False, "cgroup_v2": True, "raise_limits": False, "nofile": 1048576, "nproc": -1}
    return machine.Limits(**{**ordinary, **changed})


def test_sources_of_another_suite_follow_the_machines_mirrors(debian):
    (debian / "etc/apt/sources.list.d/debian.sources").write_text(DEB822, encoding="utf-8")
    keyring = "signed-by=/usr/share/keyrings/debian-archive-keyring.gpg"
    assert machine.apt_sources("trixie", debian) == [
        f"deb [{keyring}] http://mirror.example/debian trixie main",
        f"deb [{keyring}] http://mirror.example/debian trixie-updates main",
        "deb [trusted=yes] http://mirror.example/security trixie-security main",
    ]


def test_sources_in_one_line_style(debian):
    (debian / "etc/apt/sources.list").write_text(
        "# deb http://off.example/debian bookworm main\n"
        "deb [arch=amd64 signed-by=/k.gpg] http://a.example/debian bookworm main non-free # here\n"
        "deb-src http://a.example/debian bookworm main\n"
        "deb http://b.example/apt other main\n",
        encoding="utf-8",
    )
    assert machine.apt_sources("trixie", debian) == ["deb [signed-by=/k.gpg] http://a.example/debian trixie main"]


@pytest.mark.parametrize("release", [{"ID": "ubuntu", "VERSION_CODENAME": "noble"}, {"ID": "fedora"}, {}])
def test_other_distributions_use_debians_own_mirrors(debian, monkeypatch, release):
    monkeypatch.setattr(machine, "os_release", lambda: release)
    (debian / "etc/apt/sources.list").write_text("deb http://a.example/ubuntu noble main\n", encoding="utf-8")
    sources = machine.apt_sources("trixie", debian)
    assert [line.split()[-2] for line in sources] == ["trixie", "trixie-updates", "trixie-security"]
    assert all("debian.org" in line for line in sources)


def test_mavens_mirror_is_used(tmp_path):
    settings = tmp_path / "settings.xml"
    settings.write_text(
        '<settings xmlns="http://maven.apache.org/SETTINGS/1.2.0"><mirrors>'
        "<mirror><mirrorOf>internal</mirrorOf><url>http://no.example</url></mirror>"
        "<mirror><mirrorOf>central,x</mirrorOf><url>http://mirror.example/maven/</url></mirror>"
        "</mirrors></settings>",
        encoding="utf-8",
    )
    assert machine.maven_repository(settings) == "http://mirror.example/maven"
    settings.write_text("<settings", encoding="utf-8")
    assert machine.maven_repository(settings) == machine.MAVEN_CENTRAL
    assert machine.maven_repository(tmp_path / "none.xml") == machine.MAVEN_CENTRAL


def test_pips_settings_without_paths_of_this_machine(tmp_path, monkeypatch):
    for variable in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    (tmp_path / "pip.conf").write_text(
        "[global]\nindex-url = https://a.example/simple\ncert = /x.pem\nfind-links = /w\n", encoding="utf-8"
    )
    monkeypatch.setenv("PIP_INDEX_URL", "https://b.example/simple")
    text = machine.pip_configuration()
    assert "index-url = https://b.example/simple" in text
    assert "cert" not in text
    assert "find-links" not in text


def test_an_engine_without_a_daemon_is_no_engine(programs, tmp_path):
    program(programs, "docker", "echo 'Cannot connect to the daemon' >&2; exit 1")
    program(programs, "podman", 'echo \'{"host": {"ociRuntime": {"name": "crun"}, "cgroupManager": "systemd"}}\'')
    engine = machine.find_engine(directory=tmp_path, limits=limits())
    assert (engine.name, engine.command, engine.env, engine.workarounds) == ("podman", ["podman"], {}, [])


def test_docker_comes_first_where_its_daemon_answers(programs, tmp_path):
    program(programs, "docker", "echo 29.0.0")
    program(programs, "podman", "echo '{}'")
    assert machine.find_engine(directory=tmp_path, limits=limits()).name == "docker"
    assert machine.find_engine("podman", directory=tmp_path, limits=limits()).name == "podman"


def test_no_engine_says_why_of_each(programs, tmp_path):
    program(programs, "docker", "echo 'permission denied' >&2; exit 1")
    with pytest.raises(machine.MachineError, match="docker: permission denied; podman is not installed"):
        machine.find_engine(directory=tmp_path, limits=limits())


def test_a_remote_engine_is_podmans_first(programs, tmp_path):
    program(programs, "docker", "echo 29.0.0")
    program(programs, "podman", "[ \"$1 $2\" = '--url unix:///x' ] && echo '{}'")
    engine = machine.find_engine(url="unix:///x", directory=tmp_path, limits=limits())
    assert engine.command == ["podman", "--url", "unix:///x"]


def test_work_arounds_only_where_the_machine_needs_them(programs, tmp_path):
    info = {"host": {"ociRuntime": {"name": "crun"}, "cgroupManager": "cgroupfs", "eventLogger": "file"}}
    program(programs, "runc", "exit 0")
    needed = limits(root=True, cgroup_v2=False, nofile=20000, nproc=96000)
    path, why = machine._podman_configuration(info, needed, tmp_path)
    text = Path(path).read_text(encoding="utf-8")
    assert 'default_ulimits = ["nofile=20000:20000", "nproc=32768:32768"]' in text
    assert 'runtime = "runc"' in text
    assert "cgroup_manager" not in text
    assert len(why) == 2
    for ordinary in (limits(), limits(root=True, raise_limits=True, nofile=1024), limits(root=True, nofile=-1)):
        assert machine._podman_configuration(info, ordinary, tmp_path) == ("", [])


def test_work_arounds_are_kept_where_no_other_user_writes(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    info = {"host": {"cgroupManager": "cgroupfs", "eventLogger": "file"}}
    path, _why = machine._podman_configuration(info, limits(root=True, nofile=20000), "")
    assert Path(path) == tmp_path / "mlops.mlflow/private/containers.conf"
    assert Path(path).parent.stat().st_mode & 0o777 == 0o700


class Registry(BaseHTTPRequestHandler):
    """Answers with the code that the path asks for."""

    def do_GET(self):
        """Answer /<code>/v2/."""
        self.send_response(int(self.path.split("/")[1]))
        self.end_headers()

    def log_message(self, *_arguments):
        """Stay silent."""


def test_what_counts_as_a_registry_that_answers(monkeypatch):
    server = HTTPServer(("127.0.0.1", 0), Registry)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    real = machine.open_url

    def plain(url, timeout, use_netrc):
        """The same over plain HTTP; the test's names carry the code that is wanted."""
        code = url.removeprefix("https://").partition(".")[0]
        if code == "none":
            raise machine.urllib.error.URLError("Name or service not known")
        return real(f"http://127.0.0.1:{server.server_port}/{code}/v2/", timeout=timeout, use_netrc=use_netrc)

    monkeypatch.setattr(machine, "open_url", plain)
    try:
        answers = machine.registries_answer(["200.x", "401.x", "403.x", "503.x", "none.x"])
    finally:
        server.shutdown()
        server.server_close()
    assert answers == {
        "200.x": "",
        "401.x": "",
        "403.x": "403.x: HTTP 403",
        "503.x": "503.x: HTTP 503",
        "none.x": "none.x: Name or service not known",
    }


def test_capture_never_raises_for_what_commands_do():
    assert machine.capture(["/nonexistent/program"])[0] == 127
    assert machine.capture(["sleep", "5"], timeout=0.1)[0] == 124
    assert machine.capture(["sh", "-c", "echo a; echo b >&2; exit 3"]) == (3, "a\n", "b\n")


def test_install_command_is_one_line():
    command = machine.install_command(["podman", "runc"])
    assert command.startswith("apt-get update && ")
    assert command.endswith(" podman runc")
    assert "\n" not in command
