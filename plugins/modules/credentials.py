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
    a generated one. An existing key is generated again with O(rotate) only.
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
          - If they differ, the value of a key comes from the first of these that has it.
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
      immutable:
        description:
          - Whether a value that is there stays for good, since what it protects cannot be opened by another one. A
            supplied value that differs from it is refused, before anything is written.
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
          - Keys by name. Each is a dictionary with V(value), a literal that is not secret, or V(generate), or empty.
          - V(alternate) stands beside V(value). The key holds one of the two, at first V(value), and O(rotate) changes
            it to the other one. So an account changes its name with its password, and the former one is valid until
            nothing uses it any more.
          - V(generate) is V(password) (letters and digits), V(hex) (hexadecimal digits), or V(fernet) (a key of the
            Python library cryptography).
          - V(length) is the number of characters, from 8 to 1024; by default 32 for V(password) and 64 for V(hex). A
            V(fernet) key has 44.
          - V(overlap), beside V(generate), is whether the Secret has two more keys, C(KEY-previous) and C(KEY-next), by
            which is verified or decrypted. With O(rotate) each value moves on by one place, so that those who have read
            the Secret before and those who read it afterwards know one another's.
          - An empty dictionary means that the value must be supplied or already be there.
          - A Secret has these or O(secrets[].certificate).
        type: dict
        default: {}
      certificate:
        description:
          - What the certificate of the Secret is, which has the type C(kubernetes.io/tls) and the keys C(tls.crt) and
            C(tls.key), and C(ca.crt) where O(secrets[].certificate.authority) issues it. Its key is one of the curve
            P-256.
          - One that is issued here is issued again when a third of its life or less is left, and when something else is
            requested. Otherwise it stays.
          - One that is supplied, or of a Secret with O(secrets[].existing=true), is verified - its key has to match, it
            has to be for all of O(secrets[].certificate.hosts), and to be valid.
        type: dict
        suboptions:
          common_name:
            description: The common name. That of a CA gets a number besides.
            type: str
            default: ""
          hosts:
            description: Names and addresses of the servers that it is for. A name may begin with C(*.).
            type: list
            elements: str
            default: []
          days:
            description:
              - How many days it is valid once it is issued, from 1 to 36525. It ends with that of its CA at the latest.
            type: int
            default: 90
          authority:
            description:
              - The CA that issues it, as namespace and name of a Secret of the same call, such as V(mlflow/mlflow-ca).
              - Empty is for that of the CA itself, and for one that is not issued here.
            type: str
            default: ""
          ca:
            description:
              - Whether it is the certificate of a CA, which signs itself. When it is issued again it keeps its key and
                its name.
            type: bool
            default: false
          client:
            description: Whether it is for a client that logs in with it, and not for a server.
            type: bool
            default: false
          issuer:
            description:
              - The Issuer of cert-manager by which a Certificate, applied afterwards, makes the Secret. It is not
                issued here then, and a SealedSecret or ExternalSecret that made it is deleted, so that there is one
                writer. Its values stay until cert-manager replaces them.
              - cert-manager replaces at once what this Issuer has not made. With O(secrets[].certificate.authority) it
                goes on with what that CA has signed, and replaces what another CA has.
            type: str
            default: ""
  supplied:
    description:
      - Values that a user supplies, by the names of Secret and key.
      - Each is a dictionary with one of V(env), the name of an environment variable, V(file), the path of a file of
        which one newline at the end is left out, or V(value), the value itself.
      - Environment and files are those of the control node. A relative path begins at the playbook's folder.
      - A supplied value replaces another one.
      - Secrets that O(secrets) does not name are checked and ignored, so that calls can share one dictionary.
      - Any character is kept. A V(value) which holds C({{) must be tagged C(!unsafe), as everywhere in Ansible.
      - Keep a V(value) in an encrypted variable file, since Ansible itself shows the lines of a playbook around a task
        that failed.
    type: dict
    default: {}
  rotate:
    description:
      - By the names of Secrets, which values are replaced by others. Certificates are issued again.
      - Each is the entry of RV(versions) that a call before has returned. A Secret with another version has been
        rotated by then, and stays. With an empty one, it is rotated in any case.
      - They have to be in O(secrets), and be neither supplied nor O(secrets[].existing=true).
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
      - Where values are kept. It can be changed for existing Secrets, which changes no value.
      - V(kubernetes) keeps them in Secrets only.
      - V(sealed_secrets) creates SealedSecrets, from which the controller creates the Secrets. A missing Secret is
        restored from its SealedSecret, or from its file in O(sealed_secrets.output_dir), instead of being generated.
      - V(vault) keeps them in a key-value store, version 2, of HashiCorp Vault or OpenBao, with an entry for each
        Secret. Values there take precedence over the cluster's. A missing value is taken from the cluster, or else
        generated, and written there with check-and-set before it is delivered.
      - A Secret of a SealedSecret or an ExternalSecret is released from it if another backend or delivery is selected,
        and one of a Certificate of cert-manager in any case.
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
          - A file is rewritten only if a value or the scope has changed, or if the controller cannot open it.
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
      - How values of O(backend=vault) get into the cluster. With V(secrets), each run of this module
        updates the Secrets.
      - V(external_secrets) creates ExternalSecrets, for an existing External Secrets operator.
    type: str
    choices: [secrets, external_secrets]
    default: secrets
  secret_store:
    description: The operator's store for O(delivery=external_secrets), which must exist and read O(vault.mount).
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
  - cryptography, only for certificates, and to seal with O(backend=sealed_secrets)
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
- name: Ensure the credentials of a database and its client
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

- name: Show the hash with which a pod is annotated, so that it is replaced when the password changes
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

- name: Verify a Secret of another team
  mlops.mlflow.credentials:
    secrets:
      - name: s3-access
        namespaces: [mlflow]
        existing: true
        keys:
          AWS_ACCESS_KEY_ID: {}
          AWS_SECRET_ACCESS_KEY: {}

- name: Issue a certificate by a CA of the stack's own
  mlops.mlflow.credentials:
    secrets:
      - name: mlflow-ca
        namespaces: [mlflow]
        type: kubernetes.io/tls
        certificate:
          ca: true
          common_name: MLflow
          days: 3650
      - name: postgres-server-tls
        namespaces: [postgres]
        type: kubernetes.io/tls
        certificate:
          authority: mlflow/mlflow-ca
          common_name: postgres
          hosts: [postgres.postgres.svc]
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
      description: Names of the requested keys.
      type: list
      elements: str
    generated:
      description: Names of the keys whose value was generated by this call.
      type: list
      elements: str
    updated:
      description: Names of the keys that were added to an existing Secret, or changed in it.
      type: list
      elements: str
    converted:
      description: What was changed in how the Secret is kept, in a few words each.
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
      description: Names of the keys that were added to an existing entry, or changed in it.
      type: list
      elements: str
sealing_keys_without_backup:
  description: Names of the sealing keys without a known backup, with O(backend=sealed_secrets).
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
    - A salted, slow hash of the named keys' values, by namespace and name. It changes when one of them does.
    - Not of certificates, which servers read again while they run.
    - Empty in check mode, where a value would be generated.
  returned: success
  type: dict
  sample: {"mlflow/mlflow-db-credentials": 5a1f0c3e9b7d2468}
certificates:
  description:
    - The certificate of each CA in PEM form, by namespace and name of its Secret. It is not secret.
    - Empty in check mode, where it would be issued.
  returned: success
  type: dict
  sample: {"mlflow/mlflow-ca": "-----BEGIN CERTIFICATE----- ..."}
versions:
  description:
    - A salted, slow hash of what O(rotate) replaces, by the names of the Secrets that can be rotated.
    - Empty in check mode, where that would be generated.
  returned: success
  type: dict
  sample: {"mlflow-db-credentials": 91c4c6b1f0de8a37}
"""
