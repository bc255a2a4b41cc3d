# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pushes built images to a registry, where it does not have them yet."""

from __future__ import annotations

import time
import urllib.error
import urllib.request

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


def loopback(registry):
    """Whether a registry is on this machine, where engines speak plain HTTP too."""
    host = registry.partition("/")[0].rpartition(":")[0] or registry.partition("/")[0]
    return host in ("localhost", "127.0.0.1", "[::1]")


def has(image, timeout=10.0):
    """Whether a registry has an image; None where it does not tell without a login.

    :param image: full name, registry/path:tag
    """
    registry, _, rest = image.partition("/")
    path, _, tag = rest.rpartition(":")
    scheme = "http" if loopback(registry) else "https"
    url = f"{scheme}://{registry}/v2/{path}/manifests/{tag}"
    request = urllib.request.Request(url, method="HEAD", headers={"Accept": MANIFESTS})  # noqa: S310 - http or https
    try:
        with urllib.request.urlopen(request, timeout=timeout):  # noqa: S310
            return True
    except urllib.error.HTTPError as error:
        return False if error.code == 404 else None
    except (OSError, ValueError) as error:
        raise machine.MachineError(
            f"images_push_registry is '{registry}': it does not answer ({machine.network_reason(error)})"
        ) from error


def push(engine, images, names, registry, *, say, check_mode):
    """Push images.

    :param images: dict of component to image
    :param names: components to push
    :param registry: host[:port][/path]
    :param say: function that is given a line of progress
    :returns: dict of component to {image, changed}
    :raises machine.MachineError: the registry does not answer, or refuses
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
        started = time.monotonic()
        say(f"pushing {image} ...")
        insecure = ["--tls-verify=false"] if engine.name == "podman" and loopback(registry) else []
        engine.output("tag", images[name], image)
        engine.output("push", *insecure, image, timeout=3600)
        say(f"pushed {image} in {builder.duration(time.monotonic() - started)}")
    return pushed


def inventory_lines(pushed):
    """Lines of an inventory that name pushed images.

    :param pushed: dict of component to image
    """
    return [f"{VARIABLES.get(name, f'{name}_image')}: {image}" for name, image in pushed.items()]
