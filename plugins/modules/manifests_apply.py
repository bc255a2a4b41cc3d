#!/usr/bin/python
# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin C(manifests_apply)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: manifests_apply
short_description: Applies a list of Kubernetes objects in one call, with a difference for each
version_added: 0.1.0
author: mlops.mlflow maintainers (@mlops-mlflow)
description:
  - Applies objects server-side by M(kubernetes.core.k8s), which for a list shows no difference and returns each object
    whole. This module shows the difference of each object, and returns names only.
  - An object that the cluster refuses does not prevent the others from being applied. The task fails afterwards, and
    names each refused object with the reason.
  - A Deployment or StatefulSet whose manifest no longer gives C(replicas) keeps its number of pods, for an autoscaler.
  - Objects of kinds that are defined by others of the list come last, where the cluster does not have their API group
    yet.
options:
  manifests:
    description: The objects, in the order in which they are applied.
    type: list
    elements: dict
    required: true
  field_manager:
    description: The manager that owns the fields of the objects. It takes them from others who set them.
    type: str
    required: true
  api_groups:
    description:
      - The API groups that the cluster has, as M(mlops.mlflow.cluster_info) returns them.
      - Without it, all objects are applied in their order.
    type: list
    elements: str
  kubeconfig:
    description: As in M(kubernetes.core.k8s).
    type: raw
  context:
    description: As in M(kubernetes.core.k8s).
    type: str
attributes:
  check_mode:
    description:
      - Sends the objects to the API server as a dry run. Their namespaces must exist.
      - What is of an API group that would be made is not sent.
    support: full
  diff_mode:
    description: Shows the difference of each object that is changed.
    support: full
seealso:
  - module: kubernetes.core.k8s
  - module: mlops.mlflow.workload_wait
requirements:
  - kubernetes.core, and what it needs
"""

EXAMPLES = r"""
- name: Apply the manifests
  mlops.mlflow.manifests_apply:
    manifests: "{{ lookup('ansible.builtin.file', 'manifests.yaml') | from_yaml_all }}"
    field_manager: example
  register: applied

- name: Wait for what is not ready
  mlops.mlflow.workload_wait:
    workloads: "{{ applied.pending }}"
"""

RETURN = r"""
changed_objects:
  description: The objects that were changed, each as its kind and its place.
  returned: success
  type: list
  elements: str
  sample: [Deployment mlflow/mlflow]
jobs:
  description: All Jobs among the objects, as O(mlops.mlflow.workload_wait#module:workloads) takes them.
  returned: success
  type: list
  elements: dict
  sample: [{kind: Job, namespace: mlflow, name: mlflow-migrate-1a2b3c4d}]
pending:
  description:
    - Deployments, StatefulSets, DaemonSets, Jobs and Certificates that were not ready when they were applied, as
      O(mlops.mlflow.workload_wait#module:workloads) takes them.
    - One whose specification was changed is not ready, since its status is still that of the one before.
  returned: success
  type: list
  elements: dict
  sample: [{kind: Deployment, namespace: mlflow, name: mlflow}]
"""
