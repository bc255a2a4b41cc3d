# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the module mlflow_token, against an MLflow and an API server in memory."""

from __future__ import annotations

from typing import Any

import pytest

ACCOUNT = {"username": "mlflow-admin", "password": "the-admins-planted-password"}
SPARK = {"user": "training", "name": "spark", "secret": {"namespace": "team-a", "name": "spark"}, "take_over": True}
GONE = {"user": "training", "name": "spark", "state": "absent"}


@pytest.fixture(autouse=True)
def _there(cluster, mlflow):
    cluster.namespace("team-a")
    mlflow.account("training", service=True, password="" if mlflow.plugin == "oidc" else "unknown")


def call(run, mlflow, *tokens: dict[str, Any], **more: Any) -> dict[str, Any]:
    result = run("mlflow_token", url=mlflow.url, tokens=list(tokens), **ACCOUNT, **more)
    for row in mlflow.tokens.get("training", []):
        assert row["token"] not in result["_output"]
    return result


def test_token_is_kept_in_a_secret(run, mlflow, cluster):
    result = call(run, mlflow, SPARK)

    values = {key: value.decode() for key, value in cluster.values("team-a/spark").items()}
    assert result["tokens"][0]["name"] == "training/spark"
    assert set(values) == {"username", "password"}
    assert mlflow.lets_in(values["username"], values["password"])
    assert values["password"] not in result["_output"]
    assert not call(run, mlflow, SPARK)["changed"]


def test_check_mode_issues_nothing(run, mlflow, cluster):
    assert call(run, mlflow, SPARK, check=True)["changed"]
    assert mlflow.writes() == []
    assert cluster.writes() == []


def test_removed_token_is_revoked(run, mlflow, cluster):
    call(run, mlflow, SPARK)
    token = cluster.values("team-a/spark")["password"].decode()

    assert call(run, mlflow, GONE)["changed"]

    assert "/api/v1/namespaces/team-a/secrets/spark" not in cluster.objects
    assert not mlflow.lets_in("training", token)
    assert "training" in mlflow.accounts
    assert not call(run, mlflow, GONE)["changed"]


@pytest.mark.parametrize("mlflow", ["oidc"], indirect=True)
def test_token_without_a_secret_is_revoked_too(run, mlflow, cluster):
    call(run, mlflow, SPARK)
    mlflow.issue("training", "by hand", "2099-01-01T00:00:00+00:00")
    del cluster.objects["/api/v1/namespaces/team-a/secrets/spark"]

    call(run, mlflow, GONE)

    assert [row["name"] for row in mlflow.tokens["training"]] == ["by hand"]


def test_moved_secret_leaves_none_behind(run, mlflow, cluster):
    call(run, mlflow, SPARK)

    call(run, mlflow, {**SPARK, "secret": {"namespace": "team-a", "name": "spark-2"}})

    assert "/api/v1/namespaces/team-a/secrets/spark" not in cluster.objects
    assert mlflow.lets_in("training", cluster.values("team-a/spark-2")["password"].decode())


@pytest.mark.parametrize(
    ("token", "sentence"),
    [
        ({**SPARK, "user": "unknown"}, "there is no account unknown"),
        ({"user": "training", "name": "spark"}, "has no secret"),
        ({**SPARK, "secret": {"namespace": "gone", "name": "spark"}}, "there is no namespace gone"),
    ],
)
def test_wrong_input_is_one_sentence(run, mlflow, token, sentence):
    assert sentence in call(run, mlflow, token)["msg"]
    assert mlflow.writes() == []


def test_exclusive_revokes_what_is_not_declared(run, mlflow, cluster):
    call(run, mlflow, SPARK, instance="mlflow")
    mlflow.account("batch", service=True, password="" if mlflow.plugin == "oidc" else "unknown")
    other = {**SPARK, "user": "batch", "secret": {"namespace": "team-a", "name": "other"}}
    call(run, mlflow, other, instance="elsewhere")
    token = cluster.values("team-a/spark")["password"].decode()
    assert not call(run, mlflow, instance="mlflow")["changed"]
    planned = call(run, mlflow, instance="mlflow", exclusive=True, check=True)["changes"]

    result = call(run, mlflow, instance="mlflow", exclusive=True)

    assert result["changes"] == planned
    assert "/api/v1/namespaces/team-a/secrets/spark" not in cluster.objects
    assert not mlflow.lets_in("training", token)
    assert mlflow.lets_in("batch", cluster.values("team-a/other")["password"].decode())
    again = call(run, mlflow, instance="mlflow", exclusive=True)
    assert (again["changed"], again["requests"]) == (False, 0)


def test_secret_with_a_former_label_is_taken_over(run, mlflow, cluster):
    call(run, mlflow, SPARK, instance="mlflow.mlflow")
    mlflow.account("batch", service=True, password="" if mlflow.plugin == "oidc" else "unknown")
    other = {**SPARK, "user": "batch", "secret": {"namespace": "team-a", "name": "other"}}
    call(run, mlflow, other, instance="mine")
    before = cluster.values("team-a/spark")
    assert "is there already" in call(run, mlflow, SPARK, instance="mlflow")["msg"]

    result = call(run, mlflow, SPARK, instance="mlflow", former_instances=["mlflow.mlflow", "mine"])

    assert result["changes"] == [
        "token training/spark in Secret team-a/spark: label mlops.mlflow/instance changed to mlflow"
    ]
    assert cluster.values("team-a/spark") == before
    assert not call(run, mlflow, SPARK, instance="mlflow")["changed"]
    assert "/api/v1/namespaces/team-a/secrets/other" in cluster.objects


def test_secret_with_a_former_label_is_removed_where_its_token_has_moved(run, mlflow, cluster):
    call(run, mlflow, SPARK, instance="mlflow.mlflow")

    moved = {**SPARK, "secret": {"namespace": "team-a", "name": "spark-2"}}
    call(run, mlflow, moved, instance="mlflow", former_instances=["mlflow.mlflow"])

    assert "/api/v1/namespaces/team-a/secrets/spark" not in cluster.objects
    assert mlflow.lets_in("training", cluster.values("team-a/spark-2")["password"].decode())


def test_secrets_of_clients_are_others(run, mlflow, cluster):
    run(
        "mlflow_client",
        url=mlflow.url,
        clients=[{"name": "c", "namespaces": ["team-a"], "secret_name": "spark"}],
        **ACCOUNT,
    )

    assert "is there already" in call(run, mlflow, SPARK)["msg"]
