"""MLflow's own accounts: authentication, permissions, and passwords."""

import concurrent.futures
import json
import time

import pytest

from tests.lib import stack as stacks
from tests.lib.callers import Caller, create, grant

SEARCH = "2.0/mlflow/experiments/search"
CALLS = [
    ("GET", SEARCH),
    ("POST", "2.0/mlflow/runs/search"),
    ("GET", "2.0/mlflow/users/current"),
    ("GET", "2.0/mlflow/users/list"),
    ("POST", "2.0/mlflow/users/create"),
    ("GET", "2.0/mlflow-artifacts/artifacts"),
    ("GET", "2.0/mlflow-artifacts/artifacts/0/a.txt"),
    ("PUT", "2.0/mlflow-artifacts/artifacts/0/a.txt"),
    ("POST", "/graphql"),
    ("POST", "/v1/traces"),
    ("GET", "3.0/mlflow/server-info"),
    ("GET", "/signup"),
    ("GET", "/"),
]


@pytest.fixture(scope="module")
def ada(accounts):
    return accounts("ada")


@pytest.fixture(scope="module")
def bob(accounts):
    return accounts("bob")


def test_playbooks_account_is_an_administrator(admin):
    profile = admin.well("GET", "2.0/mlflow/users/current")["user"]
    assert (profile["username"], profile["is_admin"]) == ("mlflow-admin", True)


@pytest.mark.parametrize(("method", "path"), CALLS)
def test_anonymous_calls_are_refused(stack, method, path):
    answer = stack.anonymous(method, path)
    assert answer.status_code == 401, f"{answer.status_code} {answer.text[:200]}"
    assert answer.headers["WWW-Authenticate"].startswith("Basic")


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("mlflow-admin", "wrong"),
        ("mlflow-admin", ""),
        ("nobody", "wrong"),
        ("mlflow-admin", "pässword"),
        ("admin", "password1234"),
    ],
)
@pytest.mark.parametrize("path", [SEARCH, "2.0/mlflow-artifacts/artifacts/0/a.txt"])
def test_invalid_credentials_are_refused(stack, name, password, path):
    answer = Caller(stack.mlflow_url, name, password.encode())("GET", path)
    assert answer.status_code == 401, answer.text


def test_probes_need_no_account(stack):
    for path in ("/health", "/health/live", "/health/startup"):
        assert stack.anonymous("GET", path).status_code == 200
    checks = stack.anonymous.well("GET", "/health/ready")["checks"]
    assert checks == {"tracking_database": True, "database": True}


def test_password_with_non_ascii_characters(admin, name, stack):
    """On MLflow's Flask routes, and on its FastAPI routes."""
    user = Caller(stack.mlflow_url, f"{name}-joerg", "pässwörd:日本 und mehr")
    admin.well("POST", "2.0/mlflow/users/create", {"username": user.name, "password": user.password})
    user.password = user.password.encode()
    experiment = create(user, f"{name}-letters")
    assert user("PUT", f"2.0/mlflow-artifacts/artifacts/{experiment}/a.txt").status_code == 200
    admin.well("DELETE", "2.0/mlflow/users/delete", {"username": user.name})


def test_metrics_are_not_served_on_this_port(stack, admin):
    assert [caller("GET", "/metrics").status_code for caller in (stack.anonymous, admin)] == [401, 404]


def test_another_host_name_is_refused(stack, admin):
    admin._session.headers["Host"] = "evil.example"
    try:
        assert admin("GET", SEARCH, max_results=1).status_code == 403
    finally:
        del admin._session.headers["Host"]


def test_created_objects_are_private(ada, bob, admin, name):
    experiment = create(ada, f"{name}-own")
    ada.well("POST", "2.0/mlflow/runs/create", {"experiment_id": experiment})
    assert bob("GET", "2.0/mlflow/experiments/get", experiment_id=experiment).status_code == 403
    assert bob("POST", "2.0/mlflow/runs/create", {"experiment_id": experiment}).status_code == 403
    listed = bob.well("GET", SEARCH, max_results=1000).get("experiments", [])
    assert experiment not in [each["experiment_id"] for each in listed]
    assert admin("GET", "2.0/mlflow/experiments/get", experiment_id=experiment).status_code == 200


def test_user_has_granted_permissions_only(ada, bob, admin, name):
    experiment = create(ada, f"{name}-granted")
    grant(admin, bob, experiment, "READ")
    assert bob("GET", "2.0/mlflow/experiments/get", experiment_id=experiment).status_code == 200
    assert bob("POST", "2.0/mlflow/runs/create", {"experiment_id": experiment}).status_code == 403
    assert bob("POST", "2.0/mlflow/experiments/delete", {"experiment_id": experiment}).status_code == 403


def test_group_has_granted_permissions(ada, bob, admin, name):
    experiment = create(ada, f"{name}-group")
    role = admin.well("POST", "3.0/mlflow/roles/create", {"name": f"{name}-editors", "workspace": "default"})["role"][
        "id"
    ]
    admin.well(
        "POST",
        "3.0/mlflow/roles/permissions/add",
        {"role_id": role, "resource_type": "experiment", "resource_pattern": experiment, "permission": "EDIT"},
    )
    assert bob("POST", "2.0/mlflow/runs/create", {"experiment_id": experiment}).status_code == 403
    admin.well("POST", "3.0/mlflow/roles/assign", {"role_id": role, "username": bob.name})
    assert bob("POST", "2.0/mlflow/runs/create", {"experiment_id": experiment}).status_code == 200


def test_only_administrators_manage_accounts(ada, bob):
    assert ada("POST", "2.0/mlflow/users/create", {"username": "eve", "password": "long enough 1"}).status_code == 403
    assert ada("PATCH", "2.0/mlflow/users/update-admin", {"username": ada.name, "is_admin": True}).status_code == 403
    assert ada("DELETE", "2.0/mlflow/users/delete", {"username": bob.name}).status_code == 403


def test_changed_password_takes_effect_at_once_in_all_replicas(stack, admin, accounts):
    eve = accounts("eve")
    with stack.each_replica() as replicas:
        assert len(replicas) == 2
        for replica in replicas:
            assert eve.at(replica)("GET", SEARCH, max_results=1).status_code == 200
        admin.well("PATCH", "2.0/mlflow/users/update-password", {"username": eve.name, "password": "another password"})
        for replica in replicas:
            assert eve.at(replica)("GET", SEARCH, max_results=1).status_code == 401
            assert Caller(replica, eve.name, "another password")("GET", SEARCH, max_results=1).status_code == 200


def test_removed_user_is_refused_at_once_in_all_replicas(stack, admin, accounts):
    eve = accounts("eve")
    with stack.each_replica() as replicas:
        for replica in replicas:
            assert eve.at(replica)("GET", SEARCH, max_results=1).status_code == 200
        admin.well("DELETE", "2.0/mlflow/users/delete", {"username": eve.name})
        for replica in replicas:
            assert eve.at(replica)("GET", SEARCH, max_results=1).status_code == 401


def processor_seconds(servers):
    """Return the CPU time of the servers' processes."""
    used = [server.file("/proc/1/stat").content_string.rpartition(")")[2].split() for server in servers]
    return sum(int(each[11]) + int(each[12]) for each in used) / 100


@pytest.fixture
def servers(stack, pod):
    """Each replica, for testinfra."""
    return [pod("mlflow", each.metadata.name) for each in stack.ready("mlflow")]


def test_valid_password_is_hashed_only_once(stack, servers, ada):
    """Each new wrong password is hashed, which gives the CPU time of one check."""

    def seconds(callers, status):
        before = processor_seconds(servers)
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            codes = set(pool.map(lambda caller: caller("GET", "2.0/mlflow/users/current").status_code, callers))
        assert codes == {status}
        return processor_seconds(servers) - before

    ada.well("GET", SEARCH, max_results=1)
    wrong = [Caller(stack.mlflow_url, ada.name, f"none of hers {number}") for number in range(60)]
    assert seconds([ada] * 60, 200) < seconds(wrong, 401) / 2


def test_the_stock_client_logs_runs_artifacts_and_models(stack, ada, name):
    script = """
        import sys, mlflow
        mlflow.set_experiment(sys.argv[1])
        with mlflow.start_run() as run:
            mlflow.log_metric("loss", 0.5)
            mlflow.log_text("kept", "words/note.txt")
        client = mlflow.MlflowClient()
        client.create_registered_model(sys.argv[1])
        client.create_model_version(sys.argv[1], f"runs:/{run.info.run_id}/words", run.info.run_id)
        text = mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/words/note.txt")
        print(text, run.info.artifact_uri.split(":")[0])
    """
    assert stack.as_stock_client(script, ada, f"{name}-client").split()[-2:] == ["kept", "mlflow-artifacts"]


def test_artifacts_require_read_on_the_experiment(ada, bob, admin, name):
    experiment = create(ada, f"{name}-artifacts")
    path = f"2.0/mlflow-artifacts/artifacts/{experiment}/file.txt"
    assert bob("PUT", path).status_code == 403
    assert ada("PUT", path).status_code == 200
    assert bob("GET", path).status_code == 403
    grant(admin, bob, experiment, "READ")
    assert bob("GET", path).status_code == 200
    assert bob("PUT", path).status_code == 403


def test_settings_file_contains_no_password(stack, servers):
    values = stack.secret_values()
    for server in servers:
        file = server.file("/tmp/basic_auth.ini")
        text = file.content_string
        assert "default_permission = NO_PERMISSIONS" in text
        assert "basic_auth" in text
        assert not [key for key, value in values.items() if value in text]
        assert (file.mode, file.uid) == (0o600, 10001)
    listed = stack.core.list_namespaced_config_map(stacks.NAMESPACES["mlflow"]).items
    assert {each.metadata.name for each in listed} == {"kube-root-ca.crt", "mlflow-ca"}


def test_server_pods_do_not_have_the_playbooks_password(stack):
    deployment = stack.kubectl("-n", stacks.NAMESPACES["mlflow"], "get", "deployment", "mlflow", "-o", "json")
    read = {
        variable["valueFrom"]["secretKeyRef"]["name"]
        for variable in json.loads(deployment)["spec"]["template"]["spec"]["containers"][0]["env"]
        if "secretKeyRef" in variable.get("valueFrom", {})
    }
    assert read == {"mlflow-db-credentials", "mlflow-s3-secret", "mlflow-session-keys", "mlflow-encryption-keys"}


def test_a_worker_is_one_process(servers):
    for server in servers:
        command = 'for each in /proc/[0-9]*; do tr "\\0" " " < $each/cmdline; echo; done'
        lines = server.check_output(command).splitlines()
        processes = [line for line in lines if "mlflow" in line and not line.startswith("sh ")]
        assert len(processes) == 1, processes


def test_database_outage_is_answered_with_503(stack, admin, ada):
    """Valid credentials are never refused, and service resumes when the database is back."""
    codes = set()
    # Remove the pod from the Service: faster than stopping it, with the same effect.
    stack.kubectl("-n", stacks.NAMESPACES["postgres"], "delete", "pod", "postgres-0", "--wait=false")
    end = time.monotonic() + 90
    while time.monotonic() < end:
        for path in (SEARCH, "2.0/mlflow-artifacts/artifacts/0/none.txt"):
            codes.add((path, ada("GET", path, max_results=1).status_code))
        if (SEARCH, 503) in codes and ada("GET", SEARCH, max_results=1).status_code == 200:
            break
        time.sleep(0.2)
    assert (SEARCH, 503) in codes, codes
    assert not [code for _unused, code in codes if code in (401, 302, 500)], codes
    assert ada("GET", SEARCH, max_results=1).status_code == 200
