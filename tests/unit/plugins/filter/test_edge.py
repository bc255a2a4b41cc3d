# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an edge matches for public URLs, and which routes are left over."""

import pytest
from ansible_collections.mlops.mlflow.plugins.filter.components import secrets_of_components
from ansible_collections.mlops.mlflow.plugins.filter.edge import (
    certificate_secrets,
    edge_leftovers,
    edge_manifests,
    routes,
)


@pytest.mark.parametrize(
    ("url", "scheme", "host", "base", "matches"),
    [
        ("https://mlflow.example.com", "https", "mlflow.example.com", "", [("/", "Prefix")]),
        ("http://MLflow.Example.com:8080/", "http", "mlflow.example.com", "", [("/", "Prefix")]),
        ("https://ai.example.com/a/b/", "https", "ai.example.com", "/a/b", [("/a/b", "Exact"), ("/a/b/", "Prefix")]),
    ],
)
def test_a_url(url, scheme, host, base, matches):
    (route,) = routes([{"name": "one", "url": url, "paths": ["/"], "service": "x"}])
    assert (route["scheme"], route["host"], route["base"]) == (scheme, host, base)
    assert [(each["path"], each["type"]) for each in route["matches"]] == matches
    assert (route["name"], route["service"]) == ("one", "x")
    assert route["port"] == {"https": 443, "http": 8080}[scheme]


def test_paths_below_a_url():
    (route,) = routes([{"name": "one", "url": "https://ai.example.com/auth", "paths": ["/resources", "/realms/a"]}])
    assert [(each["path"], each["type"]) for each in route["matches"]] == [
        ("/auth/resources", "Exact"),
        ("/auth/resources/", "Prefix"),
        ("/auth/realms/a", "Exact"),
        ("/auth/realms/a/", "Prefix"),
    ]


def test_entries_of_one_url_are_one():
    entries = [
        {"name": "one", "url": "https://a.example.com", "paths": ["/x", "/y"]},
        {"name": "two", "url": "https://A.example.com/", "paths": ["/y", "/z"]},
        {"name": "three", "url": "https://b.example.com", "paths": ["/y"]},
    ]
    found = routes(entries)
    assert [each["name"] for each in found] == ["one", "three"]
    assert [each["path"] for each in found[0]["matches"]] == ["/x", "/x/", "/y", "/y/", "/z", "/z/"]


@pytest.mark.parametrize(
    "url", ["", "http://localhost:8080", "https://10.0.0.1", "https://[::1]:8443", "http://mlflow.localhost"]
)
def test_no_edge_is_found_by(url):
    assert routes([{"name": "one", "url": url, "paths": ["/"]}]) == []


SETTINGS = {
    "kind": "Ingress",
    "tls": "none",
    "internal_tls": "none",
    "days": 90,
    "authority": {"name": "ca", "namespaces": ["home"], "type": "kubernetes.io/tls", "certificate": {"ca": True}},
    "supplied": {},
    "issuer": {},
    "issuer_spec": {},
    "delivered": {"Secret": "v1"},
    "preset": {"http": {}, "https": {"a": "preset", "b": "preset"}},
    "backends": {"b": "backend", "c": "{namespace}/{secret} {host}"},
    "annotations": {},
    "ingress_class": "",
    "parent": {"name": "public", "namespace": "edge"},
    "http_parent": {},
}
ROUTE = {
    "name": "store",
    "url": "https://store.example.com",
    "paths": ["/bucket"],
    "service": "store",
    "service_port": "9000",
    "port_name": "https-s3",
}
# An Issuer of the stack's own CA.
OWN_ISSUER = {"issuer": {"kind": "Issuer", "name": "ca"}, "issuer_spec": {"ca": {"secretName": "ca"}}}
INTERNAL = [
    {"name": "store-server", "common_name": "store", "hosts": ["store.store.svc", "localhost"]},
    {"name": "store-client", "hosts": [], "client": True},
]
NOTHING = {"routes": [], "certificates": [], "own_issuers": []}
BACKEND = {"host": "store.store.svc", "secret": "store-server", "config_map": "store-ca"}


def component(*entries):
    return {
        "name": "store",
        "namespace": "store",
        "edge": {"secret": "store-tls", "variable": "store_tls_secret", "routes": entries},
    }


def made(objects):
    return [(each["kind"], each["metadata"]["namespace"], each["metadata"]["name"]) for each in objects]


def test_a_component_without_routes_has_no_edge():
    for one in ({"name": "x", "namespace": "x"}, component(), component(ROUTE | {"url": ""})):
        for tls in ("none", "own_ca", "cert_manager"):
            settings = SETTINGS | {"tls": tls}
            assert edge_manifests(one, settings) == []
            assert certificate_secrets(one, settings) == []
            assert edge_leftovers(one, settings, NOTHING) == []


def test_without_an_edge_there_are_certificates_only():
    """For a proxy that the collection does not know."""
    settings = SETTINGS | {"kind": "", "tls": "cert_manager", "issuer": {"kind": "Issuer", "name": "ours"}}
    (certificate,) = edge_manifests(component(ROUTE), settings)
    assert certificate["spec"]["dnsNames"] == ["store.example.com"]
    assert certificate["spec"]["issuerRef"] == {"group": "cert-manager.io", "kind": "Issuer", "name": "ours"}
    with_issuer = edge_manifests(component(ROUTE), settings | {"issuer_spec": {"acme": {}}})
    assert made(with_issuer) == [("Issuer", "store", "ours"), ("Certificate", "store", "store-tls")]


def test_an_ingress_of_a_port_in_clear():
    (ingress,) = edge_manifests(component(ROUTE), SETTINGS | {"annotations": {"b": "inventory"}})
    assert ingress["metadata"]["annotations"] == {"a": "preset", "b": "inventory"}
    assert ingress["metadata"]["labels"]["app.kubernetes.io/name"] == "store"
    assert ingress["spec"]["tls"] == [{"hosts": ["store.example.com"]}]
    paths = ingress["spec"]["rules"][0]["http"]["paths"]
    assert [each["path"] for each in paths] == ["/bucket", "/bucket/"]
    assert paths[0]["backend"] == {"service": {"name": "store", "port": {"name": "https-s3"}}}
    assert "ingressClassName" not in ingress["spec"]


def test_an_ingress_of_a_port_with_tls():
    """The controller is told so, and by which CA and name it verifies it; what the inventory says precedes."""
    one = component(ROUTE | {"backend": BACKEND})
    (ingress,) = edge_manifests(one, SETTINGS | {"annotations": {"a": "inventory"}})
    assert ingress["metadata"]["annotations"] == {
        "a": "inventory",
        "b": "backend",
        "c": "store/store-server store.store.svc",
    }


def test_a_gateway_verifies_a_port_with_tls():
    settings = SETTINGS | {"kind": "HTTPRoute", "http_parent": {"name": "public", "namespace": "edge"}}
    route, redirect, policy = edge_manifests(component(ROUTE | {"backend": BACKEND}), settings)
    assert made([route, redirect]) == [("HTTPRoute", "store", "store"), ("HTTPRoute", "store", "store-redirect")]
    assert route["spec"]["rules"][0]["backendRefs"] == [{"name": "store", "port": 9000}]
    # The host may have paths of other components.
    assert redirect["spec"]["rules"][0]["matches"] == route["spec"]["rules"][0]["matches"]
    assert policy["kind"] == "BackendTLSPolicy"
    (target,) = policy["spec"]["targetRefs"]
    assert (target["kind"], target["name"], target["sectionName"]) == ("Service", "store", "https-s3")
    assert policy["spec"]["validation"]["hostname"] == "store.store.svc"
    assert [each["name"] for each in policy["spec"]["validation"]["caCertificateRefs"]] == ["store-ca"]
    assert made(edge_manifests(component(ROUTE), settings | {"http_parent": {}})) == [("HTTPRoute", "store", "store")]


@pytest.mark.parametrize(
    ("tls", "supplied", "names", "existing"),
    [
        ("none", {}, [], None),
        ("cert_manager", {"store-tls": {}}, ["store-tls"], False),
        ("secret", {}, ["store-tls"], True),
        ("secret", {"store-tls": {}}, ["store-tls"], False),
        ("own_ca", {}, ["ca", "store-tls"], False),
    ],
)
def test_the_secret_of_a_certificate(tls, supplied, names, existing):
    settings = SETTINGS | {"tls": tls, "supplied": supplied}
    settings |= {"issuer": {"kind": "ClusterIssuer", "name": "company"}} if tls == "cert_manager" else {}
    found = certificate_secrets(component(ROUTE), settings)
    assert [each["name"] for each in found] == names
    if found:
        assert (found[-1]["variable"], found[-1]["existing"]) == ("store_tls_secret", existing)
        assert found[-1]["certificate"]["hosts"] == ["store.example.com"]
        assert ("authority" in found[-1]["certificate"]) is (tls == "own_ca")
        assert found[-1]["certificate"].get("issuer") == ("company" if tls == "cert_manager" else None)


def test_certificates_between_components_of_the_own_ca():
    """After that of the CA, which two components list once."""
    one = {"name": "store", "namespace": "store", "certificates": INTERNAL}
    settings = SETTINGS | {"internal_tls": "own_ca"}
    ca, server, client = certificate_secrets(one, settings)
    assert ca == settings["authority"]
    common = {"variable": "", "namespaces": ["store"], "type": "kubernetes.io/tls", "existing": False}
    signed = {"authority": "home/ca", "days": 90}
    assert server == common | {
        "name": "store-server",
        "certificate": signed | {"common_name": "store", "hosts": ["store.store.svc", "localhost"], "client": False},
    }
    assert client["certificate"] == signed | {"common_name": "store-client", "hosts": [], "client": True}
    assert edge_manifests(one, settings) == []
    other = {"name": "db", "namespace": "db", "certificates": [{"name": "db-server", "hosts": []}]}
    merged = secrets_of_components([{"secrets": certificate_secrets(each, settings)} for each in (one, other)])
    assert [each["name"] for each in merged] == ["ca", "store-server", "store-client", "db-server"]


def test_cert_manager_makes_certificates_between_components_and_at_the_edge_alike():
    """By one Issuer, with the CA's Secret beside it; module credentials only hands them over."""
    settings = SETTINGS | OWN_ISSUER | {"tls": "cert_manager", "internal_tls": "cert_manager", "kind": ""}
    one = component(ROUTE) | {"certificates": INTERNAL}
    objects = edge_manifests(one, settings)
    assert made(objects) == [
        ("Issuer", "store", "ca"),
        ("Certificate", "store", "store-server"),
        ("Certificate", "store", "store-client"),
        ("Certificate", "store", "store-tls"),
    ]
    _issuer, server, client, edge = [each["spec"] for each in objects]
    key = {"algorithm": "ECDSA", "encoding": "PKCS8", "size": 256, "rotationPolicy": "Always"}
    assert server == {
        "secretName": "store-server",
        "issuerRef": {"group": "cert-manager.io", "kind": "Issuer", "name": "ca"},
        "privateKey": key,
        "dnsNames": ["store.store.svc", "localhost"],
        "commonName": "store",
        "duration": "2160h",
        "usages": ["digital signature", "server auth"],
    }
    assert (client["commonName"], client["usages"][1], "dnsNames" in client) == ("store-client", "client auth", False)
    assert (edge["dnsNames"], "commonName" in edge) == (["store.example.com"], False)
    ca, *others = certificate_secrets(one, settings)
    assert ca == settings["authority"] | {"namespaces": ["home", "store"]}
    assert [each["certificate"]["issuer"] for each in others] == ["ca"] * 3
    assert {each["certificate"]["authority"] for each in others} == {"home/ca"}


def test_another_issuer_makes_no_certificates_between_components():
    settings = SETTINGS | {"tls": "cert_manager", "internal_tls": "own_ca", "kind": ""}
    settings |= {"issuer": {"kind": "Issuer", "name": "acme"}, "issuer_spec": {"acme": {}}}
    one = component(ROUTE) | {"certificates": INTERNAL}
    assert made(edge_manifests(one, settings)) == [("Issuer", "store", "acme"), ("Certificate", "store", "store-tls")]
    ca, server, client, edge = certificate_secrets(one, settings)
    assert ca["namespaces"] == ["home"]
    assert not {"issuer"} & {*server["certificate"], *client["certificate"]}
    assert edge["certificate"]["issuer"] == "acme"
    assert not {"duration", "usages", "commonName"} & edge_manifests(one, settings)[1]["spec"].keys()


def existing(kind, namespace, name):
    return {"apiVersion": "v1", "kind": kind, "metadata": {"namespace": namespace, "name": name}}


def test_routes_that_are_left_over():
    there = [
        existing("Ingress", "store", "store"),
        existing("Ingress", "store", "old"),
        existing("HTTPRoute", "store", "store"),
        existing("Ingress", "elsewhere", "store"),
    ]
    one = component(ROUTE)
    assert edge_leftovers(one, SETTINGS, NOTHING | {"routes": there}) == there[1:3]
    assert edge_leftovers(one, SETTINGS | {"kind": "HTTPRoute"}, NOTHING | {"routes": there}) == there[:2]
    assert edge_leftovers(one, SETTINGS | {"kind": ""}, NOTHING | {"routes": there}) == there[:3]
    redirect = existing("HTTPRoute", "store", "store-redirect")
    for parent, gone in (({"name": "public"}, []), ({}, [redirect])):
        settings = SETTINGS | {"kind": "HTTPRoute", "http_parent": parent}
        assert edge_leftovers(one, settings, NOTHING | {"routes": [redirect]}) == gone


def test_what_a_gateway_verified_by_goes_with_its_route():
    one = component(ROUTE | {"backend": BACKEND | {"own_config_map": True}})
    there = [existing("HTTPRoute", "store", "store"), existing("BackendTLSPolicy", "store", "store")]
    assert made(edge_leftovers(one, SETTINGS, NOTHING | {"routes": there})) == [
        ("HTTPRoute", "store", "store"),
        ("BackendTLSPolicy", "store", "store"),
        ("ConfigMap", "store", "store-ca"),
    ]
    assert edge_leftovers(one, SETTINGS | {"kind": "HTTPRoute"}, NOTHING | {"routes": there}) == []
    # Others need it too.
    shared = component(ROUTE | {"backend": BACKEND})
    assert ("ConfigMap", "store", "store-ca") not in made(edge_leftovers(shared, SETTINGS, NOTHING | {"routes": there}))


def test_routes_of_one_service_have_one_policy():
    routes = [
        ROUTE | {"backend": BACKEND},
        ROUTE | {"backend": BACKEND, "name": "api", "url": "https://api.example.com"},
    ]
    one = component(*routes)
    objects = edge_manifests(one, SETTINGS | {"kind": "HTTPRoute"})
    assert [each["metadata"]["name"] for each in objects if each["kind"] == "BackendTLSPolicy"] == ["store"]
    assert len([each for each in objects if each["kind"] == "HTTPRoute"]) == 2


def test_certificates_that_are_left_over():
    """All that the collection has made in the namespace of the component, and that it has no more."""
    there = NOTHING | {"certificates": ["store/store-tls", "store/store-server", "elsewhere/store-tls"]}
    edge, internal = [("Certificate", "store", name) for name in ("store-tls", "store-server")]
    one = component(ROUTE) | {"certificates": INTERNAL}
    assert made(edge_leftovers(one, SETTINGS, there)) == [edge, internal]
    issued = SETTINGS | {"tls": "cert_manager", "issuer": {"name": "ours"}}
    assert made(edge_leftovers(one, issued, there)) == [internal]
    # Its URL is no longer there.
    assert made(edge_leftovers(component(ROUTE | {"url": ""}), issued, there)) == [edge, internal]
    by_own_ca = issued | OWN_ISSUER | {"internal_tls": "cert_manager"}
    assert edge_leftovers(one, by_own_ca, there) == []


def test_issuers_that_are_left_over():
    one, there = component(ROUTE), NOTHING | {"own_issuers": ["store/acme", "home/acme"]}
    assert made(edge_leftovers(one, SETTINGS | {"tls": "own_ca"}, there)) == [("Issuer", "store", "acme")]
    by_acme = SETTINGS | {
        "tls": "cert_manager",
        "issuer": {"kind": "Issuer", "name": "acme"},
        "issuer_spec": {"acme": {}},
    }
    assert edge_leftovers(one, by_acme, there) == []
    # An issuer of the cluster has the same name.
    theirs = {"issuer": {"kind": "ClusterIssuer", "name": "acme"}, "issuer_spec": {}}
    assert made(edge_leftovers(one, by_acme | theirs, there)) == [("Issuer", "store", "acme")]


def test_the_key_of_the_ca_stays_where_an_issuer_needs_it_only():
    one = component(ROUTE)
    there = NOTHING | {"own_issuers": ["store/ca", "home/ca"]}
    delivered = {"delivered": {"SealedSecret": "bitnami.com/v1alpha1"}}
    gone = made(edge_leftovers(one, SETTINGS | delivered, there))
    assert gone == [("Issuer", "store", "ca"), ("SealedSecret", "store", "ca")]
    # What it is of in its first namespace stays.
    at_home = edge_leftovers(one | {"namespace": "home"}, SETTINGS, there)
    assert made(at_home) == [("Issuer", "home", "ca")]
    assert edge_leftovers(one, SETTINGS | OWN_ISSUER | {"tls": "cert_manager"}, there) == []
