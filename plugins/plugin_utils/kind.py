# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A kind cluster of one node: create, check, repair, delete, and load images into it."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO, Any

from ansible_collections.mlops.mlflow.plugins.plugin_utils import machine
from ansible_collections.mlops.mlflow.plugins.plugin_utils.builder import duration

LABEL = "io.x-k8s.kind.cluster"
# A file in the node that says its creation came to its end; it lives and dies with the node.
COMPLETE = "/kind/complete"
KUBECTL = ("kubectl", "--kubeconfig=/etc/kubernetes/admin.conf")
TAIL = 30
# Exit code of a process that was killed, as podman keeps it.
KILLED = "137"


class KindError(Exception):
    """Something about the cluster failed; the message is one sentence, then output where there is some."""


def taken_ports(ports: Iterable[int], address: str = "127.0.0.1") -> list[int]:
    """Those of some TCP ports that another program listens on."""
    taken = []
    for port in ports:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            # As servers do: a connection that is only fading away does not hold the port.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError as error:
                if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                    raise
                taken.append(port)
    return taken


def merge(base: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
    """A dictionary with another's entries added, dictionaries within merged and lists appended."""
    merged = dict(base)
    for key, value in extra.items():
        if isinstance(merged.get(key), dict) and isinstance(value, dict):
            merged[key] = merge(merged[key], value)
        elif isinstance(merged.get(key), list) and isinstance(value, list):
            merged[key] = merged[key] + value
        else:
            merged[key] = value
    return merged


def configuration(
    name: str,
    node_ports: Iterable[int],
    *,
    own_node: bool,
    limited: bool,
    pins: Mapping[str, str] | None = None,
    extra: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """kind's configuration of a cluster.

    Args:
        name: of the cluster
        node_ports: list of TCP ports that 127.0.0.1 of this machine passes on to the node
        own_node: whether the node image is one that roles/images built
        limited: whether the node's processes cannot raise limits (Kubernetes then runs as in a user namespace)
        pins: versions of what the node image holds: etcd and coredns
        extra: further configuration, merged into it

    Returns:
        dict
    """
    ports = [
        {"containerPort": port, "hostPort": port, "listenAddress": "127.0.0.1", "protocol": "TCP"}
        for port in node_ports
    ]
    config: dict[str, Any] = {
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "name": name,
        "networking": {"apiServerAddress": "127.0.0.1"},
        "nodes": [{"role": "control-plane", "extraPortMappings": ports}],
    }
    if limited:
        config["featureGates"] = {"KubeletInUserNamespace": True}
    if own_node:
        # The node image brings its own network configuration and no kindnet; nftables needs no module of iptables.
        config["networking"].update(disableDefaultCNI=True, kubeProxyMode="nftables", podSubnet="10.244.0.0/16")
        versions = pins or {}
        cluster = {
            "kind": "ClusterConfiguration",
            "imageRepository": "localhost/mlops-mlflow",
            "etcd": {"local": {"imageTag": versions["etcd"]}},
            "dns": {"imageTag": f"v{versions['coredns']}"},
        }
        kubelet = {"kind": "KubeletConfiguration", "cgroupDriver": "cgroupfs"}
        # The image holds smaller requests than kubeadm's, which take up most of a machine of two CPUs.
        init = {"kind": "InitConfiguration", "patches": {"directory": "/kind/patches"}}
        config["kubeadmConfigPatches"] = [json.dumps(part) for part in (cluster, kubelet, init)]
    return merge(config, extra or {})


class Cluster:
    """One cluster, by its name, of one engine.

    Args:
        engine: machine.Engine
        name: of the cluster
        directory: pathlib.Path where its kubeconfig and notes are kept
        say: function that is given a line of progress
    """

    def __init__(
        self, engine: machine.Engine | None, name: str, directory: str | Path, say: Callable[[str], None]
    ) -> None:
        self.found_engine = engine
        self.name = name
        self.directory = Path(directory)
        self.say = say

    @property
    def engine(self) -> machine.Engine:
        """The container engine.

        Raises:
            KindError: there is none
        """
        if self.found_engine is None:
            raise KindError("no container engine works here")
        return self.found_engine

    @property
    def node(self) -> str:
        """Name of the node's container."""
        return f"{self.name}-control-plane"

    @property
    def kubeconfig(self) -> Path:
        """Path of the cluster's kubeconfig."""
        return self.directory / "kubeconfig"

    # Looking

    def container(self) -> dict[str, Any] | None:
        """The node's container: {id, running, image, ports}, or None."""
        code, out, err = self.engine.run("container", "inspect", self.node)
        if code != 0:
            if re.search("no such container|no such object|not found", err, re.IGNORECASE):
                return None
            raise KindError(f"{self.engine.name} cannot tell about {self.node}: {machine.last_line(err)}")
        found = json.loads(out)[0]
        bindings = found.get("HostConfig", {}).get("PortBindings") or {}
        ports = {}
        for inside, outside in bindings.items():
            for binding in outside or []:
                ports[int(inside.partition("/")[0])] = int(binding.get("HostPort") or 0)
        return {
            "id": found["Id"],
            "running": bool(found["State"].get("Running")) and self._process_lives(found["State"].get("Pid")),
            "image": found.get("ImageName") or found.get("Config", {}).get("Image", ""),
            "ports": ports,
        }

    def _process_lives(self, pid: int | None) -> bool:
        """Whether a container's first process is there; an engine may not have noticed that it was killed."""
        return bool(pid) and (self.engine.name == "docker" or bool(self.engine.url) or Path(f"/proc/{pid}").exists())

    def inside(self, *command: str, timeout: float = 60, stdin: IO[Any] | None = None) -> tuple[int, str, str]:
        """Run a command in the node: (return code, output, error)."""
        interactive = ["--interactive"] if stdin else []
        return self.engine.run("exec", *interactive, self.node, *command, timeout=timeout, stdin=stdin)

    def api_answers(self, port: int) -> str:
        """ "" where the API server says it is ready, else why not."""
        context = ssl.create_default_context()
        # Only whether it answers: nothing is sent, and the kubeconfig's own clients do check the certificate.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        try:
            with opener.open(f"https://127.0.0.1:{port}/readyz", timeout=5):
                return ""
        except urllib.error.HTTPError as error:
            return f"HTTP {error.code}"
        except OSError as error:
            return str(machine.network_reason(error))

    def wait_for_api(self, port: int, timeout: float) -> str:
        """Wait until the API server is ready; why it is not, after the timeout (seconds)."""
        started = time.monotonic()
        upcoming = 10
        while reason := self.api_answers(port):
            elapsed = time.monotonic() - started
            if elapsed > timeout:
                return reason
            if elapsed > upcoming:
                self.say(f"waiting for the API server of {self.name} ... {duration(elapsed)} ({reason})")
                upcoming += 15
            time.sleep(0.5)
        return ""

    # Creating, mending, deleting

    def create(self, kind: str, config: dict[str, Any], image: str = "", timeout: float = 300) -> None:
        """Create the cluster and wait until its own pods run."""
        started = time.monotonic()
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self.directory / "kind.json"
        path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        command = [kind, "create", "cluster", "--retain", "--name", self.name, "--config", str(path)]
        command += ["--kubeconfig", str(self.kubeconfig), *(["--image", image] if image else [])]
        env = {**self.engine.environ, "KIND_EXPERIMENTAL_PROVIDER": self.engine.name}
        log = self.directory / "kind.log"
        with (
            open(log, "w", encoding="utf-8") as stream,
            machine.spawn(command, stdout=stream, stderr=subprocess.STDOUT, env=env) as process,
        ):
            try:
                self._follow(process, log, started, timeout)
            except BaseException:
                os.killpg(process.pid, signal.SIGTERM)
                raise
        if process.returncode != 0:
            raise KindError(
                f"kind could not create the cluster {self.name} (what there is of it stays until the next run); "
                f"the end of {log}:\n{self._tail(log)}"
            )
        self.kubeconfig.chmod(0o600)
        self.wait_for_pods(timeout)
        code, _out, err = self.inside("touch", COMPLETE)
        if code != 0:
            raise KindError(f"the node {self.node} does not keep a note: {machine.last_line(err)}")
        self.say(f"created the cluster {self.name} in {duration(time.monotonic() - started)}")

    def _follow(self, process: subprocess.Popen[Any], log: Path, started: float, timeout: float) -> None:
        """Show kind's own progress until it ends."""
        shown = 0
        upcoming = 15
        while True:
            ended = process.poll() is not None
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
            complete = lines if ended else lines[:-1]
            for line in complete[shown:]:
                match = re.match(r"^\s*✓\s+(.*?)\s*[^\x00-\x7f]*\s*$", line)
                if match:
                    self.say(f"kind: {match[1]}")
            shown = max(shown, len(complete))
            if ended:
                return
            elapsed = time.monotonic() - started
            if elapsed > timeout + 300:
                raise KindError(
                    f"kind is not done with the cluster {self.name} after {duration(elapsed)}; "
                    f"the end of {log}:\n{self._tail(log)}"
                )
            if elapsed >= upcoming:
                self.say(f"creating the cluster {self.name} ... {duration(elapsed)}")
                upcoming += 15
            time.sleep(0.2)

    @staticmethod
    def _tail(log: Path) -> str:
        return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL:])

    def wait_for_pods(self, timeout: float) -> None:
        """Wait for the node and the cluster's own Deployments."""
        # Only its own: what runs in other namespaces is no sign of the cluster's health.
        deployments = ("wait", "--for=condition=Available", "deployment", "--all", "--namespace")
        for what in (
            ("wait", "--for=condition=Ready", "node", "--all"),
            (*deployments, "kube-system"),
            (*deployments, "local-path-storage"),
        ):
            started = time.monotonic()
            while True:
                code, _out, err = self.inside(*KUBECTL, *what, "--timeout=10s", timeout=60)
                if code == 0:
                    break
                elapsed = time.monotonic() - started
                if elapsed > timeout:
                    _code, pods, _err = self.inside(*KUBECTL, "get", "pods", "--all-namespaces", "--output=wide")
                    reason = machine.last_line(err)
                    raise KindError(f"the cluster {self.name} is not ready after {duration(elapsed)}: {reason}\n{pods}")
                self.say(f"waiting for the cluster's own pods ... {duration(elapsed)}")
                time.sleep(0.5)

    def complete(self) -> bool:
        """Whether the node's creation came to its end."""
        return self.inside("test", "-e", COMPLETE)[0] == 0

    def start(self, timeout: float) -> str:
        """Start a stopped node; "" where the cluster is back, else why not."""
        started = time.monotonic()
        self._note_exit()
        code, err = 1, ""
        for attempt in range(4):
            code, _out, err = self.engine.run("start", self.node)
            if code == 0:
                break
            time.sleep(attempt)
        if code != 0:
            return machine.last_line(err)
        if not self.complete():
            return "its creation never came to its end"
        container = self.container() or {"ports": {}}
        reason = self.wait_for_api(container["ports"].get(6443, 0), timeout)
        if reason:
            return f"its API server does not answer ({reason})"
        elapsed = duration(time.monotonic() - started)
        self.say(f"the node {self.node} was stopped and runs again, after {elapsed}; its data is kept")
        return ""

    def _note_exit(self) -> None:
        """Tell podman that the node ended, where its monitor was killed with it and could not.

        podman learns of a container's end by a file that its monitor (conmon) writes; without it the container can be
        neither started nor stopped for good.
        """
        if self.engine.name != "podman":
            return
        code, out, _err = self.engine.run("container", "inspect", "--format", "{{.Id}} {{.State.Status}}", self.node)
        identity, _unused, status = out.strip().partition(" ")
        runtime = Path("/run" if os.geteuid() == 0 else os.environ.get("XDG_RUNTIME_DIR", "/nonexistent"))
        exits = runtime / ("libpod/exits" if os.geteuid() == 0 else "libpod/tmp/exits")
        if code == 0 and status in ("running", "stopping") and exits.is_dir():
            (exits / identity).write_text(KILLED, encoding="utf-8")
            # Reading the state takes the file in.
            self.engine.run("ps", "--all", "--quiet")

    def delete(self) -> bool:
        """Remove the cluster's containers and volumes; whether there were any."""
        label = f"label={LABEL}={self.name}"
        containers = self.engine.output("ps", "--all", "--quiet", "--filter", label).split()
        if containers:
            # podman refuses at first to remove one whose processes were killed behind its back.
            self.engine.run("rm", "--force", "--volumes", *containers, timeout=180)
            left = self.engine.output("ps", "--all", "--quiet", "--filter", label).split()
            if left:
                self.engine.output("rm", "--force", "--volumes", *left, timeout=180)
        # kind marks a node's volume (all of its /var) with the node's name, and with podman nothing else removes it:
        # https://github.com/kubernetes-sigs/kind/blob/v0.30.0/pkg/cluster/internal/providers/podman/util.go
        volumes = self.engine.output("volume", "ls", "--quiet", "--filter", f"label={self.node}").split()
        if volumes:
            self.engine.run("volume", "rm", "--force", *volumes)
        return bool(containers or volumes)

    def fetch_kubectl(self) -> bool:
        """Take kubectl out of the node, for a machine that has none; whether it was missing."""
        target = self.directory / "bin" / "kubectl"
        if target.exists() or shutil.which("kubectl"):
            return False
        target.parent.mkdir(parents=True, exist_ok=True)
        new = target.with_name(".kubectl.new")
        self.engine.output("cp", f"{self.node}:/usr/bin/kubectl", str(new))
        new.chmod(0o755)
        os.replace(new, target)
        return True

    def forget(self, names: Iterable[str]) -> bool:
        """Remove the cluster's notes; whether there were any."""
        changed = False
        for name in names:
            path = self.directory / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
                changed = True
            elif path.is_symlink() or path.exists():
                path.unlink()
                changed = True
        if self.directory.is_dir() and not any(self.directory.iterdir()):
            self.directory.rmdir()
        return changed

    # What clients need

    def write_kubeconfig(self, kind: str) -> bool:
        """Write the kubeconfig where it is missing or of another cluster; whether it was."""
        env = {**self.engine.environ, "KIND_EXPERIMENTAL_PROVIDER": self.engine.name}
        code, out, err = machine.capture([kind, "get", "kubeconfig", "--name", self.name], env=env)
        if code != 0:
            raise KindError(f"kind cannot tell the kubeconfig of {self.name}: {machine.last_line(err)}")
        return write_private(self.kubeconfig, out)

    def images(self) -> set[str]:
        """Names of the images that the node has."""
        code, out, err = self.inside("ctr", "--namespace", "k8s.io", "images", "ls", "--quiet")
        if code != 0:
            raise KindError(f"the node {self.node} cannot tell its images: {machine.last_line(err)}")
        return set(out.split())

    def load(self, image: str) -> None:
        """Give the node an image of the engine's."""
        started = time.monotonic()
        self.say(f"loading {image} into {self.node} ...")
        save = [*self.engine.command, "save", image]
        code, err = 1, ""
        with machine.spawn(save, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.engine.environ) as saving:
            code, _out, err = self.inside(
                "ctr", "--namespace", "k8s.io", "images", "import", "-", timeout=1800, stdin=saving.stdout
            )
            if saving.stdout:
                saving.stdout.close()
            _nothing, trouble = saving.communicate()
        if saving.returncode != 0 or code != 0:
            reason = machine.last_line(trouble.decode(errors="replace")) or machine.last_line(err)
            raise KindError(f"loading {image} into {self.node} failed: {reason}")
        self.say(f"loaded {image} in {duration(time.monotonic() - started)}")


def write_private(path: str | Path, text: str) -> bool:
    """Write a file that only its owner may read, in one rename; whether it changed."""
    path = Path(path)
    if path.exists() and path.read_text(encoding="utf-8") == text and path.stat().st_mode & 0o777 == 0o600:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as stream:
        stream.write(text)
    new.chmod(0o600)
    os.replace(new, path)
    return True
