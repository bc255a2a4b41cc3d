# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an edge matches for public URLs, and which routes are left over."""

import pytest
from ansible_collections.mlops.mlflow.plugins.filter.edge import former_routes, routes


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


def test_what_is_left_over():
    def made(kind, namespace, name):
        return {"apiVersion": "v1", "kind": kind, "metadata": {"namespace": namespace, "name": name}}

    existing = [
        made("Ingress", "mlflow", "mlflow"),
        made("Ingress", "mlflow", "mlflow-api"),
        made("HTTPRoute", "mlflow", "mlflow"),
        made("Ingress", "keycloak", "keycloak"),
    ]
    assert former_routes(existing, "mlflow", "Ingress", [{"name": "mlflow"}]) == existing[1:3]
    assert former_routes(existing, "mlflow", "HTTPRoute", [{"name": "mlflow"}]) == existing[:2]
    assert former_routes(existing, "mlflow", "", []) == existing[:3]
    redirect = made("HTTPRoute", "mlflow", "mlflow-redirect")
    for redirects, gone in ((True, []), (False, [redirect])):
        wanted = [{"name": "mlflow", "scheme": "https"}]
        assert former_routes([redirect], "mlflow", "HTTPRoute", wanted, redirects) == gone
