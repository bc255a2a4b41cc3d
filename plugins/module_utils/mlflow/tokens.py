# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Access tokens of MLflow's accounts, and the Secrets of the cluster that they are delivered in.

mlflow-oidc-auth has tokens: several an account, each with a name and an end. A renewed one is another token, so that
the old one remains valid for as long as programs may still hold it. MLflow's basic-auth has one password an account: a
renewed one replaces it at once, in MLflow first and in all its Secrets right after.

A Secret of ours is identified by its labels and annotations, never by its name alone.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.mlops.mlflow.plugins.module_utils.credentials.generated import KEY, NAME, NAMESPACE, generate
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.client import (
    FIELD_MANAGER,
    ApiError,
    KubeError,
    secret_option,
)
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.secrets import Conflict, Secret, Secrets
from ansible_collections.mlops.mlflow.plugins.module_utils.mlflow.accounts import PASSWORD_LENGTH, USERS, Accounts
from ansible_collections.mlops.mlflow.plugins.module_utils.mlflow.client import (
    Changes,
    MlflowApi,
    MlflowError,
    run,
    segment,
)

MANAGED_BY = "app.kubernetes.io/managed-by"
KIND = "mlops.mlflow/access"  # label: client or token
INSTANCE = "mlops.mlflow/instance"  # label: which MLflow
OWNER = "mlops.mlflow/access-of"  # annotation: whose Secret it is, such as the client's name
USER = "mlops.mlflow/user"
TOKEN = "mlops.mlflow/token"  # noqa: S105 - the token's name without its date
ISSUED = "mlops.mlflow/issued"
EXPIRES = "mlops.mlflow/expires"
DIGEST = "mlops.mlflow/digest"
PASSWORD_KEY = "mlops.mlflow/password-key"  # noqa: S105 - the name of the key

LABEL = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
DATED = r" \d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
PREFIX = re.compile(r"mlf_([0-9a-f]{8})_.+")
URI_VARIABLE = "MLFLOW_TRACKING_URI"
USER_VARIABLE = "MLFLOW_TRACKING_USERNAME"
PASSWORD_VARIABLE = "MLFLOW_TRACKING_PASSWORD"  # noqa: S105 - the name of the variable
LONGEST_LIFETIME = 365  # days that mlflow-oidc-auth gives a token


def _delivery_options(**own: Any) -> dict[str, Any]:
    """Give the options of a list of what gets tokens.

    Args:
        own: those that one module has alone.
    """
    return {
        "type": "list",
        "elements": "dict",
        "options": {
            **own,
            "lifetime_days": {"type": "int", "default": 90},
            "renew_before_days": {"type": "int", "default": 30},
            "grace_days": {"type": "int", "default": 7},
            "take_over": {"type": "bool", "default": False},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
    }


CLIENTS = _delivery_options(
    name={"type": "str", "required": True},
    user={"type": "str"},
    namespaces={"type": "list", "elements": "str", "default": []},
    secret_name={"type": "str", "default": "mlflow-credentials", "no_log": False},
    tracking_uri={"type": "str"},
)
TOKENS = {
    **_delivery_options(
        user={"type": "str", "required": True},
        name={"type": "str", "required": True},
        secret=secret_option(username_key="username", password_key="password"),  # noqa: S106 - names of keys
    ),
    "no_log": False,
}


@dataclass
class Delivery:
    """A token that is to be in a Secret.

    Args:
        kind: C(client) or C(token), which module's Secret it is.
        owner: whose it is, such as the client's name.
        user: the account.
        token: the token's name, to which the date is added.
        values: further keys of the Secret.
        password_key: the Secret's key of the token.
        lifetime: days, as C(renew_before) and C(grace).
        take_over: whether basic-auth may set the password of an account that was there before.
    """

    kind: str
    owner: str
    user: str
    token: str
    namespace: str
    secret: str
    values: dict[str, str]
    password_key: str
    lifetime: int
    renew_before: int
    grace: int
    take_over: bool = False

    @property
    def where(self) -> str:
        """How messages call the Secret."""
        return f"{self.namespace}/{self.secret}"

    @property
    def thing(self) -> str:
        """How messages call it all."""
        return f"{self.kind} {self.owner} in Secret {self.where}"


class IssuedSecret(Secret):
    """A Secret as it is, with what its annotations tell."""

    @property
    def thing(self) -> str:
        """How messages call it where it is no longer declared."""
        return f"{self.labels.get(KIND)} {self.annotations.get(OWNER)} in Secret {self.where}"

    @property
    def user(self) -> str:
        """The account whose credential it holds."""
        return self.annotations.get(USER, "")

    def text(self, key: str) -> str:
        """Give a value as text; empty where there is none."""
        return self.data.get(key, b"").decode(errors="replace")


def _issued(secret: Secret) -> IssuedSecret:
    return IssuedSecret(**vars(secret))


def _digest(value: str) -> str:
    # Of a value that is long and random, so that its hash reveals nothing.
    return hashlib.sha256(value.encode()).hexdigest()[:16]


def moment(text: str) -> datetime | None:
    """Read a time in the form of ISO 8601, in UTC where it names no zone; None where it is none."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _day(moment: datetime | None) -> str:
    return moment.strftime("%Y-%m-%d") if moment else "never"


def check(deliveries: list[Delivery], option: str) -> None:
    """Find what is wrong in what is declared before anything is asked.

    Raises:
        MlflowError: in one sentence, what and where.
    """
    places: dict[str, Delivery] = {}
    for each in deliveries:
        if not NAMESPACE.fullmatch(each.namespace):
            raise MlflowError(f"{option}: {each.owner} has the namespace '{each.namespace}', which is no such name")
        if not NAME.fullmatch(each.secret):
            raise MlflowError(f"{option}: {each.owner} has the Secret '{each.secret}', which is no such name")
        for key in (*each.values, each.password_key):
            if not KEY.fullmatch(key):
                raise MlflowError(f"{option}: {each.owner} has the key '{key}', which a Secret does not take")
        if not 1 <= each.lifetime <= LONGEST_LIFETIME:
            raise MlflowError(
                f"{option}: lifetime_days of {each.owner} is {each.lifetime}, and must be from 1 to {LONGEST_LIFETIME}"
            )
        if not 0 <= each.renew_before < each.lifetime:
            raise MlflowError(
                f"{option}: renew_before_days of {each.owner} is {each.renew_before}, and must be less than its "
                f"lifetime_days, which is {each.lifetime}"
            )
        if each.grace < 0:
            raise MlflowError(f"{option}: grace_days of {each.owner} is {each.grace}, and must be 0 or more")
        other = places.setdefault(each.where, each)
        if other is not each:
            raise MlflowError(f"{option}: {other.owner} and {each.owner} both put Secret {each.where} there")


@dataclass
class Wanted:
    """What is declared of one kind of Secrets.

    Args:
        kind: C(client) or C(token).
        owners: all that are declared, those that are to be absent too.
        absent: whether some are to be absent.
        revoked: accounts and names of tokens that are to be revoked wherever they are.
        exclusive: whether the Secrets of others go.
        remove_accounts: whether an account is removed with its last Secret.
        issued_after: what was issued before is renewed.
    """

    kind: str
    deliveries: list[Delivery]
    owners: set[str]
    absent: bool = False
    revoked: list[tuple[str, str]] = field(default_factory=list)
    exclusive: bool = False
    remove_accounts: bool = False
    issued_after: datetime | None = None

    def sentences(self) -> list[str]:
        """Give what would be issued where MLflow does not run yet."""
        return [f"{each.thing}: token issued" for each in self.deliveries]


def _delivery(declared: dict[str, Any], **own: Any) -> Delivery:
    return Delivery(
        lifetime=declared["lifetime_days"],
        renew_before=declared["renew_before_days"],
        grace=declared["grace_days"],
        take_over=declared["take_over"],
        **own,
    )


def wanted_clients(clients: list[dict[str, Any]], tracking_uri: str | None, option: str = "clients") -> Wanted:
    """Read what is declared of programs, a Secret for each of their namespaces.

    Args:
        tracking_uri: of those that have none of their own.
        option: how messages call the declaration.

    Raises:
        MlflowError: what is declared can't be.
    """
    found = []
    names = [client["name"] for client in clients]
    for client in clients:
        name = client["name"]
        if names.count(name) > 1:
            raise MlflowError(f"{option} declares {name} more than once")
        if client["state"] == "absent":
            continue
        if not client["namespaces"]:
            raise MlflowError(f"{option}: {name} has no namespaces, so there is nowhere to put its Secret")
        uri = client["tracking_uri"] or tracking_uri
        if not uri:
            raise MlflowError(f"{option}: {name} has no tracking_uri, the URL at which it reaches MLflow")
        user = client["user"] or name
        found += [
            _delivery(
                client,
                kind="client",
                owner=name,
                user=user,
                token=f"{name}/{namespace}",
                namespace=namespace,
                secret=client["secret_name"],
                values={URI_VARIABLE: uri.rstrip("/"), USER_VARIABLE: user},
                password_key=PASSWORD_VARIABLE,
            )
            for namespace in dict.fromkeys(client["namespaces"])
        ]
    check(found, option)
    return Wanted("client", found, set(names), any(each["state"] == "absent" for each in clients))


def wanted_tokens(tokens: list[dict[str, Any]], option: str = "tokens") -> Wanted:
    """Read what is declared of tokens, a Secret each.

    Args:
        option: how messages call the declaration.

    Raises:
        MlflowError: what is declared can't be.
    """
    found = []
    owners = [f"{token['user']}/{token['name']}" for token in tokens]
    for token, owner in zip(tokens, owners, strict=True):
        if owners.count(owner) > 1:
            raise MlflowError(f"{option} declares {token['name']} of {token['user']} more than once")
        if token["state"] == "absent":
            continue
        secret = token["secret"]
        if not secret:
            raise MlflowError(
                f"{option}: {token['name']} of {token['user']} has no secret, and a token is kept nowhere else"
            )
        found.append(
            _delivery(
                token,
                kind="token",
                owner=owner,
                user=token["user"],
                token=token["name"],
                namespace=secret["namespace"],
                secret=secret["name"],
                values={secret["username_key"]: token["user"]},
                password_key=secret["password_key"],
            )
        )
    check(found, option)
    revoked = [(each["user"], each["name"]) for each in tokens if each["state"] == "absent"]
    return Wanted("token", found, set(owners), bool(revoked), revoked)


class Tokens:
    """Delivers tokens.

    Args:
        accounts: the accounts of the server, and where changes are noted.
        kind: which Secrets are read.
        instance: which MLflow it is, as the Secrets' label has it.
        former: what that label was before, for Secrets that are taken over where they are declared.
        issued_after: what was issued before is renewed.
        now: gives the time; for tests.
    """

    def __init__(
        self,
        accounts: Accounts,
        kind: str,
        *,
        instance: str,
        former: Iterable[str] = (),
        issued_after: datetime | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        if not LABEL.fullmatch(instance):
            raise MlflowError(f"instance is '{instance}', and must be a value of a label of Kubernetes")
        self._api = accounts.api
        self._changes = accounts.changes
        self._accounts = accounts
        self._labels = {MANAGED_BY: FIELD_MANAGER, KIND: kind, INSTANCE: instance}
        self._instances = [instance, *(each for each in former if LABEL.fullmatch(each) and each != instance)]
        self._issued_after = issued_after
        self._now = now
        self._ours: dict[str, IssuedSecret] = {}
        self._seen: dict[str, IssuedSecret | None] = {}
        self._rows: dict[str, list[dict[str, Any]]] = {}

    # Secrets

    @property
    def _secrets(self) -> Secrets:
        return Secrets(self._api.cluster)

    def look(self, deliveries: list[Delivery], every: bool, owners: Iterable[str] = ()) -> None:
        """Find the Secrets of ours in the whole cluster, in one request, and see that those declared are ours to write.

        Args:
            every: whether all of them must be known; else it does no harm if they may not be listed.
            owners: whose Secrets with a former label are ours too.

        Raises:
            MlflowError: a Secret was not made here, or its namespace is not there.
        """
        fixed = [f"{key}={value}" for key, value in sorted(self._labels.items()) if key != INSTANCE]
        selector = ",".join([*fixed, f"{INSTANCE} in ({','.join(self._instances)})"])
        try:
            self._ours = {
                each.where: each
                for each in map(_issued, self._secrets.list(selector))
                if each.labels[INSTANCE] == self._labels[INSTANCE] or each.annotations.get(OWNER) in set(owners)
            }
        except ApiError as error:
            if error.status != 403 or every:
                raise
        for want in deliveries:
            self._seen[want.where] = self._read(want)

    def undeclared(self, places: set[str], owners: set[str] | None) -> list[IssuedSecret]:
        """Give the Secrets of ours that are at none of these places.

        Args:
            places: namespace/name of those that are declared.
            owners: whose are read; None are those of all.
        """
        return [
            each
            for where, each in sorted(self._ours.items())
            if where not in places and (owners is None or each.annotations.get(OWNER) in owners)
        ]

    def users(self) -> set[str]:
        """Give the accounts whose credentials are in Secrets of ours."""
        return {each.user for each in self._ours.values()}

    def _read(self, want: Delivery) -> IssuedSecret | None:
        """Give the Secret of a delivery, and see that it is ours to write.

        Raises:
            MlflowError: it was not made here, or its namespace is not there.
        """
        kept = self._ours.get(want.where)
        if kept is None:
            found = self._secrets.read(want.namespace, want.secret)
            kept = _issued(found) if found else None
        if kept is None:
            if not self._api.store.has_namespace(want.namespace):
                raise MlflowError(f"{want.thing}: there is no namespace {want.namespace}, so make it first")
            return None
        if kept.labels.get(INSTANCE) not in self._instances or any(
            kept.labels.get(key) != value for key, value in self._labels.items() if key != INSTANCE
        ):
            raise MlflowError(
                f"{want.thing}: that Secret is there already and is not this {want.kind}'s, so it is left alone: "
                "give another name, or remove it"
            )
        if kept.annotations.get(OWNER) != want.owner:
            raise MlflowError(
                f"{want.thing}: that Secret is {want.kind} {kept.annotations.get(OWNER)}'s, so it is left alone: "
                "give another name, or remove that one first"
            )
        if kept.immutable:
            raise MlflowError(f"{want.thing}: that Secret is immutable, so remove it")
        self._ours[want.where] = kept
        return kept

    def _write(
        self, want: Delivery, kept: IssuedSecret | None, data: dict[str, str], annotations: dict[str, str]
    ) -> None:
        values = {key: value.encode() for key, value in data.items()}
        try:
            if kept is None:
                secret = Secret(want.namespace, want.secret, values, labels=self._labels, annotations=annotations)
                written = self._secrets.create(secret)
            else:
                written = self._secrets.patch(kept, values, self._labels, annotations)
        except Conflict:
            raise MlflowError(f"{want.thing}: another writer has just changed it, so run it again") from None
        self._ours[want.where] = _issued(written)

    def _annotations(
        self, want: Delivery, value: str, *, issued: datetime | None, expires: datetime | None
    ) -> dict[str, str]:
        return {
            OWNER: want.owner,
            USER: self._accounts.key(want.user),
            TOKEN: want.token,
            PASSWORD_KEY: want.password_key,
            ISSUED: issued.isoformat(timespec="seconds") if issued else "",
            EXPIRES: expires.isoformat(timespec="seconds") if expires else "",
            DIGEST: _digest(value),
        }

    # What is declared

    def ensure(self, deliveries: list[Delivery]) -> list[dict[str, Any]]:
        """See that each Secret that was read holds a token that is valid for long enough.

        Returns:
            for each, its names and dates.

        Raises:
            MlflowError: MLflow refuses.
        """
        found = [(want, self._seen[want.where]) for want in deliveries]
        if self._api.plugin == "oidc":
            return [self._ensure_token(want, kept) for want, kept in found]
        results: list[dict[str, Any]] = []
        for user in dict.fromkeys(want.user for want in deliveries):
            results += self._ensure_password(user, [each for each in found if each[0].user == user])
        return results

    def _tokens(self, user: str, base: str) -> list[dict[str, Any]]:
        """Give the tokens of an account that have a name and a date after it."""
        name = self._accounts.key(user)
        if name in self._accounts.created:
            self._rows.setdefault(name, [])
        if name not in self._rows:
            found = self._api.find(f"{USERS}/{segment(name)}/tokens", what=f"list the tokens of {user}")
            self._rows[name] = found["tokens"] if found else []
        dated = re.compile(re.escape(base) + DATED)
        return [row for row in self._rows[name] if dated.fullmatch(row["name"])]

    def _why(self, want: Delivery, kept: IssuedSecret | None, value: str, expires: datetime | None) -> str:
        """Say in a few words why a credential is due; empty where it is not."""
        if kept is None or not value:
            return f"there is no {want.password_key} in it" if kept else "there is none"
        if kept.annotations.get(DIGEST) != _digest(value):
            return "it was changed by another writer"
        if expires is None:
            return "MLflow no longer has it"
        left, ends = expires - self._now(), _day(expires)
        issued = moment(kept.annotations.get(ISSUED, ""))
        why = ""
        if left <= timedelta(days=want.renew_before):
            why = f"it ends on {ends}" if left > timedelta(0) else f"it ended on {ends}"
        elif left > timedelta(days=want.lifetime + 1):
            why = f"it would live until {ends}"
        elif self._issued_after and (issued is None or issued < self._issued_after):
            why = f"it was issued on {_day(issued)}" if issued else "it is not known when it was issued"
        return why

    def _ensure_token(self, want: Delivery, kept: IssuedSecret | None) -> dict[str, Any]:
        value = kept.text(want.password_key) if kept else ""
        prefix = PREFIX.fullmatch(value)
        rows = self._tokens(want.user, want.token) if self._accounts.find(want.user) else []
        current = next((row for row in rows if prefix and row["token_prefix"] == prefix[1]), None)
        expires = moment(current["expires_at"]) if current else None
        why = self._why(want, kept, value, expires)
        if why:
            return self._renew_token(want, kept, expires, why)
        issued = moment(current["created_at"]) if current else None
        if kept:
            self._align(want, kept, issued, expires)
        if issued and self._now() - issued >= timedelta(days=want.grace):
            for row in rows:
                if row is not current:
                    self._delete_token(want.user, row, want.thing)
        return self._result(want, expires, renewed=False)

    def _renew_token(
        self, want: Delivery, kept: IssuedSecret | None, expired: datetime | None, why: str
    ) -> dict[str, Any]:
        now = self._now().replace(microsecond=0)
        expires = now + timedelta(days=want.lifetime)
        if self._changes.note(
            want.thing,
            f"token issued, since {why}" if kept is None else f"token renewed, since {why}",
            {"token ends": _day(expired)} if kept else None,
            {"token ends": _day(expires), **(want.values if kept is None else {})},
        ):
            user = self._accounts.key(want.user)
            body = {"name": self._free_name(want, now), "expiration": expires.isoformat()}
            try:
                issued = self._api.request(
                    "POST", f"{USERS}/{segment(user)}/tokens", body, what=f"issue a token for {want.user}"
                )
            except MlflowError as error:
                if error.status == 403 and "interactive" in error.reason:
                    raise MlflowError(
                        f"{want.thing}: MLflow lets the account of this call issue no token for {want.user}: it may "
                        "for service accounts, where it is the MLOPS_ADMIN_ACCOUNT of this collection's image; "
                        "elsewhere call it with an administrator's bearer token",
                        403,
                    ) from None
                raise
            value = issued["token"]
            self._api.secrets.append(value)
            annotations = self._annotations(want, value, issued=now, expires=expires)
            try:
                self._write(want, kept, {**want.values, want.password_key: value}, annotations)
            except (KubeError, MlflowError):
                # No Secret holds it, and none is to.
                self._api.request("DELETE", f"{USERS}/{segment(user)}/tokens/{issued['id']}", what="take a token back")
                raise
        return self._result(want, expires, renewed=True)

    def _free_name(self, want: Delivery, now: datetime) -> str:
        """Give a name for a new token: dated, and a second later where one was issued in this very second."""
        taken = {row["name"] for row in self._tokens(want.user, want.token)}
        while (name := f"{want.token} {now:%Y-%m-%d %H:%M:%S}") in taken:
            now += timedelta(seconds=1)
        return name

    def revoke_strays(self, deliveries: list[Delivery]) -> None:
        """Revoke tokens of the owners' for places that are no longer declared, such as a deleted namespace."""
        if self._api.plugin != "oidc":
            return
        bases = {each.token for each in deliveries}
        for user, own in dict.fromkeys((each.user, each.owner) for each in deliveries):
            if not self._accounts.find(user):
                continue
            stray = re.compile(rf"({re.escape(own)}/[^ /]+){DATED}")
            for row in self._rows.get(self._accounts.key(user), []):
                found = stray.fullmatch(row["name"])
                if found and found[1] not in bases:
                    self._delete_token(user, row, f"client {own}")

    def revoke(self, user: str, base: str, thing: str) -> None:
        """Revoke all tokens of a name that mlflow-oidc-auth has of an account."""
        if self._api.plugin == "oidc" and self._accounts.find(user):
            for row in self._tokens(user, base):
                self._delete_token(user, row, thing)
            self._rows.pop(self._accounts.key(user), None)

    def _delete_token(self, user: str, row: dict[str, Any], thing: str) -> None:
        name = self._accounts.key(user)
        if self._changes.note(thing, f"token '{row['name']}' revoked"):
            try:
                self._api.request("DELETE", f"{USERS}/{segment(name)}/tokens/{row['id']}", what=f"revoke {row['name']}")
            except MlflowError as error:
                if not error.absent:
                    raise

    def _align(self, want: Delivery, kept: IssuedSecret, issued: datetime | None, expires: datetime | None) -> None:
        """Put right what is in a Secret beside the token."""
        value = kept.text(want.password_key)
        before = {key: kept.text(key) or None for key, wanted in want.values.items() if kept.text(key) != wanted}
        annotations = self._annotations(want, value, issued=issued, expires=expires)
        for name in (ISSUED, EXPIRES):  # for display only; MLflow knows them to the microsecond
            if kept.annotations.get(name):
                annotations.pop(name)
        drifted = any(kept.annotations.get(name) != text for name, text in annotations.items())
        is_former = kept.labels.get(INSTANCE) != self._labels[INSTANCE]
        if not before and not drifted and not is_former:
            return
        what = f"{', '.join(sorted(before))} changed" if before else "annotations changed"
        if is_former:
            what = f"label {INSTANCE} changed to {self._labels[INSTANCE]}"
        after = {key: want.values[key] for key in before}
        if self._changes.note(want.thing, what, before, after):
            self._write(want, kept, want.values, annotations)

    def _result(self, want: Delivery, expires: datetime | None, renewed: bool) -> dict[str, Any]:
        return {
            "name": want.owner,
            "user": self._accounts.key(want.user),
            "namespace": want.namespace,
            "secret": want.secret,
            "expires": expires.isoformat(timespec="seconds") if expires else "",
            "renewed": renewed,
        }

    # basic-auth

    def _ensure_password(self, user: str, found: list[tuple[Delivery, IssuedSecret | None]]) -> list[dict[str, Any]]:
        """See that all Secrets of an account hold the one password that it has."""
        newest: tuple[datetime, str, datetime, IssuedSecret, Delivery] | None = None
        for want, kept in found:
            issued = moment(kept.annotations.get(ISSUED, "")) if kept else None
            value = kept.text(want.password_key) if kept else ""
            if kept and issued and value and (newest is None or issued > newest[0]):
                newest = (issued, value, issued + timedelta(days=want.lifetime), kept, want)
        # One that left, or that another Secret of the account's still has, is no secret of these any more.
        is_left = any(
            each.user == user and each.where not in {want.where for want, _kept in found}
            for each in self._ours.values()
        )
        account = self._accounts.find(user)
        is_new = account is None or user in self._accounts.created
        if newest is None:
            why = "there is none"
        else:
            why = self._why(newest[4], newest[3], newest[1], newest[2])
            if not why and is_left:
                why = "a Secret that had it is no longer declared"
            if not why and not (is_new and self._changes.check_mode) and not self._api.accepts(user, newest[1]):
                why = "MLflow no longer takes it"
        if why or newest is None:
            is_known = newest is not None or is_new or is_left
            return self._renew_password(user, found, why, is_known=is_known)
        results = []
        for want, kept in found:
            if kept and kept.text(want.password_key) == newest[1]:
                self._align(want, kept, newest[0], newest[2])
            elif self._changes.note(want.thing, "the account's password put into it", None, dict(want.values)):
                annotations = self._annotations(want, newest[1], issued=newest[0], expires=newest[2])
                self._write(want, kept, {**want.values, want.password_key: newest[1]}, annotations)
            results.append(self._result(want, newest[2], renewed=False))
        return results

    def _renew_password(
        self, user: str, found: list[tuple[Delivery, IssuedSecret | None]], why: str, is_known: bool
    ) -> list[dict[str, Any]]:
        first = found[0][0]
        if not is_known and not any(want.take_over for want, _kept in found):
            raise MlflowError(
                f"{first.thing}: there is an account {user} already, and no Secret of this {first.kind}'s holds its "
                "password: with take_over: true it gets another one, which locks out the programs that use it now"
            )
        now = self._now().replace(microsecond=0)
        expires = now + timedelta(days=first.lifetime)
        value = generate("password", PASSWORD_LENGTH)
        for want, kept in found:
            what = f"password {'renewed' if kept else 'issued'}, since {why}"
            after = {"password to be renewed by": _day(expires), **(want.values if kept is None else {})}
            self._changes.note(want.thing, what, None, after)
        if not self._changes.check_mode:
            self._api.secrets.append(value.decode())
            self._accounts.set_password(user, value)
            for want, kept in found:
                annotations = self._annotations(want, value.decode(), issued=now, expires=expires)
                self._write(want, kept, {**want.values, want.password_key: value.decode()}, annotations)
        return [self._result(want, expires, renewed=True) for want, _kept in found]

    # What is not declared any more

    def remove(self, kept: IssuedSecret, still: bool = False) -> None:
        """Revoke what a Secret of ours holds, then remove the Secret.

        Args:
            still: whether the account is still declared, and gets another password.
        """
        user, base = kept.user, kept.annotations.get(TOKEN, "")
        thing = kept.thing
        if user and self._accounts.find(user):
            if self._api.plugin == "oidc":
                self.revoke(user, base, thing)
            elif not still:
                value = kept.text(kept.annotations.get(PASSWORD_KEY, ""))
                # Where the account has another password by now, it is not ours to lock.
                if value and self._api.accepts(user, value) and self._changes.note(thing, "password revoked"):
                    self._accounts.set_password(user, generate("password", PASSWORD_LENGTH))
        if self._changes.note(thing, "Secret removed", before={"account": user}):
            try:
                self._api.cluster.json(
                    "DELETE",
                    Secrets.path(kept.namespace, kept.name),
                    body={
                        "apiVersion": "v1",
                        "kind": "DeleteOptions",
                        "preconditions": {"resourceVersion": kept.version},
                    },
                )
            except ApiError as error:
                if error.status == 409:
                    raise MlflowError(f"{thing}: another writer has just changed it, so run it again") from None
                if error.status != 404:
                    raise
        self._ours.pop(kept.where, None)


def default_instance(params: dict[str, Any]) -> str:
    """Give the label's value for the MLflow that a module's options name."""
    service = params.get("service")
    text = f"{service['namespace']}.{service['name']}" if service else urlsplit(params.get("url") or "").netloc
    return re.sub(r"[^A-Za-z0-9_.-]", "-", text)[:63].strip("-._") or "mlflow"


def ensure(accounts: Accounts, wanted: Wanted, *, instance: str, former: Iterable[str] = ()) -> list[dict[str, Any]]:
    """Deliver what is declared, and remove what is not.

    Args:
        instance: which MLflow it is, as the Secrets' label has it.
        former: what that label was before.

    Returns:
        names and dates of what was delivered.

    Raises:
        MlflowError: a Secret was not made here, or MLflow refuses something.
    """
    tokens = Tokens(accounts, wanted.kind, instance=instance, former=former, issued_after=wanted.issued_after)
    tokens.look(wanted.deliveries, every=wanted.exclusive or wanted.absent, owners=wanted.owners)
    places = {each.where for each in wanted.deliveries}
    gone = tokens.undeclared(places, None if wanted.exclusive else wanted.owners)
    if not wanted.deliveries and not wanted.revoked and not gone:
        return []
    accounts.api.require_admin()
    for each in wanted.deliveries:
        _ensure_account(accounts, each)
    accounts.send()
    results = tokens.ensure(wanted.deliveries)
    users = {accounts.key(each.user) for each in wanted.deliveries}
    for secret in gone:
        tokens.remove(secret, still=secret.user in users)
        account = accounts.find(secret.user)
        if wanted.remove_accounts and account and not account.admin and secret.user not in users | tokens.users():
            accounts.remove(account, f"service account {secret.user}")
    for user, name in wanted.revoked:
        tokens.revoke(user, name, f"{wanted.kind} {user}/{name}")
    tokens.revoke_strays(wanted.deliveries)
    accounts.send()
    return results


def _ensure_account(accounts: Accounts, want: Delivery) -> None:
    """Make the account of a client; that of a token has to be there."""
    account = accounts.find(want.user)
    if want.kind == "token":
        if account is None and not accounts.changes.check_mode:
            raise MlflowError(f"tokens: there is no account {want.user}, so make it first, by mlflow_user")
    elif account is None:
        accounts.ensure({"name": want.user, "display_name": want.user}, service=True)
    elif account.service is False:
        raise MlflowError(
            f"client {want.owner}: the account {want.user} is a user's, and a program gets one of its own: "
            "give another user"
        )


def run_deliveries(module: Any, option: str, read: Callable[[dict[str, Any]], Wanted]) -> None:
    """Run the module of clients or of tokens.

    Args:
        option: how it calls what was delivered.
        read: reads the module's options.
    """
    params = module.params

    def work(api: MlflowApi) -> dict[str, Any]:
        changes = Changes(module.check_mode)
        instance = params["instance"] or default_instance(params)
        former = params.get("former_instances") or ()
        found = ensure(Accounts(api, changes), read(params), instance=instance, former=former)
        return {**changes.result(), option: found}

    def nothing_yet() -> dict[str, Any]:
        changes = read(params).sentences()
        return {"changed": bool(changes), "changes": changes, option: []}

    run(module, work, nothing_yet)
