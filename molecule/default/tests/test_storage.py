"""Stored data: rows in PostgreSQL and objects in MinIO."""

import pytest

from tests.lib import stack as stacks
from tests.lib.clients import RUN


@pytest.fixture(scope="module")
def run(stack, admin_token, mark):
    done = stack.client(RUN, stacks.ADMIN, admin_token, f"storage-{mark}")
    return dict(zip(("run_id", "experiment_id"), done.stdout.splitlines()[-1].split(), strict=True))


def test_rows_of_a_run(stack, run):
    rows = stack.sql(
        "mlflow",
        f"""SELECT r.status, p.value, m.value, m.step FROM runs r
            JOIN params p ON p.run_uuid = r.run_uuid AND p.key = 'colour'
            JOIN metrics m ON m.run_uuid = r.run_uuid AND m.key = 'loss'
            WHERE r.run_uuid = '{run["run_id"]}'""",
    )
    assert rows == [["FINISHED", "green", "0.25", "7"]]


def test_object_of_a_run(stack, run):
    found = [entry for entry in stack.objects() if run["run_id"] in entry["key"]]
    assert [(entry["key"].rpartition("/")[2], entry["size"]) for entry in found] == [("hello.txt", 5)]
    assert stack.object(found[0]["key"]) == "hello"


def test_permissions_are_in_a_separate_database(stack, run):
    rows = stack.sql(
        "mlflow_auth",
        f"""SELECT u.username, p.permission FROM experiment_permissions p JOIN users u ON u.id = p.user_id
            WHERE p.experiment_id = '{run["experiment_id"]}'""",
    )
    assert rows == [[stacks.ADMIN, "MANAGE"]]


def test_tokens_are_stored_hashed(stack, admin_token):
    """The stored form of a token is not a valid credential."""
    tables = stack.sql("mlflow_auth", "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    assert len(tables) > 5
    for (table,) in tables:
        dumped = stack.sql("mlflow_auth", f'SELECT t::text FROM "{table}" t')
        assert not any(admin_token in field for row in dumped for field in row), table


def test_database_roles_own_only_their_databases(stack):
    rows = stack.sql(
        "postgres",
        """SELECT r.rolname, d.datname FROM pg_roles r CROSS JOIN pg_database d
           WHERE r.rolname IN ('mlflow', 'keycloak') AND d.datname IN ('keycloak', 'mlflow', 'mlflow_auth', 'postgres')
             AND has_database_privilege(r.rolname, d.datname, 'CONNECT') ORDER BY 1, 2""",
    )
    assert rows == [["keycloak", "keycloak"], ["mlflow", "mlflow"], ["mlflow", "mlflow_auth"]]
    powers = stack.sql(
        "postgres",
        """SELECT rolname FROM pg_roles WHERE rolname IN ('mlflow', 'keycloak')
           AND (rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls)""",
    )
    assert powers == []


def test_passwords_are_scram_and_pages_have_checksums(stack):
    rows = stack.sql("postgres", "SELECT rolname, left(rolpassword, 13) FROM pg_authid WHERE rolpassword IS NOT NULL")
    assert {kind for _unused, kind in rows} == {"SCRAM-SHA-256"}
    assert stack.sql("postgres", "SHOW data_checksums") == [["on"]]


def test_no_login_without_a_password(pod):
    done = pod("postgres").run("PGPASSWORD=wrong psql -h 127.0.0.1 -U mlflow -d mlflow -c 'SELECT 1'")
    assert "1 row" not in done.stdout
    assert "password authentication failed" in done.stderr


def test_volume_claims_are_bound(stack):
    for component in ("postgres", "minio"):
        claims = stack.core.list_namespaced_persistent_volume_claim(stacks.NAMESPACES[component]).items
        assert claims
        assert {claim.status.phase for claim in claims} == {"Bound"}
