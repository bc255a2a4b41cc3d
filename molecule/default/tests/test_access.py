"""Access is denied until it is granted."""

import pytest
import requests

from tests.lib import stack as stacks


@pytest.fixture
def theirs(stack, user_token):
    """Send requests as demo-user."""

    def ask(method, path, **options):
        return requests.request(
            method, f"{stack.mlflow_url}{path}", auth=(stacks.USER, user_token), timeout=60, **options
        )

    return ask


def test_experiment_is_refused(theirs, example):
    by_id = {"experiment_id": example["experiment_id"]}
    assert theirs("GET", "/api/2.0/mlflow/experiments/get", params=by_id).status_code == 403
    by_name = {"experiment_name": "iris"}
    assert theirs("GET", "/api/2.0/mlflow/experiments/get-by-name", params=by_name).status_code == 403
    assert theirs("POST", "/api/2.0/mlflow/experiments/delete", json=by_id).status_code == 403


def test_run_is_refused(theirs, example):
    run = {"run_id": example["run_id"]}
    assert theirs("GET", "/api/2.0/mlflow/runs/get", params=run).status_code == 403
    change = {**run, "key": "mine", "value": "1"}
    assert theirs("POST", "/api/2.0/mlflow/runs/log-parameter", json=change).status_code == 403


def test_artifacts_are_refused(theirs, example):
    path = f"/api/2.0/mlflow-artifacts/artifacts/{example['experiment_id']}/{example['run_id']}/artifacts"
    assert theirs("GET", f"{path}/confusion_matrix.png").status_code == 403
    assert theirs("PUT", f"{path}/mine.txt", data=b"mine").status_code == 403
    listed = {"run_id": example["run_id"]}
    assert theirs("GET", "/api/2.0/mlflow/artifacts/list", params=listed).status_code == 403


def test_model_is_refused(theirs, example):
    model = {"name": example["model"]}
    assert theirs("GET", "/api/2.0/mlflow/registered-models/get", params=model).status_code == 403
    assert theirs("DELETE", "/api/2.0/mlflow/registered-models/delete", json=model).status_code == 403


def test_searches_do_not_show_it(theirs, example):
    found = theirs("POST", "/api/2.0/mlflow/experiments/search", json={"max_results": 1000}).json()
    assert example["experiment_id"] not in [each["experiment_id"] for each in found.get("experiments", [])]
    found = theirs("GET", "/api/2.0/mlflow/registered-models/search", params={"max_results": 1000}).json()
    assert example["model"] not in [each["name"] for each in found.get("registered_models", [])]
    found = theirs("POST", "/api/2.0/mlflow/runs/search", json={"experiment_ids": [example["experiment_id"]]})
    assert example["run_id"] not in found.text


def test_administration_is_refused(theirs):
    assert theirs("POST", "/api/2.0/mlflow/users", json={"username": "x", "display_name": "x"}).status_code == 403
    assert theirs("GET", "/api/2.0/mlflow/users/details").status_code == 403


def test_granted_permission_gives_access(stack, theirs, user_token, admin_token, mark):
    """Granting a permission gives access, and revoking it removes access."""
    admin = (stacks.ADMIN, admin_token)
    made = requests.post(
        f"{stack.mlflow_url}/api/2.0/mlflow/experiments/create",
        json={"name": f"granted-{mark}"},
        auth=admin,
        timeout=60,
    ).json()["experiment_id"]
    grant = f"{stack.mlflow_url}/api/2.0/mlflow/permissions/users/{stacks.USER}/experiments/{made}"
    asked = {"experiment_id": made}
    assert theirs("GET", "/api/2.0/mlflow/experiments/get", params=asked).status_code == 403
    given = requests.post(grant, json={"permission": "READ"}, auth=admin, timeout=60)
    assert given.status_code in (200, 201), given.text
    stacks.wait_until(
        lambda: theirs("GET", "/api/2.0/mlflow/experiments/get", params=asked).status_code == 200,
        60,
        "the permission that was given",
    )
    change = {**asked, "new_name": f"mine-{mark}"}
    assert theirs("POST", "/api/2.0/mlflow/experiments/update", json=change).status_code == 403
    requests.delete(grant, auth=admin, timeout=60).raise_for_status()
    stacks.wait_until(
        lambda: theirs("GET", "/api/2.0/mlflow/experiments/get", params=asked).status_code == 403,
        60,
        "the permission that was taken away",
    )


def test_user_owns_created_objects(stack, user_token, mark):
    """demo-user can work in an experiment of their own, with artifacts, without any grant."""
    script = """
        import sys
        import mlflow

        mlflow.set_experiment(sys.argv[1])
        with mlflow.start_run() as run:
            mlflow.log_metric("loss", 1)
            mlflow.log_text("mine", "mine.txt")
        assert mlflow.artifacts.load_text(run.info.artifact_uri + "/mine.txt") == "mine"
        mlflow.MlflowClient().create_registered_model(sys.argv[1])
    """
    stack.client(script, stacks.USER, user_token, f"own-{mark}")
