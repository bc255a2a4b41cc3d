# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of modules that call MLflow's REST API by C(module_utils/mlflow/client.py)."""

from __future__ import annotations

_MADE = r"""
attributes:
  check_mode:
    description: Can run in check mode. Before MLflow runs, all that is declared is reported as to be created.
    support: full
  diff_mode:
    description: %s
    support: full
"""


class ModuleDocFragment:
    """How to reach MLflow, and as whom. To be named before C(kubernetes.core.k8s_auth_options)."""

    DOCUMENTATION = r"""
options:
  url:
    description:
      - MLflow's URL. One of O(url) and O(service) is needed.
    type: str
  service:
    description:
      - MLflow's Service, reached by a port-forward through the API server, so that it need not be exposed.
      - The account that the kubeconfig names needs C(get) on the Service, C(list) on pods, and C(get) and C(create) on
        pods/portforward.
    type: dict
    suboptions:
      namespace:
        description: Its namespace.
        type: str
        required: true
      name:
        description: Its name.
        type: str
        required: true
      port:
        description: Number or name of its port. The default is its first port.
        type: str
  admin_secret:
    description:
      - The Secret that holds the account to call MLflow with. The module reads it itself.
      - One of O(admin_secret), O(username) with O(password), and O(token) is needed.
    type: dict
    suboptions:
      namespace:
        description: Its namespace.
        type: str
        required: true
      name:
        description: Its name.
        type: str
        required: true
      username_key:
        description: The key of the user name.
        type: str
        default: username
      password_key:
        description: The key of the password or access token.
        type: str
        default: password
  username:
    description: The user name to call MLflow with. The cluster's own is E(K8S_AUTH_USERNAME).
    type: str
  password:
    description: The password or access token of O(username). The cluster's own is E(K8S_AUTH_PASSWORD).
    type: str
  token:
    description: A bearer token to call MLflow with, such as one of the identity provider.
    type: str
  validate_certs:
    description:
      - Whether to verify MLflow's certificate.
      - Whether the cluster's is verified depends on the kubeconfig or E(K8S_AUTH_VERIFY_SSL).
    type: bool
    default: true
  ca_path:
    description: A file with the CA certificate to trust in O(url). By default those of the system.
    type: path
  timeout:
    description: How many seconds MLflow may take to answer.
    type: int
    default: 30
  auth_plugin:
    description:
      - MLflow's authentication plugin, V(oidc) for mlflow-oidc-auth or V(basic) for MLflow's basic-auth.
      - V(auto) asks the server.
    type: str
    choices: [auto, oidc, basic]
    default: auto
requirements:
  - python >= 3.11
  - PyYAML, only where a kubeconfig is used
notes:
  - If MLflow is unavailable (HTTP 503) or has no ready pod, requests are repeated for some seconds.
"""

    # Attributes of the modules that make what is declared.
    ACCOUNTS: str = _MADE % "Shows the fields that differ. Passwords are never shown."
    PERMISSIONS: str = _MADE % "Shows each permission that differs in a line, as it is and as it is to be."
    THINGS: str = _MADE % "Shows what differs, a line for each thing."
