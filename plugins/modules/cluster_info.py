#!/usr/bin/python
# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin C(cluster_info)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_info
short_description: Reads what a playbook must know of a Kubernetes cluster before it changes anything
version_added: 0.1.0
author: mlops.mlflow maintainers (@mlops-mlflow)
description:
  - Reads the version, namespaces, storage classes, API groups, Services and used node ports of a cluster in one call,
    its ingress classes, PriorityClasses and Gateways, its Sealed Secrets where it has any, and the volumes, routes,
    NetworkPolicies and HorizontalPodAutoscalers that the roles of this collection have made.
  - If the cluster cannot be used it fails with one sentence that names the kubeconfig, the context and the cause,
    within about ten seconds.
  - Runs on the control node, in Ansible's own process, which is faster than a module; the connection has to be local.
  - Messages say C(kubeconfig_path) and C(kubeconfig_context), the variables of this collection's roles, for the options
    O(kubeconfig) and O(context).
  - The user must be able to list namespaces. What else the user may not list is returned empty,
    and named in RV(unreadable).
options:
  pod_networks:
    description: Whether to read the nodes, for RV(pod_networks).
    type: bool
    default: false
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - mlops.mlflow.api
attributes:
  check_mode:
    description: Reads only, in check mode too.
    support: full
  diff_mode:
    description: Changes nothing, so that there is nothing to compare.
    support: N/A
"""

EXAMPLES = r"""
- name: Look at the cluster
  mlops.mlflow.cluster_info:
    kubeconfig: "{{ kubeconfig_path }}"
  register: cluster

- name: Refuse an old Kubernetes
  ansible.builtin.assert:
    that: cluster.minor >= 30
    fail_msg: "The cluster runs Kubernetes {{ cluster.server_version }}: 1.30 or newer is needed"
"""

RETURN = r"""
server_version:
  description: Version of the API server.
  returned: success
  type: str
  sample: v1.34.10
minor:
  description: Minor version of the API server as a number.
  returned: success
  type: int
  sample: 34
namespaces:
  description: Names of the existing namespaces, without those that are being deleted.
  returned: success
  type: list
  elements: str
  sample: [default, kube-system]
storage_classes:
  description: Names of the storage classes.
  returned: success
  type: list
  elements: str
  sample: [standard]
default_storage_class:
  description: Name of the default storage class; empty if there is none.
  returned: success
  type: str
  sample: standard
node_ports:
  description: Node ports that are taken, each with the namespace and name of its Service.
  returned: success
  type: dict
  sample: {"30800": mlflow/mlflow}
services:
  description: Existing Services, each as namespace/name.
  returned: success
  type: list
  elements: str
  sample: [mlflow/mlflow]
volumes:
  description:
    - Volume claims that the roles of this collection have made, by namespace/name, each with its class and its size
      in MiB.
    - They are identified by the label C(app.kubernetes.io/managed-by=mlops.mlflow).
  returned: success
  type: dict
  sample: {"postgres/postgres-data": {"class": "standard", "mib": 10240}}
images:
  description:
    - Images of the first containers of StatefulSets that the roles of this collection have made, by namespace/name.
  returned: success
  type: dict
  sample: {"postgres/postgres": "docker.io/library/postgres:17.7"}
api_groups:
  description: Names of the API groups that the server knows.
  returned: success
  type: list
  elements: str
  sample: [apps, batch]
sealed_secrets_controllers:
  description:
    - Controllers of Sealed Secrets, each as namespace/name with its label C(app.kubernetes.io/managed-by); empty for a
      controller without one.
    - They are looked for where RV(api_groups) has C(bitnami.com).
  returned: success
  type: dict
  sample: {"sealed-secrets/sealed-secrets-controller": mlops.mlflow}
deployments:
  description:
    - Deployments that the roles of this collection have made, each as namespace/name.
    - They are looked for where RV(api_groups) has C(bitnami.com) or C(cert-manager.io).
  returned: success
  type: list
  elements: str
  sample: [sealed-secrets/sealed-secrets-controller]
ready:
  description: Those of RV(deployments) whose pods are all ready.
  returned: success
  type: list
  elements: str
  sample: [sealed-secrets/sealed-secrets-controller]
sealed_secrets:
  description: Existing SealedSecrets, each as namespace/name.
  returned: success
  type: list
  elements: str
  sample: [mlflow/mlflow-db-credentials]
issuers:
  description:
    - Issuers of cert-manager, each as C(ClusterIssuer/name) or C(Issuer/namespace/name).
    - They are looked for where RV(api_groups) has C(cert-manager.io).
  returned: success
  type: list
  elements: str
  sample: [ClusterIssuer/letsencrypt]
own_issuers:
  description: Those of RV(issuers) that the roles of this collection have made, each as namespace/name.
  returned: success
  type: list
  elements: str
  sample: [mlflow/mlflow-acme]
certificates:
  description:
    - Certificates of cert-manager that the roles of this collection have made, each as namespace/name.
    - They are looked for where RV(api_groups) has C(cert-manager.io).
  returned: success
  type: list
  elements: str
  sample: [mlflow/mlflow-tls]
cert_manager:
  description:
    - The label C(app.kubernetes.io/managed-by) of the definition of Certificates; empty if it has none.
    - It is looked for where RV(api_groups) has C(cert-manager.io).
  returned: success
  type: str
  sample: Helm
network_policies:
  description:
    - NetworkPolicies that the roles of this collection have made, each as namespace/name.
    - They are identified by the label C(app.kubernetes.io/managed-by=mlops.mlflow).
  returned: success
  type: list
  elements: str
  sample: [mlflow/default-deny]
ingress_classes:
  description:
    - Ingress classes by name, each with its label C(app.kubernetes.io/managed-by); empty for a class without one.
  returned: success
  type: dict
  sample: {"traefik": "Helm"}
default_ingress_class:
  description: Name of the default ingress class; empty if there is none.
  returned: success
  type: str
  sample: traefik
routes:
  description:
    - Ingresses, HTTPRoutes and BackendTLSPolicies that the roles of this collection have made.
    - Each is a manifest without content.
    - They are identified by the label C(app.kubernetes.io/managed-by=mlops.mlflow).
  returned: success
  type: list
  elements: dict
  sample:
    - apiVersion: networking.k8s.io/v1
      kind: Ingress
      metadata: {namespace: mlflow, name: mlflow}
monitors:
  description:
    - PodMonitors, PrometheusRules and ConfigMaps of dashboards that the roles of this collection have made, in the form
      of RV(routes).
    - They are identified by the same label. PodMonitors and PrometheusRules are looked for where RV(api_groups) has
      C(monitoring.coreos.com).
  returned: success
  type: list
  elements: dict
gateways:
  description:
    - Gateways by namespace/name, each with the C(name), C(protocol), C(port) and C(hostname) of its listeners, and from
      which C(namespaces) they take routes (C(All), C(Same) or C(Selector)).
    - They are looked for where RV(api_groups) has C(gateway.networking.k8s.io).
  returned: success
  type: dict
  sample: {"edge/public": [{"name": "https", "protocol": "HTTPS", "port": 443, "hostname": "", "namespaces": "All"}]}
gateway_kinds:
  description: Kinds of C(gateway.networking.k8s.io/v1) that the cluster knows.
  returned: success
  type: list
  elements: str
  sample: [Gateway, GatewayClass, HTTPRoute]
gateway_classes:
  description: Names of GatewayClasses that the roles of this collection have made, by the same label as RV(routes).
  returned: success
  type: list
  elements: str
  sample: [traefik]
pod_networks:
  description:
    - Networks of the pods by what the nodes say of theirs (C(podCIDRs)), widened to /16 for IPv4 and /56 for IPv6, so
      that a further node changes nothing as a rule.
    - Empty unless O(pod_networks), and where another part of the cluster gives pods their addresses.
  returned: success
  type: list
  elements: str
  sample: [10.244.0.0/16]
autoscalers:
  description: HorizontalPodAutoscalers that the roles of this collection have made, each as namespace/name.
  returned: success
  type: list
  elements: str
  sample: [mlflow/mlflow]
priority_classes:
  description: Names of the PriorityClasses.
  returned: success
  type: list
  elements: str
  sample: [system-cluster-critical, system-node-critical]
unreadable:
  description: What the user may not list, by the names of the returned values.
  returned: success
  type: list
  elements: str
  sample: []
"""
