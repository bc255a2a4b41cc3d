# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of how other roles read the variable mlflow_access."""

from __future__ import annotations

import pytest
from ansible_collections.mlops.mlflow.plugins.action import keycloak_realm
from ansible_collections.mlops.mlflow.plugins.filter import access

TREE = {"groups": {"science": {"members": ["ada"]}}}


@pytest.mark.parametrize(("given", "temporary"), [(None, True), (False, False), ("no", False), ("yes", True)])
def test_users_are_what_the_module_of_the_realm_takes(given, temporary):
    bob = {"name": "bob"} if given is None else {"name": "bob", "temporary_password": given}
    ada = {"name": "ada", "email": "a@x.org", "groups": ["users", "science"]}

    found = access.access_people([ada, bob], TREE, "keycloak", "passwords")

    secret = {"namespace": "keycloak", "name": "passwords"}
    assert found == [
        {**ada, "groups": ["users", "science"], "temporary": True, "password_secret": {**secret, "key": "ada"}},
        {"name": "bob", "temporary": temporary, "password_secret": {**secret, "key": "bob"}},
    ]
    assert set(found[0]) <= set(keycloak_realm.ActionModule.ARGUMENTS["users"]["options"])
