# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Quantities of memory and storage, as Kubernetes writes them."""

from __future__ import annotations

import re

# https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
MULTIPLIERS = (
    {"m": 0.001}
    | {suffix: 1000**power for power, suffix in enumerate(["", "k", "M", "G", "T", "P", "E"])}
    | {suffix: 1024**power for power, suffix in enumerate(["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"], start=1)}
)
FORM = re.compile(r"(\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)(|" + "|".join(filter(None, MULTIPLIERS)) + ")")


def mebibytes(quantity: str | float) -> int:
    """Give a quantity in MiB, without what is left of one.

    :param quantity: such as V(10Gi), or a number of bytes; the API server writes V(1.1Gi) in thousandths, with an V(m)
    :raises ValueError: where it is no quantity
    """
    found = FORM.fullmatch(str(quantity))
    if not found:
        raise ValueError(f"'{quantity}' is no quantity of Kubernetes, such as 512Mi or 1.5Gi")
    number, suffix = found.groups()
    return int(float(number) * MULTIPLIERS[suffix] / 2**20)
