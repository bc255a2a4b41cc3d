# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The application that `python -m mlops_mlflow_server.serve` serves: MLflow with one of the login modes.

Each mode is a module `login_...` with `application()`, `databases()`, `checks()` and `PROBES`, the probe paths
that the application itself does not serve.
"""

import importlib
import os

from mlops_mlflow_server import metrics
from mlops_mlflow_server.databases import engine_of
from mlops_mlflow_server.drain import Draining
from mlops_mlflow_server.outage import OutageAware, Readiness, Watch
from mlops_mlflow_server.settings import login

# This must run before MLflow's server is imported, so the imports below are dynamic.
metrics.without_view()
_handlers = importlib.import_module("mlflow.server.handlers")
_login = importlib.import_module(f"mlops_mlflow_server.login_{login()}")

# At the start instead of at the first request; raises MLflow's message if the schema has another version.
_handlers.initialize_backend_stores(os.environ["MLFLOW_BACKEND_STORE_URI"], os.environ["MLFLOW_BACKEND_STORE_URI"])
importlib.import_module("mlops_mlflow_server.encryption").ensure(engine_of("MLFLOW_BACKEND_STORE_URI"))

_watch = Watch()
_watch.listen()
_readiness = Readiness(
    {"tracking_database": os.environ["MLFLOW_BACKEND_STORE_URI"], **_login.databases()}, _login.checks()
)
_application = _login.application()
metrics.check_closed(importlib.import_module("mlflow.server").app)
app = Draining(OutageAware(_application, _watch, _readiness, _login.PROBES))
