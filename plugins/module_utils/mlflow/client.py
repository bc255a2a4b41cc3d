# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""MLflow's REST API, as the modules mlflow_* call it: by its URL, or by a port-forward to its Service.

Two plugins let people and programs in, and their APIs differ: C(oidc) is mlflow-oidc-auth, C(basic) is MLflow's own
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
from collections.abc import Callable
from typing import Any, NoReturn, TypeAlias
from urllib.parse import quote, urlencode, urlsplit

from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.client import (
    Api,
    KubeError,
    auth_argument_spec,
    connect,
    secret_option,
    service_option,
    unmask,
)
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.portforward import ServiceConnection, Unreachable
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.secret_store import KubernetesStore

BROKEN = (http.client.HTTPException, OSError)
"""What a connection that broke raises."""

ATTEMPTS = 5
PAUSE = 2.0  # seconds between them, where the server does not say
LONGEST_PAUSE = 5.0
IDLE = 3.0  # seconds after which a kept connection is not trusted with a write

WHO_AM_I = "/api/2.0/mlflow/users/current"
"""Answered by both plugins, and differently: {"username": ...} by mlflow-oidc-auth, {"user": ...} by basic-auth."""

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

    :param status: HTTP status; 0 where there was no answer
    :param code: MLflow's error code, such as C(RESOURCE_DOES_NOT_EXIST); may be empty
    :param reason: MLflow's own words; may be empty
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


class NotThereYet(Exception):
    """In check mode: what an earlier task would have made is not there."""


def explain_answer(body: bytes) -> tuple[str, str]:
    """Give the error code and the words of an answer that is an error: MLflow, FastAPI and basic-auth differ."""
    try:
        answer = json.loads(body)
    except ValueError:
        text = "" if b"<" in body else " ".join(body.decode(errors="replace").split())
        return "", text[:200] or "no reason given"
    if not isinstance(answer, dict):
        return "", str(answer)[:200]
    code = str(answer.get("error_code") or "")
    detail = answer.get("detail", answer.get("message", answer.get("error")))
    if isinstance(detail, list):  # FastAPI's validation: what was sent is in it too, and is left out
        words = [
            f"{'.'.join(map(str, each.get('loc') or []))}: {each.get('msg')}"
            for each in detail
            if isinstance(each, dict)
        ]
        detail = "; ".join(words)
    return code, " ".join(str(detail or code or "no reason given").split())


def segment(name: str) -> str:
    """Quote a name for one part of a path."""
    return quote(name, safe="")


# --- the connection ---------------------------------------------------------------------------------------------------


def _tls_context(validate: bool, ca_path: str) -> ssl.SSLContext:
    path = os.path.expanduser(ca_path) if ca_path else None
    try:
        context = ssl.create_default_context(cafile=path)
    except (OSError, ssl.SSLError) as error:
        why = "it holds no certificate in PEM" if isinstance(error, ssl.SSLError) else error.strerror
        raise MlflowError(f"ca_path is '{ca_path}': it cannot be used ({why})") from None
    # Certificates of companies are often older than RFC 5280's strictest reading, which Python 3.13 turned on.
    context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
    if not validate:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


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


class MlflowApi:
    """Requests to one MLflow over one kept-alive connection.

    :param connection: an C(http.client.HTTPConnection), or what behaves like one; it is reopened after a failure
    :param authorization: the header Authorization; empty sends none
    :param where: how messages call the server
    :param account: how messages call the account
    :param plugin: C(oidc), C(basic), or C(auto) to ask the server when it matters
    :param path: the path that the server's URL begins with
    :param kube: gives a client of the cluster's API server, which is asked for only where a Secret is read or written
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
        sleep: Callable[[float], Any] = time.sleep,
    ) -> None:
        self._connection = connection
        self._authorization = authorization
        self._account = account
        self._plugin = plugin
        self._path = path
        self._sleep = sleep
        self._is_forwarded = isinstance(connection, ServiceConnection)
        self._used = float("-inf")
        self._me: dict[str, Any] | None = None
        self.where = where
        self.requests = 0
        self._kube = kube
        self.secrets: list[str] = []  # what a module's output must not hold
        self.waits = True  # for a pod to be ready

    def close(self) -> None:
        """Drop the connection; the next request opens another."""
        self._connection.close()

    # Requests

    def _send(self, method: str, target: str, body: bytes | None, headers: dict[str, str]) -> tuple[int, Any, bytes]:
        """Send one request and read the whole answer; only a read is repeated, once, on a new connection."""
        if self._connection.sock is not None and method != "GET" and time.monotonic() - self._used > IDLE:
            self._connection.close()
        for attempt in (1, 2):
            try:
                if self._connection.sock is None:
                    self._connection.connect()
                self.requests += 1
                self._connection.request(method, target, body=body, headers=headers)
                response = self._connection.getresponse()
                answer = response.status, response.headers, response.read()
                self._used = time.monotonic()
                return answer
            except Unreachable:
                self._connection.close()
                raise
            except BROKEN as error:
                fresh = attempt == 2 or self._used == float("-inf")
                self._connection.close()
                if method != "GET" or fresh:
                    raise self._unreachable(error) from None
        raise AssertionError  # the loop returns or raises

    def _unreachable(self, error: Exception) -> Unreachable:
        strerror = getattr(error, "strerror", None) or str(error) or type(error).__name__
        for kind, words in (  # the special before the general
            (ConnectionRefusedError, "refused the connection"),
            (TimeoutError, f"did not answer within {getattr(self._connection, 'timeout', 0):g} s"),
            (socket.gaierror, "cannot be found: its name does not resolve"),
            (
                ssl.SSLCertVerificationError,
                f"shows a certificate that is not trusted ({getattr(error, 'verify_message', '')}): "
                "name its authority's certificate in ca_path",
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
        # localhost is a Host that MLflow answers to whatever names it was given.
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
                status, answer_headers, answer = self._send(method, target, data, headers)
            except Unreachable as error:
                # A write that broke may have been done; where no pod was ready nothing was sent.
                repeatable = method == "GET" or self.requests == sent
                if last or not self.waits or not self._is_forwarded or not error.transient or not repeatable:
                    raise
                self._sleep(PAUSE)
                continue
            if status != 503 or last:
                break
            self._sleep(_pause(answer_headers.get("Retry-After")))
        self._check(status, answer_headers, answer, what or f"answer {method} {path}")
        return answer

    def _check(self, status: int, headers: Any, answer: bytes, what: str) -> None:
        """Turn an answer other than success into an error."""
        if 200 <= status < 300:
            return
        if 300 <= status < 400:
            place = (headers.get("Location") or "").partition("?")[0]
            raise MlflowError(f"{self.where} sends the call on to {place}: give MLflow's own address", status)
        code, reason = explain_answer(answer)
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

        :param path: absolute path below the server's URL, quoted where needed (P(segment))
        :param body: what is sent as JSON; None sends nothing
        :param query: parameters of the URL; those that are None are left out, booleans become C(true) and C(false)
        :param what: the deed in words, for the sentence of a refusal: "MLflow refused to <what>"
        :param authorization: another header than the session's; for a look at somebody else's credentials
        :raises MlflowError: the server answers with other than success
        :raises Unreachable: it does not answer
        """
        answer = self._ask(method, path, body, query, what=what, authorization=authorization)
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

        :raises MlflowError: the account is not accepted, or the server has no accounts
        """
        if self._me is None:
            found = self.find(WHO_AM_I, what="say who the account is")
            user = found.get("user", found) if isinstance(found, dict) else {}
            if not isinstance(user, dict) or "username" not in user:
                raise MlflowError(
                    f"{self.where} knows no accounts: it runs neither mlflow-oidc-auth nor MLflow's basic-auth", 404
                )
            asked = "basic" if "user" in found else "oidc"
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

        :raises MlflowError: it may not
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

        :raises KubeError: there is no usable kubeconfig
        """
        if self._kube is None:
            raise KubeError("this call needs a kubeconfig")
        return self._kube()

    @property
    def store(self) -> KubernetesStore:
        """Secrets of the cluster.

        :raises KubeError: there is no usable kubeconfig
        """
        return KubernetesStore(self.cluster)


def _pause(retry_after: str | None) -> float:
    try:
        return min(max(float(retry_after or PAUSE), 0.1), LONGEST_PAUSE)
    except ValueError:
        return PAUSE


class Changes:
    """What a module changes, or in check mode would, in words and for the difference.

    :param check_mode: only finds out what would be done
    """

    def __init__(self, check_mode: bool) -> None:
        self.check_mode = check_mode
        self.sentences: list[str] = []
        self.before: dict[str, Any] = {}
        self.after: dict[str, Any] = {}

    def note(self, thing: str, what: str, before: dict[str, Any] | None = None, after: Any = None) -> bool:
        """Note a change, and return whether it is to be made.

        :param thing: what is changed, such as C(user ada)
        :param before: the fields that differ as they are, and P(after) as they are to be; never a secret
        """
        self.sentences.append(f"{thing}: {what}")
        if before:
            self.before.setdefault(thing, {}).update(before)
        if after:
            self.after.setdefault(thing, {}).update(after)
        return not self.check_mode

    def result(self) -> dict[str, Any]:
        """Give what every module returns."""
        return {
            "changed": bool(self.sentences),
            "changes": self.sentences,
            "diff": {"before": _shown(self.before), "after": _shown(self.after)},
        }


def _shown(things: dict[str, Any]) -> str:
    return json.dumps(things, indent=2, sort_keys=True, default=str) + "\n" if things else ""


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
    where = f"{secret['namespace']}/{secret['name']}"
    stored = KubernetesStore(kube()).read(secret["namespace"], secret["name"])
    values = []
    for part in ("username", "password"):
        key = secret[f"{part}_key"]
        value = stored.data.get(key) if stored else None
        if not value:
            if check_mode:
                raise NotThereYet(f"Secret {where} has no key {key}")
            raise MlflowError(f"admin_secret: Secret {where} has no key {key}, which is to hold the account's {part}")
        try:
            values.append(value.decode())
        except UnicodeDecodeError:
            raise MlflowError(f"admin_secret: Secret {where} has no text in its key {key}") from None
    return _basic(*values), f"the account {values[0]} of Secret {where}", [values[1]]


def open_api(params: dict[str, Any], check_mode: bool = False) -> MlflowApi:
    """Give a client for a module's options; no request is sent to MLflow yet.

    :raises MlflowError: an option is wrong, or a credential is not there
    :raises NotThereYet: in check mode, where a credential is to come
    :raises KubeError: the cluster is needed and cannot be used
    """
    opened: list[Api] = []

    def kube() -> Api:
        if not opened:
            opened.append(_kube(params))
        return opened[0]

    service = params.get("service")
    if service:
        where = f"MLflow (Service {service['namespace']}/{service['name']})"
        connection: Any = ServiceConnection(
            kube(), service["namespace"], service["name"], port=service["port"], timeout=params["timeout"]
        )
        path = ""
    else:
        connection, path = _url_connection(params)
        where = f"MLflow at {params['url']}"
    authorization, account, secrets = _credentials(params, kube, check_mode)
    api = MlflowApi(
        connection,
        authorization,
        where=where,
        account=account,
        plugin=params.get("auth_plugin") or "auto",
        path=path,
        kube=kube,
    )
    api.secrets = secrets
    api.waits = not check_mode  # a dry run does not wait for what would have been started
    return api


def run(
    module: Any,
    work: Callable[[MlflowApi], dict[str, Any]],
    nothing_yet: Callable[[], dict[str, Any]] | None = None,
) -> NoReturn:
    """Run a module: open the API, do its work, and end with its result or with one sentence.

    :param work: gives what the module returns; C(requests), how many were sent to MLflow, is added
    :param nothing_yet: gives what the module returns in check mode where MLflow does not run yet
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
