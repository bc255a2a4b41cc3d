"""The artifact repository: error mapping and retries."""

import hashlib
import os
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.artifact.s3_artifact_repo import S3ArtifactRepository

from mlops_mlflow_server import s3


@pytest.fixture
def clock(monkeypatch):
    """A clock that only `sleep` moves."""
    now = [1000.0]
    monkeypatch.setattr(s3.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(s3.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    return now


def refused():
    return EndpointConnectionError(endpoint_url="http://minio:9000")


def failing(times, result="done"):
    """A function that fails `times` times, and counts its calls."""
    calls = []

    def function():
        calls.append(1)
        if len(calls) <= times:
            raise refused()
        return result

    return function, calls


def test_socket_options_detect_a_lost_peer(monkeypatch):
    monkeypatch.setenv("MLOPS_S3_USER_TIMEOUT", "7")
    with socket.socket() as plug:
        for option in s3.socket_options():
            plug.setsockopt(*option)
        assert plug.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 7000
        assert plug.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("NoSuchKey", "RESOURCE_DOES_NOT_EXIST"),
        ("404", "RESOURCE_DOES_NOT_EXIST"),
        ("AccessDenied", "PERMISSION_DENIED"),
        ("SlowDown", "TEMPORARILY_UNAVAILABLE"),
        ("XMinioServerNotInitialized", "TEMPORARILY_UNAVAILABLE"),
        ("Nonsense", "INTERNAL_ERROR"),
        ("", "INTERNAL_ERROR"),
    ],
)
def test_error_codes_of_the_store_are_mapped(code, expected):
    error = ClientError({"Error": {"Code": code, "Message": "why"}}, "GetObject")
    known = s3.in_mlflows_terms(error, "fetching a.txt")
    assert known.error_code == expected
    assert "fetching a.txt" in str(known)


def test_wrapped_transfer_error_is_unwrapped():
    wrapped = s3.Boto3Error("failed")
    wrapped.__cause__ = refused()
    assert s3.in_mlflows_terms(wrapped, "x").error_code == "TEMPORARILY_UNAVAILABLE"


def test_unknown_exception_is_not_mapped():
    assert s3.in_mlflows_terms(KeyError("x"), "x") is None


def test_restart_delays_calls(clock):
    function, calls = failing(times=6)
    patience = s3.Patience(15)
    assert patience.call("listing", function) == "done"
    assert len(calls) == 7
    assert clock[0] == 1003.0


def test_long_outage_is_waited_for_once(clock):
    patience = s3.Patience(15)
    function, calls = failing(times=1000)
    with pytest.raises(MlflowException) as first:
        patience.call("listing", function)
    assert first.value.error_code == "TEMPORARILY_UNAVAILABLE"
    assert clock[0] <= 1015.0
    waited, tries = clock[0], len(calls)
    with pytest.raises(MlflowException):
        patience.call("listing", function)
    assert (clock[0], len(calls)) == (waited, tries + 1)


def test_retries_resume_after_an_answer(clock):
    patience = s3.Patience(15)
    with pytest.raises(MlflowException):
        patience.call("listing", failing(times=1000)[0])
    assert patience.call("listing", lambda: "there") == "there"
    assert patience.call("listing", failing(times=3)[0]) == "done"


def test_permanent_error_is_raised_at_once(clock):
    def missing():
        raise ClientError({"Error": {"Code": "NoSuchKey"}}, "GetObject")

    with pytest.raises(MlflowException) as caught:
        s3.Patience(15).call("fetching", missing)
    assert caught.value.error_code == "RESOURCE_DOES_NOT_EXIST"
    assert clock[0] == 1000.0


DIRECT = {"MultipartUploadMixin", "MultipartDownloadMixin", "PresignedUploadMixin"}


def test_repository_has_no_direct_transfers():
    offered = {kind.__name__ for kind in s3.ProxiedS3ArtifactRepository.__mro__}
    assert not offered & DIRECT
    assert {kind.__name__ for kind in S3ArtifactRepository.__mro__} >= DIRECT, "MLflow offers them by other classes"


@pytest.fixture
def store(monkeypatch):
    """An HTTP server in the place of an object store, which takes and returns objects."""
    objects, asked = {}, []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self):
            asked.append(self.path)
            objects[self.path] = self._body()
            self._answer(200, b"")

        def do_GET(self):
            asked.append(self.path)
            found = objects.get(self.path.partition("?")[0])
            self._answer(404 if found is None else 200, found or b"<Error><Code>NoSuchKey</Code></Error>")

        def do_HEAD(self):
            self.do_GET()

        def _body(self):
            if "chunked" not in self.headers.get("Transfer-Encoding", self.headers.get("Content-Encoding", "")):
                return self.rfile.read(int(self.headers["Content-Length"]))
            content = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                content += self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return content

        def _answer(self, status, content):
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("ETag", '"x"')
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def log_message(self, *_unused):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.asked = asked
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE", "path")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret")
    yield server
    server.shutdown()
    server.server_close()


def connections_to(port):
    """Return copies of this process's sockets that are connected to a port."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            plug = socket.socket(fileno=os.dup(int(name)))
        except OSError:
            continue
        try:
            peer = plug.getpeername()
        except OSError:
            peer = None
        if isinstance(peer, tuple) and peer[1:2] == (port,):
            found.append(plug)
        else:
            plug.close()
    return found


def test_mlflow_transfers_by_a_client_that_detects_a_lost_store(store, tmp_path, monkeypatch):
    """botocore keeps socket options in a private list, and MLflow makes its client in a private method."""
    monkeypatch.setenv("MLOPS_S3_USER_TIMEOUT", "7")
    repository = get_artifact_repository("s3://mlflow/1")
    assert isinstance(repository, s3.ProxiedS3ArtifactRepository)
    (tmp_path / "a.txt").write_text("content")
    repository.log_artifact(str(tmp_path / "a.txt"))
    assert [path.partition("?")[0] for path in store.asked] == ["/mlflow/1/a.txt"]
    plugs = connections_to(store.server_port)
    timeouts = [plug.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) for plug in plugs]
    for plug in plugs:
        plug.close()
    assert timeouts == [7000]
    repository._download_file("a.txt", str(tmp_path / "b.txt"))
    assert (tmp_path / "b.txt").read_text() == "content"


def test_missing_object_is_an_error_of_mlflow(store, tmp_path):
    with pytest.raises(MlflowException) as caught:
        s3.ProxiedS3ArtifactRepository("s3://mlflow/1")._download_file("missing.txt", str(tmp_path / "x"))
    assert caught.value.error_code == "RESOURCE_DOES_NOT_EXIST"


class SentError(Exception):
    """Ends a request before it is sent."""


@pytest.mark.parametrize(
    ("endpoint", "is_hashed"), [("http://store:9000", True), ("https://store:9000", False), (None, False)]
)
def test_content_is_hashed_where_no_tls_protects_it(endpoint, is_hashed):
    client = s3._client(endpoint, None, "s3v4", "path", ("key", "secret", None))
    sent = []

    def before(request, **_unused):
        sent.append(request.headers)
        raise SentError

    client.meta.events.register("before-send.s3", before)
    for call, more in ((client.put_object, {}), (client.upload_part, {"UploadId": "1", "PartNumber": 1})):
        with pytest.raises(SentError):
            call(Bucket="bucket", Key="key", Body=bytearray(b"content"), **more)
    hashes = {headers["X-Amz-Content-SHA256"].decode() for headers in sent}
    assert hashes == {hashlib.sha256(b"content").hexdigest() if is_hashed else "UNSIGNED-PAYLOAD"}
    assert not any("checksum" in name.lower() for headers in sent for name in headers)
