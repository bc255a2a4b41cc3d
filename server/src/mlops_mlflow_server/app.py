# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The application that `python -m mlops_mlflow_server.serve` serves: MLflow with one of the login modes.

Each mode is a module `login_...` with `application()`, `databases()`, `checks()` and `PROBES`, the probe paths
that the application itself does not serve.
"""

import importlib
import os

import sqlalchemy

from mlops_mlflow_server import audit, calls, connections, counts, logs, metrics, parts
from mlops_mlflow_server.attempts import Attempts
from mlops_mlflow_server.bounds import Bounds
from mlops_mlflow_server.databases import Failure, engine_of
from mlops_mlflow_server.drain import Draining
from mlops_mlflow_server.outage import OutageAware, Readiness, Watch
from mlops_mlflow_server.parts import Part
from mlops_mlflow_server.public import Public
from mlops_mlflow_server.settings import login
from mlops_mlflow_server.window import Held, Window


def _is_closed() -> bool:
    return metrics.is_closed(importlib.import_module("mlflow.server").app)


with parts.readable():
    # Before MLflow's server is imported, so the imports below are dynamic.
    parts.start([Part("connections", "uvicorn", connections.fits, "idle connections would stay open", required=True)])
    _handlers = importlib.import_module("mlflow.server.handlers")
    _hosts = importlib.import_module("mlops_mlflow_server.hosts")
    _login = importlib.import_module(f"mlops_mlflow_server.login_{login()}")
    _encryption = importlib.import_module("mlops_mlflow_server.encryption")

# At the start instead of at the first request; raises MLflow's message if the schema has another version.
_handlers.initialize_backend_stores(os.environ["MLFLOW_BACKEND_STORE_URI"], os.environ["MLFLOW_BACKEND_STORE_URI"])
_ROTATION = "calls would fail while the encryption keys are rotated"
parts.start([Part("encryption keys", parts.MLFLOW, _encryption.accept, _ROTATION, required=False)])
try:
    _encryption.ensure(engine_of("MLFLOW_BACKEND_STORE_URI"))
except Failure as error:
    parts.end(str(error))

_watch = Watch()
_watch.listen()
_readiness = Readiness(
    {"tracking_database": os.environ["MLFLOW_BACKEND_STORE_URI"], **_login.databases()}, _login.checks()
)
with parts.readable():
    _application = _login.application()
    parts.start([Part("metrics", parts.MLFLOW, _is_closed, f"{metrics.PATH} would be public", required=True)])
calls.install()
metrics.watch_databases(sqlalchemy.make_url(os.environ["MLFLOW_BACKEND_STORE_URI"]).database or "")
metrics.serving(login())
counts.begin(_login.databases().values())
try:
    _audit = audit.log()
except (OSError, ValueError) as error:
    parts.end(f"The audit log cannot be written: {error}")
try:
    # Imported where it is wanted only: it takes memory.
    _spans = importlib.import_module("mlops_mlflow_server.spans").start() if os.environ.get(calls.SPANS) else None
except (OSError, ValueError) as error:
    parts.end(f"Spans cannot be sent: {error}")
connections.Limits()  # reads its settings, so that a wrong one ends the start
_window = Window(os.environ["MLFLOW_BACKEND_STORE_URI"])
_window.begin()
_served = Held(OutageAware(_application, _watch, _readiness, _login.PROBES), _window)
_bounded = Draining(Bounds(Attempts(_served, _login.is_login), _login.takes_no_body))
app = Public(_hosts.Headers(calls.Observed(_bounded, _login.account, _audit, logs.Calls(), _spans)))
logs.install()
