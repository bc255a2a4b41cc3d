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
            description: The key of the password. The account's name, if not given.
            type: str
      update_password:
        description:
          - With V(on_create), only a new account gets the password of O(%(option)s[].password_secret).
          - With V(always), an account is also given it where it no longer holds, which takes a login each to find out.
        type: str
        choices: [on_create, always]
        default: on_create
      state:
        description: Whether the account is there. With it go its tokens and what was granted to it, but not its runs.
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
        description: Whether the account is made where it is not there. Else only an account that is there is changed.
        type: bool
        default: true
      admin:
        description: Whether the user is an administrator. A new one is not.
        type: bool
      active:
        description:
          - Whether the account may be used. Deactivating it ends its sessions and access tokens, and keeps what was
            granted to it.
          - MLflow's basic-auth knows no such thing.
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
          - MLflow's basic-auth knows no such thing.
        type: bool
      source:
        description:
          - How the program gets in. V(internal) is by access tokens, and is what a new account has.
          - The id of an OpenID Connect provider, such as V(default), is by that provider's bearer tokens only. It ends
            the account's access tokens.
        type: str
      subject:
        description:
          - The claim C(sub) of the provider's tokens to bind the account to. Without it, the first token binds its
            own.
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
