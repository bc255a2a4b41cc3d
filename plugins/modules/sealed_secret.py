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
  - Sealing a value again gives another ciphertext. So this module compares values, with the Secret in the cluster or
    with a keyed hash that is kept beside the file. A key whose value stays keeps its ciphertext.
  - An existing Secret without a SealedSecret is taken over. Its labels, annotations and all its keys, named or not,
    become part of the SealedSecret, since the controller would remove what that lacks.
  - If a key of the Secret was changed after the controller unsealed it, the value in O(keys) is sealed, or without one
    the changed value.
  - Keys, labels and annotations of a SealedSecret that are not named are kept.
  - Values stay within the module's process. It returns names, never values, in messages and differences too.
options:
  name:
    description: Name of the SealedSecret, and of its Secret.
    type: str
    required: true
  namespace:
    description: Namespace of both. It must exist, unless O(apply=false).
    type: str
    required: true
  state:
    description:
      - Whether it exists.
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
        64 for V(hex). An existing key is never generated again.
      - Without any, the keys of the existing Secret are sealed.
    type: dict
    default: {}
  type:
    description: Type of the Secret. It can't be changed later. By default that of the existing one, or V(Opaque).
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
    type: path
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
      - A file to write the SealedSecret to; its folder is created. It is for git, and contains nothing secret.
      - With O(apply=true) it has the content of the cluster's SealedSecret. If the cluster has neither the SealedSecret
        nor the Secret, the file is applied, so that a new cluster gets the values of the old one.
    type: path
  digest_key:
    description:
      - A secret of at least 16 bytes, as a dictionary with one of V(env), V(file) and V(value).
      - With it, keyed hashes (HMAC-SHA256) of the values are kept in a file beside O(path), whose name ends in
        C(.digest), so that a later run without a cluster detects which values changed.
      - Without it, such a run seals all values again, and warns.
    type: dict
  keep_secret:
    description: Whether O(state=absent) leaves the Secret as it is, without an owner.
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

- name: Take over a Secret that was made by hand, with all its keys
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
key_names:
  description: Names of all its keys.
  returned: success and O(state=present)
  type: list
  elements: str
generated:
  description: Names of the keys whose value was generated by this call.
  returned: success and O(state=present)
  type: list
  elements: str
sealed:
  description: Names of the keys that were sealed by this call.
  returned: success and O(state=present)
  type: list
  elements: str
taken_over:
  description: Whether an existing Secret was taken over.
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

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.mlflow.plugins.module_utils.changes import Changes
from ansible_collections.mlops.mlflow.plugins.module_utils.credentials.generated import (
    KEY,
    NAME,
    NAMESPACE,
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
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.secrets import Secrets
from ansible_collections.mlops.mlflow.plugins.module_utils.sealing import files as sealed_files
from ansible_collections.mlops.mlflow.plugins.module_utils.sealing.controller import SERVICE, Controller
from ansible_collections.mlops.mlflow.plugins.module_utils.sealing.crypto import (
    SCOPES,
    STRICT,
    Certificate,
    SealingError,
    without_scope,
)
from ansible_collections.mlops.mlflow.plugins.module_utils.sealing.secret import (
    ClusterSealing,
    FileSealing,
    KeySource,
    SealedSecretRequest,
    SealedSecretResult,
    remove_files,
)

SHORTEST_DIGEST_KEY = 16  # bytes
SOURCES = ("env", "file", "value", "secret", "generate")
PEM = "-----BEGIN"


# --- what is requested ------------------------------------------------------------------------------------------------


def parse_key(name: Any, given: Any, namespace: str) -> KeySource:
    """Read one entry of the option keys.

    Raises:
        WrongInputError: It is not as documented, or what it names is not there.
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
        return KeySource(name, generate=kind, length=length)
    if source != "secret":
        return KeySource(name, supplied=read_supplied(where, given))
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
    return KeySource(name, secret=place)


def _texts(option: str, given: dict[Any, Any]) -> dict[str, str]:
    """Read a dictionary of texts.

    Raises:
        WrongInputError: It has something else.
    """
    for name, value in given.items():
        if not isinstance(value, (str, int, float, bool)):
            raise WrongInputError(f"{option}.{name} must be a text")
    return {str(name): str(value).lower() if isinstance(value, bool) else str(value) for name, value in given.items()}


def parse(params: dict[str, Any]) -> SealedSecretRequest:
    """Read the module's options.

    Raises:
        WrongInputError: In one sentence, what is wrong with them.
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
    path = params["path"] or ""
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
    return SealedSecretRequest(
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

    Raises:
        SealingError: It is none, or not valid now.
    """
    where = "certificate"
    text = given
    if PEM not in given:
        where = f"certificate '{given}'"
        found = sealed_files.read(given)
        if found is None:
            raise SealingError(f"{where}: there is no such file, and it is no PEM text")
        text = found
    certificate = Certificate.from_pem(text, where)
    certificate.check(where)
    return certificate


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
    "certificate": {"type": "path"},
    "controller_namespace": {"type": "str", "default": "sealed-secrets"},
    "controller_name": {"type": "str", "default": SERVICE},
    "apply": {"type": "bool", "default": True},
    "path": {"type": "path"},
    "digest_key": {"type": "dict", "no_log": True},
    "keep_secret": {"type": "bool", "default": False, "no_log": False},
    "wait": {"type": "bool", "default": True},
    "wait_timeout": {"type": "int", "default": 60},
}


def ensure(wanted: SealedSecretRequest, params: dict[str, Any], check_mode: bool) -> SealedSecretResult:
    """Do what the module is for.

    Raises:
        KubeError, SealingError: In one sentence, why it cannot be done.
    """
    present = params["state"] == "present"
    if not present and not params["apply"]:
        result = SealedSecretResult()
        remove_files(wanted.path, result, check_mode)
        return result
    certificate = read_certificate(params["certificate"]) if params["certificate"] and present else None
    if certificate is not None and not params["apply"]:
        return FileSealing(wanted, lambda: certificate, _nothing, _nothing, check_mode=check_mode).ensure()
    api = connect(params)
    controller = Controller(
        api, params["controller_namespace"], params["controller_name"], timeout=params["wait_timeout"]
    )
    if not params["apply"]:
        read, find = Secrets(api).read, controller.find
        return FileSealing(wanted, controller.certificate, read, find, check_mode=check_mode).ensure()
    sealing = ClusterSealing(wanted, api, controller, certificate, check_mode=check_mode, wait=params["wait"])
    return sealing.ensure() if present else sealing.remove(params["keep_secret"])


def _nothing(_namespace: str, _name: str) -> None:
    """Find nothing, where no cluster is asked."""


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
        result = ensure(wanted, params, module.check_mode)
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
    for warning in result.warnings:
        module.warn(warning)
    shown: dict[str, Any] = {"name": wanted.name, "namespace": wanted.namespace}
    if params["state"] == "present":
        names = ("key_names", "generated", "sealed", "taken_over", "certificate", "synced")
        shown |= {"scope": wanted.scope, **{name: getattr(result, name) for name in names}}
    if wanted.path:
        shown["path"] = wanted.path
    changes = Changes(module.check_mode)
    if result.changed:
        what = "ensured" if params["state"] == "present" else "removed"
        changes.note_lines(f"SealedSecret {wanted.where} (names only)", what, result.before, result.after)
    module.exit_json(**shown, changed=bool(changes), diff=changes.diff, invocation=invocation)


if __name__ == "__main__":
    main()
