"""Users, groups and permissions after a change of the login mode, on both plugins' own tables."""

import pytest

from mlops_mlflow_server import accounts, carry, databases, migrate

WITHOUT = "playbooks"

OIDC = """
INSERT INTO users (id, username, display_name, is_admin, is_service_account, active) VALUES
  (1, 'ada', 'Ada', true, false, true), (2, 'bob', 'Bob', false, false, true), (3, 'eve', 'Eve', false, false, false),
  (4, 'playbooks', 'playbooks', true, true, true), (5, 'job', 'job', false, true, true);
INSERT INTO groups (id, group_name) VALUES (1, 'readers'), (2, 'editors');
INSERT INTO user_groups (user_id, group_id) VALUES (2, 1), (2, 2), (3, 1), (4, 2);
INSERT INTO user_tokens (user_id, name, token_hash, created_at, expires_at) VALUES
  (2, 'default', 'x', now(), now() + interval '1 year');
INSERT INTO experiment_permissions (experiment_id, user_id, permission) VALUES
  ('1', 2, 'READ'), ('2', 2, 'NO_PERMISSIONS'), ('1', 3, 'EDIT'), ('9', 4, 'MANAGE');
INSERT INTO experiment_group_permissions (experiment_id, group_id, permission) VALUES ('1', 2, 'EDIT');
INSERT INTO experiment_group_regex_permissions (regex, priority, group_id, permission) VALUES
  ('.*', 5, 1, 'READ'), ('team-.*', 6, 1, 'EDIT');
INSERT INTO registered_model_permissions (name, user_id, permission, workspace) VALUES
  ('churn', 2, 'MANAGE', 'default'), ('greeting', 2, 'EDIT', NULL), ('churn', 5, 'READ', 'elsewhere');
INSERT INTO registered_model_group_permissions (name, group_id, permission, workspace, prompt) VALUES
  ('greeting', 1, 'READ', 'default', true);
INSERT INTO scorer_permissions (experiment_id, scorer_name, user_id, permission) VALUES ('1', 'a/b ü%', 2, 'USE');
INSERT INTO gateway_endpoint_permissions (endpoint_id, user_id, permission, workspace) VALUES
  ('chat', 5, 'USE', 'default'), ('gone', 5, 'USE', 'default');
INSERT INTO mcp_server_group_permissions (name, group_id, permission, workspace) VALUES ('tools', 2, 'READ', 'default');
SELECT setval(pg_get_serial_sequence('users', 'id'), 100), setval(pg_get_serial_sequence('groups', 'id'), 100);
"""
OBJECTS = """
CREATE TABLE endpoints (endpoint_id text, name text);
INSERT INTO endpoints VALUES ('e-1', 'chat');
CREATE TABLE registered_model_tags (name text, key text, value text);
INSERT INTO registered_model_tags VALUES ('greeting', 'mlflow.prompt.is_prompt', 'true'), ('churn', 'team', 'a');
"""
# bob is removed, a group is replaced by another, names differ only in case, and a grant is revoked.
BASIC = """
SET search_path = basic_auth;
DELETE FROM user_role_assignments WHERE user_id = (SELECT id FROM users WHERE username = 'bob');
DELETE FROM users WHERE username = 'bob';
INSERT INTO users (username, password_hash, is_admin) VALUES
  ('Dora', 'hash', false), ('Carl', 'hash', true), ('carl', 'hash', false);
DELETE FROM role_permissions WHERE role_id = (SELECT id FROM roles WHERE name = 'readers');
DELETE FROM user_role_assignments WHERE role_id = (SELECT id FROM roles WHERE name = 'readers');
DELETE FROM roles WHERE name = 'readers';
INSERT INTO roles (name, workspace) VALUES ('testers', 'default');
INSERT INTO role_permissions (role_id, resource_type, resource_pattern, permission)
  SELECT id, 'registered_model', 'churn', 'DENY' FROM roles WHERE name = 'testers';
INSERT INTO role_permissions (role_id, resource_type, resource_pattern, permission)
  SELECT id, 'run', '*', 'READ' FROM roles WHERE name = 'testers';
INSERT INTO user_role_assignments (user_id, role_id)
  SELECT u.id, r.id FROM users u, roles r WHERE u.username = 'Dora' AND r.name = 'testers';
SET search_path = DEFAULT;
"""


def shown(state):
    """Return a state as lists."""
    return {
        "users": state.users,
        "groups": sorted(state.groups),
        "members": sorted(map(list, state.members)),
        "grants": sorted([*key, value] for key, value in state.grants.items()),
        "skipped": state.skipped,
    }


def ensured(connection, name, password):
    """Return whether ensuring the playbooks' account changed anything, or "taken"."""
    try:
        return accounts.ensure_basic(connection, name, password)
    except accounts.TakenError:
        return "taken"


@pytest.fixture(scope="module")
def results(postgres):
    """What is in the tables after each change of the login mode."""
    results = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OIDC_USERS_DB_URI", postgres.uri(postgres.create()))
        engine = databases.engine_of("OIDC_USERS_DB_URI")
        migrate.migrate_oidc(engine)
        migrate.migrate_basic(engine)
    with engine.begin() as connection:

        def do(statements):
            connection.exec_driver_sql(statements.replace("%", "%%"))

        def go(source, target):
            state = carry.carry(source, target, connection, carry.Objects(connection), WITHOUT)
            found = carry.SIDES[target](connection, carry.Objects(connection), WITHOUT).read()
            return {"carried": shown(state), "found": shown(found)}

        do(OBJECTS)
        do(OIDC)
        results["to basic"] = go("oidc", "basic")
        results["and back"] = go("basic", "oidc")
        do(BASIC)
        results["changed"] = go("basic", "oidc")
        for name, question in {
            "accounts": "SELECT username, active, is_admin FROM users ORDER BY username",
            "tokens": "SELECT count(*) FROM user_tokens",
            "patterns": "SELECT regex FROM experiment_group_regex_permissions",
            "elsewhere": "SELECT name FROM registered_model_permissions WHERE workspace = 'elsewhere'",
            "deactivated": "SELECT p.permission FROM experiment_permissions p JOIN users u ON u.id = p.user_id"
            " WHERE u.username = 'eve'",
        }.items():
            results[name] = [list(row) for row in connection.exec_driver_sql(question)]
        results["once more"] = go("oidc", "basic")
        results["passwords"] = [
            list(row)
            for row in connection.exec_driver_sql(
                "SELECT username, password_hash FROM basic_auth.users ORDER BY username"
            )
        ]
        results["ensured"] = [
            ensured(connection, *account)
            for account in (("Dora", "hers"), (WITHOUT, "first"), (WITHOUT, "first"), (WITHOUT, "second"))
        ]
    engine.dispose()
    return results


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
