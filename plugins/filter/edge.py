# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Routes of components, public URLs with what leads from them into the cluster, and certificates of components."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.mlops.mlflow.plugins.filter.components import objects_at
from ansible_collections.mlops.mlflow.plugins.filter.flows import LABELS, POD_NAME, network_policies

CERTIFICATES = "cert-manager.io/v1"
INGRESSES = "networking.k8s.io/v1"
GATEWAYS = "gateway.networking.k8s.io/v1"
# Who makes the Secret of a certificate: module credentials, by the stack's own CA, or cert-manager.
_OWN_CA = "own_ca"
_CERT_MANAGER = "cert_manager"

_PORTS = {"http": 80, "https": 443}
# Hosts that no edge can be found by.
_PLACELESS = re.compile(r"localhost|.+\.localhost|[0-9.]+|.*:.*")


def with_network(
    components: list[dict[str, Any]], flows: dict[str, Any], edge: dict[str, Any], existing: dict[str, Any]
) -> list[dict[str, Any]]:
    """Add to components what their flows, routes and certificates need.

    Args:
        components: as roles register them.
        flows: settings as C(network_policies) takes them; none where there are no policies.
        edge: settings as C(edge_manifests), C(certificate_secrets) and C(edge_leftovers) take them.
        existing: what the cluster has, as C(edge_leftovers) takes it.

    Returns:
        The components, with manifests as C(policies) and C(edge_objects), and more C(secrets) and C(switched_off).
    """
    return [
        {
            **each,
            "policies": network_policies(each, flows) if flows else [],
            "edge_objects": edge_manifests(each, edge),
            "secrets": [*(each.get("secrets") or []), *certificate_secrets(each, edge)],
            "switched_off": [*(each.get("switched_off") or []), *edge_leftovers(each, edge, existing)],
        }
        for each in components
    ]


def edge_manifests(component: dict[str, Any], settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Turn the routes of a component into what leads to it from outside of the cluster, and certificates into objects.

    Args:
        component: with C(name), C(namespace), and perhaps C(edge) and C(certificates), see role C(platform).
        settings: what holds for all components: C(kind), C(preset), C(backends), C(annotations), C(ingress_class),
            C(parent) and C(http_parent); C(tls) and C(internal_tls), who makes the Secrets of certificates at the edge
            and of those between components; C(issuer), C(issuer_spec) and C(days) for those of cert-manager.

    Returns:
        Certificates of cert-manager, and Ingresses, or HTTPRoutes with what they verify a Service's certificate by.
    """
    made = _certificates(component, settings)
    for route in _wanted(component, settings):
        made += (_ingress if settings["kind"] == "Ingress" else _http_routes)(component, route, settings)
    # Routes of one Service have one policy.
    return [each for index, each in enumerate(made) if each not in made[:index]]


def certificate_secrets(component: dict[str, Any], settings: dict[str, Any]) -> list[dict[str, Any]]:
    """List the Secrets of a component's certificates, as module C(credentials) takes them, after that of the CA.

    Args:
        component: as C(edge_manifests) takes it.
        settings: besides, C(authority), the Secret of the stack's own CA, and C(supplied), credentials that the
            inventory supplies, by the names of their Secrets.
    """
    home, authority = component["namespace"], settings["authority"]
    made: list[dict[str, Any]] = []
    places: list[str] = []
    for each in _certificates_of(component, settings):
        issuer = settings["issuer"]["name"] if each["maker"] == _CERT_MANAGER else ""
        certificate = {
            "common_name": each.get("common_name", each["name"]),
            "hosts": each["hosts"],
            "client": each.get("client", False),
            **({"issuer": issuer} if issuer else {}),
        }
        if each["maker"] == _OWN_CA or (issuer and "ca" in settings["issuer_spec"]):
            certificate |= {"authority": f"{authority['namespaces'][0]}/{authority['name']}", "days": settings["days"]}
            # An Issuer reads the CA's Secret in its own namespace.
            places = list(dict.fromkeys([*authority["namespaces"], *places, *([home] if issuer else [])]))
        made.append(
            {
                "name": each["name"],
                "variable": each.get("variable", ""),
                "namespaces": [home],
                "type": "kubernetes.io/tls",
                "existing": each["maker"] == "secret" and each["name"] not in settings["supplied"],
                "certificate": certificate,
            }
        )
    return [*([{**authority, "namespaces": places}] if places else []), *made]


def edge_leftovers(
    component: dict[str, Any], settings: dict[str, Any], existing: dict[str, Any]
) -> list[dict[str, Any]]:
    """Name what other settings have left of a component's edge and certificates, as manifests without content.

    Args:
        component: as C(edge_manifests) takes it.
        settings: as C(certificate_secrets) takes them, and C(delivered), the kinds by which a Secret is delivered, with
            their API versions.
        existing: of the cluster, C(routes), Ingresses, HTTPRoutes and BackendTLSPolicies of the collection as
            manifests, and C(certificates) and C(own_issuers), its Certificates and Issuers as C(namespace/name).
    """
    namespace, authority = component["namespace"], settings["authority"]
    kept = {(each["kind"], each["metadata"]["name"]) for each in edge_manifests(component, settings)}
    there = objects_at(existing["own_issuers"], {"Issuer": CERTIFICATES})
    there += objects_at(existing["certificates"], {"Certificate": CERTIFICATES})
    left = []
    edge = component.get("edge") or {}
    backends = {one["service"]: one["backend"] for one in edge.get("routes") or [] if one.get("backend")}
    for each in [*there, *existing["routes"]]:
        kind, name = each["kind"], each["metadata"]["name"]
        if each["metadata"]["namespace"] != namespace or (kind, name) in kept:
            continue
        left.append(each)
        # Only where an Issuer needs it, another namespace has the CA's key.
        if kind == "Issuer" and name == authority["name"] and namespace not in authority["namespaces"]:
            left += objects_at([f"{namespace}/{name}"], settings["delivered"])
        if kind == "BackendTLSPolicy" and backends.get(name, {}).get("own_config_map"):
            left.append(_object("v1", "ConfigMap", namespace, backends[name]["config_map"]))
    return left


def _wanted(component: dict[str, Any], settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Give the routes of a component, merged; none without an edge."""
    return routes((component.get("edge") or {}).get("routes") or []) if settings["kind"] else []


def _hosts(component: dict[str, Any]) -> list[str]:
    """Give the hosts of a component that need a certificate at the edge."""
    urls = [str(each["url"] or "") for each in (component.get("edge") or {}).get("routes") or []]
    return list(dict.fromkeys(urlsplit(url).hostname or "" for url in urls if url.startswith("https://")))


def _certificates_of(component: dict[str, Any], settings: dict[str, Any]) -> list[dict[str, Any]]:
    """List the certificates of a component, between components and at the edge, each with who makes its Secret."""
    listed = [{**each, "maker": settings["internal_tls"]} for each in component.get("certificates") or []]
    hosts = _hosts(component)
    if hosts:
        edge = {"name": component["edge"]["secret"], "variable": component["edge"]["variable"]}
        listed.append({**edge, "common_name": "", "hosts": hosts, "maker": settings["tls"]})
    return [each for each in listed if each["maker"] != "none"]


def _object(version: str, kind: str, namespace: str, name: str) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": namespace}}


def _made(component: dict[str, Any], version: str, kind: str, name: str, **content: Any) -> dict[str, Any]:
    """Give an object of a component, with its labels."""
    made = _object(version, kind, component["namespace"], name)
    made["metadata"]["labels"] = {POD_NAME: component["name"], **LABELS}
    return {**made, **content}


def _certificates(component: dict[str, Any], settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Give the Certificates of a component, after the Issuer that they need in the same namespace."""
    issuer = settings["issuer"]
    made: list[dict[str, Any]] = []
    wanted = [each for each in _certificates_of(component, settings) if each["maker"] == _CERT_MANAGER]
    if wanted and settings["issuer_spec"]:
        made.append(_made(component, CERTIFICATES, "Issuer", issuer["name"], spec=settings["issuer_spec"]))
    for each in wanted:
        spec = {
            "secretName": each["name"],
            "issuerRef": {"group": "cert-manager.io", **issuer},
            "privateKey": {"algorithm": "ECDSA", "encoding": "PKCS8", "size": 256, "rotationPolicy": "Always"},
            **({"dnsNames": each["hosts"]} if each["hosts"] else {}),
        }
        # Of these, another issuer than the stack's own CA decides by itself.
        if "ca" in settings["issuer_spec"]:
            usages = ["digital signature", "client auth" if each.get("client") else "server auth"]
            name = each.get("common_name", each["name"])
            spec |= {"duration": f"{settings['days'] * 24}h", "usages": usages}
            spec |= {"commonName": name} if name else {}
        made.append(_made(component, CERTIFICATES, "Certificate", each["name"], spec=spec))
    return made


def _ingress(component: dict[str, Any], route: dict[str, Any], settings: dict[str, Any]) -> list[dict[str, Any]]:
    backend = route.get("backend") or {}
    known = {**backend, "namespace": component["namespace"]}
    annotations = {
        **settings["preset"][route["scheme"]],
        **{key: value.format(**known) for key, value in settings["backends"].items() if backend},
        **settings["annotations"],
    }
    service = {"service": {"name": route["service"], "port": {"name": route["port_name"]}}}
    paths = [{"path": each["path"], "pathType": each["type"], "backend": service} for each in route["matches"]]
    spec: dict[str, Any] = {"rules": [{"host": route["host"], "http": {"paths": paths}}]}
    if settings["ingress_class"]:
        spec["ingressClassName"] = settings["ingress_class"]
    if route["scheme"] == "https":
        # Without a Secret, the controller takes a certificate that it has.
        secret = {"secretName": component["edge"]["secret"]} if settings["tls"] != "none" else {}
        spec["tls"] = [{"hosts": [route["host"]], **secret}]
    made = _made(component, INGRESSES, "Ingress", route["name"], spec=spec)
    made["metadata"]["annotations"] = annotations
    return [made]


def _http_routes(component: dict[str, Any], route: dict[str, Any], settings: dict[str, Any]) -> list[dict[str, Any]]:
    kinds = {"Exact": "Exact", "Prefix": "PathPrefix"}
    rule = {
        "matches": [{"path": {"type": kinds[each["type"]], "value": each["path"]}} for each in route["matches"]],
        # Uploads and answers take their time.
        "timeouts": {"request": "0s"},
        "backendRefs": [{"name": route["service"], "port": int(route["service_port"])}],
    }
    made = [_http_route(component, route, "", settings["parent"], rule)]
    if route["scheme"] == "https" and settings["http_parent"]:
        redirect = {"scheme": "https", "port": route["port"], "statusCode": 301}
        # Of the same paths, since another component may have others of the host.
        filters = {"matches": rule["matches"], "filters": [{"type": "RequestRedirect", "requestRedirect": redirect}]}
        made.append(_http_route(component, route, "-redirect", settings["http_parent"], filters))
    return [*made, *([_backend_policy(component, route)] if route.get("backend") else [])]


def _http_route(
    component: dict[str, Any], route: dict[str, Any], suffix: str, parent: dict[str, str], rule: dict[str, Any]
) -> dict[str, Any]:
    spec = {"parentRefs": [parent], "hostnames": [route["host"]], "rules": [rule]}
    return _made(component, GATEWAYS, "HTTPRoute", route["name"] + suffix, spec=spec)


def _backend_policy(component: dict[str, Any], route: dict[str, Any]) -> dict[str, Any]:
    """Give what a Gateway verifies the certificate of a route's Service by."""
    backend = route["backend"]
    validation = {
        "caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": backend["config_map"]}],
        "hostname": backend["host"],
    }
    targets = [{"group": "", "kind": "Service", "name": route["service"], "sectionName": route["port_name"]}]
    spec = {"targetRefs": targets, "validation": validation}
    return _made(component, GATEWAYS, "BackendTLSPolicy", route["service"], spec=spec)


def routes(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give what an edge has to match for each public URL, as Ingresses and HTTPRoutes take it.

    Args:
        entries: each with C(url), a public URL, C(paths) below it, and whatever else describes it. Entries of one
            URL become one, the first. One without a URL, or whose host is an address or localhost, is left out.

    Returns:
        The entries with C(scheme), C(host) in lower case, C(port), C(base), the path of the URL without a
        slash at its end, and C(matches), each with C(path) and C(type), which is Exact or Prefix. A prefix ends in a
        slash, so that it matches whole segments everywhere.
    """
    merged: dict[tuple[str, str, str], dict[str, Any]] = {}
    for entry in entries:
        parts = urlsplit(str(entry["url"]))
        host = (parts.hostname or "").lower()
        if not host or _PLACELESS.fullmatch(host):
            continue
        base = parts.path.rstrip("/")
        known = merged.setdefault(
            (parts.scheme, host, base),
            {
                **entry,
                "scheme": parts.scheme,
                "host": host,
                "port": parts.port or _PORTS[parts.scheme],
                "base": base,
                "matches": [],
            },
        )
        known["matches"] += [
            each for path in entry["paths"] for each in _matches(base + path) if each not in known["matches"]
        ]
    return list(merged.values())


def _matches(path: str) -> list[dict[str, str]]:
    """Give what matches this path and all below it."""
    bare = path.rstrip("/")
    exact = [{"path": bare, "type": "Exact"}] if bare else []
    return [*exact, {"path": f"{bare}/", "type": "Prefix"}]


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Any]:
        """Give the filter of this file by name."""
        return {"with_network": with_network}
