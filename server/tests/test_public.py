"""By which URL clients call the server: at the root, below a path, and what proxies say of it."""

import asyncio

import pytest

from mlops_mlflow_server import addresses, public


@pytest.fixture
def called(monkeypatch):
    """What the application within sees of a request, or what is answered for it."""

    def call(url, path="/", *, host="mlflow.example.com", client="192.0.2.1", query=b"", raw=None, **headers):
        monkeypatch.setenv("MLOPS_PUBLIC_URL", url)
        monkeypatch.setenv("TRUSTED_PROXIES", "10.0.0.0/8")
        addresses.trusted_proxies.cache_clear()
        seen, sent = [], []

        async def application(scope, receive, send):
            seen.append(scope)

        async def send(message):
            sent.append(message)

        scope = {
            "type": "http",
            "scheme": "http",
            "path": path,
            "raw_path": (raw or path).encode(),
            "query_string": query,
            "client": (client, 1),
            "headers": [(b"host", host.encode())]
            + [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
        }
        asyncio.run(public.Public(application)(scope, None, send))
        addresses.trusted_proxies.cache_clear()
        return (seen[0], dict(seen[0]["headers"])) if seen else (None, sent)

    return call


def test_without_a_url_nothing_changes(called):
    scope, headers = called("", "/mlflow/x", x_forwarded_prefix="/a", x_forwarded_host="b")
    assert (scope["path"], scope["scheme"]) == ("/mlflow/x", "http")
    assert headers[b"x-forwarded-prefix"] == b"/a"


@pytest.mark.parametrize(
    ("path", "within", "root"),
    [
        ("/mlflow/", "/", "/mlflow"),
        ("/mlflow/api/2.0/mlflow/runs/get", "/api/2.0/mlflow/runs/get", "/mlflow"),
        ("/mlflow/mlflows/x", "/mlflows/x", "/mlflow"),
        # Pods and probes come without it, and a longer word is no path of this server.
        ("/health/ready", "/health/ready", None),
        ("/mlflows/x", "/mlflows/x", None),
        ("/", "/", None),
    ],
)
def test_a_path_is_taken_off(called, path, within, root):
    scope, _headers = called("https://ai.example.com/mlflow", path, host="ai.example.com")
    assert (scope["path"], scope["raw_path"], scope.get("root_path")) == (within, within.encode(), root)


@pytest.mark.parametrize("path", ["/mlflow/mlflow", "/mlflow/mlflow/", "/mlflow/mlflow/api/2.0/mlflow/runs/get"])
def test_a_path_twice_is_not_found(called, path):
    """The frameworks would take both off, and what checks permissions one."""
    scope, sent = called("https://ai.example.com/mlflow", path, host="ai.example.com")
    assert scope is None
    assert sent[0]["status"] == 404


def test_a_path_with_escapes(called):
    scope, _headers = called("https://a/mlflow/", "/mlflow/a b", raw="/mlflow/a%20b")
    assert (scope["path"], scope["raw_path"]) == ("/a b", b"/a%20b")


def test_a_path_without_its_slash(called):
    scope, sent = called("https://a/mlflow", "/mlflow", query=b"x=1")
    assert scope is None
    assert sent[0]["status"] == 308
    assert dict(sent[0]["headers"])[b"location"] == b"/mlflow/?x=1"


@pytest.mark.parametrize(
    ("host", "scheme"), [("mlflow.example.com", "https"), ("MLflow.example.com", "https"), ("mlflow:5000", "http")]
)
def test_scheme(called, host, scheme):
    assert called("https://mlflow.example.com", host=host)[0]["scheme"] == scheme


@pytest.mark.parametrize(
    ("client", "said", "port", "host"),
    [
        ("10.1.2.3", "mlflow.example.com", "", b"mlflow.example.com"),
        ("10.1.2.3", "mlflow.example.com", "443", b"mlflow.example.com"),
        ("10.1.2.3", "mlflow.example.com", "8443", b"mlflow.example.com:8443"),
        ("10.1.2.3", "mlflow.example.com:8443", "8443", b"mlflow.example.com:8443"),
        ("192.0.2.1", "mlflow.example.com", "8443", b"inside"),
    ],
)
def test_what_a_proxy_says_of_the_host(called, client, said, port, host):
    more = {"x_forwarded_host": said, "x_forwarded_prefix": "/evil", **({"x_forwarded_port": port} if port else {})}
    _scope, headers = called("https://mlflow.example.com", host="inside", client=client, **more)
    assert headers == {b"host": host}
