"""HTTP by sockets, for what no HTTP client sends: bodies and headers that never end, and answers that are not read."""

import base64
import socket
import time

BLOCK = b"\0" * 65536


def basic(name: str, password: str) -> str:
    """Return a header line of these credentials."""
    return f"Authorization: Basic {base64.b64encode(f'{name}:{password}'.encode()).decode()}\r\n"


def connect(port: int, source: str = "127.0.0.1", timeout: float = 30) -> socket.socket:
    """Return a connection to 127.0.0.1, which comes from the address `source`."""
    return socket.create_connection(("127.0.0.1", port), timeout=timeout, source_address=(source, 0))


def head(method: str, path: str, headers: str = "", host: str = "localhost") -> bytes:
    """Return the beginning of a request; each of the header lines ends with CRLF."""
    return f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n".encode()


def answer(connection: socket.socket) -> tuple[int, str]:
    """Return status and all that follows, up to the end of the connection or a timeout; 0 without an answer."""
    received = b""
    try:
        while chunk := connection.recv(65536):
            received += chunk
            if received.endswith((b"}", b"0\r\n\r\n")):
                break
    except OSError:
        pass
    return (int(received.split(b" ", 2)[1]) if received else 0), received.decode(errors="replace")


def received(connection: socket.socket, ending: bytes) -> bool:
    """Return whether what arrives on the connection ends so, and does so before the connection ends."""
    received = b""
    while not received.endswith(ending):
        chunk = connection.recv(65536)
        if not chunk:
            return False
        received += chunk
    return True


def ask(port: int, method: str, path: str, headers: str = "", **options: str) -> tuple[int, str]:
    """Return status and text of the answer to a request without a body."""
    with connect(port, options.pop("source", "127.0.0.1")) as connection:
        connection.sendall(head(method, path, f"Connection: close\r\n{headers}", **options))
        return answer(connection)


def pour(port: int, path: str, headers: str, most: int, method: str = "POST") -> tuple[int, int]:
    """Send zeros as a body until the server refuses them; return the status and how many were sent, `most` at most."""
    sent, is_chunked = 0, "chunked" in headers
    with connect(port) as connection:
        connection.sendall(head(method, path, headers))
        try:
            while sent < most:
                connection.sendall(b"10000\r\n" + BLOCK + b"\r\n" if is_chunked else BLOCK)
                sent += len(BLOCK)
        except OSError:
            pass
        return answer(connection)[0], sent


def is_closed(connection: socket.socket, seconds: float) -> bool:
    """Return whether the server closes the connection within this time."""
    connection.settimeout(seconds)
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def duration(function, *arguments) -> float:
    """Return the seconds that a call takes."""
    began = time.monotonic()
    function(*arguments)
    return time.monotonic() - began
