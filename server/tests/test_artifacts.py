"""Artifacts of running servers, which keep them in a real MinIO."""

import concurrent.futures
import hashlib
import pathlib
import secrets
import socket
import time

import httpx
import pytest

import conftest
from lib import minio as store
from lib import process
from lib.provider import log_in
from mlops_mlflow_server import transfers

PART = transfers.PART_BYTES
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
CONTENT = bytes(range(256)) * ((3 * PART + 4096) // 256)
DESTINATION = ("--artifacts-destination", f"s3://{store.BUCKET}")
# All that MLflow's handlers write to disk, and what a buffer of a socket or log may be.
SMALL = 1 << 20


class Caller:
    """A user's client of a server, with an experiment and a run of their own."""

    def __init__(self, server, client):
        self.server, self.client = server, client
        name = f"experiment-{secrets.token_hex(4)}"
        self.experiment = self.call("experiments/create", name=name)["experiment_id"]
        self.run = self.call("runs/create", experiment_id=self.experiment)["run"]["info"]["run_id"]
        self.root = f"{self.experiment}/{self.run}/artifacts"

    def call(self, method, **body):
        answer = self.client.post(f"/api/2.0/mlflow/{method}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def put(self, name, content=CONTENT):
        answer = self.client.put(f"{ARTIFACTS}/{self.root}/{name}", content=content)
        assert answer.status_code == 200, answer.text

    def get(self, name, **options):
        return self.client.get(f"{ARTIFACTS}/{self.root}/{name}", **options)


@pytest.fixture(scope="session", params=["oidc", "basic", "none"])
def server(request, migrated, minio, tmp_path_factory):
    """A running server with each login mode."""
    server = _serve(request.param, migrated, minio, tmp_path_factory)
    try:
        yield server.wait(300)
    finally:
        server.stop()


@pytest.fixture(scope="session")
def direct(migrated, minio, tmp_path_factory):
    """A client of a running server with direct transfers, to another name of the object store."""
    public = minio.endpoint.replace("127.0.0.1", "localhost")
    variables = {"MLOPS_ARTIFACTS_DIRECT": "true", "MLOPS_S3_PUBLIC_URL": public}
    server = _serve("oidc", migrated, minio, tmp_path_factory, **variables)
    server.public = public
    try:
        with server.wait(300).client(auth=(conftest.ADMIN, conftest.ADMIN_PASSWORD)) as client:
            yield Caller(server, client)
    finally:
        server.stop()


def _serve(way, migrated, minio, tmp_path_factory, **more):
    databases = migrated("oidc" if way == "none" else way).copy()
    variables = {**databases.variables, **minio.variables, "MLOPS_AUTH": way, "MALLOC_ARENA_MAX": "2", **more}
    if way == "oidc":
        variables |= conftest.oidc_variables(conftest._provider.issuer)
    else:
        variables |= {"MLFLOW_FLASK_SERVER_SECRET_KEY": "a key", "MLFLOW_BASIC_AUTH_FAIL_CLOSED": "true"}
    folder = tmp_path_factory.mktemp(way)
    server = process.Server(folder, variables, *DESTINATION)
    server.way, server.folder = way, folder
    return server


@pytest.fixture(scope="session")
def caller(server):
    """An administrator."""
    options = {} if server.way == "none" else {"auth": (conftest.ADMIN, conftest.ADMIN_PASSWORD)}
    with server.client(**options) as client:
        yield Caller(server, client)


@pytest.fixture
def other(server, idp, caller):
    """A user without rights on the experiment of `caller`."""
    name = f"user-{secrets.token_hex(4)}"
    if server.way == "none":
        pytest.skip("without login everything is open")
    if server.way == "basic":
        body = {"username": name, "password": "a password of a user"}
        assert caller.client.post("/api/2.0/mlflow/users/create", json=body).status_code == 200
        with server.client(auth=(name, body["password"])) as client:
            yield client
        return
    idp.user = name
    with server.client() as client:
        assert log_in(client).status_code == 302
        yield client


def test_artifact_is_the_same_on_the_way_back(caller):
    caller.put("data.bin")
    assert caller.get("data.bin").content == CONTENT
    params = {"run_id": caller.run, "path": "data.bin"}
    assert caller.client.get("/get-artifact", params=params).content == CONTENT


def test_chunked_upload(caller):
    caller.put("chunked.bin", content=(CONTENT[start : start + 99_999] for start in range(0, len(CONTENT), 99_999)))
    assert hashlib.sha256(caller.get("chunked.bin").content).digest() == hashlib.sha256(CONTENT).digest()


@pytest.mark.parametrize("content", [b"", b"x"])
def test_small_artifacts(caller, content):
    caller.put(f"small-{len(content)}", content)
    answer = caller.get(f"small-{len(content)}")
    assert (answer.content, answer.headers["content-length"]) == (content, str(len(content)))


def test_headers_are_mlflows(caller, none, minio):
    """Those of the same server with artifacts in a folder, where MLflow's own handlers answer."""
    with none.client() as client:
        plain = Caller(none, client)
        plain.put("page.html", b"<b>page</b>")
        expected = plain.get("page.html").headers
    caller.put("page.html", b"<b>page</b>")
    answer = caller.get("page.html").headers
    ignored = {"date", "etag", "last-modified", "server"}
    assert {name: value for name, value in answer.items() if name not in ignored} == {
        name: value for name, value in expected.items() if name not in ignored
    }
    assert answer["content-disposition"] == "attachment; filename=page.html"
    assert answer["x-content-type-options"] == "nosniff"
    found = minio.client.head_object(Bucket=store.BUCKET, Key=f"{caller.root}/page.html")
    assert (answer["etag"], found["ContentType"]) == (found["ETag"], "text/html")


def test_ranges_and_conditions(caller):
    caller.put("ranges.bin")
    part = caller.get("ranges.bin", headers={"Range": f"bytes={PART - 5}-{PART + 4}"})
    assert (part.status_code, part.content) == (206, CONTENT[PART - 5 : PART + 5])
    assert part.headers["content-range"] == f"bytes {PART - 5}-{PART + 4}/{len(CONTENT)}"
    assert caller.get("ranges.bin", headers={"Range": "bytes=-10"}).content == CONTENT[-10:]
    assert caller.get("ranges.bin", headers={"Range": f"bytes={len(CONTENT)}-"}).status_code == 416
    unchanged = caller.get("ranges.bin", headers={"If-None-Match": part.headers["etag"]})
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    head = caller.client.head(f"{ARTIFACTS}/{caller.root}/ranges.bin")
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(CONTENT)))


def test_what_is_no_artifact(caller):
    caller.put("folder/file.txt", b"x")
    for path, status, code in (
        ("folder", 400, "INVALID_PARAMETER_VALUE"),
        ("nothing", 404, "RESOURCE_DOES_NOT_EXIST"),
        ("../../nothing", 400, "INVALID_PARAMETER_VALUE"),
    ):
        answer = caller.get(path.replace("..", "%2e%2e"))
        assert (answer.status_code, answer.json()["error_code"]) == (status, code)
    assert caller.client.put(f"{ARTIFACTS}/{caller.root}/folder/", content=b"x").status_code == 400


def test_nobody_without_permission_gets_or_puts(server, caller, other, minio):
    caller.put("kept.txt", b"kept")
    address = f"{ARTIFACTS}/{caller.root}"
    for client, status in ((httpx.Client(base_url=server.url), 401), (other, 403)):
        assert client.put(f"{address}/other.bin", content=CONTENT).status_code == status
        assert client.put(f"{address}/kept.txt", content=b"changed").status_code == status
        for path in (
            f"{address}/kept.txt",
            f"/get-artifact?run_id={caller.run}&path=kept.txt",
            f"/ajax-api/2.0/mlflow-artifacts/artifacts/{caller.root}/kept.txt",
        ):
            assert client.get(path).status_code == status
    names = [each["Key"] for each in minio.client.list_objects_v2(Bucket=store.BUCKET, Prefix=caller.root)["Contents"]]
    assert f"{caller.root}/other.bin" not in names
    assert caller.get("kept.txt").content == b"kept"


def _started(caller, name, sent, length):
    """Start an upload by hand and send some of it; return the socket."""
    request = caller.client.build_request(
        "PUT", f"{ARTIFACTS}/{caller.root}/{name}", headers={"Content-Length": str(length)}
    )
    if caller.client.auth is not None:
        request = next(caller.client.auth.auth_flow(request))
    head = [
        f"PUT {request.url.raw_path.decode()} HTTP/1.1",
        *(f"{key}: {value}" for key, value in request.headers.items()),
    ]
    plug = socket.create_connection(("127.0.0.1", caller.server.port), timeout=20)
    plug.sendall(("\r\n".join(head) + "\r\n\r\n").encode())
    plug.sendall(sent)
    return plug


def _wait(check, seconds=20):
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end
        time.sleep(0.05)


def _on_disk(server):
    """Return the bytes of the server's temporary files, deleted ones included."""
    files = [path for path in server.folder.rglob("*") if path.is_file() and path != server.log_file]
    open_files = []
    for entry in pathlib.Path(f"/proc/{server.process.pid}/fd").iterdir():
        try:
            if str(entry.readlink()).endswith("(deleted)"):
                open_files.append(entry.stat().st_size)
        except FileNotFoundError:
            continue
    return sum(path.stat().st_size for path in files) + sum(open_files)


def test_body_is_neither_collected_nor_copied_to_disk(server, caller, minio):
    key = f"{caller.root}/started.bin"

    def unfinished():
        return minio.client.list_multipart_uploads(Bucket=store.BUCKET, Prefix=key).get("Uploads", [])

    plug = _started(caller, "started.bin", CONTENT[: 2 * PART + 10], len(CONTENT))
    with plug:
        _wait(unfinished)
        _wait(
            lambda: minio.client.list_parts(Bucket=store.BUCKET, Key=key, UploadId=unfinished()[0]["UploadId"]).get(
                "Parts"
            )
        )
        assert _on_disk(server) < SMALL
    _wait(lambda: not unfinished())
    assert caller.get("started.bin").status_code == 404


def test_download_is_not_copied_to_disk(server, caller):
    caller.put("large.bin")
    with caller.client.stream("GET", f"{ARTIFACTS}/{caller.root}/large.bin") as answer:
        for piece in answer.iter_raw():
            assert piece
            assert _on_disk(server) < SMALL


def test_cut_off_upload_leaves_the_former_artifact(caller):
    caller.put("former.bin", b"former")
    _started(caller, "former.bin", CONTENT[:100], len(CONTENT)).close()
    _started(caller, "former.bin", CONTENT[: PART + 100], len(CONTENT)).close()
    time.sleep(1)
    assert caller.get("former.bin").content == b"former"


def _resident(server):
    status = pathlib.Path(f"/proc/{server.process.pid}/status").read_text()
    return {line.split()[0]: int(line.split()[1]) >> 10 for line in status.splitlines() if line.startswith("Vm")}


def test_memory_with_many_clients(server, caller):
    """16 uploads at once, then 16 downloads, in all larger than what the server may take for them."""
    if server.way != "oidc":
        pytest.skip("the same code, measured once")
    size, block = 48 << 20, bytes(1 << 20)
    # Parts of the 8 transfers that run at once (`MLOPS_ARTIFACT_THREADS`), and a last one for each client to read.
    most = (8 * (transfers.PARALLEL_PARTS + 1) + 16) * PART >> 20
    # The first transfer loads boto3.
    caller.put("first.bin")
    assert caller.get("first.bin").content == CONTENT
    address = f"{server.url}{ARTIFACTS}/{caller.root}"

    def up(number):
        options = {"headers": {"Content-Length": str(size)}, "auth": caller.client.auth, "timeout": 120}
        # Who waits for too long is asked to come back, as MLflow's client does.
        while (
            status := httpx.put(f"{address}/{number}", content=[block] * (size >> 20), **options).status_code
        ) == 429:
            time.sleep(1)
        assert status == 200

    def down(number):
        while True:
            with httpx.stream("GET", f"{address}/{number}", auth=caller.client.auth, timeout=120) as answer:
                if answer.status_code != 429:
                    return sum(len(piece) for piece in answer.iter_raw())
            time.sleep(1)

    before = _resident(server)["VmRSS:"]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(up, range(16)))
        assert list(pool.map(down, range(16))) == [size] * 16
    peak = _resident(server)["VmHWM:"]
    print(f"resident: {before} MiB before, {peak} MiB at most")
    assert peak - before < most


def _stock_client(caller, tmp_path, **variables):
    """Store a folder with a large file by MLflow's Python client, fetch it, and compare; return the run."""
    source = tmp_path / "source"
    (source / "inner").mkdir(parents=True)
    (source / "inner" / "large.bin").write_bytes(CONTENT)
    (source / "small.txt").write_text("small")
    code = (
        "import mlflow, sys; client = mlflow.MlflowClient(); client.log_artifacts(sys.argv[1], sys.argv[2]);"
        "client.download_artifacts(sys.argv[1], '', sys.argv[3]); print('0')"
    )
    (tmp_path / "back").mkdir()
    login = {"MLFLOW_TRACKING_USERNAME": conftest.ADMIN, "MLFLOW_TRACKING_PASSWORD": conftest.ADMIN_PASSWORD}
    run = caller.call("runs/create", experiment_id=caller.experiment)["run"]["info"]["run_id"]
    variables = {"MLFLOW_TRACKING_URI": caller.server.url, **login, **variables}
    process.result(code, run, str(source), str(tmp_path / "back"), **variables)
    assert (tmp_path / "back" / "inner" / "large.bin").read_bytes() == CONTENT
    assert (tmp_path / "back" / "small.txt").read_text() == "small"
    return run


def test_stock_client(caller, tmp_path):
    _stock_client(caller, tmp_path)


# Direct transfers, by presigned URLs


def test_stock_client_transfers_directly(direct, tmp_path):
    parts = {"MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE": str(PART), "MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE": str(PART)}
    run = _stock_client(direct, tmp_path, **parts)
    calls = [line for line in direct.server.log().splitlines() if run in line]
    for expected in ("POST /api/2.0/mlflow-artifacts/mpu/create/", "POST /api/2.0/mlflow-artifacts/mpu/complete/"):
        assert any(expected in line for line in calls)
    assert any("GET /api/2.0/mlflow-artifacts/presigned/" in line and "large.bin" in line for line in calls)
    passed = [line for line in calls if "large.bin" in line and f" {ARTIFACTS}/" in line]
    assert passed == []


def test_capabilities_are_advertised_only_where_they_are(direct, caller):
    for client, expected in ((direct.client, True), (caller.client, False)):
        found = client.get("/api/3.0/mlflow/server-info").json()
        assert {value for name, value in found.items() if "multipart" in name} == {expected}


def test_urls_are_signed_for_the_public_name(direct):
    direct.put("signed.bin")
    found = direct.client.get(f"/api/2.0/mlflow-artifacts/presigned/{direct.root}/signed.bin").json()
    assert found["url"].startswith(direct.server.public)
    assert httpx.get(found["url"]).content == CONTENT
    create = f"/api/2.0/mlflow-artifacts/mpu/create/{direct.root}"
    made = direct.client.post(create, json={"path": "new.bin", "num_parts": 2}).json()
    assert [part["url"].startswith(direct.server.public) for part in made["credentials"]] == [True, True]
    body = {"path": "new.bin", "upload_id": made["upload_id"]}
    assert direct.client.post(create.replace("/create/", "/abort/"), json=body).status_code == 200


@pytest.mark.parametrize("parts", [-1, 0, transfers.GROWTH_PARTS * 10])
def test_number_of_urls_is_bounded(direct, parts):
    create = f"/api/2.0/mlflow-artifacts/mpu/create/{direct.root}"
    answer = direct.client.post(create, json={"path": "new.bin", "num_parts": parts})
    assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")


def test_urls_need_permissions(direct, idp):
    direct.put("kept.bin", b"kept")
    paths = f"/api/2.0/mlflow-artifacts/%s/{direct.root}"
    body = {"path": "kept.bin", "num_parts": 1, "upload_id": "x", "parts": [{"part_number": 1, "etag": "x", "url": ""}]}
    idp.user = f"user-{secrets.token_hex(4)}"
    with direct.server.client() as other, direct.server.client() as anonymous:
        assert log_in(other).status_code == 302
        for client, status in ((other, 403), (anonymous, 401)):
            assert client.get(f"{paths % 'presigned'}/kept.bin").status_code == status
            for action in ("create", "complete", "abort"):
                assert client.post(paths % f"mpu/{action}", json=body).status_code == status
