"""A stack comes back from a backup with every run, artifact, permission, token and key, and goes back to a second.

The tests build on one another: they delete the stack's namespaces, and restore them.
"""

import json
import re
import subprocess
import time

import pytest

from tests.lib import archive
from tests.lib import stack as stacks
from tests.lib.drill import KIND, LOOK, SITE, differing
from tests.lib.keycloak_admin import Keycloak
from tests.lib.rows import SHRINKING, rows

BACKUP = "playbooks/backup.yml"
LIST = "playbooks/backups.yml"
RESTORE = "playbooks/restore.yml"
PRACTISE = "playbooks/drill.yml"
OTHERS = ("traefik", "cert_manager")
# Of the rest, certificates are issued again where they are lost, and what leads to the backups is supplied again.
KEPT = re.compile(r"^(?!mlflow-backup/|[^/]+/(?:[^/]+-tls|backup-ca)/)")
# What an account may do, and a key that encrypts data.
KNOWN = {
    "mlflow/mlflow-encryption-keys/gateway-passphrase",
    "mlflow/mlflow-ca/tls.key",
    "keycloak/keycloak-users/demo-admin",
}


class Made:
    """What the tests made, and have to find again."""

    token = ""
    users = ()
    early = between = late = ""
    first = ""
    noted = ""
    trace = ("", "")
    credentials: dict = {}  # noqa: RUF012  (of one session)
    objects: dict = {}  # noqa: RUF012


def whole(done):
    """The ID of the backup that a run of the playbook made."""
    return re.search(r"Backup (\d{8}T\d{6}Z) is whole", done.output)[1]


def objects(stack):
    """Size and ETag of each object of MLflow's bucket by its key."""
    return {each["key"]: (each["size"], each["etag"]) for each in stack.objects()}


def left(stack):
    """What a drill could leave: Jobs, pods and volumes of backups."""
    return stack.kubectl("-n", "mlflow-backup", "get", "jobs,pods,pvc", "-l", "app.kubernetes.io/name=restore-drill")


def archived(stack):
    """The names of what is archived."""
    script = """
        export MC_HOST_elsewhere=https://minio-root:$MINIO_ROOT_PASSWORD@localhost:9000 MC_CONFIG_DIR=/tmp/tests-mc
        export SSL_CERT_FILE=/etc/minio-certs/CAs/ca.crt
        mc find elsewhere/backups/mlflow/postgres/archive
    """
    return stack.kubectl("-n", "elsewhere-minio", "exec", "-i", "minio-0", "--", "sh", "-s", text=script)


def users(stack):
    """Who may do what."""
    return stack.sql(
        "mlflow_auth",
        "SELECT u.username, p.experiment_id, p.permission FROM experiment_permissions p "
        "JOIN users u ON u.id = p.user_id ORDER BY 1, 2",
    )


def counted(drill):
    """How much a stack holds of what a loss may take."""
    stack = drill.stack
    return {
        "rows": sum(number for table, number in rows(stack).items() if table not in SHRINKING),
        "objects": len(objects(stack)),
        "permissions": len(users(stack)),
        "tokens": int(stack.sql("mlflow_auth", "SELECT count(*) FROM user_tokens")[0][0]),
        "keys": len(drill.credentials()),
    }


def told(drill, what, before, seconds):
    """Print a line of the table of drills, and check that nothing is missing."""
    after = counted(drill)
    numbers = ", ".join(f"{name} {number} and {after[name]}" for name, number in before.items())
    drill.say(f"  {what}: back in {seconds:.0f} s; before and after: {numbers}")
    assert all(after[name] >= number for name, number in before.items() if name != "keys")


def restoring(stack):
    """Whether the Job that restores the databases has begun."""
    return "postgres-restore" in stack.kubectl("-n", "postgres", "get", "jobs", "-o", "name", check=False)


def lost(drill, run):
    """Check that MLflow does not know a run."""
    with pytest.raises(AssertionError, match=r"not found|RESOURCE_DOES_NOT_EXIST"):
        drill.stack.client(LOOK, stacks.ADMIN, Made.token, run)


# --- backups ----------------------------------------------------------------------------------------------------------


def test_a_backup_is_made_and_listed(drill):
    Made.token = drill.stack.environment["MLFLOW_TRACKING_PASSWORD"]
    Made.early = drill.use("before the first backup")
    Made.first = whole(drill.run(BACKUP).expect_success("the first backup"))
    listed = drill.run(LIST).expect_no_change("the list of backups")
    assert f"{Made.first}  whole" in listed.output


def test_archived_databases_are_encrypted_and_no_argument_has_a_secret(drill):
    stack = drill.stack
    values = [each for name, each in stack.secret_values().items() if name.startswith("mlflow-backup/")]
    assert values
    script = "for each in /proc/[0-9]*; do tr '\\0' ' ' <$each/cmdline; echo; done"
    for _unused in range(20):
        shown = stack.kubectl(
            "-n",
            "postgres",
            "exec",
            "postgres-0",
            "-c",
            "postgres",
            "--",
            "sh",
            "-c",
            f"psql -qXU postgres -c 'SELECT pg_switch_wal()' >/dev/null; {script}",
        )
        assert not any(value in shown for value in values)
    assert "postgres" in shown


def test_the_state_is_written_down(drill):
    Made.between = drill.use("between the backups")
    time.sleep(2)
    Made.noted = drill.stack.sql("postgres", "SELECT now()")[0][0]
    time.sleep(2)
    Made.late = drill.use("after the noted time")
    # Its spans are in the bucket only.
    Made.trace = archive.log(drill.stack, Made.token, "archived", 40)
    assert archive.run(drill.stack, "--older-than=30d")[0]
    second = whole(drill.run(BACKUP).expect_success("the second backup"))
    assert second > Made.first
    Made.credentials, Made.objects, Made.users = drill.credentials(), objects(drill.stack), users(drill.stack)
    assert Made.credentials.keys() >= KNOWN


def test_a_drill_restores_it_and_leaves_nothing(drill):
    stack = drill.stack
    before = left(stack)
    done = drill.run(PRACTISE).expect_success("the drill")
    said = re.search(r"was restored in (\d+) s, and holds: (\d+) rows, (\d+) Secrets", done.output)
    assert int(said[2]) > 20
    assert int(said[3]) >= len({name.rpartition("/")[0] for name in KNOWN})
    assert "a new user logged in by Keycloak; MLflow gave a run and an artifact" in done.output
    drill.say(f"  the drill took {done.seconds:.0f} s, of which {said[1]} s in its pod")
    assert left(stack) == before
    # Its users are in the copy only.
    assert Keycloak(stack, "").ask("GET", "users?search=drill-").json() == []
    assert "whole, restored by a drill at 20" in drill.run(LIST).output
    # It has begun no history of its own, which a later restore would follow.
    assert "/00000002" not in archived(stack)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        # A client secret that no Secret has.
        (("POST", "clients/{}/client-secret"), "MLflow did not take the login at Keycloak"),
        (("DELETE", "clients/{}"), "Keycloak shows no login page (HTTP 400): "),
    ],
)
def test_a_drill_finds_that_nobody_could_log_in(drill, change, says):
    """Databases, keys and artifacts of such a backup are whole."""
    stack = drill.stack
    keycloak = Keycloak(stack, "")
    (client,) = keycloak.ask("GET", "clients?clientId=mlflow").json()
    keycloak.ask(change[0], change[1].format(client["id"]))
    try:
        backup = whole(drill.run(BACKUP).expect_success("a backup of a stack without logins"))
        failed = drill.run(PRACTISE).sentence
        assert "container login" in failed
        assert says in failed
        stack.kubectl(
            "-n", "mlflow-backup", "delete", "jobs", "-l", "app.kubernetes.io/name=restore-drill", "--timeout=120s"
        )
        assert f"{backup}  whole, restored by a drill" not in drill.run(LIST).output
    finally:
        drill.run(SITE).expect_success("site.yml, which repairs it")
    drill.use("after the repair")


# --- the cluster is lost ----------------------------------------------------------------------------------------------


def test_everything_survives_the_loss_of_the_namespaces(drill):
    stack = drill.stack
    drill.say("  deleting the stack's namespaces ...")
    names = [name for component, name in stacks.NAMESPACES.items() if component not in OTHERS]
    whole(drill.run(BACKUP).expect_success("a backup"))
    held = counted(drill)
    stack.kubectl("delete", "namespace", *names, "--timeout=300s")
    # Killed early, and while PostgreSQL's volume is restored, which is killed too; then run again.
    for until in (
        lambda started, _since: started > 60,
        lambda started, since: started > 90 and since > 1 and restoring(stack),
    ):
        killed = drill.run(RESTORE, "-e", "platform_restore=latest", until=until)
        assert killed.killed
        drill.say(f"  killed in '{killed.task}'")
    stack.kubectl("-n", "postgres", "delete", "jobs", "--all", "--cascade=foreground", "--timeout=60s")
    done = drill.run(RESTORE, "-e", "platform_restore=latest").expect_success("the restore of the last backup")
    told(drill, "all namespaces lost, the restore killed twice", held, done.seconds)
    assert not [name for name in differing(Made.credentials, drill.credentials()) if KEPT.match(name)]
    for run in (Made.early, Made.between, Made.late):
        drill.look(run, Made.token)
    assert objects(drill.stack).items() >= Made.objects.items()
    archive.read(drill.stack, Made.token, *Made.trace)
    assert [each for each in Made.users if each not in users(drill.stack)] == []
    drill.use("after the restore")
    drill.run(SITE).expect_no_change("site.yml after the restore")


def copied(stack, tar, **files):
    """Run tar in the pod of the store elsewhere, below its volume."""
    words = ["kubectl", "--kubeconfig", stack.kubeconfig, "-n", "elsewhere-minio", "exec", "-i", "minio-0", "--"]
    subprocess.run([*words, "tar", "--directory=/data", *tar], check=True, **files)


def test_a_lost_cluster_is_back(drill):
    """Of all that was there, only the store of the backups is kept, with what the user has in files."""
    stack, kept = drill.stack, drill.directory / "elsewhere.tar"
    whole(drill.run(BACKUP).expect_success("a backup"))
    held = counted(drill)
    with kept.open("wb") as stream:
        copied(stack, ["--create", "backups", ".minio.sys"], stdout=stream)
    drill.say("  removing the cluster ...")
    drill.run(KIND, "-e", "kind_cluster_state=absent").expect_success("the removal of the cluster")
    drill.run(KIND).expect_success("another cluster")
    drill.run("molecule/backup/prepare.yml").expect_success("the store elsewhere")
    stack = drill.stack
    with kept.open("rb") as stream:
        copied(stack, ["--extract", "--overwrite", "--touch"], stdin=stream)
    kept.unlink()
    stack.kubectl("-n", "elsewhere-minio", "delete", "pod/minio-0", "--timeout=120s")
    stack.kubectl("-n", "elsewhere-minio", "rollout", "status", "statefulset/minio", "--timeout=120s")
    done = drill.run(RESTORE, "-e", "platform_restore=latest").expect_success("the restore of a lost cluster")
    told(drill, "the cluster lost", held, done.seconds)
    assert not [name for name in differing(Made.credentials, drill.credentials()) if KEPT.match(name)]
    for run in (Made.early, Made.between, Made.late):
        drill.look(run, Made.token)
    archive.read(drill.stack, Made.token, *Made.trace)
    drill.use("on another cluster")
    drill.run(SITE).expect_no_change("site.yml after the restore of a lost cluster")


def test_a_lost_volume_is_back(drill):
    """That of the databases, with its claim."""
    stack = drill.stack
    whole(drill.run(BACKUP).expect_success("a backup"))
    held = counted(drill)
    stack.kubectl("-n", "postgres", "scale", "statefulset/postgres", "--replicas=0")
    stack.kubectl("-n", "postgres", "wait", "--for=delete", "pod/postgres-0", "--timeout=120s")
    stack.kubectl("-n", "postgres", "delete", "pvc/postgres-data", "--timeout=60s")
    done = drill.run(RESTORE, "-e", "platform_restore=latest").expect_success("the restore of a lost volume")
    told(drill, "the volume of the databases lost", held, done.seconds)
    for run in (Made.early, Made.between, Made.late):
        drill.look(run, Made.token)
    drill.run(SITE).expect_no_change("site.yml after the restore of a lost volume")


def test_a_lost_bucket_is_back(drill):
    """All artifacts were deleted, by somebody who had the key."""
    stack = drill.stack
    held = counted(drill)
    stack._mc("rm --quiet --recursive --force tests/mlflow/")
    assert not objects(stack)
    done = drill.run(RESTORE, "-e", "platform_restore=latest", "-e", "platform_confirm=kind")
    done.expect_success("the restore of a lost bucket")
    told(drill, "all artifacts lost", held, done.seconds)
    for run in (Made.early, Made.between, Made.late):
        drill.look(run, Made.token)


def test_back_to_a_second(drill):
    restored = drill.run(
        RESTORE,
        *("-e", "platform_restore=latest", "-e", f"platform_restore_time={Made.noted.replace(' ', 'T')}"),
        *("-e", "platform_confirm=kind"),
    )
    restored.expect_success("the restore to a time")
    for run in (Made.early, Made.between):
        drill.look(run, Made.token)
    lost(drill, Made.late)
    # Nothing is deleted from the bucket.
    assert objects(drill.stack).items() >= Made.objects.items()
    drill.run(SITE).expect_no_change("site.yml after the restore to a time")


def test_a_restored_stack_is_backed_up(drill):
    run = drill.use("on another timeline")
    whole(drill.run(BACKUP).expect_success("a backup of the restored stack"))
    # And that one is restored again, along its own history.
    drill.run(RESTORE, "-e", "platform_restore=latest", "-e", "platform_confirm=kind").expect_success(
        "one more restore"
    )
    drill.look(run, Made.token)


def test_keys_are_opened_by_hand(drill, tmp_path):
    """As docs/backup.md says: by ansible-vault and the passphrase."""
    stack = drill.stack
    script = f"""
        export MC_HOST_elsewhere=https://minio-root:$MINIO_ROOT_PASSWORD@localhost:9000 MC_CONFIG_DIR=/tmp/tests-mc
        export SSL_CERT_FILE=/etc/minio-certs/CAs/ca.crt
        mc cat elsewhere/backups/mlflow/backups/{Made.first}/keys.vault
    """
    sealed = stack.kubectl("-n", "elsewhere-minio", "exec", "-i", "minio-0", "--", "sh", "-s", text=script)
    (tmp_path / "keys.vault").write_text(sealed)
    command = [
        "ansible-vault",
        "view",
        "--vault-password-file",
        drill.directory / "destination" / "passphrase",
        tmp_path / "keys.vault",
    ]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    created = stack.kubectl("create", "--dry-run=client", "-f", "-", text=text)
    assert "secret/mlflow-encryption-keys created (dry run)" in created
    opened = json.loads(text)
    names = {f"{each['metadata']['namespace']}/{each['metadata']['name']}" for each in opened["items"]}
    assert {"mlflow/mlflow-encryption-keys", "mlflow/mlflow-ca", "postgres/postgres-superuser"} <= names
    assert any(name.startswith("sealed-secrets/") for name in names)
    assert not any("backup" in name for name in names)
