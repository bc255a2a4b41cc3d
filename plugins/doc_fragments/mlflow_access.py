# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation that the modules share which keep permissions, those of users and those of groups."""

from __future__ import annotations

_PERMISSIONS = r"""
notes:
  - With mlflow-oidc-auth a pattern is kept as such, and holds for what is made later. basic-auth keeps no patterns but
    V(.*), so that others are written out for the names there are at the time of the run.
  - A run that changes nothing reads lists only. A server of our own image gives all permissions in one answer, of
    another mlflow-oidc-auth a few lists are read for each %(kind)s, and of basic-auth two lists in all.
options:
  permissions:
    description: Permissions that must be there, or must not.
    type: list
    elements: dict
    default: []
    suboptions:
      %(kind)s:
        description: %(about)s
        type: str
        required: true
      resource:
        description: What kind of thing the permission is for.
        type: str
        choices:
          - experiment
          - registered_model
          - prompt
          - scorer
          - gateway_endpoint
          - gateway_secret
          - gateway_model_definition
          - mcp_server
        default: experiment
      name:
        description:
          - The name of the thing, which must be there. A scorer is named C(EXPERIMENT/SCORER).
          - One of O(permissions[].name) and O(permissions[].pattern) is needed.
        type: str
      pattern:
        description:
          - A regular expression that the names of the things match from their beginning; V($) at its end is that of the
            name.
          - mlflow-oidc-auth has no patterns for MCP servers, and basic-auth none for scorers.
        type: str
      permission:
        description:
          - With mlflow-oidc-auth V(NO_PERMISSIONS), V(READ), V(USE), V(EDIT) or V(MANAGE).
          - With basic-auth V(DENY), which wins over every other one, V(READ), V(USE), V(EDIT) or V(MANAGE).
        type: str
      priority:
        description: Of two patterns that match, the one with the lower number holds. 100 if not given.
        type: int
      state:
        description: Whether the permission is to be there.
        type: str
        choices: [present, absent]
        default: present
  to_come:
    description: In check mode, what earlier tasks would have made.
    type: dict
    default: {}
    suboptions:
      users:
        description: Names of users.
        type: list
        elements: str
        default: []
      experiments:
        description: Names of experiments.
        type: list
        elements: str
        default: []
      registered_models:
        description: Names of registered models.
        type: list
        elements: str
        default: []
"""


class ModuleDocFragment:
    """What permissions are. To be named before C(mlops.mlflow.mlflow), whose notes come behind."""

    USER: str = _PERMISSIONS % {"kind": "user", "about": "The user, or the service account. It must be there."}
    GROUP: str = _PERMISSIONS % {"kind": "group", "about": "The group."}
