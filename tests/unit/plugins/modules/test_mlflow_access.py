# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the module mlflow_access, against an MLflow and an API server in memory."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.mlops.mlflow.plugins.module_utils.mlflow import declared
from ansible_collections.mlops.mlflow.plugins.module_utils.mlflow import tree as variables
from ansible_collections.mlops.mlflow.plugins.module_utils.mlflow.tree import Surroundings
from ansible_collections.mlops.mlflow.plugins.modules import mlflow_access, mlflow_permission
from hypothesis import given
from hypothesis import strategies as st

ACCOUNT = {"username": "mlflow-admin", "password": "the-admins-planted-password"}
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
USERS = [{"name": "ada"}, {"name": "bob"}]
GROUPS = ["science", "others", "mlflow-users"]
ROLES = __file__.partition("/tests/unit/")[0] + "/roles"


def clients(*given: dict[str, Any]) -> list[dict[str, Any]]:
    """Clients with all their fields."""
    found = ArgumentSpecValidator({"clients": variables.CLIENTS}).validate({"clients": list(given)})
    assert not found.error_messages
    return found.validated_parameters["clients"]


def around(auth: str = "oidc", people: Any = ..., groups: Any = ..., **more: Any) -> Surroundings:
    return Surroundings(auth, USERS if people is ... else people, GROUPS if groups is ... else groups, **more)


def problems(change: dict[str, Any], *args: Any, of: Any = (), **more: Any) -> list[str]:
    """The message about the tree with parts of it replaced."""
    return variables.problems({**TREE, **change}, clients(*of), around(*args, **more))


# What cannot be


def test_nothing_is_wrong_with_what_is_right():
    assert problems({}) == []
    assert problems({}, "basic", None, None) == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"experiments": [{"title": "churn"}]}, "a name, or a mapping with a name"),
        ({"experiments": [{"name": "churn", "tag": {}}]}, "mlflow_access.experiments: churn has 'tag': one of name,"),
        ({"experiments": ["churn", {"name": "churn"}]}, "mlflow_access.experiments has churn more than once"),
        ({"groups": {"science": ["ada"]}}, "mlflow_access.groups.science is ['ada']: a mapping of members,"),
        ({"groups": {"science": {"member": []}}}, "mlflow_access.groups.science has 'member': one of members,"),
        (
            {"groups": {"sience": {}}},
            "mlflow_access.groups has 'sience', which is no group of the realm: one of mlflow",
        ),
        ({"groups": {"science": {"members": ["eve"]}}}, "has 'eve', who is not declared: one of ada, bob"),
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
    found = problems(change, people=[*USERS, {"name": "nightly"}] if "nightly" in str(change) else USERS)

    assert [each for each in found if sentence in each] == found[:1]


def test_members_of_another_providers_group_are_not_ours_to_say():
    found = problems({}, "oidc", None, None)

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
    assert problems({}, namespaces=["team"]) == []
    assert problems({}, namespaces=["teams"]) == [
        "mlflow_access.groups has 'k8s:team', but MLflow accepts no tokens of that namespace: one of teams; others are "
        "declared in mlflow_kubernetes_namespaces"
    ]
    change = {"groups": {"k8s:team": {"members": ["ada"]}}}
    assert problems(change, namespaces=["team"]) == [
        "mlflow_access.groups.k8s:team.members is ['ada']: in k8s:team is who comes from the namespace, leave it out"
    ]
    assert problems(change, "basic", None, None, namespaces=[]) == []


def test_an_account_of_basic_auth_has_one_password():
    of = [{"name": "ci", "user": "nightly", "namespaces": ["ci"]}, {"name": "other", "namespaces": ["ci"]}]
    assert problems({}, "basic", None, None, of=of) == [
        "mlflow_access.service_accounts.nightly.tokens and mlflow_clients are both for the account nightly: with "
        "mlflow_auth basic it has one password, so one of the two"
    ]
    assert problems({}, of=of) == []
    assert problems({}, "basic", None, None, of=[{**of[0], "state": "absent"}]) == []


def test_client_is_for_no_user():
    assert problems({}, of=[{"name": "Ada", "namespaces": ["ci"]}]) == [
        "mlflow_clients: Ada is for the account Ada, who is a user in mlflow_access.users: another user"
    ]


def test_exclusive_leaves_an_administrator():
    admin = {"name": "ada", "groups": ["admins"]}
    given = {"exclusive": True, "admin_group": "admins", "people": [admin, {"name": "bob"}]}
    (found,) = problems({}, **{**given, "people": USERS})
    assert found.startswith("mlflow_access_exclusive is true, and no user of keycloak_users who may log in is in")
    assert problems({}, **given) == []
    assert len(problems({}, **{**given, "people": [{**admin, "enabled": "no"}, {"name": "bob"}]})) == 1
    member = {"groups": {"admins": {"members": ["bob"]}, "science": {}}}
    assert problems(member, **{**given, "people": USERS, "groups": [*GROUPS, "admins"]}) == []


def test_names_are_compared_as_the_server_does():
    change = {"users": {"Ada": {}, "ada": {}}, "service_accounts": {"ADA": {}}}
    assert problems(change, people=None) == [
        *problems({}, people=None),  # of the members
        "mlflow_access.users has ada more than once, in upper and lower case: once each",
        "mlflow_access has ada as a user and as a service account: one of the two",
    ]
    assert problems(change, "basic", None, None) == []


def test_names_of_users_of_the_proxy_are_in_lower_case():
    change = {"users": {"Ada": {}, "ada": {}}, "service_accounts": {"Nightly": {}}}
    assert problems(change, "oauth2_proxy", None, None) == [
        "mlflow_access.users has 'Ada': with mlflow_auth oauth2_proxy in lower case, as the names of users are in "
        "MLflow"
    ]


WHATEVER = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*variables.ENTRIES["service_accounts"], "permission", "name", "("]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(
    st.fixed_dictionaries(
        {}, optional={part: st.dictionaries(st.text(max_size=3), WHATEVER, max_size=2) for part in ("groups", "users")}
    ),
    st.lists(WHATEVER, max_size=3),
)
def test_whatever_is_given_is_answered_in_sentences(parts, things):
    for auth in ("oidc", "basic"):
        tree = {**parts, "experiments": things, "service_accounts": parts.get("users", {})}
        found = variables.problems(tree, [], around(auth, USERS))
        assert all(isinstance(each, str) and each for each in found)
        if not found:
            variables.declaration(tree, [], around(auth, USERS))


# One schema


def test_roles_say_what_the_module_takes():
    """The variables have the same parts, fields, types, choices and defaults in the roles as in the module."""

    def plain(options: dict[str, Any]) -> dict[str, Any]:
        kept = ("type", "elements", "choices", "default", "required", "options")
        found = {name: {key: its[key] for key in kept if key in its} for name, its in options.items()}
        for its in found.values():
            if "options" in its:
                its["options"] = plain(its["options"])
        return found

    for role in ("platform", "mlflow"):
        with open(f"{ROLES}/{role}/meta/argument_specs.yml") as file:
            options = yaml.safe_load(file)["argument_specs"]["main"]["options"]
        for name in {"mlflow_access", "mlflow_clients"} & set(options):
            assert plain({name: options[name]}) == plain({name: mlflow_access.ARGUMENT_SPEC[name]})


def test_fields_are_the_resources_of_permissions():
    choices = mlflow_permission.ARGUMENT_SPEC["permissions"]["options"]["resource"]["choices"]
    assert list(variables.NAMES.values()) == choices
    assert set(choices) - set(variables.PATTERNS.values()) == {"mcp_server"}


# What is declared


def test_declaration_is_what_the_parts_take():
    found = variables.declaration(TREE, [], around(people=None))

    assert [(each["name"], each["tags"]) for each in found.experiments] == [("churn", {}), ("fraud", {"team": "ds"})]
    assert [each["name"] for each in found.users] == ["ada", "bob"]
    assert found.permissions.groups == [{"name": name, "members": None} for name in ("science", "k8s:team", "others")]
    assert found.permissions.admins is None
    assert found.permissions.entries == {
        "group": [
            {"group": "science", "resource": "experiment", "name": "churn", "permission": "EDIT"},
            {"group": "science", "resource": "experiment", "pattern": "^ds-", "permission": "READ"},
            {"group": "science", "resource": "experiment", "pattern": "^old-", "permission": "USE", "priority": 5},
            {"group": "k8s:team", "resource": "mcp_server", "name": "search", "permission": "USE"},
        ],
        "user": [
            {"user": "ada", "resource": "scorer", "name": "churn/quality", "permission": "READ"},
            {"user": "nightly", "resource": "registered_model", "name": "churn", "permission": "MANAGE"},
        ],
    }


def test_declaration_of_basic_auth_has_members_passwords_and_administrators():
    tree = {**TREE, "users": {"ada": {"admin": True}, "bob": {"admin": False}}}
    secret = {"namespace": "mlflow", "name": "mlflow-users"}

    found = variables.declaration(tree, [], around("basic"), users_secret=secret)

    assert found.permissions.groups[0] == {"name": "science", "members": ["ada"]}
    assert [each["password_secret"] for each in found.users] == [{**secret, "key": name} for name in ("ada", "bob")]
    assert found.permissions.admins == ["ada"]
    (token,) = found.tokens.deliveries
    assert (token.owner, token.take_over) == ("nightly/ci", True)
    theirs = {"nightly": {"tokens": [{**TOKEN, "take_over": False}]}}
    (token,) = variables.declaration({"service_accounts": theirs}, [], around("basic")).tokens.deliveries
    assert not token.take_over


def test_who_is_disabled_at_keycloak_loses_tokens_of_mlflow_too():
    users = [
        {"name": "ada", "enabled": False},
        {"name": "bob"},
        {"name": "eve", "email": "Eve@x.org", "enabled": False},
        {"name": "kim", "enabled": "yes"},
    ]
    tree = {"users": {"ada": {"active": True}, "bob": {}}}

    def of(claim: str, tree: dict[str, Any], auth: str = "oidc") -> list[tuple[Any, ...]]:
        found = variables.declaration(tree, [], around(auth, users, claim=claim)).users
        return [(each["name"], each["active"], each.get("create", True)) for each in found]

    assert of("preferred_username", tree) == [
        ("ada", False, True),
        ("bob", None, True),
        ("eve", False, False),
        ("kim", True, False),
    ]
    assert of("email", {}) == [("eve@x.org", False, False)]
    assert of("preferred_username", {}, "basic") == []


def test_who_left_the_administrators_at_keycloak_administers_mlflow_no_more():
    people = [
        {"name": "ada", "groups": ["admins"]},
        {"name": "Bob", "groups": ["people"]},
        {"name": "eve", "groups": []},
        {"name": "kim"},
        {"name": "lea"},
    ]
    tree = {"users": {"bob": {}, "ada": {}}, "groups": {"admins": {"members": ["lea"]}}}

    def of(auth: str = "oidc", **more: Any) -> list[tuple[Any, ...]]:
        found = variables.declaration(tree, [], around(auth, people, admin_group="admins", **more)).users
        return [(each["name"], each.get("admin"), each.get("create", True)) for each in found]

    assert of(claim="preferred_username") == [
        ("bob", False, True),
        ("ada", None, True),
        ("eve", False, False),
    ]
    # Nothing is declared of kim's groups, which an exclusive list takes away.
    assert ("kim", False, False) in of(claim="preferred_username", exclusive=True)
    assert {name for name, _admin, _create in of("basic", claim="preferred_username")} == {"bob", "ada"}


def test_programs_and_members():
    assert declared.memberships(TREE) == {"ada": ["science"]}
    for wrong in (None, [], {"groups": []}, {"groups": {"x": []}}, {"groups": {"x": {"members": "ada"}}}):
        assert declared.memberships(wrong) == {}
    of = [{"name": "ci", "user": "robot"}, {"name": "pipelines"}, "wrong"]
    assert declared.programs(TREE, of) == ["ci", "nightly", "pipelines", "robot"]
    assert declared.programs(None, {"name": "ci"}) == declared.programs({"service_accounts": ["x"]}) == []


# As declared

WHOLE: dict[str, Any] = {
    "experiments": ["churn", {"name": "fraud", "tags": {"team": "ds"}}],
    "registered_models": ["churn"],
    "groups": {
        "science": {"experiments": {"churn": "EDIT", "old": "READ"}, "experiment_patterns": {"^fr": "READ"}},
        "new": {"registered_models": {"churn": "READ"}},
    },
    "users": {"ada": {"experiments": {"fraud": "READ"}}},
    "service_accounts": {
        "nightly": {
            "experiments": {"churn": "READ"},
            "tokens": [{"name": "ci", "secret": {"namespace": "team", "name": "token"}}],
        }
    },
}
PIPELINES = {"name": "pipelines", "namespaces": ["team"]}


@pytest.fixture
def converge(run: Any, mlflow: Any, cluster: Any) -> Any:
    """Give a function that runs the module."""
    cluster.namespace("team")
    cluster.secret("mlflow/passwords", {"ada": b"adas-planted-password"})
    mlflow.experiment("old")
    mlflow.bulk = True

    def call(change: dict[str, Any] | None = None, check: bool = False, **more: Any) -> dict[str, Any]:
        options = {
            "mlflow_access": {**copy.deepcopy(WHOLE), **(change or {})},
            "mlflow_clients": [PIPELINES],
            "auth": mlflow.plugin,
            "users_secret": {"namespace": "mlflow", "name": "passwords"},
            "tracking_uri": "http://mlflow",
            "instance": "mlflow",
        }
        result = run("mlflow_access", check=check, url=mlflow.url, **ACCOUNT, **{**options, **more})
        planted = [row["token"] for rows in mlflow.tokens.values() for row in rows]
        assert not [each for each in [*planted, "adas-planted-password"] if each in result["_output"]]
        return result

    return call


def test_the_whole_tree_is_applied_in_one_call(converge, mlflow, cluster):
    planned = converge(check=True)
    assert mlflow.writes() == cluster.writes() == []

    result = converge()

    assert result["changes"] == planned["changes"]
    assert {
        "user ada: created",
        "service account pipelines: created",
        "service account nightly: created",
        "experiment churn: created",
        "registered model churn: created",
        "group new: created",
        "group science: experiment churn: none -> EDIT",
        "group new: registered model churn: none -> READ",
        "user nightly: experiment churn: none -> READ",
    } < set(result["changes"])
    pattern = "experiments like ^fr" if mlflow.plugin == "oidc" else "experiment fraud"
    assert f"group science: {pattern}: none -> READ" in result["changes"]
    for place, keys in (("team/token", ("username", "password")), ("team/mlflow-credentials", None)):
        values = {key: value.decode() for key, value in cluster.values(place).items()}
        name, secret = keys or ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
        assert mlflow.lets_in(values[name], values[secret])


def test_second_run_changes_nothing_and_reads_a_few_lists(converge, mlflow, cluster):
    converge()
    mlflow.requests.clear()
    cluster.requests.clear()

    result = converge()

    assert (result["changes"], result["diff"]) == ([], [])
    assert mlflow.writes() == cluster.writes() == []
    # Each list once; with oidc also the tokens of the two programs.
    assert result["requests"] == len(mlflow.requests) == {"oidc": 10, "basic": 7}[mlflow.plugin]


def test_difference_names_each_change_in_a_line(converge, mlflow):
    converge()
    groups = {**WHOLE["groups"], "science": {"experiments": {"churn": "READ"}}}

    result = converge({"groups": groups}, exclusive=True, check=True)

    assert "group science: experiment churn: EDIT -> READ\n" in result["diff"][0]["prepared"]
    assert "group science: experiment old: READ -> none\n" in result["diff"][0]["prepared"]


@pytest.mark.parametrize(
    ("change", "more", "sentence"),
    [
        ({"groups": {"science": {"experiments": {"nothing": "READ"}}}}, {}, "MLflow has no experiment nothing, on"),
        ({"users": {"ada": {"experiments": {"nothing": "READ"}}}}, {}, "MLflow has no experiment nothing, on"),
        ({"registered_models": [{"name": "churn", "aliases": {"a": 7}}]}, {}, "registered model churn has no version"),
        ({"experiments": ["churn", {"name": "old", "artifact_location": "x"}]}, {}, "that cannot be changed"),
        (
            {"experiments": ["churn", "fraud", {"name": "old", "state": "absent"}]},
            {},
            "MLflow has no experiment old, on which groups are to have permissions",
        ),
        ({}, {"mlflow_clients": [{"name": "x", "namespaces": ["gone"]}]}, "there is no namespace gone"),
        ({}, {"mlflow_clients": [{"name": "x"}]}, "mlflow_clients: x has no namespaces"),
        ({}, {"mlflow_clients": [PIPELINES, PIPELINES]}, "mlflow_clients declares pipelines more than once"),
        ({}, {"mlflow_clients": [{**PIPELINES, "days": 5}]}, "Supported parameters include: grace_days"),
        ({"group": {}}, {}, "mlflow_access.group"),
        ({}, {"auth": "none"}, "value of auth must be one of: oidc, basic, oauth2_proxy, got: none"),
        (
            {"service_accounts": {"x": {"tokens": [{"name": "ci", "secret": {"namespace": "gone", "name": "t"}}]}}},
            {},
            "there is no namespace gone",
        ),
        (
            {"service_accounts": {"x": {"tokens": [{**TOKEN, "lifetime_days": 9}]}}},
            {},
            "mlflow_access: renew_before_days of x/ci is 30, and must be less than its lifetime_days, which is 9",
        ),
    ],
)
def test_what_is_wrong_is_found_before_the_first_change(converge, mlflow, change, more, sentence):
    result = converge(change, **more)

    assert sentence in result["msg"]
    assert mlflow.writes() == []


def test_existing_secret_is_found_before_the_first_change(converge, mlflow, cluster):
    cluster.secret("team/token", {"theirs": b"planted"})
    cluster.requests.clear()

    assert "team/token: that Secret is there already" in converge()["msg"]
    assert mlflow.writes() == cluster.writes() == []


def test_other_login_than_declared_is_a_sentence(converge, mlflow):
    other = {"oidc": "basic", "basic": "oidc"}[mlflow.plugin]

    result = converge({"groups": {}}, auth=other)

    assert f"auth_plugin is {other}, and MLflow at" in result["msg"]


def test_dry_run_without_a_server_names_the_whole_tree(run, cluster):
    result = run(
        "mlflow_access",
        check=True,
        service={"namespace": "mlflow", "name": "mlflow"},
        admin_secret={"namespace": "mlflow", "name": "mlflow-admin"},
        tracking_uri="http://mlflow",
        mlflow_access=WHOLE,
        mlflow_clients=[PIPELINES],
    )

    assert result["msg"].startswith("MLflow does not run yet: ")
    assert result["changes"][:2] == [
        "user ada: created",
        "client pipelines in Secret team/mlflow-credentials: token issued",
    ]
    assert "group science: experiments like ^fr: none -> READ" in result["changes"]
    assert "token nightly/ci in Secret team/token: token issued" in result["changes"]
