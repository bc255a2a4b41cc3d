"""Prometheus' metrics on a port of their own, apart from the one that people and programs reach.

They name routes and count calls, and ask nobody who they are.
"""

import os


def serve(port: int, directory: str) -> None:
    """Serve what all workers of this server have written to `directory`, in a thread, until the process ends."""
    # Before prometheus_client is imported: it reads this once.
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
    from prometheus_client import CollectorRegistry, start_http_server  # noqa: PLC0415
    from prometheus_client.multiprocess import MultiProcessCollector  # noqa: PLC0415

    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    start_http_server(port, registry=registry)
