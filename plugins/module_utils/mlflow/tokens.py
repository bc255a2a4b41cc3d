# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Access tokens of MLflow's accounts, and the Secrets of the cluster that they are delivered in.

mlflow-oidc-auth has tokens: several an account, each with a name and an end. A renewed one is another token, so that
the old one is honoured for as long as programs may still hold it. MLflow's basic-auth has one password an account: a
renewed one replaces it at once, in MLflow first and in all its Secrets right after.

What is in a Secret of ours is told by its labels and annotations, never by its name alone.
"""

from __future__ import annotations

import base64
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
    MERGE_PATCH,
    ApiError,
    KubeError,
    quoted,
)
from ansible_collections.mlops.mlflow.plugins.module_utils.mlflow.accounts import PASSWORD_LENGTH, USERS, Accounts
from ansible_collections.mlops.mlflow.plugins.module_utils.mlflow.client import Changes, MlflowApi, MlflowError, segment

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
LONGEST_LIFETIME = 365  # days that mlflow-oidc-auth gives a token


def delivery_options(**own: Any) -> dict[str, Any]:
    """Give the options of a list of what gets tokens.

    :param own: those that one module has alone
    """
    return {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            **own,
            "lifetime_days": {"type": "int", "default": 90},
            "renew_before_days": {"type": "int", "default": 30},
            "grace_days": {"type": "int", "default": 7},
            "take_over": {"type": "bool", "default": False},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
    }


@dataclass
class Delivery:
    """A token that is to be in a Secret.

    :param kind: C(client) or C(token), which module's Secret it is
    :param owner: whose it is, such as the client's name
    :param user: the account
    :param token: the token's name, to which the date is added
    :param values: further keys of the Secret
    :param password_key: the Secret's key of the token
    :param lifetime: days, as C(renew_before) and C(grace)
    :param take_over: whether basic-auth may set the password of an account that was there before
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


@dataclass
class Kept:
    """A Secret as it is."""

    namespace: str
    name: str
    version: str
    labels: dict[str, str]
    annotations: dict[str, str]
    data: dict[str, bytes] = field(repr=False)
    immutable: bool = False

    @property
    def where(self) -> str:
        """How messages call it."""
        return f"{self.namespace}/{self.name}"

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


def _kept(found: dict[str, Any]) -> Kept:
    metadata = found["metadata"]
    return Kept(
        metadata["namespace"],
        metadata["name"],
        metadata["resourceVersion"],
        metadata.get("labels") or {},
        metadata.get("annotations") or {},
        {key: base64.b64decode(value or "") for key, value in (found.get("data") or {}).items()},
        bool(found.get("immutable")),
    )


def _digest(value: str) -> str:
    # Of a value that is long and random, so that its digest tells nothing.
    return hashlib.sha256(value.encode()).hexdigest()[:16]


def _time(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _day(moment: datetime | None) -> str:
    return moment.strftime("%Y-%m-%d") if moment else "never"


def check(deliveries: list[Delivery], option: str) -> None:
    """Find what is wrong in what is declared before anything is asked.

    :raises MlflowError: in one sentence, what and where
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


def all_issued(deliveries: list[Delivery], option: str) -> dict[str, Any]:
    """Give what a module returns in check mode where MLflow does not run yet."""
    sentences = [f"{each.thing}: token issued" for each in deliveries]
    return {"changed": bool(sentences), "changes": sentences, option: []}


class Tokens:
    """Delivers tokens.

    :param accounts: the accounts of the server
    :param kind: which Secrets are looked at
    :param instance: which MLflow it is, as the Secrets' label has it
    :param former: what that label was before, for Secrets that are taken over where they are declared
    :param now: gives the time; for tests
    """

    def __init__(
        self,
        api: MlflowApi,
        changes: Changes,
        accounts: Accounts,
        kind: str,
        *,
        instance: str,
        former: Iterable[str] = (),
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        if not LABEL.fullmatch(instance):
            raise MlflowError(f"instance is '{instance}', and must be a value of a label of Kubernetes")
        self._api = api
        self._changes = changes
        self._accounts = accounts
        self._labels = {MANAGED_BY: FIELD_MANAGER, KIND: kind, INSTANCE: instance}
        self._instances = [instance, *(each for each in former if LABEL.fullmatch(each) and each != instance)]
        self._now = now
        self._ours: dict[str, Kept] = {}
        self._seen: dict[str, Kept | None] = {}
        self._rows: dict[str, list[dict[str, Any]]] = {}

    # Secrets

    def look(self, deliveries: list[Delivery], every: bool, owners: Iterable[str] = ()) -> None:
        """Find the Secrets of ours in the whole cluster, in one request, and see that those declared are ours to write.

        :param every: whether all of them must be known; else it does no harm if they may not be listed
        :param owners: whose Secrets with a former label are ours too
        :raises MlflowError: a Secret is somebody else's, or its namespace is not there
        """
        fixed = [f"{key}={value}" for key, value in sorted(self._labels.items()) if key != INSTANCE]
        selector = ",".join([*fixed, f"{INSTANCE} in ({','.join(self._instances)})"])
        try:
            found = self._api.cluster.get("/api/v1/secrets", labelSelector=selector).get("items") or []
            self._ours = {
                each.where: each
                for each in map(_kept, found)
                if each.labels[INSTANCE] == self._labels[INSTANCE] or each.annotations.get(OWNER) in set(owners)
            }
        except ApiError as error:
            if error.status != 403 or every:
                raise
        for want in deliveries:
            self._seen[want.where] = self._read(want)

    def undeclared(self, places: set[str], owners: set[str] | None) -> list[Kept]:
        """Give the Secrets of ours that are at none of these places.

        :param places: namespace/name of those that are declared
        :param owners: whose are looked at; None are everybody's
        """
        return [
            each
            for where, each in sorted(self._ours.items())
            if where not in places and (owners is None or each.annotations.get(OWNER) in owners)
        ]

    def users(self) -> set[str]:
        """Give the accounts whose credentials are in Secrets of ours."""
        return {each.user for each in self._ours.values()}

    def _path(self, namespace: str, name: str = "") -> str:
        return f"/api/v1/namespaces/{quoted(namespace)}/secrets" + (f"/{quoted(name)}" if name else "")

    def _read(self, want: Delivery) -> Kept | None:
        """Give the Secret of a delivery, and see that it is ours to write.

        :raises MlflowError: it is somebody else's, or its namespace is not there
        """
        kept = self._ours.get(want.where)
        if kept is None:
            found = self._api.cluster.find(self._path(want.namespace, want.secret))
            kept = _kept(found) if found else None
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

    def _write(self, want: Delivery, kept: Kept | None, data: dict[str, str], annotations: dict[str, str]) -> None:
        encoded = {key: base64.b64encode(value.encode()).decode("ascii") for key, value in data.items()}
        metadata: dict[str, Any] = {"labels": self._labels, "annotations": annotations}
        try:
            if kept is None:
                metadata.update(name=want.secret, namespace=want.namespace)
                body = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": encoded}
                method, path, form = "POST", self._path(want.namespace), "application/json"
            else:
                metadata["resourceVersion"] = kept.version
                body = {"metadata": metadata, "data": encoded}
                method, path, form = "PATCH", self._path(want.namespace, want.secret), MERGE_PATCH
            written = self._api.cluster.json(
                method, path, query={"fieldManager": FIELD_MANAGER}, body=body, content_type=form
            )
        except ApiError as error:
            if error.status == 409:
                raise MlflowError(
                    f"{want.thing}: somebody else has just written that Secret, so run it again"
                ) from None
            # What the API server says of a body it does not take may hold a value.
            raise KubeError(f"Secret {want.where} cannot be written, the API server answers {error.status}") from None
        self._ours[want.where] = _kept(written)

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
        """See that each Secret that was looked at holds a token that is good for long enough.

        :returns: for each, its names and dates
        :raises MlflowError: MLflow refuses
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
        if name not in self._rows:
            found = self._api.find(f"{USERS}/{segment(name)}/tokens", what=f"list the tokens of {user}")
            self._rows[name] = found["tokens"] if found else []
        dated = re.compile(re.escape(base) + DATED)
        return [row for row in self._rows[name] if dated.fullmatch(row["name"])]

    def _why(self, want: Delivery, kept: Kept | None, value: str, expires: datetime | None) -> str:
        """Say in a few words why a credential is due; empty where it is not."""
        if kept is None or not value:
            return f"there is no {want.password_key} in it" if kept else "there is none"
        if kept.annotations.get(DIGEST) != _digest(value):
            return "it was changed by somebody else"
        if expires is None:
            return "MLflow no longer has it"
        left = expires - self._now()
        if left <= timedelta(days=want.renew_before):
            return f"it ends on {_day(expires)}" if left > timedelta(0) else f"it ended on {_day(expires)}"
        if left > timedelta(days=want.lifetime + 1):
            return f"it would live until {_day(expires)}"
        return ""

    def _ensure_token(self, want: Delivery, kept: Kept | None) -> dict[str, Any]:
        value = kept.text(want.password_key) if kept else ""
        prefix = PREFIX.fullmatch(value)
        # An account that check mode did not make has no tokens.
        rows = self._tokens(want.user, want.token) if self._accounts.find(want.user) else []
        current = next((row for row in rows if prefix and row["token_prefix"] == prefix[1]), None)
        expires = _time(current["expires_at"]) if current else None
        why = self._why(want, kept, value, expires)
        if why:
            return self._renew_token(want, kept, expires, why)
        issued = _time(current["created_at"]) if current else None
        if kept:
            self._align(want, kept, issued, expires)
        if issued and self._now() - issued >= timedelta(days=want.grace):
            for row in rows:
                if row is not current:
                    self._delete_token(want.user, row, want.thing)
        return self._result(want, expires, renewed=False)

    def _renew_token(self, want: Delivery, kept: Kept | None, expired: datetime | None, why: str) -> dict[str, Any]:
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
                # Nobody has it, and nobody is to.
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

    def _align(self, want: Delivery, kept: Kept, issued: datetime | None, expires: datetime | None) -> None:
        """Put right what is in a Secret beside the token."""
        value = kept.text(want.password_key)
        before = {key: kept.text(key) or None for key, wanted in want.values.items() if kept.text(key) != wanted}
        annotations = self._annotations(want, value, issued=issued, expires=expires)
        for name in (ISSUED, EXPIRES):  # told to people only; MLflow knows them to the microsecond
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

    def _ensure_password(self, user: str, found: list[tuple[Delivery, Kept | None]]) -> list[dict[str, Any]]:
        """See that all Secrets of an account hold the one password that it has."""
        newest: tuple[datetime, str, datetime, Kept, Delivery] | None = None
        for want, kept in found:
            issued = _time(kept.annotations.get(ISSUED, "")) if kept else None
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
        self, user: str, found: list[tuple[Delivery, Kept | None]], why: str, is_known: bool
    ) -> list[dict[str, Any]]:
        first = found[0][0]
        if not is_known and not any(want.take_over for want, _kept in found):
            raise MlflowError(
                f"{first.thing}: there is an account {user} already, and no Secret of this {first.kind}'s holds its "
                "password: with take_over: true it gets another one, which locks out whoever has it now"
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

    def remove(self, kept: Kept, still: bool = False) -> None:
        """Revoke what a Secret of ours holds, then remove the Secret.

        :param still: whether the account is still declared, and gets another password
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
                    self._path(kept.namespace, kept.name),
                    body={
                        "apiVersion": "v1",
                        "kind": "DeleteOptions",
                        "preconditions": {"resourceVersion": kept.version},
                    },
                )
            except ApiError as error:
                if error.status == 409:
                    raise MlflowError(f"{thing}: somebody else has just written that Secret, so run it again") from None
                if error.status != 404:
                    raise
        self._ours.pop(kept.where, None)


def default_instance(params: dict[str, Any]) -> str:
    """Give the label's value for the MLflow that a module's options name."""
    service = params.get("service")
    text = f"{service['namespace']}.{service['name']}" if service else urlsplit(params.get("url") or "").netloc
    return re.sub(r"[^A-Za-z0-9_.-]", "-", text)[:63].strip("-._") or "mlflow"
