"""What is copied between the tables of the two plugins."""

import json
import pathlib

import pytest

SCRIPT = pathlib.Path(__file__).parent / "in_pod" / "carry.py"
DATABASE = "carry_test"


@pytest.fixture(scope="module")
def results(stack):
    stack.sql("postgres", f"DROP DATABASE IF EXISTS {DATABASE}")
    stack.sql("postgres", f"CREATE DATABASE {DATABASE} OWNER mlflow")
    yield json.loads(stack.execute("mlflow", "python", "-", DATABASE, text=SCRIPT.read_text()).splitlines()[-1])
    stack.sql("postgres", f"DROP DATABASE {DATABASE} WITH (FORCE)")


def test_active_users_and_their_permissions_are_copied(results):
    assert results["to basic"]["carried"] == {
        "users": {"ada": True, "bob": False, "job": False},
        "groups": ["editors", "readers"],
        "members": [["bob", "editors"], ["bob", "readers"]],
        "grants": [
            ["group", "editors", "experiment", "1", "EDIT"],
            ["group", "editors", "mcp_server", "tools", "READ"],
            ["group", "readers", "experiment", "*", "READ"],
            ["group", "readers", "prompt", "greeting", "READ"],
            ["user", "bob", "experiment", "1", "READ"],
            ["user", "bob", "experiment", "2", "DENY"],
            ["user", "bob", "prompt", "greeting", "EDIT"],
            ["user", "bob", "registered_model", "churn", "MANAGE"],
            ["user", "bob", "scorer", "1/a%2Fb%20%C3%BC%25", "USE"],
            ["user", "job", "gateway_endpoint", "e-1", "USE"],
        ],
        "skipped": 1,
    }


def test_round_trip_preserves_the_state(results):
    without_left = [
        {**results[step][which], "skipped": 0} for step in ("to basic", "and back") for which in ("carried", "found")
    ]
    assert without_left == [without_left[0]] * 4


def test_removed_users_and_revoked_permissions_are_removed(results):
    state = results["changed"]["found"]
    assert state["users"] == {"ada": True, "dora": False, "job": False}
    assert state["groups"] == ["editors", "testers"]
    assert state["members"] == [["dora", "testers"]]
    assert state["grants"] == [
        ["group", "editors", "experiment", "1", "EDIT"],
        ["group", "editors", "mcp_server", "tools", "READ"],
        ["group", "testers", "registered_model", "churn", "DENY"],
        ["user", "job", "gateway_endpoint", "e-1", "USE"],
    ]
    assert results["tokens"] == [[0]]


def test_permissions_without_an_equivalent_are_kept(results):
    assert results["accounts"] == [
        ["ada", True, True],
        ["dora", True, False],
        ["eve", False, False],
        ["job", True, False],
        ["playbooks", True, True],
    ]
    assert results["deactivated"] == [["EDIT"]]
    assert results["elsewhere"] == [["churn"]]
    # Two names that differ only in case, and a permission for all runs.
    assert results["changed"]["carried"]["skipped"] == 3
    assert [name for name, _unused in results["passwords"]] == ["Carl", "Dora", "ada", "carl", "job"]


def test_patterns_are_removed_only_with_their_group(results):
    """The group with the patterns was removed in the meantime."""
    assert results["patterns"] == []


def test_copied_users_have_no_password(results):
    assert dict(results["passwords"]) == {"Carl": "hash", "carl": "hash", "Dora": "hash", "ada": "!", "job": "!"}


def test_playbooks_account_does_not_take_over_a_user(results):
    """It is created, left unchanged, and given another password; a user of that name keeps their account."""
    assert results["ensured"] == ["taken", True, False, True]
