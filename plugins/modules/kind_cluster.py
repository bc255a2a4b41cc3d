#!/usr/bin/python
# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin C(kind_cluster)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kind_cluster
short_description: Creates, repairs, reuses or deletes a kind cluster of one node
version_added: 0.1.0
author: mlops.mlflow maintainers (@mlops-mlflow)
description:
  - Runs on the control node, and shows what it is doing.
  - A cluster counts as created once a file in its node says so. The rest of an interrupted creation is replaced.
  - A stopped node is started again. If its API server does not come back, the cluster is recreated, with a warning
    that its data is lost.
  - A cluster of the same name that this module did not create is left alone.
options:
  name:
    description: Name of the cluster.
    type: str
    required: true
  directory:
    description: Where its kubeconfig, C(images.json) and notes are kept.
    type: path
    required: true
  state:
    description: V(checked) only checks whether V(present) is possible, mainly whether its ports are free.
    type: str
    choices: [present, absent, checked]
    default: present
  engine:
    description: The container engine; V(auto) selects the one that created the cluster, else docker if its
      daemon answers, else podman.
    type: str
    choices: [auto, podman, docker]
    default: auto
  kind:
    description: Path of the program kind.
    type: path
    default: ""
  node_image:
    description: Image of the node, as the role P(mlops.mlflow.images#role) builds it; empty for kind's own.
    type: str
    default: ""
  node_ports:
    description: Node ports that are published on 127.0.0.1.
    type: list
    elements: int
    default: []
  pins:
    description: Versions of C(etcd) and C(coredns) in O(node_image).
    type: dict
    default: {}
  config:
    description: Further configuration of kind.
    type: dict
    default: {}
  images:
    description: Dictionary of component to image. Those that were built on this machine are loaded into the node, if it
      lacks them.
    type: dict
    default: {}
  programs:
    description: Dictionary of name to program that C(bin/) of O(directory) links to.
    type: dict
    default: {}
  timeout:
    description: How long to wait for the cluster, in seconds.
    type: int
    default: 300
attributes:
  check_mode:
    description: Shows what would be done, and does nothing.
    support: full
  diff_mode:
    description: There is no text to compare.
    support: none
"""

EXAMPLES = r"""
- name: Create a cluster
  mlops.mlflow.kind_cluster:
    name: trial
    directory: "{{ playbook_dir }}/build/trial"
    kind: /usr/local/bin/kind
    node_ports: [30800]

- name: Delete it
  mlops.mlflow.kind_cluster:
    name: trial
    directory: "{{ playbook_dir }}/build/trial"
    state: absent
"""

RETURN = r"""
created:
  description: Whether the cluster was created.
  returned: when O(state=present), but not in check mode
  type: bool
  sample: true
mended:
  description: Whether a stopped node was started again.
  returned: when O(state=present), but not in check mode
  type: bool
  sample: false
loaded:
  description: Images that were loaded into the node.
  returned: when O(state=present)
  type: list
  elements: str
  sample: []
kubeconfig:
  description: Path of the kubeconfig.
  returned: when O(state=present), but not in check mode
  type: str
  sample: /home/ann/mlops/build/quickstart/kubeconfig
engine:
  description: The container engine.
  returned: when O(state=checked), or O(state=present) but not in check mode
  type: str
  sample: podman
workarounds:
  description: What this machine needs that others do not, a sentence each.
  returned: when O(state=present), but not in check mode
  type: list
  elements: str
  sample: []
"""
