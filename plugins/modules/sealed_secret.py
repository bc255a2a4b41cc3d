#!/usr/bin/python
# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module C(sealed_secret)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: sealed_secret
short_description: Seals a Secret for Sealed Secrets - in the cluster, in a file for git, or both
version_added: 0.1.0
author: mlops.mlflow maintainers (@mlops-mlflow)
description:
  - Ensures a SealedSecret, in Python and without C(kubeseal).
  - Sealing the same value twice gives two texts. This module compares values - with the Secret in the cluster, or with
    a keyed digest that is kept beside the file - and a key of which the value stays keeps its sealed text.
  - A Secret that stands alone is taken over. Its labels, annotations and all its keys, named or not, become part of the
    SealedSecret, since the controller would drop what that lacks.
  - Where a key was changed in the Secret after the controller had unsealed it, O(keys) decides, and else the changed
    value is sealed.
  - Keys, labels and annotations of a SealedSecret that are not named are kept.
  - Values stay within the module's process. It returns names, never values, in messages and differences too.
options:
  name:
    description: Name of the SealedSecret, and of the Secret that comes of it.
    type: str
    required: true
  namespace:
    description: Namespace of both. It must be there, unless O(apply=false).
    type: str
    required: true
  state:
    description:
      - Whether it is to be there.
      - V(absent) removes the SealedSecret, with it the Secret that it owns, and the file at O(path).
    type: str
    choices: [present, absent]
    default: present
  keys:
    description:
      - Keys by name. Each is a dictionary with exactly one source.
      - V(env) is the name of an environment variable, V(file) the path of a file of which one newline at the end is
        left out, and V(value) the value itself. Environment and files are those of the host on which the module runs.
      - V(secret) is a dictionary with V(name), V(key) and V(namespace) of a Secret in the cluster; by default the key
        and the namespace are those that are sealed.
      - V(generate) is V(password) (letters and digits), V(hex) (hexadecimal digits), or V(fernet) (a key of the Python
        library cryptography). V(length) is the number of characters, from 8 to 1024; by default 32 for V(password) and
        64 for V(hex). A key that is there is never generated again.
      - Without any, the keys of the Secret that is there are sealed.
    type: dict
    default: {}
  type:
    description: Type of the Secret. It can't be changed later. By default that of the one that is there, or V(Opaque).
    type: str
  labels:
    description: Labels that the Secret and the SealedSecret carry.
    type: dict
    default: {}
  annotations:
    description: Annotations that the Secret and the SealedSecret carry.
    type: dict
    default: {}
  immutable:
    description: Whether the Secret is immutable. This can't be undone. By default it is left as it is.
    type: bool
  scope:
    description:
      - Where the sealed values may be opened - under this name and namespace, under any name in this namespace, or
        anywhere in the cluster.
    type: str
    choices: [strict, namespace-wide, cluster-wide]
    default: strict
  certificate:
    description:
      - The certificate to seal with, as the path of a file or as a PEM text.
      - By default the controller's newest one, which is fetched through the API server.
    type: str
  controller_namespace:
    description: Namespace of the controller.
    type: str
    default: sealed-secrets
  controller_name:
    description: Name of the controller's Service.
    type: str
    default: sealed-secrets-controller
  apply:
    description:
      - Whether the SealedSecret is to be in the cluster. Otherwise it is only written to O(path).
      - With V(false) and O(certificate), no cluster is contacted.
    type: bool
    default: true
  path:
    description:
      - A file to write the SealedSecret to; its folder is made. It is for git, and holds nothing secret.
      - With O(apply=true) it holds what is in the cluster. Where the cluster has neither the SealedSecret nor the
        Secret, the file is applied, so that a new cluster gets the values of the old one.
    type: path
  digest_key:
    description:
      - A secret of at least 16 bytes, as a dictionary with one of V(env), V(file) and V(value).
      - With it, digests (HMAC-SHA256) of the values are kept in a file beside O(path), whose name ends in C(.digest),
        so that a later run without a cluster sees which values stayed.
      - Without it, such a run seals all values anew, and warns.
    type: dict
  keep_secret:
    description: Whether O(state=absent) leaves the Secret as it is, owned by nobody.
    type: bool
    default: false
  wait:
    description: Whether to wait until the controller has unsealed it. If it refuses, the module fails and says why.
    type: bool
    default: true
  wait_timeout:
    description: Seconds to wait.
    type: int
    default: 60
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - mlops.mlflow.api
requirements:
  - cryptography
attributes:
  check_mode:
    description: Reports what would be sealed and changed.
    support: full
  diff_mode:
    description: Shows the scope, the type, and the names of labels, annotations and keys; never values.
    support: full
seealso:
  - module: mlops.mlflow.sealed_files
  - module: mlops.mlflow.credentials
"""

EXAMPLES = r"""
- name: Seal a login, with a password that is generated once, and keep it in git too
  mlops.mlflow.sealed_secret:
    name: reports-login
    namespace: reports
    keys:
      username:
        value: reports
      password:
        generate: password
    labels:
      app: reports
    path: sealed/reports/reports-login.yaml

- name: Take over a Secret that somebody made by hand, with all its keys
  mlops.mlflow.sealed_secret:
    name: made-by-hand
    namespace: reports

- name: Copy a key of another Secret into a sealed one that may be opened anywhere in the namespace
  mlops.mlflow.sealed_secret:
    name: reports-database
    namespace: reports
    scope: namespace-wide
    keys:
      password:
        secret:
          name: reports-login
          key: password

- name: Seal without a cluster, as in CI
  mlops.mlflow.sealed_secret:
    name: reports-api
    namespace: reports
    keys:
      token:
        env: REPORTS_TOKEN
    certificate: sealing-certificate.pem
    apply: false
    path: sealed/reports/reports-api.yaml
    digest_key:
      env: SEALING_DIGEST_KEY

- name: Remove it, with its Secret and its file
  mlops.mlflow.sealed_secret:
    name: reports-login
    namespace: reports
    state: absent
    path: sealed/reports/reports-login.yaml
"""

RETURN = r"""
name:
  description: Name of the SealedSecret.
  returned: success
  type: str
namespace:
  description: Its namespace.
  returned: success
  type: str
scope:
  description: Its scope.
  returned: success and O(state=present)
  type: str
keys:
  description: Names of all its keys.
  returned: success and O(state=present)
  type: list
  elements: str
generated:
  description: Names of the keys of which the value was generated now.
  returned: success and O(state=present)
  type: list
  elements: str
sealed:
  description: Names of the keys that were sealed now.
  returned: success and O(state=present)
  type: list
  elements: str
taken_over:
  description: Whether a Secret that stood alone was taken over.
  returned: success and O(state=present)
  type: bool
certificate:
  description: SHA-256 of the certificate that was sealed with; empty where nothing was.
  returned: success and O(state=present)
  type: str
path:
  description: The file that holds it.
  returned: success and O(path) was given
  type: str
synced:
  description: Whether the controller is known to have unsealed it as it is now.
  returned: success and O(state=present)
  type: bool
"""

import base64
import os
import time
from dataclasses import dataclass, field
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.mlflow.plugins.module_utils.credentials.generated import (
    KEY,
    NAME,
    NAMESPACE,
    generate,
    read_generate,
)
from ansible_collections.mlops.mlflow.plugins.module_utils.credentials.supplied import (
    HIDDEN,
    WrongInputError,
    plain_texts,
    read_supplied,
    redacted,
)
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.client import (
    FIELD_MANAGER,
    MERGE_PATCH,
    Api,
    ApiError,
    KubeError,
    auth_argument_spec,
    connect,
    quoted,
    unmask,
)
from ansible_collections.mlops.mlflow.plugins.module_utils.sealing import files as sealed_files
from ansible_collections.mlops.mlflow.plugins.module_utils.sealing.controller import SERVICE, Controller, edited, synced
from ansible_collections.mlops.mlflow.plugins.module_utils.sealing.crypto import (
    KIND,
    SCOPES,
    STRICT,
    Certificate,
    SealingError,
    bare,
    dump,
    label,
    load,
    manifest,
    scope_annotations,
    scope_of,
    seal,
    without_scope,
)

ATTEMPTS = 10  # how often all is read again because somebody else wrote it at the same time
SHORTEST_DIGEST_KEY = 16  # bytes
LARGEST = 1024 * 1024  # bytes of a Secret, as the API server takes it
SOURCES = ("env", "file", "value", "secret", "generate")
PEM = "-----BEGIN"


class Changed(Exception):
    """Somebody else wrote between our reading and our writing: read again."""


@dataclass
class Key:
    """How a key gets its value: supplied, or from another Secret, or else what is there, or else generated."""

    name: str
    supplied: bytes | None = field(default=None, repr=False)
    secret: tuple[str, str, str] | None = None  # namespace, name, key
    generate: str = ""
    length: int = 0


@dataclass
class Wanted:
    """The SealedSecret that is asked for."""

    namespace: str
    name: str
    keys: list[Key]
    type: str
    labels: dict[str, str]
    annotations: dict[str, str]
    immutable: bool | None
    scope: str
    path: str
    digest_key: bytes | None = field(default=None, repr=False)

    @property
    def where(self) -> str:
        """What to call it in messages."""
        return f"{self.namespace}/{self.name}"


@dataclass
class Outcome:
    """What was done."""

    changed: bool = False
    keys: list[str] = field(default_factory=list)
    sealed: list[str] = field(default_factory=list)
    generated: list[str] = field(default_factory=list)
    taken_over: bool = False
    certificate: str = ""
    synced: bool = False
    before: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


# --- what is asked for ------------------------------------------------------------------------------------------------


def parse_key(name: Any, given: Any, namespace: str) -> Key:
    """Read one entry of the option keys.

    :raises WrongInputError: it is not as documented, or what it names is not there
    """
    if not isinstance(name, str) or not KEY.fullmatch(name):
        raise WrongInputError(f"'{name}' is no name of a key: it has letters, digits, '-', '_' and '.' only")
    where = f"keys.{name}"
    sources = [each for each in SOURCES if each in given] if isinstance(given, dict) else []
    if not isinstance(given, dict) or len(sources) != 1 or set(given) - {*sources, "length"}:
        has = f", not {', '.join(sorted(map(str, given)))}" if isinstance(given, dict) and given else ""
        raise WrongInputError(f"{where} must be a dictionary with exactly one of {', '.join(SOURCES)}{has}")
    source = sources[0]
    if "length" in given and source != "generate":
        raise WrongInputError(f"{where}: length needs generate")
    if source == "generate":
        kind, length = read_generate(where, given)
        return Key(name, generate=kind, length=length)
    if source != "secret":
        return Key(name, supplied=read_supplied(where, given))
    other = given["secret"]
    if (
        not isinstance(other, dict)
        or "name" not in other
        or set(other) - {"name", "namespace", "key"}
        or not all(isinstance(each, str) for each in other.values())
    ):
        raise WrongInputError(f"{where}.secret must be a dictionary with name, and perhaps namespace and key")
    place = (other.get("namespace", namespace), other["name"], other.get("key", name))
    for value, pattern, what in zip(place, (NAMESPACE, NAME, KEY), ("namespace", "Secret", "key"), strict=True):
        if not pattern.fullmatch(value):
            raise WrongInputError(f"{where}.secret: '{value}' is no name of a {what}")
    return Key(name, secret=place)


def _texts(option: str, given: dict[Any, Any]) -> dict[str, str]:
    """Read a dictionary of texts.

    :raises WrongInputError: it has something else
    """
    for name, value in given.items():
        if not isinstance(value, (str, int, float, bool)):
            raise WrongInputError(f"{option}.{name} must be a text")
    return {str(name): str(value).lower() if isinstance(value, bool) else str(value) for name, value in given.items()}


def parse(params: dict[str, Any]) -> Wanted:
    """Read the module's options.

    :raises WrongInputError: in one sentence, what is wrong with them
    """
    name, namespace = params["name"], params["namespace"]
    if not NAME.fullmatch(name):
        raise WrongInputError(f"name is '{name}': a Secret's name has lower-case letters, digits, '-' and '.'")
    if not NAMESPACE.fullmatch(namespace):
        raise WrongInputError(
            f"namespace is '{namespace}': a namespace's name has up to 63 lower-case letters, digits and '-'"
        )
    for option in ("controller_namespace", "controller_name"):
        if not NAMESPACE.fullmatch(params[option]):
            raise WrongInputError(f"{option} is '{params[option]}': it has lower-case letters, digits and '-'")
    if params["wait_timeout"] < 1:
        raise WrongInputError(f"wait_timeout is {params['wait_timeout']}: seconds, at least 1")
    keys = [parse_key(key, given, namespace) for key, given in params["keys"].items()]
    annotations = _texts("annotations", params["annotations"])
    reserved = sorted(set(annotations) - set(without_scope(annotations)))
    if reserved:
        raise WrongInputError(f"annotations.{reserved[0]} is set by this module: use the option scope for scopes")
    path = os.path.expanduser(params["path"] or "")
    if path and os.path.isdir(path):
        raise WrongInputError(f"path is '{path}': a directory is there, and a file is needed")
    if params["state"] == "present" and not params["apply"]:
        if not path:
            raise WrongInputError("apply is false and path is not set: the SealedSecret would go nowhere")
        from_cluster = [key.name for key in keys if key.secret]
        if params["certificate"] and from_cluster:
            raise WrongInputError(
                f"keys.{from_cluster[0]}.secret needs a cluster, and none is asked with certificate and apply=false"
            )
    digest_key = None
    if params["digest_key"] is not None:
        digest_key = read_supplied("digest_key", params["digest_key"])
        if len(digest_key) < SHORTEST_DIGEST_KEY:
            raise WrongInputError(f"digest_key has {len(digest_key)} bytes: at least {SHORTEST_DIGEST_KEY} are needed")
    return Wanted(
        namespace=namespace,
        name=name,
        keys=keys,
        type=params["type"] or "",
        labels=_texts("labels", params["labels"]),
        annotations=annotations,
        immutable=params["immutable"],
        scope=params["scope"],
        path=path,
        digest_key=digest_key,
    )


def read_certificate(given: str) -> Certificate:
    """Read the option certificate.

    :raises SealingError: it is none, or not valid now
    """
    where = "certificate"
    text = given
    if PEM not in given:
        where = f"certificate '{given}'"
        found = sealed_files.read(os.path.expanduser(given))
        if found is None:
            raise SealingError(f"{where}: there is no such file, and it is no PEM text")
        text = found
    certificate = Certificate.from_pem(text, where)
    certificate.check(where)
    return certificate


# --- what is done about it --------------------------------------------------------------------------------------------


class Sealer:
    """Ensures a SealedSecret.

    :param wanted: what is asked for
    :param api: client of the API server; None where no cluster is to be asked
    :param controller: the controller of that cluster
    :param certificate: the one to seal with; None for the controller's
    :param check_mode: whether to write nothing
    :param wait: whether to wait until it is unsealed
    """

    def __init__(
        self,
        wanted: Wanted,
        api: Api | None,
        controller: Controller | None,
        certificate: Certificate | None,
        *,
        check_mode: bool,
        wait: bool = True,
    ) -> None:
        self._wanted = wanted
        self._api = api
        self._controller = controller
        self._certificate = certificate
        self._check_mode = check_mode
        self._wait = wait
        self._generated: dict[str, bytes] = {}
        self._others: dict[tuple[str, str, str], bytes] = {}
        self._revived = False
        self.outcome = Outcome()

    # --- reading

    def _file(self) -> dict[str, Any] | None:
        """Read the sealed file; None where there is none.

        :raises SealingError: it holds something else
        """
        wanted = self._wanted
        text = sealed_files.read(wanted.path) if wanted.path else None
        if text is None:
            return None
        sealed = load(text, f"the file {wanted.path}")
        its = f"{sealed['metadata'].get('namespace') or wanted.namespace}/{sealed['metadata']['name']}"
        if its != wanted.where:
            raise SealingError(
                f"the file {wanted.path} holds SealedSecret {its}, and not {wanted.where}: take another path, or "
                "remove the file"
            )
        return sealed

    def _secret(self, namespace: str, name: str) -> dict[str, Any] | None:
        if self._api is None:
            return None
        return self._api.find(f"/api/v1/namespaces/{quoted(namespace)}/secrets/{quoted(name)}")

    def _declared(self, key: Key) -> bytes | None:
        """Give the value that wins over what is there; None where what is there stays."""
        if key.secret is None:
            return key.supplied
        if key.secret not in self._others:
            namespace, name, inner = key.secret
            found = self._secret(namespace, name)
            if found is None:
                sentence = f"keys.{key.name}.secret names Secret {namespace}/{name}, which is not there"
                if not self._check_mode:
                    raise KubeError(sentence)
                self.outcome.warnings.append(f"{sentence}: it has to be made first")  # by an earlier task, perhaps
            data = {inner: b"not known yet"} if found is None else _data(found)
            if not data.get(inner):
                raise KubeError(
                    f"keys.{key.name}.secret names the key {inner} of Secret {namespace}/{name}: "
                    f"it has {', '.join(sorted(each for each in data if data[each])) or 'no keys'}"
                )
            self._others[key.secret] = data[inner]
        return self._others[key.secret]

    def _fresh(self, key: Key) -> bytes:
        return self._generated.setdefault(key.name, generate(key.generate, key.length))

    # --- what belongs into the SealedSecret

    def _build(
        self, base: dict[str, Any] | None, secret: dict[str, Any] | None, encrypted: dict[str, str]
    ) -> dict[str, Any]:
        """Build the SealedSecret from the one that is there or else from a Secret that stands alone."""
        wanted = self._wanted
        metadata = (secret or {}).get("metadata") or {}
        if base is None:
            base = manifest(
                wanted.namespace,
                wanted.name,
                {},
                type=wanted.type or (secret or {}).get("type") or "Opaque",
                labels=metadata.get("labels"),
                annotations=without_scope(metadata.get("annotations")),
                immutable=bool((secret or {}).get("immutable")),
            )
        sealed = bare(base)
        sealed["metadata"]["namespace"] = wanted.namespace
        template = sealed["spec"].setdefault("template", {}) or {}
        sealed["spec"]["template"] = template
        inner = template.get("metadata") or {}
        template["metadata"] = inner
        if wanted.type and (template.get("type") or "Opaque") != wanted.type:
            template["type"] = wanted.type
        if wanted.immutable is not None and bool(template.get("immutable")) != wanted.immutable:
            template["immutable"] = wanted.immutable
        if scope_of(sealed) != wanted.scope:
            for each in (sealed["metadata"], inner):
                each["annotations"] = {**without_scope(each.get("annotations")), **scope_annotations(wanted.scope)}
        for kind, asked in (("labels", wanted.labels), ("annotations", wanted.annotations)):
            own, its = sealed["metadata"].get(kind) or {}, inner.get(kind) or {}
            # One that 'kubeseal' made has labels in its template alone, and stays so as long as they are as asked for.
            own |= {name: value for name, value in asked.items() if name in own or its.get(name) != value}
            for each, told in ((sealed["metadata"], own), (inner, {**its, **asked})):
                each.pop(kind, None)
                if told:
                    each[kind] = told
        sealed["spec"]["encryptedData"] = encrypted
        return sealed

    def _seal(self, values: dict[str, bytes]) -> dict[str, str]:
        """Seal values, unless none is there."""
        if not values:
            return {}
        wanted = self._wanted
        certificate = self._certificate
        if certificate is None:
            assert self._controller is not None  # noqa: S101  there is one, or a certificate
            certificate = self._controller.certificate()
        self.outcome.certificate = certificate.fingerprint
        bound_to = label(wanted.scope, wanted.namespace, wanted.name)
        return {key: seal(certificate, value, bound_to) for key, value in values.items()}

    def _check_secret(self, secret: dict[str, Any], values: dict[str, bytes]) -> None:
        """See that a Secret can become what is asked for.

        :raises KubeError: of what cannot be changed, something would have to be
        """
        wanted, where = self._wanted, f"Secret {self._wanted.where}"
        its = secret.get("type") or "Opaque"
        if wanted.type and wanted.type != its:
            raise KubeError(
                f"{where} is of type {its} and must be {wanted.type}, which cannot be changed: delete it first"
            )
        if secret.get("immutable"):
            data = _data(secret)
            other = sorted(key for key, value in values.items() if data.get(key) != value)
            if other:
                raise KubeError(f"{where} is immutable, so that its key {other[0]} cannot be written: delete it first")
            if wanted.immutable is False:
                raise KubeError(f"{where} is immutable, which cannot be undone: delete it first")
        for owner in secret["metadata"].get("ownerReferences") or []:
            if owner.get("controller") and owner.get("kind") != KIND:
                raise KubeError(
                    f"{where} belongs to {owner.get('kind')} {owner.get('name')}, which would write it again: remove "
                    "that first"
                )

    def _too_large(self, values: dict[str, bytes]) -> None:
        total = sum(map(len, values.values()))
        if total > LARGEST:
            raise KubeError(
                f"the values of {self._wanted.where} have {total} bytes, and a Secret has {LARGEST} at most"
            )

    # --- in the cluster

    def ensure(self) -> None:
        """Ensure the SealedSecret in the cluster, and its file.

        :raises KubeError, SealingError: in one sentence, why it cannot be
        """
        for _attempt in range(ATTEMPTS):
            try:
                self._ensure_once()
            except Changed:
                continue
            return
        raise KubeError(
            f"SealedSecret {self._wanted.where} or its Secret is written by somebody else all the time: "
            f"gave up after {ATTEMPTS} attempts"
        )

    def _ensure_once(self) -> None:
        assert self._controller is not None  # noqa: S101  apply is true
        wanted, controller = self._wanted, self._controller
        file = self._file()
        sealed = controller.find(wanted.namespace, wanted.name)
        secret = self._secret(wanted.namespace, wanted.name)
        declared = {key.name: self._declared(key) for key in wanted.keys}
        complete = {name for name, value in declared.items() if value is not None}
        if sealed is None and secret is None:
            if file is not None and not set(file["spec"]["encryptedData"]) <= complete:
                self._restore(file)
                return
            self._check_namespace()
        elif sealed is not None:
            from_sealed = set(sealed["spec"].get("encryptedData") or {}) - _dropped(sealed)
            if (secret is None or from_sealed - set(_data(secret))) and not from_sealed <= complete:
                self._revive(sealed)
                return
            sealed = self._settled(sealed)
        self._bring_in_line(file, sealed, secret, declared)

    def _settled(self, sealed: dict[str, Any]) -> dict[str, Any]:
        """Give a SealedSecret that the controller has looked at.

        :raises Changed: it had not yet, so that there may be another Secret by now
        """
        assert self._controller is not None  # noqa: S101  apply is true
        if synced(sealed)[0] or self._check_mode or not self._wait:
            return sealed
        wanted = self._wanted
        try:
            self._controller.wait_synced(wanted.namespace, wanted.name)
        except KubeError:
            found = self._controller.find(wanted.namespace, wanted.name)
            if found is None or synced(found)[0] != "False":
                raise
            return found
        raise Changed

    def _bring_in_line(
        self,
        file: dict[str, Any] | None,
        sealed: dict[str, Any] | None,
        secret: dict[str, Any] | None,
        declared: dict[str, bytes | None],
    ) -> None:
        """Compare what is there with what is asked for, and write what differs."""
        assert self._controller is not None  # noqa: S101  apply is true
        wanted, outcome, controller = self._wanted, self.outcome, self._controller
        there = _data(secret)
        values = self._values(declared, there, sealed)
        if secret is not None:
            self._check_secret(secret, values)
        self._too_large(values)
        controlled = secret is not None and sealed is not None and _controlled(secret, sealed)
        fit = (
            sealed is not None
            and scope_of(sealed) == wanted.scope
            and synced(sealed)[0] != "False"
            and (controlled or secret is None)
        )
        kept = dict(sealed["spec"].get("encryptedData") or {}) if sealed is not None and fit else {}
        by_hand = edited(secret, sealed) if secret is not None and sealed is not None else set()
        anew = {
            key: value
            for key, value in values.items()
            if key not in kept or there.get(key) != value or (key in by_hand)
        }
        encrypted = {**kept, **self._seal(anew)}
        target = self._build(sealed, secret, encrypted)
        taken_over = secret is not None and not controlled
        freeze = bool(wanted.immutable) and secret is not None and not secret.get("immutable")
        write = sealed is None or target != bare(sealed)

        if write and self._certificate is not None and not controller.opens(target):
            raise SealingError(
                f"certificate is not one of {controller.where}, which could not open what it sealed: fetch the newest "
                "one, or leave the option out"
            )
        self._note(sealed, target, anew, taken_over)
        outcome.changed = outcome.changed or write or taken_over or freeze
        outcome.synced = sealed is not None and not write and not taken_over and synced(sealed)[0] == "True"
        if self._check_mode:
            self._write_file(file, target, values)
            return
        try:
            if taken_over and secret is not None:
                controller.take_over(wanted.namespace, wanted.name, secret["metadata"]["resourceVersion"])
            if sealed is None:
                sealed = controller.create(target)
            elif write or taken_over:
                sealed = self._replace(sealed, target)
        except ApiError as error:
            if error.status in (404, 409):
                raise Changed from None
            raise
        if self._wait:
            if not outcome.synced:
                sealed = self._wait_for(values)
            if freeze:
                self._freeze()
        self._write_file(file, bare(sealed), values)

    def _wait_for(self, values: dict[str, bytes]) -> dict[str, Any]:
        """Wait until the Secret holds the values, and give the SealedSecret.

        :raises Changed: it holds others, which somebody else has written
        """
        assert self._controller is not None  # noqa: S101  apply is true
        sealed = self._controller.wait_synced(self._wanted.namespace, self._wanted.name)
        after = _data(self._secret(self._wanted.namespace, self._wanted.name))
        if any(after.get(key) != value for key, value in values.items()):
            raise Changed
        self.outcome.synced = True
        return sealed

    def _replace(self, sealed: dict[str, Any], target: dict[str, Any]) -> dict[str, Any]:
        """Write the SealedSecret over the one that is there, and have the controller look at it again."""
        assert self._controller is not None  # noqa: S101  callers have one
        if target["spec"] == bare(sealed)["spec"]:
            # It looks at a new specification only, and that a Secret may be taken over is none.
            target = self._controller.reencrypt(target, f"SealedSecret {self._wanted.where}")
        # What others have set on it stays, such as finalizers.
        own = {each: value for each, value in sealed["metadata"].items() if each in ("finalizers", "ownerReferences")}
        target = {**target, "metadata": {**own, **target["metadata"]}}
        return self._controller.replace(target, sealed["metadata"]["resourceVersion"])

    def _values(
        self, declared: dict[str, bytes | None], there: dict[str, bytes], sealed: dict[str, Any] | None
    ) -> dict[str, bytes]:
        """Decide on the values: of what is named, and of what is there beside it."""
        wanted, rendered = self._wanted, _rendered(sealed)
        values = {name: value for name, value in there.items() if name not in rendered}
        for key in wanted.keys:
            value = declared[key.name] or there.get(key.name)
            if not value:
                value = self._fresh(key)
            values[key.name] = value
        if not values:
            raise KubeError(
                f"Secret {wanted.where} is not there, and keys names none: name at least one key with its source"
            )
        return values

    def _check_namespace(self) -> None:
        """See that the namespace is there.

        :raises KubeError: it is not; in check mode it is only warned of, since an earlier task may be to make it
        """
        assert self._api is not None  # noqa: S101  apply is true
        namespace = self._wanted.namespace
        try:
            found = self._api.find(f"/api/v1/namespaces/{quoted(namespace)}")
        except ApiError as error:
            if error.status != 403:  # who works in a namespace that somebody else made may not see it
                raise
            return
        if found is not None and not found["metadata"].get("deletionTimestamp"):
            return
        state = "is not there" if found is None else "is being deleted"
        if not self._check_mode:
            raise KubeError(f"namespace is '{namespace}', which {state}: make the namespace first")
        self.outcome.warnings.append(f"namespace is '{namespace}', which {state}: it has to be made first")

    def _restore(self, file: dict[str, Any]) -> None:
        """Apply the file in a cluster that has neither the SealedSecret nor the Secret."""
        assert self._controller is not None  # noqa: S101  apply is true
        wanted, outcome = self._wanted, self.outcome
        self._check_namespace()
        here = bare(file)
        here["metadata"]["namespace"] = wanted.namespace
        if not self._controller.opens(here):
            raise SealingError(
                f"the file {wanted.path} cannot be opened by {self._controller.where}: it was sealed for another name, "
                "namespace or scope, or by a key that is not here; restore the keys with "
                "playbooks/sealing_keys_restore.yml, or remove the file to have new values"
            )
        outcome.changed = True
        self._note(None, file, {}, False)
        outcome.after.append(f"from file {wanted.path}")
        if self._check_mode:
            return
        try:
            self._controller.create(here)
        except ApiError as error:
            if error.status != 409:
                raise
        self._controller.wait_synced(wanted.namespace, wanted.name)
        raise Changed  # go on with what is there now

    def _revive(self, sealed: dict[str, Any]) -> None:
        """Have the controller make the Secret of a SealedSecret again, which lacks some or all of it."""
        assert self._controller is not None  # noqa: S101  apply is true
        wanted, outcome = self._wanted, self.outcome
        if not self._check_mode:
            sealed = self._controller.wait_synced(wanted.namespace, wanted.name)
            secret = self._secret(wanted.namespace, wanted.name)
            if not (set(sealed["spec"].get("encryptedData") or {}) - _dropped(sealed)) - set(_data(secret)):
                raise Changed  # it has been by now
            if self._revived:
                raise KubeError(
                    f"SealedSecret {wanted.where} was unsealed, and its Secret lacks keys of it all the same: does "
                    "somebody else write or delete it?"
                )
        self._revived = True
        outcome.changed = True
        self._note(sealed, sealed, {}, False)
        outcome.after.append("Secret made again")
        if self._check_mode:
            return
        anew = self._controller.reencrypt(sealed, f"SealedSecret {wanted.where}")
        try:
            self._replace(sealed, anew)
        except ApiError as error:
            if error.status not in (404, 409):
                raise
        raise Changed

    def _freeze(self) -> None:
        """Make the Secret immutable: the controller does so only where it makes one."""
        assert self._api is not None  # noqa: S101  apply is true
        wanted = self._wanted
        self._api.json(
            "PATCH",
            f"/api/v1/namespaces/{quoted(wanted.namespace)}/secrets/{quoted(wanted.name)}",
            query={"fieldManager": FIELD_MANAGER},
            body={"immutable": True},
            content_type=MERGE_PATCH,
        )

    # --- in a file

    def ensure_file(self) -> None:
        """Ensure the sealed file only.

        :raises KubeError, SealingError: in one sentence, why it cannot be
        """
        wanted, outcome = self._wanted, self.outcome
        file = self._file()
        sealed = None
        if self._controller is not None:
            sealed = self._controller.find(wanted.namespace, wanted.name)
        secret = self._secret(wanted.namespace, wanted.name)
        there = _data(secret)
        rendered = _rendered(sealed)
        live = (sealed or {}).get("spec", {}).get("encryptedData") or {}
        trusted = sealed is not None and secret is not None and synced(sealed)[0] == "True"
        by_hand = edited(secret, sealed) if secret is not None and sealed is not None else set()
        same_scope = file is not None and scope_of(file) == wanted.scope
        kept = dict(file["spec"]["encryptedData"]) if file is not None and same_scope else {}
        lost = set(file["spec"]["encryptedData"]) if file is not None and not same_scope else set()
        digests = sealed_files.Digests(wanted.path, wanted.digest_key, wanted.scope, wanted.namespace, wanted.name)

        values = {name: value for name, value in there.items() if name not in rendered}
        for key in wanted.keys:
            value = self._declared(key) or there.get(key.name)
            if value is None and key.name in kept:
                continue  # it was generated earlier
            if value is None and key.name in lost:
                raise SealingError(
                    f"keys.{key.name} was generated for the scope {scope_of(file or {})}, and its value is not known "
                    "here: keep the scope, supply the value, or remove the file to have a new one"
                )
            values[key.name] = value or self._fresh(key)
        unknown = sorted(lost - set(values))
        if unknown:
            raise SealingError(
                f"the scope of {wanted.path} cannot be changed without the value of its key {unknown[0]}: supply it"
            )
        if not values and not kept:
            raise KubeError(f"keys names none for {wanted.where}: name at least one key with its source")
        if secret is not None:
            self._check_secret(secret, {})
        elif file is not None and wanted.type:
            its = (file["spec"].get("template") or {}).get("type") or "Opaque"
            if its != wanted.type:
                raise SealingError(
                    f"the file {wanted.path} is of type {its} and must be {wanted.type}, which a Secret cannot change: "
                    "remove the file first"
                )
        self._too_large(values)

        def known(key: str, value: bytes) -> bool:
            if digests.holds(key, value, kept[key]):
                return True
            return trusted and live.get(key) == kept[key] and there.get(key) == value and key not in by_hand

        anew = {key: value for key, value in values.items() if key not in kept or not known(key, value)}
        compared = sorted(key for key in anew if key in kept)
        if compared and wanted.digest_key is None:
            outcome.warnings.append(
                f"digest_key is not set, so that nothing tells whether {', '.join(compared)} of {wanted.path} changed: "
                "sealed anew"
            )
        base = file if file is not None else sealed
        target = self._build(base, secret, {**kept, **self._seal(anew)})
        self._note(file, target, anew, False)
        self._write_file(file, target, values)

    # --- files and words

    def _write_file(self, file: dict[str, Any] | None, target: dict[str, Any], values: dict[str, bytes]) -> None:
        """Bring the file in line, and what is kept beside it; one that says the same in other words stays."""
        wanted, outcome = self._wanted, self.outcome
        if not wanted.path:
            return
        digests = sealed_files.Digests(wanted.path, wanted.digest_key, wanted.scope, wanted.namespace, wanted.name)
        known = {key: value for key, value in values.items() if key in target["spec"]["encryptedData"]}
        beside = digests.wanted(known, target["spec"]["encryptedData"])
        if file is None or bare(file) != bare(target):
            outcome.changed = True
            outcome.after.append(f"file {wanted.path}")
            if not self._check_mode:
                sealed_files.write(wanted.path, dump(target))
        if beside is not None:
            outcome.changed = True
            outcome.after.append(f"file {digests.path}")
            if not self._check_mode:
                sealed_files.write(digests.path, beside)

    def _note(
        self, before: dict[str, Any] | None, after: dict[str, Any], anew: dict[str, bytes], taken_over: bool
    ) -> None:
        """Note what is done in words; of several attempts, the state before the first counts."""
        outcome = self.outcome
        outcome.before = outcome.before or (_words(before) if before is not None else [])
        outcome.keys = sorted(after["spec"].get("encryptedData") or {})
        outcome.sealed = sorted({*outcome.sealed, *anew})
        outcome.generated = sorted({*outcome.generated, *(set(anew) & set(self._generated))})
        outcome.taken_over = outcome.taken_over or taken_over
        outcome.after = _words(after, set(outcome.sealed))
        if outcome.taken_over:
            outcome.after.append("a Secret that stood alone is taken over")

    def remove(self, apply: bool, keep_secret: bool) -> None:
        """Remove the SealedSecret, the Secret that it owns, and the files."""
        wanted, outcome = self._wanted, self.outcome
        if apply:
            self._remove_live(keep_secret)
        for path in (wanted.path, wanted.path + sealed_files.DIGEST) if wanted.path else ():
            if os.path.lexists(path):
                outcome.changed = True
                outcome.before.append(f"file {path}")
                if not self._check_mode:
                    sealed_files.remove(path)

    def _remove_live(self, keep_secret: bool) -> None:
        assert self._controller is not None  # noqa: S101  apply is true
        wanted, controller = self._wanted, self._controller
        sealed = controller.find(wanted.namespace, wanted.name)
        if sealed is None:
            return
        self.outcome.changed = True
        self.outcome.before = _words(sealed)
        secret = self._secret(wanted.namespace, wanted.name)
        owned = secret is not None and _controlled(secret, sealed)
        if owned and keep_secret:
            self.outcome.after = ["the Secret alone"]
        if self._check_mode:
            return
        try:
            if keep_secret:
                controller.release(wanted.namespace, wanted.name)
                return
            controller.delete(wanted.namespace, wanted.name)
        except ApiError as error:
            if error.status != 404:
                raise
        if not self._wait or not owned:
            return
        deadline = time.monotonic() + controller.timeout
        while (left := self._secret(wanted.namespace, wanted.name)) is not None and _controlled(left, sealed):
            if time.monotonic() >= deadline:
                raise KubeError(
                    f"Secret {wanted.where} is not gone {controller.timeout:g} s after its SealedSecret was deleted"
                )
            time.sleep(0.1)


def _data(secret: dict[str, Any] | None) -> dict[str, bytes]:
    return {key: base64.b64decode(value or "") for key, value in ((secret or {}).get("data") or {}).items()}


def _controlled(secret: dict[str, Any], sealed: dict[str, Any]) -> bool:
    """Say whether a Secret belongs to just this SealedSecret."""
    owners = secret["metadata"].get("ownerReferences") or []
    return any(each.get("uid") == sealed["metadata"].get("uid") for each in owners)


def _rendered(sealed: dict[str, Any] | None) -> set[str]:
    """Name the keys of a Secret that come of templates in its SealedSecret, and not of sealed values."""
    spec = (sealed or {}).get("spec") or {}
    return set((spec.get("template") or {}).get("data") or {}) - set(spec.get("encryptedData") or {})


def _dropped(sealed: dict[str, Any]) -> set[str]:
    """Name the sealed keys that a template takes out of the Secret."""
    given = ((sealed["spec"].get("template") or {}).get("data") or {}).items()
    return {key for key, value in given if value is None}


def _words(sealed: dict[str, Any], anew: set[str] = frozenset()) -> list[str]:  # type: ignore[assignment]
    """Tell a SealedSecret in names."""
    template = sealed["spec"].get("template") or {}
    inner = template.get("metadata") or {}
    return [
        f"scope {scope_of(sealed)}",
        f"type {template.get('type') or 'Opaque'}",
        *(["immutable"] if template.get("immutable") else []),
        *(f"label {each}" for each in sorted(inner.get("labels") or {})),
        *(f"annotation {each}" for each in sorted(without_scope(inner.get("annotations")))),
        *(
            f"key {each}{' (sealed now)' if each in anew else ''}"
            for each in sorted(sealed["spec"].get("encryptedData") or {})
        ),
    ]


def difference(wanted: Wanted, outcome: Outcome) -> dict[str, str]:
    """Give Ansible's form of a difference, in names."""
    header = f"SealedSecret {wanted.where} (names only)"
    return {
        "before_header": header,
        "after_header": header,
        "before": "".join(f"{each}\n" for each in outcome.before),
        "after": "".join(f"{each}\n" for each in (outcome.after if outcome.changed else outcome.before)),
    }


# --- the module -------------------------------------------------------------------------------------------------------

ARGUMENT_SPEC: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "namespace": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "keys": {"type": "dict", "default": {}, "no_log": True},
    "type": {"type": "str"},
    "labels": {"type": "dict", "default": {}},
    "annotations": {"type": "dict", "default": {}},
    "immutable": {"type": "bool"},
    "scope": {"type": "str", "choices": list(SCOPES), "default": STRICT},
    "certificate": {"type": "str"},
    "controller_namespace": {"type": "str", "default": "sealed-secrets"},
    "controller_name": {"type": "str", "default": SERVICE},
    "apply": {"type": "bool", "default": True},
    "path": {"type": "path"},
    "digest_key": {"type": "dict", "no_log": True},
    "keep_secret": {"type": "bool", "default": False, "no_log": False},
    "wait": {"type": "bool", "default": True},
    "wait_timeout": {"type": "int", "default": 60},
}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec={**auth_argument_spec(), **ARGUMENT_SPEC}, supports_check_mode=True)
    params = module.params
    supplied = {name: params[name] for name in ("keys", "digest_key") if params[name] is not None}
    invocation = {"module_args": {**params, **redacted(supplied)}}
    unmask(module, plain=plain_texts(supplied))
    try:
        wanted = parse(params)
        # What comes from the environment and from files is unknown to Ansible.
        given = [wanted.digest_key, *(key.supplied for key in wanted.keys)]
        unmask(module, *(value.decode("utf-8", "replace") for value in given if value and len(value) > HIDDEN))
        present = params["state"] == "present"
        certificate = read_certificate(params["certificate"]) if params["certificate"] and present else None
        api = controller = None
        if params["apply"] or (present and certificate is None):
            api = connect(params)
            controller = Controller(
                api, params["controller_namespace"], params["controller_name"], timeout=params["wait_timeout"]
            )
        sealer = Sealer(wanted, api, controller, certificate, check_mode=module.check_mode, wait=params["wait"])
        if not present:
            sealer.remove(params["apply"], params["keep_secret"])
        elif params["apply"]:
            sealer.ensure()
        else:
            sealer.ensure_file()
    except WrongInputError as error:
        module.fail_json(msg=str(error), invocation=invocation)
    except (KubeError, SealingError) as error:
        module.fail_json(
            msg=f"SealedSecret {params['namespace']}/{params['name']} is not ensured: {error}", invocation=invocation
        )
    except Exception as error:  # whatever else: its message may hold a value
        module.fail_json(
            msg=f"SealedSecret {params['namespace']}/{params['name']} is not ensured: {type(error).__name__}, not "
            "shown since it may hold a value",
            invocation=invocation,
        )
    outcome = sealer.outcome
    for warning in outcome.warnings:
        module.warn(warning)
    result: dict[str, Any] = {"changed": outcome.changed, "name": wanted.name, "namespace": wanted.namespace}
    if present:
        result.update(
            scope=wanted.scope,
            keys=outcome.keys,
            generated=outcome.generated,
            sealed=outcome.sealed,
            taken_over=outcome.taken_over,
            certificate=outcome.certificate,
            synced=outcome.synced,
        )
    if wanted.path:
        result["path"] = wanted.path
    module.exit_json(**result, diff=difference(wanted, outcome), invocation=invocation)


if __name__ == "__main__":
    main()
