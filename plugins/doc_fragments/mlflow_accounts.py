# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation that the modules share which make accounts, C(mlflow_user) and C(mlflow_service_account)."""

from __future__ import annotations

# Ansible takes an option's suboptions from one place as a whole: a module's own ones stand below these.
_ACCOUNTS = r"""
options:
  %(option)s:
    suboptions:
      display_name:
        description: The name that people see, for a new account. Kept by mlflow-oidc-auth only.
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


class ModuleDocFragment:
    """What accounts have."""

    USERS: str = (
        _ACCOUNTS % {"option": "users", "otherwise": "Needed for a new account there."}
        + r"""
      name:
        description: The user name, as the identity provider has it.
        type: str
        required: true
      create:
        description: Whether the account is made where it is not there. Else only an account that is there is changed.
        type: bool
        default: true
      admin:
        description: Whether the person is an administrator. A new one is not.
        type: bool
      active:
        description:
          - Whether the account may be used. Deactivating it ends its sessions and access tokens, and keeps what was
            granted to it.
          - MLflow's basic-auth knows no such thing.
        type: bool
"""
    )
    SERVICE_ACCOUNTS: str = (
        _ACCOUNTS % {"option": "service_accounts", "otherwise": "Without it, a new account has one that nobody knows."}
        + r"""
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
    )
