"""site.yml is killed at several points of its run on an empty cluster, and run again."""

import pytest

from tests.lib.drill import SITE, differing

MOMENTS = 10


@pytest.fixture(scope="module")
def timeline(drill):
    """A complete run on an empty cluster, from which the points are chosen."""
    if drill.first is None:
        drill.clear()
        drill.deploy_on_empty()
    return drill.first


def when(timeline, share):
    """Return a function that detects when a run has reached this share of a complete run.

    The point is defined by the number of started tasks and the time since, so that it is within the same task
    on a machine that is faster or slower at the time.
    """
    moment = timeline.seconds * share
    task = max(1, sum(start <= moment for start in timeline.starts))
    begun, ended = (*timeline.starts[task - 1 :], timeline.seconds)[:2]
    rest = min(max(moment - begun, 0), 0.8 * (ended - begun))
    return lambda tasks, since: tasks > task or (tasks == task and since >= rest)


@pytest.mark.parametrize("moment", range(1, MOMENTS + 1))
def test_interrupted_site_run_is_resumed(drill, timeline, moment):
    """The next run succeeds with the same credentials, another one changes nothing, and all users can log in."""
    drill.clear()
    killed = drill.run(SITE, until=when(timeline, (moment - 0.5) / MOMENTS))
    assert killed.killed, f"site.yml had ended before the moment came, see {killed.log}"
    where = f"killed after {killed.seconds:.0f} s in '{killed.task}'"
    drill.say(f"  {where}")
    before = drill.credentials()

    again = drill.site(f"site.yml after being {where}")
    after = drill.credentials()
    assert differing(before, after) == [], f"{where}: the next run gave these other values, see {again.log}"

    drill.run(SITE).expect_no_change(f"{where}: the run after the next")
    assert differing(after, drill.credentials()) == [], f"{where}: the run after the next gave these other values"
    drill.use(f"moment {moment} of {MOMENTS}")
