"""The page of a deployed stack: what runs is on it, programs get the same, and nothing is changed."""

import json

PLAYBOOK = "playbooks/status.yml"
FILE = "platform_status_file"


def test_a_deployed_stack(stack, tmp_path):
    file = tmp_path / "status.json"
    for words in ((), ("--check", "--diff")):
        done = stack.playbook("-e", f"{FILE}={file}", *words, playbook=PLAYBOOK)
        assert done.code == 0, done.output
        assert done.count("changed") == 0
        (report,) = json.loads(file.read_text()).values()
        print(done.output)
        assert report["sentence"] in done.output
        assert report["state"] == "ready"
        # With what the pods of MLflow tell.
        assert report["unreadable"] == []
        assert all(each["workloads"] for each in report["components"])
        assert all(one["ready"] == one["desired"] > 0 for each in report["components"] for one in each["workloads"])
        assert report["certificates"]
        assert all(each["days"] > 0 for each in report["certificates"])
        assert [
            each for each in report["pending"] if each["kind"] in ("rollout", "job", "volume", "sealed secret")
        ] == []
        shown = done.output + file.read_text()
        assert [name for name, value in stack.secret_values().items() if value in shown] == []
