"""Running servers with login modes basic and none: what users and programs meet."""

import secrets

import httpx
import pytest

SEARCH = "/api/2.0/mlflow/experiments/search"
NATIVE = "/api/3.0/mlflow/mcp-servers"
INFO = "/api/3.0/mlflow/server-info"


@pytest.fixture
def admin(basic):
    """A client with the playbooks' account."""
    with basic.client(auth=basic.admin) as client:
        yield client


def user(admin, password):
    name = f"user-{secrets.token_hex(4)}"
    answer = admin.post("/api/2.0/mlflow/users/create", json={"username": name, "password": password})
    assert answer.status_code == 200, answer.text
    return name.encode(), password.encode()


# MLflow's native routes and its other ones authenticate in different places.
@pytest.mark.parametrize("path", [f"{SEARCH}?max_results=1", NATIVE, INFO])
def test_every_route_needs_an_account(basic, admin, path):
    assert httpx.get(f"{basic.url}{path}").status_code == 401
    assert httpx.get(f"{basic.url}{path}", auth=(basic.admin[0], "wrong")).status_code == 401
    assert admin.get(path).status_code == 200


@pytest.mark.parametrize("path", [f"{SEARCH}?max_results=1", NATIVE, INFO])
@pytest.mark.parametrize("password", ["plain-password-1", "pässwörd-€-12345"])
def test_passwords_beyond_ascii_are_accepted_everywhere(basic, admin, path, password):
    name, word = user(admin, password)
    assert httpx.get(f"{basic.url}{path}", auth=(name, word)).status_code == 200
    assert httpx.get(f"{basic.url}{path}", auth=(name, word + b"x")).status_code == 401


def test_changed_password_takes_effect_at_once(basic, admin):
    name, word = user(admin, "first-password-1")
    url = f"{basic.url}{SEARCH}?max_results=1"
    assert httpx.get(url, auth=(name, word)).status_code == 200
    body = {"username": name.decode(), "password": "second-password-2"}
    assert admin.patch("/api/2.0/mlflow/users/update-password", json=body).status_code == 200
    assert httpx.get(url, auth=(name, word)).status_code == 401
    assert httpx.get(url, auth=(name, b"second-password-2")).status_code == 200


def test_there_is_no_default_account(basic):
    """MLflow would make one with a published password."""
    rows = basic.databases.server.execute("SELECT username, is_admin FROM basic_auth.users", basic.databases.users)
    assert [name for name, is_admin in rows if is_admin] == [basic.admin[0]]
    assert httpx.get(f"{basic.url}{SEARCH}?max_results=1", auth=("admin", "password1234")).status_code == 401


def test_default_permission_is_none(basic, admin):
    name, word = user(admin, "plain-password-1")
    made = admin.post("/api/2.0/mlflow/experiments/create", json={"name": secrets.token_hex(8)}).json()
    path = f"/api/2.0/mlflow/experiments/get?experiment_id={made['experiment_id']}"
    assert admin.get(path).status_code == 200
    assert httpx.get(f"{basic.url}{path}", auth=(name, word)).status_code == 403


def test_ready_server_checks_both_databases(basic):
    checks = httpx.get(f"{basic.url}/health/ready").json()["checks"]
    assert checks == {"tracking_database": True, "database": True}
    for path in ("/health/live", "/health/startup"):
        assert httpx.get(f"{basic.url}{path}").status_code == 200


def test_metrics_are_not_public(basic, admin, none):
    assert admin.get("/metrics").status_code in (401, 403, 404)
    assert httpx.get(f"{basic.url}/metrics").status_code in (401, 404)
    assert httpx.get(f"{none.url}/metrics").status_code == 404
    assert "mlflow_" in httpx.get(f"http://127.0.0.1:{basic.metrics_port}/metrics").text


def test_without_login_everything_is_open(none):
    assert httpx.get(f"{none.url}{SEARCH}?max_results=1").status_code == 200
    assert httpx.get(f"{none.url}/health/ready").json()["checks"] == {"tracking_database": True}
    assert httpx.get(f"{none.url}/health/live").status_code == 200
