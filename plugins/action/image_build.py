# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action plugin of image_build: builds on the control node, and says what it is doing."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any, ClassVar

from ansible_collections.mlops.mlflow.plugins.plugin_utils import builder as building
from ansible_collections.mlops.mlflow.plugins.plugin_utils import local_action, machine, push


class ActionModule(local_action.LocalAction):
    """Builds by the machine's container engine."""

    ARGUMENTS: ClassVar[dict[str, Any]] = {
        "steps": {"type": "dict", "required": True},
        "sources": {"type": "dict", "required": True},
        "files": {"type": "path", "required": True},
        "cache_directory": {"type": "path", "required": True},
        "targets": {"type": "list", "elements": "str", "default": []},
        "extra": {"type": "list", "elements": "str", "default": []},
        "source": {"type": "str", "choices": ["auto", "registry", "packages"], "default": "auto"},
        "registries": {"type": "list", "elements": "str", "default": []},
        "engine": {"type": "str", "choices": ["auto", "podman", "docker"], "default": "auto"},
        "engine_url": {"type": "str", "default": ""},
        "system_packages": {"type": "dict", "default": {}},
        "versions": {"type": "dict", "default": {}},
        "go_minimum": {"type": "str", "default": "1.26.0"},
        "go_package": {"type": "str", "default": ""},
        "go_hashes": {"type": "list", "elements": "str", "default": []},
        "push_registry": {"type": "str", "default": ""},
        "push": {"type": "list", "elements": "str", "default": []},
    }
    ERRORS = (machine.MachineError, building.BuildError)
    ELSEWHERE = "images are built on the control node"
    INSTEAD = "set ansible_connection to local, and images_engine_url for an engine elsewhere"

    def act(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Bring the images of a source up to date."""
        cache = Path(options["cache_directory"])
        source, reason = self._source(options, cache)
        installed = self._install(options, source)
        try:
            engine = machine.find_engine(options["engine"], options["engine_url"], str(cache))
        except machine.MachineError:
            if not (self._task.check_mode and installed):
                raise
            engine = None
        build = building.Builder(
            engine,
            options["steps"],
            files=options["files"],
            cache=cache,
            source=source,
            report=self.say,
            go_minimum=options["go_minimum"],
            go_package=options["go_package"],
            go_hashes=options["go_hashes"],
        )
        offered = options["sources"][source]
        wanted = options["targets"] or [*offered["build"], "node"]
        known = ["kind", "node", *sorted({**offered["build"], **offered["published"]})]
        for name in wanted:
            if name not in known:
                raise machine.MachineError(f"images_targets has '{name}': any of {', '.join(known)}")
        optional = offered.get("optional", {})
        for name in options["extra"]:
            if name not in optional:
                raise machine.MachineError(f"images_extra has '{name}': any of {', '.join(sorted(optional))}")
        built = {name: step for name, step in offered["build"].items() if name in wanted}
        built.update({name: optional[name] for name in options["extra"]})
        steps = list(built.values())
        if "node" in wanted and offered["node"]:
            steps.insert(0, offered["node"])
        if "node" in wanted or "kind" in wanted:
            steps.insert(0, "kind")
        planned = build.plan(steps)
        if self._task.check_mode:
            for name in planned:
                self.say(f"would build {build.title(name)}")
        elif planned:
            self.say(f"images come from {source}: {reason}")
            build.ensure(steps)
        images = {name: build.reference(step) for name, step in built.items()}
        images.update({name: image for name, image in offered["published"].items() if name in wanted})
        pushed = {}
        if options["push_registry"]:
            pushed = push.push(
                engine,
                images,
                options["push"],
                options["push_registry"],
                say=self.say,
                check_mode=self._task.check_mode,
            )
            self._show_names({name: item["image"] for name, item in pushed.items()})
        return {
            "changed": bool(planned or installed or any(item["changed"] for item in pushed.values())),
            "source": source,
            "source_reason": reason,
            "engine": engine.name if engine else "",
            "workarounds": engine.workarounds if engine else [],
            "installed": installed,
            "built": planned,
            "images": images,
            "pushed": {name: item["image"] for name, item in pushed.items()},
            "node_image": build.reference(offered["node"]) if offered["node"] else "",
            "kind": str(build.output("kind") / "kind"),
            "versions": options["versions"],
            "programs": self._programs(build, offered, options["extra"]),
        }

    def _show_names(self, pushed: dict[str, str]) -> None:
        """Show the names of pushed images as lines to copy: the digits that a tag ends in cannot be guessed."""
        if not pushed:
            return
        self.say("for the inventory:")
        for line in push.inventory_lines(pushed):
            local_action.display.display(f"      {line}")

    @staticmethod
    def _programs(build: building.Builder, offered: dict[str, Any], extra: list[str]) -> dict[str, str]:
        """Programs for users and tests, by name: those that the source's steps make anyway."""
        programs = {"kind": str(build.output("kind") / "kind")}
        if offered["node"]:
            programs["kubectl"] = str(build.output("kubernetes") / "kubectl")
            programs["kubeseal"] = str(build.output("sealed-secrets-programs") / "kubeseal")
        if "vault" in extra:
            programs["vault"] = str(build.output("vault-server") / "vault")
            programs["vault-plugin-auth-kubernetes"] = str(
                build.output("vault-auth-kubernetes") / "vault-plugin-auth-kubernetes"
            )
        return programs

    def _source(self, options: dict[str, Any], cache: Path) -> tuple[str, str]:
        """registry or packages, and why."""
        if options["source"] != "auto":
            return options["source"], f"images_source is {options['source']}"
        note = cache / "source.json"
        try:
            known = json.loads(note.read_text(encoding="utf-8"))
            return known["source"], f"{known['reason']} (found out on {known['when']}; images_source overrides)"
        except (OSError, ValueError, KeyError):
            pass
        answers = machine.registries_answer(options["registries"])
        silent = [reason for reason in answers.values() if reason]
        source = "packages" if silent else "registry"
        reason = f"no answer from {'; '.join(silent)}" if silent else f"{' and '.join(answers)} answer"
        if not self._task.check_mode:
            cache.mkdir(parents=True, exist_ok=True)
            content = {"source": source, "reason": reason, "when": time.strftime("%Y-%m-%d")}
            note.write_text(json.dumps(content) + "\n", encoding="utf-8")
        return source, reason

    def _install(self, options: dict[str, Any], source: str) -> list[str]:
        """Install the Debian packages that are missing and return their names."""
        missing = []
        try:
            machine.find_engine(options["engine"], options["engine_url"], options["cache_directory"])
        except machine.MachineError:
            # An engine that is there but does not work is not repaired by installing it again.
            if options["engine"] == "docker" or options["engine_url"] or shutil.which("podman"):
                raise
            missing += options["system_packages"].get("engine", [])
        for program, packages in options["system_packages"].get(source, {}).items():
            if shutil.which(program) is None:
                missing += packages
        if not missing:
            return []
        command = machine.install_command(missing)
        if shutil.which("apt-get") is None:
            raise machine.MachineError(
                f"this machine lacks {', '.join(missing)} (Debian's names): install them, then run this again"
            )
        privilege = machine.privilege()
        if privilege is None:
            raise machine.MachineError(
                f"this machine lacks {', '.join(missing)}. Run this, then the playbook again: sudo sh -c '{command}'"
            )
        if self._task.check_mode:
            self.say(f"would install {', '.join(missing)}")
            return missing
        self.say(f"installing {', '.join(missing)} ({'as root' if not privilege else 'by sudo'}) ...")
        started = time.monotonic()
        code, out, err = machine.capture([*privilege, "sh", "-c", command], timeout=1200)
        if code != 0:
            tail = "\n".join((out + err).splitlines()[-building.TAIL :])
            raise machine.MachineError(f"installing {', '.join(missing)} failed; the end of its output:\n{tail}")
        os.environ["PATH"] += os.pathsep + "/usr/sbin"
        self.say(f"installed {', '.join(missing)} in {building.duration(time.monotonic() - started)}")
        return missing
