"""The workflows run all that there is."""

import re

import pytest
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


@pytest.mark.parametrize("path", sorted(WORKFLOWS.glob("*.yml")), ids=lambda path: path.stem)
def test_actions_are_pinned_by_commit(path):
    """A tag can be moved to other code; a comment names the version."""
    lines = [line.strip() for line in path.read_text().splitlines() if "uses:" in line]
    pinned = re.compile(r"- uses: [\w.-]+/[\w./-]+@[0-9a-f]{40}  # v[0-9]+\.[0-9]+\.[0-9]+")
    assert lines
    assert [line for line in lines if not pinned.fullmatch(line)] == []
