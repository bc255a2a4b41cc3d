# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Serve the metrics of all workers on a separate port, which users and programs do not reach.

A thread of the parent process serves them, so that a scrape waits for no call. Values are in files, one for each
process, and stay when a worker or the container is restarted. What a worker had in hand goes with it, and files of
former workers are merged into one.
"""

import glob
import os
import pathlib
import threading
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.metrics_core import Metric
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
# Of no process: its file has the sum of those that have ended.
_ENDED = 0
_MOST_ENDED = 8


def _process(file: str) -> int:
    return int(pathlib.Path(file).stem.rpartition("_")[2])


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def sweep(directory: str, *, starts: bool = False) -> None:
    """Forget what ended processes had in hand, and merge their files once there are many.

    Args:
        directory: where the values are.
        starts: whether no process of this container has written values yet: any process of these files has ended.
    """
    ended = [
        file
        for file in glob.glob(os.path.join(directory, "*.db"))
        if _process(file) != _ENDED and (starts or not _is_alive(_process(file)))
    ]
    for file in ended:
        if os.path.basename(file).startswith("gauge_live"):
            os.unlink(file)
    for kind in ("counter", "histogram"):
        files = [file for file in ended if os.path.basename(file).startswith(f"{kind}_")]
        if len(files) > _MOST_ENDED or starts:
            _merge(files, os.path.join(directory, f"{kind}_{_ENDED}.db"))


def _merge(files: Iterable[str], target: str) -> None:
    for file in files:
        total = MmapedDict(target)
        for key, value, _time, _position in MmapedDict.read_all_values_from_file(file):
            total.write_value(key, total.read_value(key)[0] + value, 0.0)
        total.close()
        os.unlink(file)


class Collector(MultiProcessCollector):
    """prometheus_client's collector of several processes, without what is left of ended ones."""

    def __init__(self, directory: str):
        super().__init__(None, directory)
        self._lock = threading.Lock()

    def collect(self) -> Iterable[Metric]:
        """Return all metrics."""
        with self._lock:
            sweep(self._path)
            return super().collect()


def serve(port: int, directory: str) -> None:
    """Serve the metrics that all workers write to `directory`, in a thread, until the process ends."""
    sweep(directory, starts=True)
    registry = CollectorRegistry()
    registry.register(Collector(directory))
    start_http_server(port, registry=registry)
