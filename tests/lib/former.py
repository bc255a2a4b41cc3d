"""A former version of the collection, from the history of this repository."""

import contextlib
import pathlib
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from tests.lib import REPOSITORY


class Former:
    """A former version: its checkout, and what makes Ansible use it in place of this one.

    Args:
        directory: where the checkout is.
        cluster: the directory of the cluster that both versions deploy on.
    """

    def __init__(self, directory: pathlib.Path, cluster: pathlib.Path) -> None:
        self.checkout = directory / "checkout"
        self.inventory = self.checkout / "tests" / "inventory"
        self.words = ("-e", f"kind_cluster_directory={cluster}")
        collections = directory / "collections"
        # Comes before Python's path, which holds this version.
        self.environment = {"ANSIBLE_COLLECTIONS_PATH": str(collections)}
        self.link = collections / "ansible_collections" / "mlops" / "mlflow"


@contextlib.contextmanager
def former_version(commit: str, cluster: pathlib.Path) -> Iterator[Former]:
    """Check out a former version during a block; skip the test if the history does not have it.

    Args:
        commit: its full hash.
        cluster: the directory of the cluster.
    """
    if not shutil.which("git"):
        pytest.skip("there is no git, which has the former version")
    if _git("cat-file", "-e", f"{commit}^{{commit}}").returncode != 0:
        pytest.skip(f"this checkout's history does not have {commit}, as in a shallow clone: git fetch --unshallow")
    directory = REPOSITORY / "build" / "former"
    former = Former(directory, cluster)
    _remove(directory)
    added = _git("worktree", "add", "--force", "--detach", former.checkout, commit)
    assert added.returncode == 0, added.stderr
    try:
        former.link.parent.mkdir(parents=True)
        former.link.symlink_to(former.checkout)
        yield former
    finally:
        _remove(directory)


def _git(*words: str | pathlib.Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *words], cwd=REPOSITORY, capture_output=True, text=True, check=False)


def _remove(directory: pathlib.Path) -> None:
    """Remove the checkout and its entry in git, if there are any."""
    _git("worktree", "remove", "--force", directory / "checkout")
    shutil.rmtree(directory, ignore_errors=True)
