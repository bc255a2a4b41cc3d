"""What the server does if a version of mlflow-oidc-auth lacks what a part of the package replaces."""

import importlib
import logging
import sys
import types

import pytest

PARTS = ("auth", "bearer", "client_auth", "edge", "grants", "groups", "issue", "keys", "lanes", "logout")
PROTECTING = ("edge", "groups", "logout")


@pytest.fixture
def without(load, monkeypatch):
    """A function that loads the login mode with this part not installed."""

    def loaded(missing):
        load("settings")
        for name, attributes in {
            "mlflow_oidc_auth.app": {"app": object()},
            "mlflow_oidc_auth.middleware.auth_aware_wsgi_middleware": {"AuthAwareWSGIMiddleware": object},
            "mlflow_oidc_auth.oauth": {"is_oidc_configured": None},
            **{f"mlops_mlflow_server.{part}": {"install": lambda *_a, part=part: part != missing} for part in PARTS},
        }.items():
            module = types.ModuleType(name)
            vars(module).update(attributes)
            monkeypatch.setitem(sys.modules, name, module)
        return importlib.import_module("mlops_mlflow_server.login_oidc")

    return loaded


def test_all_parts_are_installed(without, caplog):
    assert without(None).application()
    assert caplog.messages == []


@pytest.mark.parametrize("part", PROTECTING)
def test_the_server_does_not_start_without_a_part_that_protects(without, part):
    with pytest.raises(RuntimeError, match=r"This version of mlflow-oidc-auth .* differently: .* would "):
        without(part).application()


@pytest.mark.parametrize("part", sorted({*PARTS} - {*PROTECTING, "grants"}))
def test_a_part_that_does_not_protect_is_reported(without, caplog, part):
    with caplog.at_level(logging.WARNING):
        assert without(part).application()
    assert len(caplog.messages) == 1
