# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the client of Vault, against a Vault of this machine: TLS, storage on disk, initialised and unsealed."""

from __future__ import annotations

import base64
import builtins
import http.server
import json
import re
import ssl
import sys
import threading
import traceback
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.mlops.mlflow.plugins.module_utils.credentials.supplied import WrongInputError
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.secrets import Conflict
from ansible_collections.mlops.mlflow.plugins.module_utils.vault import client as vaults
from ansible_collections.mlops.mlflow.plugins.module_utils.vault.client import VaultError, VaultKV

from tests.lib import servers

PROGRAM = servers.find_program("vault", "bao")
PLUGIN = servers.find_program(servers.PLUGIN)
HIDDEN = b"hidden-value"  # by name, since a traceback shows lines of this file
PLANTED = "pl4nted 'quo\"tes' {{ jinja }} $HOME \\back\nline ünïcode % & ; # é"

needs_vault = pytest.mark.skipif(
    PROGRAM is None, reason="no program vault or bao here: the scenario `vault` builds one, and runs these tests"
)


@pytest.fixture(autouse=True)
def _no_vault_of_the_machine(monkeypatch):
    for name in ("VAULT_ADDR", "VAULT_TOKEN", "VAULT_NAMESPACE", "VAULT_CACERT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A Vault that is ready for use."""
    process = servers.Process(PROGRAM, tmp_path_factory.mktemp("vault"), PLUGIN)
    process.start()
    try:
        process.initialise()
        process.configure()
        yield process
    finally:
        process.stop()


@pytest.fixture
def options(server):
    """The option vault of a user with a token."""
    return {"url": server.url, "ca_path": server.ca_path, "token": {"value": server.token()}}


@pytest.fixture
def kv(options):
    with VaultKV(options) as opened:
        yield opened


@pytest.fixture
def name(request):
    """The name of an entry, of this test."""
    return request.node.name.replace("_", "-").replace("[", ".").replace("]", "").lower()


def sentence(error: pytest.ExceptionInfo[BaseException]) -> str:
    """Give the message of an error, which must be one sentence, and all that a traceback would show of it no secret."""
    text = str(error.value)
    assert "\n" not in text
    assert not text.endswith(".")
    shown = "".join(traceback.format_exception(error.value))
    assert "hvs." not in shown
    return text


# --- values -----------------------------------------------------------------------------------------------------------


@needs_vault
def test_values_come_back_as_they_were(kv, server, name):
    assert kv.read(name) == ({}, 0)
    assert kv.write(name, {"password": PLANTED.encode(), "empty": b""}, 0) == 1
    assert kv.read(name) == ({"password": PLANTED.encode(), "empty": b""}, 1)
    assert server.entry(name) == ({"password": PLANTED, "empty": ""}, 1)


@needs_vault
def test_other_keys_stay_whatever_they_hold(kv, server, name):
    server.put(name, {"password": "old", "theirs": {"deep": [1, 2.50, None]}, "count": 7})
    values, version = kv.read(name, keys=["password"])
    assert (values, version) == ({"password": b"old", "count": b"7"}, 1)
    assert kv.write(name, {"password": b"new"}, version) == 2
    assert server.entry(name) == ({"password": "new", "theirs": {"deep": [1, 2.5, None]}, "count": 7}, 2)


@needs_vault
def test_a_client_that_has_not_read_keeps_other_keys_too(options, server, name):
    server.put(name, {"theirs": "kept"})
    with VaultKV(options) as kv:
        assert kv.write(name, {"password": b"new"}, 1) == 2
    assert server.entry(name)[0] == {"theirs": "kept", "password": "new"}


@needs_vault
def test_a_version_that_was_not_read_is_read_first(kv, server, name):
    server.put(name, {"password": "old"})
    kv.read(name)
    server.put(name, {"password": "old", "theirs": "kept"})
    assert kv.write(name, {"password": b"new"}, 2) == 3
    assert server.entry(name)[0] == {"password": "new", "theirs": "kept"}


@needs_vault
def test_writes_one_after_another(kv, server, name):
    version = kv.write(name, {"a": b"1"}, 0)
    version = kv.write(name, {"b": b"2"}, version)
    assert server.entry(name) == ({"a": "1", "b": "2"}, version)


@needs_vault
@pytest.mark.parametrize("way", ["known", "unknown"])
def test_another_writers_write_is_not_overwritten(options, server, name, way):
    with VaultKV(options) as kv:
        if way == "known":
            kv.read(name)
        server.put(name, {"password": "theirs"})
        with pytest.raises(Conflict) as error:
            kv.write(name, {"password": b"ours"}, 0)
        assert "theirs" not in "".join(traceback.format_exception(error.value))
        assert server.entry(name) == ({"password": "theirs"}, 1)
        values, version = kv.read(name)
        assert values == {"password": b"theirs"}
        assert kv.write(name, {"password": b"ours"}, version) == 2


@needs_vault
def test_of_two_at_once_one_wins(options, server, name):
    done: list[Any] = []

    def write(value: bytes) -> None:
        with VaultKV(options) as kv:
            kv.read(name)
            ready.wait()
            try:
                done.append(kv.write(name, {"password": value}, 0))
            except Conflict:
                done.append("changed")

    ready = threading.Barrier(4)
    threads = [threading.Thread(target=write, args=(f"value-{number}".encode(),)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, done)) == ["1", "changed", "changed", "changed"]
    assert server.entry(name)[1] == 1


@needs_vault
@pytest.mark.parametrize("way", ["delete", "destroy"])
def test_a_deleted_version_is_nothing_and_can_be_written_over(kv, server, name, way):
    server.put(name, {"password": "old"})
    engine = server.client().secrets.kv.v2
    if way == "delete":
        engine.delete_latest_version_of_secret(f"{servers.PATH}/{name}", mount_point=servers.MOUNT)
    else:
        engine.destroy_secret_versions(f"{servers.PATH}/{name}", [1], mount_point=servers.MOUNT)
    assert kv.read(name) == ({}, 1)
    assert kv.write(name, {"password": b"new"}, 1) == 2
    assert server.entry(name) == ({"password": "new"}, 2)


@needs_vault
def test_a_mount_and_a_path_of_several_parts(options, server):
    server.client().sys.enable_secrets_engine("kv", path="team/ml", options={"version": "2"})
    with VaultKV({**options, "token": {"value": server.keys["root_token"]}, "mount": "/team/ml/", "path": "a/b"}) as kv:
        kv.verify(["login"], write=True)
        assert kv.key("login") == "a/b/login"
        assert kv.place("login") == "team/ml/a/b/login"
        kv.write("login", {"password": b"secret"}, 0)
    with VaultKV({**options, "token": {"value": server.keys["root_token"]}, "mount": "team/ml", "path": "/"}) as kv:
        assert kv.key("login") == "login"
        assert kv.read("login") == ({}, 0)


@needs_vault
def test_a_value_that_is_no_text_is_refused(kv, name):
    with pytest.raises(VaultError) as error:
        kv.write(name, {"key": b"\xff\xfe"}, 0)
    assert sentence(error) == (
        f"key key of secret/mlflow/{name} cannot be kept in Vault, which takes text only: its value is not UTF-8"
    )
    assert kv.read(name) == ({}, 0)


@needs_vault
@pytest.mark.parametrize("value", [{"deep": "hidden-value"}, ["hidden-value"], True, 1.5, None], ids=repr)
def test_a_key_of_ours_that_is_no_string_is_refused(kv, server, name, value):
    server.put("no-string", {"password": value})
    with pytest.raises(VaultError) as error:
        kv.read("no-string", keys=["password"])
    assert sentence(error) == (
        "key password of secret/mlflow/no-string in Vault is no string: "
        "write it as one, 'vault kv patch secret/mlflow/no-string password=...'"
    )
    assert kv.read("no-string", keys=["another"])[0] == {}


@needs_vault
def test_verify_says_nothing_where_all_is_well(kv, name):
    kv.verify()
    kv.verify([name, "another"], write=True)


# --- how to log in ----------------------------------------------------------------------------------------------------


@needs_vault
@pytest.mark.parametrize("where", ["value", "env", "file", "VAULT_TOKEN", "~/.vault-token"])
def test_a_token_from_everywhere(options, server, monkeypatch, tmp_path, where):
    token = server.token()
    given = {"value": {"value": token}, "env": {"env": "MY_TOKEN"}, "file": {"file": str(tmp_path / "token")}}.get(
        where
    )
    monkeypatch.setenv("MY_TOKEN", token)
    (tmp_path / "token").write_text(f"{token}\n")
    if where == "VAULT_TOKEN":
        monkeypatch.setenv("VAULT_TOKEN", token)
        (tmp_path / ".vault-token").write_text("another")
    if where == "~/.vault-token":
        (tmp_path / ".vault-token").write_text(token)
    with VaultKV({**options, "token": given}) as kv:
        assert kv.read("nothing") == ({}, 0)
        assert kv.secrets == [token]
    # A token that was given is not ours to revoke.
    assert server.client(token).auth.token.lookup_self()["data"]["policies"] == ["default", "mlflow"]


@needs_vault
def test_url_and_authority_from_the_environment(options, server, monkeypatch):
    monkeypatch.setenv("VAULT_ADDR", server.url)
    monkeypatch.setenv("VAULT_CACERT", server.ca_path)
    with VaultKV({"token": options["token"], "url": "", "ca_path": None, "secret_id": {}}) as kv:
        assert kv.read("nothing") == ({}, 0)


@needs_vault
def test_certificates_need_not_be_validated(options, capfd):
    with VaultKV({**options, "ca_path": "", "validate_certs": False}) as kv:
        assert kv.read("nothing") == ({}, 0)
    assert capfd.readouterr().err == ""


@needs_vault
def test_an_approle_logs_in_once_and_its_token_is_revoked(options, server):
    role_id, secret_id = server.approle()
    with VaultKV({**options, "auth_method": "approle", "role_id": role_id, "secret_id": {"value": secret_id}}) as kv:
        assert kv.secrets == [secret_id]
        kv.verify(["one"], write=True)
        kv.read("one")
        kv.read("two")
        given, token = kv.secrets
        assert given == secret_id
        assert server.client(token).auth.token.lookup_self()["data"]["path"] == "auth/approle/login"
    with pytest.raises(servers.hvac.exceptions.Forbidden):
        server.client(token).auth.token.lookup_self()


@needs_vault
def test_an_approle_elsewhere_that_needs_no_secret_id(options, server):
    client = server.client()
    client.sys.enable_auth_method("approle", path="team/approle")
    client.auth.approle.create_or_update_approle(
        "open",
        token_policies=["mlflow"],
        bind_secret_id=False,
        token_bound_cidrs=["127.0.0.1/32"],
        mount_point="team/approle",
    )
    role_id = client.auth.approle.read_role_id("open", mount_point="team/approle")["data"]["role_id"]
    given = {"auth_method": "approle", "auth_mount": "team/approle/", "role_id": role_id}
    with VaultKV({**options, **given}) as kv:
        assert kv.read("nothing") == ({}, 0)


class Reviewer(http.server.BaseHTTPRequestHandler):
    """The one call of a cluster that Vault makes: whose token is this?"""

    def do_POST(self):
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        payload = review["spec"]["token"].split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        user = {"username": claims["sub"], "uid": "uid-1", "groups": ["system:serviceaccounts"]}
        body = json.dumps({**review, "status": {"authenticated": True, "user": user}}).encode()
        self.send_response(201)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args):
        """Say nothing."""


def service_account_token(name: str) -> str:
    """Give what looks like a service account's token; the reviewer above takes any signature."""
    claims = {
        "iss": "https://kubernetes.default.svc",
        "sub": f"system:serviceaccount:tools:{name}",
        "iat": 1600000000,
        "nbf": 1600000000,
        "exp": 4102444800,
        "kubernetes.io": {"namespace": "tools", "serviceaccount": {"name": name, "uid": "uid-1"}},
    }
    parts = [json.dumps(each).encode() for each in ({"alg": "RS256", "typ": "JWT"}, claims)] + [b"signature"]
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


@pytest.fixture(scope="module")
def kubernetes(server):
    """The auth method for service accounts."""
    if PLUGIN is None and not server._has_kubernetes():
        pytest.skip(
            "this Vault has no auth method kubernetes, and its plugin is not here: the scenario `vault` builds it"
        )
    reviewer = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Reviewer)
    threading.Thread(target=reviewer.serve_forever, daemon=True).start()
    server.enable_kubernetes(
        getattr(server, "plugin_sha256", ""),
        f"http://127.0.0.1:{reviewer.server_address[1]}",
        ["deployer"],
        ["tools"],
        disable_local_ca_jwt=True,
        token_reviewer_jwt=service_account_token("reviewer"),
    )
    yield server
    reviewer.shutdown()


@needs_vault
@pytest.mark.parametrize("where", ["option", "pod"])
def test_a_service_account_logs_in(options, kubernetes, monkeypatch, tmp_path, where):
    (tmp_path / "token").write_text(service_account_token("deployer"))
    monkeypatch.setattr(vaults, "SERVICE_ACCOUNT", str(tmp_path))
    jwt = {"jwt": {"file": str(tmp_path / "token")}} if where == "option" else {}
    with VaultKV({**options, "auth_method": "kubernetes", "role": "mlflow", **jwt}) as kv:
        assert kv.read("nothing") == ({}, 0)
        assert len(kv.secrets) == 2


@needs_vault
@pytest.mark.parametrize(
    ("role", "account", "why"),
    [("mlflow", "another", "permission denied|not authorized"), ("unknown", "deployer", "invalid role name")],
)
def test_a_service_account_is_refused(options, kubernetes, role, account, why):
    jwt = service_account_token(account)
    given = {"auth_method": "kubernetes", "role": role, "jwt": {"value": jwt}}
    with VaultKV({**options, **given}) as kv, pytest.raises(VaultError) as error:
        kv.read("nothing")
    text = sentence(error)
    pattern = (
        rf"Vault at {kubernetes.url} refuses the Kubernetes login by auth/kubernetes with the role '{role}' "
        rf"\(.*({why}).*\): "
        "check vault_role, and that the role admits the service account of vault_jwt"
    )
    assert re.fullmatch(pattern, text), text
    assert jwt not in text


# --- what is in the way -----------------------------------------------------------------------------------------------


def failing(options: dict[str, Any], **more: Any) -> str:
    """Give the sentence that every use fails with."""
    texts = []
    for use in (lambda kv: kv.read("entry"), lambda kv: kv.write("entry", {"key": HIDDEN}, 0)):
        with VaultKV({**options, **more}, sleep=lambda _seconds: None) as kv:
            with pytest.raises(VaultError) as error:
                use(kv)
            assert "hidden-value" not in "".join(traceback.format_exception(error.value))
            texts.append(sentence(error))
    with VaultKV({**options, **more}, sleep=lambda _seconds: None) as kv:
        with pytest.raises(VaultError) as error:
            kv.verify(["entry"], write=True)
        texts.append(sentence(error))
    assert len(set(texts)) == 1, texts
    return texts[0]


@needs_vault
def test_a_sealed_vault(options, server):
    server.seal()
    try:
        assert failing(options) == (
            f"Vault at {server.url} is sealed: unseal it with 'vault operator unseal', then run again"
        )
    finally:
        server.unseal()
    assert VaultKV(options).read("nothing") == ({}, 0)


@needs_vault
def test_a_vault_that_is_sealed_between_two_reads(options, server):
    with VaultKV(options) as kv:
        kv.read("nothing")
        server.seal()
        try:
            with pytest.raises(VaultError, match="is sealed: unseal it"):
                kv.read("nothing")
        finally:
            server.unseal()


@needs_vault
def test_a_vault_that_is_not_initialised(options, tmp_path):
    process = servers.Process(PROGRAM, tmp_path / "new")
    process.start()
    try:
        assert failing(options, url=process.url, ca_path=process.ca_path) == (
            f"Vault at {process.url} is not initialised: run 'vault operator init' and unseal it"
        )
    finally:
        process.stop()


@needs_vault
@pytest.mark.parametrize("way", ["wrong", "revoked", "expired"])
def test_a_token_that_is_not_valid(options, server, way):
    token = server.token(**({"ttl": "1s"} if way == "expired" else {}))
    if way == "wrong":
        token = "hvs.wrong"
    elif way == "revoked":
        server.client().auth.token.revoke(token)
    else:
        threading.Event().wait(1.5)
    assert failing(options, token={"value": token}) == (
        f"the token of vault_token is not valid at Vault {server.url}: it has expired, "
        "was revoked or is another Vault's, so make a new one with 'vault token create'"
    )


@needs_vault
def test_a_token_of_which_the_uses_are_used_up(options, server):
    role_id, secret_id = server.approle()
    server.client().auth.approle.create_or_update_approle("few", token_policies=["mlflow"], token_num_uses=2)
    role_id, secret_id = server.approle("few")
    given = {"auth_method": "approle", "role_id": role_id, "secret_id": {"value": secret_id}}

    def use_up(kv):
        for _use in range(4):
            kv.read("nothing")

    with VaultKV({**options, **given}) as kv, pytest.raises(VaultError) as error:
        use_up(kv)
    assert sentence(error) == (
        f"the token that auth/approle of Vault at {server.url} gave is no longer valid: "
        "give its role a greater token_ttl and token_num_uses"
    )


@needs_vault
@pytest.mark.parametrize(("wrong", "why"), [("role_id", "invalid role"), ("secret_id", "invalid")])
def test_an_approle_is_refused(options, server, monkeypatch, wrong, why):
    role_id, secret_id = server.approle()
    monkeypatch.setenv("SECRET_ID", "wrong-secret-id" if wrong == "secret_id" else secret_id)
    given = {
        "auth_method": "approle",
        "role_id": "wrong" if wrong == "role_id" else role_id,
        "secret_id": {"env": "SECRET_ID"},
    }
    text = failing(options, **given)
    assert text.startswith(f"Vault at {server.url} refuses the AppRole login by auth/approle ({why}")
    assert text.endswith(
        "): check vault_role_id, and that the secret ID of vault_secret_id (env SECRET_ID) "
        "has neither expired nor been used up"
    )
    assert secret_id not in text
    assert "wrong-secret-id" not in text


@needs_vault
def test_an_auth_method_that_is_not_there(options, server):
    role_id, secret_id = server.approle()
    given = {"auth_method": "approle", "role_id": role_id, "secret_id": {"value": secret_id}, "auth_mount": "nowhere"}
    text = failing(options, **given)
    assert "auth/nowhere" in text or "vault_auth_mount is 'nowhere'" in text
    assert secret_id not in text


@needs_vault
@pytest.mark.parametrize(
    ("capabilities", "wanted"),
    [([], "read"), (["create", "update"], "read"), (["read"], "create")],
    ids=["nothing", "write-only", "read-only"],
)
def test_a_path_that_is_denied(options, server, capabilities, wanted):
    listed = json.dumps(capabilities or ["deny"])
    # Something else of the mount is allowed, or else the mount would not be shown.
    rules = (
        f'path "secret/data/mlflow/*" {{ capabilities = {listed} }} path "secret/data/x" {{ capabilities = ["read"] }}'
    )
    server.client().sys.create_or_update_policy("some", rules)
    token = {"value": server.token("some")}
    expected = (
        f"Vault at {server.url} forbids to {{}}: the token needs a policy with the capability '{wanted}' "
        "on the path secret/data/mlflow/denied"
    )
    with VaultKV({**options, "token": token}) as kv:
        with pytest.raises(VaultError) as error:
            kv.verify(["denied"], write=True)
        assert sentence(error) == expected.format("use secret/mlflow/denied")
        doing = "read" if wanted == "read" else "write"
        with pytest.raises(VaultError) as error:
            getattr(kv, doing)(*(["denied"] if doing == "read" else ["denied", {"key": HIDDEN}, kv.read("denied")[1]]))
        assert sentence(error) == expected.format(f"{doing} secret/mlflow/denied")


@needs_vault
def test_an_update_that_is_denied(options, server, name):
    rules = 'path "secret/data/mlflow/*" { capabilities = ["create", "read"] }'
    server.client().sys.create_or_update_policy("creates", rules)
    with VaultKV({**options, "token": {"value": server.token("creates")}}) as kv:
        version = kv.write(name, {"key": b"1"}, 0)
        with pytest.raises(VaultError, match=f"capability 'update' on the path secret/data/mlflow/{name}"):
            kv.write(name, {"key": b"2"}, version)


@needs_vault
def test_a_token_without_the_default_policy_serves(options, server, name):
    token = {"value": server.token(no_default_policy=True)}
    with VaultKV({**options, "token": token}) as kv:
        kv.verify([name], write=True)
        assert kv.write(name, {"key": b"1"}, 0) == 1
        with pytest.raises(VaultError, match=r"vault_mount is 'old', and Vault at .* shows the token no such mount"):
            VaultKV({**options, "token": token, "mount": "old"}).read(name)


@needs_vault
def test_a_store_of_version_1(options, server):
    server.client().secrets.kv.v1.create_or_update_secret("mlflow/entry", {"key": "theirs"}, mount_point="old")
    assert failing(options, mount="old", token={"value": server.keys["root_token"]}) == (
        "vault_mount is 'old', a key-value store of version 1, and must be of version 2: "
        "name another mount, or upgrade it with 'vault kv enable-versioning old'"
    )
    listed = server.client().list("old/mlflow")["data"]["keys"]
    assert listed == ["entry"], "nothing is written beside it"
    assert server.client().list("old/")["data"]["keys"] == ["mlflow/"]


@needs_vault
def test_a_mount_of_another_kind(options, server):
    server.client().sys.enable_secrets_engine("transit")
    root = {"value": server.keys["root_token"]}
    assert failing(options, mount="transit", token=root) == (
        "vault_mount is 'transit', which is of type transit, and must be a key-value store (kv) of version 2"
    )


@needs_vault
@pytest.mark.parametrize("who", ["root", "policy"])
def test_a_mount_that_is_not_there(options, server, who):
    token = {"value": server.keys["root_token"] if who == "root" else server.token()}
    assert failing(options, mount="missing", token=token) == (
        f"vault_mount is 'missing', and Vault at {server.url} shows the token no such mount: it is not there, "
        "or the token has no policy for missing/data/mlflow"
    )


@needs_vault
def test_a_path_as_a_mount(options, server):
    root = {"value": server.keys["root_token"]}
    assert failing(options, mount="secret/mlflow", path="team", token=root) == (
        "vault_mount is 'secret/mlflow', and the mount is 'secret': set vault_mount to 'secret', "
        "and put 'mlflow' in front of vault_path"
    )


@needs_vault
def test_a_namespace_of_a_vault_that_has_none(options, server):
    version = server.client().sys.read_health_status(method="GET")["version"]
    assert failing(options, namespace="/team/") == (
        f"vault_namespace is 'team', and Vault {version} at {server.url} has no namespaces, "
        "which are of Vault Enterprise and of OpenBao 2.3 and newer: leave it out"
    )


@needs_vault
def test_a_certificate_that_is_not_trusted(options, server, tmp_path):
    expected = f"Vault at {server.url} shows a certificate that is not trusted "
    other = tmp_path / "other.pem"
    other.write_text(servers.CA("another").pem)
    text = failing(options, ca_path=str(other))
    assert text.startswith(f"{expected}by vault_ca_path '{other}' (")
    assert text.endswith("): name its CA in vault_ca_path")
    text = failing(options, ca_path="")
    assert text.startswith(f"{expected}here (")


@needs_vault
def test_a_certificate_of_another_name(options, server, tmp_path):
    certificate, key = server.ca.issue("vault.example.com")
    (tmp_path / "tls.pem").write_text(certificate + key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "tls.pem")
    stub = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    stub.socket = context.wrap_socket(stub.socket, server_side=True)
    threading.Thread(target=stub.serve_forever, daemon=True).start()
    try:
        text = failing(options, url=f"https://127.0.0.1:{stub.server_address[1]}")
    finally:
        stub.shutdown()
    assert "shows a certificate of another name (" in text
    assert text.endswith("use a name of the certificate in vault_url")


@needs_vault
def test_plain_http_where_tls_is(options, server):
    url = server.url.replace("https", "http")
    assert failing(options, url=url) == f"vault_url is {url}, and Vault speaks TLS there: begin it with https://"


def answering(respond: Any) -> http.server.ThreadingHTTPServer:
    """Give a server of another kind."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            respond(self)

        do_POST = do_PUT = do_GET  # noqa: N815  the names that http.server asks for

        def log_message(self, *_args):
            """Say nothing."""

    stub = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=stub.serve_forever, daemon=True).start()
    return stub


@pytest.fixture
def anywhere():
    """The option vault, of nowhere in particular."""
    return {"url": "http://127.0.0.1:9", "token": {"value": "hvs.planted"}}


@pytest.mark.parametrize("code", [200, 404, 405, 500, 502])
def test_something_that_is_no_vault(anywhere, code):
    def respond(handler):
        handler.send_response(code)
        handler.send_header("Content-Type", "text/html")
        handler.end_headers()
        handler.wfile.write(b"<html>Not what you look for</html>")

    stub = answering(respond)
    try:
        url = f"http://127.0.0.1:{stub.server_address[1]}"
        with VaultKV({**anywhere, "url": url}, sleep=lambda _seconds: None) as kv:
            with pytest.raises(VaultError) as error:
                kv.verify()
            assert sentence(error) == f"vault_url is {url}, where no Vault answers: the answer is {code}"
            with pytest.raises(VaultError) as error:
                kv.read("entry")
            assert "<html>" not in sentence(error)
            assert url in sentence(error)
    finally:
        stub.shutdown()


def test_a_token_follows_no_redirect(anywhere):
    asked = []

    def elsewhere(handler):
        asked.append(dict(handler.headers))
        handler.send_response(200)
        handler.end_headers()

    other = answering(elsewhere)

    def respond(handler):
        handler.send_response(307)
        handler.send_header("Location", f"http://localhost:{other.server_address[1]}{handler.path}?token=hvs.x")
        handler.end_headers()

    stub = answering(respond)
    try:
        url = f"http://127.0.0.1:{stub.server_address[1]}"
        assert failing({**anywhere, "url": url}) == (
            f"vault_url is {url}, which sends clients on to http://localhost:{other.server_address[1]}: "
            "a token is sent nowhere but to vault_url, so set it to that address"
        )
    finally:
        stub.shutdown()
        other.shutdown()
    assert asked == []


def test_an_answer_that_repeats_a_secret_is_not_shown(anywhere):
    def respond(handler):
        handler.send_response(400)
        handler.send_header("Content-Type", "application/json")
        handler.end_headers()
        handler.wfile.write(json.dumps({"errors": ["cannot parse hvs.planted and hidden-value"]}).encode())

    stub = answering(respond)
    try:
        with VaultKV({**anywhere, "url": f"http://127.0.0.1:{stub.server_address[1]}"}) as kv:
            with pytest.raises(VaultError) as error:
                kv.read("entry")
            assert "planted" not in sentence(error)
            kv._mount_known = True
            kv._raw["entry"] = (0, {})
            with pytest.raises(VaultError) as error:
                kv.write("entry", {"key": HIDDEN}, 0)
            assert "hidden" not in sentence(error)
    finally:
        stub.shutdown()


@pytest.mark.parametrize("code", [429, 502, 503])
def test_a_busy_vault_is_asked_again(anywhere, code):
    asked, slept = [], []

    def respond(handler):
        asked.append(handler.path)
        busy = "internal/ui/mounts" in handler.path and len(asked) < 3
        status = {"initialized": True, "sealed": False}
        mount = {"data": {"type": "kv", "path": "secret/", "options": {"version": "2"}}}
        if "seal-status" in handler.path:
            answer, number = status, 200
        elif "internal/ui" in handler.path:
            answer, number = ({"errors": ["busy"]}, code) if busy else (mount, 200)
        else:
            answer, number = {"data": {"data": {"key": "v"}, "metadata": {"version": 3}}}, 200
        handler.send_response(number)
        handler.send_header("Content-Type", "application/json")
        handler.end_headers()
        handler.wfile.write(json.dumps(answer).encode())

    stub = answering(respond)
    try:
        with VaultKV({**anywhere, "url": f"http://127.0.0.1:{stub.server_address[1]}"}, sleep=slept.append) as kv:
            assert kv.read("entry") == ({"key": b"v"}, 3)
    finally:
        stub.shutdown()
    assert slept[0] == 1


@pytest.mark.parametrize(
    ("health", "there"),
    [
        ({"version": "1.21.0+ent", "enterprise": True}, True),
        ({"version": "1.16.2+ent"}, True),
        ({"version": "2.3.1"}, True),
        ({"version": "2.2.0"}, False),
        ({"version": "1.15.0"}, False),
        ({"version": "2.4.0", "enterprise": False}, False),
    ],
)
def test_a_namespace_is_of_every_request_but_the_first(anywhere, health, there):
    asked = []

    def respond(handler):
        asked.append((handler.path.partition("?")[0], handler.headers.get("X-Vault-Namespace")))
        answers = {
            "/v1/sys/health": health,
            "/v1/sys/internal/ui/mounts/secret": {"data": {"type": "kv", "options": {"version": "2"}}},
            "/v1/secret/data/mlflow/entry": {"data": {"data": {"key": "v"}, "metadata": {"version": 3}}},
        }
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.end_headers()
        handler.wfile.write(json.dumps(answers[asked[-1][0]]).encode())

    stub = answering(respond)
    try:
        with VaultKV({**anywhere, "url": f"http://127.0.0.1:{stub.server_address[1]}", "namespace": "team/ml"}) as kv:
            if there:
                assert kv.read("entry") == ({"key": b"v"}, 3)
            else:
                with pytest.raises(VaultError, match="has no namespaces"):
                    kv.read("entry")
    finally:
        stub.shutdown()
    assert asked[0] == ("/v1/sys/health", None)
    assert {namespace for _path, namespace in asked[1:]} == ({"team/ml"} if there else set())


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://127.0.0.1:9", "refused the connection: is it running, and is vault_url right?"),
        ("https://vault.invalid:8200", "cannot be found: the name vault.invalid does not resolve"),
    ],
)
def test_an_address_where_nothing_is(anywhere, url, why):
    assert failing(anywhere, url=url) == f"Vault at {url} {why}"


def test_a_vault_that_says_nothing(anywhere):
    stop = threading.Event()
    stub = answering(lambda _handler: stop.wait(10))
    try:
        kv = VaultKV({**anywhere, "url": f"http://127.0.0.1:{stub.server_address[1]}", "timeout": 1})
        with pytest.raises(VaultError, match="did not answer within 1 s: is it reachable from here"):
            kv.verify()
    finally:
        stop.set()
        stub.shutdown()


def test_tls_where_plain_http_is(anywhere):
    stub = answering(lambda _handler: None)
    try:
        text = failing(anywhere, url=f"https://127.0.0.1:{stub.server_address[1]}")
    finally:
        stub.shutdown()
    assert "does not agree on TLS (" in text


def test_hvac_is_missing(anywhere, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **more):
        if name.partition(".")[0] == "hvac":
            raise ImportError(name)
        return real(name, *args, **more)

    for loaded in [each for each in sys.modules if each.partition(".")[0] == "hvac"]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setattr(builtins, "__import__", without)
    assert failing(anywhere) == "the Python library hvac is missing on the host that runs this module: pip install hvac"


# --- options ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"url": ""}, "vault_url is not set, and neither is the environment variable VAULT_ADDR"),
        ({"url": "vault:8200"}, "vault_url is 'vault:8200', and must be like https://vault.example.com:8200"),
        ({"url": "https://v:port"}, "vault_url is 'https://v:port', and must be like https://vault.example.com:8200"),
        ({"url": "https://u:hidden@v"}, "vault_url must hold no user and no password: Vault takes a token"),
        (
            {"path": "a/../b"},
            "vault_path is 'a/../b', and must be names between slashes, of letters, digits and . _ ~ @ : = -",
        ),
        (
            {"mount": "se cret"},
            "vault_mount is 'se cret', and must be names between slashes, of letters, digits and . _ ~ @ : = -",
        ),
        ({"ca_path": "/nowhere/ca.pem"}, "vault_ca_path is '/nowhere/ca.pem': there is no such file"),
        ({"ca_path": "/etc/hostname"}, "vault_ca_path is '/etc/hostname': it holds no certificate in PEM"),
        ({"timeout": -1}, "vault_timeout is -1, and must be a number of seconds above 0"),
        (
            {"token": None},
            "vault_auth_method is token, and there is none: set vault_token or the environment variable VAULT_TOKEN, "
            "or run 'vault login'",
        ),
        ({"token": {"env": "NOT_SET"}}, "vault_token: the environment variable NOT_SET is not set"),
        (
            {"token": {"value": "hidden\nvalue"}},
            "vault_token: this is no token of Vault or Kubernetes, which has printable characters only",
        ),
        (
            {"token": {"value": "x", "env": "y"}},
            "vault_token must be a dictionary with exactly one of env, file and value, not env, value",
        ),
        (
            {"auth_method": "approle"},
            "vault_auth_method is approle, so vault_role_id must be the role_id of that AppRole",
        ),
        (
            {"auth_method": "kubernetes", "role": "mlflow"},
            "vault_auth_method is kubernetes, and this is no pod with a service account: set vault_jwt",
        ),
        (
            {"auth_method": "kubernetes", "jwt": {"value": "a.b.c"}},
            "vault_auth_method is kubernetes, so vault_role must name a role of that auth method",
        ),
        ({"auth_method": "ldap"}, "vault_auth_method is 'ldap', and must be one of token, approle, kubernetes"),
    ],
)
def test_a_wrong_option(anywhere, monkeypatch, given, expected):
    monkeypatch.setattr(vaults, "SERVICE_ACCOUNT", "/nowhere")
    with pytest.raises(WrongInputError) as error:
        VaultKV({**anywhere, **given})
    assert str(error.value) == expected
    assert "hidden" not in "".join(traceback.format_exception(error.value))


def test_nothing_secret_is_shown(anywhere):
    kv = VaultKV({**anywhere, "token": {"value": "hvs.planted"}})
    assert repr(kv) == "VaultKV(http://127.0.0.1:9, secret/mlflow)"


def test_the_option_is_one_that_a_module_takes(capfd):
    from ansible.module_utils.basic import AnsibleModule  # noqa: PLC0415  only this test needs it

    with patch_module_args({"vault": {"url": "https://v", "token": {"env": "T"}}}):
        module = AnsibleModule(argument_spec=vaults.vault_argument_spec())
    assert module.params["vault"]["mount"] == "secret"
    assert module.params["vault"]["validate_certs"] is True
    assert capfd.readouterr().err == ""
