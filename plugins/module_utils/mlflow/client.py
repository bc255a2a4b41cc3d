# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""MLflow's REST API, as the modules mlflow_* call it: by its URL, or by a port-forward to its Service.

Two plugins authenticate callers, and their APIs differ: C(oidc) is mlflow-oidc-auth, C(basic) is MLflow's own
basic-auth. Values of credentials stay in the process: no error of this file holds one.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import socket
import ssl
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias
from urllib.parse import quote, urlencode, urlsplit

from ansible_collections.mlops.mlflow.plugins.module_utils.changes import Changes as Record
from ansible_collections.mlops.mlflow.plugins.module_utils.connections import (
    BROKEN,
    Answer,
    Client,
    explain,
    in_parallel,
)
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.client import (
    Api,
    ApiError,
    KubeError,
    auth_argument_spec,
    connect,
    secret_option,
    service_option,
    tls_context,
    unmask,
)
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.portforward import ServiceConnection, Unreachable
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.secret_store import KubernetesStore
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.secrets import NotThereYet, SecretValues

ATTEMPTS = 5
PAUSE = 2.0  # seconds between them, where the server does not say
LONGEST_PAUSE = 5.0

WHO_AM_I = "/api/2.0/mlflow/users/current"
"""Answered by both plugins, and differently: {"username": ...} by mlflow-oidc-auth, {"user": ...} by basic-auth."""

SEARCH = "/api/2.0/mlflow/experiments/search"
"""A list, although it is requested by POST."""

Query: TypeAlias = "dict[str, Any] | list[tuple[str, Any]] | None"
"""Parameters of a URL."""

# Options of kubernetes.core that are MLflow's own here. The environment variables K8S_AUTH_* still mean the cluster.
OWN_NAMES = ("username", "password", "validate_certs")

CONSTRAINTS: dict[str, Any] = {
    "mutually_exclusive": [("url", "service"), ("admin_secret", "username", "token")],
    "required_one_of": [("url", "service"), ("admin_secret", "username", "token")],
    "required_together": [("username", "password")],
}
"""What an AnsibleModule takes beside the argument_spec."""


def argument_spec(**own: Any) -> dict[str, Any]:
    """Give the options of doc_fragments/mlflow.py, and a module's own."""
    return {
        **auth_argument_spec(),
        "url": {"type": "str"},
        "service": service_option(),
        "admin_secret": secret_option(username_key="username", password_key="password"),  # noqa: S106 - names of keys
        "username": {"type": "str"},
        "password": {"type": "str", "no_log": True},
        "token": {"type": "str", "no_log": True},
        "validate_certs": {"type": "bool", "default": True, "aliases": ["verify_ssl"]},
        "ca_path": {"type": "path"},
        "timeout": {"type": "int", "default": 30},
        "auth_plugin": {"type": "str", "choices": ["auto", "oidc", "basic"], "default": "auto"},
        **own,
    }


class MlflowError(Exception):
    """One sentence on what MLflow refused, or on what was asked of it that can't be.

    Args:
        status: HTTP status; 0 where there was no answer.
        code: MLflow's error code, such as C(RESOURCE_DOES_NOT_EXIST); may be empty.
        reason: MLflow's own words; may be empty.
    """

    def __init__(self, sentence: str, status: int = 0, code: str = "", reason: str = "") -> None:
        super().__init__(sentence)
        self.status = status
        self.code = code
        self.reason = reason

    @property
    def absent(self) -> bool:
        """Whether MLflow says that there is no such thing."""
        return self.status == 404 or self.code == "RESOURCE_DOES_NOT_EXIST"

    @property
    def exists(self) -> bool:
        """Whether MLflow says that there is such a thing already."""
        return self.code == "RESOURCE_ALREADY_EXISTS" or (self.status == 409 and not self.code)


def listed(names: Iterable[str], most: int = 10) -> str:
    """Give names for a sentence, and not more than so many."""
    names = sorted(set(names))
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest if names else "none"


def segment(name: str) -> str:
    """Quote a name for one part of a path."""
    return quote(name, safe="")


# --- the connection ---------------------------------------------------------------------------------------------------


def _tls_context(validate: bool, ca_path: str) -> ssl.SSLContext:
    try:
        return tls_context(validate, os.path.expanduser(ca_path))
    except (OSError, ssl.SSLError) as error:
        why = "it holds no certificate in PEM" if isinstance(error, ssl.SSLError) else error.strerror
        raise MlflowError(f"ca_path is '{ca_path}': it cannot be used ({why})") from None


def _url_connection(params: dict[str, Any]) -> tuple[http.client.HTTPConnection, str]:
    """Give a connection that is not open yet, and the path that the URL begins with."""
    url = params["url"].strip()
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or parts.scheme not in ("http", "https") or parts.username or parts.query or parts.fragment:
        raise MlflowError("url must be that of MLflow's root, such as https://mlflow.example.com, without a user in it")
    timeout = params["timeout"]
    if parts.scheme == "http":
        return http.client.HTTPConnection(host, port, timeout=timeout), parts.path.rstrip("/")
    context = _tls_context(params["validate_certs"], params["ca_path"] or "")
    return http.client.HTTPSConnection(host, port, timeout=timeout, context=context), parts.path.rstrip("/")


def _basic(username: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode("ascii")


class MlflowApi(Client):
    """Requests to one MLflow over one kept-alive connection.

    Args:
        connection: an C(http.client.HTTPConnection), or what behaves like one; it is reopened after a failure.
        authorization: the header Authorization; empty sends none.
        where: how messages call the server.
        account: how messages call the account.
        plugin: C(oidc), C(basic), or C(auto) to ask the server when it matters.
        path: the path that the server's URL begins with.
        kube: gives a client of the cluster's API server, which is needed only where a Secret is read or written.
        another: gives a further connection, for a thread of its own.
    """

    def __init__(
        self,
        connection: Any,
        authorization: str = "",
        *,
        where: str = "MLflow",
        account: str = "the account",
        plugin: str = "auto",
        path: str = "",
        kube: Callable[[], Api] | None = None,
        another: Callable[[], Any] | None = None,
        sleep: Callable[[float], Any] = time.sleep,
    ) -> None:
        super().__init__(connection)
        self._authorization = authorization
        self._account = account
        self._plugin = plugin
        self._path = path
        self._sleep = sleep
        self._is_forwarded = isinstance(connection, ServiceConnection)
        self._me: dict[str, Any] | None = None
        self.where = where
        self._kube = kube
        self._open = another
        self._read: dict[str, bytes] | None = None
        self.secrets: list[str] = []  # what a module's output must not hold
        self.waits = True  # for a pod to be ready

    def another(self) -> MlflowApi:
        """Give a client of the same server and account with a connection of its own, for another thread."""
        if self._open is None:
            raise MlflowError(f"{self.where} is reached over one connection only")
        other = MlflowApi(
            self._open(),
            self._authorization,
            where=self.where,
            account=self._account,
            plugin=self.plugin,
            path=self._path,
            sleep=self._sleep,
        )
        other.waits, other._read = self.waits, self._read
        return other

    def remember(self) -> None:
        """Ask for each list once from here on: what is read is for a plan, and holds until the plan is carried out."""
        self._read = {}

    # Requests

    def _unreachable(self, error: Exception) -> Unreachable:
        strerror = getattr(error, "strerror", None) or str(error) or type(error).__name__
        for kind, words in (  # the special before the general
            (ConnectionRefusedError, "refused the connection"),
            (TimeoutError, f"did not answer within {getattr(self._wire.connection, 'timeout', 0):g} s"),
            (socket.gaierror, "cannot be found: its name does not resolve"),
            (
                ssl.SSLCertVerificationError,
                f"shows a certificate that is not trusted ({getattr(error, 'verify_message', '')}): "
                "name the certificate of its CA in ca_path",
            ),
            (ssl.SSLError, f"does not agree on TLS: {getattr(error, 'reason', '') or strerror}"),
            (Exception, f"cannot be reached: {strerror}"),
        ):
            if isinstance(error, kind):
                return Unreachable(f"{self.where} {words}", transient=not isinstance(error, ssl.SSLError))
        return Unreachable(str(error))

    def _ask(
        self, method: str, path: str, body: Any, query: Query, *, what: str = "", authorization: str | None = None
    ) -> bytes:
        """Send a request, again where the server is away for a moment, and give the answer."""
        pairs = list(query.items()) if isinstance(query, dict) else list(query or [])
        pairs = [(k, str(v).lower() if isinstance(v, bool) else v) for k, v in pairs if v is not None]
        target = self._path + path + (f"?{urlencode(pairs)}" if pairs else "")
        # MLflow answers to the Host localhost, with any names that it was given.
        headers = {"Accept": "application/json", "User-Agent": "mlops.mlflow"}
        if self._is_forwarded:
            headers["Host"] = "localhost:5000"
        if authorization or self._authorization:
            headers["Authorization"] = authorization or self._authorization
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        for attempt in range(1, ATTEMPTS + 1):
            last = attempt == ATTEMPTS
            sent = self.requests
            try:
                answer = self._wire.exchange(method, target, data, headers, safe=method == "GET")
            except BROKEN as error:
                raise self._unreachable(error) from None
            except Unreachable as error:
                # A write that broke may have been done; where no pod was ready nothing was sent.
                repeatable = method == "GET" or self.requests == sent
                if last or not self.waits or not self._is_forwarded or not error.transient or not repeatable:
                    raise
                self._sleep(PAUSE)
                continue
            if answer.status != 503 or last:
                break
            self._sleep(_pause(answer.headers.get("Retry-After")))
        self._check(answer, what or f"answer {method} {path}")
        return answer.body

    def _check(self, answer: Answer, what: str) -> None:
        """Turn an answer other than success into an error."""
        status = answer.status
        if 200 <= status < 300:
            return
        if 300 <= status < 400:
            place = (answer.headers.get("Location") or "").partition("?")[0]
            raise MlflowError(f"{self.where} sends the call on to {place}: give MLflow's own address", status)
        code, reason = explain(answer.body)
        if status == 401:
            raise MlflowError(f"{self.where} does not accept {self._account}: {reason}", status, code, reason)
        raise MlflowError(f"MLflow refused to {what}: {reason} (HTTP {status})", status, code, reason)

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        query: Query = None,
        *,
        what: str = "",
        authorization: str | None = None,
    ) -> Any:
        """Send a request and give the answer, parsed; an empty one is C({}).

        A server that says it is unavailable (503), or of which no pod is ready, is asked again for some seconds.

        Args:
            path: absolute path below the server's URL, quoted where needed (`segment`).
            body: what is sent as JSON; None sends nothing.
            query: parameters of the URL; those that are None are left out, booleans become C(true) and C(false).
            what: the deed in words, for the sentence of a refusal: "MLflow refused to <what>".
            authorization: another header than the session's; to check the credentials of another account.

        Raises:
            MlflowError: the server answers with other than success.
            Unreachable: it does not answer.
        """
        asked = ""
        if self._read is not None and authorization is None and (method == "GET" or path == SEARCH):
            asked = json.dumps([method, path, body, query])
        if asked and asked in (self._read or {}):
            answer = (self._read or {})[asked]
        else:
            answer = self._ask(method, path, body, query, what=what, authorization=authorization)
        if asked and self._read is not None:
            self._read[asked] = answer
        if not answer.strip():
            return {}
        try:
            return json.loads(answer)
        except ValueError:
            raise MlflowError(
                f"{self.where} does not answer as MLflow does: is it a page of a proxy's login?"
            ) from None

    def text(self, path: str) -> str:
        """GET a short text; empty where the server does not give it."""
        try:
            return " ".join(self._ask("GET", path, None, None).decode(errors="replace").split())[:200]
        except MlflowError:
            return ""

    def find(self, path: str, query: Query = None, *, what: str = "") -> Any | None:
        """GET a thing; None where MLflow says that there is none."""
        try:
            return self.request("GET", path, query=query, what=what)
        except MlflowError as error:
            if error.absent:
                return None
            raise

    # The server and the account

    def whoami(self) -> dict[str, Any]:
        """Give C(name) and C(admin) of the account, and find out which plugin answers; the server is asked once.

        Raises:
            MlflowError: the account is not accepted, or the server has no accounts.
        """
        if self._me is None:
            found = self.find(WHO_AM_I, what="say who the account is")
            user = found.get("user", found) if isinstance(found, dict) else {}
            if not isinstance(user, dict) or "username" not in user:
                raise MlflowError(
                    f"{self.where} knows no accounts: it runs neither mlflow-oidc-auth nor MLflow's basic-auth", 404
                )
            asked = "oidc" if user is found else "basic"
            if self._plugin not in ("auto", asked):
                raise MlflowError(f"auth_plugin is {self._plugin}, and {self.where} runs {asked}")
            self._plugin = asked
            self._me = {"name": user["username"], "admin": bool(user.get("is_admin"))}
        return self._me

    @property
    def plugin(self) -> str:
        """C(oidc) or C(basic)."""
        if self._plugin == "auto":
            self.whoami()
        return self._plugin

    def require_admin(self) -> None:
        """See that the account may do what only administrators may.

        Raises:
            MlflowError: it may not.
        """
        me = self.whoami()
        if not me["admin"]:
            raise MlflowError(f"{me['name']} is no administrator of {self.where}, and this needs one", 403)

    def accepts(self, username: str, password: str) -> bool:
        """Say whether MLflow lets an account in by this password or access token."""
        try:
            self.request("GET", WHO_AM_I, authorization=_basic(username, password), what="let an account in")
        except MlflowError as error:
            if error.status in (401, 403):
                return False
            raise
        return True

    @property
    def cluster(self) -> Api:
        """The cluster's API server.

        Raises:
            KubeError: there is no usable kubeconfig.
        """
        if self._kube is None:
            raise KubeError("this call needs a kubeconfig")
        return self._kube()

    @property
    def store(self) -> KubernetesStore:
        """Secrets of the cluster.

        Raises:
            KubeError: there is no usable kubeconfig.
        """
        return KubernetesStore(self.cluster)


def _pause(retry_after: str | None) -> float:
    try:
        return min(max(float(retry_after or PAUSE), 0.1), LONGEST_PAUSE)
    except ValueError:
        return PAUSE


class Changes(Record):
    """The record of changes, whose difference begins with a line for each."""

    def turn(self, thing: str, before: Any, after: Any) -> bool:
        """Note that one value becomes another, and return whether it is to be made; None is what is not there."""
        return self.note(thing, f"{'none' if before is None else before} -> {'none' if after is None else after}")

    @property
    def diff(self) -> list[dict[str, str]]:
        """The difference as Ansible shows it."""
        lines = [{"prepared": "".join(f"{each}\n" for each in self.sentences)}] if self else []
        return lines + super().diff


class Writes:
    """Requests that wait to be sent over several connections at once; those for one thing keep their order.

    Args:
        api: sends them.
    """

    def __init__(self, api: MlflowApi) -> None:
        self._api = api
        self._waiting: dict[str, list[Callable[[MlflowApi], Any]]] = {}

    def add(self, thing: str, write: Callable[[MlflowApi], Any]) -> None:
        """Let a write wait.

        Args:
            thing: what it is for.
            write: sends it by the client that it is called with, in a thread.
        """
        self._waiting.setdefault(thing, []).append(write)

    def send(self) -> None:
        """Send what waits.

        Raises:
            MlflowError: MLflow refuses one of them.
        """
        waiting, self._waiting = list(self._waiting.values()), {}

        def work(api: MlflowApi, writes: list[Callable[[MlflowApi], Any]]) -> None:
            for write in writes:
                write(api)

        in_parallel(self._api, waiting, work, sum(map(len, waiting)))


# --- a module's session -----------------------------------------------------------------------------------------------


def _kube(params: dict[str, Any]) -> Api:
    return connect({name: value for name, value in params.items() if name not in OWN_NAMES})


def _credentials(params: dict[str, Any], kube: Callable[[], Api], check_mode: bool) -> tuple[str, str, list[str]]:
    """Give the header Authorization, how messages call the account, and what is secret."""
    if params.get("token"):
        return f"Bearer {params['token']}", "the token", [params["token"]]
    if params.get("username"):
        return _basic(params["username"], params["password"]), f"the account {params['username']}", [params["password"]]
    secret = params["admin_secret"]
    place = (secret["namespace"], secret["name"])
    values = SecretValues(KubernetesStore(kube()).read, check_mode)
    found = []
    for part in ("username", "password"):
        try:
            value = values.text(*place, secret[f"{part}_key"], f"account's {part}")
        except ApiError:
            raise
        except KubeError as error:
            raise MlflowError(f"admin_secret: {error}") from None
        if value is None:
            raise NotThereYet(f"Secret {'/'.join(place)} has no key {secret[f'{part}_key']}")
        found.append(value)
    return _basic(*found), f"the account {found[0]} of Secret {'/'.join(place)}", [found[1]]


def open_api(params: dict[str, Any], check_mode: bool = False) -> MlflowApi:
    """Give a client for a module's options; no request is sent to MLflow yet.

    Raises:
        MlflowError: an option is wrong, or a credential is not there.
        NotThereYet: in check mode, where a credential is to come.
        KubeError: the cluster is needed and cannot be used.
    """
    opened: list[Api] = []

    def kube() -> Api:
        if not opened:
            opened.append(_kube(params))
        return opened[0]

    service = params.get("service")

    def connection(own: Api | None = None) -> Any:
        if not service:
            return _url_connection(params)[0]
        port, timeout = service["port"], params["timeout"]
        return ServiceConnection(own or kube(), service["namespace"], service["name"], port=port, timeout=timeout)

    if service:
        where = f"MLflow (Service {service['namespace']}/{service['name']})"
        path = ""
    else:
        _connection, path = _url_connection(params)
        where = f"MLflow at {params['url']}"
    authorization, account, secrets = _credentials(params, kube, check_mode)
    api = MlflowApi(
        connection(),
        authorization,
        where=where,
        account=account,
        plugin=params.get("auth_plugin") or "auto",
        path=path,
        kube=kube,
        # A client of the API server is for one thread.
        another=lambda: connection(Api(kube().settings) if service else None),
    )
    api.secrets = secrets
    api.waits = not check_mode  # a dry run does not wait for what would have been started
    return api


def run(
    module: Any,
    work: Callable[[MlflowApi], dict[str, Any]],
    nothing_yet: Callable[[], dict[str, Any]] | None = None,
) -> None:
    """Run a module: open the API, do its work, and end with its result or with one sentence.

    Args:
        work: gives what the module returns; C(requests), how many were sent to MLflow, is added.
        nothing_yet: gives what the module returns in check mode where MLflow does not run yet.
    """
    unmask(module)
    api: MlflowApi | None = None
    try:
        try:
            api = open_api(module.params, module.check_mode)
            result = work(api)
        finally:
            if api is not None:
                api.close()
                unmask(module, *(each for each in api.secrets if each))
    except (NotThereYet, Unreachable) as error:
        waits = isinstance(error, NotThereYet) or error.absent or error.transient
        if module.check_mode and nothing_yet is not None and waits:
            module.exit_json(
                **{"changed": True, "requests": 0, **nothing_yet(), "msg": f"MLflow does not run yet: {error}"}
            )
        module.fail_json(msg=f"MLflow cannot be reached: {error}")
    except MlflowError as error:
        module.fail_json(msg=str(error))
    except KubeError as error:
        module.fail_json(msg=f"The cluster cannot be used: {error}")
    module.exit_json(**{"changed": False, **result, "requests": api.requests if api else 0})
