# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action plugin of credentials: values go between their sources and the cluster within this process."""

from __future__ import annotations

import contextlib
from typing import Any, ClassVar

from ansible_collections.mlops.mlflow.plugins.module_utils.credentials.certificates import KEY as PRIVATE_KEY
from ansible_collections.mlops.mlflow.plugins.module_utils.credentials.supplied import (
    HIDDEN,
    WrongInputError,
    plain_texts,
)
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.client import Api, KubeError, auth_argument_spec, unmask
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.secret_store import KubernetesStore, Store
from ansible_collections.mlops.mlflow.plugins.module_utils.sealing.controller import SERVICE, Controller
from ansible_collections.mlops.mlflow.plugins.module_utils.sealing.crypto import SCOPES, STRICT
from ansible_collections.mlops.mlflow.plugins.module_utils.sealing.store import SealedStore
from ansible_collections.mlops.mlflow.plugins.module_utils.vault.client import VaultError, VaultKV, vault_argument_spec
from ansible_collections.mlops.mlflow.plugins.module_utils.vault.external_secret import ExternalSecrets
from ansible_collections.mlops.mlflow.plugins.module_utils.vault.store import ExternalStore, VaultStore
from ansible_collections.mlops.mlflow.plugins.plugin_utils.credentials import (
    Ensurer,
    SecretRequest,
    changes_of,
    parse,
    warnings_of,
)
from ansible_collections.mlops.mlflow.plugins.plugin_utils.local_action import LocalAction


class ActionModule(LocalAction):
    """Ensures that Secrets hold their keys."""

    ARGUMENTS: ClassVar[dict[str, Any]] = {
        **auth_argument_spec(),
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
                "immutable": {"type": "bool", "default": False},
                "variable": {"type": "str", "default": ""},
                "keys": {"type": "dict", "default": {}, "no_log": False},
                "certificate": {
                    "type": "dict",
                    "options": {
                        "common_name": {"type": "str", "default": ""},
                        "hosts": {"type": "list", "elements": "str", "default": []},
                        "days": {"type": "int", "default": 90},
                        "authority": {"type": "str", "default": ""},
                        "ca": {"type": "bool", "default": False},
                        "client": {"type": "bool", "default": False},
                        "issuer": {"type": "str", "default": ""},
                    },
                },
            },
        },
        "supplied": {"type": "dict", "default": {}, "no_log": True},
        "rotate": {"type": "dict", "default": {}, "no_log": False},
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
                "kind": {
                    "type": "str",
                    "choices": ["SecretStore", "ClusterSecretStore"],
                    "default": "ClusterSecretStore",
                },
            },
        },
        **vault_argument_spec(),
    }

    def act(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Ensure the Secrets; values stay within this process."""
        unmask(self, plain=[*plain_texts(options["supplied"]), *plain_texts(options["vault"], short=False)])
        try:
            # As for modules, relative paths begin at the playbook's folder.
            with contextlib.chdir(self._loader.get_basedir()), contextlib.ExitStack() as stack:
                return self._ensure(options, stack)
        except WrongInputError as error:
            return {"failed": True, "msg": str(error)}
        except (KubeError, VaultError) as error:
            return {"failed": True, "msg": f"The credentials are not ensured: {error}"}
        except Exception as error:  # whatever else: its message may hold a value
            sentence = f"{type(error).__name__}, not shown since it may hold a value"
            return {"failed": True, "msg": f"The credentials are not ensured: {sentence}"}

    def _ensure(self, options: dict[str, Any], stack: contextlib.ExitStack) -> dict[str, Any]:
        wanted = parse(options)
        supplied = [
            (
                each.certificate is not None and each.certificate.ca and key.name != PRIVATE_KEY,
                key.supplied.decode("utf-8", "replace"),
            )
            for each in wanted
            for key in each.keys
            if key.supplied
        ]
        # What comes from the environment and from files is unknown to Ansible. A CA's certificate is returned.
        unmask(
            self,
            *(value for public, value in supplied if not public and len(value) > HIDDEN),
            plain=[value for public, value in supplied if public],
        )
        store, controller, vault = build_store(self.connect(options), options, wanted, stack)

        def another_store() -> Store:
            return build_store(self.connect(options), options, wanted, stack)[0]

        ensurer = Ensurer(
            store,
            check_mode=self._task.check_mode,
            create_namespaces=options["create_namespaces"],
            namespace_labels={label: str(value) for label, value in options["namespace_labels"].items()},
            another_store=None if vault else another_store,  # a session of Vault is for one thread
        )
        outcomes = ensurer.ensure_all(wanted)
        unmask(self, *(vault.secrets if vault else ()))
        changes = changes_of(ensurer, outcomes)
        return {
            "changed": bool(changes),
            "diff": changes.diff,
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
            "sealing_keys_without_backup": without_backup(controller) if controller and wanted else [],
            "namespaces_created": ensurer.namespaces_created,
            "fingerprints": ensurer.fingerprints,
            "certificates": ensurer.certificates,
            "versions": ensurer.versions,
            "warnings": warnings_of(wanted),
        }


def build_store(
    api: Api, params: dict[str, Any], wanted: list[SecretRequest], stack: contextlib.ExitStack
) -> tuple[Store, Controller | None, VaultKV | None]:
    """Give the store of the requested backend, and whom it stands on.

    Raises:
        WrongInputError, VaultError: Vault's settings are wrong, or it does not serve; nothing was changed then.
    """
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
    """Name the sealing keys without a backup; none where they cannot be read: the credentials are ensured."""
    try:
        return controller.keys_without_backup()
    except KubeError:
        return []
