# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action plugin of stack_info: reads what runs of a stack, and what is pending."""

from __future__ import annotations

import base64
import functools
import http.client
import re
from datetime import timedelta
from typing import Any, ClassVar

from ansible_collections.mlops.mlflow.plugins.module_utils.credentials.certificates import (
    CERTIFICATE,
    TYPE,
    CertificateError,
    now,
    validity,
)
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.client import (
    Api,
    KubeError,
    auth_argument_spec,
    quoted,
)
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.listing import (
    DEPLOYMENTS,
    OURS,
    STATEFUL_SETS,
    VOLUMES,
    Listing,
)
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.portforward import Unreachable, open_stream
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.secret_store import CERTIFICATE_NAME
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.workload import condition
from ansible_collections.mlops.mlflow.plugins.module_utils.mlflow.tokens import INSTANCE
from ansible_collections.mlops.mlflow.plugins.module_utils.sealing.controller import KEY_LABEL, NAMES_ONLY
from ansible_collections.mlops.mlflow.plugins.module_utils.sealing.crypto import API_VERSION as SEALED
from ansible_collections.mlops.mlflow.plugins.plugin_utils.local_action import LocalAction
from ansible_collections.mlops.mlflow.plugins.plugin_utils.stack_report import (
    RESTORE,
    ROTATION,
    UPGRADE,
    Found,
    Report,
    Validity,
    page,
)

CERT_MANAGER = "cert-manager.io/v1"
METRICS_PORT = 5001  # of MLflow's pods, for which no Service is needed
ANSWER_SECONDS = 5.0
# What MLflow tells of Jobs and of PostgreSQL's archive: docs/monitoring.md.
TOLD = re.compile(
    r"^(mlflow_job_last_success_timestamp_seconds|mlflow_wal_archive_timestamp_seconds)\{[a-z_]+=\"(\w+)\"\} (\S+)$",
    re.MULTILINE,
)


class ActionModule(LocalAction):
    """Reads what runs; changes nothing."""

    ARGUMENTS: ClassVar[dict[str, Any]] = {
        **auth_argument_spec(),
        "components": {"type": "dict", "required": True},
        "soon_days": {"type": "int", "default": 14},
    }

    def act(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Read all that is returned."""
        components = options["components"]
        try:
            found = look(self.connect(options), components)
        except KubeError as error:
            return {"failed": True, "msg": f"The cluster cannot be used: {error}"}
        report = Report(found, components, timedelta(days=options["soon_days"]), now()).result()
        return {"changed": False, **report, "page": page(report)}


def look(api: Api, components: dict[str, str]) -> Found:
    """Read what a report is made of.

    Args:
        api: the API server.
        components: names of the components, each with its namespace.

    Raises:
        KubeError: The cluster cannot be used.
    """
    listing = Listing(api)
    version = api.get("/version").get("gitVersion")
    if not version:
        raise KubeError(
            f"{api.settings.server} ({api.settings.source}) does not answer as a Kubernetes API server does"
        )
    # After the version, which anonymous users may read: here a wrong token shows.
    namespaces = api.json("GET", "/api/v1/namespaces", accept=NAMES_ONLY).get("items") or []
    found = Found(
        version, {each["metadata"]["name"] for each in namespaces if not each["metadata"].get("deletionTimestamp")}
    )
    found.unreadable = listing.unreadable
    stack = sorted(set(components.values()) & found.namespaces)
    if not stack:
        return found
    ours = {"labelSelector": OURS}
    for kind, path in (("Deployment", DEPLOYMENTS), ("StatefulSet", STATEFUL_SETS)):
        result = "deployments" if kind == "Deployment" else "stateful_sets"
        # The items of a list do not say of which kind they are.
        found.workloads += [{**each, "kind": kind} for each in listing.items(result, path, query=ours)]
    found.pods = listing.items("pods", "/api/v1/pods", query=ours)
    found.cron_jobs = listing.items("cron_jobs", "/apis/batch/v1/cronjobs", query=ours)
    found.jobs = listing.items("jobs", "/apis/batch/v1/jobs", query=ours)
    found.volumes = listing.items("volumes", VOLUMES, query=ours)
    _look_at_notes(listing, components, found)
    _look_at_secrets(listing, components, stack, found)
    groups = {each["name"] for each in api.get("/apis").get("groups") or []}
    if SEALED.partition("/")[0] in groups:
        found.sealed = listing.items("sealed_secrets", f"/apis/{SEALED}/sealedsecrets", query=ours)
    if CERT_MANAGER.partition("/")[0] in groups:
        found.issued = listing.items("certificates", f"/apis/{CERT_MANAGER}/certificates", query=ours)
    if components.get("mlflow") in stack:
        _ask_mlflow(listing, components["mlflow"], found)
    return found


def _look_at_notes(listing: Listing, components: dict[str, str], found: Found) -> None:
    """Read what playbooks wrote down when they began."""
    for component, name in (("mlflow", ROTATION), ("mlflow", UPGRADE), ("backup", RESTORE)):
        if components.get(component) in found.namespaces:
            path = f"/api/v1/namespaces/{quoted(components[component])}/configmaps/{name}"
            note = listing.read("config_maps", functools.partial(listing.api.find, path))
            if note is not None:
                found.notes[name] = note


def _look_at_secrets(listing: Listing, components: dict[str, str], stack: list[str], found: Found) -> None:
    """Read the names of Secrets, and of those with certificates how long these are valid."""
    made = listing.items("secrets", "/api/v1/secrets", query={"labelSelector": OURS}, accept=NAMES_ONLY)
    # Those of programs are in namespaces of their own.
    found.secrets = [
        each for each in made if each["metadata"]["labels"].get(INSTANCE) in {components.get("mlflow"), *stack}
    ]
    for namespace in stack:
        path = f"/api/v1/namespaces/{quoted(namespace)}/secrets"
        # Sealing keys are certificates too, whose end ends nothing.
        query = {"fieldSelector": f"type={TYPE}", "labelSelector": f"!{KEY_LABEL}"}
        found.certificates += map(_validity, listing.items("certificates", path, query=query))
    if components.get("sealed_secrets") in stack:
        path = f"/api/v1/namespaces/{quoted(components['sealed_secrets'])}/secrets"
        query = {"labelSelector": KEY_LABEL}
        found.sealing_keys = listing.items("sealing_keys", path, query=query, accept=NAMES_ONLY)


def _validity(secret: dict[str, Any]) -> Validity:
    """Say how long the certificate of a Secret is valid. The other values are not decoded, and are dropped here."""
    metadata = secret["metadata"]
    renewed_by = ""
    if CERTIFICATE_NAME in (metadata.get("annotations") or {}):
        renewed_by = "cert-manager"
    elif _ours(metadata):
        renewed_by = "site.yml"
    try:
        begin, end = validity(base64.b64decode((secret.get("data") or {}).get(CERTIFICATE) or ""))
    except (CertificateError, ValueError):
        return Validity(metadata["namespace"], metadata["name"], renewed_by, None, None)
    return Validity(metadata["namespace"], metadata["name"], renewed_by, begin, end)


def _ours(metadata: dict[str, Any]) -> bool:
    label, _equals, value = OURS.partition("=")
    return (metadata.get("labels") or {}).get(label) == value


def _ask_mlflow(listing: Listing, namespace: str, found: Found) -> None:
    """Ask a pod of MLflow for the times that it knows.

    Only for metrics: the first call that a server takes after an upgrade ends the way back.
    """
    ready = [
        each["metadata"]["name"]
        for each in found.pods
        if each["metadata"]["namespace"] == namespace
        and (each["metadata"].get("labels") or {}).get("app.kubernetes.io/name") == "mlflow"
        and not each["metadata"].get("deletionTimestamp")
        and condition(each, "Ready").get("status") == "True"
    ]
    if not ready:
        return
    try:
        stream = open_stream(listing.api, namespace, min(ready), METRICS_PORT, ANSWER_SECONDS)
        connection = http.client.HTTPConnection(f"{min(ready)}:{METRICS_PORT}", timeout=ANSWER_SECONDS)
        connection.sock = stream
        try:
            connection.request("GET", "/metrics")
            answer = connection.getresponse()
            text = answer.read().decode("utf-8", "replace") if answer.status == 200 else ""
        finally:
            connection.close()
    except (KubeError, Unreachable, OSError, http.client.HTTPException):
        text = ""
    if not text:
        listing.unreadable.append("metrics")
    for name, what, seconds in TOLD.findall(text):
        found.told[what if name.startswith("mlflow_job") else f"wal {what}"] = float(seconds)
