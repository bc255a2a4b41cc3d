"""Databases of another team are backed up by dumps, restored in place, and restored by a drill."""

import re

import pytest

from tests.lib import DIRECTORY, INVENTORY, REPOSITORY
from tests.lib import stack as stacks
from tests.lib.drill import LOOK, SITE, Drill

BACKUP, RESTORE, PRACTISE = (f"playbooks/{name}.yml" for name in ("backup", "restore", "drill"))
LATEST = ("-e", "platform_restore=latest")
CONFIRMED = (*LATEST, "-e", "platform_confirm=kind")


@pytest.fixture(scope="module")
def drill(say):
    return Drill(DIRECTORY, INVENTORY, say, REPOSITORY / "molecule" / "external" / "inventory")


class Made:
    """What the tests made, and have to find again."""

    token = ""
    early = late = ""


def test_a_backup_is_made_and_a_drill_restores_it(drill):
    Made.token = drill.stack.environment["MLFLOW_TRACKING_PASSWORD"]
    Made.early = drill.use("before the backup")
    done = drill.run(BACKUP).expect_success("the backup")
    assert re.search(r"Backup \d{8}T\d{6}Z is whole", done.output)
    Made.late = drill.use("after the backup")
    done = drill.run(PRACTISE).expect_success("the drill")
    assert re.search(r"was restored in \d+ s, and holds: \d+ rows", done.output)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            (*CONFIRMED, "-e", "platform_restore_time=2026-11-30T09:41:00Z"),
            "platform_restore_time is '2026-11-30T09:41:00Z'",
        ),
        (LATEST, "The databases at postgres.elsewhere-postgres.svc.cluster.local would be replaced"),
    ],
)
def test_what_cannot_be_restored_is_refused(drill, words, says):
    assert says in drill.run(RESTORE, *words).sentence
    drill.look(Made.late, Made.token)


def test_the_databases_are_replaced_in_place(drill):
    """Also where the run was killed while they were."""
    killed = drill.run(RESTORE, *CONFIRMED, until=lambda _started, _since: loading(drill.stack))
    assert killed.killed
    drill.run(RESTORE, *CONFIRMED).expect_success("the restore")
    drill.look(Made.early, Made.token)
    with pytest.raises(AssertionError, match=r"not found|RESOURCE_DOES_NOT_EXIST"):
        drill.stack.client(LOOK, stacks.ADMIN, Made.token, Made.late)
    drill.use("after the restore")
    drill.run(SITE).expect_no_change("site.yml after the restore")


def loading(stack):
    """Whether the Job that restores the databases has begun."""
    return "restore-databases" in stack.kubectl("-n", "mlflow-backup", "get", "jobs", "-o", "name", check=False)
