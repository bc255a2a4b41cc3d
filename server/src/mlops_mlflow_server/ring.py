# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys before and after the current one, so that a rotation ends no session and fails no call.

A rotation makes the next key the current one, and the current one the previous one. Pods that were started before it
know the new key as the next one, and those that are started afterwards know the former key as the previous one. So
while pods are replaced, each can read what the others signed or encrypted. What is written is written with the current
key only.

For a variable such as `SECRET_KEY`, the others are in `MLOPS_PREVIOUS_SECRET_KEY` and `MLOPS_NEXT_SECRET_KEY`, which
may be absent.
"""

import os
from typing import Any

import itsdangerous
from starlette.middleware.sessions import SessionMiddleware

PREVIOUS, NEXT = "MLOPS_PREVIOUS_", "MLOPS_NEXT_"


def previous(variable: str) -> list[str]:
    """Return the previous key of `variable` in a list, which is empty without one."""
    return [key for key in [os.environ.get(PREVIOUS + variable)] if key]


def following(variable: str) -> list[str]:
    """Return the next key of `variable` in a list, which is empty without one."""
    return [key for key in [os.environ.get(NEXT + variable)] if key]


def others(variable: str) -> list[str]:
    """Return the keys of `variable` besides the current one, the previous one first."""
    return previous(variable) + following(variable)


class Sessions(SessionMiddleware):
    """Starlette's cookie of a session, signed with the current key, and verified with the others too."""

    def __init__(self, app: Any, secret_key: str, **options: Any):
        super().__init__(app, secret_key, **options)
        # The last one signs: https://itsdangerous.palletsprojects.com/en/stable/concepts/#key-rotation
        self.signer = itsdangerous.TimestampSigner([*reversed(others("SECRET_KEY")), str(secret_key)])


def install(application: Any) -> bool:
    """Put `Sessions` in the place of Starlette's class; return whether it was there."""
    entries = [entry for entry in application.user_middleware if entry.cls is SessionMiddleware]
    for entry in entries:
        entry.cls = Sessions
    return bool(entries) and application.middleware_stack is None
