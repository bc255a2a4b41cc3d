# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the action plugin constraints: whose file it reads, when a constraint counts, and how a play shows it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import yaml
from ansible.errors import AnsibleActionFail
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.utils.yaml import from_yaml
from ansible.template import Templar, trust_as_template
from ansible_collections.mlops.mlflow.plugins.action import constraints

FILE = """
x_cpu: {format: cpu}
x_port: {min: 30000, max: 32767, when: x_type == 'NodePort'}
x_users[].name: {format: secret, unique: true}
"""
WELL = {"x_cpu": "{{ half }}m", "half": 500, "x_type": "ClusterIP", "x_port": 0, "x_users": [{"name": "{{ 'a' }}"}]}


@pytest.fixture
def check(tmp_path):
    """Give a function that runs the action in a role with this file."""

    def runner(file=FILE, **variables):
        (tmp_path / "meta").mkdir(exist_ok=True)
        (tmp_path / "meta" / "constraints.yml").write_text(file)
        loader = DataLoader()
        variables = {"role_path": str(tmp_path)} | WELL | variables
        variables = from_yaml(data=trust_as_template(yaml.safe_dump(variables)))
        return constraints.ActionModule(
            task=SimpleNamespace(args={}, async_val=0, check_mode=True, action="constraints"),
            connection=SimpleNamespace(_shell=SimpleNamespace(tmpdir=None)),
            play_context=None,
            loader=loader,
            templar=Templar(loader=loader, variables=variables),
        ).run(task_vars=variables)

    return runner


def test_right_values_pass(check):
    assert check() == {"changed": False}


def test_every_wrong_value_is_named(check):
    result = check(x_cpu="lots", x_users=[{"name": "A"}])
    assert result["failed"] is True
    assert result["msg"].splitlines() == [
        "x_cpu is 'lots': cores as Kubernetes writes them, such as 250m or 2",
        "x_users[0].name is 'A': the name of a Secret, lower-case letters, digits, dots and hyphens",
    ]


@pytest.mark.parametrize(("kind", "fails"), [("NodePort", True), ("LoadBalancer", False)])
def test_a_condition_is_heeded(check, kind, fails):
    assert check(x_type=kind).get("failed", False) is fails


def test_a_constraint_of_unknown_form_is_the_authors_mistake(check):
    with pytest.raises(TypeError, match="maximum"):
        check(file="x_port: {maximum: 5}")


def test_it_needs_a_role(check):
    with pytest.raises(AnsibleActionFail, match="for tasks of a role"):
        check(role_path="")
