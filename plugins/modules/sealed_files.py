#!/usr/bin/python
# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module C(sealed_files)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: sealed_files
short_description: Seals the files of a directory again with the newest certificate, without reading their values
version_added: 0.1.0
author: mlops.mlflow maintainers (@mlops-mlflow)
description:
  - Has the controller seal every SealedSecret in a directory tree again, after it created a new sealing key. No value
    leaves the controller.
  - In a file only the sealed values are replaced, and everything else stays, including comments. If they cannot be
    replaced alone, since they are on several lines, the whole file is rewritten without its comments.
  - A file is replaced as a whole or not at all. One that the controller cannot open stays as it is; the others are
    sealed again, and then the module fails with its name.
  - If the cluster's SealedSecret has the same sealed values as the file, it gets the new ones too.
  - A sealed value does not show which certificate sealed it. So a file C(.resealed) in O(directory) records which
    certificate was the newest when the module last sealed which values; commit it with the files. A file that is not
    recorded there is sealed again, which is harmless.
  - Files without a SealedSecret, symbolic links, and names that begin with a dot are ignored.
options:
  directory:
    description: The directory. Files whose names end in C(.yaml), C(.yml) or C(.json) are read.
    type: path
    required: true
  apply:
    description: Whether SealedSecrets in the cluster with the same sealed values as a file get the new ones too.
    type: bool
    default: true
  controller_namespace:
    description: Namespace of the controller.
    type: str
    default: sealed-secrets
  controller_name:
    description: Name of the controller's Service.
    type: str
    default: sealed-secrets-controller
  wait_timeout:
    description: Seconds to wait for the controller to unseal one in the cluster.
    type: int
    default: 60
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - mlops.mlflow.api
requirements:
  - cryptography
attributes:
  check_mode:
    description: Reports which files would be sealed again, and which the controller cannot open.
    support: full
  diff_mode:
    description: Shows the names of files.
    support: full
seealso:
  - module: mlops.mlflow.sealed_secret
"""

EXAMPLES = r"""
- name: Seal all files again after the controller has renewed its key
  mlops.mlflow.sealed_files:
    directory: sealed
  register: resealed

- name: Show which ones
  ansible.builtin.debug:
    msg: "Commit {{ resealed.resealed | join(', ') }}"
"""

RETURN = r"""
certificate:
  description: SHA-256 of the controller's newest certificate.
  returned: always, unless it could not be fetched
  type: str
resealed:
  description: Files that were sealed again, relative to the directory.
  returned: always, unless the certificate could not be fetched
  type: list
  elements: str
unchanged:
  description: Files that the newest certificate had sealed already.
  returned: always, unless the certificate could not be fetched
  type: list
  elements: str
applied:
  description: SealedSecrets in the cluster that got the new sealed values, as namespace/name.
  returned: always, unless the certificate could not be fetched
  type: list
  elements: str
rewritten:
  description: Those of O(ignore:resealed) that had to be written again, and lost their comments.
  returned: always, unless the certificate could not be fetched
  type: list
  elements: str
failed_files:
  description: Files that could not be sealed again, and why, in a sentence each.
  returned: always, unless the certificate could not be fetched
  type: list
  elements: str
"""

import json
import os
from dataclasses import dataclass, field
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.mlflow.plugins.module_utils.changes import Changes
from ansible_collections.mlops.mlflow.plugins.module_utils.credentials.supplied import WrongInputError
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.client import (
    ApiError,
    KubeError,
    auth_argument_spec,
    connect,
    unmask,
)
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.manifest import parse
from ansible_collections.mlops.mlflow.plugins.module_utils.sealing import files as sealed_files
from ansible_collections.mlops.mlflow.plugins.module_utils.sealing.controller import SERVICE, Controller
from ansible_collections.mlops.mlflow.plugins.module_utils.sealing.crypto import (
    CLUSTER_WIDE,
    KIND,
    SealingError,
    bare,
    dump,
    load,
    scope_of,
)

ENDS = (".yaml", ".yml", ".json")


@dataclass
class ResealResult:
    """What was done to the files of a directory."""

    certificate: str = ""
    resealed: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    applied: list[str] = field(default_factory=list)
    rewritten: list[str] = field(default_factory=list)
    failed_files: list[str] = field(default_factory=list)
    noted: bool = False

    @property
    def changed(self) -> bool:
        """Whether anything was written."""
        return bool(self.resealed or self.applied or self.noted)


def sealed_of(text: str, where: str) -> list[dict[str, Any]]:
    """Give the SealedSecrets of a file; none where it is something else.

    Raises:
        SealingError: It seems to hold one, and cannot be read.
    """
    try:
        documents = parse(text)
    except Exception:  # of many kinds
        if KIND in text:
            raise SealingError(f"{where} is no YAML") from None
        return []  # such as a chart's template
    # The same way as a file with one is read, for the same checks.
    return [
        load(_as_json(each, where), where) for each in documents if isinstance(each, dict) and each.get("kind") == KIND
    ]


def _as_json(document: dict[str, Any], where: str) -> str:
    try:
        return json.dumps(document)
    except (TypeError, ValueError, RecursionError):
        raise SealingError(f"{where} is no YAML that Kubernetes takes") from None


def replaced(text: str, old: list[dict[str, Any]], new: list[dict[str, Any]], where: str) -> tuple[str, bool]:
    """Put other sealed values into the text of a file; also says whether it had to be written again for it.

    Raises:
        SealingError: It cannot be done.
    """
    changed = text
    for before, after in zip(old, new, strict=True):
        for key, value in before["spec"]["encryptedData"].items():
            changed = changed.replace(value, after["spec"]["encryptedData"][key])
    if [bare(each) for each in sealed_of(changed, where)] == [bare(each) for each in new]:
        return changed, False
    if len(parse(text)) != 1:
        raise SealingError(f"{where} holds several objects, with sealed values on several lines: put each into its own")
    return dump(new[0]) if not where.endswith(".json") else json.dumps(bare(new[0]), indent=2) + "\n", True


class Resealer:
    """Seals the files of a directory again.

    Args:
        directory: Where they are.
        controller: Who seals.
        apply: Whether the cluster gets the same.
        check_mode: Whether to write nothing.
    """

    def __init__(self, directory: str, controller: Controller, *, apply: bool, check_mode: bool) -> None:
        self._directory = directory
        self._controller = controller
        self._apply = apply
        self._check_mode = check_mode
        self._index_path = os.path.join(directory, sealed_files.INDEX)
        self._index = {
            name: entry for name, entry in sealed_files.read_json(self._index_path).items() if isinstance(entry, dict)
        }
        self.outcome = ResealResult()

    def run(self) -> None:
        """Seal what is to be sealed.

        Raises:
            KubeError, SealingError: The controller or its certificate is of no use; what is wrong with one file is
                only noted.
        """
        self.outcome.certificate = self._controller.certificate().fingerprint
        seen = set()
        for name in self._names():
            seen.add(name)
            try:
                self._one(name)
            except SealingError as error:
                self.outcome.failed_files.append(str(error))
        gone = set(self._index) - seen
        if gone:
            self._index = {name: entry for name, entry in self._index.items() if name not in gone}
            self._save_index()

    def _names(self) -> list[str]:
        """Give the files to look at, relative to the directory."""
        found = []
        for folder, folders, names in os.walk(self._directory):
            folders[:] = sorted(each for each in folders if not each.startswith("."))
            for name in names:
                path = os.path.join(folder, name)
                if name.endswith(ENDS) and not name.startswith(".") and not os.path.islink(path):
                    found.append(os.path.relpath(path, self._directory))
        return sorted(found)

    def _save_index(self) -> None:
        self.outcome.noted = True
        if not self._check_mode:
            sealed_files.write(self._index_path, sealed_files.text_of(self._index))

    def _one(self, name: str) -> None:
        """Seal one file again.

        Raises:
            SealingError: It cannot be.
        """
        path = os.path.join(self._directory, name)
        text = sealed_files.read(path)
        sealed = sealed_of(text, path) if text is not None and KIND in text else []
        if text is None or not sealed:
            self._forget(name)
            return
        now = [sealed_files.hash_of(each["spec"]["encryptedData"]) for each in sealed]
        entry = self._index.get(name) or {}
        if entry.get("certificate") == self.outcome.certificate and entry.get("sealed") == now:
            if entry.get("replaces"):  # a run was interrupted between the file and the cluster
                self._bring_to_cluster(name, sealed, list(entry["replaces"]))
            self.outcome.unchanged.append(name)
            return
        for each in sealed:
            self._check(each, path)
        if self._check_mode:
            self.outcome.resealed.append(name)
            for each, hashed in zip(sealed, now if self._apply else (), strict=False):
                self._apply_one(each, hashed)
            return
        resealed = [self._controller.reencrypt(each, f"the file {path}") for each in sealed]
        changed, rewritten = replaced(text, sealed, resealed, path)
        # Noted before it is done, so that a run after an interrupted one knows what the cluster is to have.
        hashes = [sealed_files.hash_of(each["spec"]["encryptedData"]) for each in resealed]
        self._index[name] = {"certificate": self.outcome.certificate, "sealed": hashes, "replaces": now}
        self._save_index()
        if len(sealed) == 1:
            old, new = sealed[0]["spec"]["encryptedData"], resealed[0]["spec"]["encryptedData"]
            digests = sealed_files.carry_over(path, old, new)
            if digests is not None:
                sealed_files.write(path + sealed_files.DIGEST, digests)
        sealed_files.write(path, changed)
        self.outcome.resealed.append(name)
        if rewritten:
            self.outcome.rewritten.append(name)
        self._bring_to_cluster(name, resealed, now)

    def _forget(self, name: str) -> None:
        if self._index.pop(name, None) is not None:
            self._save_index()

    def _check(self, sealed: dict[str, Any], path: str) -> None:
        """See that the controller can open a SealedSecret; outside of check mode sealing it again tells.

        Raises:
            SealingError: It cannot.
        """
        if scope_of(sealed) != CLUSTER_WIDE and not sealed["metadata"].get("namespace"):
            raise SealingError(
                f"the file {path} names no namespace, which its scope {scope_of(sealed)} needs: put it into metadata"
            )
        if self._check_mode and not self._controller.opens(sealed):
            raise SealingError(
                f"the file {path} cannot be opened by {self._controller.where}: it was sealed for another name, "
                "namespace or scope, or by a key that this cluster lacks"
            )

    def _bring_to_cluster(self, name: str, sealed: list[dict[str, Any]], before: list[Any]) -> None:
        """Give the cluster the sealed values of a file where it has those of before.

        Args:
            before: A hash of them for each SealedSecret of the file.

        Raises:
            SealingError: The controller refuses them.
        """
        if self._apply:
            for each, hashed in zip(sealed, before, strict=False):
                self._apply_one(each, hashed)
        self._index[name].pop("replaces", None)
        self._save_index()

    def _apply_one(self, sealed: dict[str, Any], before: Any) -> None:
        namespace, name = sealed["metadata"].get("namespace"), sealed["metadata"]["name"]
        live = self._controller.find(namespace, name) if namespace else None
        if live is None or sealed_files.hash_of(live["spec"].get("encryptedData") or {}) != before:
            return
        if not self._check_mode:
            live["spec"]["encryptedData"] = sealed["spec"]["encryptedData"]
            try:
                self._controller.replace(live, live["metadata"]["resourceVersion"])
                self._controller.wait_synced(namespace, name)
            except ApiError as error:
                if error.status not in (404, 409):
                    raise
                raise SealingError(
                    f"SealedSecret {namespace}/{name} was changed by another writer during the resealing: run again"
                ) from None
            except KubeError as error:  # the controller's refusal is about this one only
                raise SealingError(str(error)) from None
        self.outcome.applied.append(f"{namespace}/{name}")


# --- the module -------------------------------------------------------------------------------------------------------

ARGUMENT_SPEC: dict[str, Any] = {
    "directory": {"type": "path", "required": True},
    "apply": {"type": "bool", "default": True},
    "controller_namespace": {"type": "str", "default": "sealed-secrets"},
    "controller_name": {"type": "str", "default": SERVICE},
    "wait_timeout": {"type": "int", "default": 60},
}


def changes_of(outcome: ResealResult) -> Changes:
    """Give what was changed, in names."""
    changes = Changes()
    if outcome.changed:
        after = [
            *(f"{each} (sealed again)" for each in outcome.resealed),
            *map("SealedSecret {}".format, outcome.applied),
        ]
        changes.note_lines("sealed by the newest certificate (names only)", "written", outcome.resealed, after)
    return changes


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec={**auth_argument_spec(), **ARGUMENT_SPEC}, supports_check_mode=True)
    params = module.params
    unmask(module)
    directory = params["directory"]
    try:
        if not os.path.isdir(directory):
            raise WrongInputError(f"directory is '{directory}': there is no such directory")
        if params["wait_timeout"] < 1:
            raise WrongInputError(f"wait_timeout is {params['wait_timeout']}: seconds, at least 1")
        controller = Controller(
            connect(params), params["controller_namespace"], params["controller_name"], timeout=params["wait_timeout"]
        )
        resealer = Resealer(directory, controller, apply=params["apply"], check_mode=module.check_mode)
    except (WrongInputError, KubeError) as error:
        module.fail_json(msg=str(error))
    outcome = resealer.outcome
    stopped = ""
    try:
        resealer.run()
    except (KubeError, SealingError) as error:
        stopped = str(error)
    names = ("certificate", "resealed", "unchanged", "applied", "rewritten", "failed_files")
    result = {name: getattr(outcome, name) for name in names if outcome.certificate}
    changes = changes_of(outcome)
    result.update(changed=bool(changes), diff=changes.diff)
    if stopped:
        module.fail_json(msg=f"The files of {directory} are not all sealed again: {stopped}", **result)
    if outcome.failed_files:
        count = len(outcome.failed_files)
        module.fail_json(
            msg=f"{count} file{'s are' if count > 1 else ' is'} not sealed again: {'; '.join(outcome.failed_files)}",
            **result,
        )
    module.exit_json(**result)


if __name__ == "__main__":
    main()
