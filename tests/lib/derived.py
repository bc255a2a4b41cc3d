"""Images that are derived from those under test: of another version of MLflow, or broken."""

import json
import pathlib
import shutil
import subprocess
import sys
from typing import IO

from tests.lib.drill import Drill

# The virtual environment of the image.
PACKAGES = "/opt/mlflow/lib/python3*/site-packages"


def _run(*words: str | pathlib.Path, stdin: IO[bytes] | None = None) -> str:
    done = subprocess.run(list(map(str, words)), stdin=stdin, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words[:3]}: {done.stderr[-2000:]}"
    return done.stdout


def current(drill: Drill, component: str = "mlflow") -> str:
    """Return the image of MLflow under test, or of another component."""
    return json.loads((drill.directory / "images.json").read_text())[component]


def derive(drill: Drill, tag: str, *lines: str, folder: pathlib.Path, component: str = "mlflow") -> str:
    """Build an image by lines of a Containerfile, and load it into the cluster's nodes.

    Args:
        drill: the cluster.
        tag: of the image, whose repository is that of the image under test.
        lines: what comes after its `FROM`.
        folder: what `COPY` finds.
        component: whose image under test it is derived from.

    Returns:
        The image.
    """
    engine = shutil.which("podman") or shutil.which("docker")
    assert engine, "neither podman nor docker is on the PATH"
    base = current(drill, component)
    image = f"{base.rpartition(':')[0]}:{tag}"
    (folder / "Containerfile").write_text("\n".join([f"FROM {base}", *lines, ""]))
    _run(engine, "build", "--pull=false", "--file", folder / "Containerfile", "--tag", image, folder)
    archive = folder / "image.tar"
    _run(engine, "save", "--output", archive, image)
    for node in drill.stack.kubectl("get", "nodes", "--output", "name").split():
        with archive.open("rb") as stream:
            _run(
                engine,
                *("exec", "--interactive", node.partition("/")[2]),
                *("ctr", "--namespace=k8s.io", "images", "import", "-"),
                stdin=stream,
            )
    archive.unlink()
    return image


def of_version(drill: Drill, version: str, folder: pathlib.Path) -> str:
    """Return an image with another version of MLflow, and the rest as in the image under test."""
    names = [f"{name}=={version}" for name in ("mlflow", "mlflow-skinny", "mlflow-tracing")]
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    _run(*pip, "--no-deps", "--only-binary=:all:", "--target", folder / "packages", *names)
    return derive(drill, version, "COPY packages /opt/former", "ENV PYTHONPATH=/opt/former", folder=folder)


def that_does_not_start(drill: Drill, folder: pathlib.Path) -> str:
    """Return an image that migrates, and whose server does not start."""
    return derive(
        drill,
        "broken",
        "USER 0",
        f"RUN rm {PACKAGES}/mlops_mlflow_server/serve.py",
        "USER 10001:10001",
        folder=folder,
    )


def that_loads_nothing(drill: Drill, folder: pathlib.Path) -> str:
    """Return an image of PostgreSQL that makes no databases."""
    lines = ("USER 0", "RUN rm /usr/lib/postgresql/*/bin/initdb", "USER 999:999")
    major = current(drill, "postgres").rpartition(":")[2].partition("-")[0]
    return derive(drill, f"{major}-broken", *lines, folder=folder, component="postgres")
