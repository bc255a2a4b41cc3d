# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copy users, groups and permissions when the login mode changes.

mlflow-oidc-auth and MLflow's basic-auth each have tables of their own, in one database. The database records which mode
was last in use. On a change, the former mode's administrators, group members and permissions (for one object or for all
of a kind) are copied to the tables of the new mode. The copy replaces what the new mode had: what was revoked in one
mode does not return in the other.

Secrets are never copied. Under basic-auth nobody has a password until an administrator sets one, and access tokens of
mlflow-oidc-auth are kept for a switch back.

Permissions without an equivalent are skipped and kept: patterns other than `.*` (mlflow-oidc-auth), and permissions for
parts of an object, such as runs (basic-auth).
"""

import dataclasses
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, unquote

import sqlalchemy
from sqlalchemy import ColumnElement, Connection, MetaData, RowMapping, Table, and_, delete, insert, or_, select, update

from mlops_mlflow_server.basic_settings import SCHEMA

WORKSPACE = "default"
ALL = "*"
ALL_PATTERN = ".*"
# Not a valid hash, so no password matches it.
NO_PASSWORD = "!"  # noqa: S105  (no hash is equal to it)
# Prefix of the per-user roles of basic-auth.
OWN_ROLE = "__user_"

# Kinds of objects as named in mlflow-oidc-auth's tables, with the key columns of an object.
KINDS = {
    "experiment": ("experiment_id",),
    "registered_model": ("name",),
    "scorer": ("experiment_id", "scorer_name"),
    "gateway_endpoint": ("endpoint_id",),
    "gateway_model_definition": ("model_definition_id",),
    "gateway_secret": ("secret_id",),
    "mcp_server": ("name",),
}
# MLflow's tables with identifier and name of objects that basic-auth refers to by identifier, mlflow-oidc-auth by name.
_NAMED = {
    "gateway_endpoint": ("endpoints", "endpoint_id", "name"),
    "gateway_model_definition": ("model_definitions", "model_definition_id", "name"),
    "gateway_secret": ("secrets", "secret_id", "secret_name"),
}
# Permissions that override all others.
_REFUSALS = {"NO_PERMISSIONS": "DENY"}
_REFUSALS_BACK = {there: here for here, there in _REFUSALS.items()}


@dataclasses.dataclass
class State:
    """Users, groups and grants. A grant maps (user or group, its name, kind, object key or ALL) to a permission."""

    users: dict[str, bool] = dataclasses.field(default_factory=dict)
    groups: set[str] = dataclasses.field(default_factory=set)
    members: set[tuple[str, str]] = dataclasses.field(default_factory=set)
    grants: dict[tuple[str, str, str, str], str] = dataclasses.field(default_factory=dict)
    skipped: int = 0


class Objects:
    """Objects in MLflow's own database: which models are prompts, and the names of objects with identifiers."""

    def __init__(self, connection: Connection):
        self.prompts = set()
        self._names = {}
        inspector = sqlalchemy.inspect(connection)
        if inspector.has_table("registered_model_tags"):
            tags = _table(connection, "registered_model_tags").c
            self.prompts = set(
                connection.scalars(select(tags.name).where(tags.key == "mlflow.prompt.is_prompt", tags.value == "true"))
            )
        for kind, (table, identifier, name) in _NAMED.items():
            rows = []
            if inspector.has_table(table):
                columns = _table(connection, table).c
                rows = connection.execute(select(columns[identifier], columns[name])).all()
            self._names[kind] = dict(map(tuple, rows))

    def name(self, kind: str, key: str) -> str | None:
        """Return the name of the object with basic-auth's key `key`, or None if it no longer exists."""
        return key if key == ALL or kind not in self._names else self._names[kind].get(key)

    def identifier(self, kind: str, key: str) -> str | None:
        """Return basic-auth's key of the object named `key` in mlflow-oidc-auth, or None if it no longer exists."""
        if key == ALL or kind not in self._names:
            return key
        return next((identifier for identifier, name in self._names[kind].items() if name == key), None)


def _table(connection: Connection, name: str, schema: str | None = None) -> Table:
    return Table(name, MetaData(), schema=schema, autoload_with=connection)


def scorer_key(experiment: str, scorer: str) -> str:
    """Return basic-auth's key of a scorer."""
    return f"{experiment}/{quote(scorer, safe='')}"


class Oidc:
    """The tables of mlflow-oidc-auth."""

    def __init__(self, connection: Connection, objects: Objects, without: str):
        self._connection = connection
        self._objects = objects
        self._without = without
        self._present = set(sqlalchemy.inspect(connection).get_table_names())
        self._users = _table(connection, "users")
        self._groups = _table(connection, "groups")
        self._members = _table(connection, "user_groups")

    def _holders(self) -> dict[str, dict[int, str]]:
        users, groups = self._users.c, self._groups.c
        return {
            "user": dict(
                map(
                    tuple,
                    self._connection.execute(select(users.id, users.username).where(users.username != self._without)),
                )
            ),
            "group": dict(map(tuple, self._connection.execute(select(groups.id, groups.group_name)))),
        }

    def _tables(self) -> Iterator[tuple[str, str, Table, tuple[str, ...], bool]]:
        """Yield kind, holder (user or group), table, key columns, and whether the table holds patterns."""
        for kind, columns in KINDS.items():
            for holder, middle in (("user", ""), ("group", "group_")):
                name = f"{kind}_{middle}permissions"
                if name in self._present:
                    yield kind, holder, _table(self._connection, name), columns, False
                name = f"{kind}_{middle}regex_permissions"
                if name in self._present:
                    yield kind, holder, _table(self._connection, name), ("regex",), True

    @staticmethod
    def _here(table: Table, every: bool = False) -> ColumnElement[bool]:
        if "workspace" not in table.c:
            return sqlalchemy.true()
        known = [WORKSPACE, ALL] if every else [WORKSPACE]
        return or_(table.c.workspace.is_(None), table.c.workspace.in_(known))

    def read(self) -> State:
        """Return the current state, without deactivated users."""
        users = self._users.c
        state = State(
            users=dict(
                map(
                    tuple,
                    self._connection.execute(
                        select(users.username, users.is_admin).where(users.active, users.username != self._without)
                    ),
                )
            )
        )
        names = self._holders()
        state.groups = set(names["group"].values())
        members = self._members.c
        for user, group in self._connection.execute(select(members.user_id, members.group_id)):
            if names["user"].get(user) in state.users:
                state.members.add((names["user"][user], names["group"][group]))
        for kind, holder, table, columns, is_pattern in self._tables():
            for row in self._connection.execute(select(table).where(self._here(table, is_pattern))).mappings():
                name = names[holder].get(row[f"{holder}_id"])
                if name is None or (holder == "user" and name not in state.users):
                    continue
                if is_pattern and row["regex"] != ALL_PATTERN:
                    state.skipped += 1
                    continue
                key = ALL if is_pattern else self._key(kind, row, columns)
                if key is not None:
                    actual = self._actual(kind, key, row)
                    state.grants[holder, name, actual, key] = _REFUSALS.get(row["permission"], row["permission"])
        return state

    def _key(self, kind: str, row: RowMapping, columns: tuple[str, ...]) -> str | None:
        if kind == "scorer":
            return scorer_key(row["experiment_id"], row["scorer_name"])
        return self._objects.identifier(kind, row[columns[0]])

    def _actual(self, kind: str, key: str, row: RowMapping) -> str:
        if kind != "registered_model":
            return kind
        is_prompt = row.get("prompt") if key == ALL else key in self._objects.prompts
        return "prompt" if is_prompt else kind

    def write(self, state: State) -> None:
        """Write `state` to these tables; user names are in lower case here."""
        users, groups, members = self._users, self._groups, self._members
        wanted = {name.lower(): is_admin for name, is_admin in state.users.items()}
        known = {
            row.username: row
            for row in self._connection.execute(select(users.c.username, users.c.active, users.c.is_admin))
        }
        gone = [name for name, row in known.items() if row.active and name not in wanted and name != self._without]
        _remove(self._connection, users, users.c.username.in_(gone))
        for name, is_admin in wanted.items():
            if name in known:
                self._connection.execute(update(users).where(users.c.username == name).values(is_admin=is_admin))
            else:
                self._connection.execute(
                    insert(users).values(
                        username=name, display_name=name, is_admin=is_admin, is_service_account=False, active=True
                    )
                )
        _remove(self._connection, groups, groups.c.group_name.not_in(state.groups))
        present = set(self._connection.scalars(select(groups.c.group_name)))
        for name in state.groups - present:
            self._connection.execute(insert(groups).values(group_name=name))
        ids = {holder: {name: number for number, name in each.items()} for holder, each in self._holders().items()}
        # Memberships of deactivated users and of the playbooks' account are not copied.
        carried = [ids["user"][name] for name in wanted]
        wanted_members = {(ids["user"][user.lower()], ids["group"][group]) for user, group in state.members}
        rows = self._connection.execute(
            select(members.c.id, members.c.user_id, members.c.group_id).where(members.c.user_id.in_(carried))
        ).all()
        stale = [row.id for row in rows if (row.user_id, row.group_id) not in wanted_members]
        self._connection.execute(delete(members).where(members.c.id.in_(stale)))
        for user, group in wanted_members - {(row.user_id, row.group_id) for row in rows}:
            self._connection.execute(insert(members).values(user_id=user, group_id=group))
        self._write_grants(state, ids, carried)

    def _write_grants(self, state: State, ids: dict[str, dict[str, int]], carried: list[int]) -> None:
        wanted = {}
        for (holder, name, kind, key), permission in state.grants.items():
            there = self._objects.name(kind, key)
            if there is not None:
                number = ids[holder][name.lower() if holder == "user" else name]
                wanted[holder, number, kind, there] = _REFUSALS_BACK.get(permission, permission)
        for kind, holder, table, columns, is_pattern in self._tables():
            column = table.c[f"{holder}_id"]
            condition = [self._here(table, is_pattern)]
            if is_pattern:
                condition.append(table.c.regex == ALL_PATTERN)
            if holder == "user":
                condition.append(column.in_(carried))
            self._connection.execute(delete(table).where(and_(*condition)))
            for (which, number, actual, key), permission in wanted.items():
                stored_as = "registered_model" if actual == "prompt" else actual
                if (which, stored_as, key == ALL) == (holder, kind, is_pattern):
                    row = self._row(kind, actual, key, columns) | {f"{holder}_id": number, "permission": permission}
                    known = {name: value for name, value in row.items() if name in table.c}
                    self._connection.execute(insert(table).values(**known))

    @staticmethod
    def _row(kind: str, actual: str, key: str, columns: tuple[str, ...]) -> dict[str, Any]:
        """Return the key columns of an object, or of all objects of a kind; not every table has all of them."""
        row = {"prompt": actual == "prompt", "workspace": ALL if key == ALL else WORKSPACE}
        if key == ALL:
            return row | {"regex": ALL_PATTERN, "priority": 100}
        if kind == "scorer":
            experiment, _unused, scorer = key.partition("/")
            return row | {"experiment_id": experiment, "scorer_name": unquote(scorer)}
        return row | {columns[0]: key}


class Basic:
    """The tables of MLflow's basic-auth. A group is a role there."""

    def __init__(self, connection: Connection, objects: Objects, without: str):
        self._connection = connection
        self._without = without
        self._kinds = {*KINDS, "prompt"}
        self._users, self._roles, self._grants, self._members = (
            _table(connection, name, SCHEMA) for name in ("users", "roles", "role_permissions", "user_role_assignments")
        )
        self._legacy = [
            _table(connection, name, SCHEMA)
            for name in sqlalchemy.inspect(connection).get_table_names(schema=SCHEMA)
            if name.endswith("_permissions") and name != "role_permissions"
        ]

    def _own_roles(self) -> tuple[dict[int, str], dict[int, str], dict[int, str]]:
        """Return the users' own roles, all other roles, and the user names, each by ID."""
        names = dict(map(tuple, self._connection.execute(select(self._users.c.id, self._users.c.username))))
        roles = self._connection.execute(
            select(self._roles.c.id, self._roles.c.name).where(self._roles.c.workspace == WORKSPACE)
        ).all()
        mine, groups = {}, {}
        for role in roles:
            if not role.name.startswith(OWN_ROLE):
                groups[role.id] = role.name
            elif role.name[len(OWN_ROLE) :].rstrip("_").isdigit():
                owner = names.get(int(role.name[len(OWN_ROLE) :].rstrip("_")))
                if owner is not None and owner != self._without:
                    mine[role.id] = owner
        return mine, groups, names

    def read(self) -> State:
        """Return the current state. Names that differ only in case are skipped."""
        users = self._users.c
        state = State()
        folded: dict[str, list[tuple[str, bool]]] = {}
        for name, is_admin in self._connection.execute(select(users.username, users.is_admin)):
            if name != self._without:
                folded.setdefault(name.lower(), []).append((name, bool(is_admin)))
        for same in folded.values():
            if len(same) == 1:
                state.users[same[0][0]] = same[0][1]
            else:
                state.skipped += len(same)
        mine, groups, names = self._own_roles()
        state.groups = set(groups.values())
        members = self._members.c
        for user, role in self._connection.execute(select(members.user_id, members.role_id)):
            if role in groups and names[user] in state.users:
                state.members.add((names[user], groups[role]))
        holders = {role: ("group", name) for role, name in groups.items()}
        holders |= {role: ("user", name) for role, name in mine.items() if name in state.users}
        for row in self._connection.execute(select(self._grants)).mappings():
            if row["role_id"] in holders and row["resource_type"] in self._kinds:
                key = (*holders[row["role_id"]], row["resource_type"], row["resource_pattern"])
                state.grants[key] = row["permission"]
            elif row["role_id"] in holders:
                state.skipped += 1
        return state

    def write(self, state: State) -> None:
        """Write `state` to these tables."""
        users, roles, grants, members = self._users, self._roles, self._grants, self._members
        numbers_of: dict[str, list[int]] = {}
        for number, name in self._connection.execute(select(users.c.id, users.c.username)):
            if name != self._without:
                numbers_of.setdefault(name.lower(), []).append(number)
        # Names that differ only in case were not copied, so leave them alone.
        known = {name: numbers[0] for name, numbers in numbers_of.items() if len(numbers) == 1}
        wanted = {name.lower(): name for name in state.users}
        gone = [number for name, number in known.items() if name not in wanted]
        for table in self._legacy:
            self._connection.execute(delete(table).where(table.c.user_id.in_(gone)))
        own = [f"{OWN_ROLE}{number}__" for number in gone]
        stale = list(
            self._connection.scalars(
                select(roles.c.id).where(
                    or_(
                        roles.c.name.in_(own),
                        and_(
                            roles.c.workspace == WORKSPACE,
                            roles.c.name.not_in(state.groups),
                            roles.c.name.not_like("\\_\\_user\\_%"),
                        ),
                    )
                )
            )
        )
        self._connection.execute(delete(grants).where(grants.c.role_id.in_(stale)))
        self._connection.execute(delete(members).where(or_(members.c.role_id.in_(stale), members.c.user_id.in_(gone))))
        self._connection.execute(delete(roles).where(roles.c.id.in_(stale)))
        self._connection.execute(delete(users).where(users.c.id.in_(gone)))
        numbers = {}
        for folded, name in wanted.items():
            is_admin = state.users[name]
            if folded in known:
                numbers[name] = known[folded]
                self._connection.execute(update(users).where(users.c.id == numbers[name]).values(is_admin=is_admin))
            else:
                numbers[name] = self._connection.scalar(
                    insert(users)
                    .values(username=name, password_hash=NO_PASSWORD, is_admin=is_admin)
                    .returning(users.c.id)
                )
        groups = {group for group in state.groups if not group.startswith(OWN_ROLE)}
        role_of = {("group", group): self._role(group) for group in sorted(groups)}
        for name, number in numbers.items():
            if any(holder == "user" and who == name for holder, who, _unused, _unused in state.grants):
                role_of["user", name] = self._role(f"{OWN_ROLE}{number}__")
                self._assign({(number, role_of["user", name])})
        assigned = {
            (numbers[user], role_of["group", group]) for user, group in state.members if ("group", group) in role_of
        }
        rows = self._connection.execute(
            select(members.c.id, members.c.user_id, members.c.role_id).where(
                members.c.user_id.in_(numbers.values()),
                members.c.role_id.in_([role for (holder, _unused), role in role_of.items() if holder == "group"]),
            )
        ).all()
        self._connection.execute(
            delete(members).where(
                members.c.id.in_([row.id for row in rows if (row.user_id, row.role_id) not in assigned])
            )
        )
        self._assign(assigned)
        mine, others, _unused = self._own_roles()
        self._connection.execute(
            delete(grants).where(grants.c.role_id.in_([*mine, *others]), grants.c.resource_type.in_(self._kinds))
        )
        for (holder, name, kind, key), permission in state.grants.items():
            if (holder, name) in role_of:
                self._connection.execute(
                    insert(grants).values(
                        role_id=role_of[holder, name], resource_type=kind, resource_pattern=key, permission=permission
                    )
                )

    def _role(self, name: str) -> int:
        columns = self._roles.c
        found = self._connection.scalar(select(columns.id).where(columns.name == name, columns.workspace == WORKSPACE))
        if found is not None:
            return found
        return self._connection.scalar(insert(self._roles).values(name=name, workspace=WORKSPACE).returning(columns.id))

    def _assign(self, pairs: set[tuple[int, int]]) -> None:
        columns = self._members.c
        present = set(map(tuple, self._connection.execute(select(columns.user_id, columns.role_id))))
        for user, role in pairs - present:
            self._connection.execute(insert(self._members).values(user_id=user, role_id=role))


def _remove(connection: Connection, table: Table, condition: ColumnElement[bool]) -> None:
    """Delete rows of `table`, after the rows that refer to them."""
    numbers = list(connection.scalars(select(table.c.id).where(condition)))
    if not numbers:
        return
    inspector = sqlalchemy.inspect(connection)
    for name in inspector.get_table_names():
        for key in inspector.get_foreign_keys(name):
            if key["referred_table"] == table.name and key["referred_columns"] == ["id"]:
                other = _table(connection, name)
                connection.execute(delete(other).where(other.c[key["constrained_columns"][0]].in_(numbers)))
    connection.execute(delete(table).where(table.c.id.in_(numbers)))


SIDES: dict[str, type[Oidc] | type[Basic]] = {"oidc": Oidc, "basic": Basic}


def carry(source: str, target: str, connection: Connection, objects: Objects, without: str) -> State:
    """Copy users, groups and grants from the tables of `source` to those of `target`; return what was copied.

    Args:
        source: oidc or basic.
        target: the other mode.
        connection: to the database with both, in a transaction.
        objects: the objects in MLflow's own database.
        without: the playbooks' account, which exists in both modes.
    """
    state = SIDES[source](connection, objects, without).read()
    SIDES[target](connection, objects, without).write(state)
    return state
