"""What the roles make of the variables that say who may do what."""

import re

import pytest
import rendering


@pytest.fixture(scope="module")
def mlflow():
    return rendering.Role("mlflow")


@pytest.mark.parametrize(("name", "fits"), [("mlflow-admin", True), ("Admin", False), ("admin.Two", False), ("1st", False)])
def test_account_of_playbooks_is_in_lower_case(mlflow, name, fits):
    assert bool(re.match(mlflow.value("__mlflow_account_pattern"), name)) is fits
