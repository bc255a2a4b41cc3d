# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the module mlflow_permission, against both plugins' APIs in memory."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils.mlflow.things import ANSIBLE, CREATED_BY
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

ACCOUNT = {"username": "mlflow-admin", "password": "the-admins-planted-password"}


class Failed(Exception):
    """The module failed."""


class Server:
    """An MLflow with a few things in it, and the module."""

    def __init__(self, run: Any, fake: Any) -> None:
        self._run = run
        self.fake = fake
        fake.page = 2  # so that a second page is always asked for
        for name in ("churn", "ds-one", "ds-two"):
            fake.experiment(name)
        fake.model("churn")
        fake.model("greeting", prompt=True)
        for name in ("ada", "bob"):
            fake.account(name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.fake, name)

    def converge(self, kind: str, *permissions: dict[str, Any], check: bool = False, **more: Any) -> dict[str, Any]:
        """Run the module for one kind of subject."""
        subject = {"group": "science", "user": "ada"}[kind]
        entries = [each if "group" in each else {kind: subject, **each} for each in permissions]
        if more.get("exclusive"):
            more.setdefault("subjects", [kind])
        more = {name: value for name, value in more.items() if value is not None}
        result = self._run("mlflow_permission", check=check, url=self.fake.url, **ACCOUNT, permissions=entries, **more)
        if result.get("failed"):
            raise Failed(result["msg"])
        return result


def converge(api: Server, kind: str, *permissions: dict[str, Any], **more: Any) -> dict[str, Any]:
    """What the module gives."""
    return api.converge(kind, *permissions, **more)


def names(api: Server, kind: str, *permissions: dict[str, Any], **more: Any) -> list[str]:
    """The changes alone."""
    return converge(api, kind, *permissions, **more)["changes"]


@pytest.fixture(params=["lists", "bulk"])
def oidc(request: pytest.FixtureRequest, run: Any, oidc: Any) -> Server:
    oidc.bulk = request.param == "bulk"
    return Server(run, oidc)


@pytest.fixture
def basic(run: Any, basic: Any) -> Server:
    return Server(run, basic)


@pytest.fixture
def api(run: Any, mlflow: Any) -> Server:
    return Server(run, mlflow)


# What is declared


def test_changes_are_described_in_words(api):
    converge(api, "group", {"name": "churn", "permission": "READ"})

    result = converge(api, "group", {"name": "churn", "permission": "EDIT"})

    assert result["changes"] == ["group science: experiment churn: READ -> EDIT"]
    assert result["diff"] == [{"prepared": "group science: experiment churn: READ -> EDIT\n"}]


def test_second_run_changes_nothing_and_writes_nothing(api):
    declared = (
        {"name": "churn", "permission": "READ"},
        {"pattern": "^ds-", "permission": "EDIT"},
        {"pattern": ".*", "permission": "READ", "resource": "registered_model"},
        {"name": "churn", "permission": "USE", "resource": "registered_model"},
        {"name": "greeting", "permission": "READ", "resource": "prompt"},
        {"name": "churn/quality", "permission": "EDIT", "resource": "scorer"},
        {"name": "gpt", "permission": "USE", "resource": "gateway_endpoint"},
    )
    for kind in ("group", "user"):
        assert converge(api, kind, *declared)["changed"]
        api.requests.clear()

        result = converge(api, kind, *declared)

        assert result["changes"] == []
        assert not result["changed"]
        assert api.writes() == []


def test_check_mode_tells_the_same_and_writes_nothing(api):
    declared = ({"name": "churn", "permission": "READ"}, {"pattern": "^ds-", "permission": "EDIT"})

    planned = names(api, "group", *declared, check=True)

    assert api.writes() == []
    assert names(api, "group", *declared) == planned
    assert planned


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        (
            {"name": "chrun", "permission": "READ"},
            "no experiment chrun, on which groups are to have permissions: there is churn",
        ),
        ({"name": "zzz", "permission": "READ"}, "there are churn, ds-one, ds-two"),
        ({"name": "churn", "permission": "WRITE"}, "has the permission 'WRITE': one of"),
        (
            {"name": "churn", "permission": "READ", "group": "outsiders"},
            "MLflow has no group outsiders: there are others, science",
        ),
        ({"name": "churn", "permission": "READ", "priority": 5}, "only a pattern has one"),
        ({"pattern": "(", "permission": "READ"}, "is no regular expression"),
        ({"name": "quality", "permission": "READ", "resource": "scorer"}, "a scorer is named EXPERIMENT/SCORER"),
        ({"name": "churn", "permission": "READ", "resource": "prompt"}, "no prompt churn"),
        ({"name": "greeting", "permission": "READ", "resource": "registered_model"}, "no registered model greeting"),
    ],
)
def test_impossible_settings_fail_before_any_change(api, entry, sentence):
    with pytest.raises(Failed) as error:
        converge(api, "group", {"name": "ds-one", "permission": "READ"}, entry, groups=[{"name": "new"}])

    assert sentence in str(error.value)
    assert api.writes() == []


def test_unknown_user_is_named(api):
    with pytest.raises(Failed, match="MLflow has no user eve: there are ada, bob, mlflow-admin"):
        converge(api, "user", {"name": "churn", "permission": "READ", "user": "eve"})


def test_names_of_users_are_folded_where_the_server_does(oidc, basic):
    entry = {"name": "churn", "permission": "READ", "user": "Ada"}
    assert names(oidc, "user", entry) == ["user ada: experiment churn: none -> READ"]
    assert names(oidc, "user", entry, exclusive=True) == []
    with pytest.raises(Failed, match="MLflow has no user Ada"):
        converge(basic, "user", entry)


def test_permission_of_the_other_plugin_is_refused(oidc, basic):
    with pytest.raises(Failed, match="'DENY': one of NO_PERMISSIONS, READ, USE, EDIT, MANAGE"):
        converge(oidc, "group", {"name": "churn", "permission": "DENY"})
    with pytest.raises(Failed, match="'NO_PERMISSIONS': one of DENY, READ, USE, EDIT, MANAGE"):
        converge(basic, "group", {"name": "churn", "permission": "NO_PERMISSIONS"})


def test_two_declarations_that_differ_are_refused(api):
    pair = ({"name": "churn", "permission": "READ"}, {"name": "churn", "permission": "EDIT"})
    with pytest.raises(Failed, match="group science: experiment churn is declared more than once"):
        converge(api, "group", *pair)
    assert names(api, "group", *(pair[:1] * 2)) == ["group science: experiment churn: none -> READ"]


def test_what_is_absent_is_taken_away(api):
    converge(api, "group", {"name": "churn", "permission": "READ"}, {"pattern": ".*", "permission": "READ"})

    gone = ({"name": "churn", "state": "absent"}, {"pattern": ".*", "state": "absent"})

    assert names(api, "group", *gone) == [
        "group science: experiment churn: READ -> none",
        "group science: experiments like .*: READ -> none",
    ]
    assert names(api, "group", *gone) == []


# Groups


def test_group_is_made_before_it_is_granted_anything(api):
    changes = names(api, "group", {"name": "churn", "permission": "READ", "group": "new"}, groups=[{"name": "new"}])

    assert changes == ["group new: created", "group new: experiment churn: none -> READ"]
    assert names(api, "group", groups=[{"name": "new"}]) == []


def test_members_are_the_identity_providers(oidc):
    with pytest.raises(Failed, match="group science has members: with the login by oidc"):
        converge(oidc, "group", groups=[{"name": "science", "members": ["ada"]}])


def test_members_are_added_and_only_exclusively_removed(basic):
    names(basic, "group", groups=[{"name": "science", "members": ["ada", "bob"]}])
    assert basic.role("science")["members"] == {"ada", "bob"}

    assert names(basic, "group", groups=[{"name": "science", "members": ["ada"]}]) == []
    changes = names(basic, "group", groups=[{"name": "science", "members": ["ada"]}], exclusive=True)

    assert changes == ["group science: bob removed"]
    assert basic.role("science")["members"] == {"ada"}


def test_unknown_member_is_named(basic):
    with pytest.raises(Failed, match="MLflow has no user eve, of whom group science is to consist"):
        converge(basic, "group", groups=[{"name": "science", "members": ["eve"]}])
    assert basic.writes() == []


# Exclusively


def test_exclusive_takes_away_what_is_not_declared(oidc):
    for part, target in (
        ("experiments", "1"),
        ("experiment-patterns", "^x"),
        ("prompts", "greeting"),
        ("scorers", "1/q"),
    ):
        oidc.grant("group", "others", part, target, "READ")

    changes = names(oidc, "group", {"name": "churn", "permission": "READ"}, exclusive=True)

    assert changes == [
        "group others: experiment churn: READ -> none",
        "group others: experiments like ^x: READ -> none",
        "group others: prompt greeting: READ -> none",
        "group others: scorer churn/q: READ -> none",
        "group science: experiment churn: none -> READ",
    ]
    assert list(oidc.grants) == [("group", "science", "experiments", "1")]


def test_exclusive_leaves_makers_what_they_made(oidc):
    oidc.grant("user", "ada", "experiments", oidc.number("ds-one"), "MANAGE")
    oidc.grant("user", "ada", "experiments", oidc.number("ds-two"), "READ")
    oidc.grant("user", "ada", "experiment-patterns", "^ds", "MANAGE")
    made = oidc.experiment("made", {CREATED_BY: ANSIBLE})
    oidc.grant("user", "ada", "experiments", made, "MANAGE")
    oidc.grant("user", "mlflow-admin", "experiments", made, "MANAGE")

    result = converge(oidc, "user", exclusive=True)

    assert result["kept"] == ["user ada: experiment ds-one: MANAGE"]
    assert result["changes"] == [
        "user ada: experiment ds-two: READ -> none",
        "user ada: experiment made: MANAGE -> none",
        "user ada: experiments like ^ds: MANAGE -> none",
    ]
    assert oidc.permission("user", "mlflow-admin", "experiments", made) == "MANAGE"


def test_exclusive_leaves_makers_what_they_made_in_basic_auth(basic):
    for name, permission in (("ds-one", "MANAGE"), ("ds-two", "READ")):
        converge(basic, "user", {"name": name, "permission": permission})

    result = converge(basic, "user", exclusive=True)

    assert result["kept"] == ["user ada: experiment ds-one: MANAGE"]
    assert result["changes"] == ["user ada: experiment ds-two: READ -> none"]


def test_exclusive_takes_away_what_nothing_can_be_declared_on(basic):
    """MANAGE on the workspace is MANAGE on everything, with workspaces off as well."""
    for resource, permission in (("workspace", "MANAGE"), ("run", "READ")):
        row = {"resource_type": resource, "resource_pattern": "*", "permission": permission}
        basic._add({"role_id": basic.role("others")["id"], **row})
    basic._grant({"username": "ada", "resource_type": "workspace", "resource_id": "*", "permission": "MANAGE"})
    assert names(basic, "group", {"name": "churn", "permission": "READ"}) == [
        "group science: experiment churn: none -> READ"
    ]

    changes = names(basic, "group", {"name": "churn", "permission": "READ"}, exclusive=True)
    result = converge(basic, "user", exclusive=True)

    assert changes == ["group others: run: READ -> none", "group others: workspace: MANAGE -> none"]
    assert (result["changes"], result["kept"]) == (["user ada: workspace: MANAGE -> none"], [])
    assert basic.granted("others") == basic.granted(basic.own("ada")) == {}


def test_what_another_writer_changed_is_put_back(api):
    declared = {"name": "churn", "permission": "READ"}
    converge(api, "group", declared)
    converge(api, "group", {"name": "churn", "permission": "MANAGE"}, {"name": "ds-one", "permission": "READ"})

    assert names(api, "group", declared, exclusive=True) == [
        "group science: experiment ds-one: READ -> none",
        "group science: experiment churn: MANAGE -> READ",
    ]


def test_less_comes_before_more(api):
    converge(api, "group", {"name": "churn", "permission": "READ"})
    api.requests.clear()

    converge(api, "group", {"name": "ds-one", "permission": "READ"}, exclusive=True)

    assert [each.split()[0] for each in api.writes()] == ["DELETE", "POST"]


def test_last_administrator_stays(basic):
    basic.accounts["ada"]["admin"] = True
    with pytest.raises(Failed, match="would take the right to administer from ada, and leave it only to mlflow-admin"):
        converge(basic, "user", admins=[], exclusive=True)
    assert basic.accounts["ada"]["admin"]

    assert names(basic, "user", admins=["bob"], exclusive=True) == [
        "user bob: administrator: no -> yes",
        "user ada: administrator: yes -> no",
    ]
    assert names(basic, "user", admins=["bob"], exclusive=True) == []
    assert names(basic, "user", admins=[]) == []


def test_administrators_are_the_identity_providers(oidc):
    with pytest.raises(Failed, match="admins is given: with the login by oidc"):
        converge(oidc, "user", admins=["ada"])


# Patterns


def test_pattern_is_kept_with_its_priority(oidc):
    entry = {"pattern": "^ds-", "permission": "READ"}
    assert names(oidc, "group", entry) == ["group science: experiments like ^ds-: none -> READ"]

    changed = names(oidc, "group", {**entry, "priority": 5})

    assert changed == ["group science: experiments like ^ds-: READ -> READ (priority 5)"]
    assert [row["priority"] for row in oidc.grants.values()] == [5]


def test_servers_without_a_pattern_say_so(oidc, basic):
    with pytest.raises(Failed, match="no patterns for MCP servers"):
        converge(oidc, "group", {"pattern": ".*", "permission": "READ", "resource": "mcp_server"})
    with pytest.raises(Failed, match="no patterns for scorers"):
        converge(basic, "group", {"pattern": "^q", "permission": "READ", "resource": "scorer"})


def test_pattern_is_written_out_for_basic_auth(basic):
    declared = (
        {"pattern": "^ds-", "permission": "READ", "priority": 2},
        {"pattern": ".*two", "permission": "EDIT", "priority": 1},
        {"name": "ds-one", "permission": "MANAGE"},
    )

    assert names(basic, "group", *declared) == [
        "group science: experiment ds-one: none -> MANAGE",
        "group science: experiment ds-two: none -> EDIT",
    ]
    number = basic.experiment("ds-three")
    assert names(basic, "group", *declared) == ["group science: experiment ds-three: none -> READ"]
    assert basic.granted("science")["experiment", number] == "READ"


def test_pattern_of_everything_is_kept_by_basic_auth(basic):
    converge(basic, "group", {"pattern": ".*", "permission": "READ"})

    assert basic.granted("science") == {("experiment", "*"): "READ"}


def test_basic_auth_has_its_own_names_of_things(basic):
    converge(
        basic,
        "user",
        {"name": "gpt", "permission": "USE", "resource": "gateway_endpoint"},
        {"name": "churn/quality", "permission": "READ", "resource": "scorer"},
        {"name": "churn", "permission": "READ", "resource": "registered_model"},
    )

    assert set(basic.granted(basic.own("ada"))) == {
        ("gateway_endpoint", "e-1"),
        ("scorer", f"{basic.number('churn')}/quality"),
        ("registered_model", "churn"),
    }


# Requests


def test_lists_are_few(api):
    api.fake.page = 0
    declared = [
        {"group": group, "name": name, "permission": "READ"}
        for group in ("science", "others")
        for name in ("churn", "ds-one", "ds-two")
    ]
    # Who calls, experiments, and of basic-auth the roles; of oidc the groups, the try for one list, and two lists.
    most = {"basic": 3, "oidc": 6}[api.fake.plugin]
    converge(api, "group", *declared)

    assert converge(api, "group", *declared)["requests"] <= most
    if api.fake.plugin == "oidc":
        api.fake.bulk = True
        assert converge(api, "group", *declared)["requests"] <= 4


def test_nothing_declared_is_nothing_asked(api):
    assert converge(api, "group")["changes"] == []
    assert api.requests == ["GET /api/2.0/mlflow/users/current"]


def test_many_permissions_are_made_over_several_connections(api):
    things = [f"many-{number}" for number in range(20)]
    for name in things:
        api.experiment(name)
    declared = [
        {"group": group, "name": name, "permission": "READ"} for group in ("science", "others") for name in things
    ]

    planned = names(api, "group", *declared, check=True)
    result = converge(api, "group", *declared)

    assert result["changes"] == planned
    assert len(api.writes()) == len(planned) == 40
    assert names(api, "group", *declared) == []


def test_refusal_among_many_is_a_sentence(api):
    things = [f"many-{number}" for number in range(20)]
    for name in things:
        api.experiment(name)
    declared = [{"group": "science", "name": name, "permission": "READ"} for name in things]
    path = {
        "oidc": f"POST /api/2.0/mlflow/permissions/groups/science/experiments/{api.number('many-7')}",
        "basic": "POST /api/3.0/mlflow/roles/permissions/add",
    }[api.fake.plugin]
    api.answers[path] = (500, {"detail": "planted"})

    with pytest.raises(Failed, match=r"MLflow refused to set group science: experiment .*: planted .HTTP 500"):
        converge(api, "group", *declared)


# Whose


def test_groups_and_users_are_in_one_call(api):
    result = converge(
        api,
        "user",
        {"name": "churn", "permission": "READ"},
        {"group": "science", "name": "churn", "permission": "EDIT"},
    )

    assert result["changes"] == [
        "group science: experiment churn: none -> EDIT",
        "user ada: experiment churn: none -> READ",
    ]


def test_exclusive_is_about_the_kinds_that_are_declared(api):
    converge(api, "user", {"name": "ds-one", "permission": "READ"})
    converge(api, "group", {"name": "ds-one", "permission": "READ"})

    changes = names(api, "user", {"name": "churn", "permission": "READ"}, exclusive=True, subjects=None)

    assert changes == ["user ada: experiment ds-one: READ -> none", "user ada: experiment churn: none -> READ"]
    with pytest.raises(Failed, match="exclusive is true and nothing is declared: name in subjects whose"):
        converge(api, "user", exclusive=True, subjects=None)


# Whatever is declared and whatever there is

RESOURCES = {"experiment": ["churn", "ds-one", "ds-two"], "registered_model": ["churn"], "prompt": ["greeting"]}
ENTRIES = st.lists(
    st.sampled_from([(kind, name) for kind, things in RESOURCES.items() for name in things]).flatmap(
        lambda its: st.tuples(
            st.just(its[0]), st.just(its[1]), st.sampled_from(["science", "others"]), st.sampled_from(["READ", "EDIT"])
        )
    ),
    max_size=8,
    unique_by=lambda each: each[:3],
)


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.booleans(), ENTRIES, ENTRIES)
def test_exclusive_makes_it_as_declared_whatever_there_was(run, mlflow, bulk, before, after):
    url = mlflow.url
    mlflow.__init__()
    mlflow.url, mlflow.bulk = url, bulk
    api = Server(run, mlflow)

    def entries(rows):
        return [{"resource": r, "name": n, "group": g, "permission": p} for r, n, g, p in rows]

    converge(api, "group", *entries(before))

    planned = names(api, "group", *entries(after), exclusive=True, check=True)

    assert names(api, "group", *entries(after), exclusive=True) == planned
    assert names(api, "group", *entries(after), exclusive=True) == []
    assert len(planned) == len(set(before) ^ set(after)) - len(
        {row[:3] for row in set(before) - set(after)} & {row[:3] for row in set(after) - set(before)}
    )
