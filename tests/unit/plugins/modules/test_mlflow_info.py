# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the module mlflow_info, against an MLflow in memory."""

from __future__ import annotations

ACCOUNT = {"username": "mlflow-admin", "password": "the-admins-planted-password"}


def test_server_and_account(run, mlflow):
    result = run("mlflow_info", url=mlflow.url, gather=["users"], **ACCOUNT)

    assert result["version"] == "3.17.2"
    assert result["auth_plugin"] == mlflow.plugin
    assert result["account"] == {"name": "mlflow-admin", "admin": True}
    assert [user["name"] for user in result["users"]] == ["mlflow-admin"]
    assert not result["changed"]
    assert "groups" not in result


def test_tokens_are_dates_and_no_values(run, oidc):
    oidc.account("training", service=True)
    row = oidc.issue("training", "spark", "2099-01-01T00:00:00+00:00")

    result = run("mlflow_info", url=oidc.url, gather=["tokens"], **ACCOUNT)

    assert [(each["user"], each["name"], each["expires"]) for each in result["tokens"]] == [
        ("training", "spark", "2099-01-01T00:00:00+00:00")
    ]
    assert row["token"] not in result["_output"]


def test_members_of_groups(run, oidc):
    oidc.answers["GET /api/2.0/mlflow/permissions/groups"] = (200, ["team a"])
    oidc.answers["GET /api/2.0/mlflow/permissions/groups/team%20a/users"] = (
        200,
        [{"username": "bob"}, {"username": "ada"}],
    )

    result = run("mlflow_info", url=oidc.url, gather=["groups"], **ACCOUNT)

    assert result["groups"] == [{"name": "team a", "members": ["ada", "bob"]}]


def test_roles_are_the_groups_of_basic_auth(run, basic):
    basic.answers["GET /api/3.0/mlflow/roles/list"] = (200, {"roles": [{"name": "team-a"}, {"name": "__user_3__"}]})
    roles = [{"name": "team-a"}, {"name": "__user_3__"}]
    users = {"users": [{"username": "ada", "is_admin": False, "roles": roles}]}
    basic.answers["GET /api/2.0/mlflow/users/list"] = (200, users)

    result = run("mlflow_info", url=basic.url, gather=["groups"], **ACCOUNT)

    assert result["groups"] == [{"name": "team-a", "members": ["ada"]}]


def test_pages_are_followed_up_to_the_limit(run, oidc):
    page = {"experiments": [{"experiment_id": "1", "name": "a", "lifecycle_stage": "active"}], "next_page_token": "x"}
    oidc.answers["GET /api/2.0/mlflow/experiments/search"] = (200, page)

    result = run("mlflow_info", url=oidc.url, gather=["experiments"], max_results=3, **ACCOUNT)

    assert len(result["experiments"]) == 3
    assert "must be 1 or more" in run("mlflow_info", url=oidc.url, max_results=0, **ACCOUNT)["msg"]


def test_ordinary_account_reads_no_users(run, mlflow):
    mlflow.account("ada", password="adas")

    result = run("mlflow_info", url=mlflow.url, username="ada", password="adas")

    assert "is no administrator" in result["msg"]
