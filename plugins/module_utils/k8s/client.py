# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small client of the Kubernetes API for modules that must start fast.

Importing the C(kubernetes) Python client takes longer than all the calls that these modules make, so it is imported
only where a kubeconfig needs what it alone can do: exec plugins, auth providers, and several files merged into one.
The options are those of kubernetes.core, and so are their environment variables and their order, those of proxies too.
"""

from __future__ import annotations

import base64
import http.client
import ipaddress
import json
import os
import socket
import ssl
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from email.message import Message
from typing import Any, cast
from urllib.parse import SplitResult, quote, unquote, urlencode, urlsplit

from ansible_collections.kubernetes.core.plugins.module_utils.args_common import (
    AUTH_ARG_MAP,
    AUTH_ARG_SPEC,
    AUTH_PROXY_HEADERS_SPEC,
)

FIELD_MANAGER = "mlops.mlflow"
MERGE_PATCH = "application/merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"  # https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/

CONNECT_TIMEOUT = 5.0  # seconds
READ_TIMEOUT = 10.0  # seconds
# In the order of the kubernetes client, where the last one takes precedence.
PROXY_VARIABLES = ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY")
NO_PROXY_VARIABLES = ("no_proxy", "NO_PROXY")
BUSY = (429, 503, 504)  # the API server asks to come back later


def auth_argument_spec() -> dict[str, Any]:
    """Give kubernetes.core's options for authentication, as a module's argument_spec takes them."""
    return {name: dict(spec) for name, spec in AUTH_ARG_SPEC.items()}


def service_option() -> dict[str, Any]:
    """Give the specification of an option that names a Service and a port of it."""
    return {
        "type": "dict",
        "options": {
            "namespace": {"type": "str", "required": True},
            "name": {"type": "str", "required": True},
            "port": {"type": "str"},
        },
    }


def secret_option(*keys: str, **defaults: str) -> dict[str, Any]:
    """Give the specification of an option that names a Secret and keys in it: names, which Ansible need not hide.

    Args:
        keys: The suboptions that name a key.
        defaults: Those that have a default, with it.
    """
    named: dict[str, Any] = {name: {"type": "str", "no_log": False} for name in keys}
    named |= {name: {"type": "str", "default": value, "no_log": False} for name, value in defaults.items()}
    return {
        "type": "dict",
        "no_log": False,
        "options": {
            "namespace": {"type": "str", "required": True},
            "name": {"type": "str", "required": True},
            **named,
        },
    }


class KubeError(Exception):
    """What went wrong with the cluster, in one sentence for a user."""


class ApiError(KubeError):
    """An answer of the API server other than success.

    Args:
        status: HTTP status code.
        reason: The machine-readable reason of the Status object, such as C(AlreadyExists); may be empty.
        detail: The message of the Status object; may be empty.
    """

    def __init__(self, sentence: str, status: int, reason: str = "", detail: str = "") -> None:
        super().__init__(sentence)
        self.status = status
        self.reason = reason
        self.detail = detail


@dataclass
class Settings:
    """How to reach an API server. Paths and PEM texts exclude each other; empty means none."""

    server: str
    source: str
    kubeconfig: str = ""
    context: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    groups: list[str] = field(default_factory=list)
    verify: bool = True
    server_name: str = ""
    proxy: str = ""
    no_proxy: str = ""
    proxy_headers: dict[str, str] = field(default_factory=dict, repr=False)
    ca_file: str = ""
    ca_data: str = ""
    cert_file: str = ""
    key_file: str = ""
    cert_data: str = ""
    key_data: str = ""


# --- where the settings come from -------------------------------------------------------------------------------------


def _options(params: dict[str, Any]) -> dict[str, Any]:
    """Merge a module's parameters with the environment variables K8S_AUTH_*, by the names of the options."""
    found: dict[str, Any] = {}
    names = {arg: true for true, arg in AUTH_ARG_MAP.items()}
    for arg in AUTH_ARG_SPEC:
        value: Any = params.get(arg)
        if arg == "proxy_headers":
            value = value or _proxy_headers_of_environment()
        elif value in (None, ""):
            value = os.environ.get(f"K8S_AUTH_{arg.upper()}") or os.environ.get(
                f"K8S_AUTH_{names.get(arg, arg).upper()}"
            )
            if value is not None and AUTH_ARG_SPEC[arg].get("type") == "bool":
                value = value.lower() not in ("0", "false", "no")
            if value is not None and AUTH_ARG_SPEC[arg].get("type") == "list":
                value = value.split(",")
        if value not in (None, ""):
            found[arg] = value
    return found


def _proxy_headers_of_environment() -> dict[str, str]:
    given = {name: os.environ.get(f"K8S_AUTH_PROXY_HEADERS_{name.upper()}", "") for name in AUTH_PROXY_HEADERS_SPEC}
    return {name: value for name, value in given.items() if value}


def _read_kubeconfig(option: Any) -> tuple[dict[str, Any], str, str]:
    """Load a kubeconfig and give it with its folder and its name for messages.

    Raises:
        KubeError: It is missing, unreadable or no kubeconfig.
    """
    if isinstance(option, dict):
        return option, "", "the kubeconfig given as a dictionary"
    path = os.path.expanduser(str(option))
    try:
        with open(path, encoding="utf-8") as stream:
            text = stream.read()
    except FileNotFoundError:
        raise KubeError(f"kubeconfig_path is '{option}': there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise KubeError(f"kubeconfig_path is '{option}': it cannot be read ({why})") from None
    if text.startswith("$ANSIBLE_VAULT"):
        raise KubeError(f"kubeconfig_path is '{option}': it is encrypted by Ansible Vault, and must be decrypted first")
    try:
        if text.lstrip().startswith("{"):
            config = json.loads(text)
        else:
            import yaml  # noqa: PLC0415  only kubeconfigs in YAML need it

            config = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506  a safe loader
    except ImportError:
        raise KubeError("the Python library PyYAML is missing on the host that runs this module") from None
    except ValueError:
        config = None
    except yaml.YAMLError:
        config = None
    if not isinstance(config, dict) or "clusters" not in config:
        raise KubeError(f"kubeconfig_path is '{option}': it is not a kubeconfig, which is a mapping with 'clusters'")
    return config, os.path.dirname(os.path.abspath(path)), str(option)


def _named(config: dict[str, Any], plural: str, singular: str) -> dict[str, dict[str, Any]]:
    """Give a list of a kubeconfig as a dictionary by name."""
    return {each["name"]: each.get(singular) or {} for each in config.get(plural) or [] if "name" in each}


def _pem(section: dict[str, Any], name: str, folder: str) -> tuple[str, str]:
    """Give a certificate or key of a kubeconfig as (path, PEM text); data win over a path, as kubectl has it."""
    data = section.get(f"{name}-data")
    if data:
        try:
            return "", base64.b64decode("".join(str(data).split()), validate=True).decode("ascii")
        except ValueError:
            raise KubeError(f"the kubeconfig's {name}-data is not base64 of a PEM text") from None
    path = section.get(name) or ""
    return (os.path.join(folder, path) if path else ""), ""


def _from_kubeconfig(option: Any, context_name: str | None, persist: bool) -> Settings:
    """Read the settings of a context, by the kubernetes client where only that knows how to log in.

    Args:
        persist: Whether tokens that the kubernetes client refreshes are saved in the kubeconfig.

    Raises:
        KubeError: No such file, no such context, or a context that names what is not there.
    """
    config, folder, name = _read_kubeconfig(option)
    contexts = _named(config, "contexts", "context")
    there_are = f"it has {', '.join(sorted(contexts))}" if contexts else "it has none"
    wanted = context_name or config.get("current-context") or ""
    if not wanted:
        raise KubeError(f"kubeconfig_context is not set, and {name} has no current context: {there_are}")
    if wanted not in contexts:
        which = f"kubeconfig_context is '{wanted}'" if context_name else f"the current context is '{wanted}'"
        raise KubeError(f"{which}: {name} has no such context ({there_are})")
    context = contexts[wanted]
    cluster = _named(config, "clusters", "cluster").get(context.get("cluster", ""))
    user = _named(config, "users", "user").get(context.get("user", ""), {})
    if not cluster or not cluster.get("server"):
        raise KubeError(f"context '{wanted}' of {name} names the cluster '{context.get('cluster')}', which it lacks")
    if "exec" in user or "auth-provider" in user:
        # The kubernetes client passes over the cluster's proxy.
        return replace(_from_client(option, context_name, persist), proxy=cluster.get("proxy-url") or "")
    settings = Settings(
        server=cluster["server"],
        source=f"kubeconfig_path {name}, context {wanted}",
        kubeconfig=name if folder else "",
        context=wanted,
        verify=not cluster.get("insecure-skip-tls-verify", False),
        server_name=cluster.get("tls-server-name") or "",
        proxy=cluster.get("proxy-url") or "",
    )
    settings.ca_file, settings.ca_data = _pem(cluster, "certificate-authority", folder)
    settings.cert_file, settings.cert_data = _pem(user, "client-certificate", folder)
    settings.key_file, settings.key_data = _pem(user, "client-key", folder)
    if user.get("token"):
        settings.headers["Authorization"] = f"Bearer {user['token']}"
    elif user.get("tokenFile"):
        settings.headers["Authorization"] = f"Bearer {_read_token(os.path.join(folder, user['tokenFile']))}"
    elif user.get("username"):
        settings.headers["Authorization"] = basic_auth(user["username"], user.get("password") or "")
    for header, key in (("Impersonate-User", "as"), ("Impersonate-Uid", "as-uid")):
        if user.get(key):
            settings.headers[header] = user[key]
    settings.groups = list(user.get("as-groups") or [])
    return settings


def _from_client(option: Any, context_name: str | None, persist: bool) -> Settings:
    """Let the kubernetes client read the configuration: exec plugins, auth providers, merged files.

    Raises:
        KubeError: The client is missing, or cannot use the configuration.
    """
    try:
        from kubernetes import client, config  # noqa: PLC0415  slow, see above
    except ImportError:
        raise KubeError(
            "the Python library kubernetes is missing on the host that runs this module, and this kubeconfig needs it"
        ) from None
    loaded = client.Configuration()
    how = {"context": context_name, "client_configuration": loaded, "persist_config": persist}
    try:
        if isinstance(option, dict):
            config.load_kube_config_from_dict(option, **how)
        else:
            config.load_kube_config(config_file=option, **how)
    except (config.ConfigException, OSError, ValueError) as error:
        raise KubeError(f"kubeconfig_path is '{option}': {_one_line(str(error))}") from None
    settings = Settings(
        server=loaded.host,
        source=f"kubeconfig_path {option}" + (f", context {context_name}" if context_name else ""),
        kubeconfig=option if isinstance(option, str) else "",
        context=context_name or "",
        verify=loaded.verify_ssl,
        server_name=getattr(loaded, "tls_server_name", None) or "",
        ca_file=loaded.ssl_ca_cert or "",
        cert_file=loaded.cert_file or "",
        key_file=loaded.key_file or "",
    )
    token = loaded.get_api_key_with_prefix("authorization")
    if token:
        settings.headers["Authorization"] = token
    elif loaded.username:
        settings.headers["Authorization"] = basic_auth(loaded.username, loaded.password or "")
    return settings


def basic_auth(user: str, password: str) -> str:
    """Give the header Authorization of a user with a password."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode("ascii")


def _read_token(path: str) -> str:
    try:
        with open(path, encoding="ascii") as stream:
            return stream.read().strip()
    except (OSError, UnicodeDecodeError):
        raise KubeError(f"the token file {path} cannot be read") from None


def _from_pod() -> Settings | None:
    """Give the settings of a pod's service account; None outside of a cluster."""
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT")
    token = os.path.join(SERVICE_ACCOUNT, "token")
    if not host or not port or not os.path.isfile(token):
        return None
    return Settings(
        server=f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}",
        source="the service account of this pod",
        headers={"Authorization": f"Bearer {_read_token(token)}"},
        ca_file=os.path.join(SERVICE_ACCOUNT, "ca.crt"),
    )


def load_settings(params: dict[str, Any]) -> Settings:
    """Work out how to reach the API server from a module's options, the environment and the kubeconfig.

    The order is that of kubernetes.core: a host with credentials; a kubeconfig or a context that was given; the
    service account of the pod; the default kubeconfig. Single options win over what a kubeconfig says.

    Args:
        params: The module's parameters.

    Raises:
        KubeError: In one sentence, what is missing or wrong.
    """
    options = _options(params)
    kubeconfig, context = options.get("kubeconfig"), options.get("context")
    settings: Settings | None = None
    credentials = (("api_key",), ("username", "password"), ("client_cert", "client_key"))
    if options.get("host") and any(all(options.get(each) for each in names) for names in credentials):
        settings = Settings(server=options["host"], source="host")
    elif not kubeconfig and not context:
        settings = _from_pod()
    if settings is None:
        default = not kubeconfig
        kubeconfig = kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config"
        merged = isinstance(kubeconfig, str) and os.pathsep in kubeconfig
        if default and not merged and not os.path.exists(os.path.expanduser(kubeconfig)):
            raise KubeError(f"kubeconfig_path is not set, and there is no default kubeconfig at {kubeconfig}")
        read = _from_client if merged else _from_kubeconfig
        settings = read(kubeconfig, context, bool(options.get("persist_config")))

    settings.server = (options.get("host") or settings.server).rstrip("/")
    if options.get("api_key"):
        settings.headers["Authorization"] = f"Bearer {options['api_key']}"
    elif options.get("username") and options.get("password"):
        settings.headers["Authorization"] = basic_auth(options["username"], options["password"])
    if "validate_certs" in options:
        settings.verify = options["validate_certs"]
    for option, path, data in (
        ("ca_cert", "ca_file", "ca_data"),
        ("client_cert", "cert_file", "cert_data"),
        ("client_key", "key_file", "key_data"),
    ):
        if options.get(option):
            setattr(settings, path, os.path.expanduser(options[option]))
            setattr(settings, data, "")
    settings.proxy = options.get("proxy") or settings.proxy or _first_of_environment(PROXY_VARIABLES)
    settings.no_proxy = options.get("no_proxy") or _first_of_environment(NO_PROXY_VARIABLES)
    settings.proxy_headers = _proxy_headers(options.get("proxy_headers") or {})
    if options.get("impersonate_user"):
        settings.headers["Impersonate-User"] = options["impersonate_user"]
    if options.get("impersonate_groups"):
        settings.groups = list(options["impersonate_groups"])
    return settings


def _first_of_environment(names: tuple[str, ...]) -> str:
    return next((value for value in map(os.environ.get, names) if value), "")


def _proxy_headers(given: dict[str, str | None]) -> dict[str, str]:
    """Give the headers for the proxy, as urllib3.util.make_headers makes them of such options."""
    headers = {}
    for option, header in (("proxy_basic_auth", "Proxy-Authorization"), ("basic_auth", "Authorization")):
        user, _unused, password = (given.get(option) or "").partition(":")
        if user:
            headers[header] = basic_auth(user, password)
    if given.get("user_agent"):
        headers["User-Agent"] = str(given["user_agent"])
    return headers


def bypasses_proxy(host: str, port: int, no_proxy: str) -> bool:
    """Whether a host is reached without the proxy.

    Args:
        no_proxy: Hosts, domains, addresses and networks, with commas in between; C(*) is all.
    """
    for entry in filter(None, no_proxy.replace(" ", "").split(",")):
        try:
            if ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False):
                return True
        except ValueError:  # one of both is a name
            domain = entry.lstrip("*").lstrip(".")
            if entry == "*" or any(f".{name}".endswith(f".{domain}") for name in (host, f"{host}:{port}") if domain):
                return True
    return False


# --- speaking to the API server ---------------------------------------------------------------------------------------


def _one_line(text: str) -> str:
    """Put a text of several lines, such as a library's error, on one."""
    return " ".join(text.split())


class _TLSConnection(http.client.HTTPSConnection):
    """An HTTPS connection that may expect another name in the server's certificate than the one it dials."""

    def __init__(self, *args: Any, context: ssl.SSLContext, server_name: str, **kwargs: Any) -> None:
        super().__init__(*args, context=context, **kwargs)
        self._tls = context
        self._server_name = server_name

    def connect(self) -> None:
        http.client.HTTPConnection.connect(self)
        self.sock = self._tls.wrap_socket(self.sock, server_hostname=self._server_name)


def tls_context(verify: bool, ca_file: str | None = None, ca_data: str | None = None) -> ssl.SSLContext:
    """Build a TLS context that trusts a CA, by default those of the system.

    Raises:
        OSError, ValueError: The certificate of the CA cannot be loaded.
    """
    context = ssl.create_default_context(cafile=ca_file or None, cadata=ca_data or None)
    # Certificates in use are often older than the strictest reading of RFC 5280, which Python 3.13 turned on.
    context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _tls_context(settings: Settings) -> ssl.SSLContext:
    """Build the TLS context of the settings.

    Raises:
        KubeError: A certificate or key cannot be loaded.
    """
    try:
        context = tls_context(settings.verify, settings.ca_file, settings.ca_data)
    except (OSError, ValueError) as error:
        raise KubeError(f"the CA certificate of {settings.source} cannot be loaded: {_one_line(str(error))}") from None
    cert, key = settings.cert_file, settings.key_file
    if not cert and not settings.cert_data:
        return context
    try:
        # OpenSSL reads certificates from files only: a folder of mode 0700 that lives as long as the reading.
        with tempfile.TemporaryDirectory(prefix="mlops.mlflow.") as folder:
            if settings.cert_data:
                cert = _write_private(os.path.join(folder, "cert.pem"), settings.cert_data)
            if settings.key_data:
                key = _write_private(os.path.join(folder, "key.pem"), settings.key_data)
            context.load_cert_chain(cert, key or None)
    except (OSError, ValueError) as error:
        raise KubeError(
            f"the client certificate of {settings.source} cannot be loaded: {_one_line(str(error))}"
        ) from None
    return context


def _write_private(path: str, text: str) -> str:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as stream:
        stream.write(text)
    return path


class Api:
    """Requests to one API server over one kept-alive connection. Not for several threads at once."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._url = urlsplit(settings.server if "//" in settings.server else f"https://{settings.server}")
        self._tls = _tls_context(settings) if self._url.scheme == "https" else None
        self._proxy = self._find_proxy()
        self._connection: http.client.HTTPConnection | None = None

    def _find_proxy(self) -> SplitResult | None:
        """Give the proxy on the way to the API server; None where there is none.

        Raises:
            KubeError: It is of a kind that cannot be used.
        """
        given = self.settings.proxy
        host = self._url.hostname or ""
        if not given or bypasses_proxy(host, self._url.port or (443 if self._tls else 80), self.settings.no_proxy):
            return None
        proxy = urlsplit(given if "://" in given else f"http://{given}")
        if proxy.scheme != "http" or not proxy.hostname:
            raise KubeError(
                f"the proxy on the way to {self.settings.server} is of the kind {proxy.scheme}: only a proxy that is "
                "reached by http:// can be used, which leads to https servers too"
            )
        return proxy

    def _connect(self) -> http.client.HTTPConnection:
        host, port = self._url.hostname or "", self._url.port or (443 if self._tls else 80)
        proxy = self._proxy
        target = (proxy.hostname or "", proxy.port or 80) if proxy else (host, port)
        connection: http.client.HTTPConnection
        if self._tls:
            connection = _TLSConnection(
                *target, timeout=CONNECT_TIMEOUT, context=self._tls, server_name=self.settings.server_name or host
            )
        else:
            connection = http.client.HTTPConnection(*target, timeout=CONNECT_TIMEOUT)
        if proxy:
            headers = dict(self.settings.proxy_headers)
            if proxy.username:
                user, password = unquote(proxy.username), unquote(proxy.password or "")
                headers.setdefault("Proxy-Authorization", basic_auth(user, password))
            connection.set_tunnel(host, port, headers)
        connection.connect()
        return connection

    def open_connection(self) -> http.client.HTTPConnection:
        """Open another connection, the caller's to close: for what takes it over, such as a WebSocket.

        Raises:
            KubeError: The server cannot be reached.
        """
        try:
            return self._connect()
        except (OSError, http.client.HTTPException) as error:
            raise KubeError(self._sentence(error, CONNECT_TIMEOUT)) from None

    def url(self, path: str, scheme: str = "http") -> str:
        """Give the URL of a path.

        Args:
            scheme: C(http), or C(ws) for a WebSocket; with TLS an C(s) is added.
        """
        return f"{scheme}{'s' if self._tls else ''}://{self._url.netloc}{self._url.path.rstrip('/')}{path}"

    def headers(self, accept: str = "application/json") -> Message:
        """Give the headers that every request carries; a Message, since one of them may stand several times."""
        headers = Message()
        for name, value in {"Accept": accept, "User-Agent": FIELD_MANAGER, **self.settings.headers}.items():
            headers[name] = value
        for group in self.settings.groups:
            headers["Impersonate-Group"] = group
        return headers

    def close(self) -> None:
        """Drop the connection; the next request opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _exchange(
        self, method: str, target: str, body: bytes | None, headers: Message, timeout: float
    ) -> tuple[int, bytes]:
        """Send one request and read the answer, once more on a connection that went stale while kept alive."""
        while True:
            reused = self._connection is not None
            try:
                if self._connection is None:
                    self._connection = self._connect()
                if self._connection.sock is not None:
                    self._connection.sock.settimeout(timeout)
                # A Message is as good as a Mapping, and has a header several times.
                self._connection.request(method, target, body=body, headers=cast(Any, headers))
                response = self._connection.getresponse()
                return response.status, response.read()
            except (http.client.HTTPException, ConnectionError, BrokenPipeError):
                self.close()
                if not reused:
                    raise
            except BaseException:
                self.close()
                raise

    def _sentence(self, error: Exception, timeout: float) -> str:
        """Say in a sentence why no answer came."""
        host = (self._proxy or self._url).hostname
        through = f" through the proxy {host}:{self._proxy.port or 80}" if self._proxy else ""
        refused = str(error) if self._proxy and str(error).startswith("Tunnel connection failed") else ""
        strerror = getattr(error, "strerror", None) or refused or type(error).__name__
        for kind, words in (  # the special before the general
            (ConnectionRefusedError, "refused the connection: is the cluster running?"),
            (TimeoutError, f"did not answer within {timeout:g} s: is it reachable from here?"),
            (socket.gaierror, f"cannot be found: the name {host} does not resolve"),
            (
                ssl.SSLCertVerificationError,
                f"shows a certificate that is not trusted: {getattr(error, 'verify_message', '')}",
            ),
            (ssl.SSLError, f"does not agree on TLS: {_one_line(getattr(error, 'reason', '') or str(error))}"),
            (http.client.HTTPException, f"ended the connection without an answer ({type(error).__name__})"),
            (Exception, f"cannot be reached: {strerror}"),
        ):
            if isinstance(error, kind):
                return f"the API server {self.settings.server} ({self.settings.source}{through}) {words}"
        return str(error)

    def request(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, Any] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        timeout: float = READ_TIMEOUT,
        accept: str = "application/json",
    ) -> bytes:
        """Send a request and give the body of the answer.

        Args:
            path: Absolute path, quoted where needed.
            query: Query parameters; those that are None are left out.
            body: What is sent as JSON; None sends nothing.
            timeout: Seconds the server may be silent; a busy server is asked three times.

        Raises:
            ApiError: The server answered with other than success.
            KubeError: The server did not answer.
        """
        query = {name: value for name, value in (query or {}).items() if value is not None}
        target = urlsplit(self.settings.server).path.rstrip("/") + path + (f"?{urlencode(query)}" if query else "")
        data = None if body is None else json.dumps(body).encode()
        headers = self.headers(accept)
        if data is not None:
            headers["Content-Type"] = content_type
        for attempt in range(3):
            try:
                status, answer = self._exchange(method, target, data, headers, timeout)
            except (OSError, http.client.HTTPException) as error:
                raise KubeError(self._sentence(error, timeout)) from None
            if status in BUSY and attempt < 2 and "/proxy/" not in path:
                time.sleep(1 + attempt)
                continue
            break
        if 200 <= status < 300:
            return answer
        raise self._api_error(method, path, status, answer)

    def _api_error(self, method: str, path: str, status: int, answer: bytes) -> ApiError:
        """Turn an answer other than success into a sentence."""
        try:
            parsed = json.loads(answer)
        except ValueError:
            parsed = {}
        # Proxies on the way and servers of another kind answer in plain text.
        plain = answer.decode("utf-8", "replace") if len(answer) < 200 and b"<" not in answer else ""
        reason, detail = "", "" if parsed else _one_line(plain)
        if isinstance(parsed, dict) and parsed.get("kind") == "Status":
            reason, detail = str(parsed.get("reason") or ""), _one_line(str(parsed.get("message") or ""))
        where = f"the API server {self.settings.server}"
        if status == 401:
            sentence = f"{where} does not accept the credentials of {self.settings.source} (401 Unauthorized)"
        elif status == 403:
            sentence = f"{where} forbids it to the user of {self.settings.source} (403 Forbidden): {detail or path}"
        else:
            sentence = f"{where} answered {method} {path} with {status}" + (f": {detail}" if detail else "")
        return ApiError(sentence, status, reason, detail)

    def json(self, method: str, path: str, **kwargs: Any) -> dict[str, Any]:
        """Send a request and give the answer parsed.

        Raises:
            ApiError, KubeError: As C(request) does, or the answer is no JSON object.
        """
        answer = self.request(method, path, **kwargs)
        try:
            parsed = json.loads(answer)
        except ValueError:
            parsed = None
        if not isinstance(parsed, dict):
            raise KubeError(f"{self.settings.server} ({self.settings.source}) does not answer as a Kubernetes API does")
        return parsed

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        """GET an object or a list."""
        return self.json("GET", path, query=query)

    def find(self, path: str, **query: Any) -> dict[str, Any] | None:
        """GET an object; None where there is none."""
        try:
            return self.get(path, **query)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def delete(self, path: str, **kwargs: Any) -> bool:
        """DELETE an object, with options of C(request); False where it is absent by now, which is as good."""
        try:
            self.request("DELETE", path, **kwargs)
        except ApiError as error:
            if error.status == 404:
                return False
            raise
        return True


def connect(params: dict[str, Any]) -> Api:
    """Give a client for a module's options; no request is sent yet.

    Raises:
        KubeError: In one sentence, what is missing or wrong.
    """
    return Api(load_settings(params))


def unmask(module: Any, *secret: str, plain: Iterable[str] = ()) -> None:
    """Keep secrets hidden in a module's output, but let messages have the names of things.

    Ansible hides every string of a secret option wherever it occurs in the output. kubernetes.core marks the whole
    option kubeconfig as secret, so that a path would be cut out of every message.

    Args:
        module: The AnsibleModule, or an action that has its params and no_log_values.
        secret: Further texts to hide.
        plain: Strings of secret options that are none, such as the names of environment variables.
    """
    module.no_log_values.difference_update(plain, _plain_of_kubeconfig(module.params.get("kubeconfig")))
    module.no_log_values.update(secret)


def _plain_of_kubeconfig(given: Any) -> Iterator[str]:
    """Give the strings of the option kubeconfig that are no secret: its path, or all but what users log in with."""
    if isinstance(given, dict):
        for name, inner in given.items():
            if name != "user":
                yield from _plain_of_kubeconfig(inner)
            elif isinstance(inner, str):  # a context's user, by name
                yield inner
    elif isinstance(given, list):
        for inner in given:
            yield from _plain_of_kubeconfig(inner)
    else:
        yield str(given)


def quoted(name: str) -> str:
    """Quote a name for a path."""
    return quote(name, safe="")
