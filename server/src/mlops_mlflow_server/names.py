# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Refuse names of users that look like, or become, the name of another user."""

import unicodedata
from typing import Any


def is_stable(name: str) -> bool:
    """Return whether `name` is in Unicode's form NFKC, in lower case too.

    Accounts are kept in lower case, in which the Kelvin sign (U+212A) is an ordinary k.
    """
    return all(unicodedata.is_normalized("NFKC", each) for each in (name, name.lower()))


def install() -> bool:
    """Check names in mlflow-oidc-auth's logins and bearer tokens; return whether this version has the expected name."""
    from mlflow_oidc_auth.utils import oidc_field_extraction as extraction  # noqa: PLC0415  (bridge.py has no need of it)

    extract = getattr(extraction, "extract_field_from_payload", None)
    if extract is None:
        return False

    def extract_field(
        payload: dict[str, Any], field_list: list[str], field_type_name: str, *arguments: Any, **options: Any
    ) -> tuple[str | None, str | None]:
        value, error = extract(payload, field_list, field_type_name, *arguments, **options)
        if value is not None and field_type_name == "username" and not is_stable(value):
            return None, "MLflow cannot use the name of your login: it contains characters that stand for others"
        return value, error

    extraction.extract_field_from_payload = extract_field
    return True
