#!/usr/bin/python
# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module C(credentials)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: credentials
short_description: Ensures that Secrets hold their keys - supplied, already there, or generated once
version_added: 0.1.0
author: mlops.mlflow maintainers (@mlops-mlflow)
description:
  - Ensures several Secrets at once, each in one namespace or with the same values in several.
  - A key's value is the one that was supplied, or else the literal one, or else the one that is already there, or else
    a generated one. A key that is there is never generated again.
  - Values stay within the module's process. It returns names, never values, in messages and differences too.
  - Keys, labels and annotations of a Secret that are not named are kept.
  - A value that was generated is kept by the first namespace of a Secret before any other gets it, and a write takes
    place only if nobody else has written since. So the module may be interrupted at any time and run in parallel.
options:
  secrets:
    description: The Secrets to ensure.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the Secret.
        type: str
        required: true
      namespaces:
        description:
          - Namespaces that get the Secret, with the same values.
          - Where they differ, the first of these that has a key is the source of it.
        type: list
        elements: str
        required: true
      type:
        description: Type of the Secret where it is created. It can't be changed later.
        type: str
        default: Opaque
      labels:
        description: Labels that the Secret carries.
        type: dict
        default: {}
      existing:
        description:
          - Whether the Secret is somebody else's. It is only verified then that it has the keys, none of them empty.
        type: bool
        default: false
      variable:
        description:
          - The variable that names the Secret, for messages about a Secret with O(secrets[].existing=true).
          - By default messages name the Secret only.
        type: str
        default: ""
      keys:
        description:
          - Keys by name. Each is a dictionary with V(value), a literal that is no secret, or V(generate), or empty.
          - V(generate) is V(password) (letters and digits), V(hex) (hexadecimal digits), or V(fernet) (a key of the
            Python library cryptography).
          - V(length) is the number of characters, from 8 to 1024; by default 32 for V(password) and 64 for V(hex). A
            V(fernet) key has 44.
          - An empty dictionary means that the value must be supplied or already be there.
        type: dict
        required: true
  supplied:
    description:
      - Values that a person supplies, by the names of Secret and key.
      - Each is a dictionary with one of V(env), the name of an environment variable, V(file), the path of a file of
        which one newline at the end is left out, or V(value), the value itself.
      - Environment and files are those of the host on which the module runs, which is the controller as a rule.
      - A supplied value replaces another one.
      - Secrets that O(secrets) does not name are checked and passed over, so that calls can share one dictionary.
      - Any character is kept. A V(value) which holds C({{) must be tagged C(!unsafe), as everywhere in Ansible.
      - A V(value) belongs into an encrypted variable file. Ansible itself shows the lines of a playbook around a task
        that failed.
    type: dict
    default: {}
  create_namespaces:
    description: Whether to create namespaces that are missing.
    type: bool
    default: true
  namespace_labels:
    description: Labels of namespaces that are created. Others keep theirs.
    type: dict
    default: {}
  backend:
    description:
      - Where values live. To change it of Secrets that are there is a supported move, and changes no value.
      - V(kubernetes) keeps them in Secrets only.
      - V(sealed_secrets) makes each a SealedSecret, of which the controller makes the Secret. A Secret that is not
        there is had from its SealedSecret, or from its file in O(sealed_secrets.output_dir), rather than generated.
      - V(vault) keeps them in entries of a key-value store, version 2, of HashiCorp Vault or OpenBao, one a Secret.
        What stands there wins over what the cluster has; what it lacks is taken from the cluster, or else generated,
        and written there with check-and-set before it is delivered.
      - A Secret that came of a SealedSecret or an ExternalSecret is released from it where another way is asked for.
    type: str
    choices: [kubernetes, sealed_secrets, vault]
    default: kubernetes
  sealed_secrets:
    description: The controller, with O(backend=sealed_secrets).
    type: dict
    default: {}
    suboptions:
      namespace:
        description: Namespace of the controller.
        type: str
        default: sealed-secrets
      controller:
        description: Name of its Service.
        type: str
        default: sealed-secrets-controller
      output_dir:
        description:
          - Directory on the host on which the module runs, for a file C(NAMESPACE/NAME.yaml) for each SealedSecret, to
            be kept in git. Empty writes none.
          - A file is written again only where a value, the scope, or what the controller can open has changed.
        type: str
        default: ""
      scope:
        description:
          - What a sealed value is bound to. V(strict) is the Secret's namespace and name, V(namespace-wide) its
            namespace, V(cluster-wide) nothing.
        type: str
        choices: [strict, namespace-wide, cluster-wide]
        default: strict
  delivery:
    description:
      - How values of O(backend=vault) get into the cluster. V(secrets) has this module keep Secrets in step at each
        run.
      - V(external_secrets) makes ExternalSecrets, for an External Secrets operator that is already there.
    type: str
    choices: [secrets, external_secrets]
    default: secrets
  secret_store:
    description: The operator's store for O(delivery=external_secrets), which has to be there and read O(vault.mount).
    type: dict
    default: {}
    suboptions:
      name:
        description: Name of the store.
        type: str
        default: ""
      kind:
        description: Its kind.
        type: str
        choices: [SecretStore, ClusterSecretStore]
        default: ClusterSecretStore
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - mlops.mlflow.api
  - mlops.mlflow.vault
requirements:
  - cryptography, only to seal, with O(backend=sealed_secrets)
  - hvac, only with O(backend=vault)
attributes:
  check_mode:
    description: Reports what would be created and changed, on a cluster without the namespaces too.
    support: full
  diff_mode:
    description: Shows the names of keys, never values.
    support: full
"""

EXAMPLES = r"""
- name: Ensure what the database and its client log in with
  mlops.mlflow.credentials:
    secrets:
      - name: mlflow-db-credentials
        namespaces: [postgres, mlflow]
        keys:
          username:
            value: mlflow
          password:
            generate: password
            length: 32
    namespace_labels:
      pod-security.kubernetes.io/enforce: restricted
  register: ensured

- name: Show the digest that a pod carries so that it is replaced when the password changes
  ansible.builtin.debug:
    msg: "{{ ensured.fingerprints['mlflow/mlflow-db-credentials'] }}"

- name: Take a password from a file
  mlops.mlflow.credentials:
    secrets:
      - name: mlflow-db-credentials
        namespaces: [mlflow]
        keys:
          password: {}
    supplied:
      mlflow-db-credentials:
        password:
          file: /run/secrets/mlflow-db-password

- name: Verify what another team keeps
  mlops.mlflow.credentials:
    secrets:
      - name: s3-access
        namespaces: [mlflow]
        existing: true
        keys:
          AWS_ACCESS_KEY_ID: {}
          AWS_SECRET_ACCESS_KEY: {}
"""

RETURN = r"""
secrets:
  description: The Secrets that were ensured, one for each namespace.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the Secret.
      type: str
    namespace:
      description: Its namespace.
      type: str
    created:
      description: Whether it was created.
      type: bool
    key_names:
      description: Names of the keys that were asked for.
      type: list
      elements: str
    generated:
      description: Names of the keys of which the value was generated now.
      type: list
      elements: str
    updated:
      description: Names of the keys that were added to a Secret which was there, or changed in it.
      type: list
      elements: str
    converted:
      description: What was changed in the way in which the Secret is kept, in a few words each.
      type: list
      elements: str
      sample: [sealed, file sealed/mlflow/mlflow-db-credentials.yaml]
vault:
  description: What was written to Vault, with O(backend=vault).
  returned: success
  type: list
  elements: dict
  contains:
    path:
      description: Mount and path of the entry.
      type: str
    created:
      description: Whether the entry was created.
      type: bool
    updated:
      description: Names of the keys that were added to an entry which was there, or changed in it.
      type: list
      elements: str
sealing_keys_without_backup:
  description: Names of the sealing keys that no backup is known of, with O(backend=sealed_secrets).
  returned: success
  type: list
  elements: str
namespaces_created:
  description: Names of the namespaces that were created.
  returned: success
  type: list
  elements: str
fingerprints:
  description:
    - A salted, slow digest of the named keys' values, by namespace and name. It changes when one of them does.
    - Empty in check mode, where a value would be generated.
  returned: success
  type: dict
  sample: {"mlflow/mlflow-db-credentials": 5a1f0c3e9b7d2468}
"""

import contextlib
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.mlflow.plugins.module_utils.changes import Changes
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
    KubeError,
    auth_argument_spec,
    connect,
    unmask,
)
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.secret_store import (
    CentralWrite,
    KubernetesStore,
    Store,
)
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.secrets import ATTEMPTS, Secret, retried
from ansible_collections.mlops.mlflow.plugins.module_utils.sealing.controller import SERVICE, Controller
from ansible_collections.mlops.mlflow.plugins.module_utils.sealing.crypto import SCOPES, STRICT
from ansible_collections.mlops.mlflow.plugins.module_utils.sealing.store import SealedStore
from ansible_collections.mlops.mlflow.plugins.module_utils.vault.client import VaultError, VaultKV, vault_argument_spec
from ansible_collections.mlops.mlflow.plugins.module_utils.vault.external_secret import ExternalSecrets
from ansible_collections.mlops.mlflow.plugins.module_utils.vault.store import ExternalStore, VaultStore


@dataclass
class Key:
    """How a key gets its value: supplied, or else literal, or else what is there, or else generated."""

    name: str
    supplied: bytes | None = field(default=None, repr=False)
    literal: bytes | None = None
    generate: str = ""
    length: int = 0

    @property
    def declared(self) -> bytes | None:
        """The value that wins over what is there; None where what is there stays."""
        return self.literal if self.supplied is None else self.supplied


@dataclass
class SecretRequest:
    """A Secret that is asked for, in all its namespaces."""

    name: str
    namespaces: list[str]
    type: str
    labels: dict[str, str]
    existing: bool
    variable: str
    keys: list[Key]

    def secret(self, namespace: str, values: dict[str, bytes]) -> Secret:
        """Give the Secret to create in a namespace."""
        return Secret(namespace, self.name, values, self.type, self.labels)


@dataclass
class EnsuredSecret:
    """What was done to a Secret in one namespace."""

    name: str
    namespace: str
    keys: list[str]
    created: bool = False
    relabelled: bool = False
    generated: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    converted: list[str] = field(default_factory=list)
    drift: list[str] = field(default_factory=list)  # what of the way in which it is kept has to be changed
    recoverable: bool = False  # in check mode: it would be brought back, with values that are not known yet
    before: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        """Whether the Secret was written, or the way in which it is kept."""
        return self.created or self.relabelled or bool(self.updated or self.converted)


# --- what is asked for ------------------------------------------------------------------------------------------------


def read_all_supplied(supplied: dict[str, Any]) -> dict[str, dict[str, bytes]]:
    """Give all values that a person supplies, by Secret and key: those of other calls are checked too, and early.

    Raises:
        WrongInputError: One of them is not as documented, or is not there.
    """
    values: dict[str, dict[str, bytes]] = {}
    for secret, keys in supplied.items():
        if not isinstance(keys, dict):
            raise WrongInputError(f"platform_credentials.{secret} must be a dictionary by the names of keys")
        values[secret] = {
            key: read_supplied(f"platform_credentials.{secret}.{key}", given) for key, given in keys.items()
        }
    return values


def parse_key(secret: str, name: str, given: Any) -> Key:
    """Read one entry of a Secret's keys.

    Raises:
        WrongInputError: It is not as documented.
    """
    where = f"key {name} of Secret {secret}"
    if not KEY.fullmatch(name):
        raise WrongInputError(f"{where}: a key's name has letters, digits, '-', '_' and '.' only")
    given = {} if given is None else given
    if not isinstance(given, dict) or set(given) - {"value", "generate", "length"}:
        raise WrongInputError(f"{where} must be a dictionary with value, or with generate and length, or an empty one")
    if "value" in given:
        if not isinstance(given["value"], str) or not given["value"] or len(given) > 1:
            raise WrongInputError(f"{where}: value must be a string that is not empty, and stands alone")
        return Key(name, literal=given["value"].encode())
    if "generate" not in given:
        if given:
            raise WrongInputError(f"{where}: length needs generate")
        return Key(name)
    kind, length = read_generate(where, given)
    return Key(name, generate=kind, length=length)


def parse(params: dict[str, Any]) -> list[SecretRequest]:
    """Read the options secrets and supplied.

    Raises:
        WrongInputError: In one sentence, what is wrong with them.
    """
    wanted: list[SecretRequest] = []
    supplied = read_all_supplied(params["supplied"] or {})
    for each in params["secrets"]:
        name = each["name"]
        if not NAME.fullmatch(name):
            raise WrongInputError(f"'{name}' is no name of a Secret: it has lower-case letters, digits, '-' and '.'")
        if not each["namespaces"]:
            raise WrongInputError(f"Secret {name} needs a namespace")
        for namespace in each["namespaces"]:
            if not NAMESPACE.fullmatch(namespace):
                raise WrongInputError(
                    f"'{namespace}' is no name of a namespace for Secret {name}: "
                    "it has up to 63 lower-case letters, digits and '-'"
                )
        if not each["keys"]:
            raise WrongInputError(f"Secret {name} needs at least one key")
        keys = [parse_key(name, key, given) for key, given in each["keys"].items()]
        given = supplied.get(name) or {}
        if given and each["existing"]:
            raise WrongInputError(
                f"platform_credentials.{name} supplies values of a Secret that is declared as somebody else's"
            )
        unknown = sorted(set(given) - {key.name for key in keys})
        if unknown:
            raise WrongInputError(
                f"platform_credentials.{name} has '{unknown[0]}', and may have {', '.join(key.name for key in keys)}"
            )
        for key in keys:
            if key.name in given:
                key.supplied = given[key.name]
        wanted.append(
            SecretRequest(
                name=name,
                namespaces=list(dict.fromkeys(each["namespaces"])),
                type=each["type"],
                labels={label: str(value) for label, value in each["labels"].items()},
                existing=each["existing"],
                variable=each.get("variable", ""),
                keys=keys,
            )
        )
    return wanted


# --- what is done about it --------------------------------------------------------------------------------------------


def fingerprint(namespace: str, name: str, values: dict[str, bytes]) -> str:
    """Give a digest of 16 hexadecimal digits that tells nothing of short values: salted by the place, and slow."""
    canonical = json.dumps(sorted((key, value.hex()) for key, value in values.items())).encode()
    salt = f"mlops.mlflow/{namespace}/{name}".encode()
    return hashlib.scrypt(canonical, salt=salt, n=2**14, r=8, p=1, dklen=8).hex()


class Ensurer:
    """Ensures Secrets in a store.

    Args:
        store: Where they are kept.
        check_mode: Whether to write nothing.
        create_namespaces: Whether to create namespaces that are missing.
        namespace_labels: Labels of namespaces that are created.
    """

    def __init__(
        self, store: Store, check_mode: bool, create_namespaces: bool, namespace_labels: dict[str, str]
    ) -> None:
        self._store = store
        self._check_mode = check_mode
        self._create_namespaces = create_namespaces
        self._namespace_labels = namespace_labels
        self._namespaces: set[str] = set()  # known to be there
        self.namespaces_created: list[str] = []
        self.fingerprints: dict[str, str] = {}
        self.kept: list[CentralWrite] = []  # what was written in the central place

    def ensure(self, wanted: SecretRequest) -> list[EnsuredSecret]:
        """Ensure one Secret in all its namespaces.

        Raises:
            KubeError: In one sentence with Secret, namespace and key, why it cannot be.
        """
        if wanted.existing:
            return self._verify(wanted)
        generated: dict[str, bytes] = {}
        outcomes = {
            namespace: EnsuredSecret(wanted.name, namespace, [key.name for key in wanted.keys])
            for namespace in wanted.namespaces
        }
        # A Secret that is released from what made it is read again too, once in each namespace.
        retried(
            lambda: self._attempt(wanted, outcomes, generated),
            f"Secret {wanted.namespaces[0]}/{wanted.name}",
            ATTEMPTS + len(wanted.namespaces),
        )
        return list(outcomes.values())

    def _attempt(self, wanted: SecretRequest, outcomes: dict[str, EnsuredSecret], generated: dict[str, bytes]) -> None:
        """Read, decide and write once.

        Args:
            outcomes: By namespace; what is done is noted in them.
            generated: What was generated in earlier attempts, and is used again.

        Raises:
            Conflict: Somebody else wrote meanwhile.
        """
        central = self._store.central(wanted.name, [key.name for key in wanted.keys])
        stored = {namespace: self._read(wanted, outcomes[namespace]) for namespace in wanted.namespaces}
        if any(outcome.recoverable for outcome in outcomes.values()):
            self._note_unknown(wanted, stored, outcomes)
            return
        values, fresh = self._values(wanted, central, stored, generated)
        for namespace in wanted.namespaces:
            outcomes[namespace].drift = self._check(wanted, namespace, stored[namespace], values)
        kept = self._store.keep(wanted.name, values, write=not self._check_mode)
        if kept is not None:
            self.kept.append(kept)
        # In this order: the first namespace decides which of two generated values stays.
        for namespace in wanted.namespaces:
            self._write(wanted, stored[namespace], values, fresh, outcomes[namespace])
        for namespace in wanted.namespaces:
            unknown = self._check_mode and fresh
            digest = "" if unknown else fingerprint(namespace, wanted.name, values)
            self.fingerprints[f"{namespace}/{wanted.name}"] = digest

    def _read(self, wanted: SecretRequest, outcome: EnsuredSecret) -> Secret | None:
        """Read the Secret of one namespace; bring it back if the store can."""
        namespace, name = outcome.namespace, wanted.name
        stored = self._store.read(namespace, name)
        if stored is not None or not self._store.recoverable(namespace, name):
            return stored
        self._ensure_namespace(namespace, f"Secret {namespace}/{name}")
        outcome.created = True
        outcome.after = [key.name for key in wanted.keys]
        if self._check_mode:
            outcome.recoverable = True
            return None
        return self._store.recover(namespace, name)

    def _note_unknown(
        self, wanted: SecretRequest, stored: dict[str, Secret | None], outcomes: dict[str, EnsuredSecret]
    ) -> None:
        """Note in check mode what is known of a Secret whose values only the controller can tell."""
        for namespace, outcome in outcomes.items():
            self.fingerprints[f"{namespace}/{wanted.name}"] = ""
            if stored[namespace] is None:
                self._ensure_namespace(namespace, f"Secret {namespace}/{wanted.name}")
                outcome.created = True
                outcome.after = [key.name for key in wanted.keys]

    def _verify(self, wanted: SecretRequest) -> list[EnsuredSecret]:
        """Verify somebody else's Secret."""
        outcomes = []
        whose = f"{wanted.variable} is '{wanted.name}': " if wanted.variable else ""
        names = [key.name for key in wanted.keys]
        for namespace in wanted.namespaces:
            stored = self._store.read(namespace, wanted.name)
            if stored is None:
                raise KubeError(
                    f"{whose}Secret {namespace}/{wanted.name} is not there, and must hold the keys {', '.join(names)}"
                )
            for name in names:
                if name not in stored.data:
                    has = ", ".join(sorted(stored.data)) or "no keys"
                    raise KubeError(f"{whose}Secret {namespace}/{wanted.name} lacks the key {name}: it has {has}")
                if not stored.data[name]:
                    raise KubeError(f"{whose}Secret {namespace}/{wanted.name} has nothing in its key {name}")
            self.fingerprints[f"{namespace}/{wanted.name}"] = fingerprint(
                namespace, wanted.name, {name: stored.data[name] for name in names}
            )
            outcomes.append(EnsuredSecret(wanted.name, namespace, names))
        return outcomes

    @staticmethod
    def _values(
        wanted: SecretRequest,
        central: dict[str, bytes],
        stored: dict[str, Secret | None],
        generated: dict[str, bytes],
    ) -> tuple[dict[str, bytes], set[str]]:
        """Decide on the values; also gives the names of the keys that are generated.

        Args:
            central: Values that win over those in the cluster.
            generated: What was generated in earlier attempts, and is used again.
        """
        values: dict[str, bytes] = {}
        fresh: set[str] = set()
        for key in wanted.keys:
            there = [central[key.name]] if central.get(key.name) else []
            there += [one.data[key.name] for one in stored.values() if one is not None and one.data.get(key.name)]
            if key.declared is not None:
                values[key.name] = key.declared
            elif there:
                values[key.name] = there[0]
            elif key.generate:
                generated[key.name] = generated.get(key.name) or generate(key.generate, key.length)
                values[key.name] = generated[key.name]
            else:
                raise KubeError(
                    f"Secret {wanted.namespaces[0]}/{wanted.name} lacks the key {key.name}, and "
                    f"platform_credentials.{wanted.name}.{key.name} does not supply it"
                )
            if key.name in generated and values[key.name] == generated[key.name]:
                fresh.add(key.name)
        return values, fresh

    def _check(
        self, wanted: SecretRequest, namespace: str, stored: Secret | None, values: dict[str, bytes]
    ) -> list[str]:
        """See that the Secret of one namespace can be written, before any is; give what drifted in how it is kept."""
        where = f"Secret {namespace}/{wanted.name}"
        if stored is None:
            if not self._create_namespaces and namespace not in self._namespaces:
                if not self._store.has_namespace(namespace):
                    raise KubeError(f"{where} cannot be created: its namespace is not there")
                self._namespaces.add(namespace)
            return []
        if wanted.type not in ("Opaque", stored.type):
            raise KubeError(
                f"{where} is of type {stored.type} and must be {wanted.type}, which cannot be changed: delete it first"
            )
        data = {key for key, value in values.items() if stored.data.get(key) != value}
        if data and stored.immutable:
            raise KubeError(f"{where} is immutable, so that its key {min(data)} cannot be written: delete it first")
        return self._store.drift(stored)

    def _write(
        self,
        wanted: SecretRequest,
        stored: Secret | None,
        values: dict[str, bytes],
        fresh: set[str],
        outcome: EnsuredSecret,
    ) -> None:
        """Bring the Secret of one namespace in line, and note in the outcome what that took."""
        namespace, where = outcome.namespace, f"Secret {outcome.namespace}/{wanted.name}"
        if stored is None:
            if not self._check_mode:
                self._store.check()
            self._ensure_namespace(namespace, where)
            if not self._check_mode:
                self._store.create(wanted.secret(namespace, values))
            outcome.created = True
            outcome.generated = sorted(fresh)
            outcome.after = sorted(values)
            return
        data = {key: value for key, value in values.items() if stored.data.get(key) != value}
        labels = {label: value for label, value in wanted.labels.items() if stored.labels.get(label) != value}
        if not data and not labels and not outcome.drift:
            return
        if not self._check_mode:
            self._store.update(stored, data, labels)
        # An attempt that was repeated may have written some already, hence the union.
        outcome.updated = sorted({*outcome.updated, *data} if not outcome.created else set())
        outcome.generated = sorted({*outcome.generated, *(fresh & set(data))})
        outcome.relabelled = outcome.relabelled or bool(labels)
        outcome.converted = list(dict.fromkeys([*outcome.converted, *outcome.drift]))
        outcome.before = outcome.before or sorted(stored.data)
        replaced = {key for key in outcome.updated if key in outcome.before}
        outcome.after = [f"{key} (new value)" if key in replaced else key for key in sorted({*stored.data, *data})]

    def _ensure_namespace(self, namespace: str, where: str) -> None:
        if namespace in self._namespaces:
            return
        if not self._store.has_namespace(namespace):
            if not self._create_namespaces:
                raise KubeError(f"{where} cannot be created: its namespace is not there")
            if not self._check_mode:
                self._store.create_namespace(namespace, self._namespace_labels)
            self.namespaces_created.append(namespace)
        self._namespaces.add(namespace)


def changes_of(ensurer: Ensurer, outcomes: list[EnsuredSecret]) -> Changes:
    """Give what was changed, with the names of keys."""
    changes = Changes()
    for each in ensurer.namespaces_created:
        changes.note_lines(f"Namespace {each}", "created", [], [each])
    for entry in ensurer.kept:
        header = f"Vault {entry.path} (names of keys that are written)"
        changes.note_lines(header, "written", [], entry.updated or ["a new entry"])
    for outcome in outcomes:
        if outcome.changed:
            header = f"Secret {outcome.namespace}/{outcome.name} (names of keys)"
            after = [*outcome.after, *(f"({way})" for way in outcome.converted)]
            changes.note_lines(header, "created" if outcome.created else "changed", outcome.before, after)
    return changes


# --- the module -------------------------------------------------------------------------------------------------------

ARGUMENT_SPEC: dict[str, Any] = {
    "secrets": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "no_log": False,
        "options": {
            "name": {"type": "str", "required": True},
            "namespaces": {"type": "list", "elements": "str", "required": True},
            "type": {"type": "str", "default": "Opaque"},
            "labels": {"type": "dict", "default": {}},
            "existing": {"type": "bool", "default": False},
            "variable": {"type": "str", "default": ""},
            "keys": {"type": "dict", "required": True, "no_log": False},
        },
    },
    "supplied": {"type": "dict", "default": {}, "no_log": True},
    "create_namespaces": {"type": "bool", "default": True},
    "namespace_labels": {"type": "dict", "default": {}},
    "backend": {"type": "str", "choices": ["kubernetes", "sealed_secrets", "vault"], "default": "kubernetes"},
    "sealed_secrets": {
        "type": "dict",
        "default": {},
        "no_log": False,
        "apply_defaults": True,
        "options": {
            "namespace": {"type": "str", "default": "sealed-secrets"},
            "controller": {"type": "str", "default": SERVICE},
            "output_dir": {"type": "str", "default": ""},
            "scope": {"type": "str", "choices": list(SCOPES), "default": STRICT},
        },
    },
    "delivery": {"type": "str", "choices": ["secrets", "external_secrets"], "default": "secrets"},
    "secret_store": {
        "type": "dict",
        "default": {},
        "no_log": False,
        "apply_defaults": True,
        "options": {
            "name": {"type": "str", "default": ""},
            "kind": {"type": "str", "choices": ["SecretStore", "ClusterSecretStore"], "default": "ClusterSecretStore"},
        },
    },
}


def build_store(
    params: dict[str, Any], wanted: list[SecretRequest], stack: contextlib.ExitStack
) -> tuple[Store, Controller | None, VaultKV | None]:
    """Give the store of the backend that is asked for, and whom it stands on.

    Raises:
        WrongInputError, VaultError: Vault's settings are wrong, or it does not serve; nothing was changed then.
    """
    api = connect(params)
    secrets = KubernetesStore(api)
    if params["backend"] == "sealed_secrets":
        given = params["sealed_secrets"]
        controller = Controller(api, given["namespace"], given["controller"])
        return SealedStore(secrets, controller, given["output_dir"], given["scope"]), controller, None
    if params["backend"] == "vault":
        if params["delivery"] == "external_secrets" and not params["secret_store"]["name"]:
            raise WrongInputError(
                "vault_delivery is external_secrets, so vault_secret_store must name the operator's store"
            )
        vault = stack.enter_context(VaultKV(params["vault"]))
        names = [each.name for each in wanted if not each.existing]
        vault.verify(names)
        if params["delivery"] == "external_secrets":
            external = ExternalSecrets(api)
            external.verify()
            return VaultStore(vault, ExternalStore(secrets, external, vault, params["secret_store"])), None, vault
        return VaultStore(vault, secrets), None, vault
    return secrets, None, None


def without_backup(controller: Controller) -> list[str]:
    """Name the sealing keys without a backup; none where they cannot be looked at: the credentials are ensured."""
    try:
        return controller.keys_without_backup()
    except KubeError:
        return []


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={**auth_argument_spec(), **ARGUMENT_SPEC, **vault_argument_spec()}, supports_check_mode=True
    )
    supplied = module.params["supplied"]
    invocation = {"module_args": {**module.params, "supplied": redacted(supplied)}}
    unmask(module, plain=[*plain_texts(supplied), *plain_texts(module.params["vault"], short=False)])
    try:
        wanted = parse(module.params)
        # What comes from the environment and from files is unknown to Ansible.
        values = [key.supplied.decode("utf-8", "replace") for each in wanted for key in each.keys if key.supplied]
        unmask(module, *(value for value in values if len(value) > HIDDEN))
        with contextlib.ExitStack() as stack:
            store, controller, vault = build_store(module.params, wanted, stack)
            ensurer = Ensurer(
                store,
                check_mode=module.check_mode,
                create_namespaces=module.params["create_namespaces"],
                namespace_labels={label: str(value) for label, value in module.params["namespace_labels"].items()},
            )
            outcomes = [outcome for each in wanted for outcome in ensurer.ensure(each)]
            unmask(module, *(vault.secrets if vault else ()))
            unsaved = without_backup(controller) if controller and wanted else []
    except WrongInputError as error:
        module.fail_json(msg=str(error), invocation=invocation)
    except (KubeError, VaultError) as error:
        module.fail_json(msg=f"The credentials are not ensured: {error}", invocation=invocation)
    except Exception as error:  # whatever else: its message may hold a value
        module.fail_json(
            msg=f"The credentials are not ensured: {type(error).__name__}, not shown since it may hold a value",
            invocation=invocation,
        )
    changes = changes_of(ensurer, outcomes)
    result: dict[str, Any] = {
        "changed": bool(changes),
        "secrets": [
            {
                "name": each.name,
                "namespace": each.namespace,
                "created": each.created,
                "key_names": each.keys,
                "generated": each.generated,
                "updated": each.updated,
                "converted": each.converted,
            }
            for each in outcomes
        ],
        "vault": [{"path": each.path, "created": each.created, "updated": each.updated} for each in ensurer.kept],
        "sealing_keys_without_backup": unsaved,
        "namespaces_created": ensurer.namespaces_created,
        "fingerprints": ensurer.fingerprints,
    }
    module.exit_json(**result, diff=changes.diff, invocation=invocation)


if __name__ == "__main__":
    main()
