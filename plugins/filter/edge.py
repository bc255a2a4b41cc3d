# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters over public URLs, and what has to lead from them into the cluster."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

# Hosts that no edge can be found by.
_PORTS = {"http": 80, "https": 443}
_PLACELESS = re.compile(r"localhost|.+\.localhost|[0-9.]+|.*:.*")


def routes(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give what an edge has to match for each public URL, as Ingresses and HTTPRoutes take it.

    Args:
        entries: each with C(url), a public URL, C(paths) below it, and whatever else a template needs. Entries of one
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


def former_routes(
    existing: list[dict[str, Any]], namespace: str, kind: str, wanted: list[dict[str, Any]], redirects: bool = False
) -> list[dict[str, Any]]:
    """Pick the routes that other settings have left in a namespace.

    Args:
        existing: Ingresses and HTTPRoutes of the collection, as manifests.
        namespace: the namespace of the component.
        kind: the kind of routes that the edge takes, or empty for none.
        wanted: what C(routes) gave for the component.
        redirects: whether each of them that is https has another that redirects to it.
    """
    names = {each["name"] for each in wanted}
    names |= {f"{each['name']}-redirect" for each in wanted if redirects and each["scheme"] == "https"}
    return [
        each
        for each in existing
        if each["metadata"]["namespace"] == namespace
        and not (each["kind"] == kind and each["metadata"]["name"] in names)
    ]


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Any]:
        """Give the filters of this file by name."""
        return {"former_routes": former_routes, "routes": routes}
