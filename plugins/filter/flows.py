# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Flows: which connections a component has, as data, and the NetworkPolicies that let these through."""

from __future__ import annotations

import ipaddress
from typing import Any
from urllib.parse import urlsplit

from ansible.errors import AnsibleFilterError

FLOW = "mlops.mlflow/flow"
WHY = "mlops.mlflow/why"
LABELS = {"app.kubernetes.io/part-of": "mlflow-platform", "app.kubernetes.io/managed-by": "mlops.mlflow"}
POD_NAME = "app.kubernetes.io/name"
NAMESPACE_NAME = "kubernetes.io/metadata.name"
EVERYTHING = ("0.0.0.0/0", "::/0")
# Where cloud providers give a machine's credentials to who asks on it, and other addresses of the machine's own link.
METADATA = ("169.254.0.0/16", "fe80::/10", "fd00:ec2::/32")
SCHEME_PORTS = {"http": 80, "https": 443}
# CoreDNS of most clusters, that of OpenShift with its port, and NodeLocal DNSCache.
DNS = {
    "name": "pods-to-dns",
    "why": "names of Services and hosts",
    "to": ["kube-system", "openshift-dns", "169.254.20.10/32"],
    "ports": ["53/UDP", 53, "5353/UDP", 5353],
}
DENY = {
    FLOW: "nothing in, nothing out",
    WHY: "connections that no other policy of the namespace names",
}


def network_policies(component: dict[str, Any], settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Turn the flows of a component into NetworkPolicies of its namespace, after one that denies everything.

    Args:
        component: with C(name), C(namespace) and perhaps C(flows).
        settings: what is known of the cluster: C(edge_namespaces), C(pod_networks), and C(extra), flows that each name
            their C(component).

    Returns:
        The policies; a flow from or to nobody gives none.

    Raises:
        AnsibleFilterError: a flow is not as it has to be.
    """
    namespace = component["namespace"]
    extra = [
        {**each, "name": f"extra-{each['name']}"}
        for each in settings["extra"]
        if each["component"] == component["name"]
    ]
    policies = [_policy(namespace, "default-deny", DENY, {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})]
    for flow in (DNS, *(component.get("flows") or []), *extra):
        policies += _allowing(namespace, flow, settings)
    names = [each["metadata"]["name"] for each in policies]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise AnsibleFilterError(f"component {component['name']} has several flows named {', '.join(twice)}")
    return policies


def flow_problems(extra: list[dict[str, Any]]) -> list[str]:
    """Say of each flow of platform_network_policy_extra what an argument spec can't tell."""
    problems = []
    names = [(flow["component"], flow["name"]) for flow in extra]
    for index, flow in enumerate(extra):
        if names.index(names[index]) < index:
            problems.append(f"platform_network_policy_extra has '{flow['name']}' more than once: each name once")
        where = f"platform_network_policy_extra[{index}]"
        sides = [side for side in ("from", "to") if flow.get(side)]
        if len(sides) != 1:
            held = " and ".join(sides) or "neither"
            problems.append(f"{where} ('{flow.get('name')}') has {held}: from or to, one of the two, and not empty")
        for side in sides:
            for peer in flow[side]:
                kinds = [kind for kind in ("namespace", "cidr") if peer.get(kind)]
                if len(kinds) != 1 or (peer.get("labels") and "cidr" in kinds):
                    problems.append(f"{where}.{side} has {peer}: a namespace, perhaps with labels, or a cidr")
    return problems


def network_problems(networks: dict[str, list[str]]) -> list[str]:
    """Say of each list of networks, by its variable, which of them are none, as NetworkPolicies take them."""
    problems = []
    for variable, listed in networks.items():
        for each in listed:
            try:
                ipaddress.ip_network(each)
            except ValueError:
                problems.append(f"{variable} has '{each}': networks with their first address, such as 10.244.0.0/16")
    return problems


def _allowing(namespace: str, flow: dict[str, Any], settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Give the policy that lets a flow through, in a list; none for a flow from or to nobody."""
    incoming = "from" in flow or "service" in flow
    if incoming == ("to" in flow or "url" in flow):
        raise AnsibleFilterError(f"flow '{flow.get('name')}' has to have from or service, or else to or url")
    peers, ports = (_sources(flow, settings), flow.get("ports") or []) if incoming else _destination(namespace, flow)
    peers = _unique(peers)
    if not peers:
        return []
    rules = [rule for peer in peers for rule in _rules(peer, settings, incoming)]
    rule: dict[str, Any] = {} if {} in rules else {"from" if incoming else "to": _unique(rules)}
    if ports:
        rule["ports"] = [_port(each) for each in ports]
    spec = {
        "podSelector": _selector(flow),
        "policyTypes": ["Ingress" if incoming else "Egress"],
        "ingress" if incoming else "egress": [rule],
    }
    own = _called({**flow, "namespace": namespace})
    others = "everywhere" if {} in rules else ", ".join(map(_called, peers))
    numbers = f":{','.join(map(str, ports))}" if ports else ""
    text = f"{others} -> {own}{numbers}" if incoming else f"{own} -> {others}{numbers}"
    return [_policy(namespace, flow["name"], {FLOW: text, WHY: str(flow["why"])}, spec)]


def _policy(namespace: str, name: str, annotations: dict[str, str], spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": namespace, "labels": dict(LABELS), "annotations": dict(annotations)},
        "spec": spec,
    }


def _sources(flow: dict[str, Any], settings: dict[str, Any]) -> list[Any]:
    """Give who may begin a connection: whom the flow names, and who comes by a Service of this type."""
    sources = list(flow.get("from") or [])
    kind, edge = flow.get("service"), list(settings["edge_namespaces"])
    if kind:
        sources += edge
        # Who comes by a ClusterIP, such as an ingress controller, is not known unless the inventory says it.
        sources += [{"outside": True}] if kind != "ClusterIP" else [] if edge else [{"everywhere": True}]
    return sources


def _destination(namespace: str, flow: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """Give to whom a flow goes, and the ports there."""
    if "url" not in flow:
        return list(flow["to"]), list(flow.get("ports") or [])
    url = urlsplit(flow["url"])
    host, ports = url.hostname or "", [url.port or SCHEME_PORTS[url.scheme]]
    labels = host.rstrip(".").split(".")
    # A Service's port may be another one than that of its pods, which is what counts.
    if len(labels) > 2 and labels[2] == "svc":
        return [labels[1]], []
    if len(labels) == 1 and ":" not in host:
        return [namespace], []
    try:
        return [str(ipaddress.ip_network(host))], ports
    except ValueError:
        return [{"outside": True}], ports


def _rules(peer: Any, settings: dict[str, Any], incoming: bool) -> list[dict[str, Any]]:
    """Give the peers of a NetworkPolicy; an empty one is everybody."""
    if isinstance(peer, str):
        peer = {"cidr": peer} if "/" in peer else {"namespace": peer}
    if peer.get("everywhere"):
        return [{}]
    if peer.get("outside"):
        return _outside(list(settings["pod_networks"]), incoming)
    if peer.get("cidr"):
        return [{"ipBlock": {"cidr": peer["cidr"]}}]
    if not peer.get("namespace"):
        raise AnsibleFilterError(f"the end of a flow is {peer}: a namespace, a cidr, outside or everywhere")
    pods = _selector(peer)
    chosen = {"podSelector": pods} if pods else {}
    return [{"namespaceSelector": {"matchLabels": {NAMESPACE_NAME: peer["namespace"]}}, **chosen}]


def _outside(pod_networks: list[str], incoming: bool) -> list[dict[str, Any]]:
    """Give all addresses but those of pods, where they are known, and for what goes out but the metadata's."""
    if incoming and not pod_networks:
        return [{}]
    without = [*pod_networks, *(() if incoming else METADATA)]
    rules = []
    for cidr in EVERYTHING:
        version = ipaddress.ip_network(cidr).version
        excepted = [each for each in without if ipaddress.ip_network(each).version == version]
        rules.append({"ipBlock": {"cidr": cidr, **({"except": excepted} if excepted else {})}})
    return rules


def _selector(whose: dict[str, Any]) -> dict[str, Any]:
    """Select pods by their labels, or their names in a component; all, where neither is given."""
    if whose.get("labels"):
        return {"matchLabels": whose["labels"]}
    pods = list(whose.get("pods") or [])
    if len(pods) == 1:
        return {"matchLabels": {POD_NAME: pods[0]}}
    return {"matchExpressions": [{"key": POD_NAME, "operator": "In", "values": pods}]} if pods else {}


def _port(text: Any) -> dict[str, Any]:
    number, _slash, protocol = str(text).partition("/")
    return {"port": int(number), "protocol": protocol or "TCP"}


def _called(peer: Any) -> str:
    """Name the end of a flow for a reader: networks, and pods by their namespaces."""
    if isinstance(peer, str):
        return peer if "/" in peer else f"{peer}/*"
    if peer.get("outside") or peer.get("cidr"):
        return peer.get("cidr") or "outside"
    labels = ",".join(f"{key}={value}" for key, value in (peer.get("labels") or {}).items())
    return ", ".join(f"{peer['namespace']}/{pod}" for pod in peer.get("pods") or [labels or "*"])


def _unique(things: list[Any]) -> list[Any]:
    return [each for index, each in enumerate(things) if each not in things[:index]]


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Any]:
        """Give the filters of this file by name."""
        return {
            "flow_problems": flow_problems,
            "network_problems": network_problems,
        }
