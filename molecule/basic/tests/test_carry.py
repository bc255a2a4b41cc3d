"""What comes along from one plugin's tables to the other's, with everything that may stand there."""

import json
import pathlib

import pytest

SCRIPT = pathlib.Path(__file__).parent / "in_pod" / "carry.py"
DATABASE = "carry_test"


@pytest.fixture(scope="module")
def said(stack):
    stack.sql("postgres", f"DROP DATABASE IF EXISTS {DATABASE}")
    stack.sql("postgres", f"CREATE DATABASE {DATABASE} OWNER mlflow")
    yield json.loads(stack.execute("mlflow", "python", "-", DATABASE, text=SCRIPT.read_text()).splitlines()[-1])
    stack.sql("postgres", f"DROP DATABASE {DATABASE} WITH (FORCE)")


def test_whoever_is_active_and_what_they_may(said):
    assert said["to basic"]["carried"] == {
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
        "left": 1,
    }


def test_it_is_the_same_there_and_back(said):
    without_left = [
        {**said[step][which], "left": 0} for step in ("to basic", "and back") for which in ("carried", "found")
    ]
    assert without_left == [without_left[0]] * 4


def test_who_left_and_what_was_taken_back_is_gone_there_too(said):
    state = said["changed"]["found"]
    assert state["users"] == {"ada": True, "dora": False, "job": False}
    assert state["groups"] == ["editors", "testers"]
    assert state["members"] == [["dora", "testers"]]
    assert state["grants"] == [
        ["group", "editors", "experiment", "1", "EDIT"],
        ["group", "editors", "mcp_server", "tools", "READ"],
        ["group", "testers", "registered_model", "churn", "DENY"],
        ["user", "job", "gateway_endpoint", "e-1", "USE"],
    ]
    assert said["tokens"] == [[0]]


def test_what_the_other_side_cannot_say_is_left_alone(said):
    assert said["accounts"] == [
        ["ada", True, True],
        ["dora", True, False],
        ["eve", False, False],
        ["job", True, False],
        ["playbooks", True, True],
    ]
    assert said["deactivated"] == [["EDIT"]]
    assert said["elsewhere"] == [["churn"]]
    # Two names that differ in the size of letters, and a permission for all runs.
    assert said["changed"]["carried"]["left"] == 3
    assert [name for name, _ in said["passwords"]] == ["Carl", "Dora", "ada", "carl", "job"]


def test_patterns_go_with_their_group_only(said):
    """The group of the patterns was removed in the meantime."""
    assert said["patterns"] == []


def test_nobody_gets_a_password_by_it(said):
    assert dict(said["passwords"]) == {"Carl": "hash", "carl": "hash", "Dora": "hash", "ada": "!", "job": "!"}


def test_the_account_of_the_playbooks_is_nobody_elses(said):
    """Made, left alone and given another password; a person of that name keeps their account."""
    assert said["ensured"] == ["taken", True, False, True]
