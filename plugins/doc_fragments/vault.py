# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of modules that speak to HashiCorp Vault or OpenBao."""

from __future__ import annotations


class ModuleDocFragment:
    """The option C(vault)."""

    DOCUMENTATION = r"""
options:
  vault:
    description:
      - How to reach HashiCorp Vault or OpenBao. Needed with O(backend=vault) only.
      - A secret value is a dictionary with one of V(env), the name of an environment variable, V(file), the path of a
        file, or V(value), the value itself. Environment and files are those of the control node.
    type: dict
    suboptions:
      url:
        description: The server's URL. By default the environment variable E(VAULT_ADDR).
        type: str
      namespace:
        description: The namespace, if the server has any. By default the environment variable E(VAULT_NAMESPACE).
        type: str
      mount:
        description: The mount of the key-value store, version 2.
        type: str
        default: secret
      path:
        description: The path in the mount below which each Secret has an entry of its name.
        type: str
        default: mlflow
      ca_path:
        description:
          - A file with the CA certificate to trust. By default E(VAULT_CACERT), then those of the system.
        type: str
      validate_certs:
        description: Whether to verify the server's certificate.
        type: bool
        default: true
      timeout:
        description: How many seconds the server may take to answer.
        type: int
        default: 30
      auth_method:
        description: How to log in.
        type: str
        choices: [token, approle, kubernetes]
        default: token
      auth_mount:
        description: The mount of that method. By default its name.
        type: str
      token:
        description:
          - The token for O(vault.auth_method=token). By default E(VAULT_TOKEN), then the file C(~/.vault-token).
        type: dict
      role_id:
        description: The role ID for O(vault.auth_method=approle).
        type: str
      secret_id:
        description: The secret ID for O(vault.auth_method=approle).
        type: dict
      role:
        description: The role for O(vault.auth_method=kubernetes).
        type: str
      jwt:
        description: The service account's token for O(vault.auth_method=kubernetes). By default that of the pod.
        type: dict
"""
