# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the modules mlflow_experiment and mlflow_registered_model, against an MLflow in memory."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils.mlflow.things import ANSIBLE, CREATED_BY

ACCOUNT = {"username": "mlflow-admin", "password": "the-admins-planted-password"}
OPTIONS = {"mlflow_experiment": "experiments", "mlflow_registered_model": "models"}


class Failed(Exception):
    """The module failed."""


@pytest.fixture
def api(mlflow: Any) -> Any:
    for name in ("churn", "ds-one", "ds-two"):
        mlflow.experiment(name)
    mlflow.model("churn")
    return mlflow


@pytest.fixture
def ensure(run: Any) -> Any:
    """Give a function that runs a module and gives its changes."""

    def call(module: str, api: Any, *wanted: dict[str, Any], check: bool = False) -> list[str]:
        result = run(module, check=check, url=api.url, **ACCOUNT, **{OPTIONS[module]: list(wanted)})
        if result.get("failed"):
            raise Failed(result["msg"])
        return result["changes"]

    return call


def test_experiment_is_made_once(api, ensure):
    wanted = {"name": "fraud", "description": "Who cheats", "tags": {"team": "ds", "level": 3}}

    assert ensure("mlflow_experiment", api, wanted, check=True) == ["experiment fraud: created"]
    assert api.writes() == []
    assert ensure("mlflow_experiment", api, wanted) == ["experiment fraud: created"]
    assert ensure("mlflow_experiment", api, wanted) == []
    tags = api.experiments[api.number("fraud")]["tags"]
    assert tags == {"team": "ds", "level": "3", "mlflow.note.content": "Who cheats", CREATED_BY: ANSIBLE}


def test_experiment_is_changed_deleted_and_restored(api, ensure):
    assert ensure("mlflow_experiment", api, {"name": "churn", "tags": {"team": "ds"}}) == [
        "experiment churn: tag team: none -> ds"
    ]
    assert CREATED_BY not in api.experiments[api.number("churn")]["tags"], "another user made it"
    gone = {"name": "churn", "state": "absent"}
    assert ensure("mlflow_experiment", api, gone) == ["experiment churn: deleted"]
    assert ensure("mlflow_experiment", api, gone) == []
    assert ensure("mlflow_experiment", api, {"name": "churn"}) == ["experiment churn: restored"]


def test_place_of_artifacts_cannot_be_changed(api, ensure):
    with pytest.raises(Failed, match="has the artifact_location 's3://other', and its files are in 's3'"):
        ensure("mlflow_experiment", api, {"name": "new"}, {"name": "churn", "artifact_location": "s3://other"})
    assert api.writes() == []


def test_each_entry_is_declared_once(api, ensure):
    with pytest.raises(Failed, match="experiment churn is declared more than once"):
        ensure("mlflow_experiment", api, {"name": "churn"}, {"name": "churn"})
    with pytest.raises(Failed, match="registered model churn is declared more than once"):
        ensure("mlflow_registered_model", api, {"name": "churn"}, {"name": "churn"})


def test_model_gets_description_tags_and_aliases(api, ensure):
    wanted = {"name": "churn", "description": "Leaves", "tags": {"team": "ds"}, "aliases": {"champion": 1, "old": None}}
    api.models["churn"]["aliases"] = {"old": "1", "mine": "1"}

    assert ensure("mlflow_registered_model", api, wanted) == [
        "registered model churn: description: none -> Leaves",
        "registered model churn: tag team: none -> ds",
        "registered model churn: alias champion: none -> 1",
        "registered model churn: alias old: 1 -> none",
    ]
    assert ensure("mlflow_registered_model", api, wanted) == []
    assert api.models["churn"]["aliases"] == {"mine": "1", "champion": "1"}


def test_alias_needs_its_version(api, ensure):
    with pytest.raises(Failed, match="registered model churn has no version 7, which is to have the alias champion"):
        ensure("mlflow_registered_model", api, {"name": "new"}, {"name": "churn", "aliases": {"champion": 7}})
    assert api.writes() == []


def test_model_with_versions_is_not_deleted_by_accident(api, ensure):
    gone = {"name": "churn", "state": "absent"}
    with pytest.raises(Failed, match="registered model churn has versions: delete_versions must be true"):
        ensure("mlflow_registered_model", api, gone)

    assert ensure("mlflow_registered_model", api, {**gone, "delete_versions": True}) == [
        "registered model churn: deleted"
    ]
    assert ensure("mlflow_registered_model", api, gone) == []


def test_permission_that_was_left_of_a_former_model_is_no_failure(api, ensure):
    assert ensure("mlflow_registered_model", api, {"name": "left"}) == ["registered model left: created"]
    assert ensure("mlflow_registered_model", api, {"name": "left"}) == []
    with pytest.raises(Failed, match="does not take"):
        ensure("mlflow_registered_model", api, {"name": "refused"})
