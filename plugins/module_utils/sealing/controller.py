# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Sealed Secrets controller of a cluster, and SealedSecrets in it.

It is reached through the API server's proxy, as kubeseal does it, so that nothing needs to be exposed. What it does
with a SealedSecret is read from
https://github.com/bitnami-labs/sealed-secrets/blob/v0.40.0/pkg/controller/controller.go.
"""

from __future__ import annotations

import json
import time
from typing import Any

from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.client import (
    FIELD_MANAGER,
    MERGE_PATCH,
    Api,
    ApiError,
    KubeError,
    quoted,
)
from ansible_collections.mlops.mlflow.plugins.module_utils.sealing.crypto import (
    API_VERSION,
    KIND,
    MANAGED,
    Certificate,
    SealingError,
    bare,
)

SERVICE = "sealed-secrets-controller"
KEY_LABEL = "sealedsecrets.bitnami.com/sealed-secrets-key"  # on the Secrets that hold sealing keys
BACKED_UP = "mlops.mlflow/backed-up"  # annotation of a sealing key that was backed up: when
SYNC_TIMEOUT = 60.0  # seconds that the controller may take to unseal
SETTLED = 3.0  # seconds after which a refusal is final: the controller tries five times within one
BUSY_ATTEMPTS = 60  # its default is two requests a second
DEPLOYMENTS = "/apis/apps/v1/deployments"
NAMES_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


class Controller:
    """A Sealed Secrets controller.

    Args:
        api: Client of the API server.
        namespace: Where the controller is.
        service: Name of its Service.
        clock: Gives seconds, C(sleep) waits for them; for tests.
    """

    def __init__(
        self,
        api: Api,
        namespace: str,
        service: str = SERVICE,
        *,
        timeout: float = SYNC_TIMEOUT,
        clock: Any = time.monotonic,
        sleep: Any = time.sleep,
    ) -> None:
        self._api = api
        self._namespace = namespace
        self._service = service
        self._timeout = timeout
        self._clock = clock
        self._sleep = sleep
        self._certificate: Certificate | None = None

    @property
    def timeout(self) -> float:
        """Seconds that the cluster may take for what is waited for."""
        return self._timeout

    @property
    def where(self) -> str:
        """What to call it in messages."""
        return f"the Sealed Secrets controller {self._namespace}/{self._service}"

    def _ask(self, method: str, path: str, **kwargs: Any) -> bytes:
        """Send a request to the controller.

        Raises:
            KubeError: There is none, or it does not answer.
        """
        service = f"http:{quoted(self._service)}:http"
        target = f"/api/v1/namespaces/{quoted(self._namespace)}/services/{service}/proxy{path}"
        for _attempt in range(BUSY_ATTEMPTS):
            try:
                return self._api.request(method, target, **kwargs)
            except ApiError as error:
                if error.status == 404:
                    raise KubeError(
                        f"{self.where} is not there: deploy the role sealed_secrets, or name the controller's "
                        "namespace (sealed_secrets_namespace, or a module's controller_namespace)"
                    ) from None
                # The controller's own answer of 500 says that it cannot open or read what it was sent.
                if error.status in (502, 503, 504) or (error.status == 500 and error.reason):
                    raise KubeError(
                        f"{self.where} does not answer ({error.status}): see "
                        f"'kubectl --namespace {self._namespace} get pods'"
                    ) from None
                if error.status != 429:
                    raise
            self._sleep(0.5)
        raise KubeError(f"{self.where} limits the rate of requests: it answered {BUSY_ATTEMPTS} times with 429")

    def certificate(self) -> Certificate:
        """Give the newest certificate, fetched once.

        Raises:
            KubeError: There is no controller, it does not answer, or another one would open the same SealedSecrets.
            SealingError: The certificate is none, or not valid now.
        """
        if self._certificate is None:
            self._check_alone()
            text = self._ask("GET", "/v1/cert.pem", accept="*/*").decode("utf-8", "replace")
            found = Certificate.from_pem(text, f"what {self.where} serves")
            found.check(f"the certificate of {self.where}")
            self._certificate = found
        return self._certificate

    def _check_alone(self) -> None:
        """See that no other controller watches all namespaces too: each would undo the other's status."""
        try:
            places = list(controllers(self._api))
        except ApiError as error:
            if error.status == 403:  # who may not see them has to know
                return
            raise
        if len(places) > 1:
            raise KubeError(
                f"there are {len(places)} Sealed Secrets controllers, {' and '.join(places)}, and each would "
                "refuse what the other one's certificate sealed: remove all but one, and name its namespace in "
                "sealed_secrets_namespace"
            )

    def opens(self, sealed: dict[str, Any]) -> bool:
        """Say whether the controller has a key that opens a SealedSecret, which need not be in the cluster."""
        try:
            self._ask("POST", "/v1/verify", body=bare(sealed), accept="*/*")
        except ApiError as error:
            if _refusal(error):
                return False
            raise
        return True

    def reencrypt(self, sealed: dict[str, Any], where: str) -> dict[str, Any]:
        """Have a SealedSecret sealed again with the newest certificate; it needs not be in the cluster.

        Only the sealed values are taken of what the controller gives: it replaces the template's labels.

        Args:
            where: What to call it in messages.

        Raises:
            SealingError: No key opens it.
        """
        try:
            answer = self._ask("POST", "/v1/rotate", body=bare(sealed), accept="*/*")
            encrypted = json.loads(answer)["spec"]["encryptedData"]
        except ApiError as error:
            if not _refusal(error):
                raise
            raise SealingError(
                f"{where} cannot be opened by {self.where}: it was sealed for another name or namespace, or by a key "
                "that this cluster lacks"
            ) from None
        except (ValueError, KeyError, TypeError):
            raise KubeError(f"{self.where} does not answer as a controller of Sealed Secrets does") from None
        rotated = bare(sealed)
        rotated["spec"]["encryptedData"] = encrypted
        return rotated

    def keys_without_backup(self) -> list[str]:
        """Name the sealing keys without a known backup; empty where they may not be read."""
        try:
            found = self._api.json(
                "GET",
                f"/api/v1/namespaces/{quoted(self._namespace)}/secrets",
                query={"labelSelector": KEY_LABEL},
                accept=NAMES_ONLY,
            )
        except ApiError as error:
            if error.status == 403:
                return []
            raise
        return sorted(
            each["metadata"]["name"]
            for each in found.get("items") or []
            if BACKED_UP not in (each["metadata"].get("annotations") or {})
        )

    # --- SealedSecrets in the cluster

    @staticmethod
    def _path(namespace: str, name: str = "") -> str:
        return f"/apis/{API_VERSION}/namespaces/{quoted(namespace)}/sealedsecrets" + (
            f"/{quoted(name)}" if name else ""
        )

    def find(self, namespace: str, name: str) -> dict[str, Any] | None:
        """Give a SealedSecret; None where there is none, nor a definition of such."""
        return self._api.find(self._path(namespace, name))

    def create(self, sealed: dict[str, Any]) -> dict[str, Any]:
        """Create a SealedSecret.

        Raises:
            ApiError: Of status 409, it is there by now.
        """
        return self._write("POST", self._path(sealed["metadata"]["namespace"]), sealed)

    def replace(self, sealed: dict[str, Any], version: str) -> dict[str, Any]:
        """Replace a SealedSecret, unless another writer has changed it.

        Args:
            version: The resourceVersion that was read.

        Raises:
            ApiError: Of status 409 or 404, it is no longer what was read.
        """
        metadata = {**sealed["metadata"], "resourceVersion": version}
        path = self._path(metadata["namespace"], metadata["name"])
        return self._write("PUT", path, {**sealed, "metadata": metadata})

    def delete(self, namespace: str, name: str) -> None:
        """Delete a SealedSecret, and with it the Secret that it owns; one that is absent by now is as good."""
        self._api.delete(self._path(namespace, name))

    def _write(self, method: str, path: str, sealed: dict[str, Any]) -> dict[str, Any]:
        try:
            return self._api.json(method, path, query={"fieldManager": FIELD_MANAGER}, body=sealed)
        except ApiError as error:
            if error.status == 404 and method == "POST":
                namespace = sealed["metadata"]["namespace"]
                raise KubeError(
                    f"the cluster knows no SealedSecrets, or has no namespace {namespace}: deploy the role "
                    "sealed_secrets, and make the namespace"
                ) from None
            raise

    def take_over(self, namespace: str, name: str, version: str, owners: list[dict[str, Any]] | None = None) -> None:
        """Allow the controller to take a Secret over, unless another writer has changed it.

        Args:
            owners: Who owns the Secret from now on; None leaves that as it is.

        Raises:
            ApiError: Of status 409 or 404, it is no longer what was read.
        """
        self._api.json(
            "PATCH",
            f"/api/v1/namespaces/{quoted(namespace)}/secrets/{quoted(name)}",
            query={"fieldManager": FIELD_MANAGER},
            body={
                "metadata": {
                    "resourceVersion": version,
                    "annotations": {MANAGED: "true"},
                    **({} if owners is None else {"ownerReferences": owners}),
                }
            },
            content_type=MERGE_PATCH,
        )

    def wait_synced(self, namespace: str, name: str) -> dict[str, Any]:
        """Wait until the controller has unsealed the SealedSecret as it is now, and give it.

        Raises:
            KubeError: It refuses, or does not get to it in time.
        """
        start = self._clock()
        refused_since: float | None = None
        while True:
            sealed = self.find(namespace, name)
            if sealed is None:
                raise KubeError(f"SealedSecret {namespace}/{name} was deleted while it was waited for")
            state, why = synced(sealed)
            now = self._clock()
            if state == "True":
                return sealed
            if state == "False":
                refused_since = now if refused_since is None else refused_since
                if now - refused_since >= SETTLED:
                    raise KubeError(f"SealedSecret {namespace}/{name} is not unsealed: {advice(why)}")
            else:
                refused_since = None
            if now - start >= self._timeout:
                raise KubeError(
                    f"SealedSecret {namespace}/{name} is not unsealed after {self._timeout:g} s: does {self.where} "
                    f"run? See 'kubectl --namespace {self._namespace} logs deployment/{self._service}'"
                )
            self._sleep(0.1 if now - start < 2 else 0.5)

    def wait_secret(self, namespace: str, name: str) -> None:
        """Wait until the controller has made the Secret of a SealedSecret again, which it does when that is deleted.

        Raises:
            KubeError: It does not in time.
        """
        start = self._clock()
        while self._api.find(f"/api/v1/namespaces/{quoted(namespace)}/secrets/{quoted(name)}") is None:
            if self._clock() - start >= self._timeout:
                raise KubeError(
                    f"SealedSecret {namespace}/{name} has no Secret after {self._timeout:g} s: does {self.where} run? "
                    f"See 'kubectl --namespace {self._namespace} logs deployment/{self._service}'"
                )
            self._sleep(0.2)

    def release(self, namespace: str, name: str) -> None:
        """Delete a SealedSecret and leave its Secret as it is, without an owner.

        Raises:
            KubeError: The API server does not get to it in time.
        """
        start = self._clock()
        try:
            self._api.request(
                "DELETE",
                self._path(namespace, name),
                body={"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Orphan"},
            )
        except ApiError as error:
            if error.status != 404:  # another writer was faster
                raise
        while self.find(namespace, name) is not None or self._owned(namespace, name):
            if self._clock() - start >= self._timeout:
                raise KubeError(f"SealedSecret {namespace}/{name} is not gone {self._timeout:g} s after it was deleted")
            self._sleep(0.1)

    def _owned(self, namespace: str, name: str) -> bool:
        found = self._api.find(f"/api/v1/namespaces/{quoted(namespace)}/secrets/{quoted(name)}")
        return found is not None and owned(found)


def controllers(api: Api) -> dict[str, str]:
    """Give the controllers of a cluster as namespace/name, each with what manages it by its label, or "".

    Raises:
        ApiError: Of status 403, the user may not list them.
    """
    metadata = [each["metadata"] for each in api.json("GET", DEPLOYMENTS, accept=NAMES_ONLY).get("items") or []]
    return {
        f"{each['namespace']}/{each['name']}": (each.get("labels") or {}).get("app.kubernetes.io/managed-by", "")
        for each in sorted(metadata, key=lambda each: (each["namespace"], each["name"]))
        if each["name"] == SERVICE or (each.get("labels") or {}).get("app.kubernetes.io/name") == "sealed-secrets"
    }


def _refusal(error: ApiError) -> bool:
    """Say whether an answer is the controller's own, and not that of an API server that forbids to ask it."""
    return 400 <= error.status <= 500 and error.status not in (401, 403)


def owned(secret: dict[str, Any]) -> bool:
    """Say whether a Secret belongs to a SealedSecret."""
    return any(each.get("kind") == KIND for each in (secret.get("metadata") or {}).get("ownerReferences") or [])


def synced(sealed: dict[str, Any]) -> tuple[str, str]:
    """Give what the controller says of a SealedSecret as it is now.

    Returns:
        V(True), V(False), or nothing as long as it has not looked; and why not.
    """
    status = sealed.get("status") or {}
    if status.get("observedGeneration") != sealed["metadata"].get("generation"):
        return "", ""
    for condition in status.get("conditions") or []:
        if condition.get("type") == "Synced":
            return condition.get("status") or "", condition.get("message") or ""
    return "", ""


def edited(secret: dict[str, Any], sealed: dict[str, Any]) -> set[str]:
    """Name the keys of a Secret that another writer than the controller changed since it last unsealed them.

    Both moments are the API server's, to the second: what was written within the same second is not noticed.
    """
    writes = [each for each in sealed["metadata"].get("managedFields") or [] if each.get("subresource") == "status"]
    last = max((each["time"] for each in writes if each.get("time")), default="")
    controllers = {each.get("manager") for each in writes}
    return {
        field[2:]
        for each in (secret.get("metadata") or {}).get("managedFields") or []
        if each.get("manager") not in controllers and last and (each.get("time") or "") > last
        for field in (each.get("fieldsV1") or {}).get("f:data") or {}
        if field.startswith("f:")
    }


def advice(message: str) -> str:
    """Turn what the controller says into a sentence with what to do next."""
    if "no key could decrypt" in message:
        return (
            "no sealing key of this cluster opens it. It was sealed for another name or namespace, or by a key that is "
            "not here: restore the keys with playbooks/sealing_keys_restore.yml, or delete the sealed file and the "
            "SealedSecret to have new values"
        )
    if "not managed by" in message:
        return (
            f"there is a Secret of that name which the controller may not touch: give it the annotation {MANAGED}=true"
        )
    return message or "the controller does not say why"
