#!/usr/bin/python
# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module C(manifests_export)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: manifests_export
short_description: Writes manifests to a folder for GitOps, sealed ones in place of Secrets
version_added: 0.1.0
author: mlops.mlflow maintainers (@mlops-mlflow)
description:
  - Writes a file for each object, in a folder for each namespace, with a C(kustomization.yaml) in each folder and on
    top, so that C(kubectl apply -k), Argo CD or Flux can apply them. Objects without a namespace are in C(_cluster).
  - In place of each Secret it writes the SealedSecret or ExternalSecret of the same name, as it is in the cluster.
    Where a Secret has neither, it fails before anything is written. It never reads a Secret, and refuses to write one.
  - The same input gives the same bytes. A file is written only if it differs, and as a whole or not at all, so that
    an interrupted run can be repeated.
  - A file of an earlier export that is no longer needed is removed. Such a file is identified by its first line; files
    without that line are the user's own and stay. If one has the path of an exported file, the module fails first.
options:
  directory:
    description:
      - The folder, which is created if missing.
      - A relative path begins at the playbook's folder if the connection is local; Ansible decides that.
    type: path
    required: true
  manifests:
    description: The objects, in the order in which they are to be applied.
    type: list
    elements: dict
    required: true
  secrets:
    description: The Secrets that the objects need.
    type: list
    elements: dict
    default: []
    suboptions:
      namespace:
        description: Namespace of the Secret.
        type: str
        required: true
      name:
        description: Name of the Secret.
        type: str
        required: true
      existing:
        description: Whether the Secret is an existing one. It is named in RV(prerequisites) then, and not exported.
        type: bool
        default: false
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - mlops.mlflow.api
attributes:
  check_mode:
    description: Reports which files would be written and removed.
    support: full
  diff_mode:
    description: Shows the files, in which values are sealed.
    support: full
"""

EXAMPLES = r"""
- name: Export a namespace and its password for git
  mlops.mlflow.manifests_export:
    kubeconfig: "{{ kubeconfig_path }}"
    directory: /srv/gitops/reports
    manifests:
      - apiVersion: v1
        kind: Namespace
        metadata:
          name: reports
      - apiVersion: v1
        kind: ConfigMap
        metadata:
          name: settings
          namespace: reports
        data:
          language: en
    secrets:
      - namespace: reports
        name: database
  register: exported

- name: Show what has to be there before the export is applied
  ansible.builtin.debug:
    var: exported.prerequisites
"""

RETURN = r"""
directory:
  description: The folder as an absolute path.
  returned: success
  type: str
  sample: /home/ada/gitops
files:
  description: All files of the export by their paths within the folder, in the order of the kustomization files.
  returned: success
  type: list
  elements: str
  sample: [kustomization.yaml, mlflow/kustomization.yaml, mlflow/namespace-mlflow.yaml]
written:
  description: Those of them that were written, since they were missing or different.
  returned: success
  type: list
  elements: str
removed:
  description: Files of an earlier export that were removed.
  returned: success
  type: list
  elements: str
prerequisites:
  description: What the objects need and the export does not hold, existing Secrets, namespaces and priority classes.
  returned: success
  type: list
  elements: str
  sample: [Secret mlflow/registry]
"""

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.client import (
    Api,
    KubeError,
    auth_argument_spec,
    connect,
    quoted,
    unmask,
)
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.manifest import dump

# The first lines by which a later export knows its own files.
# Folders of former versions are identified by these words.
FILE_MARK = "# Written by mlops.mlflow.export: the next one writes it anew, so change the inventory instead."
STACK_MARK = (
    "# Written by mlops.mlflow.export: a whole stack. To add to it, name this folder in a kustomization.yaml of yours."
)
KUSTOMIZATION = "kustomization.yaml"
CLUSTER = "_cluster"  # no namespace can be called so
UNSAFE = re.compile(r"[^a-z0-9.-]+")
LONGEST_NAME = 200  # characters of a file's name; file systems take 255
WORKLOADS = ("CronJob", "DaemonSet", "Deployment", "Job", "Pod", "ReplicaSet", "ServiceAccount", "StatefulSet")
# What GitOps tools write on objects that they have taken over: another cluster's tool writes its own.
TRACKING = ("kubectl.kubernetes.io/last-applied-configuration", "argocd.argoproj.io/", "kustomize.toolkit.fluxcd.io/")


class ExportError(Exception):
    """Why the export cannot be, in one sentence."""


@dataclass
class Form:
    """A kind of object that replaces a Secret: where it is, and which condition says that it does its work."""

    kind: str
    path: str
    condition: str


FORMS = (
    Form("SealedSecret", "/apis/bitnami.com/v1alpha1/namespaces/{}/sealedsecrets/{}", "Synced"),
    Form("ExternalSecret", "/apis/external-secrets.io/v1/namespaces/{}/externalsecrets/{}", "Ready"),
)


# --- objects ----------------------------------------------------------------------------------------------------------


def title(thing: dict[str, Any]) -> str:
    """Name an object for a user."""
    namespace = thing["metadata"].get("namespace")
    return f"{thing['kind']} {namespace + '/' if namespace else ''}{thing['metadata']['name']}"


def check(manifests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give the objects, each once, after a look at what they are.

    Raises:
        ExportError: One is no object, a Secret, or given again and different.
    """
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for number, each in enumerate(manifests, 1):
        metadata = each.get("metadata")
        if not each.get("apiVersion") or not each.get("kind") or not isinstance(metadata, dict):
            raise ExportError(f"entry {number} of manifests lacks apiVersion, kind or metadata")
        if not metadata.get("name"):
            raise ExportError(f"entry {number} of manifests, of kind {each['kind']}, lacks metadata.name")
        if each["kind"] == "Secret" or each["kind"].endswith("List"):
            raise ExportError(f"{title(each)} must not be among manifests: name Secrets in secrets, and no lists")
        group = each["apiVersion"].rpartition("/")[0]
        if found.setdefault((group, each["kind"], title(each)), each) != each:
            raise ExportError(f"{title(each)} is in manifests more than once, with different contents")
    return list(found.values())


def own(thing: dict[str, Any]) -> dict[str, Any]:
    """Give an object without what the cluster and the tools on it have written."""
    metadata = thing["metadata"]
    kept: dict[str, Any] = {"name": metadata["name"], "namespace": metadata["namespace"]}
    for field in ("labels", "annotations"):
        marks = {key: value for key, value in (metadata.get(field) or {}).items() if not key.startswith(TRACKING)}
        if marks:
            kept[field] = dict(sorted(marks.items()))
    return {"apiVersion": thing["apiVersion"], "kind": thing["kind"], "metadata": kept, "spec": thing["spec"]}


def stand_in(api: Api, namespace: str, name: str) -> dict[str, Any] | None:
    """Give the SealedSecret or ExternalSecret of a Secret; None where it has neither.

    Raises:
        ExportError: It is there, but does not do its work.
    """
    for form in FORMS:
        found = api.find(form.path.format(quoted(namespace), quoted(name)))
        if found is None:
            continue
        conditions = (found.get("status") or {}).get("conditions") or []
        state: dict[str, Any] = next((each for each in conditions if each.get("type") == form.condition), {})
        if state.get("status") != "True":
            message = " ".join(str(state.get("message") or state.get("reason") or "it was not processed yet").split())
            raise ExportError(
                f"{form.kind} {namespace}/{name} does not deliver its Secret ({form.condition} is "
                f"{state.get('status') or 'not set'}: {message}): run site.yml until it does, then export again"
            )
        return own(found)
    return None


def stand_ins(api: Api, secrets: list[tuple[str, str]]) -> list[dict[str, Any]]:
    """Give what replaces the Secrets.

    Args:
        secrets: Namespace and name of each.

    Raises:
        ExportError: Some have nothing that could.
    """
    found = {place: stand_in(api, *place) for place in secrets}
    bare = [f"{namespace}/{name}" for (namespace, name), thing in found.items() if thing is None]
    if bare:
        more = f" (and {len(bare) - 1} more)" if len(bare) > 1 else ""
        raise ExportError(
            f"Secret {bare[0]}{more} has no SealedSecret or ExternalSecret that could stand for it: set "
            "platform_secrets_backend to sealed_secrets (or to vault, with vault_delivery external_secrets), "
            "run site.yml, and export again"
        )
    return [thing for thing in found.values() if thing is not None]


def references(value: Any) -> Iterator[str]:
    """Give the names of the Secrets that a part of a pod's specification cannot do without."""
    if isinstance(value, list):
        for each in value:
            yield from references(each)
    elif isinstance(value, dict):
        for key, inner in value.items():
            if key in ("secretKeyRef", "secretRef", "secret") and isinstance(inner, dict):
                if not inner.get("optional"):
                    yield inner.get("secretName") or inner.get("name") or ""
            elif key == "imagePullSecrets":
                yield from (each.get("name", "") for each in inner or [])
            else:
                yield from references(inner)


def priorities(value: Any) -> Iterator[str]:
    """Name the priority classes of pods below a value, without those that each cluster has."""
    if isinstance(value, list):
        for each in value:
            yield from priorities(each)
    elif isinstance(value, dict):
        name = value.get("priorityClassName")
        if isinstance(name, str) and name and not name.startswith("system-"):
            yield name
        for inner in value.values():
            yield from priorities(inner)


def prerequisites(things: list[dict[str, Any]], secrets: list[tuple[str, str]]) -> list[str]:
    """Name what objects need and do not hold: Secrets that are not ours, namespaces, and priority classes.

    Args:
        secrets: Namespace and name of those that are.
    """
    needed = set()
    namespaces = {each["metadata"]["name"] for each in things if each["kind"] == "Namespace"}
    # cert-manager makes those of Certificates.
    issued = [each for each in things if each["kind"] == "Certificate"]
    known = {*secrets, *((each["metadata"]["namespace"], each["spec"]["secretName"]) for each in issued)}
    for each in things:
        namespace = each["metadata"].get("namespace")
        if namespace and namespace not in namespaces:
            needed.add(f"Namespace {namespace}")
        if each["kind"] in WORKLOADS:
            needed |= {f"Secret {namespace}/{name}" for name in references(each) if (namespace, name) not in known}
            needed |= {f"PriorityClass {name}" for name in priorities(each)}
    return sorted(needed)


# --- files ------------------------------------------------------------------------------------------------------------


def file_names(things: list[dict[str, Any]]) -> list[str]:
    """Give the objects of one folder a file each, named by kind and name; names that would be the same get a hash."""
    names = []
    for each in things:
        name = f"{each['kind']}-{each['metadata']['name']}".lower()
        names.append(UNSAFE.sub("-", name)[:LONGEST_NAME])
    distinct = []
    for name, each in zip(names, things, strict=True):
        identity = f"{each['apiVersion']}/{each['kind']}/{each['metadata']['name']}"
        suffix = f"-{hashlib.sha256(identity.encode()).hexdigest()[:8]}" if names.count(name) > 1 else ""
        distinct.append(f"{name}{suffix}.yaml")
    return distinct


def kustomization(mark: str, resources: list[str], notes: tuple[str, ...] | list[str] = ()) -> str:
    """Give a kustomization.yaml with comments below its first line."""
    thing = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": resources}
    return "\n".join([mark, *(f"# {note}" for note in notes), "---", dump(thing)])


def place_of(thing: dict[str, Any]) -> str:
    """Name the folder of an object: its namespace, which a Namespace is itself."""
    metadata = thing["metadata"]
    return metadata.get("namespace") or (metadata["name"] if thing["kind"] == "Namespace" else CLUSTER)


def rank(thing: dict[str, Any]) -> int:
    """Say how early an object comes: what others are in or of, then what replaces Secrets, then the rest."""
    if thing["kind"] in ("Namespace", "CustomResourceDefinition"):
        return 0
    return 1 if thing["kind"] in [form.kind for form in FORMS] else 2


def layout(things: list[dict[str, Any]], needed: list[str]) -> dict[str, str]:
    """Give the content of all files of the export by their paths, in the order in which they are listed."""
    folders: dict[str, list[dict[str, Any]]] = {}
    for each in things:
        folders.setdefault(place_of(each), []).append(each)
    for inside in folders.values():
        inside.sort(key=rank)
    names = sorted(folders, key=lambda name: name != CLUSTER)
    notes = [f"Not in here, and needed beforehand: {each}" for each in needed]
    files = {KUSTOMIZATION: kustomization(STACK_MARK, names, notes)}
    for folder in names:
        listed = file_names(folders[folder])
        files[f"{folder}/{KUSTOMIZATION}"] = kustomization(FILE_MARK, listed)
        for name, each in zip(listed, folders[folder], strict=True):
            files[f"{folder}/{name}"] = f"{FILE_MARK}\n---\n{dump(each)}"
    return files


class Folder:
    """The folder that an export is written to.

    Args:
        path: Where it is; it need not be there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @staticmethod
    def _mark(path: Path) -> str:
        """Give the first line of a file of ours, and nothing for any other."""
        if path.is_symlink():
            return ""
        with path.open("rb") as stream:
            line = stream.readline(len(STACK_MARK) + 2).rstrip(b"\r\n").decode("utf-8", "replace")
        return line if line in (FILE_MARK, STACK_MARK) else ""

    def _text(self, relative: str) -> str | None:
        """Give what is in a file; None where it is not there, or cannot be ours."""
        path = self._path / relative
        return path.read_bytes().decode("utf-8", "replace") if path.is_file() and not path.is_symlink() else None

    def check(self, files: dict[str, str]) -> None:
        """Check that only files of an earlier export are in the way.

        Raises:
            ExportError: A file or folder of the user's own is.
        """
        for relative, content in files.items():
            path = self._path / relative
            for folder in (self._path, path.parent):
                if (folder.exists() or folder.is_symlink()) and not folder.is_dir():
                    raise ExportError(f"{folder} is no folder: move it, or choose another platform_export_directory")
            there = path.exists() or path.is_symlink()
            if there and (not path.is_file() or self._mark(path) != content.partition("\n")[0]):
                raise ExportError(
                    f"{path} is there and is not of an export to this folder: move it, or choose another "
                    "platform_export_directory"
                )

    def differing(self, files: dict[str, str]) -> dict[str, tuple[str, str]]:
        """Give the files that are to be written, each with what is there and what shall be."""
        before = {relative: self._text(relative) for relative in files}
        return {
            relative: (before[relative] or "", text) for relative, text in files.items() if before[relative] != text
        }

    def stale(self, files: dict[str, str]) -> dict[str, str]:
        """Give the files of an earlier export that no longer belong, with their contents."""
        if not self._path.is_dir():
            return {}
        found: dict[str, str] = {}
        for folder in sorted(self._path.iterdir()):
            if folder.name.startswith(".") or folder.is_symlink() or not folder.is_dir():
                continue
            for path in sorted(folder.glob("*.yaml")):
                relative = f"{folder.name}/{path.name}"
                # One that begins with a dot was left by a run that was killed. Another stack's export within this one's
                # folder has a top with another mark, and all else deeper down.
                if relative not in files and path.is_file() and self._mark(path) == FILE_MARK:
                    found[relative] = path.read_bytes().decode("utf-8", "replace")
        return found

    def write(self, relative: str, text: str) -> None:
        """Write a file, as a whole or not at all."""
        path = self._path / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}")
        part.write_bytes(text.encode())
        os.replace(part, path)

    def remove(self, relative: str) -> None:
        """Remove a file, and its folder where that was the last one."""
        path = self._path / relative
        path.unlink(missing_ok=True)
        if not any(path.parent.iterdir()):
            path.parent.rmdir()


# --- the module -------------------------------------------------------------------------------------------------------

ARGUMENT_SPEC: dict[str, Any] = {
    "directory": {"type": "path", "required": True},
    "manifests": {"type": "list", "elements": "dict", "required": True},
    "secrets": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "no_log": False,
        "options": {
            "namespace": {"type": "str", "required": True},
            "name": {"type": "str", "required": True},
            "existing": {"type": "bool", "default": False},
        },
    },
}


def export(module: AnsibleModule) -> dict[str, Any]:
    """Do what the module is for, and give its result.

    Raises:
        ExportError, KubeError, OSError: It cannot be.
    """
    if not module.params["directory"]:
        raise ExportError("directory (platform_export_directory) is empty: name a folder")
    manifests = check(module.params["manifests"])
    places = [((each["namespace"], each["name"]), each["existing"]) for each in module.params["secrets"]]
    ours = list(dict.fromkeys(place for place, existing in places if not existing))
    things = [*manifests, *(stand_ins(connect(module.params), ours) if ours else [])]
    foreign = {f"Secret {place[0]}/{place[1]}" for place, existing in places if existing and place not in ours}
    needed = sorted({*prerequisites(things, ours), *foreign})
    files = layout(things, needed)
    path = Path(os.path.abspath(module.params["directory"]))
    folder = Folder(path)
    folder.check(files)
    written, removed = folder.differing(files), folder.stale(files)
    if not module.check_mode:
        for relative, (_before, text) in written.items():
            folder.write(relative, text)
        for relative in removed:
            folder.remove(relative)
    differences = {**written, **{relative: (text, "") for relative, text in removed.items()}}
    return {
        "changed": bool(differences),
        "directory": str(path),
        "files": list(files),
        "written": list(written),
        "removed": list(removed),
        "prerequisites": needed,
        "diff": [
            {"before_header": relative, "after_header": relative, "before": before, "after": after}
            for relative, (before, after) in differences.items()
        ],
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec={**auth_argument_spec(), **ARGUMENT_SPEC}, supports_check_mode=True)
    unmask(module)
    try:
        result = export(module)
    except (ExportError, KubeError) as error:
        module.fail_json(msg=f"The stack is not exported: {error}")
    except OSError as error:
        what = error.filename or module.params["directory"]
        module.fail_json(
            msg=f"The stack is not exported: {what} cannot be used ({error.strerror}), repair that and run it again"
        )
    module.exit_json(**result)


if __name__ == "__main__":
    main()
