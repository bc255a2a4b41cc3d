"""Flows as data, and the NetworkPolicies that they become."""

import ipaddress

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.mlops.mlflow.plugins.filter.flows import (
    FLOW,
    WHY,
    FilterModule,
    flow_problems,
    network_policies,
    network_problems,
)

from tests.lib import REPOSITORY

SETTINGS = {"edge_namespaces": [], "pod_networks": [], "extra": []}
POD_NETWORKS = {"pod_networks": ["10.244.0.0/16", "fd00:10::/48"]}


def policy(settings=None, **flow):
    """The policy of one flow; None where there is none."""
    component = {"name": "echo", "namespace": "echos", "flows": [{"name": "flow", "why": "a reason", **flow}]}
    found = network_policies(component, SETTINGS | (settings or {}))
    return next((each for each in found if each["metadata"]["name"] == "flow"), None)


def namespace(name, **labels):
    rule = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}
    return rule | ({"podSelector": {"matchLabels": labels}} if labels else {})


def text(found):
    return found["metadata"]["annotations"][FLOW]


def test_a_component_without_flows_has_names_and_nothing_else():
    deny, dns = network_policies({"name": "echo", "namespace": "echos"}, SETTINGS)
    assert deny["metadata"]["name"] == "default-deny"
    assert deny["metadata"]["namespace"] == "echos"
    assert deny["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "mlops.mlflow"
    assert deny["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert dns["spec"]["policyTypes"] == ["Egress"]
    (rule,) = dns["spec"]["egress"]
    assert {(each["port"], each["protocol"]) for each in rule["ports"]} == {
        (port, protocol) for port in (53, 5353) for protocol in ("TCP", "UDP")
    }
    assert namespace("kube-system") in rule["to"]


def test_a_flow_in():
    found = policy(**{"from": ["team", {"namespace": "other", "pods": ["a"]}], "pods": ["echo"], "ports": [8080]})
    assert found["spec"] == {
        "podSelector": {"matchLabels": {"app.kubernetes.io/name": "echo"}},
        "policyTypes": ["Ingress"],
        "ingress": [
            {
                "from": [namespace("team"), namespace("other", **{"app.kubernetes.io/name": "a"})],
                "ports": [{"port": 8080, "protocol": "TCP"}],
            }
        ],
    }
    assert found["metadata"]["annotations"] == {FLOW: "team/*, other/a -> echos/echo:8080", WHY: "a reason"}


def test_a_flow_out():
    found = policy(to=["10.0.0.0/8"], pods=["a", "b"], ports=["53/UDP"])
    assert found["spec"] == {
        "podSelector": {
            "matchExpressions": [{"key": "app.kubernetes.io/name", "operator": "In", "values": ["a", "b"]}]
        },
        "policyTypes": ["Egress"],
        "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}], "ports": [{"port": 53, "protocol": "UDP"}]}],
    }
    assert text(found) == "echos/a, echos/b -> 10.0.0.0/8:53/UDP"


@pytest.mark.parametrize("side", ["from", "to"])
def test_a_flow_from_or_to_nobody_lets_nobody_through(side):
    assert policy(**{side: [], "ports": [80]}) is None


@pytest.mark.parametrize("flow", [{}, {"from": ["a"], "to": ["b"]}, {"service": "ClusterIP", "url": "https://a.b"}])
def test_a_flow_has_one_direction(flow):
    with pytest.raises(AnsibleFilterError, match="from or service, or else to or url"):
        policy(**flow)


def test_an_end_that_is_none_opens_nothing():
    with pytest.raises(AnsibleFilterError, match="the end of a flow is"):
        policy(to=[{"pods": ["a"]}])


def test_two_flows_of_one_name_would_be_one_policy():
    flow = {"name": "same", "why": "-", "to": ["a"]}
    with pytest.raises(AnsibleFilterError, match="several flows named same"):
        network_policies({"name": "echo", "namespace": "echo", "flows": [flow, flow]}, SETTINGS)


# --- who comes by a Service


def test_nobody_knows_who_is_in_front_of_a_cluster_ip():
    found = policy(service="ClusterIP", ports=[80])
    assert found["spec"]["ingress"] == [{"ports": [{"port": 80, "protocol": "TCP"}]}]
    assert text(found) == "everywhere -> echos/*:80"


def test_the_edge_is_in_front_of_a_cluster_ip():
    found = policy({"edge_namespaces": ["traefik"]}, service="ClusterIP", ports=[80], **{"from": ["team"]})
    assert found["spec"]["ingress"][0]["from"] == [namespace("team"), namespace("traefik")]


@pytest.mark.parametrize("kind", ["NodePort", "LoadBalancer"])
def test_a_node_port_is_open_to_addresses_outside(kind):
    found = policy({"edge_namespaces": ["traefik"], **POD_NETWORKS}, service=kind, ports=[80])
    assert found["spec"]["ingress"][0]["from"] == [
        namespace("traefik"),
        {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.244.0.0/16"]}},
        {"ipBlock": {"cidr": "::/0", "except": ["fd00:10::/48"]}},
    ]
    assert "from" not in policy({"edge_namespaces": ["traefik"]}, service=kind, ports=[80])["spec"]["ingress"][0]


# --- what a URL leads to


@pytest.mark.parametrize(
    ("url", "to", "ports"),
    [
        ("postgresql://db.data.svc:5432", [namespace("data")], None),
        ("http://minio.storage.svc.cluster.local/x", [namespace("storage")], None),
        ("http://beside:8080", [namespace("echos")], None),
        ("postgresql://192.0.2.1:6432", [{"ipBlock": {"cidr": "192.0.2.1/32"}}], 6432),
        ("postgresql://[2001:db8::1]:5432", [{"ipBlock": {"cidr": "2001:db8::1/128"}}], 5432),
    ],
)
def test_a_url_within_reach(url, to, ports):
    (rule,) = policy(POD_NETWORKS, url=url)["spec"]["egress"]
    assert rule["to"] == to
    assert rule.get("ports") == ([{"port": ports, "protocol": "TCP"}] if ports else None)


@pytest.mark.parametrize(
    ("url", "port"), [("https://id.example.com/x", 443), ("http://a.example", 80), ("https://b.example:8443", 8443)]
)
def test_a_url_outside_is_neither_a_pod_nor_the_metadata(url, port):
    found = policy(POD_NETWORKS, url=url)
    (rule,) = found["spec"]["egress"]
    assert rule["ports"] == [{"port": port, "protocol": "TCP"}]

    def reached(address):
        address = ipaddress.ip_address(address)
        return any(
            address in ipaddress.ip_network(each["ipBlock"]["cidr"])
            and not any(address in ipaddress.ip_network(one) for one in each["ipBlock"].get("except", []))
            for each in rule["to"]
        )

    assert [each for each in ("169.254.169.254", "fd00:ec2::254", "10.244.0.9", "fd00:10::9") if reached(each)] == []
    assert reached("192.0.2.1")
    assert reached("2001:db8::1")
    assert text(found) == f"echos/* -> outside:{port}"


# --- what the inventory adds


def test_further_flows_are_of_their_component():
    extra = [
        {"component": "echo", "name": "mail", "why": "mail", "to": [{"cidr": "192.0.2.0/24"}], "ports": ["25"]},
        {"component": "mlflow", "name": "other", "why": "-", "to": [{"namespace": "a", "labels": {"b": "c"}}]},
    ]
    names = {
        component: network_policies({"name": component, "namespace": "x"}, SETTINGS | {"extra": extra})
        for component in ("echo", "mlflow")
    }
    assert [each["metadata"]["name"] for each in names["echo"]] == ["default-deny", "pods-to-dns", "extra-mail"]
    assert names["echo"][2]["spec"]["egress"][0]["ports"] == [{"port": 25, "protocol": "TCP"}]
    assert names["mlflow"][2]["spec"]["egress"] == [{"to": [namespace("a", b="c")]}]


@pytest.mark.parametrize(
    ("flow", "says"),
    [
        ({}, "has neither: from or to"),
        ({"from": []}, "has neither: from or to"),
        ({"from": [{"namespace": "a"}], "to": [{"namespace": "b"}]}, "has from and to"),
        ({"to": [{}]}, "platform_network_policy_extra[0].to has {}: a namespace"),
        ({"to": [{"namespace": "a", "cidr": "10.0.0.0/8"}]}, "a namespace, perhaps with labels, or a cidr"),
        ({"from": [{"cidr": "10.0.0.0/8", "labels": {"a": "b"}}]}, "a namespace, perhaps with labels, or a cidr"),
    ],
)
def test_wrong_flows_are_named(flow, says):
    (problem,) = flow_problems([{"component": "mlflow", "name": "x", **flow}])
    assert says in problem


def test_each_name_of_a_component_is_there_once():
    flow = {"component": "mlflow", "name": "x", "to": [{"namespace": "a"}]}
    assert flow_problems([flow, flow | {"name": "y"}, flow | {"component": "minio"}]) == []
    assert flow_problems([flow, flow]) == ["platform_network_policy_extra has 'x' more than once: each name once"]


def test_networks_are_named_that_are_none():
    assert network_problems({"a": ["10.0.0.0/8", "::1"], "b": ["2001:db8::/32"]}) == []
    problems = network_problems({"a": ["10.0.0.1/8"], "b": ["10.0.0.0/33", "1.2.3"]})
    assert [each.split(":")[0] for each in problems] == ["a has '10.0.0.1/8'", "b has '10.0.0.0/33'", "b has '1.2.3'"]


@pytest.mark.parametrize("name", FilterModule().filters())
def test_filters_are_described(name):
    page = yaml.safe_load((REPOSITORY / "plugins" / "filter" / f"{name}.yml").read_text())
    assert page["DOCUMENTATION"]["name"] == name
