# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A client of the key-value store, version 2, of HashiCorp Vault or OpenBao: one entry for each Secret.

It uses C(hvac), which is imported with the first request. Values, tokens and secret IDs stay in the process: no
message, no C(repr) and no chained exception of this file holds one. Messages call an option of C(vault), such as
C(url), by the variable of the roles that sets it, C(vault_url).
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.mlops.mlflow.plugins.module_utils.credentials.supplied import WrongInputError, read_supplied
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.client import SERVICE_ACCOUNT
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.secrets import Conflict

AUTH_METHODS = ("token", "approle", "kubernetes")
ATTEMPTS = 3  # how often a Vault that is busy, or between two leaders, is asked
DEFAULT_TIMEOUT = 30  # seconds
LONGEST_DETAIL = 300  # characters of the answer of Vault
SHORTEST_HIDDEN = 4  # characters of a value that is looked for in the answer of Vault
PART = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._~@:=-]+")  # of a path; dots alone would lead elsewhere
ROLE_ID = re.compile(r"[!-~]+")
VERSION = "2"
OPENBAO_NAMESPACES = (2, 3)  # the first version of OpenBao that has them


class VaultError(Exception):
    """What went wrong with Vault, in one sentence for a user."""


def vault_argument_spec() -> dict[str, Any]:
    """Give the option C(vault), as a module's argument_spec takes it."""
    return {
        "vault": {
            "type": "dict",
            "options": {
                "url": {"type": "str"},
                "namespace": {"type": "str"},
                "mount": {"type": "str", "default": "secret"},
                "path": {"type": "str", "default": "mlflow"},
                "ca_path": {"type": "str"},
                "validate_certs": {"type": "bool", "default": True},
                "timeout": {"type": "int", "default": DEFAULT_TIMEOUT},
                "auth_method": {"type": "str", "choices": list(AUTH_METHODS), "default": "token"},
                "auth_mount": {"type": "str"},
                "token": {"type": "dict", "no_log": True},
                "role_id": {"type": "str"},
                "secret_id": {"type": "dict", "no_log": True},
                "role": {"type": "str"},
                "jwt": {"type": "dict", "no_log": True},
            },
        }
    }


class VaultKV:
    """Entries of one path of a mount.

    Nothing is asked of Vault before the first read, write or C(verify). Use it as a context manager: a token that a
    login gave is revoked at the end.

    Args:
        vault: The option C(vault).
        sleep: Waits for seconds; for tests.

    Raises:
        WrongInputError: An option is wrong or missing.
    """

    def __init__(self, vault: dict[str, Any] | None, sleep: Callable[[float], Any] = time.sleep) -> None:
        given = {name: value for name, value in (vault or {}).items() if value not in (None, "", {})}
        self._sleep = sleep
        self.url = _url(given.get("url") or os.environ.get("VAULT_ADDR") or "")
        self.namespace = _path("vault_namespace", given.get("namespace") or os.environ.get("VAULT_NAMESPACE") or "")
        self.mount = _path("vault_mount", given.get("mount", "secret")) or "secret"
        self.path = _path("vault_path", given.get("path", "mlflow"))
        self._timeout = given.get("timeout") or DEFAULT_TIMEOUT
        if self._timeout < 0:
            raise WrongInputError(f"vault_timeout is {self._timeout}, and must be a number of seconds above 0")
        self._verify = _verification(
            given.get("validate_certs", True), given.get("ca_path") or os.environ.get("VAULT_CACERT") or ""
        )
        self._method = given.get("auth_method", "token")
        if self._method not in AUTH_METHODS:
            raise WrongInputError(
                f"vault_auth_method is '{self._method}', and must be one of {', '.join(AUTH_METHODS)}"
            )
        self._auth_mount = _path("vault_auth_mount", given.get("auth_mount") or self._method)
        self._credential, self._credential_source = _credential(self._method, given)
        self._role = given.get("role_id" if self._method == "approle" else "role") or ""
        if self._method == "approle" and not ROLE_ID.fullmatch(self._role):
            raise WrongInputError("vault_auth_method is approle, so vault_role_id must be the role_id of that AppRole")
        if self._method == "kubernetes" and not self._role:
            raise WrongInputError("vault_auth_method is kubernetes, so vault_role must name a role of that auth method")
        self._client: Any = None
        self._logged_in = ""  # the token that a login gave
        self._mount_known = False
        self._raw: dict[str, tuple[int, dict[str, Any]]] = {}  # what was read, by name

    def __repr__(self) -> str:
        return f"VaultKV({self.url}, {self.mount}/{self.path})"

    def __enter__(self) -> VaultKV:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    @property
    def secrets(self) -> list[str]:
        """What must be hidden in a module's output: token, secret ID, JWT, and the token of the login."""
        return [each for each in (self._credential, self._logged_in) if each]

    def key(self, name: str) -> str:
        """Give the path of an entry within the mount, which is what an ExternalSecret names."""
        return f"{self.path}/{name}" if self.path else name

    def place(self, name: str) -> str:
        """Give the path of an entry for messages, as C(vault kv get) takes it."""
        return f"{self.mount}/{self.key(name)}"

    # What is asked of an entry

    def read(self, name: str, keys: Iterable[str] = ()) -> tuple[dict[str, bytes], int]:
        """Give an entry's values, and the version that a write must find.

        Where nothing is there, that is no values and version 0; where the latest version was deleted, no values and
        the number of that version. Integers are given as their digits; what is neither a string nor an integer is
        left out.

        Args:
            keys: Names of keys that must be strings or integers if they are there.

        Raises:
            VaultError: In one sentence, why it cannot be read.
        """
        self._open()
        values, version = self._read(name)
        for key in keys:
            if key in values and _text(values[key]) is None:
                raise VaultError(
                    f"key {key} of {self.place(name)} in Vault is no string: "
                    f"write it as one, 'vault kv patch {self.place(name)} {key}=...'"
                )
        found = {key: _text(value) for key, value in values.items()}
        return {key: text.encode() for key, text in found.items() if text is not None}, version

    def write(self, name: str, data: dict[str, bytes], version: int) -> int:
        """Write some keys of an entry, keep all others, and give the new version.

        Args:
            version: What C(read) gave.

        Raises:
            Conflict: Another writer has written since.
            VaultError: In one sentence, why it cannot be written.
        """
        texts: dict[str, str] = {}
        for key, value in data.items():
            try:
                texts[key] = value.decode("utf-8")
            except UnicodeDecodeError:
                raise VaultError(
                    f"key {key} of {self.place(name)} cannot be kept in Vault, which takes text only: "
                    "its value is not UTF-8"
                ) from None
        self._open()
        known = self._raw.get(name)
        if known is None or known[0] != version:
            values, found = self._read(name)
            if found != version:
                raise Conflict
        else:
            values = known[1]
        merged = {**values, **texts}
        del known
        self._raw.pop(name, None)
        answer = self._ask(
            f"write {self.place(name)}",
            lambda client: client.secrets.kv.v2.create_or_update_secret(
                path=self.key(name), secret=merged, cas=version, mount_point=self.mount
            ),
            capability=("update" if version else "create", f"{self.mount}/data/{self.key(name)}"),
            hidden=[text for text in merged.values() if isinstance(text, str)],
        )
        written = int(answer["data"]["version"])
        self._raw[name] = (written, merged)
        return written

    def _read(self, name: str) -> tuple[dict[str, Any], int]:
        answer = self._ask(
            f"read {self.place(name)}",
            lambda client: client.secrets.kv.v2.read_secret_version(
                path=self.key(name), mount_point=self.mount, raise_on_deleted_version=True
            ),
            capability=("read", f"{self.mount}/data/{self.key(name)}"),
            missing=True,
        )
        data = (answer or {}).get("data") or {}
        values, version = data.get("data") or {}, int((data.get("metadata") or {}).get("version") or 0)
        self._raw[name] = (version, values)
        return values, version

    # What is asked of Vault

    def verify(self, names: Iterable[str] = (), write: bool = False) -> None:
        """Verify that Vault serves us: unsealed, the token valid, the mount of version 2, the entries ours to read.

        Args:
            names: Entries that must be ours to read.
            write: Whether they must be ours to write too.

        Raises:
            VaultError: In one sentence, what is in the way.
        """
        self._status()
        self._open()
        paths = {f"{self.mount}/data/{self.key(name)}": name for name in names}
        if not paths:
            return
        try:
            answer = self._ask(
                "ask what the token may do", lambda client: client.sys.get_capabilities(paths=list(paths))
            )
        except _Denied:  # a token without the policy `default`: reads and writes will tell
            return
        for path, name in paths.items():
            allowed = set(answer.get(path) or (answer.get("data") or {}).get(path) or [])
            for wanted in ("read", *(("create", "update") if write else ())):
                if not allowed & {wanted, "root"}:
                    raise VaultError(self._denied(wanted, path, f"use {self.place(name)}"))

    def close(self) -> None:
        """Revoke the token that a login gave, and forget what was read."""
        self._raw.clear()
        if self._client is None:
            return
        if self._logged_in:
            with contextlib.suppress(Exception):  # it expires by itself
                self._client.auth.token.revoke_self()
        self._client.adapter.close()
        self._client, self._logged_in, self._mount_known = None, "", False

    def _connect(self, namespace: str) -> Any:
        try:
            import hvac  # noqa: PLC0415  slow, and needed for this backend only
        except ImportError:
            raise VaultError(
                "the Python library hvac is missing on the host that runs this module: pip install hvac"
            ) from None
        if self._verify is False:
            import urllib3  # noqa: PLC0415  comes with hvac

            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)  # validate_certs is false
        return hvac.Client(
            url=self.url,
            token="",  # not that of the environment: we know better where it comes from
            verify=self._verify,
            timeout=self._timeout,
            namespace=namespace or None,
            # A token follows no redirect: it would go wherever that leads.
            allow_redirects=False,
        )

    def _open(self) -> None:
        """Log in and look at the mount, once."""
        if self._client is None:
            self._client = self._connect(self.namespace)
            try:
                if self.namespace:
                    self._check_namespace()
                self._client.token = self._login()
            except BaseException:
                self._client = None
                raise
        if not self._mount_known:
            self._check_mount()
            self._mount_known = True

    def _login(self) -> str:
        if self._method == "token":
            return self._credential
        if self._method == "approle":
            role_id, secret_id = self._role, self._credential or None

            def call(client: Any) -> Any:
                return client.auth.approle.login(
                    role_id=role_id, secret_id=secret_id, use_token=False, mount_point=self._auth_mount
                )
        else:

            def call(client: Any) -> Any:
                return client.auth.kubernetes.login(
                    role=self._role, jwt=self._credential, use_token=False, mount_point=self._auth_mount
                )

        answer = self._ask("log in", call, login=True)
        token = (answer.get("auth") or {}).get("client_token")
        if not token:
            raise VaultError(
                f"Vault at {self.url} answers the login by auth/{self._auth_mount} without a token: "
                "it must need no second factor"
            )
        self._logged_in = str(token)
        return self._logged_in

    def _check_mount(self) -> None:
        """Verify that the mount is a key-value store of version 2: version 1 takes our writes, and misplaces them."""
        answer = self._ask(
            "look at the mount",
            lambda client: client.adapter.get(f"/v1/sys/internal/ui/mounts/{self.mount}"),
            mount=True,
        )
        data = answer.get("data") or {}
        there = str(data.get("path") or f"{self.mount}/").strip("/")
        if there != self.mount:
            rest = self.mount.removeprefix(f"{there}/")
            raise VaultError(
                f"vault_mount is '{self.mount}', and the mount is '{there}': set vault_mount to '{there}', "
                f"and put '{rest}' in front of vault_path"
            )
        if data.get("type") not in ("kv", "generic"):
            raise VaultError(
                f"vault_mount is '{self.mount}', which is of type {data.get('type')}, "
                "and must be a key-value store (kv) of version 2"
            )
        if str((data.get("options") or {}).get("version") or 1) != VERSION:
            raise VaultError(
                f"vault_mount is '{self.mount}', a key-value store of version 1, and must be of version 2: "
                f"name another mount, or upgrade it with 'vault kv enable-versioning {self.mount}'"
            )

    def _status(self) -> None:
        """Verify that Vault is initialised and unsealed, and has namespaces if one is given.

        Raises:
            VaultError: It is not, or is no Vault.
        """
        answer = self._public("sys/seal-status")
        if "sealed" not in answer:
            raise VaultError(f"vault_url is {self.url}, where no Vault answers: it has no seal status")
        if not answer.get("initialized", True):
            raise VaultError(f"Vault at {self.url} is not initialised: run 'vault operator init' and unseal it")
        if answer["sealed"]:
            raise VaultError(f"Vault at {self.url} is sealed: unseal it with 'vault operator unseal', then run again")

    def _check_namespace(self) -> None:
        """Verify that Vault has namespaces: one that has none does not say so, and takes the root for all."""
        health = self._public("sys/health?standbyok=true&perfstandbyok=true")
        version = str(health.get("version") or "")
        numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
        has = health.get("enterprise", "+ent" in version or numbers >= OPENBAO_NAMESPACES)
        if not has:
            raise VaultError(
                f"vault_namespace is '{self.namespace}', and Vault {version} at {self.url} has no namespaces, "
                "which are of Vault Enterprise and of OpenBao 2.3 and newer: leave it out"
            )

    def _public(self, path: str) -> dict[str, Any]:
        """Ask what needs no token; it is of the whole Vault, not of a namespace."""
        client = self._connect("")
        try:
            answer = client.adapter.get(f"/v1/{path}", raise_exception=False)
        except Exception as error:
            raise self._unreachable(error) from None
        finally:
            client.adapter.close()
        if isinstance(answer, dict):
            return answer
        self._refuse_redirect(answer)
        if "http request to an https server" in str(getattr(answer, "text", "")).lower():
            raise VaultError(self._speaks_tls())
        raise VaultError(f"vault_url is {self.url}, where no Vault answers: {_status_of(answer)}")

    def _speaks_tls(self) -> str:
        return f"vault_url is {self.url}, and Vault speaks TLS there: begin it with https://"

    # How an answer becomes a sentence

    def _ask(
        self,
        doing: str,
        call: Callable[[Any], Any],
        *,
        capability: tuple[str, str] = ("", ""),
        hidden: Iterable[str] = (),
        missing: bool = False,
        login: bool = False,
        mount: bool = False,
    ) -> Any:
        """Send a request, a few times if Vault is busy.

        Args:
            doing: What it is for, for messages.
            capability: What a policy must grant for it, and on which path.
            hidden: Values that stand in the request.
            missing: Whether an answer 404 is none, or what it holds.
            login: Whether it is the login.
            mount: Whether it asks about the mount.
        """
        import hvac.exceptions as refusals  # noqa: PLC0415  see _connect

        refusal = None
        for attempt in range(ATTEMPTS):
            if attempt:
                self._sleep(attempt)
            try:
                answer = call(self._client)
            except (refusals.VaultDown, refusals.VaultNotInitialized) as error:
                self._status()
                refusal = error
            except (refusals.BadGateway, refusals.RateLimitExceeded) as error:
                refusal = error
            except refusals.VaultError as error:
                refusal = error
                break
            except Exception as error:
                raise self._unreachable(error) from None
            else:
                if isinstance(answer, dict):
                    return answer
                self._refuse_redirect(answer)
                raise VaultError(f"vault_url is {self.url}, where no Vault answers: {_status_of(answer)}")
        if missing and isinstance(refusal, refusals.InvalidPath) and _is_vaults(refusal):
            return refusal.json
        # The exceptions of hvac hold what was sent back, so none is chained.
        raise self._refused(refusal, self._detail(refusal, hidden), doing, capability, login=login, mount=mount)

    def _refused(
        self, refusal: Any, detail: str, doing: str, capability: tuple[str, str], *, login: bool, mount: bool
    ) -> Exception:
        """Say why Vault refused a request."""
        import hvac.exceptions as refusals  # noqa: PLC0415  see _connect

        text = detail.lower()
        forbidden = isinstance(refusal, (refusals.Forbidden, refusals.Unauthorized))
        error: Exception = VaultError(f"Vault at {self.url} does not {doing}: {detail or type(refusal).__name__}")
        if "http request to an https server" in text:
            error = VaultError(self._speaks_tls())
        elif isinstance(refusal, refusals.InvalidPath) and not _is_vaults(refusal):
            error = VaultError(f"vault_url is {self.url}, where no Vault answers: {detail or 'not found'}")
        elif self.namespace and "namespace" in text:
            error = VaultError(
                f"vault_namespace is '{self.namespace}', which Vault at {self.url} does not take ({detail}): "
                "name one that is there"
            )
        elif login:
            error = self._login_refused(refusal, detail)
        elif "check-and-set parameter" in text:
            error = Conflict()
        elif forbidden:
            error = self._forbidden(doing, capability, mount)
        elif mount or "no handler for route" in text:
            error = VaultError(self._no_mount())
        return error

    def _detail(self, refusal: Any, hidden: Iterable[str]) -> str:
        """Give the answer of Vault in one line, or nothing where it holds a secret."""
        errors = refusal.errors if isinstance(refusal.errors, list) else []
        text = "; ".join(map(str, errors)) if errors else str(refusal.text or "")
        if "<" in text:  # a page of something in between
            text = ""
        text = " ".join(text.replace("\t", " ").replace("* ", "").split())[:LONGEST_DETAIL].rstrip(". ")
        secret = [*self.secrets, *(each for each in hidden if len(each) >= SHORTEST_HIDDEN)]
        return "" if any(each in text for each in secret) else text

    def _login_refused(self, refusal: Any, detail: str) -> VaultError:
        """Say why a login failed."""
        text = detail.lower()
        at = f"Vault at {self.url}"
        missing = "no handler for route" in text or "unsupported path" in text
        # To who is not logged in, an auth method that is not there is as forbidden as one that is.
        if missing:
            return VaultError(
                f"vault_auth_mount is '{self._auth_mount}', and {at} has no auth method there: "
                f"'vault auth enable -path={self._auth_mount} {self._method}', or name the right one"
            )
        if type(refusal).__name__ in ("InternalServerError", "RateLimitExceeded", "VaultDown", "BadGateway"):
            return VaultError(f"{at} does not answer the login by auth/{self._auth_mount}: {detail or 'an error'}")
        because = f" ({detail})" if detail else ""
        if self._method == "approle":
            source = self._credential_source or "vault_secret_id, which is not set"
            return VaultError(
                f"{at} refuses the AppRole login by auth/{self._auth_mount}{because}: "
                f"check vault_role_id, and that the secret ID of {source} has neither expired nor been used up"
            )
        return VaultError(
            f"{at} refuses the Kubernetes login by auth/{self._auth_mount} with the role '{self._role}'{because}: "
            f"check vault_role, and that the role admits the service account of {self._credential_source}"
        )

    def _forbidden(self, doing: str, capability: tuple[str, str], mount: bool) -> VaultError:
        """Say whether the token is not valid, or not allowed to do this."""
        if not self._token_is_valid():
            if self._method == "token":
                return VaultError(
                    f"the token of {self._credential_source} is not valid at Vault {self.url}: it has expired, "
                    "was revoked or is another Vault's, so make a new one with 'vault token create'"
                )
            return VaultError(
                f"the token that auth/{self._auth_mount} of Vault at {self.url} gave is no longer valid: "
                "give its role a greater token_ttl and token_num_uses"
            )
        if mount:
            return VaultError(self._no_mount())
        if capability[0]:
            return VaultError(self._denied(*capability, doing))
        return _Denied(f"Vault at {self.url} forbids to {doing}")

    def _token_is_valid(self) -> bool:
        """Say whether Vault knows the token; a token that may not look at itself counts as known."""
        import hvac.exceptions as refusals  # noqa: PLC0415  see _connect

        try:
            self._client.auth.token.lookup_self()
        except refusals.VaultError as refusal:
            # A token without the policy `default` may not look at itself, and is forbidden to in other words.
            return not _says_invalid(self._detail(refusal, ()))
        except Exception:
            return True
        return True

    def _no_mount(self) -> str:
        return (
            f"vault_mount is '{self.mount}', and Vault at {self.url} shows the token no such mount: it is not there, "
            f"or the token has no policy for {self.mount}/data/{self.path or '*'}"
        )

    def _denied(self, wanted: str, path: str, doing: str) -> str:
        who = "the token" if self._method == "token" else f"the role of auth/{self._auth_mount}"
        return (
            f"Vault at {self.url} forbids to {doing}: {who} needs a policy with the capability "
            f"'{wanted}' on the path {path}"
        )

    def _refuse_redirect(self, answer: Any) -> None:
        if getattr(answer, "is_redirect", False):
            target = urlsplit(answer.headers.get("Location") or "")
            raise VaultError(
                f"vault_url is {self.url}, which sends clients on to {target.scheme}://{target.netloc}: "
                "a token is sent nowhere but to vault_url, so set it to that address"
            )

    def _unreachable(self, error: Exception) -> VaultError:
        """Say why no answer came."""
        root = _root(error)
        at = f"Vault at {self.url}"
        if isinstance(root, ssl.SSLCertVerificationError):
            why = getattr(root, "verify_message", "") or "certificate verify failed"
            if "ostname" in why or "IP address" in why:
                return VaultError(
                    f"{at} shows a certificate of another name ({why.rstrip('.')}): "
                    "use a name of the certificate in vault_url"
                )
            by = f"by vault_ca_path '{self._verify}'" if isinstance(self._verify, str) else "here"
            return VaultError(
                f"{at} shows a certificate that is not trusted {by} ({why}): name its CA in vault_ca_path"
            )
        if isinstance(root, ssl.SSLError):
            return VaultError(f"{at} does not agree on TLS ({root.reason or 'no reason given'}): is it https:// there?")
        for kind, words in (  # the special before the general
            (ConnectionRefusedError, "refused the connection: is it running, and is vault_url right?"),
            (socket.gaierror, f"cannot be found: the name {urlsplit(self.url).hostname} does not resolve"),
            (TimeoutError, f"did not answer within {self._timeout} s: is it reachable from here?"),
            (OSError, f"cannot be reached: {getattr(root, 'strerror', None) or type(root).__name__}"),
        ):
            if isinstance(root, kind):
                return VaultError(f"{at} {words}")
        return VaultError(f"{at} cannot be reached: {type(root).__name__}")


class _Denied(VaultError):
    """A question was forbidden that is not needed."""


# --- options ----------------------------------------------------------------------------------------------------------


def _url(text: str) -> str:
    if not text:
        raise WrongInputError("vault_url is not set, and neither is the environment variable VAULT_ADDR")
    try:
        parts = urlsplit(text)
        host, _port = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    if parts.username is not None or parts.password is not None:
        raise WrongInputError("vault_url must hold no user and no password: Vault takes a token")
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment:
        raise WrongInputError(f"vault_url is '{text}', and must be like https://vault.example.com:8200")
    return text.rstrip("/")


def _path(variable: str, text: Any) -> str:
    """Give a path without slashes at its ends; hvac and Vault would take some characters for something else."""
    path = str(text).strip("/")
    if path and not all(PART.fullmatch(part) for part in path.split("/")):
        raise WrongInputError(
            f"{variable} is '{text}', and must be names between slashes, of letters, digits and . _ ~ @ : = -"
        )
    return path


def _verification(validate: bool, ca_path: str) -> bool | str:
    """Give what C(requests) takes as C(verify)."""
    if not validate:
        return False
    if not ca_path:
        return True
    path = os.path.expanduser(ca_path)
    if not os.path.exists(path):
        raise WrongInputError(f"vault_ca_path is '{ca_path}': there is no such file")
    if not os.path.isdir(path):
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
        except (OSError, ssl.SSLError) as error:
            why = "it holds no certificate in PEM" if isinstance(error, ssl.SSLError) else error.strerror
            raise WrongInputError(f"vault_ca_path is '{ca_path}': {why}") from None
    return path


def _credential(method: str, given: dict[str, Any]) -> tuple[str, str]:
    """Give the secret that an auth method logs in with, and where it is from; empty for an AppRole without one."""
    option = {"token": "token", "approle": "secret_id", "kubernetes": "jwt"}[method]
    if option in given:
        text, source = _plain(f"vault_{option}", read_supplied(f"vault_{option}", given[option])), f"vault_{option}"
        kind, where = next(iter(given[option].items()))
        return text, source if kind == "value" else f"{source} ({kind} {where})"
    if method == "approle":
        return "", ""
    if method == "kubernetes":
        path = f"{SERVICE_ACCOUNT}/token"
        if not os.path.exists(path):
            raise WrongInputError(
                "vault_auth_method is kubernetes, and this is no pod with a service account: set vault_jwt"
            )
        return _plain(path, read_supplied("vault_jwt", {"file": path})), path
    if os.environ.get("VAULT_TOKEN"):
        return _plain("VAULT_TOKEN", os.environb[b"VAULT_TOKEN"]), "the environment variable VAULT_TOKEN"
    path = os.path.expanduser("~/.vault-token")
    if not os.path.exists(path):
        raise WrongInputError(
            "vault_auth_method is token, and there is none: set vault_token or the environment variable VAULT_TOKEN, "
            "or run 'vault login'"
        )
    return _plain("~/.vault-token", read_supplied("~/.vault-token", {"file": path})), "~/.vault-token"


def _plain(where: str, value: bytes) -> str:
    """Give a token as text; HTTP takes no other characters in a header."""
    text = value.decode("ascii", "replace").strip()
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise WrongInputError(f"{where}: this is no token of Vault or Kubernetes, which has printable characters only")
    return text


# --- answers ----------------------------------------------------------------------------------------------------------


def _text(value: Any) -> str | None:
    """Give a value of an entry as text, None where it is neither a string nor an integer."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return None
        return value
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _is_vaults(refusal: Any) -> bool:
    """Say whether an answer 404 is Vault's own, and not that of something in its place."""
    return isinstance(refusal.json, dict) and ("errors" in refusal.json or "data" in refusal.json)


def _says_invalid(detail: str) -> bool:
    return any(words in detail.lower() for words in ("invalid token", "bad token", "missing client token"))


def _status_of(answer: Any) -> str:
    return f"the answer is {getattr(answer, 'status_code', 'of another form')}"


def _root(error: BaseException) -> BaseException:
    """Give the innermost cause of what C(requests) and C(urllib3) wrap several times."""
    seen: set[int] = set()
    while id(error) not in seen:
        seen.add(id(error))
        inner = [getattr(error, "reason", None), *error.args, error.__cause__, error.__context__]
        for each in inner:
            if isinstance(each, BaseException) and id(each) not in seen:
                error = each
                break
    return error
