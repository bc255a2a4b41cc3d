"""Artifacts that clients transfer themselves, by MinIO's S3 at the edge; for the shapes that have a URL for it."""

import textwrap
import urllib.parse

import pytest
import requests

from tests.lib import stack as stacks
from tests.lib.clients import ROUND_TRIP

# What a stock client sends to whom, and whether with MLflow's credentials.
RECORDED = """
    import requests.adapters
    from urllib.parse import urlsplit

    sent, plain = set(), requests.adapters.HTTPAdapter.send

    def send(self, request, *arguments, **options):
        sent.add((urlsplit(request.url).hostname, request.method, "Authorization" in request.headers))
        return plain(self, request, *arguments, **options)

    requests.adapters.HTTPAdapter.send = send
"""
SHOWN = "\nprint(sorted(sent))\n"
MEBIBYTES = 40
SMALL = {
    f"MLFLOW_MULTIPART_{way}_{what}": str(10 << 20)
    for way in ("UPLOAD", "DOWNLOAD")
    for what in ("MINIMUM_FILE_SIZE", "CHUNK_SIZE")
}
# What S3's signature has to be of, character by character.
NAMES = ["plain.bin", "a b.bin", "a+b.bin", "ä ö.bin", "a=b&c.bin", "(a),[b].bin", "a@b~c'd.bin"]


@pytest.fixture(scope="module")
def s3_url(stack):
    if "mlflow_s3_public_url" not in stack.variables:
        pytest.skip("this shape of the edge has no URL for MinIO")
    return stack.s3_url


@pytest.fixture(scope="module")
def run(stack, s3_url, admin_token, mark):
    """Run and experiment of a large artifact that a stock client has sent and fetched, and what it has sent."""
    script = textwrap.dedent(RECORDED) + textwrap.dedent(ROUND_TRIP) + SHOWN
    done = stack.client(script, stacks.ADMIN, admin_token, MEBIBYTES, f"direct-{mark}", environment=SMALL)
    lines = done.stdout.splitlines()
    return lines[-2].split()[0], lines[-1]


def signed(stack, token, path):
    """What MLflow signs for the download of an artifact."""
    answer = requests.get(
        f"{stack.mlflow_url}/api/2.0/mlflow-artifacts/presigned/{urllib.parse.quote(path)}",
        auth=(stacks.ADMIN, token),
        timeout=60,
    )
    assert answer.status_code == 200, answer.text
    return answer.json()["url"]


def place(stack, run):
    """The path of a run's large artifact in the bucket."""
    (found,) = [each for each in stack.objects() if run in each["key"] and each["key"].endswith("/data.bin")]
    assert found["size"] == MEBIBYTES << 20
    return found["key"]


def test_a_stock_client_transfers_directly(stack, s3_url, run):
    host = urllib.parse.urlsplit(s3_url).hostname
    assert f"('{host}', 'PUT', False)" in run[1]
    assert f"('{host}', 'PUT', True)" not in run[1], "MLflow's credentials are none of the object store's"
    assert f"('{host}', 'GET', True)" not in run[1]
    assert place(stack, run[0])


def test_a_signed_url_and_no_other(stack, s3_url, run, admin_token):
    url = signed(stack, admin_token, place(stack, run[0]))
    assert url.startswith(f"{s3_url}/mlflow/")
    with requests.get(url, timeout=60, stream=True) as answer:
        assert (answer.status_code, answer.headers["Content-Length"]) == (200, str(MEBIBYTES << 20))
    bare, _mark, query = url.partition("?")
    for other in (bare, f"{bare}x?{query}", url.replace("X-Amz-Expires=", "X-Amz-Expires=9")):
        assert requests.get(other, timeout=60).status_code == 403
    assert requests.put(url, data=b"x", timeout=60).status_code == 403
    assert requests.delete(url, timeout=60).status_code == 403


@pytest.mark.parametrize("name", NAMES)
def test_names_of_artifacts(stack, s3_url, run, admin_token, name):
    root = place(stack, run[0]).rpartition("/")[0]
    target = f"{stack.mlflow_url}/api/2.0/mlflow-artifacts/artifacts/{urllib.parse.quote(f'{root}/{name}')}"
    sent = requests.put(target, data=name.encode(), auth=(stacks.ADMIN, admin_token), timeout=60)
    assert sent.status_code == 200, sent.text
    assert requests.get(signed(stack, admin_token, f"{root}/{name}"), timeout=60).content == name.encode()


CLOSED = [
    "/",
    "/minio",
    "/minio/",
    "/minio/admin/v3/info",
    "/minio/health/live",
    "/minio/v2/metrics/cluster",
    "/minio/login",
    "/mlflow-other/x",
    "/Mlflow/x",
    "/mlflow/../minio/health/live",
    "/mlflow/%2e%2e/minio/health/live",
    "/mlflow/..%2fminio/health/live",
    "/mlflow/..%2Fminio%2Fhealth%2Flive",
    "/mlflow/..;/minio/health/live",
    "/mlflow/%5c..%5cminio/health/live",
    "/mlflow//../../minio/health/live",
    "//minio/health/live",
    "/%6dinio/health/live",
    "/./minio/health/live",
]


@pytest.mark.parametrize("path", CLOSED)
def test_nothing_else_of_minio_is_reached(stack, s3_url, path):
    """`/minio/health/live` would be answered by 200 to anybody."""
    assert stack.asked(urllib.parse.urlsplit(s3_url).hostname, path).status in (400, 403, 404)


def test_the_bucket_is_closed_to_who_has_no_signature(stack, s3_url):
    for path in ("/mlflow", "/mlflow/", "/mlflow/?list-type=2", "/mlflow/?policy", "/mlflow/x"):
        assert requests.get(s3_url + path, timeout=60).status_code == 403
    assert requests.put(f"{s3_url}/mlflow/x", data=b"x", timeout=60).status_code == 403
    # Temporary credentials of MinIO's STS.
    body = {"Action": "AssumeRole", "Version": "2011-06-15"}
    assert requests.post(f"{s3_url}/", data=body, timeout=60).status_code == 404


def test_only_the_edge_is_let_in(stack, s3_url):
    flow = "jsonpath={.metadata.annotations.mlops\\.mlflow/flow}"
    found = stack.kubectl("-n", "minio", "get", "networkpolicy", "clients-to-minio", "-o", flow)
    assert found == "minio/*, mlflow/*, traefik/* -> minio/minio:9000"
