"""What cannot be restored is said in one sentence, and the stack is as it was; what was killed is run again.

The stack is that of test_backup.py, after its restores.
"""

import contextlib
import json
import re
import threading
import time

import pytest

from tests.lib.drill import SITE, differing
from tests.lib.stack import wait_until

BACKUP = "playbooks/backup.yml"
RESTORE = "playbooks/restore.yml"
PRACTISE = "playbooks/drill.yml"
LATEST = ("-e", "platform_restore=latest")
CONFIRMED = (*LATEST, "-e", "platform_confirm=kind")
WRONG_KEY = (
    '{"platform_credentials": {"mlflow-backup-encryption": {"passphrase": {"value": "one that opens nothing"}}}}'
)
KILLS = 10


class Before:
    """What was there before, and has to be afterwards."""

    def __init__(self, drill):
        self._drill, stack = drill, drill.stack
        self.token = stack.environment["MLFLOW_TRACKING_PASSWORD"]
        self.run = drill.use("before the failures")
        self.backup = made(drill.run(BACKUP).expect_success("a backup"))
        self._credentials, self._volume = drill.credentials(), self._uid()

    def _uid(self):
        words = ("-n", "postgres", "get", "pvc", "postgres-data", "-o", "jsonpath={.metadata.uid}")
        return self._drill.stack.kubectl(*words)

    def check(self):
        """Check that all is as it was, and that the stack serves."""
        self._drill.look(self.run, self.token)
        assert differing(self._credentials, self._drill.credentials()) == []
        assert self._uid() == self._volume


@pytest.fixture(scope="module")
def before(drill):
    """The stack, with a run and a backup that the tests know."""
    drill.ensure()
    return Before(drill)


def made(done):
    """The ID of the backup that a run of the playbook made or waited for."""
    return re.search(r"Backup (\d{8}T\d{6}Z) is whole", done.output)[1]


def at_destination(stack, words):
    """Run a script with MinIO's client, where `$PLACE` is that of the backups; return what it prints."""
    script = f"""
        export MC_HOST_elsewhere=https://minio-root:$MINIO_ROOT_PASSWORD@localhost:9000 MC_CONFIG_DIR=/tmp/tests-mc
        export SSL_CERT_FILE=/etc/minio-certs/CAs/ca.crt PLACE=elsewhere/backups/mlflow
        {words}
    """
    return stack.kubectl("-n", "elsewhere-minio", "exec", "-i", "minio-0", "--", "sh", "-es", text=script)


@contextlib.contextmanager
def changed(stack, key, command):
    """Replace an object at the destination by what a command makes of it, or remove it; put it back at the end."""
    put = f"{command} </tmp/kept | mc pipe --quiet $PLACE/{key}" if command else f"mc rm --quiet $PLACE/{key}"
    at_destination(stack, f"mc cp --quiet $PLACE/{key} /tmp/kept; {put}")
    try:
        yield
    finally:
        at_destination(stack, f"mc cp --quiet /tmp/kept $PLACE/{key}; rm /tmp/kept")


# --- what is asked for cannot be --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (LATEST, "confirm it by -e platform_confirm=kind"),
        ((*LATEST, "-e", "platform_confirm=other"), "confirm it by -e platform_confirm=kind"),
        (("-e", "platform_restore="), "the ID of a backup"),
        (("-e", "platform_restore=../secrets"), "There is no whole backup ../secrets"),
        ((*CONFIRMED, "-e", "platform_restore_time=yesterday"), "is no time such as"),
        ((*CONFIRMED, "-e", "platform_restore_time=2999-01-01"), "is in the future"),
        ((*CONFIRMED, "-e", "platform_restore_time=2020-01-01"), "is before the first backup"),
        ((*CONFIRMED, "-e", "postgres_storage_size=1Mi"), "postgres_storage_size"),
        ((*CONFIRMED, "-e", "backup_state=absent"), "for a stack with backup in platform_components"),
        (
            (*CONFIRMED, "-e", "backup_s3_endpoint=http://minio.elsewhere-minio.svc:9000"),
            "backup_s3_endpoint is 'http:",
        ),
        ((*CONFIRMED, "-e", "backup_s3_endpoint=https://minio.elsewhere-minio.svc:9443"), "9443"),
        ((*CONFIRMED, "-e", "backup_s3_bucket=missing"), "missing"),
        ((*CONFIRMED, "-e", "backup_s3_prefix=of/another"), "There is no whole backup at the destination"),
        ((*CONFIRMED, "-e", "backup_s3_ca_secret="), "platform_credentials has backup-ca"),
        ((*CONFIRMED, "-e", WRONG_KEY), "has another value of passphrase"),
    ],
    ids=lambda value: None if isinstance(value, str) else "-".join(value[1::2])[:60],
)
def test_what_is_asked_for_is_refused(drill, before, words, says):
    done = drill.run(RESTORE, *words)
    assert says in done.sentence, done.log
    before.check()


# --- what is at the destination is not whole --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "command", "says"),
    [
        ("keys.vault", "head -c 500", "cannot be opened"),
        ("keys.vault", "", "has no keys"),
        ("objects.json.gz", "head -c 40", "The list of objects is cut off"),
        ("objects.json.gz", "", "has no list of objects"),
        ("manifest.json", "head -c 100", "There is no whole backup "),
        ("manifest.json", 'sed \'s/"format": 1/"format": 99/\'', "is of a newer version of the collection"),
        ("manifest.json", 'sed \'s/"version": "1[0-9]*/"version": "9/\'', "is of PostgreSQL 9"),
        ("manifest.json", 'sed \'s/"label": "[0-9]*/"label": "20200101/\'', "pgBackRest has no backup"),
    ],
    ids=lambda value: value[:24] or "removed",
)
def test_a_backup_that_is_not_whole_is_refused(drill, before, name, command, says):
    with changed(drill.stack, f"backups/{before.backup}/{name}", command):
        done = drill.run(RESTORE, "-e", f"platform_restore={before.backup}", "-e", "platform_confirm=kind")
    assert says in done.sentence, done.log
    before.check()


@pytest.mark.parametrize("command", ["head -c 1000", "", "tr a b"], ids=["cut off", "removed", "changed"])
def test_databases_that_are_not_whole_are_refused(drill, before, command):
    """By their checksums, before anything is replaced."""
    stack = drill.stack
    label = at_destination(stack, "mc ls $PLACE/postgres/backup/mlflow/ | grep -o '[0-9-]*F/' | tail -n 1").strip("/\n")
    found = at_destination(stack, f"mc find $PLACE/postgres/backup/mlflow/{label}/bundle --name 1 | tail -n 1").strip()
    key = found.partition("/mlflow/")[2]
    with changed(stack, key, command):
        done = drill.run(RESTORE, "-e", f"platform_restore={before.backup}", "-e", "platform_confirm=kind")
    assert "are not whole at the destination" in done.sentence, done.log
    before.check()


def test_a_write_ahead_log_with_a_gap_leaves_the_stack_as_it_was(drill, before):
    """It is after the databases, so that only their recovery finds it."""
    stack = drill.stack
    known = json.loads(at_destination(stack, f"mc cat $PLACE/backups/{before.backup}/manifest.json"))["postgres"]
    high, low = (int(part, 16) for part in known["lsn"].split("/"))
    segment = f"{known['timeline']:08X}{high:08X}{low >> 24:08X}"
    key = (
        at_destination(stack, f"mc find $PLACE/postgres/archive --name '{segment}-*'").strip().partition("/mlflow/")[2]
    )
    with changed(stack, key, ""):
        done = drill.run(RESTORE, "-e", f"platform_restore={before.backup}", "-e", "platform_confirm=kind")
    said = done.sentence
    assert "Nothing was restored, and the stack is as it was: " in said, done.log
    assert "The write-ahead log at the destination ends before" in said, done.log
    before.check()
    drill.run(SITE).expect_no_change("site.yml after a restore that failed")


# --- two at once ------------------------------------------------------------------------------------------------------


def together(*works, wait=0):
    """Do several things at once; return their results.

    Args:
        works: what is called.
        wait: seconds between their begins.
    """
    results = [None] * len(works)

    def work(number):
        results[number] = works[number]()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(works))]
    for each in threads:
        each.start()
        time.sleep(wait)
    for each in threads:
        each.join()
    return results


def test_two_backups_at_once_are_one(drill, before):
    # The second one finds that the first has begun.
    first, second = together(lambda: drill.run(BACKUP), lambda: drill.run(BACKUP), wait=8)
    assert made(first.expect_success("the first")) == made(second.expect_success("the second"))


def test_a_restore_beside_a_backup_is_refused(drill, before):
    stack, name = drill.stack, "backup-that-waits"
    words = ("create", "job", name, "--from=cronjob/backup", "--dry-run=client", "-o", "json")
    job = json.loads(stack.kubectl("-n", "mlflow-backup", *words))
    job["spec"]["template"]["spec"]["nodeSelector"] = {"none": "has-this"}
    stack.kubectl("apply", "-f", "-", text=json.dumps(job))
    try:
        done = drill.run(RESTORE, *CONFIRMED)
    finally:
        stack.kubectl("-n", "mlflow-backup", "delete", "job", name)
    assert f"The backup {name} is being made in mlflow-backup: wait until it has ended" in done.sentence, done.log
    before.check()


def test_a_check_says_what_would_be_restored(drill, before):
    done = drill.run(RESTORE, *LATEST, "--check").expect_no_change("restore.yml --check")
    assert re.search(r"The databases at postgres\.postgres\.svc would be replaced, from \d{8}T\d{6}Z to ", done.output)
    before.check()


# --- killed -----------------------------------------------------------------------------------------------------------


def kill(stack, former=""):
    """Kill the pod of a backup while it copies the databases; return its name.

    Args:
        former: name of the pod that was killed before.
    """

    def copying():
        words = ("get", "pods", "-l", "app.kubernetes.io/name=backup", "-o", "json")
        for pod in json.loads(stack.kubectl("-n", "mlflow-backup", *words))["items"]:
            steps = {each["name"]: each["state"] for each in pod["status"].get("initContainerStatuses", [])}
            if "running" in steps.get("database", {}) and pod["metadata"]["name"] != former:
                return pod["metadata"]["name"]
        return ""

    name = wait_until(copying, 180, "a pod that copies the databases")
    stack.kubectl("-n", "mlflow-backup", "delete", "pod", name, "--grace-period=0", "--force")
    return name


@pytest.mark.parametrize("kills", [1, 2])
def test_a_backup_that_is_killed_is_made_again_or_none(drill, before, kills):
    stack, known = drill.stack, drill.backups()

    def killed():
        former = ""
        for _unused in range(kills):
            former = kill(stack, former)

    done, _none = together(lambda: drill.run(BACKUP), killed)
    if kills == 1:
        assert drill.backups() == known | {made(done.expect_success("a backup whose pod was killed"))}
    else:
        assert done.code != 0
        assert drill.backups() == known
        newest = made(drill.run(BACKUP).expect_success("the next backup"))
        assert drill.backups() == known | {newest}
    drill.run(RESTORE, *LATEST, "--check").expect_success("a check of the newest backup")
    before.check()


def test_a_restore_that_is_killed_at_ten_moments_is_run_to_its_end(drill, before):
    whole = drill.run(RESTORE, *CONFIRMED).expect_success("a restore, for the number of its tasks")
    for number in range(1, KILLS + 1):
        last = len(whole.starts) * number // (KILLS + 1)
        killed = drill.run(RESTORE, *CONFIRMED, until=lambda started, _since, last=last: started >= last)
        assert killed.killed
        drill.say(f"  killed in '{killed.task}', after {killed.seconds:.0f} s")
    drill.run(RESTORE, *CONFIRMED).expect_success("the last one")
    before.check()
    drill.use("after the kills")
    drill.run(SITE).expect_no_change("site.yml after the kills")


def test_a_drill_of_what_is_cut_off_says_so(drill, before):
    newest = made(drill.run(BACKUP).expect_success("a backup"))
    with changed(drill.stack, f"backups/{newest}/keys.vault", "head -c 500"):
        done = drill.run(PRACTISE)
    assert "cannot be opened" in done.sentence, done.log
    drill.run(PRACTISE).expect_success("a drill of what is whole")
