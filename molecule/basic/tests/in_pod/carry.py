"""Copy made-up users and permissions between the tables of both plugins, in a separate database.

Runs in a pod of the server, with the name of an empty database as argument; prints the state after each step.
"""

import json
import os
import sys

import sqlalchemy
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
    """Return a state as JSON-compatible data."""
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


def main():
    parts = sqlalchemy.make_url(os.environ["OIDC_USERS_DB_URI"]).set(database=sys.argv[1])
    os.environ["OIDC_USERS_DB_URI"] = parts.render_as_string(hide_password=False)
    engine = databases.engine_of("OIDC_USERS_DB_URI")
    migrate.migrate_oidc(engine)
    migrate.migrate_basic(engine)
    results = {}
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
    print(json.dumps(results))


main()
