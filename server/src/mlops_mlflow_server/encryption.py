# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys by which MLflow encrypts what it keeps for others: secrets of the AI gateway, and of webhooks.

Without a passphrase MLflow encrypts provider keys with one that is printed in its source. Without a key for webhooks
each process generates its own, so that no other process can read their secrets. Here both are required.

`ensure` runs in `migrate` and at the start of each worker. Gateway secrets that open with the published passphrase only
are wrapped with the configured one, in one transaction. The workers do so too since a pod without the passphrase may
have added a secret after `migrate`. A key that does not fit what is stored ends the start before anything is changed.
"""

import contextlib
import functools
import os
from collections.abc import Iterable

import sqlalchemy
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from mlflow.environment_variables import MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY
from mlflow.exceptions import MlflowException
from mlflow.store.model_registry.dbmodels.models import SqlWebhook
from mlflow.store.tracking.dbmodels.models import SqlGatewaySecret
from mlflow.utils import crypto
from mlflow.utils.crypto import (
    CRYPTO_KEK_PASSPHRASE_ENV_VAR,
    DEFAULT_KEK_PASSPHRASE,
    KEKManager,
    rotate_secret_encryption,
    unwrap_dek,
)
from sqlalchemy import orm

from mlops_mlflow_server import ring
from mlops_mlflow_server.databases import Failure, say

# Table in MLflow's own database with a text that was encrypted with the key of the webhooks.
SAMPLES = sqlalchemy.table("mlops_encryption", sqlalchemy.column("name"), sqlalchemy.column("sample"))
WEBHOOK_KEY = MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY.name
# The secret as it is stored: the type of MLflow's own column decrypts.
WEBHOOKS = sqlalchemy.table(
    SqlWebhook.__tablename__, *(sqlalchemy.column(name) for name in ("webhook_id", "name", "secret", "status"))
)


def ensure(engine: sqlalchemy.Engine) -> None:
    """Make what is stored in MLflow's database readable by the configured keys alone.

    Args:
        engine: engine of MLflow's own database, with the schema of the installed version.

    Raises:
        Failure: a key is missing or published, or does not open what is stored.
    """
    if os.environ.get(CRYPTO_KEK_PASSPHRASE_ENV_VAR, "") in ("", DEFAULT_KEK_PASSPHRASE):
        raise Failure(f"{CRYPTO_KEK_PASSPHRASE_ENV_VAR} is not set: MLflow would encrypt with a published passphrase")
    if not os.environ.get(WEBHOOK_KEY):
        raise Failure(f"{WEBHOOK_KEY} is not set: each process would encrypt with a key of its own")
    wrap_gateway_secrets(engine)
    check_webhooks(engine, os.environ[WEBHOOK_KEY], ring.previous(WEBHOOK_KEY), ring.others(WEBHOOK_KEY))


def accept() -> bool:
    """Let MLflow read what the previous and the next keys encrypted; return whether this version fits."""
    column = SqlWebhook.__table__.c.secret.type
    if not hasattr(column, "cipher") or not hasattr(crypto, "unwrap_dek"):
        return False
    if os.environ.get(WEBHOOK_KEY):
        column.cipher = MultiFernet([Fernet(key) for key in (os.environ[WEBHOOK_KEY], *ring.others(WEBHOOK_KEY))])

    @functools.cache
    def keys() -> list[bytes]:
        return [KEKManager(passphrase).get_kek() for passphrase in ring.others(CRYPTO_KEK_PASSPHRASE_ENV_VAR)]

    def unwrap(wrapped_dek: bytes, kek: bytes) -> bytes:
        try:
            return unwrap_dek(wrapped_dek, kek)
        except MlflowException:
            for key in keys():
                with contextlib.suppress(MlflowException):
                    return unwrap_dek(wrapped_dek, key)
            raise

    crypto.unwrap_dek = unwrap
    return True


def wrap_gateway_secrets(engine: sqlalchemy.Engine) -> None:
    """Wrap secrets of the AI gateway with the configured passphrase that the previous or the published one opens.

    Raises:
        Failure: the passphrase opens none of the secrets, and the published one not all of them.
    """
    manager = functools.cache(KEKManager)  # deriving a key takes a third of a second
    with orm.Session(engine) as session, session.begin():
        secrets = session.scalars(sqlalchemy.select(SqlGatewaySecret).with_for_update()).all()
        if not secrets:
            return
        current = manager()
        others = [each for each in secrets if not _opens(each, current)]
        # Whose version differs was wrapped before MLFLOW_CRYPTO_KEK_VERSION was changed.
        passphrases = (
            DEFAULT_KEK_PASSPHRASE,
            os.environ[CRYPTO_KEK_PASSPHRASE_ENV_VAR],
            *ring.previous(CRYPTO_KEK_PASSPHRASE_ENV_VAR),
        )
        # A process of after a rotation has wrapped these.
        for key in ring.following(CRYPTO_KEK_PASSPHRASE_ENV_VAR) if others else ():
            others = [each for each in others if not _opens(each, manager(key))]
        former = {
            each.secret_id: candidate
            for each in others
            for candidate in (manager(passphrase, each.kek_version) for passphrase in passphrases)
            if _opens(each, candidate)
        }
        lost = ", ".join(sorted(each.secret_name for each in others if each.secret_id not in former))
        if lost and len(others) == len(secrets):
            raise Failure(
                f"{CRYPTO_KEK_PASSPHRASE_ENV_VAR} does not open the secrets of the AI gateway ({lost}): "
                "set the passphrase and MLFLOW_CRYPTO_KEK_VERSION that they were encrypted with, or delete them"
            )
        if lost:
            say(f"No known passphrase opens these secrets of the AI gateway, which have to be set again: {lost}")
        for each in others:
            if each.secret_id in former:
                rotated = rotate_secret_encryption(
                    each.encrypted_value, each.wrapped_dek, former[each.secret_id], current
                )
                each.wrapped_dek = rotated.wrapped_dek
                each.kek_version = current.kek_version
    if former:
        say(f"{len(former)} secrets of the AI gateway are now encrypted with {CRYPTO_KEK_PASSPHRASE_ENV_VAR}")


def _opens(secret: SqlGatewaySecret, manager: KEKManager) -> bool:
    """Return whether a secret was wrapped with this key."""
    try:
        unwrap_dek(secret.wrapped_dek, manager.get_kek())
    except MlflowException:
        return False
    return True


def check_webhooks(engine: sqlalchemy.Engine, current: str, previous: Iterable[str], others: Iterable[str]) -> None:
    """Encrypt secrets of webhooks with the current key that the previous one opens, and disable what none opens.

    Their secrets were encrypted with the key of a process that has ended. They would break every list of webhooks.
    Without its secret a webhook's calls would be unsigned, so it is disabled until an administrator sets another one.

    Args:
        engine: engine of MLflow's own database.
        current: the key that encrypts.
        previous: keys whose texts are encrypted again.
        others: all keys that decrypt as well.

    Raises:
        Failure: the secrets were encrypted with another key than these.
    """
    own, former = Fernet(current), [Fernet(key) for key in previous]
    known = MultiFernet([own, *(Fernet(key) for key in others)])
    with engine.begin() as connection:
        if not sqlalchemy.inspect(connection).has_table(SAMPLES.name):
            connection.execute(
                sqlalchemy.text(f"CREATE TABLE {SAMPLES.name} (name varchar(64) PRIMARY KEY, sample text NOT NULL)")
            )
        is_webhooks = SAMPLES.c.name == SqlWebhook.__tablename__
        sample = connection.scalar(sqlalchemy.select(SAMPLES.c.sample).where(is_webhooks))
        fits = sample is not None and _decrypts(known, sample)
        rows = connection.execute(sqlalchemy.select(WEBHOOKS).where(WEBHOOKS.c.secret.is_not(None))).all()
        unreadable = [row for row in rows if not _decrypts(known, row.secret)]
        if unreadable and sample is not None and not fits:
            raise Failure(
                f"{WEBHOOK_KEY} is not the key that the secrets of the webhooks were encrypted with "
                f"({', '.join(sorted(row.name for row in unreadable))}): set the former key, or delete these webhooks"
            )
        update = sqlalchemy.update(WEBHOOKS)
        for row in unreadable:
            connection.execute(
                update.where(WEBHOOKS.c.webhook_id == row.webhook_id).values(secret=None, status="DISABLED")
            )
            say(f"The webhook {row.name} is disabled, since the key of its secret is lost: set a secret and enable it")
        rotated = [row for row in rows if any(_decrypts(key, row.secret) for key in former)]
        for row in rotated:
            # Not where a user has set another secret meanwhile.
            same = sqlalchemy.and_(WEBHOOKS.c.webhook_id == row.webhook_id, WEBHOOKS.c.secret == row.secret)
            connection.execute(update.where(same).values(secret=known.rotate(row.secret.encode()).decode()))
        if rotated:
            say(f"{len(rotated)} secrets of webhooks are now encrypted with {WEBHOOK_KEY}")
        if not fits or any(_decrypts(key, sample) for key in former):
            # Workers of several pods may do so at once.
            write = sqlalchemy.text(
                f"INSERT INTO {SAMPLES.name} VALUES (:name, :sample)"  # noqa: S608  (a constant)
                " ON CONFLICT (name) DO UPDATE SET sample = :sample"
            )
            written = own.encrypt(b"mlops").decode()
            connection.execute(write, {"name": SqlWebhook.__tablename__, "sample": written})


def _decrypts(key: Fernet | MultiFernet, text: str) -> bool:
    """Return whether a text was encrypted with this key."""
    try:
        key.decrypt(text.encode())
    except InvalidToken:
        return False
    return True
