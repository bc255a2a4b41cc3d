# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of how the variable mlflow_access is read."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.mlflow.plugins.filter import access
from ansible_collections.mlops.mlflow.plugins.module_utils.mlflow import access as mlflow_access
from ansible_collections.mlops.mlflow.plugins.modules import (
    keycloak_realm,
    mlflow_client,
    mlflow_experiment,
    mlflow_permission,
    mlflow_registered_model,
    mlflow_service_account,
    mlflow_token,
    mlflow_user,
)
from hypothesis import given
from hypothesis import strategies as st

TOKEN = {"name": "ci", "secret": {"namespace": "ci", "name": "token"}}
TREE: dict[str, Any] = {
    "experiments": ["churn", {"name": "fraud", "tags": {"team": "ds"}}],
    "registered_models": [{"name": "churn", "aliases": {"champion": 3}}],
    "groups": {
        "science": {
            "members": ["ada"],
            "experiments": {"churn": "EDIT"},
            "experiment_patterns": {"^ds-": "READ", "^old-": {"permission": "USE", "priority": 5}},
        },
        "k8s:team": {"mcp_servers": {"search": "USE"}},
        "others": None,
    },
    "users": {"ada": {"display_name": "Ada", "scorers": {"churn/quality": "READ"}}, "bob": None},
    "service_accounts": {
        "nightly": {
            "registered_models": {"churn": "MANAGE"},
            "tokens": [TOKEN],
        }
    },
}
PEOPLE = ["ada", "bob"]
GROUPS = ["science", "others", "mlflow-users"]


def problems(change: dict[str, Any], auth: str = "oidc", people: Any = PEOPLE, groups: Any = GROUPS) -> list[str]:
    """What is said of the tree with parts of it replaced."""
    return access.access_problems({**TREE, **change}, auth, people, groups)


def test_nothing_is_wrong_with_what_is_right():
    assert problems({}) == []
    assert access.access_problems({}) == []
    assert problems({}, "basic", None, None) == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"group": {}}, "mlflow_access is 'group': its parts are experiments, registered_models, groups,"),
        ({"experiments": "churn"}, "mlflow_access.experiments is 'churn': a list of names"),
        ({"experiments": [{"title": "churn"}]}, "a name, or a mapping with a name"),
        ({"experiments": [{"name": "churn", "tag": {}}]}, "mlflow_access.experiments: churn has 'tag': one of name,"),
        ({"experiments": ["churn", {"name": "churn"}]}, "mlflow_access.experiments has churn twice"),
        ({"groups": ["science"]}, "mlflow_access.groups is ['science']: a mapping of names"),
        ({"groups": {"science": ["ada"]}}, "mlflow_access.groups.science is ['ada']: a mapping of members,"),
        ({"groups": {"science": {"member": []}}}, "mlflow_access.groups.science has 'member': one of members,"),
        (
            {"groups": {"sience": {}}},
            "mlflow_access.groups has 'sience', which is no group of the realm: one of mlflow",
        ),
        ({"groups": {"science": {"members": ["eve"]}}}, "has 'eve', whom nobody declared: one of ada, bob"),
        ({"groups": {"science": {"members": "ada"}}}, "mlflow_access.groups.science.members is 'ada': a list of names"),
        ({"users": {"eve": {}}}, "mlflow_access.users has 'eve', who is not in the realm: one of ada, bob"),
        ({"users": {"ada": {"admin": True}}}, "mlflow_access.users.ada.admin is True: with mlflow_auth oidc"),
        ({"users": {"ada": {"experiments": {"churn": "WRITE"}}}}, "churn has the permission 'WRITE': one of NO_PERM"),
        ({"users": {"ada": {"experiments": ["churn"]}}}, "experiments is ['churn']: permissions by name"),
        ({"users": {"ada": {"experiments": {"churn": {"permission": "READ"}}}}}, "experiments: churn is {'permission'"),
        ({"users": {"ada": {"prompt_patterns": {"(": "READ"}}}}, "prompt_patterns has the pattern '(': a regular"),
        ({"users": {"ada": {"prompt_patterns": {"x": {"permission": "READ", "priority": "a"}}}}}, "a number, of which"),
        ({"users": {"ada": {"prompt_patterns": {"x": {"permission": "READ", "prio": 1}}}}}, "perhaps with a priority"),
        ({"users": {"nightly": {}}}, "mlflow_access has nightly as a user and as a service account: one of the two"),
        ({"service_accounts": {"x": {"tokens": 5}}}, "mlflow_access.service_accounts.x.tokens is 5: a list of tokens,"),
        ({"service_accounts": {"x": {"tokens": [{"secret": {}}]}}}, "tokens is {'secret': {}}: a name, a secret with"),
        ({"service_accounts": {"x": {"tokens": [{"name": "ci"}]}}}, "tokens: ci.secret is not there: a namespace and"),
        (
            {"service_accounts": {"x": {"tokens": [{"name": "ci", "secret": {"namespace": "ci"}}]}}},
            "tokens: ci.secret is {'namespace': 'ci'}: a namespace and a name",
        ),
        (
            {"service_accounts": {"x": {"tokens": [{**TOKEN, "days": 3}]}}},
            "tokens: ci has 'days': one of name, secret,",
        ),
        (
            {"service_accounts": {"x": {"tokens": [{**TOKEN, "secret": {**TOKEN["secret"], "key": "k"}}]}}},
            "tokens: ci.secret has 'key': one of namespace, name, username_key, password_key",
        ),
    ],
)
def test_what_is_wrong_is_one_sentence(change, sentence):
    found = problems(change, people=[*PEOPLE, "nightly"] if "nightly" in str(change) else PEOPLE)

    assert [each for each in found if sentence in each] == found[:1]


def test_not_a_mapping_at_all():
    assert access.access_problems(["groups"]) == [
        "mlflow_access is ['groups']: a mapping of experiments, registered_models, groups, users, service_accounts"
    ]


def test_members_of_another_providers_group_are_not_ours_to_say():
    found = access.access_problems(TREE, "oidc", None, None)

    assert len(found) == 1
    assert "who is in a group is your identity provider's to say" in found[0]


def test_basic_auth_has_members_that_are_declared_and_permissions_of_its_own():
    assert "others are declared in mlflow_access.users" in problems({"users": {}}, "basic", None, None)[0]
    change = {"groups": {"science": {"experiments": {"churn": "NO_PERMISSIONS", "fraud": "DENY"}}}}
    assert problems(change, "oauth2_proxy", None, None) == [
        "mlflow_access.groups.science.experiments: churn has the permission 'NO_PERMISSIONS': "
        "one of DENY, READ, USE, EDIT, MANAGE"
    ]
    assert problems({"users": {"ada": {"admin": True}}}, "basic", None, None) == []


def test_groups_of_namespaces_are_of_those_that_are_let_in_and_have_no_members():
    assert access.access_problems(TREE, "oidc", PEOPLE, GROUPS, namespaces=["team"]) == []
    assert access.access_problems(TREE, "oidc", PEOPLE, GROUPS, namespaces=["teams"]) == [
        "mlflow_access.groups has 'k8s:team', whose namespace MLflow lets nobody in from: one of teams; others are "
        "declared in mlflow_kubernetes_namespaces"
    ]
    tree = {**TREE, "groups": {"k8s:team": {"members": ["ada"]}}}
    assert access.access_problems(tree, "oidc", PEOPLE, GROUPS, namespaces=["team"]) == [
        "mlflow_access.groups.k8s:team.members is ['ada']: in k8s:team is who comes from the namespace, leave it out"
    ]
    assert access.access_problems(tree, "basic", namespaces=[]) == []


def test_an_account_of_basic_auth_has_one_password():
    clients = [{"name": "ci", "user": "nightly", "namespaces": ["ci"]}, {"name": "other", "namespaces": ["ci"]}]
    assert access.access_problems(TREE, "basic", clients=clients) == [
        "mlflow_access.service_accounts.nightly.tokens and mlflow_clients are both for the account nightly: with "
        "mlflow_auth basic it has one password, so one of the two"
    ]
    assert access.access_problems(TREE, "oidc", PEOPLE, clients=clients) == []
    assert access.access_problems(TREE, "basic", clients=[{**clients[0], "state": "absent"}]) == []


@pytest.mark.parametrize(
    ("clients", "sentence"),
    [
        ({"name": "ci"}, "mlflow_clients is {'name': 'ci'}: a list of clients, each with a name and namespaces"),
        (["ci"], "mlflow_clients is 'ci': a name, namespaces, and perhaps user, secret_name or lifetime_days"),
        ([{"name": "ci"}], "mlflow_clients: ci.namespaces is not there: a list of namespaces, one or more"),
        ([{"name": "ci", "namespaces": "ci"}], "mlflow_clients: ci.namespaces is 'ci': a list of namespaces, one"),
        ([{"name": "ci", "namespaces": ["ci"], "days": 5}], "mlflow_clients: ci has 'days': one of name, user,"),
        ([{"name": "ci", "namespaces": ["ci"], "user": 5}], "mlflow_clients: ci.user is 5: the name of a service"),
        ([{"name": "Ada", "namespaces": ["ci"]}], "mlflow_clients: Ada is for the account Ada, who is a person in"),
    ],
)
def test_what_is_wrong_with_clients_is_one_sentence(clients, sentence):
    (found,) = access.access_problems(TREE, "oidc", PEOPLE, clients=clients)

    assert sentence in found


def test_client_that_is_to_go_needs_no_namespaces():
    assert access.access_problems({}, clients=[{"name": "ci", "state": "absent"}]) == []


def test_names_are_told_apart_as_the_server_does():
    change = {"users": {"Ada": {}, "ada": {}}, "service_accounts": {"ADA": {}}}
    assert problems(change, people=None) == [
        *problems({}, people=None),  # of the members
        "mlflow_access.users has ada twice, in upper and lower case: once each",
        "mlflow_access has ada as a user and as a service account: one of the two",
    ]
    assert problems(change, "basic", None, None) == []


def test_whoever_logs_in_by_the_proxy_is_called_in_lower_case():
    change = {"users": {"Ada": {}, "ada": {}}, "service_accounts": {"Nightly": {}}}
    assert problems(change, "oauth2_proxy", None, None) == [
        "mlflow_access.users has 'Ada': with mlflow_auth oauth2_proxy in lower case, as whoever logs in is called in "
        "MLflow"
    ]


def test_plan_is_what_the_modules_take():
    plan = access.access_plan(TREE)

    assert plan["experiments"] == [{"name": "churn"}, {"name": "fraud", "tags": {"team": "ds"}}]
    assert plan["groups"] == [{"name": "science"}, {"name": "k8s:team"}, {"name": "others"}]
    assert plan["users"] == [{"name": "ada", "display_name": "Ada"}, {"name": "bob"}]
    assert plan["service_accounts"] == [{"name": "nightly"}]
    assert plan["tokens"] == [{"user": "nightly", "name": "ci", "secret": {"namespace": "ci", "name": "token"}}]
    assert plan["group_permissions"] == [
        {"group": "science", "resource": "experiment", "name": "churn", "permission": "EDIT"},
        {"group": "science", "resource": "experiment", "pattern": "^ds-", "permission": "READ"},
        {"group": "science", "resource": "experiment", "pattern": "^old-", "permission": "USE", "priority": 5},
        {"group": "k8s:team", "resource": "mcp_server", "name": "search", "permission": "USE"},
    ]
    assert plan["user_permissions"] == [
        {"user": "ada", "resource": "scorer", "name": "churn/quality", "permission": "READ"},
        {"user": "nightly", "resource": "registered_model", "name": "churn", "permission": "MANAGE"},
    ]


def test_plan_of_basic_auth_has_members_passwords_and_administrators():
    tree = {**TREE, "users": {"ada": {"admin": True}, "bob": {"admin": False}}}

    plan = access.access_plan(tree, "basic", "mlflow", "mlflow-users")

    assert plan["groups"][0] == {"name": "science", "members": ["ada"]}
    secret = {"namespace": "mlflow", "name": "mlflow-users"}
    assert plan["users"] == [
        {"name": name, "admin": admin, "password_secret": {**secret, "key": name}}
        for name, admin in (("ada", True), ("bob", False))
    ]
    assert plan["admins"] == ["ada"]
    assert plan["tokens"] == [{"user": "nightly", "take_over": True, **TOKEN}]
    hers = {"nightly": {"tokens": [{**TOKEN, "take_over": False}]}}
    assert not access.access_plan({"service_accounts": hers}, "basic")["tokens"][0]["take_over"]


def test_plan_names_what_is_to_come():
    plan = access.access_plan(TREE, clients=[{"name": "ci", "user": "robot", "namespaces": ["ci"]}])

    assert plan["to_come"] == {
        "users": ["ada", "bob", "ci", "nightly", "robot"],
        "experiments": ["churn", "fraud"],
        "registered_models": ["churn"],
    }


def test_fields_are_options_of_the_modules():
    """What may be written in the tree is what the modules take, or what the plan makes of it."""

    def options(spec: dict[str, Any], name: str) -> set[str]:
        return set(spec[name]["options"])

    assert set(access.FIELDS["experiments"]) == options(mlflow_experiment.ARGUMENT_SPEC, "experiments")
    assert set(access.FIELDS["registered_models"]) == options(mlflow_registered_model.ARGUMENT_SPEC, "models")
    users = set(access.FIELDS["users"]) - set(access.GRANTS)
    assert users <= options(mlflow_user.ARGUMENT_SPEC, "users")
    assert set(access.TOKEN_FIELDS) == options(mlflow_token.ARGUMENT_SPEC, "tokens") - {"user"}
    assert set(access.SECRET_FIELDS) == set(mlflow_token.ARGUMENT_SPEC["tokens"]["options"]["secret"]["options"])
    assert set(access.CLIENT_FIELDS) == options(mlflow_client.ARGUMENT_SPEC, "clients")
    accounts = set(access.FIELDS["service_accounts"]) - set(access.GRANTS) - {"tokens"}
    assert accounts <= options(mlflow_service_account.ARGUMENT_SPEC, "service_accounts")
    choices = mlflow_permission.ARGUMENT_SPEC["permissions"]["options"]["resource"]["choices"]
    assert list(access.RESOURCES.values()) == choices == list(mlflow_access.RESOURCES)
    assert access.PERMISSIONS == mlflow_access.PERMISSIONS


def test_members_by_user():
    assert access.access_members(TREE) == {"ada": ["science"]}
    for wrong in (None, [], {"groups": []}, {"groups": {"x": []}}, {"groups": {"x": {"members": "ada"}}}):
        assert access.access_members(wrong) == {}


def test_programs_are_those_of_the_tree_and_the_clients():
    clients = [{"name": "ci", "user": "robot"}, {"name": "pipelines"}, "wrong"]
    assert access.access_programs(TREE, clients) == ["ci", "nightly", "pipelines", "robot"]
    assert access.access_programs(None, {"name": "ci"}) == access.access_programs({"service_accounts": ["x"]}) == []


@pytest.mark.parametrize(("given", "temporary"), [(None, True), (False, False), ("no", False), ("yes", True)])
def test_people_are_what_the_module_of_the_realm_takes(given, temporary):
    bob = {"name": "bob"} if given is None else {"name": "bob", "temporary_password": given}
    ada = {"name": "ada", "email": "a@x.org", "groups": ["users", "science"]}

    found = access.access_people([ada, bob], TREE, "keycloak", "passwords")

    secret = {"namespace": "keycloak", "name": "passwords"}
    assert found == [
        {**ada, "groups": ["users", "science"], "temporary": True, "password_secret": {**secret, "key": "ada"}},
        {"name": "bob", "temporary": temporary, "password_secret": {**secret, "key": "bob"}},
    ]
    assert set(found[0]) <= set(keycloak_realm.ARGUMENT_SPEC["users"]["options"])


def test_who_is_disabled_at_keycloak_loses_tokens_of_mlflow_too():
    people = [
        {"name": "ada", "enabled": False},
        {"name": "bob"},
        {"name": "eve", "email": "Eve@x.org", "enabled": False},
        {"name": "kim", "enabled": "yes"},
    ]
    tree = {"users": {"ada": {"active": True}, "bob": {}}}

    plan = access.access_plan(tree, people=people)

    assert plan["users"] == [
        {"name": "ada", "active": False},
        {"name": "bob"},
        {"name": "eve", "active": False, "create": False},
        {"name": "kim", "active": True, "create": False},
    ]
    assert plan["to_come"]["users"] == ["ada", "bob"]
    by_address = access.access_plan({}, people=people, claim="email")["users"]
    assert by_address == [{"name": "eve@x.org", "active": False, "create": False}]


WHATEVER = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*access.FIELDS, *access.FIELDS["groups"], "tokens", "permission", "name", "("]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(WHATEVER)
def test_whatever_is_given_is_answered_in_sentences(tree):
    for auth in ("oidc", "basic"):
        of_clients = [access.access_problems(tree, auth, clients=each) for each in (tree, [tree])]
        found = access.access_problems(tree, auth, ["ada"], ["science"])
        assert all(isinstance(each, str) and each for each in sum(of_clients, found))
        if isinstance(tree, dict) and not found:
            access.access_plan(tree, auth)
    access.access_members(tree)
    access.access_programs(tree, tree)
