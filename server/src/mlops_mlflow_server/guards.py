# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts that keep one user from what is another's, for the lists of the login modes."""

from typing import Any

from mlops_mlflow_server import callers, experiments, traces
from mlops_mlflow_server.parts import MLFLOW, Part


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
