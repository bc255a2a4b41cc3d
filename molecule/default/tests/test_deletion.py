"""What users deleted is deleted for good after its time, and old traces are archived, by CronJobs that list before."""

import json
import re
import shlex

import pytest

from tests.lib import REPOSITORY, archive
from tests.lib import stack as stacks

COMMANDS = re.findall(r"^kubectl .*$", (REPOSITORY / "docs" / "deletion.md").read_text(), re.MULTILINE)
MADE = """
    import pathlib, sys, tempfile
    import mlflow

    def run(name):
        mlflow.set_experiment(name)
        with mlflow.start_run() as run:
            mlflow.log_text("of a run", "note.txt")
        return run.info

    kept, deleted, recent = (run(sys.argv[1]) for _number in range(3))
    gone = run(f"{sys.argv[1]}-gone")
    for each in (deleted, recent):
        mlflow.delete_run(each.run_id)
    mlflow.delete_experiment(gone.experiment_id)
    print(kept.run_id, deleted.run_id, recent.run_id, gone.run_id, gone.experiment_id)
"""


@pytest.fixture(scope="module")
def made(stack, admin_token, mark):
    """Runs that are kept, deleted long ago, and deleted now; and a long deleted experiment with its run."""
    output = stack.client(MADE, stacks.ADMIN, admin_token, f"deletion-{mark}").stdout
    kept, deleted, recent, gone, experiment = output.splitlines()[-1].split()
    past = "extract(epoch FROM now() - interval '31 days')::bigint * 1000"
    stack.sql("mlflow", f"UPDATE runs SET deleted_time = {past} WHERE run_uuid IN ('{deleted}', '{gone}')")
    stack.sql("mlflow", f"UPDATE experiments SET last_update_time = {past} WHERE experiment_id = {experiment}")
    return {"kept": kept, "deleted": deleted, "recent": recent, "gone": gone, "experiment": experiment}


def there(stack, made):
    """Which of the runs have rows, and which have artifacts."""
    names = {run: name for name, run in made.items()}
    rows = {names[run] for (run,) in stack.sql("mlflow", "SELECT run_uuid FROM runs") if run in names}
    keys = [each["key"] for each in stack.objects()]
    return rows, {name for name, run in made.items() if any(f"/{run}/" in key for key in keys)}


def test_commands_of_the_page_list_and_delete_nothing(stack, made):
    assert len(COMMANDS) == 8
    outputs = [stack.kubectl(*shlex.split(command)[1:]) for command in COMMANDS[:4]]
    listed = {line.split(",")[0] for line in outputs[2].splitlines()}
    assert {f"run {made[name]}" for name in ("deleted", "recent", "gone")} | {
        f"experiment {made['experiment']}"
    } <= listed
    every = {"kept", "deleted", "recent", "gone"}
    assert there(stack, made) == (every, every)


def test_nothing_is_deleted_by_default(stack):
    for name in ("mlflow-gc", "mlflow-traces"):
        job = json.loads(stack.kubectl("-n", "mlflow", "get", "cronjob", name, "-o", "json"))
        assert job["spec"]["suspend"] is True


def test_what_is_older_is_deleted_with_its_artifacts(stack, made):
    words = ("-n", "mlflow", "create", "job", "gc-delete", "--from=cronjob/mlflow-gc", "--dry-run=client", "-o", "json")
    job = json.loads(stack.kubectl(*words))
    job["spec"]["template"]["spec"]["containers"][0]["command"] += ["--older-than=30d", "--delete"]
    stack.kubectl("apply", "-f", "-", text=json.dumps(job))
    well, output = stack.outcome("mlflow", "gc-delete")
    stack.kubectl("-n", "mlflow", "delete", "job", "gc-delete")
    print(output)
    assert well
    assert f"Deleted run {made['deleted']}" in output
    assert f"Deleted experiment {made['experiment']}" in output
    assert there(stack, made) == ({"kept", "recent"}, {"kept", "recent"})


def test_traces_are_listed_archived_and_read_and_deleted(stack, admin_token, mark):
    old, experiment = archive.log(stack, admin_token, f"traces-{mark}", 400)
    outputs = [stack.kubectl(*shlex.split(command)[1:]) for command in COMMANDS[4:]]
    assert f"experiment {experiment}: 1 traces, 0 of them archived; 1 older than 30d" in outputs[2]
    well, output = archive.run(stack, "--older-than=300d")
    assert well
    assert "Archived 1 traces to s3://mlflow\n" in output
    key = f"{experiment}/traces/{old}/artifacts/traces.pb"
    assert key in {each["key"] for each in stack.objects()}
    assert stack.sql("mlflow", f"SELECT DISTINCT content FROM spans WHERE trace_id = '{old}'") == []
    archive.read(stack, admin_token, old, experiment)
    well, output = archive.run(stack, "--delete-older-than=365d")
    assert well
    assert "Deleted 1 traces\n" in output
    assert key not in {each["key"] for each in stack.objects()}
    assert stack.sql("mlflow", f"SELECT 1 FROM trace_info WHERE request_id = '{old}'") == []
