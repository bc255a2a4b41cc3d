# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lookup C(manifests)."""

from __future__ import annotations

DOCUMENTATION = r"""
name: manifests
short_description: Renders the templates of components to Kubernetes objects
version_added: 0.1.0
author: The mlops.mlflow maintainers (@mlops-mlflow)
description:
  - Renders each template of each component with the variables of the task, and parses it as YAML. A template may hold
    several documents, or none where it is switched off.
  - In the templates, files and other templates are looked for in the role of their component.
  - Unlike P(ansible.builtin.template#lookup) it copies no variables, which takes longer than to render.
options:
  _terms:
    description:
      - The components, each a dictionary with V(name), V(path), the folder of its role, and V(manifests), the names of
        its templates in the order in which their objects are applied. Perhaps with V(policies), V(edge_objects) and
        V(monitor_objects), objects that come after the first one, which is the namespace, and with V(workloads), the
        rules of C(platform_workloads) by which pods are placed. Before each Deployment and StatefulSet comes its
        PodDisruptionBudget.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Apply the manifests of two components
  kubernetes.core.k8s:
    apply: true
    definition: "{{ query('mlops.mlflow.manifests', postgres, minio) | flatten(levels=1) }}"
"""

RETURN = r"""
_list:
  description: For each component, the list of its objects.
  type: list
  elements: list
"""

import io
import os
from collections import ChainMap
from typing import Any

import yaml
from ansible.errors import AnsibleError, AnsibleLookupError
from ansible.plugins.lookup import LookupBase
from ansible.template import trust_as_template
from ansible_collections.mlops.mlflow.plugins.plugin_utils.workloads import placed


class LookupModule(LookupBase):
    """What Ansible looks for."""

    def run(
        self, terms: list[dict[str, Any]], variables: dict[str, Any] | None = None, **kwargs: Any
    ) -> list[list[dict[str, Any]]]:
        """Render the templates of components.

        Args:
            terms: the components.
            variables: the variables of the task.

        Raises:
            AnsibleError: a template can't be read or rendered, or is no YAML of Kubernetes objects.
        """
        self.set_options(var_options=variables, direct=kwargs)
        return [self._render(term, variables or {}) for term in terms]

    def _render(self, component: dict[str, Any], variables: dict[str, Any]) -> list[dict[str, Any]]:
        role = str(component["path"])
        folder = os.path.join(role, "templates")
        search = [role, *variables.get("ansible_search_path", [])]
        own = {"ansible_search_path": search, "role_path": role}
        templar = self._templar.copy_with_new_env(
            available_variables=ChainMap(own, variables),
            searchpath=[folder, *(os.path.join(each, "templates") for each in search[1:])],
        )
        # All in one, since Ansible prepares all variables for each text that it renders.
        paths = [os.path.join(folder, name) for name in component["manifests"]]
        source = "\n---\n".join(self._loader.get_text_file_contents(path) for path in paths)
        try:
            text = templar.template(trust_as_template(source), escape_backslashes=False)
            documents = list(yaml.load_all(io.StringIO(str(text or "")), Loader=_LOADER))
        except yaml.YAMLError as error:
            raise AnsibleLookupError(f"The templates in {folder} render to what is no YAML: {error}") from error
        objects = [each for each in documents if each is not None]
        for each in objects:
            if not (isinstance(each, dict) and {"apiVersion", "kind", "metadata"} <= each.keys()):
                raise AnsibleError(f"The templates in {folder} render to something else than Kubernetes objects")
        objects = placed(objects, str(component["name"]), component.get("workloads") or [])
        added = [each for key in ("policies", "edge_objects", "monitor_objects") for each in component.get(key) or []]
        return [*objects[:1], *added, *objects[1:]]


# libyaml's is ten times as fast, where PyYAML was built with it.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
