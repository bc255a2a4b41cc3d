"""Prometheus' promtool: that of the machine, or of Debian's package, which is unpacked below build/, not installed."""

import functools
import shutil
import subprocess

from tests.lib import REPOSITORY

PLACE = REPOSITORY / "build" / "promtool"


@functools.cache
def program():
    """The path of promtool.

    Raises:
        RuntimeError: there is none, and no package with it.
    """
    found = shutil.which("promtool") or shutil.which("promtool", path=PLACE / "usr" / "bin")
    if found:
        return found
    PLACE.mkdir(parents=True, exist_ok=True)
    try:
        download = ["apt-get", "download", "prometheus"]
        if subprocess.run(download, cwd=PLACE, check=False, capture_output=True, text=True).returncode != 0:
            # A new machine has no list of packages; only root gets one.
            subprocess.run(["apt-get", "update"], check=False, capture_output=True, text=True)
            subprocess.run(download, cwd=PLACE, check=True, capture_output=True, text=True)
        (package,) = PLACE.glob("prometheus_*.deb")
        subprocess.run(["dpkg-deb", "--extract", package, PLACE], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError, ValueError) as error:
        reason = getattr(error, "stderr", "") or error
        raise RuntimeError(f"promtool is not on the PATH, nor in Debian's package prometheus: {reason}") from error
    package.unlink()
    return str(PLACE / "usr" / "bin" / "promtool")


def run(*arguments):
    """What promtool says, and whether it is content."""
    done = subprocess.run([program(), *arguments], check=False, capture_output=True, text=True)
    return done.returncode == 0, done.stdout + done.stderr
