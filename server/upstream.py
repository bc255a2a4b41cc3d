# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Test the server package with the newest releases of MLflow and mlflow-oidc-auth: `make upstream`.

It installs the packages of requirements.in without their pins into a virtual environment of its own, which is removed
at the end, and runs the tests there. It prints the versions that differ from requirements.txt, and which tests fail.
The exit code is that of the tests.
"""

import collections
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import venv
import xml.etree.ElementTree as ET

HERE = pathlib.Path(__file__).resolve().parent
# What decides whether the package fits; the others are printed after them.
FIRST = ("mlflow", "mlflow-oidc-auth")


def requirements(name: str) -> list[str]:
    """Return the requirements of a file without pins."""
    lines = [line.partition("#")[0].strip() for line in (HERE / name).read_text(encoding="utf-8").splitlines()]
    return [re.split(r"[=<>~!]", line)[0] for line in lines if line and not line.startswith("-")]


def pins() -> dict[str, str]:
    """Return the versions of requirements.txt and requirements-test.txt by name."""
    names = ("requirements.txt", "requirements-test.txt")
    text = "\n".join((HERE / name).read_text(encoding="utf-8") for name in names)
    return dict(re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^\s;\\]+)", text, re.MULTILINE))


def installed(python: pathlib.Path) -> dict[str, str]:
    """Return the versions in an environment by name."""
    code = (
        "import importlib.metadata as m, re\n"
        "for each in m.distributions(): print(re.sub(r'[-_.]+', '-', each.name).lower(), each.version)"
    )
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    return dict(line.split() for line in done.stdout.splitlines())


def moved(before: dict[str, str], now: dict[str, str]) -> list[str]:
    """Return a line for each package of another version, those that decide first."""
    names = sorted(before.keys() | now.keys(), key=lambda name: (name not in FIRST, name))
    lines = []
    for name in names:
        old, new = before.get(name), now.get(name)
        if old != new and name != "pip":
            lines.append(f"{name} {old or '(none)'} -> {new or '(none)'}")
    return lines


def failures(report: pathlib.Path) -> dict[str, list[str]]:
    """Return the names of failed tests by file."""
    found = collections.defaultdict(list)
    for case in ET.parse(report).iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            found[case.get("classname", "").rpartition(".")[2]].append(case.get("name", ""))
    return dict(found)


def main() -> int:
    """Install, test, and print; return the exit code of the tests."""
    with tempfile.TemporaryDirectory(prefix="mlops-upstream-") as folder:
        work = pathlib.Path(folder)
        venv.create(work / "venv", with_pip=True)
        python = work / "venv" / "bin" / "python"
        pip = [python, "-m", "pip", "--quiet", "--disable-pip-version-check"]
        wanted = [*requirements("requirements.in"), *requirements("requirements-test.in")]
        print(f"Installing {' '.join(wanted)}, about two minutes", flush=True)
        subprocess.run([*pip, "install", "--only-binary", ":all:", *wanted], check=True)
        # Copied, since setuptools writes beside the sources.
        subprocess.run(["cp", "-R", HERE / "pyproject.toml", HERE / "README.md", HERE / "src", work], check=True)
        subprocess.run([*pip, "install", "--no-deps", "--no-build-isolation", "--no-index", work], check=True)
        now = installed(python)
        lines = moved(pins(), {name: version for name, version in now.items() if name != "mlops-mlflow-server"})
        print(
            "\n".join(
                ["Other versions than in requirements.txt:", *lines]
                if lines
                else ["All versions are those of requirements.txt"]
            )
        )
        sys.stdout.flush()
        report = work / "report.xml"
        tests = [python, "-m", "pytest", "-c", HERE / "pyproject.toml", "--rootdir", HERE, HERE / "tests"]
        code = subprocess.run(
            [*tests, "-q", "--junitxml", report, *sys.argv[1:]],
            env={**os.environ, "MLOPS_UNTESTED_VERSIONS": "true"},
            check=False,
        ).returncode
        found = failures(report) if report.exists() else {}
        print("\nWith " + ", ".join(f"{name} {now[name]}" for name in FIRST) + ":", end=" ")
        if code == 0:
            print("all tests pass")
        for name, cases in sorted(found.items()):
            print(f"\n  {name}: {len(cases)} failed: {', '.join(cases)}", end="")
        print(flush=True)
        return code


if __name__ == "__main__":
    sys.exit(main())
