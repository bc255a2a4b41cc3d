"""What the Jobs of PostgreSQL and MinIO make, against real servers where their programs are installed."""

import contextlib
import glob
import json
import os
import pathlib
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator

import pytest

from tests.lib import rendering

SUPERUSER = "postgres"


class Postgres:
    """A PostgreSQL server of this test's own, on 127.0.0.1.

    Args:
        folder: an empty folder.
    """

    def __init__(self, folder: pathlib.Path, programs: pathlib.Path) -> None:
        # PostgreSQL refuses to run as root.
        account = pwd.getpwnam("postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name)
        self._options = (
            {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if not os.geteuid() else {}
        )
        shutil.chown(folder, account.pw_uid)
        with socket.socket() as plug:
            plug.bind(("127.0.0.1", 0))
            port = plug.getsockname()[1]
        self._environment = {**os.environ, "PGHOST": "127.0.0.1", "PGPORT": str(port), "PGUSER": SUPERUSER}
        self._control = [programs / "pg_ctl", "-D", folder / "data", "-l", folder / "log", "-w"]
        self.folder, self._programs = folder, programs
        self._run(programs / "initdb", "-D", folder / "data", "-A", "trust", "-U", SUPERUSER, "--no-sync")
        self._run(*self._control, "start", "-o", f"-p {port} -k '' -h 127.0.0.1 -c fsync=off")

    def _run(self, *command: object, **environment: str) -> str:
        done = subprocess.run(
            [str(word) for word in command],
            env={**self._environment, **environment},
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            **self._options,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def stop(self) -> None:
        """End the server."""
        self._run(*self._control, "stop", "-m", "immediate")

    def provision(self, script: str, **passwords: str) -> None:
        """Run the script of the Job."""
        file = self.folder / "provision.sql"
        file.write_text(script)
        self._run(self._programs / "psql", "-X", "-q", "-d", "postgres", "-f", file, **passwords)

    def prune(self, databases: str, roles: str, *words: str) -> dict[str, str | None]:
        """Run what playbooks/prune.yml runs in the pod; return what is left, with the reason for what stays."""
        script = rendering.ROLES / "postgres" / "files" / "postgres" / "prune.sh"
        data = self.folder / "volume" / "pgdata"
        said = self._run("sh", script, f"{{{databases}}}", f"{{{roles}}}", *words, PGDATA=str(data))
        return {each["name"]: each["kept"] for each in json.loads(said)} if not words else {}

    def query(self, statement: str, database: str = "postgres", user: str = SUPERUSER) -> list[str]:
        """The rows of an answer."""
        return self._run(
            self._programs / "psql",
            "-X",
            "-q",
            "-At",
            "-v",
            "ON_ERROR_STOP=1",
            "-d",
            database,
            "-c",
            statement,
            PGUSER=user,
        ).splitlines()

    @contextlib.contextmanager
    def session(self, database: str, user: str) -> Iterator[subprocess.Popen]:
        """A session that has begun, as the process that holds it."""
        process = subprocess.Popen(
            [self._programs / "psql", "-X", "-d", database, "-c", "SELECT pg_sleep(60)"],
            env={**self._environment, "PGUSER": user},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **self._options,
        )
        try:
            asked = f"SELECT count(*) FROM pg_stat_activity WHERE usename = '{user}'"
            while self.query(asked) == ["0"]:
                assert process.poll() is None
            yield process
        finally:
            process.kill()
            process.wait()


@pytest.fixture
def postgres():
    """A running PostgreSQL."""
    found = [pathlib.Path(path).parent for path in sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"))]
    if not found:
        pytest.skip("PostgreSQL is not installed below /usr/lib/postgresql")
    folder = pathlib.Path(tempfile.mkdtemp(prefix="mlops-postgres-"))
    server = Postgres(folder, found[-1])
    yield server
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def provision(postgres):
    """A function that makes roles, with the names of their logins; it returns who may log in."""

    def provision(*names, rotating=False, **logins):
        options = {
            "postgres_roles": [{"name": name, "databases": [f"of-{name}"]} for name in names],
            "platform_rotating": rotating,
        }
        (config,) = rendering.Role("postgres").render("postgres-provision.configmap.yaml.j2", options)
        # The setting of an extension that this server has not loaded.
        script = config["data"]["provision.sql"].replace("SET pg_stat_statements.track_utility = off;", "")
        environment = {f"ROLE_PASSWORD_{n}": "a 'password'" for n in range(1, len(names) + 1)}
        environment |= {f"ROLE_LOGIN_{n}": logins.get(name, name) for n, name in enumerate(names, 1)}
        postgres.provision(script, **environment)
        return postgres.query("SELECT rolname FROM pg_roles WHERE rolcanlogin ORDER BY 1")

    return provision


def test_both_names_of_a_role_log_in_until_its_rotation_ends(postgres, provision):
    assert provision("mlflow", "other") == ["mlflow", "other", "postgres"]
    postgres.query("CREATE TABLE first (id int)", "of-mlflow", "mlflow")
    assert provision("mlflow", "other", rotating=True, mlflow="mlflow_2") == ["mlflow", "mlflow_2", "other", "postgres"]
    postgres.query("INSERT INTO first VALUES (1)", "of-mlflow", "mlflow")
    # What the second name makes is the first one's, and the other way round.
    postgres.query("ALTER TABLE first ADD word text; CREATE TABLE second (id int)", "of-mlflow", "mlflow_2")
    postgres.query("ALTER TABLE second ADD word text", "of-mlflow", "mlflow")
    with postgres.session("of-mlflow", "mlflow") as former:
        assert provision("mlflow", "other", mlflow="mlflow_2") == ["mlflow_2", "other", "postgres"]
        assert former.wait(10) != 0, "a session of the former name goes on"
    owners = postgres.query("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'", "of-mlflow")
    assert owners == ["mlflow"]
    # And back, with the former name that may log in until the end.
    assert provision("mlflow", "other", rotating=True) == ["mlflow", "mlflow_2", "other", "postgres"]
    assert provision("mlflow", "other") == ["mlflow", "other", "postgres"]
    postgres.query("SELECT * FROM second", "of-mlflow", "mlflow")
    assert provision("other") == ["other", "postgres"]


def test_a_database_role_that_is_no_longer_declared_may_not_log_in(postgres, provision):

    postgres.query("CREATE ROLE by_hand LOGIN")
    postgres.query("CREATE ROLE noted LOGIN; COMMENT ON ROLE noted IS 'the backup'")
    assert provision("mlflow", "odd-name_1", "noted") == ["by_hand", "mlflow", "noted", "odd-name_1", "postgres"]
    assert provision("mlflow2") == ["by_hand", "mlflow2", "noted", "postgres"]
    assert provision() == ["by_hand", "noted", "postgres"]
    assert provision("mlflow") == ["by_hand", "mlflow", "noted", "postgres"]


def test_databases_and_roles_that_are_no_longer_declared_are_listed_and_deleted(postgres):
    role = rendering.Role("postgres")

    def provision(*roles):
        (config,) = role.render("postgres-provision.configmap.yaml.j2", {"postgres_roles": list(roles)})
        script = config["data"]["provision.sql"].replace("SET pg_stat_statements.track_utility = off;", "")
        known = {f"ROLE_PASSWORD_{n}": "a 'password'" for n in range(1, len(roles) + 1)}
        known |= {f"ROLE_LOGIN_{n}": f"{each['name']}_2" for n, each in enumerate(roles, 1)}
        postgres.provision(script, **known)

    mlflow = {"name": "mlflow", "databases": ["mlflow", "mlflow_auth"]}
    postgres.query("CREATE DATABASE by_hand")
    postgres.query("CREATE ROLE by_hand")
    provision(mlflow, {"name": "odd-name_1", "databases": ["odd.name"]}, {"name": "former", "databases": ["former"]})
    kept = ("mlflow,mlflow_auth", "mlflow,mlflow_2")
    # The Job has not been run without this one.
    assert postgres.prune("mlflow,mlflow_auth,odd.name,former", "mlflow,mlflow_2,odd-name_1,odd-name_1_2,former") == {}
    # Those of an earlier version have no comment.
    postgres.query("COMMENT ON DATABASE former IS NULL")
    provision(mlflow)
    whole = {name: None for name in ("database/former", "database/odd.name", "role/former", "role/odd-name_1")}
    whole |= {"role/former_2": None, "role/odd-name_1_2": None}
    assert postgres.prune(*kept) == whole
    postgres.query("GRANT CONNECT ON DATABASE mlflow TO former")
    assert postgres.prune(*kept) == whole | {"role/former": "it owns objects or has rights in mlflow"}

    others = ("role/former", "database/by_hand", "role/mlflow")
    postgres.prune(*kept, "delete", "database/odd.name", "role/odd-name_1", "role/odd-name_1_2", *others)
    assert postgres.query("SELECT datname FROM pg_database WHERE NOT datistemplate ORDER BY 1") == [
        "by_hand",
        "former",
        "mlflow",
        "mlflow_auth",
        "postgres",
    ]
    assert postgres.query("SELECT rolname FROM pg_roles WHERE rolname !~ '^pg_' ORDER BY 1") == [
        "by_hand",
        "former",
        "former_2",
        "mlflow",
        "mlflow_2",
        "postgres",
    ]
    postgres.query("REVOKE CONNECT ON DATABASE mlflow FROM former")
    postgres.prune(*kept, "delete", "role/former", "database/former", "role/former_2")
    assert postgres.prune(*kept) == {}


def test_what_a_restore_has_left_is_listed_and_deleted(postgres):
    before = postgres.folder / "volume" / "pgdata.before"
    before.mkdir(parents=True)
    (before.parent / "pgdata").mkdir()
    shutil.chown(before.parent, postgres.folder.owner())
    assert postgres.prune("", "") == {"directory/pgdata.before": None}
    postgres.prune("", "", "delete", "directory/pgdata")
    assert before.is_dir()
    postgres.prune("", "", "delete", "directory/pgdata.before")
    assert postgres.prune("", "") == {}
    assert (before.parent / "pgdata").is_dir()


# --- MinIO ---

SCRIPT = rendering.ROLES / "minio" / "files" / "minio" / "provision.sh"
ROOT = {"MINIO_ROOT_USER": "minio-root", "MINIO_ROOT_PASSWORD": "password of the root account"}


def program(name: str, step: str) -> str | None:
    """The path of a program: on the PATH, or as playbooks/images.yml has built it."""
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    built = sorted(cache.glob(f"mlops.mlflow/out/{step}-*/{name}"), key=lambda path: path.stat().st_mtime)
    return shutil.which(name) or (str(built[-1]) if built else None)


class Minio:
    """A MinIO server of this test's own, on 127.0.0.1, and the Job's script."""

    def __init__(self, folder: pathlib.Path, server: str, client: str) -> None:
        self._folder = folder
        with socket.socket() as plug:
            plug.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{plug.getsockname()[1]}"
        (folder / "bin").mkdir()
        (folder / "bin" / "mc").symlink_to(client)
        self.url = f"http://{address}"
        self._environment = {
            "PATH": f"{folder}/bin:{os.environ['PATH']}",
            "HOME": str(folder),
            "MINIO_ENDPOINT": self.url,
            "MC_CONFIG_DIR": str(folder / "mc"),
            "WAIT_SECONDS": "60",
        }
        self._process = subprocess.Popen(
            [server, "server", "--quiet", "--address", address, str(folder / "data")],
            env={**ROOT, "HOME": str(folder), "MINIO_BROWSER": "off", "MINIO_UPDATE": "off"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def stop(self) -> None:
        """End the server."""
        self._process.kill()
        self._process.wait()

    def provision(self, *buckets: tuple[str, str, str], rotating: str = "false") -> str:
        """Run the Job's script for buckets with their keys and passwords; return its output."""
        places = self._folder / "job"
        shutil.rmtree(places, ignore_errors=True)
        options = {"minio_image": "x", "minio_buckets": [{"name": name} for name, _key, _password in buckets]}
        (config,) = rendering.Role("minio").render("minio-provision.configmap.yaml.j2", options)
        files = {f"etc/provision/{name}": text for name, text in config["data"].items()}
        files |= {
            "credentials/root/username": ROOT["MINIO_ROOT_USER"],
            "credentials/root/password": ROOT["MINIO_ROOT_PASSWORD"],
        }
        for number, (_name, key, password) in enumerate(buckets, 1):
            files[f"credentials/{number}/AWS_ACCESS_KEY_ID"] = key
            files[f"credentials/{number}/AWS_SECRET_ACCESS_KEY"] = password
        for name, text in files.items():
            (places / name).parent.mkdir(parents=True, exist_ok=True)
            (places / name).write_text(text)
        script = SCRIPT.read_text().replace("/credentials/", f"{places}/credentials/")
        script = script.replace("/etc/provision/", f"{places}/etc/provision/")
        done = subprocess.run(
            ["sh", "-c", script],
            env=self._environment | {"ROTATING": rotating},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def prune(self, declared: str, *words: str) -> dict[str, str]:
        """Run what playbooks/prune.yml runs in the pod; return what is left, with its size."""
        script = SCRIPT.with_name("prune.sh").read_text()
        done = subprocess.run(
            ["sh", "-c", script, "prune", self.url, declared, *words],
            env=self._environment | ROOT,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return {line.partition(" ")[0]: line.partition(" ")[2] for line in done.stdout.splitlines()}

    def call(self, key: str, password: str, *arguments: str) -> bool:
        """Whether mc succeeds with these arguments and this key, whose name is `own`."""
        environment = self._environment | {"MC_HOST_own": self.url.replace("http://", f"http://{key}:{password}@")}
        done = subprocess.run(["mc", *arguments], env=environment, capture_output=True, timeout=60, check=False)
        return done.returncode == 0


@pytest.fixture
def minio(tmp_path):
    """A running MinIO."""
    server, client = program("minio", "minio-server"), program("mc", "mc")
    if server is None or client is None:
        pytest.skip("minio and mc are neither on the PATH nor built by playbooks/images.yml")
    running = Minio(tmp_path, server, client)
    yield running
    running.stop()


def test_a_key_of_a_bucket_makes_no_further_keys_and_ends_when_it_is_no_longer_declared(minio, tmp_path):
    (tmp_path / "file").write_text("content")
    password = "a-password-of-a-bucket"
    put = ("cp", str(tmp_path / "file"), "own/mlflow/file")

    minio.provision(("mlflow", "mlflow", password), ("other", "other", password))
    assert minio.call("mlflow", password, *put)
    assert not minio.call("mlflow", password, "ls", "own/other")
    assert not minio.call("mlflow", password, "admin", "user", "svcacct", "add", "own", "mlflow")
    assert not minio.call("mlflow", password, "admin", "user", "add", "own", "mlflow", "another-password")
    assert minio.call("mlflow", password, *put)

    assert "no longer declared" not in minio.provision(("mlflow", "mlflow", password), ("other", "other", password))
    output = minio.provision(("mlflow", "mlflow-2", password), ("other", "other", password))
    assert output.count("an access key that is no longer declared is disabled") == 1
    assert not minio.call("mlflow", password, *put)
    assert minio.call("mlflow-2", password, *put)
    assert minio.call("other", password, "ls", "own/other")

    minio.provision(("mlflow", "mlflow", password))
    assert minio.call("mlflow", password, *put)
    assert not minio.call("other", password, "ls", "own/other")
    minio.provision()
    assert not minio.call("mlflow", password, *put)


def test_both_names_of_a_key_are_valid_until_its_rotation_ends(minio):
    former, following = "a-password-of-a-bucket", "another-password-of-it"
    minio.provision(("mlflow", "mlflow", former))
    minio.provision(("mlflow", "mlflow_2", following), rotating="true")
    assert minio.call("mlflow", former, "ls", "own/mlflow")
    assert minio.call("mlflow_2", following, "ls", "own/mlflow")
    minio.provision(("mlflow", "mlflow_2", following))
    assert not minio.call("mlflow", former, "ls", "own/mlflow")
    assert minio.call("mlflow_2", following, "ls", "own/mlflow")
    minio.provision(("mlflow", "mlflow", "a-third-password-of-it"), rotating="true")
    assert not minio.call("mlflow", former, "ls", "own/mlflow")
    assert minio.call("mlflow", "a-third-password-of-it", "ls", "own/mlflow")
    assert minio.call("mlflow_2", following, "ls", "own/mlflow")


def test_buckets_and_keys_that_are_no_longer_declared_are_listed_and_deleted(minio, tmp_path):
    (tmp_path / "file").write_text("content")
    password = "a-password-of-a-bucket"
    root = tuple(ROOT.values())
    minio.provision(("mlflow", "mlflow", password), ("other", "other", password), ("gone", "gone", password))
    for bucket in ("mlflow", "other"):
        assert minio.call(bucket, password, "cp", str(tmp_path / "file"), f"own/{bucket}/file")
    assert minio.call(*root, "mb", "own/by-hand")
    assert minio.call(*root, "rb", "own/gone")
    assert minio.prune(",mlflow,other,gone,") == {}
    minio.provision(("mlflow", "mlflow", password))
    left = minio.prune(",mlflow,")
    assert sorted(left) == ["access-keys/disabled", "bucket/other", "policy/bucket-gone"]
    assert left["access-keys/disabled"] == "2"
    assert left["bucket/other"].split()[0] == "7B"

    minio.prune(",mlflow,", "delete", "bucket/other", "bucket/by-hand", "bucket/mlflow")
    # A policy stays as long as a key has it.
    assert sorted(minio.prune(",mlflow,")) == ["access-keys/disabled", "policy/bucket-gone", "policy/bucket-other"]
    minio.prune(",mlflow,", "delete", "policy/bucket-gone", "access-keys/disabled", "policy/bucket-other")
    assert minio.prune(",mlflow,") == {}
    assert minio.call(*root, "ls", "own/by-hand/")
    assert minio.call("mlflow", password, "cat", "own/mlflow/file")
    assert not minio.call("other", password, "ls", "own/other")
    assert ROOT["MINIO_ROOT_PASSWORD"] not in pathlib.Path("/dev/shm/prune/config.json").read_text()
