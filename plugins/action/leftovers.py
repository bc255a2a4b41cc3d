# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action plugin of leftovers: looks for what a stack once made in a cluster and no longer needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.client import (
    FIELD_MANAGER,
    Api,
    KubeError,
    auth_argument_spec,
)
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.quantity import mebibytes
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.secret_store import CERTIFICATE_NAME
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.workload import claims
from ansible_collections.mlops.mlflow.plugins.module_utils.mlflow.tokens import INSTANCE, KIND, MANAGED_BY
from ansible_collections.mlops.mlflow.plugins.module_utils.sealing.controller import NAMES_ONLY
from ansible_collections.mlops.mlflow.plugins.module_utils.sealing.crypto import API_VERSION as SEALED
from ansible_collections.mlops.mlflow.plugins.plugin_utils.local_action import LocalAction

OURS = f"{MANAGED_BY}={FIELD_MANAGER}"
STACK = "mlops.mlflow/stack"  # annotation of a namespace: the namespaces of the stack that applied it last
JOB = "mlops.mlflow/job"  # label of a Job that is named for its content: what it is for
ENDS = ("Complete", "Failed")
EXTERNAL = "external-secrets.io/v1"
RESTORE = (
    "Python-urllib"  # the field manager of playbooks/restore.yml, which creates Secrets with the labels that they had
)


class Untold(KubeError):
    """Whose something is cannot be told."""


class ActionModule(LocalAction):
    """Lists what is left; changes nothing."""

    ERRORS = (KubeError,)
    ARGUMENTS: ClassVar[dict[str, Any]] = {
        **auth_argument_spec(),
        "stack": {"type": "list", "elements": "str", "required": True},
        "objects": {"type": "list", "elements": "dict", "required": True},
        "secrets": {"type": "list", "elements": "str", "required": True, "no_log": False},
        "used": {"type": "list", "elements": "str", "default": []},
        "pull_secrets": {"type": "list", "elements": "str", "default": [], "no_log": False},
    }

    def act(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """List what is left."""
        look = Look(self.connect(options), options)
        look.namespaces()
        look.volumes()
        look.jobs()
        look.secrets()
        return {"changed": False, "found": look.found, "kept": look.kept}


@dataclass
class Look:
    """A look at what is left.

    Attributes:
        found: What is left, each as the action returns it.
        kept: What may be left but stays, with the reason, as sentences.
    """

    api: Api
    options: dict[str, Any]
    found: list[dict[str, Any]] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    _gone: list[str] = field(default_factory=list)

    def _list(self, path: str, accept: str = "application/json", **query: str) -> list[dict[str, Any]]:
        """List what is not being deleted already."""
        listed = self.api.json("GET", path, query=query, accept=accept).get("items") or []
        return [each for each in listed if not each["metadata"].get("deletionTimestamp")]

    def _add(self, api_version: str, kind: str, thing: dict[str, Any], holds: str = "") -> None:
        namespace, name = thing["metadata"].get("namespace", ""), thing["metadata"]["name"]
        self.found.append(
            {
                "name": "/".join(each for each in (kind.lower(), namespace, name) if each),
                "holds": holds,
                "object": {
                    "apiVersion": api_version,
                    "kind": kind,
                    "metadata": {"name": name, **({"namespace": namespace} if namespace else {})},
                },
            }
        )

    def namespaces(self) -> None:
        """Look for namespaces that were the stack's.

        A namespace has one stack: all of them are recorded on each by the last run. So one that was recorded together
        with a namespace of this stack was of this stack too.

        Raises:
            Untold: The cluster is not as this inventory left it.
        """
        stack = set(self.options["stack"])
        recorded = {
            each["metadata"]["name"]: set((each["metadata"].get("annotations") or {}).get(STACK, "").split())
            for each in self._list("/api/v1/namespaces", accept=NAMES_ONLY, labelSelector=OURS)
        }
        for each in sorted(stack):
            if recorded.get(each) != stack:
                words = ", ".join(sorted(recorded.get(each) or [])) or "no stack"
                raise Untold(
                    f"Namespace {each} is recorded as one of {words}, and this inventory's are "
                    f"{', '.join(sorted(stack))}: run site.yml first, or look whether this is the right inventory"
                )
        others = {name for names in recorded.values() if not names & stack for name in names}
        declared = {each["namespace"] for each in self.options["objects"] if each.get("namespace")}
        declared |= {each.partition("/")[0] for each in self.options["secrets"]}
        for name, names in sorted(recorded.items()):
            if name in stack or (not names and name in declared):
                continue
            if not names:
                self.kept.append(f"namespace/{name}: no stack is recorded on it, so whose it is cannot be told")
            elif not names & stack:
                continue  # another stack's
            elif name in declared or name in self.options["used"] or name in others:
                self.kept.append(f"namespace/{name}: the inventory or another stack still names it")
            else:
                self._namespace(name)

    def _namespace(self, name: str) -> None:
        """Look at what a namespace holds that is left."""
        base = f"/api/v1/namespaces/{name}"
        volumes = self._list(f"{base}/persistentvolumeclaims")
        pods = self._list(f"{base}/pods")
        secrets = self._list(f"{base}/secrets", accept=NAMES_ONLY)
        strangers = [f"volume {each['metadata']['name']}" for each in volumes if not _ours(each)]
        strangers += [f"pod {each['metadata']['name']}" for each in pods if not _ours(each)]
        strangers += [
            f"Secret {each['metadata']['name']}"
            for each in secrets
            if not _made(each) and each["metadata"]["name"] not in self.options["pull_secrets"]
        ]
        self._gone.append(name)
        if strangers:
            self.kept.append(
                f"namespace/{name}: it holds what this collection did not make: {', '.join(sorted(strangers))}"
            )
            return
        words = [f"volume {each['metadata']['name']} of {_size(each)}" for each in volumes]
        words += [f"{len(secrets)} Secrets"] if secrets else []
        words += [f"{len(pods)} pods that run"] if pods else []
        self._add("v1", "Namespace", {"metadata": {"name": name}}, ", ".join(words))

    def _named(self, kind: str, thing: dict[str, Any]) -> bool:
        """Tell whether the inventory names an object, or its owner goes with it."""
        metadata = thing["metadata"]
        if metadata.get("ownerReferences"):
            return True
        return any(
            each["kind"] == kind and each["name"] == metadata["name"] and each.get("namespace") == metadata["namespace"]
            for each in self.options["objects"]
        )

    def volumes(self) -> None:
        """Look for volumes in the stack's namespaces."""
        for namespace in sorted(self.options["stack"]):
            base = f"/api/v1/namespaces/{namespace}"
            used = {name for pod in self._list(f"{base}/pods") for name in claims(pod)}
            for each in self._list(f"{base}/persistentvolumeclaims", labelSelector=OURS):
                if self._named("PersistentVolumeClaim", each):
                    continue
                if each["metadata"]["name"] in used:
                    self.kept.append(f"persistentvolumeclaim/{namespace}/{each['metadata']['name']}: a pod uses it")
                else:
                    self._add("v1", "PersistentVolumeClaim", each, _size(each))

    def jobs(self) -> None:
        """Look for Jobs that have ended, in the stack's namespaces."""
        # Named for their content, which is not known here: all Jobs of the same purpose count as named.
        purposes = {
            f"{each.get('namespace')}/{each['name'].rpartition('-')[0]}"
            for each in self.options["objects"]
            if each["kind"] == "Job"
        }
        for namespace in sorted(self.options["stack"]):
            for each in self._list(f"/apis/batch/v1/namespaces/{namespace}/jobs", labelSelector=OURS):
                purpose = f"{namespace}/{each['metadata']['labels'].get(JOB)}"
                ended = any(one["status"] == "True" and one["type"] in ENDS for one in _conditions(each))
                if ended and purpose not in purposes and not self._named("Job", each):
                    self._add("batch/v1", "Job", each)

    def secrets(self) -> None:
        """Look for Secrets, and what makes them, in any namespace but those that go as a whole."""
        groups = {each["name"] for each in self.api.get("/apis").get("groups") or []}
        kinds = [("v1", "Secret", "/api/v1/secrets")]
        kinds += [
            (version, kind, f"/apis/{version}/{kind.lower()}s")
            for version, kind in ((SEALED, "SealedSecret"), (EXTERNAL, "ExternalSecret"))
            if version.partition("/")[0] in groups
        ]
        instances = {*self.options["stack"], *self._gone}
        for version, kind, path in kinds:
            for each in self._list(path, accept=NAMES_ONLY, labelSelector=f"{OURS},{INSTANCE}"):
                metadata = each["metadata"]
                place = f"{metadata['namespace']}/{metadata['name']}"
                if metadata["labels"][INSTANCE] not in instances or metadata["namespace"] in self._gone:
                    continue
                if KIND in metadata["labels"]:
                    continue  # access.yml deletes what it does not declare any more
                if metadata.get("ownerReferences") or place in self.options["secrets"]:
                    continue
                if not _made(each, by_label=False):
                    self.kept.append(f"{kind.lower()}/{place}: something else has written it too")
                else:
                    self._add(version, kind, each)


def _conditions(job: dict[str, Any]) -> list[dict[str, Any]]:
    """Give the conditions of a Job."""
    return (job.get("status") or {}).get("conditions") or []


def _ours(thing: dict[str, Any]) -> bool:
    """Tell whether an object has the label of the collection."""
    return (thing["metadata"].get("labels") or {}).get(MANAGED_BY) == FIELD_MANAGER


def _made(secret: dict[str, Any], by_label: bool = True) -> bool:
    """Tell whether a Secret is of no use without the collection: it made it alone, or something that it made did."""
    metadata = secret["metadata"]
    if (by_label and _ours(secret)) or metadata.get("ownerReferences"):
        return True
    if CERTIFICATE_NAME in (metadata.get("annotations") or {}):
        return True
    writers = {
        each.get("manager") for each in metadata.get("managedFields") or [] if _writes(each.get("fieldsV1") or {})
    }
    return writers == {FIELD_MANAGER}


def _writes(fields: dict[str, Any]) -> bool:
    """Tell whether these fields are of the content of a Secret, SealedSecret or ExternalSecret."""
    return bool({"f:data", "f:stringData", "f:spec"} & fields.keys())


def _size(claim: dict[str, Any]) -> str:
    """Give the size that a volume claim asks for."""
    return f"{mebibytes(claim['spec']['resources']['requests']['storage']) / 1024:.3g} GiB"
