# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter C(mebibytes)."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.quantity import mebibytes

DOCUMENTATION = r"""
name: mebibytes
short_description: Gives a quantity of Kubernetes in MiB
version_added: 0.1.0
author: The mlops.mlflow maintainers (@mlops-mlflow)
description:
  - Reads a quantity of memory or storage as
    L(Kubernetes writes it,https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/), which
    P(ansible.builtin.human_to_bytes#filter) does not.
  - Fails where it is no quantity.
positional: _input
options:
  _input:
    description: A quantity such as V(512Mi), V(1.5Gi) or V(2G), or a number of bytes.
    type: raw
    required: true
"""

EXAMPLES = r"""
- name: Give the heap half of the memory
  ansible.builtin.set_fact:
    heap: "{{ memory | mlops.mlflow.mebibytes // 2 }}m"
"""

RETURN = r"""
_value:
  description: The whole MiB in it.
  type: int
"""


def in_mebibytes(quantity: str | float) -> int:
    """Give a quantity in whole MiB, with an error of Ansible's where it is none."""
    try:
        return mebibytes(quantity)
    except ValueError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Any]:
        """Give the filters of this file by name."""
        return {"mebibytes": in_mebibytes}
