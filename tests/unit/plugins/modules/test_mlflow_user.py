# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the module mlflow_user, against an MLflow in memory."""

from __future__ import annotations

from typing import Any

import pytest

ACCOUNT = {"username": "mlflow-admin", "password": "the-admins-planted-password"}
PLANTED = "adas-planted-password"
REFERENCE = {"namespace": "mlflow", "name": "first-passwords"}


def call(run, mlflow, *users: dict[str, Any], **more: Any) -> dict[str, Any]:
    result = run("mlflow_user", url=mlflow.url, users=list(users), **{**ACCOUNT, **more})
    assert PLANTED not in result["_output"]
    return result


@pytest.fixture(autouse=True)
def _users(cluster):
    cluster.secret(
        "mlflow/first-passwords", {"ada": PLANTED.encode(), "bob": b"bobs-planted-password", "bad": b"\xff\xfe\xfd"}
    )


def test_user_is_made_once(run, oidc):
    ada = {"name": "Ada", "display_name": "Ada Lovelace"}

    result = call(run, oidc, ada)

    assert result["changes"] == ["user Ada: created"]
    assert result["users"][0]["display_name"] == "Ada Lovelace"
    assert oidc.accounts["ada"]["service"] is False
    oidc.requests.clear()
    result = call(run, oidc, ada)
    assert not result["changed"]
    assert oidc.writes() == []
    assert result["requests"] == 2


def test_check_mode_makes_nothing(run, mlflow):
    result = call(run, mlflow, {"name": "ada", "password_secret": REFERENCE}, check=True)

    assert result["changes"] == ["user ada: created"]
    assert '"name": "ada"' in result["diff"][-1]["after"]
    assert mlflow.writes() == []


def test_account_that_is_not_there_may_be_left_so(run, oidc):
    oidc.account("ada")
    gone = [{"name": name, "active": False, "create": False} for name in ("ada", "eve")]

    assert call(run, oidc, *gone)["changes"] == ["user ada: deactivated"]

    assert "eve" not in oidc.accounts
    assert not call(run, oidc, *gone)["changed"]


def test_only_what_is_declared_is_changed(run, oidc):
    oidc.account("ada", admin=True, active=False)

    assert not call(run, oidc, {"name": "ada"})["changed"]
    result = call(run, oidc, {"name": "ada", "admin": False, "active": True})

    assert result["changes"] == ["user ada: no administrator any more", "user ada: activated"]
    assert '"admin": true' in result["diff"][-1]["before"]
    assert oidc.accounts["ada"]["admin"] is False
    assert oidc.accounts["ada"]["active"] is True


def test_new_user_may_be_made_inactive(run, oidc):
    call(run, oidc, {"name": "ada", "active": False})

    assert oidc.accounts["ada"]["active"] is False
    assert not call(run, oidc, {"name": "ada", "active": False})["changed"]


def test_refusal_is_handed_on_in_a_sentence(run, oidc):
    result = call(run, oidc, {"name": "mlflow-admin", "state": "present"})
    assert "a service account of that name" in result["msg"]
    oidc.account("root", admin=True, password="roots-password")
    oidc.accounts.pop("mlflow-admin")

    result = call(run, oidc, {"name": "root", "admin": False}, username="root", password="roots-password")

    assert result["msg"] == "MLflow refused to change user root: the last active administrator stays one (HTTP 409)"


def test_user_is_removed(run, mlflow):
    mlflow.account("ada")

    assert call(run, mlflow, {"name": "ada", "state": "absent"})["changes"] == ["user ada: removed"]
    assert "ada" not in mlflow.accounts
    assert not call(run, mlflow, {"name": "ada", "state": "absent"})["changed"]


def test_account_of_the_call_does_not_remove_itself(run, basic):
    result = call(run, basic, {"name": "mlflow-admin", "state": "absent"})

    assert "cannot remove itself" in result["msg"]


def test_user_of_basic_auth_gets_the_first_password_once(run, basic):
    ada = {"name": "ada", "admin": True, "password_secret": REFERENCE}

    call(run, basic, ada)

    assert basic.accounts["ada"]["password"] == PLANTED
    assert basic.accounts["ada"]["admin"] is True
    basic.accounts["ada"]["password"] = "changed by ada"
    assert not call(run, basic, ada)["changed"]


def test_password_is_set_again_where_always_is_asked_for(run, basic):
    ada = {"name": "ada", "password_secret": REFERENCE, "update_password": "always"}
    basic.account("ada", password="another one")

    assert call(run, basic, ada)["changes"] == ["user ada: password set"]
    assert basic.accounts["ada"]["password"] == PLANTED
    assert not call(run, basic, ada)["changed"]


@pytest.mark.parametrize(
    ("user", "sentence"),
    [
        ({"name": "ada"}, "it is new, so password_secret must name"),
        ({"name": "eve", "password_secret": REFERENCE}, "Secret mlflow/first-passwords has no key eve"),
        ({"name": "bad", "password_secret": REFERENCE}, "has no text in its key bad"),
        ({"name": "ada", "active": False}, "cannot deactivate an account"),
    ],
)
def test_limits_of_basic_auth_are_reported(run, basic, user, sentence):
    result = call(run, basic, user)

    assert sentence in result["msg"]
    assert basic.writes() == []


def test_password_is_not_read_where_it_is_not_needed(run, oidc, cluster):
    call(run, oidc, {"name": "ada", "password_secret": REFERENCE, "update_password": "always"})

    assert cluster.requests == []


def test_name_is_declared_once(run, mlflow):
    assert "users declares ADA more than once" in call(run, mlflow, {"name": "ada"}, {"name": "ADA"})["msg"]


def test_ordinary_account_is_no_administrator(run, mlflow):
    mlflow.account("ada", password="adas")

    result = call(run, mlflow, {"name": "bob"}, username="ada", password="adas")

    assert "ada is no administrator of MLflow at" in result["msg"]


# Programs


def programs(run, mlflow, *accounts: dict[str, Any], **more: Any) -> dict[str, Any]:
    return run("mlflow_user", url=mlflow.url, service_accounts=list(accounts), **ACCOUNT, **more)


def test_program_is_made_once_and_is_no_user(run, oidc):
    result = programs(run, oidc, {"name": "training"})

    assert result["changes"] == ["service account training: created"]
    assert result["service_accounts"][0]["source"] == "internal"
    assert oidc.accounts["training"]["service"] is True
    assert not programs(run, oidc, {"name": "training"})["changed"]


def test_programs_of_a_provider_are_bound_to_its_subject(run, oidc):
    crawler = {"name": "crawler", "source": "default", "subject": "abc"}
    programs(run, oidc, {"name": "crawler"})

    result = programs(run, oidc, crawler)

    assert result["changes"] == ["service account crawler: signs in by default"]
    assert oidc.identities["crawler"] == [{"provider_id": "default", "subject": "abc"}]
    assert not programs(run, oidc, crawler)["changed"]
    oidc.identities["crawler"] = [{"provider_id": "default", "subject": "another subject"}]
    assert programs(run, oidc, crawler)["changed"]


def test_user_is_not_made_a_program(run, oidc):
    oidc.account("ada")

    assert "there is a user's account of that name" in programs(run, oidc, {"name": "ada"})["msg"]
    assert "there is a user's account" in programs(run, oidc, {"name": "ada", "state": "absent"})["msg"]


def test_program_of_basic_auth_has_a_password_that_is_kept_nowhere(run, basic):
    result = programs(run, basic, {"name": "one"}, {"name": "two"})

    first, second = basic.accounts["one"]["password"], basic.accounts["two"]["password"]
    assert len(first) >= 32
    assert first != second
    assert first not in result["_output"]
    assert not programs(run, basic, {"name": "one"}, {"name": "two"})["changed"]


@pytest.mark.parametrize("wrong", [{"source": "default"}, {"subject": "abc"}])
def test_basic_auth_has_no_providers(run, basic, wrong):
    assert "knows no identity providers" in programs(run, basic, {"name": "one", **wrong})["msg"]


def test_check_mode_makes_no_program(run, mlflow):
    assert programs(run, mlflow, {"name": "one"}, check=True)["changed"]
    assert mlflow.writes() == []


def test_users_and_programs_are_made_in_one_call(run, oidc):
    lists = {"users": [{"name": "ada"}], "service_accounts": [{"name": "nightly"}]}

    result = run("mlflow_user", url=oidc.url, **ACCOUNT, **lists)

    assert result["changes"] == ["user ada: created", "service account nightly: created"]
    assert [result[name][0]["service_account"] for name in lists] == [False, True]


def test_many_are_made_over_several_connections(run, mlflow):
    programs = [{"name": f"program-{number}"} for number in range(40)]

    assert len(run("mlflow_user", url=mlflow.url, **ACCOUNT, service_accounts=programs)["changes"]) == 40

    result = run("mlflow_user", url=mlflow.url, **ACCOUNT, service_accounts=programs)
    assert (result["changed"], result["requests"]) == (False, 2)
    assert len(result["service_accounts"]) == 40
