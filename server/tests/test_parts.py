"""A start ends with one sentence where a required part does not fit, or where versions were not tested."""

import importlib.metadata
import json
import logging
import pathlib
import re

import pytest

import conftest
from lib import process
from mlops_mlflow_server import parts

REQUIREMENTS = pathlib.Path(__file__).parents[1] / "requirements.txt"

ROUTER = "mlflow_oidc_auth.routers.auth"
MIDDLEWARE = "mlflow_oidc_auth.middleware.auth_middleware"
HANDLERS = "mlflow.server.handlers"
SECURITY = "mlflow.server.fastapi_security"
FASTAPI = "mlflow.server.fastapi_app"
AUTH = "mlflow.server.auth"
STORE = "mlflow.store.tracking.sqlalchemy_store"
HELPERS = "mlflow_oidc_auth.utils.request_helpers_fastapi"
AFTER_REQUEST = "mlflow_oidc_auth.hooks.after_request"
GRAPHQL = "mlflow_oidc_auth.graphql.middleware"
USERS = "mlflow.server.auth.sqlalchemy_store"
# Of MLflow, in each login mode.
OF_MLFLOW = {
    "bodies": [(FASTAPI, "_EfficientWSGIResponder")],
    "artifacts": [
        (HANDLERS, "_disable_unless_serve_artifacts"),
        (HANDLERS, "_download_artifact"),
        (HANDLERS, "_get_artifact_repo_mlflow_artifacts"),
        (HANDLERS, "_get_workspace_scoped_repo_path_if_enabled"),
        (HANDLERS, "_response_with_file_attachment_headers"),
        (HANDLERS, "_send_artifact"),
    ],
    "compressed traces": [("mlflow.server.otel_api", "decompress_otlp_body")],
    "assistant": [("mlflow.server.assistant.api", "assistant_router")],
    "hosts": [(SECURITY, "get_allowed_hosts")],
    "traces": [
        (HANDLERS, "_HANDLER_BLOCKED_TRACE_TAGS"),
        (STORE, "_validate_trace_tag"),
        (STORE, "SqlAlchemyStore.log_spans"),
        (STORE, "SqlAlchemyStore.start_trace"),
        (STORE, "SqlAlchemyStore.deprecated_start_trace_v2"),
        (STORE, "SqlAlchemyStore.deprecated_end_trace_v2"),
    ],
    "experiments": [(HANDLERS, "_validate_storage_location_uri")],
}
OTHER_CHECK = (
    f"import {SECURITY} as module; module.HostValidationMiddleware = "
    "type('Other', (module.HostValidationMiddleware,), {})"
)
# What each required part needs of upstream: the names that are taken away, or a statement that does so.
HOOKS = {
    "none": {
        **OF_MLFLOW,
        "traces": [*OF_MLFLOW["traces"], ("starlette.applications", "Starlette.add_middleware")],
        "lanes": [
            "login.app.router.routes[:] = [each for each in login.app.router.routes if not hasattr(each, 'app')]"
        ],
    },
    "oidc": {
        **OF_MLFLOW,
        "hosts": [OTHER_CHECK],
        "bodies": [*OF_MLFLOW["bodies"], ("mlflow_oidc_auth.middleware.auth_aware_wsgi_middleware", "WSGIMiddleware")],
        "lanes": [
            "login.app.router.routes[:] = [each for each in login.app.router.routes if not hasattr(each, 'app')]"
        ],
        "groups": [(ROUTER, "_refresh_holding_turn"), (ROUTER, "_session_tokens_from_response")],
        "claims": [
            ("mlflow_oidc_auth.group_patterns", "normalize_group_values"),
            (ROUTER, "normalize_group_values"),
            (MIDDLEWARE, "normalize_group_values"),
            ("mlflow_oidc_auth.utils.oidc_field_extraction", "extract_field_from_payload"),
        ],
        "logout": [
            (ROUTER, "_revoke_refresh_token_at_idp"),
            (ROUTER, "_provider_metadata"),
            (ROUTER, "_client_for_refresh"),
            (ROUTER, "_build_ui_url"),
        ],
        "MCP servers": [
            ("mlflow_oidc_auth.middleware.mcp_server_registry", "_may_read"),
            ("mlflow_oidc_auth.utils.permissions", "can_read_mcp_server"),
        ],
        "bearer tokens": [
            (MIDDLEWARE, "AuthMiddleware._authenticate_bearer_token"),
            (MIDDLEWARE, "AuthMiddleware._maybe_provision_bearer_user"),
            (MIDDLEWARE, "AuthMiddleware._provider_for"),
            (MIDDLEWARE, "AuthMiddleware._get_user_auth_facts"),
            (MIDDLEWARE, "_WORKLOAD_BEARER"),
            (MIDDLEWARE, "_BEARER_IDENTITY"),
        ],
        "keys": [
            ("mlflow_oidc_auth.auth", "_get_provider_jwks"),
            ("mlflow_oidc_auth.auth", "resolve_token_provider"),
            (MIDDLEWARE, "validate_token"),
        ],
        "token kinds": [(HELPERS, "validate_token")],
        "administrators": [
            (MIDDLEWARE, "AuthMiddleware._authenticate_user"),
            (MIDDLEWARE, "AuthMiddleware._is_session_expired"),
            (ROUTER, "refresh_session_with_idp"),
            (HELPERS, "store"),
            ("mlflow_oidc_auth.sqlalchemy_store", "SqlAlchemyStore.list_live_auth_sessions_for_provider"),
        ],
        "names": [],  # its only name is one of "claims" too, which comes first
        "searches": [
            (AFTER_REQUEST, "_top_up_page"),
            (AFTER_REQUEST, "_get_tracking_store"),
            (AFTER_REQUEST, "_get_model_registry_store"),
            ("mlflow.utils.search_utils", "SearchUtils.create_page_token"),
            ("mlflow.utils.search_utils", "SearchUtils.parse_start_offset_from_page_token"),
            ("mlflow.utils.search_utils", "SearchLoggedModelsPaginationToken.encode"),
            ("mlflow.utils.search_utils", "SearchLoggedModelsPaginationToken.decode"),
            (GRAPHQL, "GraphQLAuthorizationMiddleware._check_authorization"),
            (GRAPHQL, "GraphQLAuthorizationMiddleware.resolve"),
            (GRAPHQL, "_can_read_model"),
            (GRAPHQL, "_can_read_run"),
        ],
        "logins": [
            (ROUTER, "_sanitize_next"),
            (ROUTER, "_begin_login"),
            (ROUTER, "_process_oidc_callback_fastapi"),
        ],
    },
    "basic": {
        **OF_MLFLOW,
        "hosts": [OTHER_CHECK],
        "lanes": [
            f"import {FASTAPI} as module; module._EfficientWSGIMiddleware = "
            "type('Other', (), {'__init__': lambda self, app: None})"
        ],
        "public routes": [
            (AUTH, "_PUBLIC_ROUTE_SUFFIXES"),
            (AUTH, "_get_require_authentication_validator"),
            (AUTH, "_matches_route_suffix"),
            (AUTH, "_strip_static_prefix"),
        ],
        "passwords": [
            (USERS, "check_password_hash"),
            (USERS, "SqlAlchemyStore.authenticate_user"),
            (USERS, "SqlAlchemyStore._get_user"),
        ],
        "callers": [
            (AUTH, "_authenticate_fastapi_request"),
            (AUTH, "_authenticate_custom_for_fastapi"),
            (AUTH, "_authenticate_cached"),
            (AUTH, "_get_otel_validator"),
            (AUTH, "_get_job_route_validator"),
            (AUTH, "authenticate_request"),
        ],
    },
}
# Of the application itself, in each login mode; tried with one.
OF_THE_APPLICATION = {
    "connections": [
        ("uvicorn.protocols.http.auto", "AutoHTTPProtocol.on_response_complete"),
        ("uvicorn.protocols.http.auto", "AutoHTTPProtocol.timeout_keep_alive_handler"),
    ],
}

# Imports upstream once, and starts the server in a fork for each hook, without it.
STARTS = """
import importlib, json, os, signal, sys, tempfile
from mlops_mlflow_server import basic_settings, serve

way, hooks = sys.argv[1], json.loads(sys.argv[2])
arguments = ["--artifacts-destination", "/nowhere", "--port", "0"]
os.environ.update(serve.environment(serve.options(arguments)))
if way == "basic":
    os.environ.update(basic_settings.write(os.environ))
importlib.import_module("mlflow.server.handlers")
login = importlib.import_module(f"mlops_mlflow_server.login_{way}")
every = [*login.PARTS, *(login.application_parts(None, login._Identifying(None)) if way == "basic" else [])]
outcomes = []
for hook in hooks:
    with tempfile.TemporaryFile("w+") as output:
        child = os.fork()
        if not child:
            signal.alarm(60)  # one that starts
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
            if isinstance(hook, str):
                exec(hook)
            else:
                owner = importlib.import_module(hook[0])
                *path, last = hook[1].split(".")
                for each in path:
                    owner = getattr(owner, each)
                delattr(owner, last)
            try:
                code = serve.main(arguments)
            except SystemExit as end:
                code = end.code
            except BaseException as error:
                print(f"{type(error).__name__}: {error}", file=sys.stderr)
                code = 99
            sys.stderr.flush()
            os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        output.seek(0)
        outcomes.append([code, output.read()])
print(json.dumps({"required": sorted(part.name for part in every if part.required), "outcomes": outcomes}))
"""

# Takes a hook away when the login mode is imported, in each process of a server.
TAKEN_AWAY = """
import importlib.abc, sys

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "mlops_mlflow_server.login_oidc":
            import mlflow_oidc_auth.routers.auth
            del mlflow_oidc_auth.routers.auth._refresh_holding_turn

sys.meta_path.insert(0, Finder())
"""


def test_tested_versions_are_the_required_ones():
    pins = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", REQUIREMENTS.read_text(), re.MULTILINE))
    assert {name: pins[name] for name in parts.TESTED} == parts.TESTED


def _names(output, part):
    """Return whether the last line is the sentence of this part."""
    last = output.strip().splitlines()[-1]
    return last.startswith(f"The part '{part}' does not fit ") and ": without it, " in last


@pytest.mark.parametrize("way", HOOKS)
def test_a_missing_hook_of_a_required_part_ends_the_start(way, migrated, tmp_path):
    every = HOOKS[way] | (OF_THE_APPLICATION if way == "none" else {})
    hooks = [(part, hook) for part, hooks in every.items() for hook in hooks]
    variables = {
        **conftest.oidc_variables("http://127.0.0.1:9"),
        **migrated("basic" if way == "basic" else "oidc").variables,
        "MLOPS_AUTH": way,
        "MLOPS_DRAIN_FILE": str(tmp_path / "draining"),
        "MLOPS_BASIC_AUTH_FILE": str(tmp_path / "basic_auth.ini"),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "a key of the tests",
        "MLOPS_UNTESTED_VERSIONS": "true",
    }
    found = process.result(STARTS, way, json.dumps([hook for _part, hook in hooks]), timeout=600, **variables)
    assert found["required"] == sorted(HOOKS[way]), "each required part has its hooks here"
    others = {
        str(hook): (code, output[-1000:])
        for (part, hook), (code, output) in zip(hooks, found["outcomes"], strict=True)
        if code != 1 or "Traceback" in output or not _names(output, part)
    }
    assert others == {}


@pytest.mark.parametrize("workers", [1, 2])
def test_all_workers_end(workers, migrated, tmp_path):
    """uvicorn would start another worker for each that ends, for ever."""
    (tmp_path / "sitecustomize.py").write_text(TAKEN_AWAY)
    variables = {**conftest.oidc_variables("http://127.0.0.1:9"), **migrated("oidc").variables}
    done = process.module(
        "serve",
        *("--artifacts-destination", "/nowhere", "--port", "0", "--workers", str(workers)),
        MLOPS_DRAIN_FILE=str(tmp_path / "draining"),
        MLOPS_UNTESTED_VERSIONS="true",
        **_with_path(tmp_path),
        **variables,
    )
    sentence = "lost groups would take effect only at the next login"
    assert done.returncode == 1
    assert 1 <= sum(line.endswith(sentence) for line in done.stderr.splitlines()) <= workers
    assert "Traceback" not in done.stderr


def _with_path(folder):
    return {"PYTHONPATH": ":".join([str(folder), process.os.environ.get("PYTHONPATH", "")])}


def test_import_that_upstream_lacks_is_one_sentence():
    done = process.run(
        "from mlops_mlflow_server import parts\n"
        "with parts.readable():\n"
        "    from mlflow.server.handlers import _renamed_by_upstream\n"
    )
    version = importlib.metadata.version("mlflow")
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert f"mlflow {version}" in done.stderr
    assert "_renamed_by_upstream" in done.stderr


def test_mistake_in_code_keeps_its_traceback():
    done = process.run("from mlops_mlflow_server import parts\nwith parts.readable():\n    None.missing\n")
    assert "Traceback" in done.stderr


def test_untested_versions_end_the_start(monkeypatch):
    monkeypatch.setitem(parts.TESTED, "mlflow", "1.2.3")
    installed = importlib.metadata.version("mlflow")
    with pytest.raises(parts.MisfitError, match=f"tested with mlflow 1.2.3 .* installed mlflow {installed}.*: install"):
        parts.check_versions({})
    with pytest.raises(parts.MisfitError):
        parts.check_versions({parts.VARIABLE: "False"})
    assert installed in parts.check_versions({parts.VARIABLE: "true"})
    with pytest.raises(ValueError, match="MLOPS_UNTESTED_VERSIONS is 'yes'"):
        parts.check_versions({parts.VARIABLE: "yes"})


OTHER_VERSION = """
import importlib.metadata
known = importlib.metadata.version
importlib.metadata.version = lambda name: "99.0" if name == "mlflow" else known(name)
"""


@pytest.mark.parametrize(
    ("name", "arguments"), [("serve", ["--artifacts-destination", "/nowhere", "--port", "0"]), ("migrate", [])]
)
def test_server_and_migration_refuse_untested_versions(name, arguments, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(OTHER_VERSION)
    variables = {"MLFLOW_BACKEND_STORE_URI": "sqlite://", "MLOPS_AUTH": "none", "MLOPS_UNTESTED_VERSIONS": "false"}
    done = process.module(name, *arguments, **variables, **_with_path(tmp_path))
    assert done.returncode == 1
    assert "not with the installed mlflow 99.0" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def part(fits, required):
    return parts.Part("a part", "mlflow", fits, "it would be public", required=required)


def missing():
    raise AttributeError("no _such name")


@pytest.mark.parametrize("fits", [lambda: False, lambda: 0, missing])
def test_required_part_must_fit(fits):
    with pytest.raises(parts.MisfitError, match=r"The part 'a part' does not fit mlflow .* it would be public"):
        parts.start([part(lambda: True, True), part(fits, True)])


@pytest.mark.parametrize("fits", [lambda: False, missing])
def test_part_of_comfort_is_reported(fits, caplog):
    with caplog.at_level(logging.WARNING):
        parts.start([part(fits, False), part(lambda: True, False)])
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "it would be public" in caplog.text


@pytest.mark.parametrize("way", ["oidc", "basic", "none"])
def test_every_part_fits_the_tested_versions(way, request):
    assert "does not fit" not in request.getfixturevalue(way).log()
