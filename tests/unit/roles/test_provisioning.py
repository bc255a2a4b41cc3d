"""What the Jobs of PostgreSQL and MinIO make, against real servers where their programs are installed."""

import glob
import os
import pathlib
import pwd
import shutil
import socket
import subprocess
import tempfile

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
        self._folder, self._programs = folder, programs
        self._run(programs / "initdb", "-D", folder / "data", "-A", "trust", "-U", SUPERUSER, "--no-sync")
        self._run(*self._control, "start", "-o", f"-p {port} -k '' -h 127.0.0.1 -c fsync=off")

    def _run(self, *command: object, **environment: str) -> str:
        done = subprocess.run(
            [str(word) for word in command],
            env={**self._environment, **environment},
            cwd=self._folder,
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
        file = self._folder / "provision.sql"
        file.write_text(script)
        self._run(self._programs / "psql", "-X", "-q", "-d", "postgres", "-f", file, **passwords)

    def query(self, statement: str) -> list[str]:
        """The rows of an answer."""
        return self._run(self._programs / "psql", "-X", "-At", "-d", "postgres", "-c", statement).splitlines()


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


def test_a_database_role_that_is_no_longer_declared_may_not_log_in(postgres):
    role = rendering.Role("postgres")

    def provision(*names):
        options = {"postgres_roles": [{"name": name} for name in names]}
        (config,) = role.render("postgres-provision.configmap.yaml.j2", options)
        # The setting of an extension that this server has not loaded.
        script = config["data"]["provision.sql"].replace("SET pg_stat_statements.track_utility = off;", "")
        postgres.provision(script, **{f"ROLE_PASSWORD_{n}": "a 'password'" for n in range(1, len(names) + 1)})
        query = "SELECT rolname FROM pg_roles WHERE rolcanlogin ORDER BY 1"
        return postgres.query(query)

    postgres.query("CREATE ROLE by_hand LOGIN")
    postgres.query("CREATE ROLE noted LOGIN; COMMENT ON ROLE noted IS 'the backup'")
    assert provision("mlflow", "odd-name_1", "noted") == ["by_hand", "mlflow", "noted", "odd-name_1", "postgres"]
    assert provision("mlflow2") == ["by_hand", "mlflow2", "noted", "postgres"]
    assert provision() == ["by_hand", "noted", "postgres"]
    assert provision("mlflow") == ["by_hand", "mlflow", "noted", "postgres"]
