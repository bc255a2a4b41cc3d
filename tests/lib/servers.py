"""A realistic Vault for tests: TLS with its own CA, storage on disk, initialised and unsealed, no dev mode."""

import datetime
import glob
import hashlib
import ipaddress
import pathlib
import shutil
import socket
import subprocess
import time

import hvac
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.lib import CACHE, REPOSITORY

PLUGIN = "vault-plugin-auth-kubernetes"

MOUNT = "secret"
PATH = "mlflow"
OLD_MOUNT = "old"
POLICY = "mlflow"
# The policy of docs/secrets-vault.md.
RULES = f"""
path "{MOUNT}/data/{PATH}/*" {{
  capabilities = ["create", "read", "update"]
}}
"""


def find_program(*names):
    """Return the path of a program, built by the scenario `vault` or installed on the machine, or None."""
    for name in names:
        built = [
            *(REPOSITORY / "build" / cluster / "bin" / name for cluster in ("test", "quickstart")),
            *sorted(map(pathlib.Path, glob.glob(f"{CACHE}/out/*/{name}")), key=lambda path: -path.stat().st_mtime),
        ]
        for path in built:
            if path.exists():
                return str(path.resolve())
        if found := shutil.which(name):
            return found
    return None


def find_go():
    """Return a Go toolchain, the machine's or the one of the image builds, or None."""
    packaged = sorted(glob.glob(f"{CACHE}/**/bin/go", recursive=True))
    return shutil.which("go") or (packaged[-1] if packaged else None)


def plugin_digest():
    """Return the SHA-256 of the plugin for service accounts, which Vault requires; empty if it was not built here."""
    path = find_program(PLUGIN)
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest() if path else ""


class CA:
    """A CA for one run of the tests."""

    def __init__(self, name="CA of the tests"):
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self._certificate = self._sign(self._name, self._key, is_ca=True)

    def _sign(self, subject, key, names=(), is_ca=False):
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=7))
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if is_ca:
            usage = dict.fromkeys(
                (
                    "digital_signature",
                    "content_commitment",
                    "key_encipherment",
                    "data_encipherment",
                    "key_agreement",
                    "encipher_only",
                    "decipher_only",
                ),
                False,
            )
            builder = builder.add_extension(x509.KeyUsage(key_cert_sign=True, crl_sign=True, **usage), critical=True)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(list(names)), critical=False)
        return builder.sign(self._key, hashes.SHA256())

    @property
    def pem(self):
        """The CA's certificate."""
        return self._certificate.public_bytes(serialization.Encoding.PEM).decode()

    def issue(self, *names):
        """Return a server certificate and its key in PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        alternatives = []
        for name in names:
            try:
                alternatives.append(x509.IPAddress(ipaddress.ip_address(name)))
            except ValueError:
                alternatives.append(x509.DNSName(name))
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, names[0])])
        certificate = self._sign(subject, key, names=alternatives)
        return (
            certificate.public_bytes(serialization.Encoding.PEM).decode(),
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ).decode(),
        )


class Server:
    """A Vault at a URL, with an administrator's operations."""

    def __init__(self, url, ca_path, keys=None):
        self.url = url
        self.ca_path = str(ca_path)
        self.keys = keys or {}

    def client(self, token=None):
        """Return a client with the root token, or with a given token."""
        return hvac.Client(
            url=self.url, verify=self.ca_path, token=self.keys.get("root_token", "") if token is None else token
        )

    def wait(self, timeout=60, alive=lambda: True):
        """Wait until it answers with any status."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                return self.client("").sys.read_seal_status()
            except requests.exceptions.RequestException:
                if time.monotonic() > deadline or not alive():
                    raise
                time.sleep(0.1)

    def initialise(self, shares=3, threshold=2):
        """Initialise and unseal it; keep the root token and the unseal keys."""
        self.keys = self.client("").sys.initialize(shares, threshold)
        self.unseal()

    def unseal(self):
        """Unseal it, and wait until it serves."""
        self.wait()
        client = self.client("")
        client.sys.submit_unseal_keys(self.keys["keys"])
        deadline = time.monotonic() + 60
        # With a status other than 200, the answer has no content.
        while not isinstance(client.sys.read_health_status(method="GET"), dict):
            assert time.monotonic() < deadline, "Vault is unsealed, and does not serve within 60 s"
            time.sleep(0.1)

    def seal(self):
        """Seal it."""
        self.client().sys.seal()

    def configure(self):
        """Create the mounts, the policy and the AppRole of docs/secrets-vault.md, and a mount of version 1."""
        client = self.client()
        client.sys.enable_secrets_engine("kv", path=MOUNT, options={"version": "2"})
        client.sys.enable_secrets_engine("kv", path=OLD_MOUNT, options={"version": "1"})
        client.sys.create_or_update_policy(POLICY, RULES)
        client.sys.enable_auth_method("approle")
        client.auth.approle.create_or_update_approle("mlflow", token_policies=[POLICY], token_ttl="20m")
        self.wait_for_mount()

    def wait_for_mount(self):
        """Wait until the mount of version 2 accepts writes: it is converted after its creation."""
        deadline = time.monotonic() + 30
        while True:
            try:
                self.client().secrets.kv.v2.read_configuration(mount_point=MOUNT)
                return
            except hvac.exceptions.VaultError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def approle(self, name="mlflow"):
        """Return the role ID of an AppRole, and a new secret ID."""
        auth = self.client().auth.approle
        return auth.read_role_id(name)["data"]["role_id"], auth.generate_secret_id(name)["data"]["secret_id"]

    def token(self, *policies, **more):
        """Return a new token with these policies."""
        options = {"policies": list(policies or (POLICY,)), "ttl": "20m", "no_parent": True, **more}
        return self.client().auth.token.create(**options)["auth"]["client_token"]

    def enable_kubernetes(self, plugin_sha256, host, bound_names, bound_namespaces, **more):
        """Enable the Kubernetes auth method, with an external plugin if necessary."""
        client = self.client()
        if not self._has_kubernetes():
            client.write_data("sys/plugins/catalog/auth/kubernetes", data={"sha256": plugin_sha256, "command": PLUGIN})
        client.sys.enable_auth_method("kubernetes", path="kubernetes")
        client.auth.kubernetes.configure(kubernetes_host=host, **more)
        client.auth.kubernetes.create_role(
            "mlflow",
            bound_service_account_names=bound_names,
            bound_service_account_namespaces=bound_namespaces,
            policies=[POLICY],
            ttl="20m",
        )

    def _has_kubernetes(self):
        """Return whether the server has the auth method built in; minimal builds do not."""
        listed = self.client().read("sys/plugins/catalog")
        return any(each["name"] == "kubernetes" and each["builtin"] for each in listed["data"]["detailed"])

    def entry(self, name, path=PATH):
        """Return the content and version of an entry."""
        answer = self.client().secrets.kv.v2.read_secret_version(
            f"{path}/{name}".lstrip("/"), mount_point=MOUNT, raise_on_deleted_version=True
        )
        return answer["data"]["data"], answer["data"]["metadata"]["version"]

    def put(self, name, data, path=PATH):
        """Write an entry as an administrator."""
        self.client().secrets.kv.v2.create_or_update_secret(f"{path}/{name}", data, mount_point=MOUNT)


class Process(Server):
    """A Vault process on this machine with a storage directory."""

    def __init__(self, program, directory, plugin=None):
        self.directory = pathlib.Path(directory)
        self.ca = CA()
        with socket.socket() as one, socket.socket() as another:
            one.bind(("127.0.0.1", 0))
            another.bind(("127.0.0.1", 0))
            self.port, self.cluster_port = one.getsockname()[1], another.getsockname()[1]
        super().__init__(f"https://127.0.0.1:{self.port}", self.directory / "ca.pem")
        self._program = program
        self._process = None
        certificate, key = self.ca.issue("127.0.0.1", "localhost")
        plugins = self.directory / "plugins"
        plugins.mkdir(parents=True)
        (self.directory / "data").mkdir()
        if plugin:
            shutil.copy(plugin, plugins / PLUGIN)
            self.plugin_sha256 = hashlib.sha256((plugins / PLUGIN).read_bytes()).hexdigest()
        for name, content in {
            "ca.pem": self.ca.pem,
            "tls.crt": certificate,
            "tls.key": key,
            "vault.hcl": f"""
                storage "raft" {{
                  path    = "{self.directory}/data"
                  node_id = "tests"
                }}
                listener "tcp" {{
                  address         = "127.0.0.1:{self.port}"
                  cluster_address = "127.0.0.1:{self.cluster_port}"
                  tls_cert_file   = "{self.directory}/tls.crt"
                  tls_key_file    = "{self.directory}/tls.key"
                }}
                api_addr         = "{self.url}"
                cluster_addr     = "https://127.0.0.1:{self.cluster_port}"
                plugin_directory = "{plugins}"
                disable_mlock    = true
            """,
        }.items():
            (self.directory / name).write_text(content)

    def start(self):
        """Start it, and wait until it answers."""
        log = open(self.directory / "vault.log", "ab")  # noqa: SIM115  the process's own
        self._process = subprocess.Popen(
            [self._program, "server", f"-config={self.directory}/vault.hcl"], stdout=log, stderr=log
        )
        log.close()
        try:
            self.wait(alive=lambda: self._process.poll() is None)
        except requests.exceptions.RequestException as error:
            self.stop()
            raise AssertionError((self.directory / "vault.log").read_text()[-2000:]) from error

    def stop(self):
        """End it."""
        if self._process:
            self._process.terminate()
            self._process.wait(30)
            self._process = None
