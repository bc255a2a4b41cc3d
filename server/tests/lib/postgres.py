"""A PostgreSQL server of the tests' own, on 127.0.0.1, without passwords."""

import glob
import os
import pathlib
import pwd
import shutil
import socket
import subprocess
import time

import psycopg2

BINARIES = "/usr/lib/postgresql/*/bin"  # Debian does not put initdb on the PATH
USER = "postgres"


def binaries() -> pathlib.Path | None:
    """Return the folder with PostgreSQL's initdb and postgres, or None."""
    folders = [pathlib.Path(path).resolve().parent for path in [shutil.which("initdb")] if path]
    folders += [pathlib.Path(path) for path in sorted(glob.glob(BINARIES), key=_version, reverse=True)]
    return next((each for each in folders if (each / "initdb").exists() and (each / "postgres").exists()), None)


def _version(path: str) -> float:
    try:
        return float(pathlib.Path(path).parent.name)
    except ValueError:
        return 0.0


def unprivileged() -> str | None:
    """Return the user by which PostgreSQL runs if this process is root's, which PostgreSQL refuses; None if it is not.

    Raises:
        KeyError: there is no such user.
    """
    if os.geteuid() != 0:
        return None
    for name in (USER, "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise KeyError("PostgreSQL does not run as root, and there is no user postgres or nobody")


def free_port() -> int:
    """Return a port of 127.0.0.1 that is free now."""
    with socket.socket() as plug:
        plug.bind(("127.0.0.1", 0))
        return plug.getsockname()[1]


class Postgres:
    """A running server, whose databases are made from templates.

    Args:
        folder: an empty folder, which the server may own.
    """

    def __init__(self, folder: pathlib.Path):
        found = binaries()
        assert found is not None
        self.port = free_port()
        self._made = 0
        self._log = folder / "log"
        user = unprivileged()
        options = {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []} if user else {}
        if user:
            shutil.chown(folder, user)
        initdb = [found / "initdb", "--pgdata", folder / "data", "--auth", "trust", "--username", USER, "--no-sync"]
        subprocess.run(
            [*initdb, "--encoding", "UTF8", "--locale", "C"], check=True, capture_output=True, cwd=folder, **options
        )
        # What is lost with the machine may be lost here.
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "fsync": "off",
            "full_page_writes": "off",
            "synchronous_commit": "off",
            "max_connections": "200",
        }
        with open(folder / "log", "wb") as log:
            self._process = subprocess.Popen(
                [
                    found / "postgres",
                    "-D",
                    folder / "data",
                    *(f"--{name}={value}" for name, value in settings.items()),
                ],
                stdout=log,
                stderr=log,
                cwd=folder,
                **options,
            )
        end = time.monotonic() + 60
        while True:
            try:
                self.execute("SELECT 1")
                return
            except psycopg2.OperationalError:
                if time.monotonic() > end or self._process.poll() is not None:
                    raise RuntimeError((folder / "log").read_text()) from None
                time.sleep(0.1)

    def log(self) -> str:
        """Return what the server has written."""
        return self._log.read_text(errors="replace")

    def stop(self) -> None:
        """End the server and its connections."""
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def connect(self, database: str = "postgres"):
        """Return a connection of psycopg2, which commits each statement."""
        connection = psycopg2.connect(host="127.0.0.1", port=self.port, user=USER, dbname=database)
        connection.autocommit = True
        return connection

    def execute(self, statement: str, database: str = "postgres") -> list[tuple]:
        """Run a statement; return its rows."""
        connection = self.connect(database)
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def uri(self, database: str) -> str:
        """Return SQLAlchemy's URI of a database."""
        return f"postgresql+psycopg2://{USER}@127.0.0.1:{self.port}/{database}"

    def create(self, template: str = "template0") -> str:
        """Create a database, which nobody else uses; return its name."""
        self._made += 1
        name = f"test_{self._made}"
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return name

    def dump(self, database: str) -> dict[str, list[tuple]]:
        """Return the rows of all tables but those that only record when something ran."""
        tables = self.execute(
            "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables "
            "WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1",
            database,
        )
        names = [name for (name,) in tables if not name.endswith("mlops_migrations")]
        return {name: sorted(self.execute(f"SELECT * FROM {name}", database), key=repr) for name in names}
