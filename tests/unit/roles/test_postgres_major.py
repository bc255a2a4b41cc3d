"""PostgreSQL's databases in another major version: whole, whatever interrupts it, and back again if nobody was served.

In plain containers, by images that playbooks/images.yml has built: postgres, and postgres_15 of its images_extra.
"""

import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator

import pytest

from tests.lib import rendering

FILES = rendering.ROLES / "postgres" / "files" / "postgres"
SCRIPT = (FILES / "major.sh").read_text()
ENGINE = shutil.which("podman") or shutil.which("docker")
PREFIX = "mlops-postgres-major"
LEFT = {"pgdata", "pgdata.superuser", "lock"}
# What a stack has, and what users add.
MAKE = r"""
CREATE ROLE mlflow;
CREATE ROLE mlflow_2 LOGIN PASSWORD 'a ''word''';
COMMENT ON ROLE mlflow IS 'mlops.mlflow';
GRANT mlflow TO mlflow_2; ALTER ROLE mlflow_2 SET role = 'mlflow';
CREATE DATABASE mlflow OWNER mlflow;
COMMENT ON DATABASE mlflow IS 'mlops.mlflow';
CREATE DATABASE "odd ""name'" OWNER mlflow;
CREATE DATABASE keycloak;
ALTER DATABASE keycloak SET statement_timeout = '7s';
REVOKE ALL ON DATABASE postgres, template1, mlflow FROM PUBLIC;
ALTER SYSTEM SET work_mem = '5MB';
SELECT pg_reload_conf();
CREATE TABLE by_hand (id int);
\connect template1
CREATE TABLE of_the_template (id int);
\connect mlflow
CREATE EXTENSION pg_trgm;
SET ROLE mlflow;
CREATE TABLE runs (id bigserial PRIMARY KEY, name text NOT NULL) WITH (autovacuum_vacuum_scale_factor = 0.01);
CREATE TABLE metrics (run bigint REFERENCES runs ON DELETE CASCADE, value float8, at timestamptz)
  PARTITION BY RANGE (at);
CREATE TABLE metrics_2026 PARTITION OF metrics FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
INSERT INTO runs (name) SELECT 'rün ' || n FROM generate_series(1, 5000) AS n;
INSERT INTO metrics SELECT id, id / 3.0, '2026-11-30' FROM runs;
ALTER TABLE runs ALTER COLUMN name SET STATISTICS 500;
DELETE FROM runs WHERE id > 4990;
CREATE INDEX names ON runs USING gin (name public.gin_trgm_ops);
CREATE TABLE "Odd ""table" (id int PRIMARY KEY, line text);
INSERT INTO "Odd ""table" VALUES (1, E'tab\tline\n\\.');
SELECT lo_from_bytea(0, 'an object');
CREATE TABLE mlops_windows (versions text PRIMARY KEY, former text NOT NULL, begun timestamptz NOT NULL,
  until timestamptz NOT NULL, settled timestamptz, served timestamptz);
CREATE TABLE mlops_busy_servers (server text PRIMARY KEY, until timestamptz NOT NULL);
"""
# A line each, alike before and after.
SEE = r"""
\connect mlflow
SELECT count(*), min(name), max(id) FROM runs;
SELECT sum(value), count(*) FROM metrics;
SELECT last_value FROM runs_id_seq;
SELECT line FROM "Odd ""table";
SELECT convert_from(lo_get(oid), 'UTF8') FROM pg_largeobject_metadata;
SELECT reloptions FROM pg_class WHERE relname = 'runs';
SELECT attstattarget FROM pg_attribute WHERE attrelid = 'runs'::regclass AND attname = 'name';
SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = 'public'::regnamespace
  AND contype <> 'n' ORDER BY 1;
SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1;
SELECT tablename, tableowner FROM pg_tables WHERE schemaname = 'public' ORDER BY 1;
SELECT datname, pg_get_userbyid(datdba), shobj_description(oid, 'pg_database'), datacl::text !~ '[{,]='
  FROM pg_database ORDER BY 1;
SELECT datname, datcollate, datctype, pg_encoding_to_char(encoding), datistemplate FROM pg_database ORDER BY 1;
SELECT rolname, rolpassword, shobj_description(oid, 'pg_authid') FROM pg_authid WHERE rolname !~ '^pg_' ORDER BY 1;
SELECT roleid::regrole, member::regrole, admin_option FROM pg_auth_members WHERE roleid::regrole::text !~ '^pg_';
SELECT datname, setrole::regrole, setconfig
  FROM pg_db_role_setting LEFT JOIN pg_database ON pg_database.oid = setdatabase ORDER BY 1, 2;
SHOW work_mem;
\connect postgres
SELECT count(*) FROM by_hand;
\connect template1
SELECT count(*) FROM of_the_template;
"""


def images() -> dict[int, str]:
    """The newest images by their major version, but for those that tests derive."""
    listed = subprocess.run(
        [ENGINE, "images", "--format", "{{.Repository}}:{{.Tag}}"], capture_output=True, text=True, check=False
    )
    found: dict[int, str] = {}
    for major, name in ((15, "postgres-15"), (17, "postgres")):
        own = re.findall(rf"^localhost/mlops-mlflow/{name}:{major}-[0-9a-f]{{8}}$", listed.stdout, re.M)
        found |= {major: own[0]} if own else {}
    return found


class Volume:
    """A volume of PostgreSQL, and containers that use it one after the other."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.name = f"{PREFIX}-{os.getpid()}"
        self._images = images()

    def prepare(self) -> None:
        """Make it, with what the stack configures."""
        self.data.mkdir()
        os.chown(self.data, 999, 999)
        role = rendering.Role("postgres")
        options = {"platform_internal_tls": False, "postgres_memory": "512Mi"}
        (config,) = role.render("postgres.configmap.yaml.j2", options)
        (upgrade,) = role.render("postgres-upgrade.configmap.yaml.j2", options)
        for place, data in (("postgresql", config["data"]), ("upgrade", upgrade["data"])):
            (self.folder / place).mkdir()
            for name, text in data.items():
                (self.folder / place / name).write_text(text)
        self.folder.chmod(0o755)

    def copy(self, folder: pathlib.Path) -> "Volume":
        """One with the same content."""
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run(["cp", "-a", self.folder, folder], check=True)
        return Volume(folder)

    def container(
        self, major: int, *words: str, detach: bool = False, script: str = SCRIPT
    ) -> subprocess.CompletedProcess:
        """Run a container to its end, or in the background."""
        (self.folder / "upgrade" / "major.sh").write_text(script)
        mounts = {"data": "/var/lib/postgresql/data", "postgresql": "/etc/postgresql", "upgrade": "/etc/upgrade"}
        return subprocess.run(
            [
                *(ENGINE, "run", "--rm", "--name", self.name, "--network", "none"),
                # Some machines may not raise them.
                *("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096"),
                *(["--detach"] if detach else []),
                *("--env", "SUPERUSER_PASSWORD=word", "--env", "SUPERUSER_FINGERPRINT=1"),
                *[word for name, place in mounts.items() for word in ("--volume", f"{self.folder / name}:{place}")],
                *(self._images[major], *words),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    def step(self, name: str, major: int, script: str = SCRIPT) -> subprocess.CompletedProcess:
        """Run a step of the script; what it leaves running ends with the container."""
        return self.container(major, "sh", "/etc/upgrade/major.sh", name, script=script)

    def upgrade(self, script: str = SCRIPT) -> int:
        """Do what the Job does; return how it ended."""
        dumped = self.step("dump", 15, script)
        if dumped.returncode:
            return dumped.returncode
        loaded = self.step("load", 17, script)
        print(dumped.stdout, loaded.stdout)
        return loaded.returncode

    def left(self) -> set[str]:
        """What is on the volume."""
        return {each.name for each in self.data.iterdir()}

    def start(self, major: int) -> str:
        """Start the server as the StatefulSet does; return why it did not, if so."""
        assert self.container(major, "sh", "/etc/postgresql/start.sh", detach=True).returncode == 0
        for _unused in range(300):
            if self.run("pg_isready --quiet --host=127.0.0.1").returncode == 0:
                return ""
            if subprocess.run([ENGINE, "container", "exists", self.name], check=False).returncode:
                break
            time.sleep(0.2)
        return "it has ended"

    def stop(self) -> None:
        """End what runs."""
        subprocess.run([ENGINE, "stop", "--time", "60", self.name], capture_output=True, check=False)
        subprocess.run([ENGINE, "rm", "--force", self.name], capture_output=True, check=False)

    def run(self, command: str, text: str = "") -> subprocess.CompletedProcess:
        """Run a command beside the server."""
        words = [ENGINE, "exec", "--interactive", self.name, "sh", "-c", command]
        return subprocess.run(words, input=text, capture_output=True, text=True, check=False)

    def ask(self, statements: str) -> str:
        """Run statements as the superuser."""
        done = self.run("psql -XqAt -v ON_ERROR_STOP=1 -U postgres -d postgres -f -", statements)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def hold(self, act: str) -> subprocess.CompletedProcess:
        """Hold calls, or release them."""
        return self.run(f"cat >/tmp/hold.sh; sh /tmp/hold.sh {act} mlflow", (FILES / "hold.sh").read_text())


@pytest.fixture(scope="module")
def former(tmp_path_factory) -> Iterator[tuple[Volume, str]]:
    """A volume of PostgreSQL 15, and what it holds."""
    if not ENGINE or set(images()) != {15, 17}:
        pytest.skip("the images are not built: playbooks/images.yml, with postgres_15 in images_extra")
    if os.geteuid():
        pytest.skip("only root gives files to the user of the image")
    folder = pathlib.Path(tempfile.mkdtemp(prefix="mlops-major-"))
    volume = Volume(folder / "former")
    volume.folder.mkdir()
    volume.prepare()
    try:
        assert volume.start(15) == ""
        volume.ask(MAKE)
        seen = volume.ask(SEE)
        volume.stop()
        yield volume, seen
    finally:
        volume.stop()
        shutil.rmtree(folder)


@pytest.fixture
def volume(former) -> Iterator[Volume]:
    """A volume of PostgreSQL 15 for one test."""
    copied = former[0].copy(former[0].folder.parent / "copy")
    yield copied
    copied.stop()


def serves(volume: Volume, major: int, seen: str) -> None:
    """Check that the server of this version has all that there was, and lets in who was let in."""
    assert volume.start(major) == ""
    assert volume.ask("SHOW server_version_num").startswith(str(major))
    assert volume.ask(SEE) == seen
    password = "PGPASSWORD=\"a 'word'\" psql -XqAt -h 127.0.0.1 -U mlflow_2 -d mlflow -c"
    done = volume.run(f"{password} \"INSERT INTO runs (name) VALUES ('new') RETURNING id\"")
    assert done.stdout == "5001\n", done.stderr
    assert "password authentication failed" in volume.run(password.replace("a 'word'", "another") + " ''").stderr
    # Indexes are whole.
    checked = volume.run("pg_amcheck -U postgres --all --install-missing --heapallindexed")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    volume.stop()


def test_all_of_the_databases_come_along(former, volume):
    assert volume.upgrade() == 0
    assert volume.left() == LEFT | {"pgdata.before", "pgdata.former"}
    # Once more changes nothing.
    assert volume.upgrade() == 0
    assert volume.left() == LEFT | {"pgdata.before", "pgdata.former"}
    serves(volume, 17, former[1])
    assert volume.step("dump", 15).returncode == 0
    assert volume.step("back", 15).returncode == 0
    assert volume.left() == LEFT
    serves(volume, 15, former[1])


# The lines after which a container ends at once.
DUMP = ['mkdir "$dump"', 'count >"$dump/rows"', '    stop "$data"']
LOAD = [
    'cp "$data/postgresql.auto.conf" "$upgraded/"',
    'count >"$dump/rows.loaded"',
    'stop "$upgraded"\n      initdb --sync-only --pgdata="$upgraded"',
    'sync "$former" "$volume"',
    'mv "$data" "$before"',
    'mv "$upgraded" "$data"',
]


@pytest.mark.parametrize("line", DUMP + LOAD)
def test_whatever_interrupts_it_it_can_be_done_and_undone(former, volume, line):
    assert SCRIPT.count(f"{line}\n") == 1
    died = SCRIPT.replace(f"{line}\n", f"{line}\nkill -KILL $$; exit 137\n")
    assert volume.upgrade(died) == 137
    again = volume.copy(volume.folder.with_name("again"))
    assert volume.step("back", 15).returncode == 0
    assert volume.left() == LEFT
    serves(volume, 15, former[1])
    assert again.upgrade() == 0
    assert again.left() == LEFT | {"pgdata.before", "pgdata.former"}
    serves(again, 17, former[1])


def test_nothing_is_renamed_if_a_server_has_run_since(former, volume):
    assert volume.step("dump", 15).returncode == 0
    serves(volume, 15, former[1])
    done = volume.step("load", 17)
    assert done.returncode == 1
    assert "A server has used the databases since they were dumped" in done.stdout
    assert volume.left() == LEFT | {"pgdata.dump"}


def test_nothing_is_renamed_if_something_is_missing(volume):
    assert volume.step("dump", 15).returncode == 0
    rows = volume.data / "pgdata.dump" / "rows"
    assert "mlflow.public.runs|4990\n" in rows.read_text()
    rows.write_text(rows.read_text().replace("mlflow.public.runs|4990", "mlflow.public.runs|4991"))
    done = volume.step("load", 17)
    assert done.returncode == 1
    assert "differ from those that were dumped" in done.stdout
    assert (volume.data / "pgdata" / "PG_VERSION").read_text() == "15\n"


def test_former_databases_are_kept_where_others_were_made_in_their_place(volume):
    line = 'mv "$data" "$before"\n'
    assert volume.upgrade(SCRIPT.replace(line, f"{line}kill -KILL $$; exit 137\n")) == 137
    assert volume.start(15) == ""
    volume.stop()
    for step, major in (("dump", 15), ("back", 15)):
        done = volume.step(step, major)
        assert (done.returncode, "the databases are in pgdata.before" in done.stdout) == (1, True)
    assert (volume.data / "pgdata.before" / "PG_VERSION").read_text() == "15\n"


def test_two_do_not_use_a_volume_at_once(volume):
    assert volume.start(15) == ""
    other = Volume(volume.folder)
    other.name += "-other"
    done = other.step("dump", 15, SCRIPT.replace("--timeout 60", "--timeout 1"))
    assert (done.returncode, "A server of PostgreSQL still uses the volume" in done.stdout) == (1, True)


def test_passwords_are_in_no_log(former, volume):
    hashed = former[1].partition("mlflow_2|SCRAM-SHA-256$")[2].partition("|")[0]
    assert len(hashed) > 20
    for step, major in (("dump", 15), ("load", 17)):
        done = volume.step(step, major)
        assert hashed not in done.stdout
    assert (volume.data / "pgdata.before").stat().st_mode & 0o077 == 0


def test_calls_are_held_when_none_runs_and_released(volume):
    assert volume.start(15) == ""
    row = "\\connect mlflow\nSELECT versions, until = 'infinity', settled IS NOT NULL FROM mlops_windows"
    session = subprocess.Popen(
        [ENGINE, "exec", volume.name, "psql", "-XqU", "postgres", "-d", "mlflow", "-c", "BEGIN; SELECT pg_sleep(10)"],
        stdout=subprocess.DEVNULL,
    )
    begun = time.monotonic()
    assert volume.hold("hold").returncode == 0
    session.wait()
    assert time.monotonic() - begun > 9
    assert volume.ask(row) == "postgres|t|t\n"
    (volume.data / "pgdata.former").write_text("15")
    assert volume.hold("release").stdout == "released\n"
    assert volume.ask(row) == ""
    assert not (volume.data / "pgdata.former").exists()
    volume.ask("\\connect mlflow\nINSERT INTO mlops_busy_servers VALUES ('mlflow-1/7', 'infinity')")
    hold = (FILES / "hold.sh").read_text().replace("+ 120", "+ 1")
    done = volume.run("cat >/tmp/hold.sh; sh /tmp/hold.sh hold mlflow", hold)
    assert (done.returncode, done.stderr.split(" did")[0]) == (1, "calls of mlflow-1/7")
    assert volume.ask(row) == "", "calls are still held"


def test_the_new_databases_are_made_as_others():
    def made(text):
        return text.partition("--username=postgres")[2].partition("--encoding")[2].split("\n")[0].split(" --no-sync")[0]

    start = (FILES / "start.sh").read_text()
    assert made(start)
    assert made(start) == made(SCRIPT)
    for option in ("--auth-local=peer", "--auth-host=scram-sha-256", "--data-checksums"):
        assert option in start
        assert option in SCRIPT
