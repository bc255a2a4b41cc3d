# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation that the modules share which deliver tokens, C(mlflow_token) and C(mlflow_client)."""

from __future__ import annotations

# Ansible takes an option's suboptions from one place as a whole: a module's own ones stand below these.
_DELIVERIES = r"""
notes:
  - mlflow-oidc-auth issues no token to a caller that authenticates by one. This collection's image lets the account of
    the environment variable E(MLOPS_ADMIN_ACCOUNT) issue them for service accounts. Elsewhere give an administrator's
    bearer token in O(token).
  - MLflow's basic-auth has no tokens. There the account's password is generated, and renewed like a token. All Secrets
    of an account have the same password, and the old one ends with the renewal.
  - Programs read a Secret's variables when they start. Restart those that run longer than O(%(option)s[].grace_days).
  - The account that the kubeconfig names needs C(get), C(list), C(create), C(patch) and C(delete) on Secrets, and
    C(get) on namespaces.
attributes:
  check_mode:
    description: Can run in check mode. Before MLflow runs, all that is declared is reported as to be issued.
    support: full
  diff_mode:
    description: Shows names and dates. Tokens and passwords are never shown.
    support: full
options:
  instance:
    description:
      - A name for this MLflow, which labels the Secrets, so that several may share a cluster. By default the Service's
        namespace and name, or the URL's host.
    type: str
  %(option)s:
    suboptions:
      lifetime_days:
        description: How long a token is valid, in days, at most 365.
        type: int
        default: 90
      renew_before_days:
        description: How many days before its end a token is renewed.
        type: int
        default: 30
      grace_days:
        description:
          - How many days after a renewal the old token remains valid, unless it expires before. The first call after
            them revokes it.
          - With basic-auth the old password ends with the renewal.
        type: int
        default: 7
      take_over:
        description:
          - With basic-auth, whether an existing account whose password is in no Secret of this module
            gets another password. Programs that use the old one are locked out.
        type: bool
        default: false
"""


class ModuleDocFragment:
    """How tokens live, and what gets them. To be named before C(mlops.mlflow.mlflow), whose notes come behind."""

    TOKENS: str = (
        _DELIVERIES % {"option": "tokens"}
        + r"""
      user:
        description: The service account. It must exist.
        type: str
        required: true
      name:
        description: The token's name. In MLflow, its date of issue is appended.
        type: str
        required: true
      secret:
        description: The Secret to keep it in. Required unless the token is absent.
        type: dict
        suboptions:
          namespace:
            description: Its namespace, which must exist.
            type: str
            required: true
          name:
            description: Its name.
            type: str
            required: true
          username_key:
            description: The key of the account's name.
            type: str
            default: username
          password_key:
            description: The key of the token.
            type: str
            default: password
      state:
        description: Whether the token exists. V(absent) revokes it, then removes its Secret.
        type: str
        choices: [present, absent]
        default: present
"""
    )
    CLIENTS: str = (
        _DELIVERIES % {"option": "clients"}
        + r"""
      name:
        description: The client's name, which its tokens in MLflow bear.
        type: str
        required: true
      user:
        description: The service account. It is created if missing. The default is O(clients[].name).
        type: str
      namespaces:
        description: The namespaces that get the Secret. They must exist.
        type: list
        elements: str
        default: []
      secret_name:
        description: The Secret's name.
        type: str
        default: mlflow-credentials
      tracking_uri:
        description: The URL at which the client reaches MLflow. By default O(tracking_uri).
        type: str
      state:
        description: Whether the client exists.
        type: str
        choices: [present, absent]
        default: present
"""
    )
