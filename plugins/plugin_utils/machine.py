# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the machine that builds and runs the kind cluster has: container engine, limits, package sources."""

from __future__ import annotations

import configparser
import ctypes
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import urllib.error
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any
from xml.etree import ElementTree

from ansible.module_utils.urls import open_url

CAP_SYS_RESOURCE = 24
PR_SET_PDEATHSIG = 1
# What podman asks for by default; a process without CAP_SYS_RESOURCE cannot raise its hard limit to it.
PODMAN_NOFILE = 1048576
# podman sets its own limit of processes for a build lower than the caller's, and then refuses to go back up.
PODMAN_NPROC = 32768
DEBIAN_MIRROR = "http://deb.debian.org/debian"
DEBIAN_SECURITY_MIRROR = "http://deb.debian.org/debian-security"
MAVEN_CENTRAL = "https://repo.maven.apache.org/maven2"
CA_BUNDLE_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT")
APT_OPTION = re.compile(
    r'^(?:Acquire::Check-Valid-Until|Acquire::https?::(?:Proxy|Verify-Peer|Verify-Host)(?:::[^ ]+)?) "[^"]*";$'
)

AptEntry = tuple[list[str], str, str, list[str]]
"""An entry of a sources.list: its options, URI, suite and components."""


class MachineError(Exception):
    """The machine lacks something; the message is one sentence that says what to do."""


def capture(
    command: Sequence[str],
    env: Mapping[str, str] | None = None,
    timeout: float = 60,
    stdin: IO[Any] | int | None = None,
) -> tuple[int, str, str]:
    """Run a command to its end.

    Args:
        command: list of arguments
        env: whole environment, None for this process's
        timeout: seconds

    Returns:
        (return code, standard output, standard error); 127 where there is no such program, 124 after the timeout
    """
    try:
        done = subprocess.run(  # noqa: S603 - a list of arguments, by no shell
            command,
            env=env,
            timeout=timeout,
            stdin=stdin or subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    except FileNotFoundError as error:
        return 127, "", str(error)
    except subprocess.TimeoutExpired:
        return 124, "", f"no answer within {timeout} s"
    return done.returncode, done.stdout, done.stderr


def die_with_parent() -> None:
    """In a new child: end when the parent ends, so that nothing outlives its playbook."""
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    except (OSError, AttributeError):
        return


def spawn(command: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
    """Start a command that ends with this process, in a session of its own.

    Args:
        command: list of arguments
        options: further arguments of subprocess.Popen
    """
    options.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.Popen(  # noqa: S603 - a list of arguments, by no shell
        command,
        start_new_session=True,
        preexec_fn=die_with_parent,  # noqa: PLW1509 - calls nothing that could wait for another thread
        **options,
    )


def last_line(text: str) -> str:
    """The last line of a text that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


@dataclass
class Limits:
    """What this process may not do, as the kernel says."""

    root: bool
    cgroup_v2: bool
    raise_limits: bool
    nofile: int
    nproc: int

    @classmethod
    def of_this_machine(cls) -> Limits:
        """Ask the kernel: effective capabilities, cgroup hierarchy, hard limits."""
        capabilities = 0
        try:
            for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
                if line.startswith("CapEff:"):
                    capabilities = int(line.split()[1], 16)
        except OSError:
            capabilities = 0
        return cls(
            root=os.geteuid() == 0,
            cgroup_v2=Path("/sys/fs/cgroup/cgroup.controllers").exists(),
            raise_limits=bool(capabilities >> CAP_SYS_RESOURCE & 1),
            nofile=resource.getrlimit(resource.RLIMIT_NOFILE)[1],
            nproc=resource.getrlimit(resource.RLIMIT_NPROC)[1],
        )

    @property
    def limited_root(self) -> bool:
        """Root without CAP_SYS_RESOURCE: no limit can be raised, no OOM score lowered, some sysctls not written."""
        return self.root and not self.raise_limits


@dataclass
class Engine:
    """A container engine that works.

    Attributes:
        name: podman or docker
        url: address of a remote engine, "" for the local one
        workarounds: what was needed on this machine, a sentence each
    """

    name: str
    url: str = ""
    env: dict[str, str] = field(default_factory=dict)
    workarounds: list[str] = field(default_factory=list)

    @property
    def command(self) -> list[str]:
        """How every command line of this engine begins."""
        if not self.url:
            return [self.name]
        return ["podman", "--url", self.url] if self.name == "podman" else ["docker", "--host", self.url]

    @property
    def environ(self) -> dict[str, str]:
        """Environment for the engine's commands, and kind's."""
        return {**os.environ, **self.env}

    def run(self, *arguments: str, timeout: float = 120, stdin: IO[Any] | int | None = None) -> tuple[int, str, str]:
        """Run one command of the engine and return (return code, output, error)."""
        return capture([*self.command, *arguments], env=self.environ, timeout=timeout, stdin=stdin)

    def output(self, *arguments: str, timeout: float = 120) -> str:
        """Run one command of the engine and return its output; MachineError where it fails."""
        code, out, err = self.run(*arguments, timeout=timeout)
        if code != 0:
            raise MachineError(f"`{' '.join([*self.command, *arguments])}` failed: {last_line(err) or last_line(out)}")
        return out

    def image_names(self) -> set[str]:
        """Names (repository:tag) of all images in the engine's store."""
        out = self.output("images", "--format", "{{.Repository}}:{{.Tag}}")
        return {line.strip() for line in out.splitlines() if line.strip()}


def _answers(name: str, url: str) -> tuple[str, dict[str, Any]]:
    """Why an engine does not work, "" where it does, and what it says of itself."""
    if shutil.which(name) is None:
        return f"{name} is not installed", {}
    command = Engine(name, url).command
    if name == "docker":
        code, out, err = capture([*command, "version", "--format", "{{.Server.Version}}"], timeout=15)
        return ("" if code == 0 and out.strip() else f"docker: {last_line(err) or 'no daemon answers'}"), {}
    code, out, err = capture([*command, "info", "--format", "json"], timeout=30)
    if code != 0:
        return f"podman: {last_line(err) or 'podman info failed'}", {}
    return "", json.loads(out)


def private_directory() -> Path:
    """A directory in the user's cache that no other user reads or writes."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlops.mlflow"
    path = cache / "private"
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.chmod(0o700)
    return path


def _podman_configuration(info: dict[str, Any], limits: Limits, directory: str) -> tuple[str, list[str]]:
    """A containers.conf for what this machine refuses, and a sentence for each entry; ("", []) on an ordinary one."""
    host = info.get("host", {})
    containers, engine, why = [], [], []
    if limits.limited_root and 0 <= limits.nofile < PODMAN_NOFILE:
        ulimits = [f"nofile={limits.nofile}:{limits.nofile}"]
        if limits.nproc >= 0:
            processes = min(limits.nproc, PODMAN_NPROC)
            ulimits.append(f"nproc={processes}:{processes}")
        containers.append(f"default_ulimits = {json.dumps(ulimits)}")
        why.append(f"containers get at most {limits.nofile} open files: this machine cannot raise limits")
    if not limits.cgroup_v2:
        if host.get("ociRuntime", {}).get("name") == "crun" and shutil.which("runc"):
            engine.append('runtime = "runc"')
            why.append("containers run by runc: crun refuses this machine's cgroups")
        if host.get("cgroupManager") != "cgroupfs" and not Path("/run/systemd/system").exists():
            engine.append('cgroup_manager = "cgroupfs"')
            why.append("cgroups are managed without systemd, which does not run here")
    if host.get("eventLogger") == "journald" and not Path("/run/systemd/journal").exists():
        engine.append('events_logger = "file"')
        why.append("events go to a file: there is no journal")
    if not why:
        return "", []
    text = "".join(
        f"[{section}]\n" + "".join(f"{line}\n" for line in lines)
        for section, lines in (("containers", containers), ("engine", engine))
        if lines
    )
    path = Path(directory or private_directory()) / "containers.conf"
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return str(path), why


def find_engine(wanted: str = "auto", url: str = "", directory: str = "", limits: Limits | None = None) -> Engine:
    """Find a container engine that works.

    Args:
        wanted: auto (docker where its daemon answers, else podman), podman or docker
        url: a remote engine's address, "" for the local one
        directory: where a containers.conf is written, on machines that need one ("": in the user's cache)

    Returns:
        Engine

    Raises:
        MachineError: none works; says why of each
    """
    limits = limits or Limits.of_this_machine()
    reasons = []
    # Like kind, a local docker comes first; podman's service answers docker's client too, but builds only for its own.
    preferred = ("podman", "docker") if url else ("docker", "podman")
    for name in preferred if wanted == "auto" else (wanted,):
        reason, info = _answers(name, url)
        if reason:
            reasons.append(reason)
            continue
        engine = Engine(name, url)
        if name == "podman" and not url and "CONTAINERS_CONF" not in os.environ:
            path, engine.workarounds = _podman_configuration(info, limits, directory)
            if path:
                engine.env["CONTAINERS_CONF"] = path
        return engine
    where = f"at {url}" if url else "here"
    raise MachineError(f"no container engine works {where} ({'; '.join(reasons)})")


def network_reason(error: Exception) -> Any:
    """What an error of the network says, without its number."""
    reason = getattr(error, "reason", error)
    return getattr(reason, "strerror", None) or reason


def registries_answer(hosts: Sequence[str], timeout: float = 3.0) -> dict[str, str]:
    """Ask image registries for their API's root.

    Args:
        hosts: names of registries
        timeout: seconds, for all of them together, about

    Returns:
        dict of host to "" (answers) or why it does not
    """

    def ask(host: str) -> str:
        try:
            with open_url(f"https://{host}/v2/", timeout=timeout, use_netrc=False):
                return ""
        except urllib.error.HTTPError as error:
            # Registries that want a token answer 401; a filtering proxy answers 403, 407 or 5xx.
            return "" if error.code in (401, 404) else f"{host}: HTTP {error.code}"
        except (OSError, ValueError) as error:
            return f"{host}: {network_reason(error)}"

    with ThreadPoolExecutor(max_workers=max(1, len(hosts))) as pool:
        return dict(zip(hosts, pool.map(ask, hosts), strict=True))


def os_release() -> dict[str, str]:
    """The fields of /etc/os-release, {} where there is none."""
    try:
        text = Path("/etc/os-release").read_text(encoding="utf-8")
    except OSError:
        return {}
    return {key: value.strip('"') for key, _unused, value in (line.partition("=") for line in text.splitlines()) if key}


def _deb822(text: str) -> Iterator[AptEntry]:
    """The stanzas of a deb822 .sources file as one-line entries: (options, uri, suite, components)."""
    for stanza in re.split(r"\n\s*\n", re.sub(r"(?m)^#.*\n?", "", text)):
        fields = {}
        for match in re.finditer(r"(?m)^([A-Za-z-]+):[ \t]*((?:.*\n?)(?:[ \t]+.*\n?)*)", stanza):
            fields[match[1].lower()] = match[2].split()
        if "deb" not in fields.get("types", []) or fields.get("enabled", ["yes"])[0].lower() == "no":
            continue
        options = [f"trusted={fields['trusted'][0]}"] if "trusted" in fields else []
        if len(fields.get("signed-by", [])) == 1:
            options.append(f"signed-by={fields['signed-by'][0]}")
        for uri in fields.get("uris", []):
            for suite in fields.get("suites", []):
                yield options, uri, suite, fields.get("components", [])


def _one_line(text: str) -> Iterator[AptEntry]:
    """The entries of a sources.list: (options, uri, suite, components)."""
    for line in text.splitlines():
        match = re.match(r"^\s*deb\s+(?:\[([^]]*)\]\s+)?(\S+)\s+(\S+)\s*([^#]*)", line)
        if match:
            options = [option for option in (match[1] or "").split() if option.startswith(("trusted=", "signed-by="))]
            yield options, match[2], match[3], match[4].split()


def apt_sources(suite: str, root: str | Path = "/") -> list[str]:
    """Debian package sources of another suite, from this machine's own where it is a Debian machine.

    Args:
        suite: codename, such as trixie
        root: of the file system to look in

    Returns:
        list of sources.list lines
    """
    release = os_release()
    codename = release.get("VERSION_CODENAME", "")
    entries: list[AptEntry] = []
    apt = Path(root) / "etc/apt"
    if release.get("ID") == "debian" and codename:
        parts = apt / "sources.list.d"
        for path in [apt / "sources.list", *sorted(parts.glob("*.list")), *sorted(parts.glob("*.sources"))]:
            if path.is_file():
                text = path.read_text(encoding="utf-8", errors="replace")
                entries += _deb822(text) if path.suffix == ".sources" else _one_line(text)
    lines = []
    for options, uri, entry_suite, components in entries:
        if "main" not in components or entry_suite not in (codename, f"{codename}-updates", f"{codename}-security"):
            continue
        prefix = f"[{' '.join(options)}] " if options else ""
        line = f"deb {prefix}{uri} {suite}{entry_suite[len(codename) :]} main"
        if line not in lines:
            lines.append(line)
    if not any(f" {suite} main" in line for line in lines):
        keyring = "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] "
        lines = [
            f"deb {keyring}{DEBIAN_MIRROR} {suite} main",
            f"deb {keyring}{DEBIAN_MIRROR} {suite}-updates main",
            f"deb {keyring}{DEBIAN_SECURITY_MIRROR} {suite}-security main",
        ]
    return lines


def apt_options() -> list[str]:
    """The machine's apt settings that a build needs too (proxies, validity of mirrors), as apt.conf lines."""
    code, out, _err = capture(["apt-config", "dump"])
    return [line for line in out.splitlines() if APT_OPTION.match(line)] if code == 0 else []


def ca_bundle() -> str:
    """Path of the machine's own CA bundle, where its environment names one; else ""."""
    for variable in CA_BUNDLE_VARIABLES:
        path = os.environ.get(variable, "")
        if path and Path(path).is_file():
            return path
    return ""


def pip_configuration() -> str:
    """The machine's pip settings that hold inside a container too, as the text of a pip.conf."""
    wanted = ("index-url", "extra-index-url", "trusted-host", "timeout", "retries", "proxy")
    found = {}
    home = Path.home()
    files = [Path("/etc/pip.conf"), home / ".pip/pip.conf", home / ".config/pip/pip.conf"]
    for path in [*files, Path(os.environ.get("PIP_CONFIG_FILE") or os.devnull)]:
        parser = configparser.RawConfigParser()
        try:
            parser.read(path)
        except configparser.Error:
            continue
        if parser.has_section("global"):
            found.update({key: value for key, value in parser.items("global") if key in wanted})
    for key in wanted:
        value = os.environ.get("PIP_" + key.upper().replace("-", "_"), "")
        if value:
            found[key] = value
    return "[global]\n" + "".join(f"{key} = {value}\n" for key, value in sorted(found.items()))


def maven_repository(settings: str | Path | None = None) -> str:
    """Where Maven artifacts come from: the mirror in the user's settings.xml, else Maven Central.

    Args:
        settings: path of a settings.xml, None for the user's
    """
    path = Path(settings) if settings else Path.home() / ".m2/settings.xml"
    try:
        tree = ElementTree.parse(path)  # noqa: S314 - the user's own settings
    except (OSError, ElementTree.ParseError):
        return MAVEN_CENTRAL
    for mirror in tree.iter():
        if mirror.tag.rpartition("}")[2] != "mirror":
            continue
        fields = {child.tag.rpartition("}")[2]: (child.text or "").strip() for child in mirror}
        if fields.get("url") and {"central", "*", "external:*"} & set(fields.get("mirrorOf", "").split(",")):
            return fields["url"].rstrip("/")
    return MAVEN_CENTRAL


def privilege() -> list[str] | None:
    """How to become root without being asked: [] (is root), ["sudo", "-n"], or None (not at all)."""
    if os.geteuid() == 0:
        return []
    if shutil.which("sudo") and capture(["sudo", "-n", "true"], timeout=10)[0] == 0:
        return ["sudo", "-n"]
    return None


def install_command(packages: Iterable[str]) -> str:
    """The one shell command that installs Debian packages."""
    install = "DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends"
    return f"apt-get update && {install} {' '.join(packages)}"
