"""Tools for drills: run or kill playbooks, and inspect the result."""

import contextlib
import dataclasses
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

from tests.lib import REPOSITORY
from tests.lib import stack as stacks

SITE = "playbooks/site.yml"
UNINSTALL = "playbooks/uninstall.yml"
PRUNE = "playbooks/prune.yml"
KIND = "playbooks/kind.yml"

USE = """
    import sys
    import mlflow

    mlflow.set_experiment(sys.argv[1])
    with mlflow.start_run() as run:
        mlflow.log_metric("loss", 0.25, step=7)
        mlflow.log_text("kept", "kept.txt")
    assert mlflow.artifacts.load_text(run.info.artifact_uri + "/kept.txt") == "kept"
    print(run.info.run_id)
"""
LOOK = """
    import sys
    import mlflow

    run = mlflow.get_run(sys.argv[1])
    assert run.data.metrics == {"loss": 0.25}, run.data.metrics
    assert mlflow.artifacts.load_text(run.info.artifact_uri + "/kept.txt") == "kept"
"""


def announcer(config):
    """Return a function that prints a line with the time, even if pytest captures output."""
    reporter = config.pluginmanager.getplugin("terminalreporter")
    capture = config.pluginmanager.getplugin("capturemanager")

    def show(text):
        with capture.global_and_fixture_disabled():
            reporter.ensure_newline()
            reporter.write_line(f"{time.strftime('%H:%M:%S')} {text}")

    return show


def descendants(ancestor):
    """Return the IDs of all descendants of a process."""
    children = {}
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The name, in parentheses, may contain anything: the parent is the second word after it.
            parent = int(path.read_text(errors="replace").rpartition(")")[2].split()[1])
            children.setdefault(parent, set()).add(int(path.parent.name))
    found, ahead = set(), {ancestor}
    while ahead:
        ahead = set().union(*(children.get(each, set()) for each in ahead)) - found
        found |= ahead
    return found


def kill(process):
    """Kill a process and its descendants with SIGKILL, so that none of them can clean up.

    Each of Ansible's workers has its own session, so a signal to the process group does not reach them.
    """
    stopped = set()
    while ahead := ({process.pid} | descendants(process.pid)) - stopped:
        for each in ahead:
            with contextlib.suppress(ProcessLookupError):
                os.kill(each, signal.SIGSTOP)  # so that it starts no more children
        stopped |= ahead
    for each in stopped:
        with contextlib.suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)
    process.wait()


@dataclasses.dataclass
class Run(stacks.Playbook):
    """The result of a playbook's run.

    Attributes:
        log: the file with its output.
        starts: the seconds after which each task started.
        seconds: its duration.
        killed: whether it was killed.
    """

    log: pathlib.Path
    starts: list[float]
    seconds: float
    killed: bool

    @property
    def task(self):
        """The last task that started."""
        return (re.findall(r"^TASK \[(.*?)\]", self.output, re.M) or ["no task"])[-1]

    @property
    def changes(self):
        """The tasks that changed something."""
        task, found = "", []
        for line in self.output.splitlines():
            if line.startswith("TASK ["):
                task = line.partition("[")[2].partition("]")[0]
            elif line.startswith("changed:"):
                found.append(task)
        return found

    @property
    def sentence(self):
        """The message of the task that failed, on one line."""
        assert self.code != 0, f"it passed, see {self.log}"
        assert "Traceback" not in self.output, self.log
        return re.sub(r"\s+", " ", self.output.rpartition("fatal: ")[2]).replace("''", "'")

    def expect_success(self, what):
        assert self.code == 0, f"{what}: ended with {self.code} in '{self.task}', see {self.log}\n{self.output[-3000:]}"
        return self

    def expect_no_change(self, what):
        self.expect_success(what)
        assert self.count("changed") == 0, f"{what}: changed something in {self.changes}, see {self.log}"
        return self


class Drill:
    """The tests' cluster, which drills may break.

    Args:
        directory: the cluster's directory.
        inventory: the stack's inventory.
        say: prints a line while the drill runs.
        further: inventories that are read after it.
    """

    def __init__(self, directory, inventory, say, *further):
        self.directory = pathlib.Path(directory)
        self.inventory = pathlib.Path(inventory)
        self.further = [pathlib.Path(each) for each in further]
        self.say = say
        self.logs = self.directory / "drills"
        self.logs.mkdir(parents=True, exist_ok=True)
        for path in self.logs.glob("*.log"):
            path.unlink()
        self.runs = 0
        #: Whether the stack is known to be in the state after site.yml.
        self.whole = False
        #: The first run of site.yml on an empty cluster, from which the points of interruption are chosen.
        self.first = None
        #: What the cluster held before it ever had a stack; nothing where that was not looked at.
        self.never = set()

    @property
    def stack(self):
        """The current stack, without cached state of an earlier one."""
        return stacks.Stack(self.directory, self.inventory, *self.further)

    def run(self, playbook, *words, until=None, former=None):
        """Run a playbook, to its end or until it is killed.

        Args:
            playbook: its path.
            words: further arguments.
            until: called with the number of started tasks and the seconds since the last start; the run is killed as
                soon as it returns true.
            former: the former version of the collection that runs it, by default this one.
        """
        checkout, inventory = (former.checkout, former.inventory) if former else (REPOSITORY, self.inventory)
        further = [word for each in self.further for word in ("-i", each)]
        self.runs += 1
        log = self.logs / f"{self.runs:02}-{pathlib.Path(playbook).stem}.log"
        environment = os.environ | {
            "ANSIBLE_CONFIG": str(checkout / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_FORCE_COLOR": "0",
            # Otherwise a task is printed only after it has ended.
            "ANSIBLE_DISPLAY_SKIPPED_HOSTS": "1",
            "PATH": os.pathsep.join([str(pathlib.Path(sys.executable).parent), os.environ["PATH"]]),
        }
        if former:
            environment |= former.environment
            words = (*former.words, *words)
        begun = shown = time.monotonic()
        starts, output, killed = [], "", False
        with log.open("w") as stream:
            process = subprocess.Popen(
                ["ansible-playbook", "-i", inventory, *further, playbook, *map(str, words)],
                cwd=checkout,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                while process.poll() is None:
                    now = time.monotonic()
                    output = log.read_text(errors="replace")
                    tasks = re.findall(r"^TASK \[(.*?)\]", output, re.M)
                    starts += [now - begun] * (len(tasks) - len(starts))
                    if now - shown > 20:
                        self.say(f"  {now - begun:4.0f} s in {playbook}: {tasks[-1] if tasks else 'start'}")
                        shown = now
                    if until and starts and until(len(starts), now - begun - starts[-1]):
                        killed = True
                        break
                    time.sleep(0.1)
            finally:
                if process.poll() is None:
                    kill(process)
        output = log.read_text(errors="replace")
        return Run(process.returncode, output, log, starts, time.monotonic() - begun, killed)

    def site(self, what="site.yml", *words):
        """Deploy the stack, which must succeed."""
        self.whole = False
        done = self.run(SITE, *words).expect_success(what)
        self.whole = True
        self.say(f"  {what}: {done.seconds:.0f} s, changed={done.count('changed')}")
        return done

    def clear(self):
        """Empty the cluster with kubectl, in any state, and delete the sealed files."""
        self.whole = False
        shutil.rmtree(self.directory / "sealed", ignore_errors=True)
        stack = self.stack
        chosen = "-l=app.kubernetes.io/part-of=mlflow-platform"
        kinds = "crd,clusterrole,clusterrolebinding"
        stack.kubectl("delete", "namespace", *stacks.NAMESPACES.values(), "--ignore-not-found", "--timeout=300s")
        stack.kubectl("delete", kinds, chosen, "--ignore-not-found", "--timeout=60s")

    def deploy_on_empty(self):
        """Deploy the stack on an empty cluster."""
        done = self.site("site.yml on an empty cluster")
        self.first = self.first or done
        return done

    def ensure(self):
        """Ensure that the stack is deployed, whatever an earlier drill left."""
        if not self.whole:
            done = self.run(SITE)
            self.whole = done.code == 0
        if not self.whole:
            self.say("  an earlier drill left a state that site.yml does not repair: emptying the cluster")
            self.clear()
            self.deploy_on_empty()

    def credentials(self):
        """Return each value of the stack's Secrets by "namespace/name/key"."""
        core = self.stack.core
        return {
            f"{namespace}/{secret.metadata.name}/{key}": value
            for namespace in stacks.NAMESPACES.values()
            for secret in core.list_namespaced_secret(namespace).items
            for key, value in (secret.data or {}).items()
        }

    def backups(self):
        """Return the IDs of the backups that are listed as whole."""
        listed = self.run("playbooks/backups.yml").expect_success("the list of backups")
        return set(re.findall(r"(\d{8}T\d{6}Z)  whole", listed.output))

    def use(self, what):
        """Log in as both users and work as a client; return a run's ID."""
        stack = self.stack
        for user in (stacks.ADMIN, stacks.USER):
            stack.login(user)
        token = stack.environment["MLFLOW_TRACKING_PASSWORD"]
        run = stack.client(USE, stacks.ADMIN, token, f"drill-{what}-{time.time_ns()}").stdout.split()[-1]
        self.say(f"  {what}: both users log in, and a client logs a run")
        return run

    def look(self, run, token):
        """Read a run that `use` returned, with a current token."""
        self.stack.client(LOOK, stacks.ADMIN, token, run)


def differing(before, after):
    """Return the names of values that are missing or different; only names, so that no message shows a value."""
    return sorted(name for name, value in before.items() if after.get(name) != value)
