# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The patches of upstream packages as parts, and the versions that they were tested with.

A part replaces something private of MLflow, mlflow-oidc-auth or a package below them. A required part protects; a part
of comfort makes the server faster or more convenient. If the installed version lacks what a required part replaces, the
start ends with one sentence and exit code 1; without a part of comfort the server starts and logs a warning. Versions
of MLflow and mlflow-oidc-auth other than `TESTED` end the start too, unless `MLOPS_UNTESTED_VERSIONS` is `true`.
"""

import contextlib
import dataclasses
import importlib.metadata
import logging
import multiprocessing
import os
import signal
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NoReturn

_logger = logging.getLogger("mlflow.mlops")

MLFLOW = "mlflow"
PLUGIN = "mlflow-oidc-auth"
# The versions of requirements.txt, against which the tests run.
TESTED = {MLFLOW: "3.17.2", PLUGIN: "11.0.2"}
VARIABLE = "MLOPS_UNTESTED_VERSIONS"
# A worker sends it to its parent, which then ends instead of starting another worker.
MISFIT_SIGNAL = signal.SIGRTMIN


class MisfitError(Exception):
    """The installed packages do not fit; the message is one sentence."""


@dataclasses.dataclass(frozen=True)
class Part:
    """A patch of an upstream package.

    Args:
        name: what the part is, in a word or two.
        package: the distribution that it patches.
        install: applies the patch; returns a false value, or raises ImportError or AttributeError, if the installed
            version lacks what the patch replaces.
        consequence: what is the case without the part, as a clause.
        required: whether the part protects, so that the server must not start without it.
    """

    name: str
    package: str
    install: Callable[[], object]
    consequence: str
    required: bool


def start(parts: Iterable[Part]) -> None:
    """Install `parts` in their order; log a warning for each part of comfort that does not fit.

    Raises:
        MisfitError: a required part does not fit.
    """
    for part in parts:
        reason = ""
        try:
            fits = bool(part.install())
        except (ImportError, AttributeError) as error:
            fits, reason = False, f" ({_line(error)})"
        if fits:
            continue
        sentence = (
            f"The part '{part.name}' does not fit {part.package} {importlib.metadata.version(part.package)}{reason}:"
            f" without it, {part.consequence}"
        )
        if part.required:
            raise MisfitError(sentence)
        _logger.warning("%s", sentence)


def check_versions(environment: Mapping[str, str]) -> str:
    """Return a warning about installed versions that were not tested, empty if there are none.

    Raises:
        MisfitError: there are some, and `MLOPS_UNTESTED_VERSIONS` does not allow them.
        ValueError: `MLOPS_UNTESTED_VERSIONS` is neither true nor false.
    """
    text = environment.get(VARIABLE, "").strip().lower()
    if text not in ("", "true", "false"):
        raise ValueError(f"{VARIABLE} is '{environment[VARIABLE]}': it must be true or false")
    found = {package: importlib.metadata.version(package) for package in TESTED}
    others = [f"{package} {version}" for package, version in found.items() if version != TESTED[package]]
    if not others:
        return ""
    tested = " and ".join(f"{package} {version}" for package, version in TESTED.items())
    sentence = f"This server package was tested with {tested}, and not with the installed {' and '.join(others)}"
    if text == "true":
        return sentence
    raise MisfitError(f"{sentence}: install those versions, or set {VARIABLE} to true (mlflow_untested_versions)")


@contextlib.contextmanager
def readable() -> Iterator[None]:
    """End the process with one sentence if a part, or a name that is imported in this block, does not fit."""
    try:
        yield
    except MisfitError as error:
        end(str(error))
    except ImportError as error:
        end(_lacks(error))
    except AttributeError as error:
        # Other attribute errors are mistakes in code, which need a traceback.
        if not isinstance(error.obj, types.ModuleType | type):
            raise
        end(_lacks(error))


def end(sentence: str) -> NoReturn:
    """Print `sentence` and end the process, and its parent if it is one of several workers, with exit code 1."""
    print(sentence, file=sys.stderr, flush=True)
    if multiprocessing.parent_process() is not None:
        os.kill(os.getppid(), MISFIT_SIGNAL)
    sys.exit(1)


def _lacks(error: Exception) -> str:
    found = " and ".join(f"{package} {importlib.metadata.version(package)}" for package in TESTED)
    return f"The installed packages ({found}) lack what the server package uses: {_line(error)}"


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
