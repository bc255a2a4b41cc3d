"""The workflows run all that there is."""

import re

import yaml

from tests.lib import REPOSITORY

WORKFLOWS = REPOSITORY / ".github" / "workflows"


def test_each_scenario_is_a_job():
    scenarios = sorted(path.parent.name for path in REPOSITORY.glob("molecule/*/molecule.yml"))
    jobs = yaml.safe_load((WORKFLOWS / "ci.yml").read_text())["jobs"]
    assert sorted(jobs["molecule"]["strategy"]["matrix"]["scenario"]) == scenarios


def test_targets_of_make_exist():
    targets = re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.M)
    jobs = yaml.safe_load((WORKFLOWS / "ci.yml").read_text())["jobs"]
    asked = list(jobs["checks"]["strategy"]["matrix"]["target"])
    for path in WORKFLOWS.glob("*.yml"):
        for words in re.findall(r"\bmake ([a-z -]+)", path.read_text()):
            asked += words.split()
    assert set(asked) <= set(targets)
