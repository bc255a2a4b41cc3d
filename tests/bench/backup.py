"""A backup, compared with the plain tools, and the requests that a stack serves meanwhile."""

import contextlib
import copy
import datetime
import hashlib
import json
import statistics
import subprocess
import sys
import time
import urllib.parse

from tests.bench import server
from tests.bench.report import Figure, Part
from tests.lib import stack as stacks

NAMESPACE = stacks.NAMESPACES["backup"]
POSTGRES = stacks.NAMESPACES["postgres"]
NAME = "bench-backup"  # a name with "backup-" at its beginning would be a backup that playbooks wait for
TIME_AIM = 1.2
LOAD_AIM = 0.9
HOURS = 6
# Rows of a run, besides its own.
PARAMETERS, TAGS, METRICS, STEPS = 5, 3, 3, 5
TABLES = ("metrics", "latest_metrics", "params", "tags", "runs")

FILL = f"""
    BEGIN;
    CREATE TEMPORARY TABLE made ON COMMIT DROP AS
      SELECT md5('%(experiment)s-' || n) AS id, n FROM generate_series(1, %(runs)s) AS n;
    INSERT INTO runs (run_uuid, name, source_type, source_name, entry_point_name, user_id, status, start_time, end_time,
                      source_version, lifecycle_stage, artifact_uri, experiment_id)
      SELECT id, 'bench-' || n, 'UNKNOWN', '', '', 'bench', 'FINISHED', 1700000000000 + n, 1700000060000 + n,
             '', 'active', 'mlflow-artifacts:/%(experiment)s/' || id || '/artifacts', %(experiment)s FROM made;
    INSERT INTO params (key, value, run_uuid)
      SELECT 'param_' || p, md5(id || p), id FROM made, generate_series(1, {PARAMETERS}) AS p;
    INSERT INTO tags (key, value, run_uuid)
      SELECT 'tag_' || t, md5(id || 'tag' || t), id FROM made, generate_series(1, {TAGS}) AS t;
    INSERT INTO metrics (key, value, timestamp, run_uuid, step, is_nan)
      SELECT 'metric_' || m, random(), 1700000000000 + n + s, id, s, false
      FROM made, generate_series(1, {METRICS}) AS m, generate_series(1, {STEPS}) AS s;
    INSERT INTO latest_metrics (key, value, timestamp, step, is_nan, run_uuid)
      SELECT 'metric_' || m, random(), 1700000000000 + n + {STEPS}, {STEPS}, false, id
      FROM made, generate_series(1, {METRICS}) AS m;
    COMMIT;
"""

# The last line is how many milliseconds it took.
TIMED = "begun=$(date +%s%N); {} >&2; echo $(( ($(date +%s%N) - begun) / 1000000 ))"
VOLUME = "/var/lib/postgresql/data"
TRASH = "/data/.minio.sys/tmp/.trash"
MC = """
    set -e
    cat /etc/backup-tls/ca.crt $([ ! -e /etc/backup-ca/ca.crt ] || echo /etc/backup-ca/ca.crt) >/tmp/ca.crt
    export SSL_CERT_FILE=/tmp/ca.crt MC_CONFIG_DIR=/tmp/mc
    export MC_HOST_source=https://$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY@{source}
    export MC_HOST_destination=https://$MLOPS_BACKUP_ACCESS_KEY_ID:$MLOPS_BACKUP_SECRET_ACCESS_KEY@{destination}
    {words}
"""


# As in drill-restore.sh, without its checks.
RESTORE = ". /work/target.sh; ARCHIVE=off PGBACKREST_CONFIG=/etc/backup/drill.conf exec sh /etc/backup/restore.sh"


def seconds_of(begun, ended):
    """Return the seconds between two times as the API server writes them."""
    first, last = (datetime.datetime.fromisoformat(each) for each in (begun, ended))
    return (last - first).total_seconds()


class Bench:
    """A stack with backups, and what the benchmark makes in it.

    Args:
        stack: the stack.
        runs: the number of runs.
        mebibytes: the size of their artifacts.
    """

    def __init__(self, stack, runs, mebibytes):
        self.stack, self.runs, self.mebibytes = stack, runs, mebibytes
        self.cron_job = self._get(NAMESPACE, "cronjob", "backup")
        self.config_map = self._get(NAMESPACE, "configmap", "backup")
        self.config = json.loads(self.config_map["data"]["backup.json"])
        self.experiment = ""

    def _get(self, namespace, kind, name):
        found = self.stack.kubectl("-n", namespace, "get", kind, name, "-o", "json", check=False)
        if not found:
            raise server.ServerError(f"there is no {kind} {name} in {namespace}: a stack with backups is needed")
        return json.loads(found)

    # --- what is backed up

    def fill(self):
        """Write the runs and their artifacts; return the numbers of objects and bytes."""
        self.stack.sql("mlflow", FILL % {"experiment": int(self.experiment), "runs": self.runs})
        self.stack.sql("mlflow", "VACUUM ANALYZE")
        runs = [hashlib.md5(f"{self.experiment}-{n}".encode()).hexdigest() for n in range(1, self.runs + 1)]  # noqa: S324
        return self.artifacts(self.mebibytes, runs[: self.mebibytes // 16])

    def artifacts(self, mebibytes, runs=()):
        """Write artifacts, or remove them all; return the numbers of objects and bytes."""
        text = (server.SCRIPTS / "fill_bucket.py").read_text()
        asked = {"experiment": self.experiment, "runs": runs, "mebibytes": mebibytes}
        said = self.execute("python", "python", "-c", text, text=json.dumps(asked))
        found = json.loads(said.splitlines()[-1])
        if not mebibytes:
            self.emptied("source")
        return found["objects"], found["bytes"]

    def emptied(self, which):
        """Remove what the source's or the destination's MinIO keeps for some minutes of what was removed."""
        namespace = urllib.parse.urlsplit(self.config[which]["endpoint"]).hostname.split(".")[1]
        words = ("-n", namespace, "exec", "minio-0", "--", "sh", "-c", f"rm -rf {TRASH} && mkdir {TRASH}")
        self.stack.kubectl(*words, check=False)

    def forget(self):
        """Remove the runs and their artifacts."""
        if self.experiment:
            self.artifacts(0)
            number = int(self.experiment)
            of_runs = f"run_uuid IN (SELECT run_uuid FROM runs WHERE experiment_id = {number})"
            statements = [f"DELETE FROM {table} WHERE {of_runs};" for table in TABLES]
            statements += [
                f"DELETE FROM {table} WHERE experiment_id = {number};" for table in ("experiment_tags", "experiments")
            ]
            self.stack.sql("mlflow", "\n".join(statements))
            self.stack.sql("mlflow_auth", f"DELETE FROM experiment_permissions WHERE experiment_id = '{number}'")

    # --- pods

    def pod(self):
        """Return a pod with the mounts, the credentials and the flows of a backup, and a container for each tool."""
        template = copy.deepcopy(self.cron_job["spec"]["jobTemplate"]["spec"]["template"])
        spec = template["spec"]
        (step,) = [each for each in spec["initContainers"] if each["name"] == "objects"]
        minio = self._get(stacks.NAMESPACES["minio"], "statefulset", "minio")["spec"]["template"]["spec"]
        containers = []
        for name, image in (("python", step["image"]), ("mc", minio["containers"][0]["image"])):
            resources = {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "1Gi"}}
            command = ["sleep", str(HOURS * 3600)]
            containers.append(step | {"name": name, "image": image, "command": command, "resources": resources})
        del spec["initContainers"]
        spec |= {"containers": containers, "activeDeadlineSeconds": HOURS * 3600, "terminationGracePeriodSeconds": 1}
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": template["metadata"]["labels"]},
            "spec": spec,
        }

    def execute(self, container, *command, text=None):
        """Run a command in the pod; return what it prints."""
        words = ["kubectl", "--kubeconfig", self.stack.kubeconfig, "-n", NAMESPACE, "exec", "-i", NAME, "-c", container]
        done = subprocess.run([*words, "--", *command], input=text, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise server.ServerError(f"{container} failed: {done.stderr[-1500:]}")
        return done.stdout

    def mc(self, words):
        """Run a command of MinIO's client; return its seconds."""
        hosts = {
            name: urllib.parse.urlsplit(self.config[name]["endpoint"]).netloc for name in ("source", "destination")
        }
        return int(self.execute("mc", "sh", text=MC.format(words=TIMED.format(words), **hosts)).split()[-1]) / 1000

    def clear(self, place):
        """Remove all objects below a place, as MinIO's client writes it, with their versions."""
        with contextlib.suppress(server.ServerError):
            self.mc(f"mc rm --quiet --recursive --force --versions {place}/")
            self.emptied("destination")

    def postgres(self, script):
        """Run a script in PostgreSQL's pod; return its seconds."""
        path = 'for each in /usr/lib/postgresql/*/bin; do PATH="$each:$PATH"; done'
        text = f"set -e; {path}; work() {{ {script}\n}}; " + TIMED.format("work")
        return int(self.stack.execute("postgres", "sh", text=text).split()[-1]) / 1000

    @contextlib.contextmanager
    def running(self):
        """Run the pod, and remove what the benchmark made at the end."""
        self.remove()
        self.stack.kubectl("apply", "-f", "-", text=json.dumps(self.pod()))
        try:
            self.stack.kubectl("-n", NAMESPACE, "wait", "--for=condition=Ready", "--timeout=180s", f"pod/{NAME}")
            yield
        finally:
            with contextlib.suppress(RuntimeError, server.ServerError):
                self.postgres(f"rm -rf {VOLUME}/bench")
            try:
                self.forget()
            finally:
                self.remove()

    def remove(self):
        """Remove the objects in the cluster that the benchmark made."""
        for kind in ("pod", "job", "configmap"):
            self.stack.kubectl("-n", NAMESPACE, "delete", f"{kind}/{NAME}", "--ignore-not-found", "--timeout=120s")

    def _hba(self):
        return self.stack.execute("postgres", "cat", "/etc/postgresql/pg_hba.conf", text="")

    @contextlib.contextmanager
    def replication(self):
        """Let pg_basebackup connect by PostgreSQL's local socket, for as long as it takes."""
        name = "configmap/postgres-config"
        before = self._get(POSTGRES, "configmap", "postgres-config")["data"]["pg_hba.conf"]

        def write(text):
            self.stack.kubectl(
                "-n", POSTGRES, "patch", name, "--type=merge", "-p", json.dumps({"data": {"pg_hba.conf": text}})
            )
            # A changed pod has the kubelet look at its volumes at once.
            self.stack.kubectl("-n", POSTGRES, "annotate", "pod/postgres-0", "--overwrite", f"bench={time.time_ns()}")
            stacks.wait_until(lambda: self._hba().strip() == text.strip(), 180, "the change of pg_hba.conf in the pod")
            self.stack.sql("postgres", "SELECT pg_reload_conf()")

        write(f"local replication postgres peer\n{before}")
        try:
            yield
        finally:
            write(before)

    # --- backups

    def job(self, *, prefix=""):
        """Begin a Job of the CronJob, with a full backup of the databases.

        Args:
            prefix: another path for the copy of the objects at the destination, so that all are copied.
        """
        made = copy.deepcopy(self.cron_job["spec"]["jobTemplate"])
        spec = made["spec"]["template"]["spec"]
        for container in spec["initContainers"]:
            container["env"] = [each for each in container["env"] if each["name"] != "FULL_DAYS"]
            container["env"] += [{"name": "FULL_DAYS", "value": "0"}]
        if prefix:
            config = copy.deepcopy(self.config)
            config["destination"]["prefix"] = prefix
            data = self.config_map["data"] | {"backup.json": json.dumps(config)}
            other = {"apiVersion": "v1", "kind": "ConfigMap", "data": data}
            other["metadata"] = {"name": NAME, "namespace": NAMESPACE}
            self.stack.kubectl("apply", "-f", "-", text=json.dumps(other))
            (volume,) = [each for each in spec["volumes"] if each["name"] == "backup"]
            volume["configMap"] = {"name": NAME}
        self._begin(made)

    def restore_databases(self):
        """Restore the newest backup's databases to a volume of a pod, by the code of a restore; return the seconds."""
        drill = self._get(NAMESPACE, "cronjob", "restore-drill")["spec"]["jobTemplate"]
        spec = drill["spec"]["template"]["spec"]
        steps = {each["name"]: each for each in spec["initContainers"]}
        spec |= {
            "initContainers": [steps["choose"]],
            "containers": [steps["restore"] | {"command": ["sh", "-c", RESTORE]}],
        }
        self._begin(drill)
        return self.wait()[1]["restore"]

    def restore_artifacts(self):
        """Bring back the artifacts that the bucket lacks, from the newest backup; return the seconds."""
        program = ("python", "-m", "mlops_mlflow_server.restore")
        newest = json.loads(self.execute("python", *program, "list").splitlines()[-1])["whole"][-1]["id"]
        begun = time.monotonic()
        self.execute("python", *program, "objects", newest)
        return time.monotonic() - begun

    def _begin(self, made):
        """Begin a Job of a CronJob's template."""
        self.stack.kubectl("-n", NAMESPACE, "delete", f"job/{NAME}", "--ignore-not-found", "--timeout=120s")
        metadata = {"name": NAME, "namespace": NAMESPACE, "labels": made["metadata"]["labels"]}
        made |= {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata}
        made["spec"]["backoffLimit"] = 0
        self.stack.kubectl("apply", "-f", "-", text=json.dumps(made))

    def ended(self, namespace, job):
        """Return whether a Job has succeeded.

        Raises:
            ServerError: it failed.
        """
        status = self._get(namespace, "job", job)["status"]
        if status.get("failed"):
            log = self.stack.kubectl("-n", namespace, "logs", f"job/{job}", "--all-containers", "--tail=5", check=False)
            raise server.ServerError(f"the Job {job} failed:\n{log[-2000:]}")
        return bool(status.get("succeeded"))

    def times(self, namespace, job):
        """Return the seconds of a Job that has ended, and of its containers by name."""
        status = self._get(namespace, "job", job)["status"]
        listed = json.loads(self.stack.kubectl("-n", namespace, "get", "pods", "-l", f"job-name={job}", "-o", "json"))
        found = listed["items"][-1]["status"]
        ends = {
            each["name"]: each["state"]["terminated"]
            for each in [*found.get("initContainerStatuses", []), *found["containerStatuses"]]
        }
        each = {name: seconds_of(end["startedAt"], end["finishedAt"]) for name, end in ends.items()}
        return seconds_of(status["startTime"], status["completionTime"]), each

    def wait(self):
        """Wait for the Job; return its seconds, and those of its containers."""
        stacks.wait_until(lambda: self.ended(NAMESPACE, NAME), HOURS * 3600, "the end of the backup", 1)
        return self.times(NAMESPACE, NAME)


def _backups(bench, prefix):
    """Measure a whole backup, another one with nothing new, restores, and the plain tools; return seconds by name."""
    found = {}

    def keep(name, seconds):
        found[name] = seconds
        print(f"  {name}: {seconds:.1f} s", file=sys.stderr, flush=True)

    bench.stack.sql("postgres", "CHECKPOINT")
    bench.execute("python", "sync")
    bench.job()
    whole, found["steps"] = bench.wait()
    keep("whole", whole)
    source, destination = bench.config["source"]["bucket"], bench.config["destination"]["bucket"]
    copied = f"destination/{destination}/{prefix}-mirror"
    with bench.replication():
        bench.stack.sql("postgres", "CHECKPOINT")
        keep("pg_basebackup", bench.postgres(f"pg_basebackup -U postgres -D {VOLUME}/bench -c fast -X stream"))
    bench.execute("python", "sync")
    keep("mc mirror", bench.mc(f"mc mirror --quiet source/{source} {copied}"))
    bench.job()
    keep("again", bench.wait()[0])
    keep("mc mirror again", bench.mc(f"mc mirror --quiet source/{source} {copied}"))
    keep("restore of databases", bench.restore_databases())
    bench.artifacts(0)
    keep("restore of artifacts", bench.restore_artifacts())
    bench.artifacts(0)
    keep("mc mirror back", bench.mc(f"mc mirror --quiet {copied} source/{source}"))
    bench.clear(copied)
    return found


def _under_load(bench, prefix, load):
    """Measure requests, without a backup, while one runs, and without again; return the results of both."""
    stack = bench.stack
    seconds, rounds, connections, metrics = load
    deployment, tracking = server.deployment_of(stack), server.Tracking(stack)
    port = stack.core.read_namespaced_service("mlflow", server.NAMESPACE).spec.ports[0].node_port
    server.remove_pods(stack)
    results = {"without": [], "during": []}
    with (
        tracking.token() as token,
        tracking.experiment(token) as experiment,
        server.client_pod(stack, deployment) as (run, node),
    ):
        asked = {"url": f"http://{server._host(node)}:{port}", "user": stacks.USER, "token": token}
        asked |= {"host": urllib.parse.urlsplit(stack.mlflow_url).netloc, "experiment": experiment, "warm_up": 1}
        asked |= {"connections": connections, "seconds": seconds, "metrics": metrics}
        for _unused in range(rounds):
            results["without"].append(run("log_batch.py", **asked))
        bench.job(prefix=prefix)
        while True:
            found = run("log_batch.py", **asked)
            if bench.ended(NAMESPACE, NAME):
                break
            results["during"].append(found)
        results["seconds"], results["steps"] = bench.times(NAMESPACE, NAME)
        for _unused in range(rounds):
            results["without"].append(run("log_batch.py", **asked))
    if not results["during"]:
        raise server.ServerError("the backup ended within one round: take more runs or artifacts, or fewer seconds")
    return results


def _listed(steps):
    return ", ".join(f"{name} {value:.0f} s" for name, value in steps.items())


def measure(stack, runs, mebibytes, load):
    """Measure backups of a stack that has them.

    Args:
        stack: the stack.
        runs: the number of runs that are made for it.
        mebibytes: the size of their artifacts.
        load: seconds of a round, number of rounds, connections, and metrics of a batch.
    """
    bench = Bench(stack, runs, mebibytes)
    tracking = server.Tracking(stack)
    prefix = f"{bench.config['destination']['prefix']}-bench"
    destination = f"destination/{bench.config['destination']['bucket']}/{prefix}"
    with bench.running():
        made = tracking.ask("POST", "/api/2.0/mlflow/experiments/create", json={"name": f"{prefix}-{time.time_ns()}"})
        bench.experiment = made["experiment_id"]
        count, size = bench.fill()
        database = int(stack.sql("mlflow", "SELECT pg_database_size(current_database())")[0][0])
        try:
            backup = _backups(bench, prefix)
            busy = _under_load(bench, prefix, load)
        finally:
            for each in (destination, f"{destination}-mirror"):
                bench.clear(each)
    part = Part(
        f"Backup of {runs} runs and {mebibytes} MiB of artifacts",
        f"The database of MLflow has {database / 2**20:.0f} MiB, the bucket {count} objects with {size / 2**20:.0f} "
        "MiB. Here: a full backup, encrypted and checked, by a Job of the CronJob, from its start to its end. The "
        "peers: pg_basebackup by PostgreSQL's local socket to the same volume, and `mc mirror` of the bucket to the "
        "destination, and back for a restore of all artifacts.",
    )
    steps = backup["steps"]
    of_databases = sum(steps[name] for name in ("database", "agreement", "archive"))

    def line(what, here, peer, aim=f"<= {TIME_AIM:.2f}x"):
        part.figures.append(Figure(what, f"{here:.1f} s", f"{peer:.1f} s", here / peer, aim))

    line("backup", backup["whole"], backup["pg_basebackup"] + backup["mc mirror"])
    line("of it: databases", of_databases, backup["pg_basebackup"], "")
    line("of it: artifacts", steps["objects"], backup["mc mirror"], "")
    line("backup, no new artifacts", backup["again"], backup["pg_basebackup"] + backup["mc mirror again"], "")
    databases, artifacts = backup["restore of databases"], backup["restore of artifacts"]
    line("restore", databases + artifacts, backup["pg_basebackup"] + backup["mc mirror back"])
    line("of it: databases", databases, backup["pg_basebackup"], "")
    line("of it: artifacts", artifacts, backup["mc mirror back"], "")
    rates = {
        name: statistics.median(server._rate(each) for each in busy[name] if each["requests"])
        for name in ("during", "without")
    }
    part.figures.append(
        Figure(
            "requests/s while a backup runs",
            f"{rates['during']:.0f}",
            f"{rates['without']:.0f}",
            rates["during"] / rates["without"],
            f">= {LOAD_AIM:.2f}x",
        )
    )
    failed = [sum(each["failed"] for each in busy[name]) for name in ("during", "without")]
    part.figures.append(Figure("requests that failed", *map(str, failed), aim="0"))
    part.details = [
        f"steps of the backup: {_listed(steps)}",
        f"under load, in {busy['seconds']:.0f} s: {_listed(busy['steps'])}",
        *(
            f"requests/s, {name} a backup: {', '.join(f'{server._rate(each):.0f}' for each in busy[name])}"
            for name in ("during", "without")
        ),
    ]
    return part
