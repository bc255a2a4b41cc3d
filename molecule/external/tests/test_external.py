"""Data is stored in the external services only."""

import kubernetes

from tests.lib import stack as stacks
from tests.lib.clients import ROUND_TRIP, RUN
from tests.lib.elsewhere import ELSEWHERE


def test_stack_has_no_database_and_no_object_store(stack):
    namespaces = {each.metadata.name for each in stack.core.list_namespace().items}
    assert {"mlflow", "keycloak", "sealed-secrets"} <= namespaces
    assert namespaces.isdisjoint({"postgres", "minio"})
    claims = stack.core.list_persistent_volume_claim_for_all_namespaces().items
    assert {claim.metadata.namespace for claim in claims} == {*ELSEWHERE.values(), "elsewhere-backups"}


def test_run_is_in_the_external_database(stack, admin_token, name):
    """The run's parameters and metrics, and the owner of its experiment."""
    run, experiment = stack.client(RUN, stacks.ADMIN, admin_token, name).stdout.splitlines()[-1].split()
    rows = stack.sql(
        "company_runs",
        f"""SELECT r.status, p.value, m.value, m.step FROM runs r
            JOIN params p ON p.run_uuid = r.run_uuid AND p.key = 'colour'
            JOIN metrics m ON m.run_uuid = r.run_uuid AND m.key = 'loss'
            WHERE r.run_uuid = '{run}'""",
    )
    assert rows == [["FINISHED", "green", "0.25", "7"]]
    rows = stack.sql(
        "company_users",
        f"""SELECT u.username, p.permission FROM experiment_permissions p JOIN users u ON u.id = p.user_id
            WHERE p.experiment_id = '{experiment}'""",
    )
    assert rows == [[stacks.ADMIN, "MANAGE"]]


def test_artifact_is_in_the_external_store(stack, admin_token, name):
    """100 MB are the same after a round trip, and are one object in the bucket."""
    done = stack.client(ROUND_TRIP, stacks.ADMIN, admin_token, 100, name)
    run = done.stdout.splitlines()[-1].split()[0]
    assert [entry["size"] for entry in stack.objects() if run in entry["key"]] == [100 << 20]


def test_users_are_in_the_external_database(stack):
    rows = stack.sql(
        "company_identity",
        """SELECT u.username FROM user_entity u JOIN realm r ON r.id = u.realm_id
           WHERE r.name = 'mlflow' AND u.username LIKE 'demo-%' ORDER BY 1""",
    )
    assert rows == [[stacks.ADMIN], [stacks.USER]]


def test_no_other_role_owns_tables(stack):
    rows = stack.sql("postgres", "SELECT rolname FROM pg_roles WHERE rolname IN ('mlflow', 'keycloak')")
    assert rows == []
    rows = stack.sql(
        "postgres", "SELECT datname FROM pg_database WHERE datname IN ('mlflow', 'mlflow_auth', 'keycloak')"
    )
    assert rows == []


def test_user_provided_secrets_are_not_changed(stack):
    """The collection reads them, and neither changes nor replaces them."""
    for namespace, name in (
        ("mlflow", "company-database"),
        ("mlflow", "company-storage"),
        ("keycloak", "company-identity"),
        ("mlflow-backup", "company-database"),
    ):
        metadata = stack.core.read_namespaced_secret(name, namespace).metadata
        managers = {entry.manager for entry in metadata.managed_fields or []}
        assert "mlops.mlflow" not in managers, f"{namespace}/{name} was written by the collection"
    names = {each.metadata.name for each in stack.core.list_secret_for_all_namespaces().items}
    assert names.isdisjoint({"mlflow-db-credentials", "mlflow-s3-secret", "keycloak-db-credentials"})


def test_external_services_are_not_provisioned(stack):
    jobs = [job.metadata for job in kubernetes.client.BatchV1Api(stack.api).list_job_for_all_namespaces().items]
    ours = [job for job in jobs if job.namespace in ("mlflow", "keycloak")]
    assert {job.labels["mlops.mlflow/job"] for job in ours} == {"mlflow-migrate"}


def test_keycloak_builds_in_its_pod(stack):
    """The server in the image is read-only, and may not be built for PostgreSQL."""
    pod = stack.core.read_namespaced_pod("keycloak-0", "keycloak")
    ended = {each.name: each.state.terminated.exit_code for each in pod.status.init_container_statuses or []}
    assert ended == {"copy": 0, "build": 0}
    assert "Server configuration updated and persisted" in stack.core.read_namespaced_pod_log(
        "keycloak-0", "keycloak", container="build"
    )
