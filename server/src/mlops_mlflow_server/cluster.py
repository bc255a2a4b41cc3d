# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets and SealedSecrets of the cluster that a pod runs in, by its own service account."""

import hashlib
import http.client
import json
import pathlib
import ssl
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from mlops_mlflow_server.databases import Failure

# https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/
ACCOUNT = pathlib.Path("/var/run/secrets/kubernetes.io/serviceaccount")
SERVER = "https://kubernetes.default.svc"


def fingerprint(namespace: str, name: str, values: dict[str, bytes]) -> str:
    """Return the hash of a Secret's values that the collection annotates pods with: salted, and slow."""
    canonical = json.dumps(sorted((key, value.hex()) for key, value in values.items())).encode()
    salt = f"mlops.mlflow/{namespace}/{name}".encode()
    return hashlib.scrypt(canonical, salt=salt, n=2**14, r=8, p=1, dklen=8).hex()


class Cluster:
    """The API server.

    Args:
        server: its URL.
        account: the folder with the service account's token and the API server's CA.
    """

    def __init__(self, server: str = SERVER, account: pathlib.Path = ACCOUNT):
        self._server = server
        self._token = (account / "token").read_text(encoding="utf-8").strip()
        self._context = ssl.create_default_context(cafile=account / "ca.crt")

    def secret(self, namespace: str, name: str) -> dict[str, Any] | None:
        """Return a Secret, or None where there is none."""
        status, found = self._call("GET", f"/api/v1/namespaces/{namespace}/secrets/{name}")
        return found if status == http.HTTPStatus.OK else None

    def secrets(self, namespace: str, label: str) -> list[dict[str, Any]]:
        """Return the Secrets of a namespace that have this label."""
        query = urllib.parse.urlencode({"labelSelector": label})
        status, found = self._call("GET", f"/api/v1/namespaces/{namespace}/secrets?{query}")
        # Items of a list do not say what they are.
        return (
            [{"apiVersion": "v1", "kind": "Secret", **each} for each in found["items"]]
            if status == http.HTTPStatus.OK
            else []
        )

    def sealed_secret(self, namespace: str, name: str) -> dict[str, Any] | None:
        """Return a SealedSecret, or None where there is none."""
        status, found = self._call("GET", f"/apis/bitnami.com/v1alpha1/namespaces/{namespace}/sealedsecrets/{name}")
        return found if status == http.HTTPStatus.OK else None

    def create(self, secret: dict[str, Any]) -> bool:
        """Create a Secret; return False where it is there already, and is left as it is."""
        status, _found = self._call("POST", f"/api/v1/namespaces/{secret['metadata']['namespace']}/secrets", secret)
        return status == http.HTTPStatus.CREATED

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
        """Call the API server; return the status of success, 404 or 409, and the answer.

        Raises:
            Failure: any other status, or no answer. It quotes no body, which may hold values.
        """
        request = urllib.request.Request(  # noqa: S310  (the server's URL is https)
            self._server + path,
            method=method,
            data=json.dumps(body).encode() if body else None,
            headers={"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, context=self._context, timeout=30) as answer:  # noqa: S310
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code in (http.HTTPStatus.NOT_FOUND, http.HTTPStatus.CONFLICT):
                return error.code, None
            raise Failure(f"The API server answers {method} {path.partition('?')[0]} with {error.code}") from None
        except OSError as error:
            raise Failure(f"The API server does not answer {method} {path.partition('?')[0]}: {error}") from None
