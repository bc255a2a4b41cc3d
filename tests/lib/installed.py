"""The collection as users have it: built, installed from its archive, and used from a directory of their own.

The virtual environment holds a link to the checkout, by which Ansible finds the collection in all other tests: what the
archive lacks would not be missed there. Here only the paths below are looked at, and they hold what galaxy.yml names.
"""

import json
import os
import pathlib
import subprocess
import sys
import sysconfig

import yaml

from tests.lib import REPOSITORY

GALAXY = yaml.safe_load((REPOSITORY / "galaxy.yml").read_text())
NAME = f"{GALAXY['namespace']}.{GALAXY['name']}"


class Installed:
    """The collection, built from the checkout and installed below a directory.

    Args:
        directory: an empty one.
    """

    def __init__(self, directory):
        self.collections = pathlib.Path(directory).resolve() / "collections"
        self.place = self.collections / "ansible_collections" / GALAXY["namespace"] / GALAXY["name"]
        self.elsewhere = self.collections.parent / "elsewhere"
        self.elsewhere.mkdir(parents=True)
        settings = self.elsewhere / "ansible.cfg"
        settings.write_text("")
        # Outside of a checkout its settings are absent. What lies on Python's path comes last in Ansible's search, and
        # here not at all, so that it can't stand in for what is missing.
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "PYTHONPATH"))
        } | {
            "ANSIBLE_CONFIG": str(settings),
            "ANSIBLE_COLLECTIONS_PATH": str(self.collections),
            "ANSIBLE_COLLECTIONS_SCAN_SYS_PATH": "false",
            "ANSIBLE_HOME": str(self.collections.parent / "home"),
            "ANSIBLE_NOCOLOR": "1",
            "PATH": os.pathsep.join([str(pathlib.Path(sys.executable).parent), os.environ["PATH"]]),
        }
        archives = self.collections.parent / "archives"
        archives.mkdir()
        self.run("ansible-galaxy", "collection", "build", REPOSITORY, "--output-path", archives)
        (archive,) = archives.iterdir()
        self.archive = archive
        # From no server: what it depends on is in the virtual environment.
        self.run("ansible-galaxy", "collection", "install", "--offline", "--no-deps", "-p", self.collections, archive)
        packaged = pathlib.Path(sysconfig.get_path("purelib")) / "ansible_collections"
        for dependency in GALAXY["dependencies"]:
            link = self.collections / "ansible_collections" / dependency.replace(".", "/")
            link.parent.mkdir(exist_ok=True)
            link.symlink_to(packaged / dependency.replace(".", "/"))

    def names(self, pattern):
        """Full names of what the checkout holds, by a pattern of paths in it."""
        found = sorted(path.stem for path in REPOSITORY.glob(pattern) if not path.name.startswith("_"))
        assert found, pattern
        return [f"{NAME}.{name}" for name in found]

    def run(self, *words, check=True):
        """Runs a command in a directory that has nothing to do with the checkout; returns the finished process."""
        done = subprocess.run(
            list(map(str, words)),
            cwd=self.elsewhere,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        shown = f"{done.stdout[-5000:]}\n{done.stderr[-5000:]}"
        assert not check or done.returncode == 0, f"{words[0]} ended with {done.returncode}:\n{shown}"
        return done

    def documentation(self, kind, names):
        """What ansible-doc knows of plugins or roles, by their full names."""
        return json.loads(self.run("ansible-doc", "--json", "-t", kind, *names).stdout)
