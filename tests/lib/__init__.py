"""What the tests share: the stack under test, its users and pages, the playbooks' runs, and the roles' templates."""

import os
import pathlib

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
#: Where the tests' cluster is kept, and the inventory that every scenario begins with.
DIRECTORY = REPOSITORY / "build" / "test"
INVENTORY = REPOSITORY / "tests" / "inventory"
#: What the images were built from; looked up before a test changes its home directory.
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "mlops.mlflow"
