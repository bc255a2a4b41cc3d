#!/usr/bin/python
# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin C(stack_info)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: stack_info
short_description: Reads what runs of a stack, what is pending, and what failed
version_added: 0.1.0
author: mlops.mlflow maintainers (@mlops-mlflow)
description:
  - Reads the workloads, pods, Jobs, CronJobs, volumes and SealedSecrets that this collection made in the namespaces of
    a stack, the names and annotations of its Secrets, and until when its certificates are valid.
  - Also reads what the playbooks C(upgrade.yml), C(rotate.yml) and C(restore.yml) write down while they work.
  - Of Secrets it returns no value. It reads those of the type C(kubernetes.io/tls) in the stack's namespaces, but for
    sealing keys, to return when their certificates end. The API server hands a Secret over with its key, which is
    dropped undecoded in the process of the task. Of other Secrets it asks for names and annotations only.
  - Asks a pod of MLflow for its metrics, by a port-forward through the API server, since MLflow knows of drills that
    were started by hand, and of PostgreSQL's archive. It sends no call that MLflow's window of an upgrade would count.
  - Works for a stack that is deployed in part, or not at all.
  - If the cluster cannot be used it fails with one sentence. The user must be able to list namespaces. What else the
    user may not read is missing, and named in RV(unreadable).
  - Runs on the control node, in Ansible's own process, which is faster than a module; the connection has to be local.
options:
  components:
    description:
      - The components of the stack, by name, each with its namespace.
      - The names are those of C(platform_components), in the order in which they are returned.
    type: dict
    required: true
  soon_days:
    description: A certificate or token that ends within so many days is in RV(pending).
    type: int
    default: 14
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
- name: Look at what runs
  mlops.mlflow.stack_info:
    kubeconfig: "{{ kubeconfig_path }}"
    components: {postgres: postgres, minio: minio, mlflow: mlflow}
  register: stack

- name: Show it
  ansible.builtin.debug:
    msg: "{{ stack.page }}"

- name: End where a backup is older than two days, or there is none
  ansible.builtin.assert:
    that: stack.backups.last_backup_age | default(999999, true) < 172800
"""

RETURN = r"""
time:
  description: When it was read, in UTC, as all times are.
  returned: success
  type: str
  sample: "2026-12-01T13:05:00Z"
kubernetes:
  description: Version of the API server.
  returned: success
  type: str
  sample: v1.34.10
state:
  description:
    - V(ready) where all components are, V(not ready), V(partly) where some are not deployed, V(absent) where none is.
    - V(unknown) where the user may not see all.
  returned: success
  type: str
  sample: ready
sentence:
  description: The same in words.
  returned: success
  type: str
  sample: All 5 components are ready
components:
  description:
    - The components, each with C(name), C(namespace), C(state) (V(ready), V(not ready), V(absent) or V(unknown)) and
      C(workloads).
    - A workload has C(kind), C(name), C(image) and C(version) of its first container, C(desired) and C(ready) pods,
      C(is_ready), C(note), C(restarts) of its containers, C(last_restart), and C(problems) of its pods.
  returned: success
  type: list
  elements: dict
backups:
  description:
    - C(last_backup) and C(last_drill), when they ended well, and C(last_backup_age) and C(last_drill_age) in seconds.
    - A time is empty and an age null where none is known. Empty without the component C(backup).
  returned: success
  type: dict
  sample: {"last_backup": "2026-12-01T02:14:09Z", "last_backup_age": 39051, "last_drill": "", "last_drill_age": null}
schedules:
  description:
    - The CronJobs, each with C(namespace), C(name), C(schedule), C(suspended), C(last_success) and C(last_scheduled).
  returned: success
  type: list
  elements: dict
certificates:
  description:
    - The Secrets with certificates, each with C(namespace), C(name), C(ends), C(days) until then, and C(renewed_by),
      which is V(site.yml), V(cert-manager), or empty for those that others supply. The first one to end comes first.
  returned: success
  type: list
  elements: dict
tokens:
  description:
    - The tokens of programs, each with C(namespace), C(secret), C(user), C(owner), C(ends) and C(days) until then.
    - A password of MLflow's basic-auth has no end.
  returned: success
  type: list
  elements: dict
pending:
  description:
    - What is on its way or has to be done, each with C(kind), C(name) and C(text).
    - Kinds are V(rollout), V(job), V(upgrade), V(rotation), V(restore), V(suspended), V(backup), V(wal), V(volume),
      V(certificate), V(token) and V(sealed secret).
  returned: success
  type: list
  elements: dict
  sample:
    - kind: suspended
      name: mlflow-backup/backup
      text: CronJob mlflow-backup/backup is suspended
failed_jobs:
  description:
    - Jobs that failed, and were the last of their kind, each with C(job), C(of), what it is one of, C(time) and
      C(reason).
  returned: success
  type: list
  elements: dict
unreadable:
  description:
    - What the user may not read, such as V(pods).
    - V(metrics) where a pod of MLflow is ready and does not tell its metrics, for whichever reason.
  returned: success
  type: list
  elements: str
  sample: []
page:
  description: All of it as lines for a screen.
  returned: success
  type: list
  elements: str
"""
