# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an edge matches for public URLs, and which routes are left over."""

import pytest
from ansible_collections.mlops.mlflow.plugins.filter.edge import (
    edge_leftovers,
    edge_manifests,
    edge_secrets,
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
    "days": 90,
    "authority": {"name": "ca", "namespaces": ["home"]},
    "supplied": {},
    "issuer": {},
    "issuer_spec": {},
    "duration": "",
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
            assert edge_secrets(one, settings) == []
            assert edge_leftovers(one, settings, [], [], []) == []


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
        ("cert_manager", {}, [], None),
        ("secret", {}, ["store-tls"], True),
        ("secret", {"store-tls": {}}, ["store-tls"], False),
        ("own_ca", {}, ["ca", "store-tls"], False),
    ],
)
def test_the_secret_of_a_certificate(tls, supplied, names, existing):
    found = edge_secrets(component(ROUTE), SETTINGS | {"tls": tls, "supplied": supplied})
    assert [each["name"] for each in found] == names
    if found:
        assert (found[-1]["variable"], found[-1]["existing"]) == ("store_tls_secret", existing)
        assert found[-1]["certificate"]["hosts"] == ["store.example.com"]


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
    assert edge_leftovers(one, SETTINGS, there, [], []) == there[1:3]
    assert edge_leftovers(one, SETTINGS | {"kind": "HTTPRoute"}, there, [], []) == there[:2]
    assert edge_leftovers(one, SETTINGS | {"kind": ""}, there, [], []) == there[:3]
    redirect = existing("HTTPRoute", "store", "store-redirect")
    for parent, gone in (({"name": "public"}, []), ({}, [redirect])):
        settings = SETTINGS | {"kind": "HTTPRoute", "http_parent": parent}
        assert edge_leftovers(one, settings, [redirect], [], []) == gone


def test_what_a_gateway_verified_by_goes_with_its_route():
    one = component(ROUTE | {"backend": BACKEND | {"own_config_map": True}})
    there = [existing("HTTPRoute", "store", "store"), existing("BackendTLSPolicy", "store", "store")]
    assert made(edge_leftovers(one, SETTINGS, there, [], [])) == [
        ("HTTPRoute", "store", "store"),
        ("BackendTLSPolicy", "store", "store"),
        ("ConfigMap", "store", "store-ca"),
    ]
    assert edge_leftovers(one, SETTINGS | {"kind": "HTTPRoute"}, there, [], []) == []
    # Others need it too.
    shared = component(ROUTE | {"backend": BACKEND})
    assert ("ConfigMap", "store", "store-ca") not in made(edge_leftovers(shared, SETTINGS, there, [], []))


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
    there = ["store/store-tls", "store/other", "elsewhere/store-tls"]
    own = [("Certificate", "store", "store-tls")]
    assert made(edge_leftovers(component(ROUTE), SETTINGS, [], there, [])) == own
    issued = SETTINGS | {"tls": "cert_manager", "issuer": {"name": "ours"}}
    assert edge_leftovers(component(ROUTE), issued, [], there, []) == []
    # Its URL is no longer there.
    assert made(edge_leftovers(component(ROUTE | {"url": ""}), issued, [], there, [])) == own
