# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action plugin of kind_cluster: runs kind on the control node, and says what it is doing."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, ClassVar

from ansible.utils.display import Display
from ansible_collections.mlops.mlflow.plugins.plugin_utils import kind, local_action, machine

display = Display()
NOTES = ("kubeconfig", "images.json", "cluster.json", "kind.json", "kind.log", "containers.conf", "bin")


class ActionModule(local_action.LocalAction):
    """Runs kind."""

    ARGUMENTS: ClassVar[dict[str, Any]] = {
        "name": {"type": "str", "required": True},
        "directory": {"type": "path", "required": True},
        "state": {"type": "str", "choices": ["present", "absent", "checked"], "default": "present"},
        "engine": {"type": "str", "choices": ["auto", "podman", "docker"], "default": "auto"},
        "kind": {"type": "path", "default": ""},
        "node_image": {"type": "str", "default": ""},
        "node_ports": {"type": "list", "elements": "int", "default": []},
        "pins": {"type": "dict", "default": {}},
        "config": {"type": "dict", "default": {}},
        "images": {"type": "dict", "default": {}},
        "programs": {"type": "dict", "default": {}},
        "timeout": {"type": "int", "default": 300},
    }
    ERRORS = (machine.MachineError, kind.KindError)
    ELSEWHERE = "a kind cluster runs on the control node"

    def act(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Bring a kind cluster into the requested state."""
        directory = Path(options["directory"])
        notes = _read(directory / "cluster.json")
        try:
            engine = machine.find_engine(
                # A cluster stays with the engine that it was made by.
                notes.get("engine", "auto") if options["engine"] == "auto" else options["engine"],
                directory=str(directory) if options["state"] == "present" and not self._task.check_mode else "",
            )
        except machine.MachineError:
            # Check mode may come before the engine is installed.
            if options["state"] == "present" and not self._task.check_mode:
                raise
            engine = None
        cluster = kind.Cluster(engine, options["name"], directory, self.say)
        if options["state"] == "absent":
            return self._absent(cluster)
        container = cluster.container() if engine else None
        self._check_ports(options, container)
        if options["state"] == "checked":
            return {"changed": False, "engine": engine.name if engine else options["engine"]}
        return self._present(options, cluster, container, notes)

    def _check_ports(self, options: dict[str, Any], container: dict[str, Any] | None) -> None:
        """Fail where a port that a new node would publish is another program's."""
        if len(set(options["node_ports"])) != len(options["node_ports"]):
            raise kind.KindError(f"kind_cluster_node_ports is {options['node_ports']}: each port once")
        wrong = [port for port in options["node_ports"] if not 30000 <= port <= 32767]
        if wrong:
            raise kind.KindError(
                f"kind_cluster_node_ports has {wrong[0]}: 30000 to 32767, as Kubernetes gives to NodePorts"
            )
        if container:
            missing = [port for port in options["node_ports"] if port not in container["ports"]]
            if missing:
                raise kind.KindError(
                    f"kind_cluster_node_ports has {missing[0]}, which the cluster {options['name']} does not publish: "
                    "delete the cluster first (kind_cluster_state: absent), since a node's ports are for life"
                )
        if container and container["running"]:
            return
        taken = kind.taken_ports(options["node_ports"])
        if taken:
            raise kind.KindError(
                f"kind_cluster_node_ports has {taken[0]}, but another program listens on 127.0.0.1:{taken[0]}: "
                "end it, or choose another port from 30000 to 32767"
            )

    def _absent(self, cluster: kind.Cluster) -> dict[str, Any]:
        if self._task.check_mode:
            there = bool(cluster.found_engine and cluster.container()) or cluster.kubeconfig.exists()
            return {"changed": there}
        deleted = cluster.delete() if cluster.found_engine else False
        if deleted:
            self.say(f"deleted the cluster {cluster.name} and all that was stored in it")
        return {"changed": cluster.forget(NOTES) or deleted}

    def _present(
        self, options: dict[str, Any], cluster: kind.Cluster, container: dict[str, Any] | None, notes: dict[str, Any]
    ) -> dict[str, Any]:
        if self._task.check_mode:
            return self._would(options, cluster, container)
        changed = False
        created = mended = False
        if container and not container["running"]:
            self.say(f"the node {cluster.node} is stopped: starting it again ...")
            reason = cluster.start(options["timeout"])
            mended = changed = True
            if reason:
                self._check_owner(cluster, notes)
                display.warning(
                    f"the node {cluster.node} was stopped and cannot be started: {reason}. "
                    f"The cluster {cluster.name} is recreated; all that was stored in it is lost."
                )
                cluster.delete()
                container = None
        elif container and not cluster.complete():
            self._check_owner(cluster, notes)
            display.warning(
                f"the cluster {cluster.name} is the rest of a run that was interrupted: it is removed and recreated"
            )
            cluster.delete()
            container = None
        if container is None:
            cluster.delete()
            self._prepare_machine(cluster.engine)
            _write(cluster.directory / "cluster.json", {"name": cluster.name, "engine": cluster.engine.name, "id": ""})
            self.say(f"creating the cluster {cluster.name} with {cluster.engine.name} ...")
            cluster.create(options["kind"], self._configuration(options), options["node_image"], options["timeout"])
            changed = created = True
            container = cluster.container()
            if container is None:
                raise kind.KindError(f"the node {cluster.node} was removed while it was created")
        elif reason := cluster.wait_for_api(container["ports"].get(6443, 0), options["timeout"]):
            raise kind.KindError(
                f"the cluster {cluster.name} runs, but its API server does not answer ({reason}); look at it with "
                f"`{cluster.engine.name} exec {cluster.node} journalctl -u kubelet`, "
                "or delete it (kind_cluster_state: absent)"
            )
        if options["node_image"] and container["image"] != options["node_image"] and not created:
            display.warning(
                f"the cluster {cluster.name} runs the node image {container['image']}, not {options['node_image']}: "
                "it is kept; delete it (kind_cluster_state: absent) to have the new one"
            )
        if notes.get("id") != container["id"] or not cluster.kubeconfig.exists():
            changed = cluster.write_kubeconfig(options["kind"]) or changed
        loaded = self._load(options, cluster)
        content = {"name": cluster.name, "engine": cluster.engine.name, "id": container["id"]}
        changed = _write(cluster.directory / "cluster.json", content) or changed
        changed = _write(cluster.directory / "images.json", options["images"]) or changed
        changed = self._link(cluster.directory / "bin", options["programs"]) or changed
        if "kubectl" not in options["programs"]:
            changed = cluster.fetch_kubectl() or changed
        return {
            "changed": changed or bool(loaded),
            "created": created,
            "mended": mended and not created,
            "loaded": loaded,
            "kubeconfig": str(cluster.kubeconfig),
            "engine": cluster.engine.name,
            "workarounds": cluster.engine.workarounds,
        }

    @staticmethod
    def _check_owner(cluster: kind.Cluster, notes: dict[str, Any]) -> None:
        """Fail rather than remove a cluster that this collection did not create."""
        if notes.get("name") != cluster.name and not cluster.complete():
            raise kind.KindError(
                f"kind_cluster_name is '{cluster.name}', a cluster that is there but was not made by this playbook: "
                f"choose another name, or delete it first (kind delete cluster --name {cluster.name})"
            )

    def _would(
        self, options: dict[str, Any], cluster: kind.Cluster, container: dict[str, Any] | None
    ) -> dict[str, Any]:
        """What a real run would do."""
        if container is None:
            self.say(f"would create the cluster {cluster.name}")
            missing = list(options["images"].values())
        elif not container["running"]:
            self.say(f"would start the node {cluster.node} again")
            missing = []
        else:
            missing = [image for image in options["images"].values() if _ours(image) and image not in cluster.images()]
        for image in missing:
            self.say(f"would load {image}")
        stale = _read(cluster.directory / "images.json") != options["images"]
        return {"changed": container is None or not container["running"] or bool(missing) or stale, "loaded": missing}

    def _load(self, options: dict[str, Any], cluster: kind.Cluster) -> list[str]:
        """Load the images that were built here and that the node lacks."""
        built = [image for image in options["images"].values() if _ours(image)]
        present = cluster.images() if built else set()
        missing = [image for image in built if image not in present]
        for image in missing:
            cluster.load(image)
        return missing

    @staticmethod
    def _link(directory: Path, programs: dict[str, str]) -> bool:
        """Links to programs; whether any changed."""
        changed = False
        for name, target in programs.items():
            link = directory / name
            if not Path(target).exists() or (link.is_symlink() and os.readlink(link) == target):
                continue
            directory.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(target)
            changed = True
        return changed

    @staticmethod
    def _configuration(options: dict[str, Any]) -> dict[str, Any]:
        limits = machine.Limits.of_this_machine()
        own = bool(options["node_image"])
        return kind.configuration(
            options["name"],
            options["node_ports"],
            own_node=own,
            limited=limits.limited_root,
            pins=options["pins"],
            extra=options["config"],
        )

    def _prepare_machine(self, engine: machine.Engine) -> None:
        """What kind takes for granted of a machine."""
        for workaround in engine.workarounds:
            self.say(f"this machine is limited: {workaround}")
        # kind mounts it into the node; a machine without modules has none.
        modules = Path("/lib/modules")
        if not modules.exists():
            privilege = machine.privilege()
            if privilege is None or machine.capture([*privilege, "mkdir", "-p", str(modules)])[0] != 0:
                raise machine.MachineError(
                    "kind needs the directory /lib/modules. Run this, then the playbook again: "
                    "sudo mkdir -p /lib/modules"
                )


def _ours(image: str) -> bool:
    """Whether an image was built here, so that no node can pull it."""
    return image.startswith("localhost/")


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _write(path: Path, content: Any) -> bool:
    """Write a JSON file where it differs; whether it did."""
    return kind.write_private(path, json.dumps(content, indent=2, sort_keys=True) + "\n")
