# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Quantities of memory and storage, as Kubernetes writes them."""

from __future__ import annotations

import re
from decimal import Decimal

# https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/ but for a sign: no size has one.
MULTIPLIERS = (
    {"n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3")}
    | {suffix: Decimal(1000**power) for power, suffix in enumerate(["", "k", "M", "G", "T", "P", "E"])}
    | {suffix: Decimal(1024**power) for power, suffix in enumerate(["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"], start=1)}
)
FORM = re.compile(r"(\d+\.?\d*|\.\d+)(?:([eE][+-]?\d{1,2})|(" + "|".join(filter(None, MULTIPLIERS)) + "|))")


def parse(quantity: str | float) -> Decimal:
    """Give the number that a quantity stands for.

    Args:
        quantity: such as 10Gi, 1.5G, 1181116006400m or 1e9, or a number.

    Raises:
        ValueError: where it is no quantity.
    """
    found = FORM.fullmatch(str(quantity))
    if not found:
        raise ValueError(f"'{quantity}' is no quantity of Kubernetes, such as 512Mi or 1.5Gi")
    number, exponent, suffix = found.groups(default="")
    return Decimal(number + exponent) * MULTIPLIERS[suffix]


def mebibytes(quantity: str | float) -> int:
    """Give a quantity of bytes in whole MiB, rounded down.

    Args:
        quantity: such as 10Gi, or a number of bytes.

    Raises:
        ValueError: where it is no quantity.
    """
    return int(parse(quantity) / 2**20)
