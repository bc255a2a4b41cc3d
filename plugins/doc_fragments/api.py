# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation that the modules share which speak to the API server by C(module_utils/k8s/client.py)."""

from __future__ import annotations


class ModuleDocFragment:
    """What such a module requires on its host."""

    # Ansible wants options of a fragment, if only none.
    DOCUMENTATION = r"""
options: {}
requirements:
  - python >= 3.11
  - PyYAML
  - kubernetes, only where the kubeconfig logs in by an exec plugin or an auth provider
"""
