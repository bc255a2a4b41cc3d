"""The short way from the login to Flask: who takes it, and that nothing is skipped which decides."""

import ast
import inspect
import secrets
import textwrap

import flask
import pytest
from mlflow.server import app
from mlflow_oidc_auth.middleware import AuthMiddleware, ProxyHeadersMiddleware, WorkspaceContextMiddleware
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from conftest import ADMIN, ADMIN_PASSWORD
from lib.provider import log_in
from mlops_mlflow_server import straight


class First(BaseHTTPMiddleware):
    """Knows the caller; refuses one of them."""

    async def dispatch(self, request, call_next):
        request.state.user = request.headers.get("user")
        if request.state.user == "eve":
            return PlainTextResponse("eve", 403)
        return await call_next(request)


class Between(BaseHTTPMiddleware):
    """What the short way leaves out."""

    async def dispatch(self, request, call_next):
        response = await call_next(request)
        response.headers["between"] = "yes"
        return response


async def answer(scope, receive, send):
    await PlainTextResponse(f"mounted {scope['path']} {scope['state']['user']}")(scope, receive, send)


def native(_request):
    return PlainTextResponse("native")


@pytest.fixture
def client():
    application = Starlette(
        routes=[
            Route("/native", native, methods=["GET"]),
            Route("/artifacts/native", native, methods=["GET"]),
            Mount("/", answer),
        ],
        middleware=[Middleware(First), Middleware(Between)],
    )
    inner = flask.Flask("inner", root_path="/")
    for path in ("/fixed", "/native", "/with/<variable>", "/artifacts/<path:artifact_path>"):
        inner.add_url_rule(path, endpoint=path, view_func=str, methods=["GET", "POST"])
    assert straight.install(application, inner, (First,), lambda scope: bool(scope["state"]["user"]))
    assert straight.pass_on(application, First)
    with TestClient(application) as client:
        client.headers["user"] = "ann"
        yield client


@pytest.mark.parametrize(
    ("method", "path", "text", "is_straight"),
    [
        ("GET", "/fixed", "mounted /fixed ann", True),
        ("POST", "/fixed", "mounted /fixed ann", True),
        ("DELETE", "/fixed", "mounted /fixed ann", False),
        ("GET", "/with/1", "mounted /with/1 ann", False),
        ("GET", "/other", "mounted /other ann", False),
        ("GET", "/native", "native", False),
        ("POST", "/native", "mounted /native ann", True),
        ("PUT", "/artifacts/a/b", "mounted /artifacts/a/b ann", True),
        ("GET", "/artifacts", "mounted /artifacts ann", False),
        ("GET", "/artifacts/native", "native", False),
    ],
)
def test_who_takes_the_short_way(client, method, path, text, is_straight):
    for _again in range(2):
        found = client.request(method, path)
        assert (found.text, "between" in found.headers) == (text, not is_straight)


def test_unknown_callers_take_the_long_way(client):
    del client.headers["user"]
    assert "between" in client.get("/fixed").headers


def test_middleware_that_passes_on_still_refuses(client):
    client.headers["user"] = "eve"
    assert (client.get("/fixed").status_code, client.get("/fixed").text) == (403, "eve")


def test_path_prefixes_take_the_long_way(client):
    client.app.root_path = "/prefix"
    with TestClient(client.app, root_path="/prefix", headers={"user": "ann"}) as prefixed:
        assert "between" in prefixed.get("/prefix/fixed").headers


@pytest.mark.parametrize("kind", [ProxyHeadersMiddleware, WorkspaceContextMiddleware, AuthMiddleware])
def test_upstreams_middleware_does_nothing_after_the_call(kind):
    """`call_next` is only called to return its answer, which `straight.Passing` relies on."""
    function = ast.parse(textwrap.dedent(inspect.getsource(kind.dispatch))).body[0]
    if kind is WorkspaceContextMiddleware:
        # With workspaces off, nothing follows the first statement.
        function.body = [each for each in function.body if isinstance(each, ast.If)][:1]
        assert ast.unparse(function.body[0].test) == "not config.MLFLOW_ENABLE_WORKSPACES"
    calls = [
        node for node in ast.walk(function) if isinstance(node, ast.Call) and ast.unparse(node.func) == "call_next"
    ]
    returned = [
        node.value.value
        for node in ast.walk(function)
        if isinstance(node, ast.Return) and isinstance(node.value, ast.Await)
    ]
    guarded = [node for each in ast.walk(function) if isinstance(each, ast.Try) for node in ast.walk(each)]
    assert calls
    assert all(call in returned and call not in guarded for call in calls)


def test_artifacts_take_the_short_way_in_every_mode():
    """Their rules end as `straight` expects, so that long bodies pass no middleware piece by piece."""
    rules = [
        rule.rule for rule in app.url_map.iter_rules() if "PUT" in rule.methods and "mlflow-artifacts" in rule.rule
    ]
    assert rules
    assert all(rule.endswith(straight._ARTIFACT) for rule in rules)


def test_permissions_are_checked_on_the_short_way(oidc, idp):
    """A user without rights on an experiment cannot log to its runs, and an anonymous caller nothing at all."""
    with oidc.client(auth=(ADMIN, ADMIN_PASSWORD)) as admin:
        made = admin.post("/api/2.0/mlflow/experiments/create", json={"name": secrets.token_hex(4)}).json()
        run = admin.post("/api/2.0/mlflow/runs/create", json=made).json()["run"]["info"]["run_id"]
        body = {"run_id": run, "params": [{"key": "a", "value": "b"}]}
        assert admin.post("/api/2.0/mlflow/runs/log-batch", json=body).status_code == 200
    idp.user = f"user-{secrets.token_hex(4)}"
    with oidc.client() as client:
        assert client.post("/api/2.0/mlflow/runs/log-batch", json=body).status_code == 401
        assert log_in(client).status_code == 302
        assert client.post("/api/2.0/mlflow/runs/log-batch", json=body).status_code == 403
        assert client.post("/ajax-api/2.0/mlflow/runs/log-batch", json=body).status_code == 403
    assert "short way" not in oidc.log()
