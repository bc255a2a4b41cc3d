"""An ASGI application behind uvicorn, in a thread of this process."""

import contextlib
import socket
import threading
import time

import uvicorn


@contextlib.contextmanager
def serving(application, **options):
    """Serve `application` on 127.0.0.1; yield its port. Options are uvicorn's."""
    with socket.socket() as plug:
        plug.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(application, lifespan="off", log_level="critical", **options))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [plug]})
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            yield plug.getsockname()[1]
        finally:
            server.force_exit = server.should_exit = True
            thread.join(20)
