# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the module mlflow_service_account, against an MLflow in memory."""

from __future__ import annotations

from typing import Any

import pytest

ACCOUNT = {"username": "mlflow-admin", "password": "the-admins-planted-password"}


def call(run, mlflow, *accounts: dict[str, Any], **more: Any) -> dict[str, Any]:
    return run("mlflow_service_account", url=mlflow.url, service_accounts=list(accounts), **ACCOUNT, **more)


def test_program_is_made_once_and_is_no_person(run, oidc):
    result = call(run, oidc, {"name": "training"})

    assert result["changes"] == ["service account training: created"]
    assert result["service_accounts"][0]["source"] == "internal"
    assert oidc.accounts["training"]["service"] is True
    assert not call(run, oidc, {"name": "training"})["changed"]


def test_programs_of_a_provider_are_bound_to_its_subject(run, oidc):
    crawler = {"name": "crawler", "source": "default", "subject": "abc"}
    call(run, oidc, {"name": "crawler"})

    result = call(run, oidc, crawler)

    assert result["changes"] == ["service account crawler: signs in by default"]
    assert oidc.identities["crawler"] == [{"provider_id": "default", "subject": "abc"}]
    assert not call(run, oidc, crawler)["changed"]
    oidc.identities["crawler"] = [{"provider_id": "default", "subject": "somebody else"}]
    assert call(run, oidc, crawler)["changed"]


def test_person_is_not_made_a_program(run, oidc):
    oidc.account("ada")

    assert "there is a person's account of that name" in call(run, oidc, {"name": "ada"})["msg"]
    assert "there is a person's account" in call(run, oidc, {"name": "ada", "state": "absent"})["msg"]


def test_program_of_basic_auth_has_a_password_that_nobody_knows(run, basic):
    result = call(run, basic, {"name": "one"}, {"name": "two"})

    first, second = basic.accounts["one"]["password"], basic.accounts["two"]["password"]
    assert len(first) >= 32
    assert first != second
    assert first not in result["_output"]
    assert not call(run, basic, {"name": "one"}, {"name": "two"})["changed"]


@pytest.mark.parametrize("wrong", [{"source": "default"}, {"subject": "abc"}])
def test_basic_auth_has_no_providers(run, basic, wrong):
    assert "knows no identity providers" in call(run, basic, {"name": "one", **wrong})["msg"]


def test_check_mode_makes_nothing(run, mlflow):
    assert call(run, mlflow, {"name": "one"}, check=True)["changed"]
    assert mlflow.writes() == []
