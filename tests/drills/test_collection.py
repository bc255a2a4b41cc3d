"""The built and installed collection finds nothing to change on a stack that the checkout deployed."""

import re

import pytest

from tests.lib import installed
from tests.lib import stack as stacks


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    return installed.Installed(tmp_path_factory.mktemp("collection"))


@pytest.mark.parametrize("playbook", ["site", "access"])
def test_installed_collection_changes_nothing(deployed, collection, playbook):
    words = ("-i", deployed.inventory, f"{installed.NAME}.{playbook}", "--check", "--diff", "-vv")
    done = collection.run("ansible-playbook", *words, check=False)
    ended = stacks.Playbook(done.returncode, done.stdout)
    assert ended.code == 0, f"{ended.output[-3000:]}\n{done.stderr[-3000:]}"
    assert ended.count("changed") == 0
    assert ended.count("ok") > 0
    # -vv prints the file of each task and playbook.
    files = set(re.findall(r"^(?:task path: (.+):\d+|PLAYBOOK: .*)$", done.stdout, re.M)) - {""}
    assert files
    assert [path for path in sorted(files) if not path.startswith(f"{collection.place}/")] == []
    deployed.say(f"  {playbook}.yml of the installed collection: {ended.count('ok')} tasks, none changed")
