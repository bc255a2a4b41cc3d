"""The audit log: a line for each change, on running servers of each login mode."""

import json
import pathlib
import re
import secrets
import time

import httpx
import pytest

from lib.provider import log_in
from mlops_mlflow_server import audit

API = "/api/2.0/mlflow"
DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs" / "audit.md"


@pytest.fixture(params=["oidc", "basic", "none"])
def server(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def client(server):
    with server.client(auth=server.admin, headers={"x-request-id": f"test-{secrets.token_hex(4)}"}) as client:
        client.id = client.headers["x-request-id"]
        yield client


def test_changes_of_an_experiment(server, client):
    name = f"experiment-{secrets.token_hex(4)}"
    experiment = client.post(f"{API}/experiments/create", json={"name": name}).json()["experiment_id"]
    run = client.post(f"{API}/runs/create", json={"experiment_id": experiment}).json()["run"]["info"]["run_id"]
    batch = {"run_id": run, "params": [{"key": "secret-key", "value": "secret-value"}]}
    assert client.post(f"{API}/runs/log-batch", json=batch).status_code == 200
    assert client.post(f"{API}/runs/search", json={"experiment_ids": [experiment]}).status_code == 200
    assert client.get(f"{API}/experiments/get", params={"experiment_id": experiment}).status_code == 200
    assert client.post(f"{API}/runs/delete", json={"run_id": "0" * 32}).status_code in (403, 404)
    lines = server.audit(id=client.id)
    found = [(line["event"], line["route"], line["names"]) for line in lines]
    assert found == [
        ("create", f"{API}/experiments/create", {"name": name, "experiment_id": experiment}),
        ("create", f"{API}/runs/create", {"experiment_id": experiment, "run_id": run}),
        ("update", f"{API}/runs/log-batch", {"run_id": run}),
        (found[3][0], f"{API}/runs/delete", {"run_id": "0" * 32}),
    ]
    assert [line["result"] for line in lines[:3]] == ["done"] * 3
    assert lines[3]["result"] in ("failed", "refused")
    assert {line["address"] for line in lines} == {"127.0.0.1"}
    assert len({line["user"] for line in lines}) == 1
    assert "secret-value" not in server.log()


def test_who_calls(oidc, basic, none):
    for server, user in ((oidc, oidc.admin[0]), (basic, basic.admin[0]), (none, "")):
        with server.client(auth=server.admin) as client:
            answer = client.post(f"{API}/experiments/create", json={"name": f"of-{secrets.token_hex(4)}"})
        (line,) = server.audit(id=answer.headers["x-request-id"])
        assert line["user"] == user


def test_refused_calls(basic):
    answer = httpx.get(f"{basic.url}{API}/experiments/get", auth=("eve", "wrong password"))
    (line,) = basic.audit(id=answer.headers["x-request-id"])
    assert (line["event"], line["result"], line["status"], line["user"]) == ("refused", "refused", 401, "")
    assert line["claimed"] == "eve"
    assert "wrong password" not in basic.log()


def test_login_tokens_and_logout(oidc, idp):
    idp.user = f"user-{secrets.token_hex(4)}"
    with oidc.client() as client:
        assert log_in(client).status_code == 302
        answer = client.post(f"{API}/users/current/tokens", json={"name": "of-the-audit", "expiration": _tomorrow()})
        assert answer.status_code == 201, answer.text
        token = answer.json()["token"]
        client.get("/logout", headers={"sec-fetch-site": "same-origin"})
    found = [(line["event"], line["result"]) for line in oidc.audit(user=idp.user)]
    assert found == [("login", "done"), ("token", "done"), ("logout", "done")]
    assert oidc.audit(user=idp.user, event="token")[0]["names"] | {"expiration": ""} == {
        "name": "of-the-audit",
        "expiration": "",
    }
    assert token not in oidc.log()


def test_login_that_fails(oidc, idp):
    idp.user, idp.groups = f"eve-{secrets.token_hex(4)}", ["others"]
    before = len(oidc.audit(event="login", result="refused"))
    with oidc.client() as client:
        log_in(client)
    assert len(oidc.audit(event="login", result="refused")) == before + 1


def test_permissions_and_users(oidc):
    with oidc.client(auth=oidc.admin) as client:
        experiment = client.post(f"{API}/experiments/create", json={"name": f"of-{secrets.token_hex(4)}"}).json()
        name = f"user-{secrets.token_hex(4)}"
        made = client.post(f"{API}/users", json={"username": name, "display_name": name, "is_admin": False})
        assert made.status_code < 300, made.text
        path = f"{API}/permissions/users/{name}/experiments/{experiment['experiment_id']}"
        granted = client.post(path, json={"permission": "READ"})
        assert granted.status_code < 300, granted.text
    (line,) = oidc.audit(id=made.headers["x-request-id"])
    assert (line["event"], line["names"]["username"], line["names"]["is_admin"]) == ("user", name, False)
    (line,) = oidc.audit(id=granted.headers["x-request-id"])
    assert line["event"] == "permission"
    assert line["names"] == {"username": name, "permission": "READ", **experiment}
    assert line["route"] == f"{API}/permissions/users/{{username}}/experiments/{{experiment_id}}"


@pytest.mark.parametrize(
    ("method", "path", "event"),
    [
        ("POST", f"{API}/runs/search", None),
        ("POST", "/graphql", None),
        ("GET", f"{API}/runs/get", None),
        ("POST", f"{API}/runs/search-of-a-newer-version", None),
        ("POST", f"{API}/anything/new", "update"),
        ("POST", f"{API}/experiments/delete", "delete"),
        ("DELETE", f"{API}/registered-models/alias", "delete"),
        ("PUT", "/api/2.0/mlflow-artifacts/artifacts/<path:artifact_path>", "create"),
        ("DELETE", "/api/2.0/mlflow-artifacts/artifacts/<path:artifact_path>", "delete"),
        ("POST", "/v1/traces", "create"),
        ("POST", f"{API}/users/create", "user"),
        ("PATCH", f"{API}/users/access-token", "token"),
        ("POST", "/api/3.0/mlflow/permissions/scorers/{name}", "permission"),
        ("POST", "/scim/v2/Groups", "permission"),
        ("GET", "/callback", "login"),
        ("GET", "/callback/other", "login"),
        ("GET", "/callbacks", None),
        ("GET", "/logout", "logout"),
    ],
)
def test_names_of_events(method, path, event):
    assert audit.event_of(method, path, path, 200) == event
    assert audit.event_of(method, path, path, 403) == "refused"


@pytest.mark.parametrize(
    ("method", "path", "route", "event"),
    [
        ("POST", "/p/users/bob/registered-models/search", "/permissions/users/{name}/{model:path}", "permission"),
        ("DELETE", "/p/search", "/permissions/{model:path}", "permission"),
        ("PUT", "/api/2.0/mlflow-artifacts/artifacts/0/search", "/artifacts/<path:artifact_path>", "create"),
    ],
)
def test_a_name_that_a_user_chose_hides_nothing(method, path, route, event):
    assert audit.event_of(method, path, route, 200) == event


def test_a_line_is_shorter_than_what_a_pipe_takes_at_once():
    fields = {"audit": 1, "names": {name: "ä" * audit.LONGEST_VALUE for name in audit.NAMES}}
    line = audit.encoded(fields)
    assert len(line) <= audit.LONGEST_LINE
    assert json.loads(line)["cut"] is True


def test_fields_are_documented(none):
    text = DOCS.read_text()
    documented = set(re.findall(r"^\| `(\w+)` \|", text, re.M))
    with none.client() as client:
        client.post(f"{API}/experiments/create", json={"name": f"of-{secrets.token_hex(4)}"})
    written = {name for line in none.audit() for name in line}
    assert written <= documented
    events = set(re.findall(r"^- `(\w+)`:", text, re.M))
    assert events == audit.EVENTS


def _tomorrow():
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 86400))
