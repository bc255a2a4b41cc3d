"""With the ansible-core of this environment: deploy, second run, check mode."""

import re
import subprocess
import sys

from tests.lib.drill import SITE


def test_core_is_the_newest_for_its_python(drill):
    shown = subprocess.run(["ansible", "--version"], check=True, capture_output=True, text=True).stdout
    version = re.search(r"\[core (\d+\.\d+)", shown).group(1)
    drill.say(f"  ansible-core {version} with Python {sys.version.split()[0]}")
    assert version == ("2.19" if sys.version_info < (3, 12) else "2.21")


def test_run_has_no_warnings(deployed):
    """The collection causes no deprecations and warnings."""
    done = deployed.run(SITE).expect_no_change("the second run of site.yml")
    deployed.say(f"  second run of site.yml: {done.seconds:.0f} s")
    warnings = [line for line in done.output.splitlines() if re.match(r"\[(WARNING|DEPRECATION|ERROR)", line)]
    assert warnings == []


def test_check_mode_changes_nothing(deployed):
    deployed.run(SITE, "--check", "--diff").expect_no_change("site.yml --check --diff")


def test_users_and_programs_log_in(deployed):
    deployed.use("by this ansible-core")
