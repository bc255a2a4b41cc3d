"""A stand-in for the External Secrets operator, which cannot be built here.

It follows the operator's code of 1.3: when it reconciles (the generation, labels or annotations changed), that it adds
a finalizer, that it replaces all keys of a Secret, and what it writes to the status.
"""

import base64
import contextlib
import hashlib
import json

import kubernetes

from tests.lib import servers
from tests.lib import stack as stacks

GROUP, VERSION, PLURAL = "external-secrets.io", "v1", "externalsecrets"
FINALIZER = "externalsecrets.external-secrets.io/externalsecret-cleanup"
MANAGED = "reconcile.external-secrets.io/managed"


class Operator(stacks.Background):
    """Reconciles the ExternalSecrets of some namespaces until it is stopped."""

    def __init__(self, stack, vault, namespaces):
        super().__init__()
        self._custom = kubernetes.client.CustomObjectsApi(stack.api)
        self._core = stack.core
        self._vault = vault
        self._namespaces = namespaces
        self.synced = []

    def run(self):
        while not self.done.wait(0.3):
            for namespace in self._namespaces:
                # A concurrent write, or the CRDs are being removed: reconcile again soon.
                with contextlib.suppress(kubernetes.client.ApiException):
                    listed = self._custom.list_namespaced_custom_object(GROUP, VERSION, namespace, PLURAL)
                    for each in listed["items"]:
                        self._look_at(each)

    def _patch(self, each, body, status=False):
        place = (GROUP, VERSION, each["metadata"]["namespace"], PLURAL, each["metadata"]["name"])
        patch = (
            self._custom.patch_namespaced_custom_object_status
            if status
            else self._custom.patch_namespaced_custom_object
        )
        return patch(*place, body)

    def _look_at(self, each):
        metadata = each["metadata"]
        if metadata.get("deletionTimestamp"):
            self._patch(each, {"metadata": {"finalizers": None}})
            return
        if FINALIZER not in metadata.get("finalizers", []):
            self._patch(each, {"metadata": {"finalizers": [FINALIZER]}})
            return
        marks = json.dumps([metadata.get("labels"), metadata.get("annotations")], sort_keys=True)
        version = f"{metadata['generation']}-{hashlib.sha256(marks.encode()).hexdigest()[:12]}"
        if each.get("status", {}).get("syncedResourceVersion") == version:
            return
        try:
            data = self._values(each["spec"])
        except servers.hvac.exceptions.VaultError:
            condition = {
                "status": "False",
                "reason": "SecretSyncedError",
                "message": "could not get secret data from provider",
            }
            self._patch(each, {"status": {"conditions": [{"type": "Ready", **condition}]}}, status=True)
            return
        self._write(each, data)
        self.synced.append(f"{metadata['namespace']}/{metadata['name']}")
        condition = {"status": "True", "reason": "SecretSynced", "message": "secret synced"}
        status = {"syncedResourceVersion": version, "conditions": [{"type": "Ready", **condition}]}
        self._patch(each, {"status": status}, status=True)

    def _values(self, spec):
        values = {}
        for item in spec["data"]:
            remote = item["remoteRef"]
            entry = self._vault.entry(remote["key"], path="")[0]
            if remote["property"] not in entry:
                raise servers.hvac.exceptions.InvalidPath("no such property")
            values[item["secretKey"]] = base64.b64encode(entry[remote["property"]].encode()).decode()
        return values

    def _write(self, each, data):
        namespace, target = each["metadata"]["namespace"], each["spec"]["target"]
        labels = {**target["template"]["metadata"]["labels"], MANAGED: "true"}
        try:
            there = self._core.read_namespaced_secret(target["name"], namespace)
        except kubernetes.client.ApiException as error:
            if error.status != 404:
                raise
            metadata = kubernetes.client.V1ObjectMeta(name=target["name"], labels=labels)
            body = kubernetes.client.V1Secret(metadata=metadata, type=target["template"]["type"], data=data)
            self._core.create_namespaced_secret(namespace, body)
            return
        there.data = data
        there.metadata.labels = {**(there.metadata.labels or {}), **labels}
        self._core.replace_namespaced_secret(target["name"], namespace, there)
