# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of meta/runtime.yml: action groups and former names of modules."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
RUNTIME = yaml.safe_load((ROOT / "meta/runtime.yml").read_text())
MODULES = {path.stem for path in (ROOT / "plugins/modules").glob("*.py")}


@pytest.mark.parametrize("group", RUNTIME["action_groups"])
def test_action_group_names_modules(group: str) -> None:
    assert set(RUNTIME["action_groups"][group]) <= MODULES


def test_every_module_that_calls_mlflow_is_in_its_group() -> None:
    assert set(RUNTIME["action_groups"]["mlflow"]) == {name for name in MODULES if name.startswith("mlflow_")}


@pytest.mark.parametrize("former", RUNTIME["plugin_routing"]["modules"])
def test_former_name_leads_to_a_module(former: str) -> None:
    routing = RUNTIME["plugin_routing"]["modules"][former]

    assert former not in MODULES
    assert routing["redirect"].removeprefix("mlops.mlflow.") in MODULES
    assert routing["redirect"] in routing["deprecation"]["warning_text"]
    assert routing["deprecation"]["removal_version"]
