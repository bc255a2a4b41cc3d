# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action plugin of sealing_keys: the keys go between the API server and the file within this process."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any, ClassVar

from ansible.errors import AnsibleActionFail
from ansible.parsing.vault import VaultSecretsContext
from ansible.utils.display import Display
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.client import Api, KubeError, auth_argument_spec
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.secret_store import KubernetesStore
from ansible_collections.mlops.mlflow.plugins.module_utils.sealing.controller import BACKED_UP
from ansible_collections.mlops.mlflow.plugins.plugin_utils import local_action, sealing_keys
from ansible_collections.mlops.mlflow.plugins.plugin_utils.sealing_keys import VARIABLE, SealingKey, SealingKeysError

display = Display()


class ActionModule(local_action.LocalAction):
    """Backs the sealing keys up, or brings them back."""

    ARGUMENTS: ClassVar[dict[str, Any]] = {
        **auth_argument_spec(),
        "state": {"type": "str", "choices": ["exported", "imported"], "required": True},
        "path": {"type": "path", "required": True},
        "vault_id": {"type": "str", "default": ""},
        "namespace": {"type": "str", "default": "sealed-secrets"},
        "namespace_labels": {"type": "dict", "default": {}},
        "controller_name": {"type": "str", "default": "sealed-secrets-controller"},
        "wait": {"type": "bool", "default": True},
        "wait_timeout": {"type": "int", "default": 120},
    }
    ERRORS = (SealingKeysError,)
    ELSEWHERE = "the file of the sealing keys is on the control node"

    def act(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Export or import."""
        path = _place(options["path"], task_vars)
        context = VaultSecretsContext.current(optional=True)
        backup = sealing_keys.Backup(path, list(context.secrets or []) if context else [], options["vault_id"])
        doing = "backed up" if options["state"] == "exported" else "restored"
        try:
            api = self.connect(options)
            if options["state"] == "exported":
                return self._export(api, options, backup)
            return self._import(api, options, backup)
        except KubeError as error:
            raise SealingKeysError(f"The sealing keys are not {doing}: {error}") from None
        except SealingKeysError:
            raise
        except Exception as error:  # whatever else: its message may hold a key
            raise AnsibleActionFail(
                f"The sealing keys are not {doing}: {type(error).__name__}, not shown since it may hold a key"
            ) from None

    # --- to the file

    def _export(self, api: Api, options: dict[str, Any], backup: sealing_keys.Backup) -> dict[str, Any]:
        backup.check_writable()
        backup.closing()
        keys = sealing_keys.Keys(api, options["namespace"])
        found, broken = keys.find()
        for sentence in broken:
            display.warning(f"not backed up: {sentence}")
        if not found:
            raise SealingKeysError(self._nothing(options, backup))
        if not self._task.check_mode:
            backup.make_folder()
        with backup.locked():
            before = backup.read() or []
            now = sealing_keys.timestamp()
            after = sealing_keys.merged(before, found, backup.where, now)
            changed = after != before
            if changed and not self._task.check_mode:
                backup.write(after)
        known = {key.name: key for key in before}
        noted = {key.name: key.annotations.get(BACKED_UP, now) for key in after}
        # Noted only once it is true; a key of which an earlier run could not note it is noted now.
        unnoted = [key for key in found if key.name not in known or BACKED_UP not in key.annotations]
        for key in unnoted:
            if not self._task.check_mode:
                keys.note(key.name, noted[key.name])
        there = {key.name for key in found}
        added = sorted(there - set(known))
        if added:
            self.say(f"{self._number(added)} added to {backup.path}")
        return {
            "changed": changed or bool(unnoted),
            "path": str(backup.path),
            "sealing_keys": _shown(after),
            "added": added,
            "kept": sorted(there & set(known)),
            "only_in_backup": sorted(set(known) - there),
            **self._difference(str(backup.path), before, after),
        }

    @staticmethod
    def _nothing(options: dict[str, Any], backup: sealing_keys.Backup) -> str:
        """Why there is nothing to back up."""
        sentence = (
            f"namespace {options['namespace']} of the cluster holds no sealing keys: set sealed_secrets_namespace to "
            "the controller's, and run site.yml first"
        )
        kept = backup.read()
        if kept:
            sentence += (
                f". {VARIABLE} '{backup.path}' still holds {len(kept)}: playbooks/sealing_keys_restore.yml brings them "
                "back"
            )
        return sentence

    # --- to the cluster

    def _import(self, api: Api, options: dict[str, Any], backup: sealing_keys.Backup) -> dict[str, Any]:
        kept = backup.read()
        if kept is None:
            raise SealingKeysError(f"{VARIABLE} is '{backup.path}': there is no such file")
        namespace = options["namespace"]
        store = KubernetesStore(api)
        has_namespace = store.has_namespace(namespace)
        keys = sealing_keys.Keys(api, namespace)
        before, broken = keys.find() if has_namespace else ([], [])
        for sentence in broken:
            display.warning(sentence)
        present = {key.content for key in before}
        missing = []
        for key in kept:
            secret = keys.get(key.name) if has_namespace else None
            if secret is not None:
                sealing_keys.check_same(key, secret, namespace)
            elif key.content not in present:  # it may be there under another name
                missing.append(key)
        if missing and not self._task.check_mode:
            if not has_namespace:
                labels = {label: str(value) for label, value in options["namespace_labels"].items()}
                store.create_namespace(namespace, labels)
            now = sealing_keys.timestamp()
            for key in missing:
                keys.create(key, now)
        restarted = self._restart(api, options, keys, missing)
        if missing:
            self.say(f"{self._number(missing)} restored in namespace {namespace}")
        after = sealing_keys.in_order([*before, *missing])
        return {
            "changed": bool(missing) or restarted,
            "path": str(backup.path),
            "sealing_keys": _shown(after),
            "added": sorted(key.name for key in missing),
            "kept": sorted({key.name for key in kept} - {key.name for key in missing}),
            "restarted": restarted,
            "namespace_created": bool(missing) and not has_namespace,
            **self._difference(f"sealing keys in namespace {namespace}", before, after),
        }

    def _restart(self, api: Api, options: dict[str, Any], keys: sealing_keys.Keys, missing: list[SealingKey]) -> bool:
        """Have the controller read the keys, which it does at its start only; whether it had to."""
        workload = sealing_keys.Workload(api, options["namespace"], options["controller_name"])
        if not workload.there:
            return False  # it begins with them
        if self._task.check_mode:
            return bool(missing) or workload.misses(keys.restored())
        if not workload.misses(keys.restored()) and not missing:
            return False
        found, _broken = keys.find()
        self.say(f"the controller {options['controller_name']} starts again, to read them ...")
        old = workload.restart()
        if options["wait"]:
            workload.wait(old, {key.certificate.fingerprint for key in found}, options["wait_timeout"])
        return True

    def _number(self, keys: Collection[Any]) -> str:
        """The beginning of a sentence on so many keys."""
        verb = "would be" if self._task.check_mode else "is" if len(keys) == 1 else "are"
        return f"{len(keys)} sealing {'key' if len(keys) == 1 else 'keys'} {verb}"

    def _difference(self, header: str, before: list[SealingKey], after: list[SealingKey]) -> dict[str, Any]:
        """Ansible's form of a difference: names, dates and fingerprints."""
        if not self._task.diff:
            return {}
        lines = ["".join(key.line() for key in keys) for keys in (before, after)]
        return {
            "diff": {"before_header": header, "after_header": header, "before": lines[0], "after": lines[1]},
        }


def _place(text: str, task_vars: dict[str, Any]) -> Path:
    """Where the file is: beside the caller if the path is relative, and never where Ansible looks for variables.

    Ansible opens every file in a folder that is an inventory, and shows lines of those that it can't make sense of.
    """
    path = Path(os.path.realpath(os.path.abspath(text)))
    folders = []
    for source in task_vars.get("ansible_inventory_sources") or []:
        inventory = Path(os.path.realpath(str(source)))
        folders += [inventory] if inventory.is_dir() else []
        beside = inventory if inventory.is_dir() else inventory.parent
        folders += [beside / "group_vars", beside / "host_vars"]
    if task_vars.get("playbook_dir"):
        beside = Path(os.path.realpath(str(task_vars["playbook_dir"])))
        folders += [beside / "group_vars", beside / "host_vars"]
    for folder in folders:
        if path.is_relative_to(folder):
            raise SealingKeysError(
                f"{VARIABLE} is '{path}': Ansible reads every file in {folder} as inventory or variables, "
                "so choose another folder"
            )
    return path


def _shown(keys: list[SealingKey]) -> list[dict[str, Any]]:
    """What may be shown of keys."""
    return [
        {
            "name": key.name,
            "state": key.state,
            "fingerprint": key.certificate.fingerprint,
            "not_before": sealing_keys.timestamp(key.certificate.not_before),
            "not_after": sealing_keys.timestamp(key.certificate.not_after),
            "backed_up": key.annotations.get(BACKED_UP, ""),
        }
        for key in keys
    ]
