"""Backups: what they may read, what they change in PostgreSQL's pod, and what cannot be backed up."""

import functools
import importlib.util
import json
import re

import pytest
from ansible.parsing.vault import VaultLib, VaultSecret
from ansible_collections.mlops.mlflow.plugins.plugin_utils.credentials import fingerprint

from tests.lib import REPOSITORY, checks, rendering
from tests.lib.options import BACKUP, BASE

OTHERS = ("sealed_secrets", "postgres", "minio", "keycloak", "mlflow")
SERVER = REPOSITORY / "server" / "src" / "mlops_mlflow_server"
STACK = BASE["backup"]


@functools.cache
def get_role(name, beside=()):
    """A role, loaded once."""
    return rendering.Role(name, beside)


def refusal(**options):
    """What the preflight says of a stack with backups."""
    role, given = get_role("backup", OTHERS), STACK | options
    return checks.refusal(role, given, of="platform") or checks.refusal(role, given)


def module(name):
    """A module of the server package, without the packages that the server needs."""
    spec = importlib.util.spec_from_file_location(name, SERVER / f"{name}.py")
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


# --- PostgreSQL -------------------------------------------------------------------------------------------------------


def test_postgres_has_what_backups_need_with_them_only():
    without = json.dumps(get_role("postgres").manifests({}) + get_role("postgres").policies({}))
    assert not re.search("pgbackrest|backup|archive", without)
    (pods,) = (
        each["spec"]["template"]["spec"]
        for each in get_role("postgres").manifests(BACKUP)
        if each["kind"] == "StatefulSet"
    )
    assert [each["name"] for each in pods["containers"]] == ["postgres", "pgbackrest"]
    names = {each["metadata"]["name"] for each in get_role("postgres").policies(BACKUP)}
    assert {"backup-to-pgbackrest", "postgres-to-backups"} <= names


def test_state_absent_is_a_stack_without_backups():
    assert get_role("postgres").manifests(BACKUP | {"backup_state": "absent"}) == get_role("postgres").manifests(
        {name: value for name, value in BACKUP.items() if name != "platform_components"}
        | {"platform_components": OTHERS}
    )


@pytest.mark.parametrize("role", ["postgres", "minio", "mlflow", "keycloak"])
def test_clients_of_the_stack_get_no_credentials_of_backups(role):
    """Those of the database and the bucket go to the namespace of backups, and none of backups to another one's."""
    without = {"platform_components": OTHERS} | BASE.get(role, {})
    secrets = get_role(role).value(f"{role}_component.secrets", BASE.get(role, {}) | BACKUP)
    before = {each["name"] for each in get_role(role).value(f"{role}_component.secrets", without)}
    added = {each["name"] for each in secrets} - before
    assert added == ({"mlflow-backup-s3", "mlflow-backup-encryption"} if role == "postgres" else set())


# --- dumps ------------------------------------------------------------------------------------------------------------

DUMPS = {"backup_method": "pg_dump"}
# Of others: the database, with a CA of its own, and the object store.
EXTERNAL = DUMPS | {
    "platform_components": ["keycloak", "mlflow", "backup"],
    "mlflow_db_host": "db.example.com",
    "mlflow_db_secret": "company-database",
    "mlflow_db_sslmode": "verify-full",
    "mlflow_db_ca_secret": "company-ca",
    "keycloak_db_host": "identity.example.com",
    "keycloak_db_secret": "company-identity",
    "mlflow_s3_endpoint": "https://s3.example.com",
    "mlflow_s3_secret": "company-storage",
}


def rendered(options, template="backup.cronjob.yaml.j2"):
    """The containers of a CronJob by their names, in order."""
    (job,) = get_role("backup", OTHERS).render(template, STACK | options)
    pod = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    return containers(pod), pod


def variables(container):
    """The variables of a container, with names of Secrets in place of values."""
    return {
        each["name"]: each["value"] if "value" in each else each["valueFrom"]["secretKeyRef"]["name"]
        for each in container["env"]
    }


def test_dumps_change_nothing_of_postgres():
    """But for the credentials, which the namespace of backups has as well."""
    role, without = get_role("postgres"), BACKUP | {"platform_components": OTHERS}
    # The namespace names those of the stack.
    found, before = (
        [each for each in role.manifests(options) if each["kind"] != "Namespace"]
        for options in (BACKUP | DUMPS, without)
    )
    assert found == before
    added = {
        each["name"]: set(each["namespaces"]) - set(before["namespaces"])
        for each, before in zip(
            role.value("postgres_component.secrets", BACKUP | DUMPS),
            role.value("postgres_component.secrets", without),
            strict=True,
        )
    }
    assert {name for name, namespaces in added.items() if namespaces} == {
        "mlflow-db-credentials",
        "keycloak-db-credentials",
    }
    assert set().union(*added.values()) == {"mlflow-backup"}


def test_steps_of_a_backup_by_dumps():
    found, pod = rendered(DUMPS)
    assert list(found) == ["agreement", "database", "keycloak", "dumps", "objects", "keys", "backup"]
    dumping = {name: each["command"] for name, each in found.items() if "dump.sh" in str(each["command"])}
    assert dumping == {
        "database": ["sh", "/etc/backup/dump.sh", "mlflow", "mlflow_auth"],
        "keycloak": ["sh", "/etc/backup/dump.sh", "keycloak"],
    }
    mounted = [name for name, each in found.items() if any(mount["name"] == "dumps" for mount in each["volumeMounts"])]
    assert mounted == ["database", "keycloak", "dumps"]
    (volume,) = [each for each in pod["volumes"] if each["name"] == "dumps"]
    assert volume["emptyDir"] == {"sizeLimit": "10Gi"}
    # What dumps a database has its credentials, and no others.
    for name, secret in (("database", "mlflow-db-credentials"), ("keycloak", "keycloak-db-credentials")):
        known = variables(found[name])
        assert {value for variable, value in known.items() if variable in ("PGUSER", "PGPASSWORD")} == {secret}
        assert known["PGSSLMODE"] == "verify-full"
        assert not [each for each in known if not each.startswith("PG")]


def test_without_keycloak_there_is_no_dump_of_it():
    components = [each for each in STACK["platform_components"] if each != "keycloak"]
    found, _pod = rendered(DUMPS | {"platform_components": components})
    assert "keycloak" not in found
    config = get_role("backup", OTHERS).value("__backup_config", STACK | DUMPS | {"platform_components": components})
    assert [each["database"] for each in config["dumps"]] == ["mlflow", "mlflow_auth"]


def test_databases_of_others_are_reached_as_mlflow_reaches_them():
    found, pod = rendered(EXTERNAL)
    known = variables(found["database"])
    assert (known["PGHOST"], known["PGUSER"], known["PGSSLMODE"]) == (
        "db.example.com",
        "company-database",
        "verify-full",
    )
    assert known["PGSSLROOTCERT"] == "/etc/backup-db-ca/ca.crt"
    assert {"name": "db-ca", "mountPath": "/etc/backup-db-ca", "readOnly": True} in found["database"]["volumeMounts"]
    assert [each["secret"]["secretName"] for each in pod["volumes"] if each["name"] == "db-ca"] == ["company-ca"]
    assert variables(found["keycloak"])["PGHOST"] == "identity.example.com"
    flows = {each["metadata"]["name"] for each in get_role("backup", OTHERS).policies(STACK | EXTERNAL)}
    assert {"backup-to-postgres", "backup-to-keycloak-database", "backup-to-s3"} <= flows


def test_secrets_of_others_have_to_be_in_the_namespace_of_backups_and_are_backed_up():
    role = get_role("backup", OTHERS)
    found = {each["name"]: each for each in role.value("backup_component.secrets", STACK | EXTERNAL)}
    names = {"company-database", "company-ca", "company-identity", "company-storage"}
    assert names == {name for name, each in found.items() if each.get("existing")}
    assert set(role.value("__backup_secrets", STACK | EXTERNAL)["mlflow-backup"]) == names
    supplied = STACK["platform_credentials"] | {"company-storage": {"AWS_ACCESS_KEY_ID": {"env": "A"}}}
    given = role.value("backup_component.secrets", STACK | EXTERNAL | {"platform_credentials": supplied})
    assert {each["name"] for each in given if each.get("existing")} == names - {"company-storage"}


@pytest.mark.parametrize(
    "options", [DUMPS, DUMPS | {"postgres_image": "postgres:17"}, EXTERNAL, EXTERNAL | {"platform_internal_tls": False}]
)
def test_dumps_need_no_server_and_no_image_of_the_stack(options):
    assert refusal(**options) == ""


def test_a_restore_loads_dumps_by_the_same_users():
    (task,) = rendering.tasks_of("backup", "restore_databases")
    known = STACK | DUMPS | {"backup_restored": {"id": "20261130T020000Z"}} | task["vars"]
    (job,) = get_role("backup", OTHERS).render("backup-task.job.yaml.j2", known)
    pod = job["spec"]["template"]["spec"]
    assert [each["name"] for each in pod["initContainers"] + pod["containers"]] == ["dumps", "database", "keycloak"]
    (last,) = pod["containers"]
    assert last["command"] == ["sh", "/etc/backup/load.sh", "keycloak"]
    assert variables(last)["PGUSER"] == "keycloak-db-credentials"


def test_a_drill_by_dumps_has_the_same_steps():
    found, _pod = rendered(DUMPS, "restore-drill.cronjob.yaml.j2")
    assert list(found) == list(rendered({}, "restore-drill.cronjob.yaml.j2")[0])
    mounted = [name for name, each in found.items() if any(mount["name"] == "dumps" for mount in each["volumeMounts"])]
    assert mounted == ["choose", "restore"]


# --- rights -----------------------------------------------------------------------------------------------------------


def rules(options=None):
    """The rules of the service account by namespace."""
    return {
        each["metadata"]["namespace"]: each["rules"]
        for each in get_role("backup", OTHERS).render("backup.rbac.yaml.j2", STACK | (options or {}))
        if each["kind"] == "Role"
    }


def test_secrets_are_read_by_their_names():
    found = rules()
    assert set(found) == {"postgres", "minio", "keycloak", "mlflow", "sealed-secrets"}
    for namespace, listed in found.items():
        for rule in listed:
            assert rule["resources"] == ["secrets"]
            if namespace == "sealed-secrets":
                assert rule["verbs"] == ["list"]
            else:
                assert rule["verbs"] == ["get"]
                assert rule["resourceNames"]


def test_all_secrets_of_the_components_are_backed_up():
    found = {
        (namespace, name) for namespace, (rule, *_more) in rules().items() for name in rule.get("resourceNames", [])
    }
    for role in OTHERS[1:]:
        for secret in get_role("backup", OTHERS).value(f"{role}_component.secrets", STACK):
            for namespace in secret["namespaces"]:
                own = "backup" in secret["name"] or namespace == "mlflow-backup"
                assert ((namespace, secret["name"]) in found) == (not own), (namespace, secret["name"])


def test_without_sealed_secrets_nothing_is_listed():
    components = [each for each in STACK["platform_components"] if each != "sealed_secrets"]
    assert "sealed-secrets" not in rules({"platform_components": components})


def test_only_what_calls_the_api_server_has_a_token():
    (job,) = get_role("backup", OTHERS).render("backup.cronjob.yaml.j2", STACK)
    pod = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    mounted = [
        each["name"]
        for each in pod["initContainers"] + pod["containers"]
        if any(mount["name"] == "token" for mount in each["volumeMounts"])
    ]
    assert mounted == ["keys"]


# --- a drill ----------------------------------------------------------------------------------------------------------

# With a value that comes from elsewhere, as users have them.
DRILLED = STACK | {
    "mlflow_extra_env": [{"name": "EXTRA", "value": "of a user"}],
    "keycloak_extra_env": {"KC_LOG_LEVEL": "debug"},
}


def drill(**options):
    """The pod of a drill, and what it is asked to do."""
    role, given = get_role("backup", OTHERS), DRILLED | options
    (job,) = role.render("restore-drill.cronjob.yaml.j2", given)
    (config,) = role.render("backup.configmap.yaml.j2", given)
    return job["spec"]["jobTemplate"]["spec"]["template"]["spec"], json.loads(config["data"]["backup.json"])["drill"]


def containers(pod):
    """All containers of a pod by their names, in order."""
    return {each["name"]: each for each in pod["initContainers"] + pod["containers"]}


RESTORED = ["choose", "restore", "postgres", "check"]
SERVED = ["keycloak", "migrate", "mlflow", "login"]


@pytest.mark.parametrize(
    ("options", "way", "names"),
    [
        ({}, "code", [*RESTORED, "keycloak-copy", "keycloak-build", *SERVED]),
        ({"keycloak_optimized": True}, "code", [*RESTORED, *SERVED]),
        ({"mlflow_auth": "basic"}, "password", [*RESTORED, *SERVED[1:]]),
        ({"mlflow_auth": "oauth2_proxy"}, "password", [*RESTORED, *SERVED[1:]]),
        ({"mlflow_auth": "none"}, "none", [*RESTORED, *SERVED[1:]]),
        ({"keycloak_db_host": "db.example.com"}, "password", [*RESTORED, *SERVED[1:]]),
        # Of which there is a dump.
        (
            {"keycloak_db_host": "db.example.com", "backup_method": "pg_dump", "keycloak_optimized": True},
            "code",
            [*RESTORED, *SERVED],
        ),
        (
            {"platform_components": [each for each in STACK["platform_components"] if each != "keycloak"]},
            "password",
            [*RESTORED, *SERVED[1:]],
        ),
        ({"backup_drill_login": False}, None, RESTORED),
    ],
)
def test_a_drill_starts_what_the_login_needs(options, way, names):
    pod, asked = drill(**options)
    found = containers(pod)
    assert list(found) == names
    assert [each["name"] for each in pod["containers"]] == names[-1:]
    assert asked["login"].get("way") == way
    serving = {name for name, each in found.items() if each.get("restartPolicy") == "Always"}
    assert serving == {"postgres", "keycloak", "mlflow"} & set(names)
    environments = asked["login"].get("environments", {})
    assert environments.keys() == {"keycloak", "migrate", "mlflow"} & set(names)


def test_a_drill_has_the_variables_of_the_stack():
    """So a new setting is in the drill by itself."""
    _pod, asked = drill()
    environments = {name: each["variables"] for name, each in asked["login"]["environments"].items()}
    for role, name, kind, template in (
        ("mlflow", "mlflow", "Deployment", "mlflow.deployment.yaml.j2"),
        ("mlflow", "migrate", "Job", "mlflow-migrate.job.yaml.j2"),
        ("keycloak", "keycloak", "StatefulSet", "keycloak.statefulset.yaml.j2"),
    ):
        (workload,) = get_role(role, OTHERS).render(template, DRILLED)
        (container,) = rendering.pod_template(workload)["spec"]["containers"]
        assert workload["kind"] == kind
        assert environments[name] == container["env"]
    assert {"name": "EXTRA", "value": "of a user"} in environments["mlflow"]
    assert {"name": "KC_LOG_LEVEL", "value": "debug"} in environments["keycloak"]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"mlflow_kubernetes_namespaces": ["a"], "mlflow_audit_log": "/var/log/audit", "mlflow_audit_claim": "x"},
        {"platform_internal_tls": False},
        {"keycloak_replicas": 3, "mlflow_artifacts_direct": True},
        {"mlflow_auth": "oauth2_proxy"},
        {"mlflow_auth": "basic", "mlflow_db_ca_secret": "x", "backup_s3_ca_secret": "company-ca"},
        {"mlflow_otlp_endpoint": "https://collector.monitoring.svc:4318", "mlflow_otlp_ca_secret": "collector-ca"},
    ],
)
def test_servers_of_a_drill_reach_nothing_outside_of_their_pod(options):
    """Neither servers of the stack nor files that only its pods have."""
    pod, asked = drill(**options)
    for each in asked["login"]["environments"].values():
        for variable in each["variables"]:
            value = asked["login"]["instead"].get(variable["name"], variable.get("value")) or ""
            assert not re.search(r"\.svc\b|(^|=)/(etc|var)/", value), variable
    server = containers(pod)["mlflow"]["command"]
    assert "--artifacts-destination=s3://backups/mlflow/objects" in server[-6:]
    assert {"--host=127.0.0.1", "--tls-port=0"} <= set(server[-6:])


def test_credentials_of_a_drill_are_in_memory_only():
    pod, _asked = drill()
    (volume,) = (each for each in pod["volumes"] if each["name"] == "keys")
    assert volume["emptyDir"]["medium"] == "Memory"
    for name, each in containers(pod).items():
        mounts = {mount["name"]: mount.get("readOnly", False) for mount in each["volumeMounts"]}
        readers = {"check": False, "keycloak": True, "migrate": True, "mlflow": True}
        assert mounts.get("keys") == readers.get(name), name
        assert name == "check" or "token" not in mounts
        secrets = {
            variable["valueFrom"]["secretKeyRef"]["name"] for variable in each["env"] if "secretKeyRef" in str(variable)
        }
        assert secrets <= {"mlflow-backup-s3", "mlflow-backup-encryption"}
        assert ("mlflow-backup-encryption" in secrets) == (name in ("choose", "check", "login", "restore", "postgres"))
    assert not any("secret" in each for each in pod["volumes"])


def test_a_drill_runs_as_the_stack_does():
    pod, _asked = drill(backup_drill_memory="2Gi", keycloak_memory="3Gi", keycloak_cpu="2")
    found = containers(pod)
    for name, each in found.items():
        context = pod["securityContext"] | each["securityContext"]
        assert context["runAsNonRoot"]
        assert context["runAsUser"] == (1000 if name.startswith("keycloak") else 999)
        assert context["readOnlyRootFilesystem"]
        assert context["capabilities"] == {"drop": ["ALL"]}
    assert found["mlflow"]["resources"]["limits"] == found["migrate"]["resources"]["limits"] == {"memory": "2Gi"}
    assert found["keycloak"]["resources"]["requests"] == {"cpu": "2", "memory": "3Gi"}
    heap = {each["name"]: each.get("value") for each in found["keycloak-build"]["env"]}["JAVA_OPTS_KC_HEAP"]
    assert heap == "-Xms64m -Xmx2150m"


# --- what is refused --------------------------------------------------------------------------------------------------


def test_a_stack_with_backups_is_taken():
    assert refusal() == ""


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"platform_credentials": {}}, "supply it, such as {mlflow-backup-encryption:"),
        ({"platform_credentials": {"mlflow-backup-encryption": None}}, "supply it"),
        ({"platform_internal_tls": False}, "platform_internal_tls is False"),
        ({"mlflow_db_host": "db.example.com"}, "PostgreSQL of the stack. Or backup_method pg_dump"),
        (
            {"mlflow_s3_endpoint": "https://s3.example.com", "mlflow_s3_bucket": "backups"},
            "backup_s3_bucket is 'backups'",
        ),
        (
            {"backup_method": "pg_dump", "keycloak_db_host": "identity.example.com", "keycloak_db_name": "mlflow"},
            "keycloak_db_name are mlflow, mlflow_auth, mlflow: different names",
        ),
        ({"backup_method": "barman"}, "value of backup_method must be one of: pgbackrest, pg_dump"),
        ({"postgres_image": "docker.io/library/postgres:17.7"}, "an image of PostgreSQL with pgbackrest"),
        ({"postgres_image": "postgres:17"}, "builds. Or backup_method pg_dump"),
        ({"backup_s3_endpoint": "http://s3.example.com"}, "backup_s3_endpoint is 'http://s3.example.com'"),
        ({"backup_s3_endpoint": ""}, "backup_s3_endpoint is ''"),
        ({"backup_s3_bucket": ""}, "backup_s3_bucket"),
        ({"backup_s3_prefix": "/a"}, "backup_s3_prefix is '/a'"),
        ({"backup_schedule": "daily"}, "backup_schedule is 'daily'"),
        ({"backup_drill_memory": "256Mi"}, "backup_drill_memory is '256Mi'"),
    ],
)
def test_what_cannot_be_backed_up(options, says):
    assert says in refusal(**options)


def test_settings_of_the_archive_are_the_roles():
    options = BACKUP | {"postgres_settings": {"archive_timeout": 5}}
    assert "postgres_settings has archive_timeout" in checks.refusal(get_role("postgres"), options)


def test_a_role_that_is_not_in_the_run_would_be_missed():
    message = checks.refusal(get_role("backup"), STACK)
    assert (
        "platform_components has sealed_secrets, postgres, minio, keycloak, mlflow, whose roles are not in this run"
        in message
    )


# --- what the server package has of its own ---------------------------------------------------------------------------


def test_keys_are_files_of_ansible_vault():
    sealed = module("vault_file").seal(b"content", "a passphrase of the tests")
    library = VaultLib([("default", VaultSecret(b"a passphrase of the tests"))])
    assert library.decrypt(sealed) == b"content"
    text = library.encrypt("other content").decode()
    assert module("vault_file").unseal(text, "a passphrase of the tests") == b"other content"


def test_fingerprints_are_those_of_the_run():
    source = (SERVER / "cluster.py").read_text()
    code = source[source.index("def fingerprint") : source.index("class Cluster")]
    known: dict = {}
    exec("import hashlib, json\n" + code, known)  # noqa: S102  (the module needs the server's packages)
    values = {"b": b"\x00\xff", "a": b"text"}
    assert known["fingerprint"]("mlflow", "x", values) == fingerprint("mlflow", "x", values)
