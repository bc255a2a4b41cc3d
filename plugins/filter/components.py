# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters over components, as roles hand them to role C(platform), and over the lists that they are made from."""

from __future__ import annotations

import re
from typing import Any

from ansible.errors import AnsibleFilterError

# What an object is found again by.
Reference = dict[str, str]


def secrets_of_components(
    components: list[dict[str, Any]], labels: dict[str, str] | None = None
) -> list[dict[str, Any]]:
    """List the Secrets of components, each once with the namespaces of all that name it with the same keys.

    Args:
        components: components in dependency order. The component that makes a Secret comes before those that read it.
        labels: labels of the Secrets that the components make.

    Returns:
        Secrets as module C(credentials) takes them. The first namespace is that of the component that makes it.
    """
    merged: list[dict[str, Any]] = []
    for secret in (each for component in components for each in component.get("secrets") or []):
        for known in merged:
            if _content(known) == _content(secret):
                known["namespaces"] = list(dict.fromkeys([*known["namespaces"], *secret["namespaces"]]))
                break
        else:
            made = labels and not _exists(secret) and not (secret.get("certificate") or {}).get("issuer")
            merged.append({**secret, "labels": labels} if made else dict(secret))
    return merged


def _content(secret: dict[str, Any]) -> tuple[Any, ...]:
    """Give what a Secret has in any of its namespaces."""
    return secret["name"], secret.get("keys"), secret.get("certificate"), _exists(secret)


def _exists(secret: dict[str, Any]) -> bool:
    """Tell whether a Secret has to be there already."""
    return bool(secret.get("existing", False))


def up_to(components: list[dict[str, Any]], last: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Pick the components up to the last one of these, in dependency order."""
    end = max((position for position, each in enumerate(components, 1) if each in last), default=0)
    return components[:end]


def places_of_secrets(secrets: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give C(namespace), C(name) and C(existing) of each Secret in each of its namespaces, as they are exported.

    What cert-manager makes is left out: its Certificate is exported.
    """
    return [
        {"namespace": namespace, "name": secret["name"], "existing": _exists(secret)}
        for secret in secrets
        if not (secret.get("certificate") or {}).get("issuer")
        for namespace in secret["namespaces"]
    ]


def fill_in(lists: list[Any], home: str, secret: str, defaults: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """Join lists of items, and fill in what an item may leave out: the name of its Secret, and its namespaces.

    What is no list or no item is left out, since the lists are also read before they were checked.

    Args:
        lists: lists of items with C(name), and perhaps C(secret) and C(namespaces).
        home: the namespace that has each Secret first.
        secret: name of a Secret whose item names none, with C({name}), or with C({slug}) for the name with hyphens in
            place of dots and underscores.
        defaults: other keys, with the values for items that lack them.

    Returns:
        The items, each with C(name), C(secret), C(namespaces) and the keys of I(defaults).
    """
    items = [item for each in lists if isinstance(each, list) for item in each]
    filled = []
    for item in items:
        if not isinstance(item, dict) or "name" not in item:
            continue
        name = str(item["name"])
        given = {key: value for key, value in item.items() if value is not None}
        default = secret.format(name=name, slug=re.sub(r"[_.]", "-", name))
        namespaces = list(dict.fromkeys([home, *(given.get("namespaces") or [])]))
        filled.append({**(defaults or {}), **given, "secret": given.get("secret") or default, "namespaces": namespaces})
    return filled


def given(secrets: list[dict[str, Any]], homes: list[str], own: list[str]) -> list[str]:
    """Name the Secrets by which other namespaces than the stack's have credentials of it, as C(namespace/name).

    Args:
        secrets: what C(fill_in) completed.
        homes: namespaces of the stack whose credentials are meant.
        own: all namespaces of the stack.
    """
    return [
        f"{namespace}/{secret['secret']}"
        for secret in secrets
        if secret["namespaces"][0] in homes
        for namespace in secret["namespaces"]
        if namespace not in own
    ]


def objects_at(places: list[str], kinds: dict[str, str]) -> list[dict[str, Any]]:
    """Name objects of these kinds at C(namespace/name), as manifests without content.

    Args:
        places: namespaces and names.
        kinds: API versions by kind. All objects of the first kind come first.
    """
    return [
        {
            "apiVersion": version,
            "kind": kind,
            "metadata": dict(zip(("namespace", "name"), place.split("/"), strict=True)),
        }
        for kind, version in kinds.items()
        for place in places
    ]


def secrets_of_items(items: list[dict[str, Any]], keys: dict[str, Any]) -> list[dict[str, Any]]:
    """List the Secrets of items that C(fill_in) completed.

    Args:
        items: items with C(name), C(secret) and C(namespaces).
        keys: the keys of each Secret, as module C(credentials) takes them. A key whose value is C(name) holds the
            item's name, and one with C(account) that of its account, which rotations change between two.
    """
    return [
        {
            "name": item["secret"],
            "namespaces": item["namespaces"],
            "keys": {
                key: {"name": {"value": item["name"]}, "account": account_names(item["name"])}[content]
                if isinstance(content, str)
                else content
                for key, content in keys.items()
            },
        }
        for item in items
    ]


def rotatable(secrets: list[dict[str, Any]], supplied: dict[str, Any], kept: list[str]) -> dict[str, list[str]]:
    """Name the Secrets whose values are made here, so that they can be replaced by others.

    Args:
        secrets: Secrets as module C(credentials) takes them.
        supplied: credentials that the inventory supplies, by the names of their Secrets.
        kept: names of Secrets that are left out.

    Returns:
        C(secrets) with generated keys, C(certificates) that the stack's own CA issues, and C(authorities), that CA.
    """
    own = [each for each in secrets if not _exists(each) and each["name"] not in (*supplied, *kept)]
    certificates = [each for each in own if (each.get("certificate") or {}).get("authority")]
    return {
        "secrets": sorted(
            {each["name"] for each in own for key in (each.get("keys") or {}).values() if (key or {}).get("generate")}
        ),
        "certificates": sorted({each["name"] for each in certificates if not each["certificate"].get("issuer")}),
        "authorities": sorted({each["name"] for each in own if (each.get("certificate") or {}).get("ca")}),
    }


def account_names(name: str) -> dict[str, str]:
    """Give the names between which rotations change an account, as module C(credentials) takes them."""
    # PostgreSQL cuts names off at 63 bytes.
    return {"value": name, "alternate": f"{name[:61]}_2"}


def environment_of_keys(keys: dict[str, str], secret: str) -> list[dict[str, Any]]:
    """List environment variables with keys of a Secret that rotate with an overlap.

    Args:
        keys: names of keys by the names of variables.
        secret: name of the Secret.

    Returns:
        For each variable, itself and those that the server takes the keys before and after it from, which a Secret of
        others need not have.
    """
    return [
        {"name": before + variable, "valueFrom": {"secretKeyRef": {"name": secret, "key": key + after, **optional}}}
        for variable, key in keys.items()
        for before, after, optional in (
            ("", "", {}),
            ("MLOPS_PREVIOUS_", "-previous", {"optional": True}),
            ("MLOPS_NEXT_", "-next", {"optional": True}),
        )
    ]


def secrets_of_dependencies(
    dependencies: list[dict[str, Any]], namespace: str, supplied: dict[str, Any]
) -> list[dict[str, Any]]:
    """List the Secrets that a component reads of its dependencies.

    Args:
        dependencies: each with C(name) and C(keys) of its Secret, C(variable) that names it, and C(own): whether a
            component of this collection makes it. The first of one name counts.
        namespace: the namespace of the component.
        supplied: credentials that the inventory supplies, by the names of their Secrets.

    Returns:
        Secrets as module C(credentials) takes them. One that is neither made nor supplied here has to exist.
    """
    first = {each["name"]: each for each in reversed(dependencies)}
    return [
        {
            "name": each["name"],
            "variable": each["variable"],
            "namespaces": [namespace],
            "existing": not each["own"] and each["name"] not in supplied,
            "keys": each["keys"] if each["own"] else {key: {} for key in each["keys"]},
        }
        for each in (first[name] for name in dict.fromkeys(each["name"] for each in dependencies))
    ]


def hashes_of(secrets: list[str], fingerprints: dict[str, str], namespace: str) -> str:
    """Join the hashes of Secrets' values for an annotation of the pods that read them, in the order of their names.

    Args:
        secrets: names of Secrets.
        fingerprints: hashes by C(namespace/name), as module C(credentials) returns them.
        namespace: the namespace of the pods.
    """
    return " ".join(fingerprints.get(f"{namespace}/{name}") or "" for name in secrets).strip()


def in_namespaces(objects: list[dict[str, Any]], namespaces: list[str]) -> list[dict[str, Any]]:
    """Pick the objects that have no namespace, or one of these."""
    return [each for each in objects if each["metadata"].get("namespace") in (None, "", *namespaces)]


def references(objects: list[dict[str, Any]]) -> list[Reference]:
    """Name objects by API version, kind, namespace (where they have one) and name."""
    return [
        {
            "api_version": each["apiVersion"],
            "kind": each["kind"],
            "name": each["metadata"]["name"],
            **({"namespace": each["metadata"]["namespace"]} if each["metadata"].get("namespace") else {}),
        }
        for each in objects
    ]


def removals(
    manifests: list[list[dict[str, Any]]], components: list[dict[str, Any]], others: list[dict[str, Any]] | None = None
) -> list[list[dict[str, Any]]]:
    """Pick what goes when components are removed: first the workloads, and the rest once they are gone.

    Both are in the reverse of the order in which they were applied. With its data, a component's namespace goes as a
    whole, and what the component made outside of it. Without, all but the namespace, volume claims and definitions
    goes: claims are the data, and with a definition all objects of its kind would go.

    A namespace in which pods still end is looked at again only after half of their grace period (the namespace
    controller of Kubernetes, ResourcesRemainingError), so it goes sooner once they have ended.

    Args:
        manifests: for each component, the objects that its templates render.
        components: the components, each with C(namespace), C(delete_data), and perhaps C(kept_kinds) that stay in any
            case.
        others: objects that go as well.
    """
    workloads, gone = [], list(others or [])
    listed = references(gone)
    for objects, component in reversed(list(zip(manifests, components, strict=True))):
        kept = set(component.get("kept_kinds") or [])
        if not component["delete_data"]:
            kept |= {"Namespace", "CustomResourceDefinition", "PersistentVolumeClaim"}
        for each in reversed(objects):
            inside = each["metadata"].get("namespace") == component["namespace"]
            if each["kind"] in ("Deployment", "StatefulSet"):
                workloads.append(each)
            elif each["kind"] in kept or (component["delete_data"] and inside):
                continue
            elif references([each])[0] not in listed:
                gone.append(each)
    return [workloads, gone]


def program_clients(programs: list[dict[str, Any]], home: str, mappers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give the clients of programs that log in at Keycloak by themselves, as module C(keycloak_realm) takes them.

    Args:
        programs: what C(fill_in) completed.
        home: the namespace in which the module reads their Secrets.
        mappers: the protocol mappers of each client.
    """
    return [
        {
            "client_id": program["name"],
            "name": program["name"],
            "secret": {"namespace": home, "name": program["secret"]},
            "standard_flow": False,
            "service_accounts": True,
            "pkce": "none",
            "mappers": mappers,
        }
        for program in programs
    ]


_UNITS = {"h": 3600, "m": 60, "s": 1}


def seconds_of_duration(duration: Any) -> int:
    """Give a Go duration of hours, minutes and seconds, such as "1h30m", in seconds.

    Raises:
        AnsibleFilterError: it is no such duration.
    """
    parts = re.findall(r"([0-9]+)([hms])", str(duration))
    if not parts or "".join(f"{number}{unit}" for number, unit in parts) != str(duration):
        raise AnsibleFilterError(f"'{duration}' is no duration such as 24h or 1h30m")
    return sum(int(number) * _UNITS[unit] for number, unit in parts)


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Any]:
        """Give the filters of this file by name."""
        return {
            "account_names": account_names,
            "environment_of_keys": environment_of_keys,
            "fill_in": fill_in,
            "given": given,
            "hashes_of": hashes_of,
            "in_namespaces": in_namespaces,
            "objects_at": objects_at,
            "places_of_secrets": places_of_secrets,
            "program_clients": program_clients,
            "references": references,
            "rotatable": rotatable,
            "removals": removals,
            "seconds_of_duration": seconds_of_duration,
            "secrets_of_components": secrets_of_components,
            "secrets_of_dependencies": secrets_of_dependencies,
            "secrets_of_items": secrets_of_items,
            "up_to": up_to,
        }
