# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What objects of a cluster say of a stack: a report for programs, and a page of it for users.

All functions take what was read, and ask the API server nothing.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.workload import (
    belongs,
    condition,
    judge,
    one_line,
    pod_problem,
)
from ansible_collections.mlops.mlflow.plugins.module_utils.mlflow.tokens import EXPIRES, KIND, OWNER, USER, moment
from ansible_collections.mlops.mlflow.plugins.module_utils.sealing.controller import BACKED_UP, advice, synced

JOB = "mlops.mlflow/job"  # label of a Job that is named for its content: what it is for
MANUAL = re.compile(r"(-manual)?-\d{8,}$")  # how names of Jobs end that a playbook or a CronJob began
BACKUP, DRILL = "backup", "restore-drill"  # CronJobs of the component backup
MIGRATION = "mlflow-migrate"
# ConfigMaps in which playbooks write down what they have begun, until they have ended it.
ROTATION, UPGRADE, RESTORE = "mlflow-rotation", "mlflow-upgrade", "restore"
SHOWN = 5  # certificates, and tokens, on the page
FORM = "%Y-%m-%dT%H:%M:%SZ"
NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass
class Validity:
    """How long a certificate is valid.

    Args:
        renewed_by: C(site.yml) for those of the stack's own CA, C(cert-manager), or empty for those of others.
        begin: From when; None where the Secret has no certificate that can be read.
        end: Until when; None likewise.
    """

    namespace: str
    name: str
    renewed_by: str
    begin: datetime | None
    end: datetime | None


@dataclass
class Found:
    """What was read of a cluster.

    Args:
        version: Of its API server.
        namespaces: Names of those that there are.
        workloads: Deployments and StatefulSets, with their kind.
        notes: ConfigMaps of playbooks that have begun something, by their name.
        certificates: Of the Secrets of that type in the stack's namespaces.
        secrets: Metadata of the Secrets that the collection made, those with tokens of programs too.
        sealing_keys: Metadata of the Secrets with them.
        issued: Certificates of cert-manager.
        told: What a pod of MLflow told: times in seconds since 1970, by job, and C(wal archived) and C(wal failed).
        unreadable: What the user may not read.
    """

    version: str
    namespaces: set[str]
    workloads: list[dict[str, Any]] = field(default_factory=list)
    pods: list[dict[str, Any]] = field(default_factory=list)
    cron_jobs: list[dict[str, Any]] = field(default_factory=list)
    jobs: list[dict[str, Any]] = field(default_factory=list)
    volumes: list[dict[str, Any]] = field(default_factory=list)
    notes: dict[str, dict[str, Any]] = field(default_factory=dict)
    certificates: list[Validity] = field(default_factory=list)
    secrets: list[dict[str, Any]] = field(default_factory=list)
    sealing_keys: list[dict[str, Any]] = field(default_factory=list)
    sealed: list[dict[str, Any]] = field(default_factory=list)
    issued: list[dict[str, Any]] = field(default_factory=list)
    told: dict[str, float] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)


# --- words ------------------------------------------------------------------------------------------------------------


def span(time: timedelta) -> str:
    """Write a duration with two units at most."""
    minutes = int(abs(time).total_seconds()) // 60
    days, hours, minutes = minutes // 1440, minutes // 60 % 24, minutes % 60
    if days >= 10:
        return f"{days} d"
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def short(time: datetime) -> str:
    """Write a time to the minute, in UTC."""
    return f"{time:%Y-%m-%d %H:%M}"


def listed(words: list[str]) -> str:
    """Join words as in a sentence."""
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def version_of(image: str) -> str:
    """Give the tag of an image, or its shortened digest where it has no tag."""
    name, _at, digest = image.partition("@")
    tag = name.rpartition("/")[2].partition(":")[2]
    return tag or (digest[:19] if digest else "latest")


def place(thing: dict[str, Any]) -> str:
    """Give namespace/name."""
    return f"{thing['metadata']['namespace']}/{thing['metadata']['name']}"


def when(text: Any) -> datetime:
    """Read a time of the API server; long ago where there is none."""
    return moment(str(text or "")) or NEVER


def written(time: datetime) -> str:
    """Write a time for programs; empty where there is none."""
    return "" if time == NEVER else time.astimezone(UTC).strftime(FORM)


# --- the report -------------------------------------------------------------------------------------------------------


class Report:
    """What is to be told of a stack.

    Args:
        found: What was read.
        components: Names of the components that the inventory has, each with its namespace.
        soon: Within which time an end is worth a word.
        now: The time.
    """

    def __init__(self, found: Found, components: dict[str, str], soon: timedelta, now: datetime) -> None:
        self._found = found
        self._components = components
        self._soon = soon
        self._now = now
        self._stack = set(components.values())
        self._pending: list[dict[str, str]] = []

    def result(self) -> dict[str, Any]:
        """Give the report, as the action returns it."""
        components = [self._component(name, namespace) for name, namespace in self._components.items()]
        backups = self._backups() if BACKUP in self._components else {}
        self._begun()
        self._workloads(components)
        schedules = self._schedules()
        failed = self._jobs()
        self._volumes()
        certificates = self._certificates()
        tokens = self._tokens()
        self._credentials(moment(backups.get("last_backup", "")))
        state, sentence = self._sentence(components)
        return {
            "time": written(self._now),
            "kubernetes": self._found.version,
            "state": state,
            "sentence": sentence,
            "components": components,
            "backups": backups,
            "schedules": schedules,
            "certificates": certificates,
            "tokens": tokens,
            # What was never deployed is no more than that.
            "pending": self._pending if state != "absent" else [],
            "failed_jobs": failed,
            "unreadable": self._found.unreadable,
        }

    def _ours(self, things: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Give those in the stack's namespaces: several stacks may share a cluster."""
        return [
            each
            for each in things
            if each["metadata"]["namespace"] in self._stack and not each["metadata"].get("deletionTimestamp")
        ]

    def _wait(self, kind: str, name: str, text: str) -> None:
        self._pending.append({"kind": kind, "name": name, "text": text})

    def _ago(self, time: datetime) -> str:
        return f"{short(time)}, {span(self._now - time)} ago"

    # Components

    def _component(self, name: str, namespace: str) -> dict[str, Any]:
        workloads = [
            self._workload(each)
            for each in self._ours(self._found.workloads)
            if each["metadata"]["namespace"] == namespace
        ]
        schedules = [each for each in self._found.cron_jobs if each["metadata"]["namespace"] == namespace]
        if workloads:
            state = "ready" if all(each["is_ready"] for each in workloads) else "not ready"
        elif name == BACKUP and schedules:
            state = "ready"
        elif {"deployments", "stateful_sets", "cron_jobs"} & set(self._found.unreadable):
            state = "unknown"
        else:
            state = "absent"
        return {"name": name, "namespace": namespace, "state": state, "workloads": workloads}

    def _workload(self, workload: dict[str, Any]) -> dict[str, Any]:
        verdict = judge(workload)
        wanted = workload["spec"].get("replicas", 1)
        labels = (workload["spec"]["selector"].get("matchLabels") or {}).items()
        pods = [
            each
            for each in self._found.pods
            if each["metadata"]["namespace"] == workload["metadata"]["namespace"]
            and labels <= (each["metadata"].get("labels") or {}).items()
        ]
        statuses = [one for each in pods for one in _containers(each)]
        ended = [((one.get("lastState") or {}).get("terminated") or {}).get("finishedAt") for one in statuses]
        containers = workload["spec"]["template"]["spec"]["containers"]
        image = containers[0]["image"] if containers else ""
        return {
            "kind": workload["kind"],
            "name": workload["metadata"]["name"],
            "image": image,
            "version": version_of(image),
            "desired": wanted,
            "ready": (workload.get("status") or {}).get("readyReplicas") or 0,
            "is_ready": verdict.ready and wanted > 0,
            "note": verdict.note if wanted else "it has no pods, since it is scaled to 0",
            "restarts": sum(one.get("restartCount") or 0 for one in statuses),
            "last_restart": written(max(map(when, ended), default=NEVER)),
            "problems": _problems(pods),
        }

    def _workloads(self, components: list[dict[str, Any]]) -> None:
        """Note what is on its way, or broken."""
        for component in components:
            for each in component["workloads"]:
                if each["is_ready"]:
                    continue
                name = f"{each['kind']} {component['namespace']}/{each['name']}"
                reasons = [each["note"], *each["problems"][:1]]
                self._wait("rollout", name, f"{name}: {'; '.join(reasons)}")

    def _sentence(self, components: list[dict[str, Any]]) -> tuple[str, str]:
        """Say in a sentence how the stack is."""
        by_state: dict[str, list[str]] = {}
        for each in components:
            by_state.setdefault(each["state"], []).append(each["name"])
        absent, unknown = by_state.get("absent", []), by_state.get("unknown", [])
        if len(absent) == len(components):
            return "absent", "Nothing of this stack is deployed: run site.yml"
        parts = [f"{len(by_state.get('ready', []))} of {len(components)} components are ready"]
        for state, words in (("not ready", "not ready"), ("absent", "not deployed"), ("unknown", "not to be seen")):
            if names := by_state.get(state):
                parts.append(f"{listed(names)} {'are' if len(names) > 1 else 'is'} {words}")
        if len(by_state.get("ready", [])) == len(components):
            return "ready", f"All {len(components)} components are ready"
        return "partly" if absent else "unknown" if unknown else "not ready", "; ".join(parts)

    # Backups and Jobs

    def _group(self, job: dict[str, Any]) -> str:
        """Name what a Job is one of: its CronJob, or its purpose."""
        metadata = job["metadata"]
        owners = [each["name"] for each in metadata.get("ownerReferences") or [] if each.get("kind") == "CronJob"]
        name = (metadata.get("labels") or {}).get(JOB) or MANUAL.sub("", metadata["name"])
        return f"{metadata['namespace']}/{owners[0] if owners else name}"

    def _last_success(self, namespace: str, name: str) -> datetime:
        """Say when a CronJob, or a Job that was made of it by hand, last ended well."""
        times = [
            when((each.get("status") or {}).get("lastSuccessfulTime"))
            for each in self._found.cron_jobs
            if place(each) == f"{namespace}/{name}"
        ]
        times += [
            when((each.get("status") or {}).get("completionTime"))
            for each in self._found.jobs
            if self._group(each) == f"{namespace}/{name}" and judge({"kind": "Job", **each}).ready
        ]
        return max(times, default=NEVER)

    def _told(self, name: str) -> datetime:
        """Give a time that MLflow told; to the second, as the API server's are."""
        return datetime.fromtimestamp(int(self._found.told[name]), UTC) if name in self._found.told else NEVER

    def _backups(self) -> dict[str, Any]:
        """Say when the last backup and the last drill ended well.

        The status of a CronJob has scheduled ones. MLflow tells of drills by hand, and of those before this cluster.
        """
        namespace = self._components[BACKUP]
        last = {
            "last_backup": max(self._last_success(namespace, BACKUP), self._told("backup")),
            "last_drill": max(self._last_success(namespace, DRILL), self._told("drill")),
        }
        if last["last_backup"] == NEVER and not {"cron_jobs", "jobs"} & set(self._found.unreadable):
            self._wait("backup", BACKUP, "No backup is known to have ended well: run backup.yml")
        archived, failed = self._told("wal archived"), self._told("wal failed")
        if failed > archived:
            since = f"since {short(archived)}" if archived != NEVER else "at all"
            self._wait("wal", "wal", f"PostgreSQL could not archive its write-ahead log {since}: see its log")
        result: dict[str, Any] = {}
        result |= {name: written(time) for name, time in last.items()}
        for name, time in last.items():
            result[f"{name}_age"] = None if time == NEVER else int((self._now - time).total_seconds())
        return result

    def _schedules(self) -> list[dict[str, Any]]:
        """Tell of the CronJobs, and note those that no longer run."""
        found = []
        for each in sorted(self._ours(self._found.cron_jobs), key=place):
            status, namespace, name = each.get("status") or {}, each["metadata"]["namespace"], each["metadata"]["name"]
            found.append(
                {
                    "namespace": namespace,
                    "name": name,
                    "schedule": each["spec"]["schedule"],
                    "suspended": bool(each["spec"].get("suspend")),
                    "last_success": written(self._last_success(namespace, name)),
                    "last_scheduled": written(when(status.get("lastScheduleTime"))),
                }
            )
            # One that never ran is one that the inventory does not ask for.
            if each["spec"].get("suspend") and (name == BACKUP or status.get("lastScheduleTime")):
                self._wait("suspended", place(each), f"CronJob {place(each)} is suspended")
        return found

    def _jobs(self) -> list[dict[str, str]]:
        """Note the Jobs that run, and give those that failed last."""
        newest: dict[str, dict[str, Any]] = {}
        for each in sorted(self._ours(self._found.jobs), key=lambda job: when(job["metadata"]["creationTimestamp"])):
            newest[self._group(each)] = each
            verdict = judge({"kind": "Job", **each})
            if verdict.ready or verdict.failed:
                continue
            began = when((each.get("status") or {}).get("startTime") or each["metadata"]["creationTimestamp"])
            words = [f"runs since {self._ago(began)}" if not each["spec"].get("suspend") else verdict.note]
            words += ["calls may be held until it has ended"] if self._group(each).endswith(f"/{MIGRATION}") else []
            pods = [pod for pod in self._found.pods if belongs(pod, {each["metadata"].get("uid", "")})]
            self._wait("job", place(each), f"Job {place(each)} {'; '.join([*words, *_problems(pods)[:1]])}")
        failed = []
        for group, each in sorted(newest.items()):
            verdict = judge({"kind": "Job", **each})
            if verdict.failed:
                time = when(condition(each, "Failed").get("lastTransitionTime"))
                failed.append({"job": place(each), "of": group, "time": written(time), "reason": verdict.failed})
        return failed

    def _volumes(self) -> None:
        for each in self._ours(self._found.volumes):
            phase = (each.get("status") or {}).get("phase", "Pending")
            if phase != "Bound":
                self._wait("volume", place(each), f"Volume {place(each)} is {phase}")

    # What playbooks have begun

    def _begun(self) -> None:
        """Note what a playbook wrote down when it began, and has not removed."""
        note = _json(self._found.notes.get(UPGRADE), "upgrade")
        if note is not None:
            begun = str(note.get("begun", ""))
            since = f" of {short(datetime.fromtimestamp(int(begun), UTC))}" if begun.isdigit() else ""
            text = f"The upgrade{since} has not ended, and may hold calls: unless it still runs, run upgrade.yml again"
            self._wait("upgrade", UPGRADE, text)
        note = _json(self._found.notes.get(ROTATION), "rotation")
        if note is not None:
            what = [str(each) for each in note.get("what") or []]
            begun_at = moment(str(note.get("begun", "")))
            since = f" of {short(begun_at)}" if begun_at else ""
            text = f"The rotation{since} of {listed(what)} has not ended: unless it still runs, run rotate.yml again "
            self._wait("rotation", ROTATION, text + f"with -e platform_rotate={','.join(what)}")
        note = self._found.notes.get(RESTORE)
        if note is not None:
            asked = one_line(str((note.get("data") or {}).get("asked", "")))
            of = f" of {asked}" if asked else ""
            text = f"The restore{of} has not ended: unless it still runs, run restore.yml again with the same variables"
            self._wait("restore", RESTORE, text)

    # Certificates, tokens and other credentials

    def _left(self, end: datetime) -> str:
        left = end - self._now
        return f"ends {end:%Y-%m-%d}, in {span(left)}" if left > timedelta(0) else f"ended {self._ago(end)}"

    def _days(self, end: datetime) -> int:
        return (end - self._now) // timedelta(days=1)

    def _certificates(self) -> list[dict[str, Any]]:
        """Tell of the ends of certificates, the first one first, and note those that are to be renewed."""
        found = []
        for each in sorted(self._found.certificates, key=lambda one: (one.end or NEVER, one.namespace, one.name)):
            where = f"{each.namespace}/{each.name}"
            entry: dict[str, Any] = {"namespace": each.namespace, "name": each.name, "renewed_by": each.renewed_by}
            if each.begin is None or each.end is None:
                found.append({**entry, "ends": "", "days": None})
                self._wait("certificate", where, f"Secret {where} has no certificate that can be read")
                continue
            found.append({**entry, "ends": written(each.end), "days": self._days(each.end)})
            left = each.end - self._now
            # As a run decides.
            due = each.renewed_by == "site.yml" and left <= (each.end - each.begin) / 3
            if due or left <= self._soon:
                who = f"{each.renewed_by} renews it" if each.renewed_by else "who supplied it has to renew it"
                self._wait("certificate", where, f"Certificate {where} {self._left(each.end)}: {who}")
        for thing in self._ours(self._found.issued):
            verdict = judge({"kind": "Certificate", **thing})
            if not verdict.ready:
                text = f"Certificate {place(thing)} is not ready: {verdict.failed or verdict.note}"
                self._wait("certificate", place(thing), text)
        return found

    def _tokens(self) -> list[dict[str, Any]]:
        """Tell of the ends of programs' tokens, the first one first, and note those that end soon."""
        found = []
        for each in self._found.secrets:
            noted = each["metadata"].get("annotations") or {}
            if KIND not in (each["metadata"].get("labels") or {}):
                continue
            end = moment(noted.get(EXPIRES, ""))
            entry = {"namespace": each["metadata"]["namespace"], "secret": each["metadata"]["name"]}
            entry |= {"user": noted.get(USER, ""), "owner": noted.get(OWNER, "")}
            # A password of basic-auth has no end.
            days = self._days(end) if end else None
            found.append({**entry, "ends": written(end) if end else "", "days": days})
            if end and end - self._now <= self._soon:
                text = f"Token of {entry['owner']} in Secret {place(each)} {self._left(end)}: access.yml renews it"
                self._wait("token", place(each), text)
        return sorted(found, key=lambda one: (not one["ends"], one["ends"], one["namespace"], one["secret"]))

    def _credentials(self, backup: datetime | None) -> None:
        """Note credentials that no backup has, and those that do not arrive."""
        # A backup of the stack has the sealing keys that were there.
        keys = [
            each["metadata"]["name"]
            for each in self._found.sealing_keys
            if BACKED_UP not in (each["metadata"].get("annotations") or {})
            and not (backup and when(each["metadata"].get("creationTimestamp")) < backup)
        ]
        if keys:
            text = f"No backup is known of the sealing key {listed(sorted(keys))}: run sealing_keys_backup.yml"
            self._wait("backup", "sealing keys", text)
        certificates = {f"{each.namespace}/{each.name}" for each in self._found.certificates}
        newer = sorted(
            place(each)
            for each in self._ours(self._found.secrets)
            if backup
            and _changed(each) > backup
            and KIND not in (each["metadata"].get("labels") or {})
            and place(each) not in certificates
            and each["metadata"]["namespace"] != self._components.get(BACKUP)
        )
        if newer:
            text = f"No backup has the present values of {listed(newer)}: run backup.yml, or wait for the next one"
            self._wait("backup", "secrets", text)
        for each in self._ours(self._found.sealed):
            state, why = synced(each)
            if state != "True":
                words = advice(why) if state else "the controller has not looked at it yet"
                self._wait("sealed secret", place(each), f"SealedSecret {place(each)} is not unsealed: {words}")


def _containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    """Give the status of each container that is to run all the time, and of those that come before."""
    status = pod.get("status") or {}
    return [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]


def _problems(pods: list[dict[str, Any]]) -> list[str]:
    """Say what is wrong with pods; those that only wait for others come last."""
    found = [(each["metadata"]["name"], problem) for each in pods if (problem := pod_problem(each))]
    found.sort(key=lambda one: (one[1].nature in ("dependency", "slow"), one[0]))
    return [f"pod {name}: {problem.text}" for name, problem in found]


def _json(config_map: dict[str, Any] | None, key: str) -> dict[str, Any] | None:
    """Read what a playbook wrote down; None where it did not, and nothing where it cannot be read."""
    if config_map is None:
        return None
    try:
        found = json.loads((config_map.get("data") or {}).get(key) or "{}")
    except ValueError:
        found = {}
    return found if isinstance(found, dict) else {}


def _changed(secret: dict[str, Any]) -> datetime:
    """Say when the values of a Secret were last written, by its metadata."""
    metadata = secret["metadata"]
    times = [
        when(each.get("time"))
        for each in metadata.get("managedFields") or []
        if "f:data" in (each.get("fieldsV1") or {}) and not each.get("subresource")
    ]
    return max([when(metadata.get("creationTimestamp")), *times])


# --- the page ---------------------------------------------------------------------------------------------------------


def page(report: dict[str, Any]) -> list[str]:
    """Write a report as lines for a screen."""
    time = when(report["time"])
    lines = [f"{report['sentence']}.", f"Kubernetes {report['kubernetes']}, {short(time)} UTC"]
    if report["state"] == "absent":
        return lines + _unreadable(report)
    lines += ["", *_table(["COMPONENT", "WORKLOAD", "PODS", "RESTARTS", "IMAGE"], _rows(report, time))]
    lines += _backup_lines(report, time)
    ends = [(f"{each['namespace']}/{each['name']}", each) for each in report["certificates"]]
    lines += _ends("CERTIFICATES", ends, time)
    ends = [(f"{each['namespace']}/{each['secret']} of {each['owner']}", each) for each in report["tokens"]]
    lines += _ends("TOKENS", ends, time)
    lines += ["", "PENDING", *([f"  {each['text']}" for each in report["pending"]] or ["  nothing"])]
    failed = [
        f"  Job {each['job']}{', ' + _ago(each['time'], time) if each['time'] else ''}: {each['reason']}"
        for each in report["failed_jobs"]
    ]
    lines += ["", "FAILED LAST", *(failed or ["  nothing"])]
    return lines + _unreadable(report)


def _ago(text: str, time: datetime) -> str:
    return f"{short(when(text))}, {span(time - when(text))} ago"


def _rows(report: dict[str, Any], time: datetime) -> list[list[str]]:
    rows = []
    for component in report["components"]:
        for each in component["workloads"]:
            restarts = str(each["restarts"])
            if each["restarts"] and each["last_restart"]:
                restarts += f", {span(time - when(each['last_restart']))} ago"
            pods, image = f"{each['ready']}/{each['desired']}", each["image"].rpartition("/")[2]
            rows.append([component["name"], each["name"], pods, restarts, image])
        if not component["workloads"]:
            words = {"absent": "not deployed", "unknown": "not to be seen"}
            text = words.get(component["state"], "by CronJobs")
            rows.append([component["name"], text, "", "", ""])
    return rows


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in [head, *rows]
    ]


def _backup_lines(report: dict[str, Any], time: datetime) -> list[str]:
    lines = []
    for name, words in (("last_backup", "last backup"), ("last_drill", "last drill")):
        if name in report["backups"]:
            text = report["backups"][name]
            lines.append(f"  {words}  {_ago(text, time) if text else 'none is known'}")
    for each in report["schedules"]:
        if each["name"] not in (BACKUP, DRILL) and each["last_success"]:
            lines.append(f"  last {each['name']}  {_ago(each['last_success'], time)}")
    return ["", "BACKUPS AND CLEAN-UP", *_aligned(lines)] if lines else []


def _ends(title: str, ends: list[tuple[str, dict[str, Any]]], time: datetime) -> list[str]:
    """Write the first ends of several."""
    if not ends:
        return []
    lines = []
    for name, each in ends[:SHOWN]:
        words = "has no end"
        if each["ends"]:
            left = when(each["ends"]) - time
            words = f"{each['ends'][:10]}, {'in ' + span(left) if left > timedelta(0) else 'ENDED'}"
        lines.append(f"  {name}  {words}")
    more = [f"  and {len(ends) - SHOWN} more that end later"] if len(ends) > SHOWN else []
    return ["", title, *_aligned(lines), *more]


def _aligned(lines: list[str]) -> list[str]:
    """Put what follows the last two spaces under one another."""
    parts = [line.rpartition("  ") for line in lines]
    width = max(len(first) for first, _gap, _second in parts)
    return [f"{first.ljust(width)}  {second}" for first, _gap, second in parts]


def _unreadable(report: dict[str, Any]) -> list[str]:
    if not report["unreadable"]:
        return []
    names = [each.replace("_", " ") for each in report["unreadable"]]
    return ["", f"This user may not read, so that it is missing here: {', '.join(names)}"]
