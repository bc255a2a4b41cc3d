#!/usr/bin/python
# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin C(credentials)."""

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
  - Runs on the control node, in Ansible's own process, which is faster than a module; the connection has to be local.
  - Values stay within that process. It returns names, never values, in messages and differences too.
  - Keys, labels and annotations of a Secret that are not named are kept.
  - A value that was generated is kept by the first namespace of a Secret before any other gets it, and a write takes
    place only if no other writer has written since. So the module may be interrupted at any time and run in parallel.
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
          - Whether the Secret is an existing one. It is only verified then that it has the keys, none of them empty.
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
      - Values that a user supplies, by the names of Secret and key.
      - Each is a dictionary with one of V(env), the name of an environment variable, V(file), the path of a file of
        which one newline at the end is left out, or V(value), the value itself.
      - Environment and files are those of the control node. A relative path begins at the playbook's folder.
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
          - Directory on the control node, for a file C(NAMESPACE/NAME.yaml) for each SealedSecret, to
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
