"""Make the server package importable without its dependencies, which are in the image only.

Installed packages are used; missing ones are replaced by stand-ins with the names that the package uses.
"""

import importlib
import pathlib
import sys
import types

import pytest

PACKAGE = pathlib.Path(__file__).parents[4] / "roles/images/files/mlflow/plugin/src"
METHOD = "client_secret_basic"  # authlib's default
CODES = ("INTERNAL_ERROR", "PERMISSION_DENIED", "RESOURCE_DOES_NOT_EXIST", "TEMPORARILY_UNAVAILABLE", "UNAUTHENTICATED")


class _Setting:
    def __init__(self, value):
        self._value = value

    def get(self):
        return self._value


class _MlflowException(Exception):
    def __init__(self, message, error_code="INTERNAL_ERROR"):
        super().__init__(message)
        self.error_code = error_code


class _ClientError(Exception):
    def __init__(self, response, operation):
        super().__init__(operation)
        self.response = response


class _Context:
    async def __aenter__(self):
        return self

    async def __aexit__(self, *_unused):
        return None


def _error(name, base=Exception):
    return type(
        name, (base,), {"__init__": lambda self, *args, **kwargs: Exception.__init__(self, *args, *kwargs.values())}
    )


def _stand_ins():
    botocore_error = _error("BotoCoreError")
    repository = type(
        "ArtifactRepository", (), {"__init__": lambda self, uri, *_unused: setattr(self, "artifact_uri", uri)}
    )
    return {
        "authlib": {},
        "authlib.oauth2": {},
        "authlib.oauth2.auth": {"ClientAuth": type("ClientAuth", (), {"DEFAULT_AUTH_METHODS": {METHOD: None}})},
        "boto3": {},
        "boto3.exceptions": {"Boto3Error": _error("Boto3Error")},
        "botocore": {"UNSIGNED": object()},
        "botocore.client": {"Config": dict},
        "botocore.exceptions": {
            "BotoCoreError": botocore_error,
            "ClientError": _ClientError,
            "ConnectTimeoutError": _error("ConnectTimeoutError", botocore_error),
            "EndpointConnectionError": _error("EndpointConnectionError", botocore_error),
            "HTTPClientError": _error("HTTPClientError", botocore_error),
        },
        "mlflow": {},
        "mlflow.environment_variables": {
            "MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE": _Setting("auto"),
            "MLFLOW_S3_ENDPOINT_URL": _Setting("http://127.0.0.1:9"),
            "MLFLOW_S3_IGNORE_TLS": _Setting(False),
        },
        "mlflow.exceptions": {"MlflowException": _MlflowException},
        "mlflow.protos": {},
        "mlflow.protos.databricks_pb2": {code: code for code in CODES},
        "mlflow.store": {},
        "mlflow.store.artifact": {},
        "mlflow.store.artifact.artifact_repo": {"ArtifactRepository": repository},
        "mlflow.store.artifact.s3_artifact_repo": {"S3ArtifactRepository": repository},
        "mlflow_oidc_auth": {},
        "mlflow_oidc_auth.config": {
            "config": types.SimpleNamespace(OIDC_USERS_DB_URI="sqlite://", PERMISSION_CACHE_TTL_SECONDS=60)
        },
        "mlflow_oidc_auth.middleware": {"AuthMiddleware": object},
        "mlflow_oidc_auth.middleware.mcp_server_registry": {"_may_read": lambda *_unused: True},
        "mlflow_oidc_auth.utils": {},
        "mlflow_oidc_auth.utils.permissions": {"can_read_mcp_server": lambda *_unused: False},
        "asgiref": {},
        "asgiref.sync": {"ThreadSensitiveContext": _Context},
        "starlette": {},
        "starlette.routing": {"Mount": type("Mount", (), {})},
        "sqlalchemy": {"text": str, "create_engine": None},
        "sqlalchemy.event": {"listen": lambda *_unused: None},
        "sqlalchemy.engine": {"Engine": object},
        "werkzeug": {},
        "werkzeug.security": {"check_password_hash": lambda stored, password: stored == f"hash of {password}"},
    }


@pytest.fixture
def load(monkeypatch):
    """A function that imports a module of the package by its last name."""
    monkeypatch.syspath_prepend(str(PACKAGE))
    missing = set()
    for name, attributes in _stand_ins().items():
        top = name.split(".")[0]
        if top not in missing:
            try:
                importlib.import_module(top)
                continue
            except ImportError:
                missing.add(top)
        module = types.ModuleType(name)
        vars(module).update(attributes)
        monkeypatch.setitem(sys.modules, name, module)
        if "." in name:
            parent, _unused, child = name.rpartition(".")
            monkeypatch.setattr(sys.modules[parent], child, module, raising=False)

    def load(name):
        for known in [each for each in sys.modules if each.startswith("mlops_mlflow_server")]:
            monkeypatch.delitem(sys.modules, known)
        return importlib.import_module(f"mlops_mlflow_server.{name}")

    return load
