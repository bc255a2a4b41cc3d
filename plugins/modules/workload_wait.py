#!/usr/bin/python
# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin C(workload_wait)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: workload_wait
short_description: Waits until workloads are ready, and reports what is wrong with those that are not
version_added: 0.1.0
author: mlops.mlflow maintainers (@mlops-mlflow)
description:
  - Waits for all workloads at once. A Deployment, StatefulSet or DaemonSet is ready when all of its pods are of its
    present specification and ready, and a Job when it is complete.
  - A Certificate of cert-manager is ready when its Secret holds a valid certificate as it asks for. Until then, it is
    reported what cert-manager says of its issuer and its challenges.
  - Runs on the control node, and speaks to the API server by itself. Every 15 seconds it displays what it waits for.
  - The failure of one workload does not end the wait for the others. The message has a sentence for each workload that
    failed or is not ready (which pod, and why), and then lists for each pod its state, its last events and the end of
    its log, and the command to look further.
  - A workload fails before the timeout if further waiting is useless. At once, if a Job failed or was deleted, an
    image's name is invalid, or an image that must be present is missing. After 30 seconds, if a container's
    configuration is wrong (such as a missing Secret) or no pod may be created. After O(fail_fast_after) seconds, if
    an image cannot be pulled, a volume cannot be mounted, or a container keeps crashing.
  - A Job that had failed before the wait began is run once more, as a copy of the same name, unless O(rerun=false). So
    it can be inspected, and the next play repeats it once the cause is fixed.
  - Pods of earlier specifications, which a rollout is about to replace, do not count for that.
  - An init container whose name begins with C(wait-for-) waits for a dependency. While it runs, and if it
    ended with exit code 75 after it waited in vain, the pod waits for the dependency that the rest of the name names.
    Any other failure is a crash. Once a workload has failed and all others only wait for dependencies, the wait ends.
  - A workload whose dependency is ready is still waited for, unless a workload has failed whose name begins with the
    dependency's name and a hyphen, such as the Job C(postgres-provision) of C(postgres).
options:
  workloads:
    description: What to wait for. It must exist, or appear within ten seconds.
    type: list
    elements: dict
    default: []
    suboptions:
      kind:
        description: Kind of the workload.
        type: str
        choices: [Deployment, StatefulSet, DaemonSet, Job, Certificate]
        required: true
      namespace:
        description: Its namespace.
        type: str
        required: true
      name:
        description: Its name.
        type: str
        required: true
  serves:
    description:
      - What must be served after the workloads are ready. It is requested through the API server's proxy.
    type: list
    elements: dict
    default: []
    suboptions:
      namespace:
        description: Namespace of the Service.
        type: str
        required: true
      service:
        description: The Service as the proxy takes it, C(scheme:name:port) with the port's number or name.
        type: str
        required: true
      path:
        description: Path to request.
        type: str
        default: /
      contains:
        description: What the answer must contain; empty for any answer of success.
        type: str
        default: ""
  gone:
    description:
      - Objects that must be absent from the cluster, such as a namespace that is being deleted. They are waited for
        together with O(workloads).
      - A failure names what holds each of them, such as its finalizers and pods that are still terminating.
    type: list
    elements: dict
    default: []
    suboptions:
      api_version:
        description: API version of the object.
        type: str
        required: true
      kind:
        description: Its kind.
        type: str
        required: true
      namespace:
        description: Its namespace; empty for an object of the cluster.
        type: str
        default: ""
      name:
        description: Its name.
        type: str
        required: true
  timeout:
    description: How many seconds the whole wait may take.
    type: int
    default: 300
  fail_fast_after:
    description:
      - How many seconds a container may keep crashing, or an image fail to be pulled, before the workload fails.
      - V(0) waits until O(timeout).
    type: int
    default: 90
  rerun:
    description:
      - Whether Jobs that had failed before the wait began are run once more. Use V(false) for a second wait of a play
        for the same workloads.
    type: bool
    default: true
  prune_label:
    description:
      - Label of Jobs. Those that share its value with a Job of O(workloads) in the same namespace, and are not in
        O(workloads), are removed as the wait begins, running or not, so that they run again if they come back.
      - If one of them is newer than the Job of O(workloads), the latter is run once more, as a copy of the same name,
        since what it did may be overwritten. A complete Job may be in O(workloads) for this; it costs two requests.
      - Empty removes none.
    type: str
    default: ""
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - mlops.mlflow.api
attributes:
  check_mode:
    description: Returns at once, since nothing was applied that could be waited for.
    support: full
  diff_mode:
    description: Shows nothing.
    support: none
"""

EXAMPLES = r"""
- name: Wait for the server and the Job that migrates its database
  mlops.mlflow.workload_wait:
    workloads:
      - {kind: Job, namespace: mlflow, name: mlflow-migrate-1a2b3c4d}
      - {kind: Deployment, namespace: mlflow, name: mlflow}
    timeout: 300
    prune_label: mlops.mlflow/job

- name: Wait for the certificate of Sealed Secrets
  mlops.mlflow.workload_wait:
    workloads:
      - {kind: Deployment, namespace: sealed-secrets, name: sealed-secrets-controller}
    serves:
      - namespace: sealed-secrets
        service: http:sealed-secrets-controller:http
        path: /v1/cert.pem
        contains: BEGIN CERTIFICATE

- name: Wait until two namespaces are deleted
  mlops.mlflow.workload_wait:
    gone:
      - {api_version: v1, kind: Namespace, name: minio}
      - {api_version: v1, kind: Namespace, name: postgres}
    timeout: 120
"""

RETURN = r"""
ready:
  description: Whether everything is ready, or absent. False in check mode, which waits for nothing.
  returned: success
  type: bool
waited:
  description: Seconds that the wait took.
  returned: always
  type: int
pruned:
  description: Jobs that were removed, as namespace/name.
  returned: always
  type: list
  elements: str
rerun:
  description: Jobs that had failed before, or after which another one began, and were run once more, as namespace/name.
  returned: always
  type: list
  elements: str
"""
