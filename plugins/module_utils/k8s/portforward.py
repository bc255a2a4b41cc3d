# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP to a Service of the cluster by a port-forward through the API server: nothing has to be exposed for it.

The API server's service proxy is no way to an API that wants a bearer token: it keeps the header Authorization for
itself. A port-forward is a plain byte stream to one pod. It needs the rights C(get) on services, C(list) on pods, and
C(get) and C(create) on pods/portforward.

The protocol is WebSocket (RFC 6455) with the subprotocol C(v4.channel.k8s.io): the first byte of a message is its
channel, 0 for data and 1 for errors, and each channel begins with a message that holds the port. Frames are the matter
of C(websocket-client); the kubernetes client's own stream is not used, whose import takes longer than all the calls.
"""

from __future__ import annotations

import contextlib
import http.client
import io
from collections.abc import Iterator
from typing import Any

from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.client import Api, ApiError, KubeError, quoted

SUBPROTOCOL = "v4.channel.k8s.io"
CLOSE = 0x8  # opcode
DATA, ERROR = 0, 1  # channels
LARGEST_CHUNK = 32 * 1024  # bytes sent in a message


class Unreachable(Exception):
    """Why a Service could not be reached, in one sentence.

    Args:
        transient: Waiting may help: no pod is ready yet, or the connection broke.
        absent: The Service itself is not there.
    """

    def __init__(self, sentence: str, transient: bool = False, absent: bool = False) -> None:
        super().__init__(sentence)
        self.transient = transient
        self.absent = absent


# --- which pod --------------------------------------------------------------------------------------------------------


def _is_ready(pod: dict[str, Any]) -> bool:
    if pod["metadata"].get("deletionTimestamp"):
        return False
    conditions = pod.get("status", {}).get("conditions") or []
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def _state(pod: dict[str, Any]) -> str:
    """Give why a pod has no node, or the reason of the first container that waits, or else the phase."""
    status = pod.get("status", {})
    for condition in status.get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition["status"] == "False" and condition.get("reason"):
            return str(condition["reason"])
    for container in (status.get("initContainerStatuses") or []) + (status.get("containerStatuses") or []):
        reason = (container.get("state", {}).get("waiting") or {}).get("reason")
        if reason and reason != "PodInitializing":
            return str(reason)
    phase = status.get("phase", "Unknown")
    return "not ready" if phase == "Running" else str(phase)


def _service_port(service: dict[str, Any], where: str, port: int | str | None) -> dict[str, Any]:
    ports = service["spec"].get("ports") or []
    for each in ports:
        if port is None or str(port) in (each.get("name"), str(each["port"])):
            return each
    offered = ", ".join(f"{each['port']} ({each['name']})" if each.get("name") else str(each["port"]) for each in ports)
    raise Unreachable(f"Service {where} has no port {port}: it has {offered or 'none'}")


def _pod_port(pod: dict[str, Any], service_port: dict[str, Any]) -> int | None:
    target = service_port.get("targetPort", service_port["port"])
    if str(target).isdigit():
        return int(target)
    for container in pod["spec"]["containers"]:
        for each in container.get("ports") or []:
            if each.get("name") == target:
                return int(each["containerPort"])
    return None


def ready_pod(api: Api, namespace: str, service: str, port: int | str | None = None) -> tuple[str, int]:
    """Name a ready pod behind a Service, and the port of the pod to which the Service's port leads.

    Args:
        port: Number or name of the Service's port; None is its first one.

    Raises:
        Unreachable: There is no such Service or port, or no ready pod yet.
        KubeError: The API server refuses, or does not answer.
    """
    where = f"{namespace}/{service}"
    namespaced = f"/api/v1/namespaces/{quoted(namespace)}"
    found = api.find(f"{namespaced}/services/{quoted(service)}")
    if found is None:
        raise Unreachable(f"there is no Service {service} in the namespace {namespace}", absent=True)
    service_port = _service_port(found, where, port)
    selector = found["spec"].get("selector")
    if not selector:
        raise Unreachable(f"Service {where} selects no pods, so that there is none to forward a port to")
    labels = ",".join(f"{key}={value}" for key, value in sorted(selector.items()))
    pods = api.get(f"{namespaced}/pods", labelSelector=labels).get("items") or []
    for pod in sorted(filter(_is_ready, pods), key=lambda each: each["metadata"]["name"]):
        number = _pod_port(pod, service_port)
        if number:
            return pod["metadata"]["name"], number
    states = ", ".join(f"{each['metadata']['name']} is {_state(each)}" for each in pods)
    raise Unreachable(f"Service {where} has no ready pod: {states or 'there is none at all'}", transient=True)


# --- the stream -------------------------------------------------------------------------------------------------------


class _Reader(io.RawIOBase):
    """What http.client reads an answer from."""

    def __init__(self, stream: PodStream) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.recv(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._stream.release()


class PodStream:
    """A byte stream to a port of a pod, with as much of a socket's manners as http.client asks for.

    Args:
        websocket: An open WebSocket to the API server, which belongs to the stream from now on.
    """

    def __init__(self, websocket: Any) -> None:
        self._websocket = websocket
        self._pending = b""
        self._named = {DATA: False, ERROR: False}  # whether a channel's first message, with the port, has come
        self._ended = False
        self._files = 0
        self._closing = False
        self.error = ""

    def settimeout(self, seconds: float | None) -> None:
        """Set how long a read or a write may take."""
        self._websocket.settimeout(seconds)

    def sendall(self, data: bytes) -> None:
        """Send bytes to the pod."""
        view = memoryview(data)
        with _as_socket_errors():
            for start in range(0, len(view), LARGEST_CHUNK):
                self._websocket.send_binary(bytes([DATA]) + bytes(view[start : start + LARGEST_CHUNK]))

    def recv(self, size: int) -> bytes:
        """Give up to so many bytes that the pod sent; none at the end of the stream.

        Raises:
            ConnectionResetError: The kubelet reports an error, such as a refused connection in the pod.
        """
        while not self._pending and not self._ended:
            self._receive()
        if not self._pending and self.error:
            raise ConnectionResetError(self.error)
        data, self._pending = self._pending[:size], self._pending[size:]
        return data

    def makefile(self, mode: str = "rb", *_args: Any, **_kwargs: Any) -> io.BufferedReader:
        """Give a file that reads the stream; closing it leaves the stream open."""
        self._files += 1
        return io.BufferedReader(_Reader(self))

    def close(self) -> None:
        """Close the stream, once its files are closed: as with sockets, http.client closes first and reads then."""
        self._closing = True
        if self._files == 0:
            self._shut()

    def release(self) -> None:
        """Note that a file of the stream was closed."""
        self._files -= 1
        if self._closing and self._files == 0:
            self._shut()

    def _shut(self) -> None:
        self._ended = True
        self._websocket.close(timeout=0)

    def _receive(self) -> None:
        """Take in one message."""
        with _as_socket_errors():
            opcode, message = self._websocket.recv_data()
        if opcode == CLOSE:
            self._ended = True
        elif message:
            self._deliver(message[0], bytes(message[1:]))

    def _deliver(self, channel: int, data: bytes) -> None:
        if not self._named.get(channel, False):
            self._named[channel] = True
        elif channel == DATA:
            self._pending += data
        elif channel == ERROR:
            self.error += " ".join(data.decode(errors="replace").split())
            self._ended = True


@contextlib.contextmanager
def _as_socket_errors() -> Iterator[None]:
    """Raise what a socket would raise."""
    import websocket  # noqa: PLC0415  see open_stream

    try:
        yield
    except websocket.WebSocketTimeoutException as error:
        raise TimeoutError(str(error)) from None
    except websocket.WebSocketConnectionClosedException:
        raise ConnectionResetError("the API server ended the port-forward") from None
    except websocket.WebSocketException:
        raise ConnectionResetError("the API server sent what is no port-forward") from None


def open_stream(api: Api, namespace: str, pod: str, port: int, timeout: float | None = 30) -> PodStream:
    """Open a stream to a port of a pod.

    Args:
        timeout: Seconds that a read or a write may take.

    Raises:
        Unreachable: The API server does not forward it.
        KubeError: The API server can't be reached, or a library is missing.
    """
    try:
        import websocket  # noqa: PLC0415  only what reaches into the cluster needs it
    except ImportError:
        raise KubeError(
            "the Python library websocket-client is missing on the host that runs this module: pip install "
            "websocket-client"
        ) from None
    path = f"/api/v1/namespaces/{quoted(namespace)}/pods/{quoted(pod)}/portforward"
    connection = api.open_connection()
    connection.sock.settimeout(timeout)
    stream = websocket.WebSocket(skip_utf8_validation=True)
    try:
        stream.connect(
            f"{api.url(path, scheme='ws')}?ports={port}",
            socket=connection.sock,  # which has gone through TLS and the proxy already
            header=[f"{name}: {value}" for name, value in api.headers(accept="*/*").items()],
            subprotocols=[SUBPROTOCOL],
            suppress_origin=True,
            redirect_limit=0,
        )
    except websocket.WebSocketBadStatusException as error:
        why = " (it needs the right to get and create pods/portforward)" if error.status_code == 403 else ""
        raise Unreachable(
            f"the API server answered the port-forward to the pod {namespace}/{pod} with {error.status_code}{why}",
            transient=error.status_code not in (401, 403),
        ) from None
    except (OSError, websocket.WebSocketConnectionClosedException, websocket.WebSocketTimeoutException) as error:
        raise Unreachable(f"the port-forward to the pod {namespace}/{pod} broke: {error}", transient=True) from None
    except websocket.WebSocketException:
        raise Unreachable(
            f"something between here and the API server does not let WebSockets through to {path}"
        ) from None
    return PodStream(stream)


class ServiceConnection(http.client.HTTPConnection):
    """An http.client connection to a Service. It opens with the first request, and again with the next after a close.

    Args:
        api: Client of the API server.
        port: Number or name of the Service's port; None is its first one.
        timeout: Seconds to wait for an answer.
        host: What the header Host says; None is the Service's name in the cluster.
    """

    def __init__(
        self,
        api: Api,
        namespace: str,
        service: str,
        *,
        port: int | str | None = None,
        timeout: float = 30,
        host: str | None = None,
    ) -> None:
        super().__init__(host or f"{service}.{namespace}.svc", timeout=timeout)
        self._api = api
        self._service = (namespace, service, port)

    def connect(self) -> None:
        """Open the stream to a ready pod.

        Raises:
            Unreachable: As P(ready_pod) and P(open_stream) say.
        """
        try:
            pod, port = ready_pod(self._api, *self._service)
            self.sock = open_stream(self._api, self._service[0], pod, port, self.timeout)
        except ApiError as error:
            raise Unreachable(str(error)) from None
        except KubeError as error:
            raise Unreachable(str(error), transient=True) from None
