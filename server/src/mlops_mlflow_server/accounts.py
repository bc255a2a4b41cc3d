# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The administrator account of the playbooks, which exists in every login mode but `none`.

Its name and password come from a Secret. With it, neither plugin needs its own initial administrator.
"""

import datetime

import sqlalchemy
from sqlalchemy import Connection, delete, insert, select, update
from werkzeug.security import check_password_hash, generate_password_hash

from mlops_mlflow_server.basic_settings import SCHEMA

# The hash that mlflow-oidc-auth uses for tokens: long random strings need no slow hash.
TOKEN_HASH = "pbkdf2:sha256:1000"  # noqa: S105  (a method)
TOKEN_NAME = "default"  # noqa: S105  (a name)
# Replacing the password in the Secret replaces the token, so it may last long.
TOKEN_YEARS = 10
# Table of the accounts that the migration created; basic-auth itself does not tell programs from users.
MADE = "mlops_accounts"


class TakenError(Exception):
    """The name belongs to an account that the migration did not create."""


def _table(connection: Connection, name: str, schema: str | None = None) -> sqlalchemy.Table:
    return sqlalchemy.Table(name, sqlalchemy.MetaData(), schema=schema, autoload_with=connection)


def _made(connection: Connection) -> sqlalchemy.Table:
    table = sqlalchemy.Table(
        MADE,
        sqlalchemy.MetaData(),
        sqlalchemy.Column("user_id", sqlalchemy.Integer, primary_key=True, autoincrement=False),
    )
    table.create(connection, checkfirst=True)
    return table


def ensure_basic(connection: Connection, name: str, password: str) -> bool:
    """Ensure the account in basic-auth; return whether anything changed.

    Raises:
        TakenError: there is an account of this name that the migration did not create.
    """
    users, made = _table(connection, "users", SCHEMA), _made(connection)
    row = connection.execute(select(users).where(users.c.username == name)).mappings().first()
    if row is None:
        number = connection.scalar(
            insert(users)
            .values(username=name, password_hash=generate_password_hash(password), is_admin=True)
            .returning(users.c.id)
        )
        connection.execute(insert(made).values(user_id=number))
        return True
    fits = check_password_hash(row["password_hash"], password)
    if connection.scalar(select(made.c.user_id).where(made.c.user_id == row["id"])) is None:
        # A former version did not record the accounts that it created: recognize it by its password and rights.
        if not (fits and row["is_admin"]):
            raise TakenError(
                f"There is an account {name} that the migration did not create: name another mlflow_admin_user;"
                " if this is a former account of the playbooks, remove it and run again"
            )
        connection.execute(insert(made).values(user_id=row["id"]))
    changes = {}
    if not row["is_admin"]:
        changes["is_admin"] = True
    if not fits:
        changes["password_hash"] = generate_password_hash(password)
    if changes:
        connection.execute(update(users).where(users.c.id == row["id"]).values(**changes))
    return bool(changes)


def ensure_oidc(connection: Connection, name: str, password: str) -> bool:
    """Ensure the account in mlflow-oidc-auth; return whether anything changed.

    It is a service account whose access token is the password. The token has no prefix; a user has at most one of
    these.

    Raises:
        TakenError: the name belongs to a user.
    """
    name = name.lower()
    users, tokens = _table(connection, "users"), _table(connection, "user_tokens")
    wanted = {"is_admin": True, "is_service_account": True, "service_account_source": "internal", "active": True}
    row = connection.execute(select(users).where(users.c.username == name)).mappings().first()
    if row is not None and not row["is_service_account"]:
        raise TakenError(f"The account {name} belongs to a user: name another mlflow_admin_user")
    changed = row is None or any(row[column] != value for column, value in wanted.items())
    if row is None:
        number = connection.scalar(
            insert(users).values(username=name, display_name=name, **wanted).returning(users.c.id)
        )
    else:
        number = row["id"]
        connection.execute(update(users).where(users.c.id == number).values(**wanted))
    now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
    mine = (tokens.c.user_id == number) & (tokens.c.name == TOKEN_NAME)
    token = connection.execute(select(tokens).where(mine)).mappings().first()
    lasting = datetime.timedelta(days=365 * TOKEN_YEARS)
    if (
        token is not None
        and token["token_prefix"] is None
        and token["expires_at"] > now + lasting / 2
        and check_password_hash(token["token_hash"], password)
    ):
        return changed
    connection.execute(delete(tokens).where(mine | ((tokens.c.user_id == number) & tokens.c.token_prefix.is_(None))))
    connection.execute(
        insert(tokens).values(
            user_id=number,
            name=TOKEN_NAME,
            token_prefix=None,
            token_hash=generate_password_hash(password, method=TOKEN_HASH),
            created_at=now,
            created_by=name,
            expires_at=now + lasting,
        )
    )
    return True


ENSURE = {"oidc": ensure_oidc, "basic": ensure_basic}
