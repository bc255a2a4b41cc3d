#!/usr/bin/python
# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin C(leftovers)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: leftovers
short_description: Lists what a stack has left in a cluster and no longer names
version_added: 0.1.0
author: mlops.mlflow maintainers (@mlops-mlflow)
description:
  - Looks for namespaces, volume claims, Secrets and Jobs that this collection made for a stack, and that the stack's
    inventory no longer names. It reads the names of Secrets, and no values.
  - Each run of C(site.yml) records on the namespaces of a stack which they are, in the annotation
    C(mlops.mlflow/stack). A namespace belongs to one stack, so a namespace that was recorded together with one of
    O(stack) was of the same stack. What cannot be told for certain is in RV(kept), with the reason.
  - Fails if a namespace of O(stack) is recorded otherwise, since then the inventory is another one, or was changed
    after its last run.
  - Runs on the control node, in Ansible's own process, which is faster than a module; the connection has to be local.
options:
  stack:
    description: The namespaces of the stack's components.
    type: list
    elements: str
    required: true
  objects:
    description: What the inventory names, each with C(kind), C(name) and perhaps C(namespace).
    type: list
    elements: dict
    required: true
  secrets:
    description: The Secrets that the inventory names, each as namespace/name.
    type: list
    elements: str
    required: true
  used:
    description: Further namespaces that the inventory uses, such as those of hosts that it names.
    type: list
    elements: str
    default: []
  pull_secrets:
    description: Names of Secrets that others made, and that go with a namespace all the same.
    type: list
    elements: str
    default: []
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
- name: Look for what is left
  mlops.mlflow.leftovers:
    kubeconfig: "{{ kubeconfig_path }}"
    stack: [mlflow, postgres]
    objects: [{kind: PersistentVolumeClaim, namespace: postgres, name: postgres-data}]
    secrets: [postgres/postgres-superuser, mlflow/mlflow-db-credentials, postgres/mlflow-db-credentials]
  register: leftovers
"""

RETURN = r"""
found:
  description:
    - What is left, each with C(name), its kind, namespace and name, C(holds), what it holds in words, and C(object),
      the manifest without content by which it is deleted.
  returned: success
  type: list
  elements: dict
  sample:
    - name: persistentvolumeclaim/minio/data-minio-1
      holds: 10 GiB
      object: {apiVersion: v1, kind: PersistentVolumeClaim, metadata: {namespace: minio, name: data-minio-1}}
kept:
  description: What may be left but whose it is cannot be told, or what is still in use, as sentences.
  returned: success
  type: list
  elements: str
  sample: ["namespace/old: no stack is recorded on it, so whose it is cannot be told"]
"""
