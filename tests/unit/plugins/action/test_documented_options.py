# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of actions that stand for modules: ansible-test compares those of modules alone."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import yaml
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.client import auth_argument_spec

# Documented by fragments of documentation.
SHARED = {*auth_argument_spec(), "vault"}


@pytest.mark.parametrize(
    "name", ["cluster_info", "credentials", "keycloak_realm", "sealing_keys", "stack_info", "workload_wait"]
)
def test_documented_options_are_those_that_it_takes(name: str) -> None:
    plugins = "ansible_collections.mlops.mlflow.plugins"
    documented = yaml.safe_load(importlib.import_module(f"{plugins}.modules.{name}").DOCUMENTATION)
    taken = importlib.import_module(f"{plugins}.action.{name}").ActionModule.ARGUMENTS

    assert described(documented.get("options") or {}, "suboptions") == described(
        {each: spec for each, spec in taken.items() if each not in SHARED}, "options"
    )


def described(options: dict[str, Any], nested: str) -> dict[str, Any]:
    """Give what documentation and argument spec both have of options, and of those in them."""
    fields = ("type", "elements", "required", "choices", "default")
    return {
        name: {
            **{field: option[field] for field in fields if option.get(field) is not None},
            **described(option.get(nested) or {}, nested),
        }
        for name, option in options.items()
    }
