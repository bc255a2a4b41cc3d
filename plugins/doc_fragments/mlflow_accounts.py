# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of accounts, for C(mlflow_user)."""

from __future__ import annotations

_ACCOUNTS = r"""
  %(option)s:
    description: %(about)s
    type: list
    elements: dict
    default: []
    suboptions:
      display_name:
        description: The name that is displayed, for a new account. Kept by mlflow-oidc-auth only.
        type: str
      password_secret:
        description:
          - The Secret that holds the first password, for basic-auth only. %(otherwise)s
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
          key:
            description: The key of the password. The default is the account's name.
            type: str
      update_password:
        description:
          - With V(on_create), only a new account gets the password of O(%(option)s[].password_secret).
          - With V(always), an existing account with another password gets it too, which takes a login for each account.
        type: str
        choices: [on_create, always]
        default: on_create
      state:
        description: Whether the account exists. V(absent) also removes its tokens and permissions, but not its runs.
        type: str
        choices: [present, absent]
        default: present
"""


_USERS = r"""
      name:
        description: The user name, as the identity provider has it.
        type: str
        required: true
      create:
        description: Whether a missing account is created. If not, only an existing account is changed.
        type: bool
        default: true
      admin:
        description: Whether the user is an administrator. A new one is not.
        type: bool
      active:
        description:
          - Whether the account may be used. Deactivating it ends its sessions and access tokens, and keeps what was
            granted to it.
          - MLflow's basic-auth does not support this.
        type: bool
"""

_SERVICE_ACCOUNTS = r"""
      name:
        description: The user name.
        type: str
        required: true
      admin:
        description: Whether the program is an administrator. A new one is not.
        type: bool
      active:
        description:
          - Whether the account may be used. Deactivating it ends its access tokens, and keeps what was granted to it.
          - MLflow's basic-auth does not support this.
        type: bool
      source:
        description:
          - How the program authenticates. V(internal), the default of a new account, is by access tokens.
          - The id of an OpenID Connect provider, such as V(default), is by that provider's bearer tokens only,
            which revokes the account's access tokens.
        type: str
      subject:
        description:
          - The claim C(sub) of the provider's tokens to bind the account to. Without it, the first token sets it.
        type: str
"""


class ModuleDocFragment:
    """What accounts have."""

    DOCUMENTATION: str = (
        "options:\n"
        + (
            _ACCOUNTS
            % {"option": "users", "about": "Accounts of users.", "otherwise": "Needed for a new account there."}
        ).lstrip("\n")
        + _USERS.lstrip("\n")
        + (
            _ACCOUNTS
            % {
                "option": "service_accounts",
                "about": "Accounts of programs.",
                "otherwise": "Without it, a new account has a random one that is kept nowhere.",
            }
        ).lstrip("\n")
        + _SERVICE_ACCOUNTS.lstrip("\n")
    )
