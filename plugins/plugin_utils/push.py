# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pushes built images to a registry, where it does not have them yet."""

from __future__ import annotations

import time
import urllib.error
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ansible.module_utils.urls import open_url
from ansible_collections.mlops.mlflow.plugins.plugin_utils import builder, machine

# Components whose image is not named by <component>_image.
VARIABLES = {"oauth2_proxy": "mlflow_oauth2_proxy_image"}
MANIFESTS = ", ".join(
    (
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)


def loopback(registry: str) -> bool:
    """Whether a registry is on this machine, where engines speak plain HTTP too."""
    host = registry.partition("/")[0].rpartition(":")[0] or registry.partition("/")[0]
    return host in ("localhost", "127.0.0.1", "[::1]")


def has(image: str, timeout: float = 10.0) -> bool | None:
    """Whether a registry has an image; None where it does not tell without a login.

    Args:
        image: full name, registry/path:tag
    """
    registry, _unused, rest = image.partition("/")
    path, _unused, tag = rest.rpartition(":")
    scheme = "http" if loopback(registry) else "https"
    url = f"{scheme}://{registry}/v2/{path}/manifests/{tag}"
    try:
        with open_url(url, method="HEAD", headers={"Accept": MANIFESTS}, timeout=timeout, use_netrc=False):
            return True
    except urllib.error.HTTPError as error:
        return False if error.code == 404 else None
    except (OSError, ValueError) as error:
        raise machine.MachineError(
            f"images_push_registry is '{registry}': it does not answer ({machine.network_reason(error)})"
        ) from error


def push(
    engine: machine.Engine | None,
    images: Mapping[str, str],
    names: Iterable[str],
    registry: str,
    *,
    say: Callable[[str], None],
    check_mode: bool,
) -> dict[str, dict[str, Any]]:
    """Push images.

    Args:
        images: dict of component to image
        names: components to push
        registry: host[:port][/path]
        say: function that is given a line of progress

    Returns:
        dict of component to {image, changed}

    Raises:
        machine.MachineError: the registry does not answer, or refuses
    """
    pushed = {}
    for name in names:
        if name not in images:
            continue
        image = f"{registry.rstrip('/')}/{images[name].rpartition('/')[2]}"
        there = has(image)
        pushed[name] = {"image": image, "changed": there is False}
        if there:
            continue
        if check_mode:
            say(f"would push {image}")
            continue
        if engine is None:
            raise machine.MachineError("no container engine works here")
        started = time.monotonic()
        say(f"pushing {image} ...")
        insecure = ["--tls-verify=false"] if engine.name == "podman" and loopback(registry) else []
        engine.output("tag", images[name], image)
        engine.output("push", *insecure, image, timeout=3600)
        say(f"pushed {image} in {builder.duration(time.monotonic() - started)}")
    return pushed


def inventory_lines(pushed: Mapping[str, str]) -> list[str]:
    """Lines of an inventory that name pushed images.

    Args:
        pushed: dict of component to image
    """
    return [f"{VARIABLES.get(name, f'{name}_image')}: {image}" for name, image in pushed.items()]
