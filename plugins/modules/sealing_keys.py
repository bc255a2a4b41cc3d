#!/usr/bin/python
# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin C(sealing_keys)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: sealing_keys
short_description: Backs up the keys of Sealed Secrets to a file encrypted by ansible-vault, and restores them
version_added: 0.1.0
author: mlops.mlflow maintainers (@mlops-mlflow)
description:
  - Without its sealing keys a cluster cannot open sealed files. This module keeps them in one file, and restores them
    into the same cluster or another one.
  - Runs on the control node, and speaks to the API server by itself. Keys pass through no argument, result, fact or
    log, and are written only to the encrypted file.
  - The file is encrypted and decrypted with the vault passwords of ansible-playbook (C(--vault-password-file),
    C(--vault-id), E(ANSIBLE_VAULT_PASSWORD_FILE)).
  - Decrypted, the file is a list of Secrets that C(kubectl create) takes, so that keys can be restored without Ansible.
options:
  state:
    description:
      - V(exported) adds to the file the keys that it lacks, including retired ones (labelled C(compromised), for
        example). It never removes a key. A file that has all keys is left as it is.
      - V(exported) annotates each key's Secret with the time of its backup (C(mlops.mlflow/backed-up)).
      - V(imported) creates the keys that the cluster lacks, and the namespace if it is missing. It restarts a running
        controller, which reads keys only when it starts. Keys of the cluster are never changed or removed.
    type: str
    choices: [exported, imported]
    required: true
  path:
    description:
      - The file, on the control node. A relative path begins where ansible-playbook was called.
      - It is written with mode 0600, whole or not at all.
      - A file that can't be opened, is not encrypted, or holds something else is never overwritten.
      - It may not be in a folder that Ansible reads as inventory or variables.
    type: path
    required: true
  vault_id:
    description:
      - The vault identity to encrypt with, if several were given.
      - V(imported) ignores it and tries all of them.
    type: str
    default: ""
  namespace:
    description: The controller's namespace, where its keys are. It need not be the one that they were exported from.
    type: str
    default: sealed-secrets
  namespace_labels:
    description: Labels of the namespace, where V(imported) creates it.
    type: dict
    default: {}
  controller_name:
    description: Name of the controller's Deployment and Service.
    type: str
    default: sealed-secrets-controller
  wait:
    description: Whether V(imported) waits until a restarted controller serves its certificate.
    type: bool
    default: true
  wait_timeout:
    description: How long to wait, in seconds.
    type: int
    default: 120
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
requirements:
  - python >= 3.11
  - PyYAML
  - cryptography >= 42
  - kubernetes, only where the kubeconfig logs in by an exec plugin or an auth provider
attributes:
  check_mode:
    description: Reads the file and the cluster, and shows which keys would be added.
    support: full
  diff_mode:
    description: Shows names, dates and the fingerprints of certificates, never keys.
    support: full
"""

EXAMPLES = r"""
- name: Back up the sealing keys
  mlops.mlflow.sealing_keys:
    state: exported
    path: ~/sealing-keys.vault.yml
  register: backup

- name: Show what is in the backup
  ansible.builtin.debug:
    msg: "{{ backup.sealing_keys | map(attribute='name') | join(', ') }}"

- name: Restore them, into a cluster that has no controller yet
  mlops.mlflow.sealing_keys:
    state: imported
    path: ~/sealing-keys.vault.yml
    namespace: sealed-secrets
    namespace_labels:
      pod-security.kubernetes.io/enforce: restricted

- name: Back up the keys of an existing controller
  mlops.mlflow.sealing_keys:
    state: exported
    path: ~/their-sealing-keys.vault.yml
    namespace: kube-system
    controller_name: sealed-secrets
"""

RETURN = r"""
path:
  description: Absolute path of the file.
  returned: success
  type: str
sealing_keys:
  description: The keys that are in the file (V(exported)) or in the cluster (V(imported)) now, oldest first.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the Secret.
      type: str
    state:
      description: V(active), or what its label says instead.
      type: str
    fingerprint:
      description: SHA-256 of the certificate, in hexadecimal digits.
      type: str
    not_before:
      description: The moment from which the certificate is valid, in UTC. Secrets are sealed with the newest one.
      type: str
      sample: "2026-01-31T08:00:00Z"
    not_after:
      description: The moment until which it is valid. The key opens what was sealed after that moment, too.
      type: str
      sample: "2036-01-29T08:00:00Z"
    backed_up:
      description: When it was backed up; empty if no backup is known.
      type: str
added:
  description: Names of the keys that were added to the file or to the cluster.
  returned: success
  type: list
  elements: str
kept:
  description: Names of the keys that were on both sides already.
  returned: success
  type: list
  elements: str
only_in_backup:
  description: Names of the keys that the file holds and the cluster lacks.
  returned: when O(state=exported)
  type: list
  elements: str
restarted:
  description: Whether the controller was restarted.
  returned: when O(state=imported)
  type: bool
namespace_created:
  description: Whether the namespace was created.
  returned: when O(state=imported)
  type: bool
"""
