"""Settings of the server's package."""

import pytest

import conftest
from mlops_mlflow_server import settings


def test_settings_of_the_tests_are_made_once(idp):
    # A second import of conftest.py would start another provider and point the environment to it.
    assert conftest._provider is idp


def test_absent_or_empty_variable_uses_the_default(monkeypatch):
    monkeypatch.delenv("MLOPS_X", raising=False)
    assert settings.number("MLOPS_X", 3.5) == 3.5
    monkeypatch.setenv("MLOPS_X", " ")
    assert settings.count("MLOPS_X", 4) == 4


def test_value_overrides_the_default(monkeypatch):
    monkeypatch.setenv("MLOPS_X", "7")
    assert settings.number("MLOPS_X", 1) == 7
    assert settings.count("MLOPS_X", 1) == 7


@pytest.mark.parametrize("text", ["three", "0", "-1", "nan", "inf", "1e999"])
def test_invalid_number_is_refused_with_name_and_value(monkeypatch, text):
    monkeypatch.setenv("MLOPS_X", text)
    with pytest.raises(ValueError, match=f"MLOPS_X is '{text}'"):
        settings.number("MLOPS_X", 1)


def test_count_is_a_whole_number(monkeypatch):
    monkeypatch.setenv("MLOPS_X", "2.5")
    with pytest.raises(ValueError, match="whole number"):
        settings.count("MLOPS_X", 1)
