# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""MLflow's assistant is off: it runs a shell on the server for whoever may configure it from a loopback address.

A forwarded port and a sidecar proxy are such addresses. The routes are removed, and `bounds` answers 404 at their paths
before it asks who the caller is.
"""

import re

from fastapi import FastAPI

# What is the case where this does not fit.
CONSEQUENCE = "it would run commands for users"
# With any static prefix, and with repeated slashes.
_PATH = re.compile(r"/+ajax-api/+[^/]+/+mlflow/+assistant(/|$)")
_ARTIFACT = re.compile(r"/(ajax-)?api/2\.0/mlflow-artifacts/")


def is_path(path: str) -> bool:
    """Return whether the assistant would be at this path."""
    return "assistant" in path and _PATH.search(path) is not None and _ARTIFACT.search(path) is None


def install(application: FastAPI) -> int:
    """Remove the assistant's routes from a FastAPI application; return the number of removals."""
    from mlflow.server.assistant.api import assistant_router  # noqa: PLC0415  (imports MLflow's server, see app.py)

    routes = application.router.routes
    kept = [route for route in routes if getattr(route, "original_router", None) is not assistant_router]
    removed = len(routes) - len(kept)
    routes[:] = kept
    return removed
