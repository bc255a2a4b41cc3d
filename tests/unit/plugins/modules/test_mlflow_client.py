# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the module mlflow_client, against an MLflow and an API server in memory."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

ACCOUNT = {"username": "mlflow-admin", "password": "the-admins-planted-password"}
TRAINING = {"name": "training", "namespaces": ["team-a"]}
SECRET = "team-a/mlflow-credentials"
URI, USERNAME, PASSWORD = (f"MLFLOW_TRACKING_{part}" for part in ("URI", "USERNAME", "PASSWORD"))


@pytest.fixture(autouse=True)
def _namespaces(cluster):
    cluster.namespace("team-a", "team-b")


def call(run, mlflow, *clients: dict[str, Any], **more: Any) -> dict[str, Any]:
    options = {"url": mlflow.url, **ACCOUNT, "tracking_uri": "http://mlflow.mlflow.svc:5000/", **more}
    result = run("mlflow_client", clients=list(clients), **options)
    for rows in mlflow.tokens.values():
        assert not any(row["token"] in result["_output"] for row in rows), "a token is in the output"
    for account in mlflow.accounts.values():
        assert not account["password"] or account["password"] not in result["_output"], "a password is in the output"
    return result


def age(mlflow, cluster, days: int) -> None:
    """Let all that was issued be older."""
    by = timedelta(days=days)
    for rows in mlflow.tokens.values():
        for row in rows:
            for field in ("created_at", "expires_at"):
                row[field] = (datetime.fromisoformat(row[field]) - by).isoformat()
    for path, thing in cluster.objects.items():
        annotations = thing["metadata"].get("annotations") or {}
        if "/secrets/" in path and "mlops.mlflow/issued" in annotations:
            issued = datetime.fromisoformat(annotations["mlops.mlflow/issued"])
            annotations["mlops.mlflow/issued"] = (issued - by).isoformat()


def test_client_gets_an_account_and_a_secret_that_lets_it_in(run, mlflow, cluster):
    result = call(run, mlflow, {**TRAINING, "namespaces": ["team-a", "team-b"]})

    assert result["changed"]
    assert len(result["clients"]) == 2
    for place in (SECRET, "team-b/mlflow-credentials"):
        values = {key: value.decode() for key, value in cluster.values(place).items()}
        assert set(values) == {URI, USERNAME, PASSWORD}
        assert values[URI] == "http://mlflow.mlflow.svc:5000"
        assert mlflow.lets_in(values[USERNAME], values[PASSWORD])
        assert values[PASSWORD] not in result["_output"]
    assert not mlflow.accounts["training"]["admin"]


def test_second_run_changes_nothing(run, mlflow, cluster):
    call(run, mlflow, TRAINING)
    before = cluster.values(SECRET)
    mlflow.requests.clear()
    cluster.requests.clear()

    result = call(run, mlflow, TRAINING)

    assert not result["changed"]
    assert result["diff"] == []
    assert mlflow.writes() == []
    assert cluster.writes() == []
    assert cluster.values(SECRET) == before
    assert result["requests"] == len(mlflow.requests) == 3


def test_where_nothing_is_declared_and_nothing_is_left_mlflow_is_not_asked(run, mlflow):
    result = call(run, mlflow, exclusive=True)

    assert (result["changed"], result["requests"]) == (False, 0)


def test_check_mode_changes_nothing_and_says_what_it_would(run, mlflow, cluster):
    result = call(run, mlflow, TRAINING, check=True)

    assert result["changes"][0] == "service account training: created"
    assert result["changes"][1].startswith(f"client training in Secret {SECRET}: ")
    assert URI in result["diff"][-1]["after"]
    assert mlflow.writes() == []
    assert cluster.writes() == []


def test_token_is_renewed_before_its_end_and_the_old_one_honoured_for_the_grace(run, oidc, cluster):
    call(run, oidc, TRAINING)
    old = cluster.values(SECRET)[PASSWORD].decode()
    age(oidc, cluster, 59)
    assert not call(run, oidc, TRAINING)["changed"]
    age(oidc, cluster, 2)

    result = call(run, oidc, TRAINING)

    new = cluster.values(SECRET)[PASSWORD].decode()
    assert "token renewed, since it ends on" in result["changes"][0]
    assert result["clients"][0]["renewed"]
    assert new != old
    assert oidc.lets_in("training", new)
    assert oidc.lets_in("training", old)
    assert not call(run, oidc, TRAINING)["changed"], "within the grace nothing is to do"

    age(oidc, cluster, 7)
    result = call(run, oidc, TRAINING)

    assert len(result["changes"]) == 1
    assert result["changes"][0].endswith("revoked")
    assert not oidc.lets_in("training", old)
    assert oidc.lets_in("training", new)
    assert not call(run, oidc, TRAINING)["changed"]


def test_password_of_basic_auth_is_renewed_in_all_secrets_at_once(run, basic, cluster):
    client = {**TRAINING, "namespaces": ["team-a", "team-b"]}
    call(run, basic, client)
    old = cluster.values(SECRET)[PASSWORD].decode()
    age(basic, cluster, 61)

    result = call(run, basic, client)

    new = {cluster.values(f"{each}/mlflow-credentials")[PASSWORD].decode() for each in ("team-a", "team-b")}
    assert len(result["changes"]) == 2
    assert len(new) == 1
    assert basic.lets_in("training", *new)
    assert not basic.lets_in("training", old)
    assert not call(run, basic, client)["changed"]


def test_another_namespace_gets_the_password_that_there_is(run, basic, cluster):
    call(run, basic, TRAINING)
    old = cluster.values(SECRET)[PASSWORD]

    call(run, basic, {**TRAINING, "namespaces": ["team-a", "team-b"]})

    assert cluster.values("team-b/mlflow-credentials")[PASSWORD] == cluster.values(SECRET)[PASSWORD] == old


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        ("secret removed", "there is none"),
        ("key removed", "there is no MLFLOW_TRACKING_PASSWORD in it"),
        ("value changed", "it was changed by another writer"),
        ("token revoked", "MLflow no longer has it"),
    ],
)
def test_what_was_broken_by_hand_is_mended(run, oidc, cluster, harm, why):
    call(run, oidc, TRAINING)
    path = "/api/v1/namespaces/team-a/secrets/mlflow-credentials"
    if harm == "secret removed":
        del cluster.objects[path]
    elif harm == "key removed":
        del cluster.objects[path]["data"][PASSWORD]
    elif harm == "value changed":
        cluster.objects[path]["data"][PASSWORD] = "YmFk"
    else:
        oidc.tokens["training"].clear()

    result = call(run, oidc, TRAINING)

    assert why in result["changes"][0]
    assert oidc.lets_in("training", cluster.values(SECRET)[PASSWORD].decode())
    assert not call(run, oidc, TRAINING)["changed"]


def test_changed_uri_is_put_right_and_the_token_stays(run, mlflow, cluster):
    call(run, mlflow, TRAINING)
    token = cluster.values(SECRET)[PASSWORD]

    result = call(run, mlflow, {**TRAINING, "tracking_uri": "https://mlflow.example.com"})

    assert result["changes"] == [f"client training in Secret {SECRET}: {URI} changed"]
    assert cluster.values(SECRET) == {URI: b"https://mlflow.example.com", USERNAME: b"training", PASSWORD: token}


def test_existing_secret_is_left_alone(run, mlflow, cluster):
    cluster.secret(SECRET, {"theirs": b"planted"})

    result = call(run, mlflow, TRAINING)

    assert result["failed"]
    assert f"client training in Secret {SECRET}: that Secret is there already" in result["msg"]
    assert cluster.values(SECRET) == {"theirs": b"planted"}
    assert mlflow.writes() == [], "nothing was made before it was seen"


def test_secret_of_another_client_is_left_alone(run, mlflow, cluster):
    call(run, mlflow, TRAINING)

    result = call(run, mlflow, {"name": "other", "namespaces": ["team-a"]})

    assert "that Secret is client training's" in result["msg"]


def test_secret_of_another_mlflow_is_left_alone(run, mlflow, cluster):
    call(run, mlflow, TRAINING, instance="one")

    assert "is there already" in call(run, mlflow, TRAINING, instance="two")["msg"]
    assert not call(run, mlflow, instance="two", exclusive=True)["changed"]


def test_namespace_that_is_no_longer_declared_loses_secret_and_token(run, mlflow, cluster):
    call(run, mlflow, {**TRAINING, "namespaces": ["team-a", "team-b"]})
    gone = cluster.values("team-b/mlflow-credentials")[PASSWORD].decode()

    result = call(run, mlflow, TRAINING)

    assert "client training in Secret team-b/mlflow-credentials: Secret removed" in result["changes"]
    assert "/api/v1/namespaces/team-b/secrets/mlflow-credentials" not in cluster.objects
    assert not mlflow.lets_in("training", gone)
    assert mlflow.lets_in("training", cluster.values(SECRET)[PASSWORD].decode())
    assert not call(run, mlflow, TRAINING)["changed"]


@pytest.mark.parametrize(
    ("clients", "more"),
    [
        ([{**TRAINING, "namespaces": ["team-a", "team-b"]}], {}),
        ([{**TRAINING, "tracking_uri": "http://elsewhere"}], {}),
        ([{"name": "other", "namespaces": ["team-b"]}], {"exclusive": True}),
        ([], {"exclusive": True, "remove_accounts": True}),
        ([{**TRAINING, "namespaces": ["team-b"]}], {}),
    ],
)
def test_dry_run_says_what_the_run_then_does(run, mlflow, clients, more):
    call(run, mlflow, {**TRAINING, "namespaces": ["team-a"]})

    planned = call(run, mlflow, *clients, check=True, **more)
    done = call(run, mlflow, *clients, **more)

    assert planned["changes"] == done["changes"] != []
    assert not call(run, mlflow, *clients, **more)["changed"]


def test_token_of_a_deleted_namespace_is_revoked(run, oidc, cluster):
    call(run, oidc, {**TRAINING, "namespaces": ["team-a", "team-b"]})
    gone = cluster.values("team-b/mlflow-credentials")[PASSWORD].decode()
    for path in [each for each in cluster.objects if "team-b" in each]:
        del cluster.objects[path]

    call(run, oidc, TRAINING)

    assert not oidc.lets_in("training", gone)


@pytest.mark.parametrize("how", ["absent", "exclusive"])
def test_removed_client_is_revoked(run, mlflow, cluster, how):
    call(run, mlflow, TRAINING, {"name": "other", "namespaces": ["team-b"]})
    gone = cluster.values(SECRET)[PASSWORD].decode()
    other = {"name": "other", "namespaces": ["team-b"]}

    if how == "absent":
        result = call(run, mlflow, {"name": "training", "state": "absent"}, other)
    else:
        result = call(run, mlflow, other, exclusive=True)

    assert f"client training in Secret {SECRET}: Secret removed" in result["changes"]
    assert not mlflow.lets_in("training", gone)
    assert "training" in mlflow.accounts
    assert mlflow.lets_in("other", cluster.values("team-b/mlflow-credentials")[PASSWORD].decode())
    assert not call(run, mlflow, other, exclusive=True)["changed"]


def test_account_goes_with_its_last_secret_where_that_is_asked_for(run, mlflow):
    call(run, mlflow, {**TRAINING, "namespaces": ["team-a", "team-b"]})
    call(run, mlflow, TRAINING, exclusive=True, remove_accounts=True)
    assert "training" in mlflow.accounts

    result = call(run, mlflow, exclusive=True, remove_accounts=True)

    assert result["changes"][-1] == "service account training: removed"
    assert "training" not in mlflow.accounts


def test_account_of_a_user_is_no_programs(run, oidc):
    oidc.account("ada")

    assert "the account ada is a user's" in call(run, oidc, {**TRAINING, "user": "ada"})["msg"]


def test_basic_auth_takes_an_account_over_only_on_request(run, basic, cluster):
    basic.account("training", password="known-to-its-user")

    result = call(run, basic, TRAINING)

    assert "take_over: true" in result["msg"]
    assert basic.lets_in("training", "known-to-its-user")
    assert not call(run, basic, {**TRAINING, "take_over": True}).get("failed")
    assert basic.lets_in("training", cluster.values(SECRET)[PASSWORD].decode())


def test_server_that_issues_no_tokens_is_reported(run, oidc, cluster):
    oidc.may_issue = False

    result = call(run, oidc, TRAINING)

    assert "MLOPS_ADMIN_ACCOUNT" in result["msg"]
    assert f"/api/v1/namespaces/{SECRET.replace('/', '/secrets/')}" not in cluster.objects


def test_token_that_cannot_be_kept_is_taken_back(run, oidc, cluster):
    cluster.answers["POST /api/v1/namespaces/team-a/secrets"] = (
        507,
        {"kind": "Status", "message": "no room for mlf_00000001_planted-token-1"},
    )

    result = call(run, oidc, TRAINING)

    assert "cannot be written, the API server answered with 507" in result["msg"]
    assert "planted-token-1" not in result["_output"]
    assert oidc.tokens["training"] == []


def test_token_in_an_answer_of_mlflow_is_hidden(run, oidc, cluster):
    cluster.answers["POST /api/v1/namespaces/team-a/secrets"] = (507, {"kind": "Status"})
    oidc.answers["DELETE /api/2.0/mlflow/users/training/tokens/1"] = (
        500,
        {"detail": "no such thing as mlf_00000001_planted-token-1"},
    )

    result = call(run, oidc, TRAINING)

    assert "MLflow refused to take a token back: no such thing as" in result["msg"]
    assert oidc.tokens["training"][0]["token"] == "mlf_00000001_planted-token-1"


@pytest.mark.parametrize(
    ("client", "sentence"),
    [
        ({"name": "x"}, "has no namespaces"),
        ({"name": "x", "namespaces": ["Team A"]}, "has the namespace 'Team A'"),
        ({"name": "x", "namespaces": ["gone"]}, "there is no namespace gone"),
        ({**TRAINING, "secret_name": "A_b"}, "has the Secret 'A_b'"),
        ({**TRAINING, "lifetime_days": 400}, "lifetime_days of training is 400, and must be from 1 to 365"),
        ({**TRAINING, "lifetime_days": 30}, "renew_before_days of training is 30, and must be less than"),
        ({**TRAINING, "grace_days": -1}, "grace_days of training is -1"),
    ],
)
def test_wrong_input_is_one_sentence(run, mlflow, client, sentence):
    result = call(run, mlflow, client)

    assert sentence in result["msg"]
    assert mlflow.writes() == []


def test_two_clients_cannot_share_a_secret(run, mlflow):
    assert "both put Secret" in call(run, mlflow, TRAINING, {**TRAINING, "name": "other"})["msg"]
    assert "more than once" in call(run, mlflow, TRAINING, TRAINING)["msg"]


def test_uri_is_needed_where_the_service_is_given(run, kubeconfig):
    result = run(
        "mlflow_client",
        service={"namespace": "mlflow", "name": "mlflow"},
        username="a",
        password="b",
        clients=[TRAINING],
    )

    assert "training has no tracking_uri" in result["msg"]


def test_dry_run_without_a_server_names_what_it_would_issue(run, cluster):
    result = run(
        "mlflow_client",
        check=True,
        service={"namespace": "mlflow", "name": "mlflow"},
        admin_secret={"namespace": "mlflow", "name": "mlflow-admin"},
        tracking_uri="http://mlflow",
        clients=[TRAINING],
    )

    assert result["changed"]
    assert result["changes"] == [f"client training in Secret {SECRET}: token issued"]


def test_end_of_what_is_returned_is_the_tokens(run, oidc):
    result = call(run, oidc, {**TRAINING, "lifetime_days": 40})

    ends = datetime.fromisoformat(result["clients"][0]["expires"])
    assert timedelta(days=39) < ends - datetime.now(UTC) <= timedelta(days=40)
