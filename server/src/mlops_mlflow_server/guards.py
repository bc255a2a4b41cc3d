# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts that keep one user from what is another's, for the lists of the login modes."""

from typing import Any

from mlops_mlflow_server import callers, experiments, traces
from mlops_mlflow_server.parts import MLFLOW, PLUGIN, Part


def of_store(application: Any, caller: callers.Caller) -> tuple[Part, ...]:
    """Return the parts of every login mode.

    Args:
        application: the FastAPI application, which has not started.
        caller: the caller of the login mode.
    """
    return (
        Part(
            "traces",
            MLFLOW,
            lambda: callers.install(application) and traces.install(caller),
            "who may write to one experiment could change the traces of all",
            required=True,
        ),
        Part(
            "experiments",
            MLFLOW,
            lambda: experiments.install(caller),
            "everyone could store artifacts wherever the server can",
            required=True,
        ),
    )


def of_plugin(application: Any) -> tuple[Part, ...]:
    """Return the parts of login mode `oidc`; its application has not started."""
    # Only installed, hence imported, with this mode.
    from mlops_mlflow_server import admins, names, searches, sessions, tokens  # noqa: PLC0415  (see above)

    return (
        Part("token kinds", PLUGIN, tokens.install, "ID tokens and those of deleted accounts would do", required=True),
        Part("administrators", PLUGIN, admins.install, "former administrators would stay so by token", required=True),
        Part("names", PLUGIN, names.install, "a name could become that of another user", required=True),
        Part("searches", PLUGIN, searches.install, "searches would tell about hidden rows", required=True),
        Part(
            "logins",
            PLUGIN,
            lambda: sessions.install(application),
            "logins that do not end would fill the database",
            required=True,
        ),
    )
