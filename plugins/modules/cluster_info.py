#!/usr/bin/python
# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module C(cluster_info)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_info
short_description: What a playbook must know of a Kubernetes cluster before it changes anything
version_added: 0.1.0
author: mlops.mlflow maintainers (@mlops-mlflow)
description:
  - Reads the version, namespaces, storage classes, API groups, Services and used node ports of a cluster in one call,
    its Sealed Secrets where it has any, and the volumes that the roles of this collection have made.
  - If the cluster cannot be used it fails with one sentence that names the kubeconfig, the context and the cause,
    within about ten seconds.
  - Messages say C(kubeconfig_path) and C(kubeconfig_context), the variables of this collection's roles, for the options
    O(kubeconfig) and O(context).
  - The user must be able to list namespaces. What else the user may not list is empty, and named in RV(unreadable).
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - mlops.mlflow.api
attributes:
  check_mode:
    description: Reads only, in check mode too.
    support: full
  diff_mode:
    description: Changes nothing, so that there is nothing to compare.
    support: N/A
"""

EXAMPLES = r"""
- name: Look at the cluster
  mlops.mlflow.cluster_info:
    kubeconfig: "{{ kubeconfig_path }}"
  register: cluster

- name: Refuse an old Kubernetes
  ansible.builtin.assert:
    that: cluster.minor >= 30
    fail_msg: "The cluster runs Kubernetes {{ cluster.server_version }}: 1.30 or newer is needed"
"""

RETURN = r"""
server_version:
  description: Version of the API server.
  returned: success
  type: str
  sample: v1.34.10
minor:
  description: Minor version of the API server as a number.
  returned: success
  type: int
  sample: 34
namespaces:
  description: Names of the namespaces that are there, without those that are being deleted.
  returned: success
  type: list
  elements: str
  sample: [default, kube-system]
storage_classes:
  description: Names of the storage classes.
  returned: success
  type: list
  elements: str
  sample: [standard]
default_storage_class:
  description: Name of the storage class that a claim gets which names none; empty if there is none.
  returned: success
  type: str
  sample: standard
node_ports:
  description: Ports of the nodes that are taken, each with the namespace and name of the Service that has it.
  returned: success
  type: dict
  sample: {"30800": mlflow/mlflow}
services:
  description: Services that are there, each as namespace/name.
  returned: success
  type: list
  elements: str
  sample: [mlflow/mlflow]
volumes:
  description:
    - Volume claims that the roles of this collection have made, by namespace/name, each with its class and its size
      in MiB.
    - They are known by the label C(app.kubernetes.io/managed-by=mlops.mlflow).
  returned: success
  type: dict
  sample: {"postgres/postgres-data": {"class": "standard", "mib": 10240}}
api_groups:
  description: Names of the API groups that the server knows.
  returned: success
  type: list
  elements: str
  sample: [apps, batch]
sealed_secrets_controllers:
  description:
    - Controllers of Sealed Secrets, each as namespace/name with its label C(app.kubernetes.io/managed-by); empty for a
      controller without one.
    - They are looked for where RV(api_groups) has C(bitnami.com).
  returned: success
  type: dict
  sample: {"sealed-secrets/sealed-secrets-controller": mlops.mlflow}
ready:
  description:
    - Deployments that the roles of this collection have made and whose pods are all ready, each as namespace/name.
  returned: success
  type: list
  elements: str
  sample: [sealed-secrets/sealed-secrets-controller]
sealed_secrets:
  description: SealedSecrets that are there, each as namespace/name.
  returned: success
  type: list
  elements: str
  sample: [mlflow/mlflow-db-credentials]
unreadable:
  description: What the user may not list, by the names of the returned values.
  returned: success
  type: list
  elements: str
  sample: []
"""

import re
from collections.abc import Callable
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.client import (
    Api,
    ApiError,
    KubeError,
    auth_argument_spec,
    connect,
    unmask,
)
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.quantity import mebibytes
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.workload import judge
from ansible_collections.mlops.mlflow.plugins.module_utils.sealing.controller import NAMES_ONLY, controllers
from ansible_collections.mlops.mlflow.plugins.module_utils.sealing.crypto import API_VERSION

DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
DEPLOYMENTS = "/apis/apps/v1/deployments"
VOLUMES = "/api/v1/persistentvolumeclaims"
OURS = "app.kubernetes.io/managed-by=mlops.mlflow"
SEALED_SECRETS = f"/apis/{API_VERSION}/sealedsecrets"


def minor_version(version: dict[str, Any]) -> int:
    """Give the minor version as a number; managed clusters write it as V(34+)."""
    digits = re.match(r"\d+", str(version.get("minor", "")))
    return int(digits.group()) if digits else 0


def default_class(classes: list[dict[str, Any]]) -> str:
    """Name the default storage class: of several the newest, as Kubernetes has it; empty if there is none."""
    defaults = [
        each["metadata"] for each in classes if (each["metadata"].get("annotations") or {}).get(DEFAULT_CLASS) == "true"
    ]
    # The newest wins, and of those of the same second the first by name.
    defaults.sort(key=lambda each: each["name"])
    defaults.sort(key=lambda each: each.get("creationTimestamp") or "", reverse=True)
    return defaults[0]["name"] if defaults else ""


def places(things: list[dict[str, Any]]) -> list[str]:
    """Give namespace/name of each."""
    return sorted(f"{each['metadata']['namespace']}/{each['metadata']['name']}" for each in things)


def used_ports(services: list[dict[str, Any]]) -> dict[str, str]:
    """Map each node port that is taken to namespace/name of its Service."""
    return {
        str(port): f"{each['metadata']['namespace']}/{each['metadata']['name']}"
        for each in services
        for port in [
            *(one.get("nodePort") for one in each["spec"].get("ports") or []),
            each["spec"].get("healthCheckNodePort"),
        ]
        if port
    }


def volumes(claims: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Map namespace/name of each claim that is not being deleted to its class and size."""
    return {
        f"{each['metadata']['namespace']}/{each['metadata']['name']}": {
            "class": each["spec"].get("storageClassName") or "",
            "mib": mebibytes(each["spec"]["resources"]["requests"]["storage"]),
        }
        for each in claims
        if not each["metadata"].get("deletionTimestamp")
    }


def look(api: Api) -> dict[str, Any]:
    """Read all that the module returns.

    Raises:
        KubeError: The cluster cannot be used.
    """
    unreadable: list[str] = []

    def readable(result: str, read: Callable[[], Any]) -> Any:
        try:
            return read()
        except ApiError as error:
            if error.status == 403:
                unreadable.append(result)
            elif error.status != 404:  # another definition of the API group
                raise
            return None

    def items(result: str, path: str, **how: Any) -> list[dict[str, Any]]:
        return readable(result, lambda: api.json("GET", path, **how).get("items")) or []

    version = api.get("/version")
    if "gitVersion" not in version:
        raise KubeError(
            f"{api.settings.server} ({api.settings.source}) does not answer as a Kubernetes API server does"
        )
    # Namespaces come first after the version, which anonymous users may read: here a wrong token shows.
    namespaces = api.json("GET", "/api/v1/namespaces", accept=NAMES_ONLY).get("items") or []
    classes = items("storage_classes", "/apis/storage.k8s.io/v1/storageclasses")
    services = items("node_ports", "/api/v1/services")
    claims = items("volumes", VOLUMES, query={"labelSelector": OURS})
    deployments = items("ready", DEPLOYMENTS, query={"labelSelector": OURS})
    groups = sorted(each["name"] for each in api.get("/apis").get("groups") or [])
    sealing = API_VERSION.partition("/")[0] in groups
    sealed = items("sealed_secrets", SEALED_SECRETS, accept=NAMES_ONLY) if sealing else []
    unsealing = readable("sealed_secrets_controllers", lambda: controllers(api)) if sealing else None
    return {
        "server_version": version["gitVersion"],
        "minor": minor_version(version),
        "namespaces": sorted(
            each["metadata"]["name"] for each in namespaces if not each["metadata"].get("deletionTimestamp")
        ),
        "storage_classes": sorted(each["metadata"]["name"] for each in classes),
        "default_storage_class": default_class(classes),
        "node_ports": used_ports(services),
        "services": places(services),
        "volumes": volumes(claims),
        "api_groups": groups,
        "sealed_secrets_controllers": unsealing or {},
        "ready": places([each for each in deployments if judge({"kind": "Deployment", **each}).ready]),
        "sealed_secrets": places(sealed),
        "unreadable": unreadable,
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=auth_argument_spec(), supports_check_mode=True)
    unmask(module)
    try:
        result = look(connect(module.params))
    except KubeError as error:
        module.fail_json(msg=f"The cluster cannot be used: {error}")
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
