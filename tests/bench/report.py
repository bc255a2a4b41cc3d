"""Figures and their output."""

import dataclasses
import datetime
import os
import pathlib
import textwrap

MEBIBYTE = 1 << 20


@dataclasses.dataclass
class Figure:
    """One line of the table.

    Args:
        what: the name of the figure.
        here: its value, with the unit.
        peer: the peer's value, with the unit.
        ratio: `here` divided by `peer`, as numbers.
        aim: the aim for the ratio if there is one, otherwise for `here`.
    """

    what: str
    here: str
    peer: str = ""
    ratio: float | None = None
    aim: str = ""


@dataclasses.dataclass
class Part:
    """The figures of one part, and what is compared with what."""

    title: str
    explanation: str
    figures: list[Figure] = dataclasses.field(default_factory=list)
    details: list[str] = dataclasses.field(default_factory=list)


def machine():
    """Return size and load of this machine and the time, one per line."""
    text = pathlib.Path("/proc/cpuinfo").read_text() if pathlib.Path("/proc/cpuinfo").exists() else ""
    models = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{cores} cores{f' ({models[0]})' if models else ''}, {memory:.0f} GiB of memory",
        "load": f"{load} at the start (1, 5, 15 minutes)",
    }


def shown(part):
    """Return a part as text."""
    rows = [
        (figure.what, figure.here, figure.peer, "" if figure.ratio is None else f"{figure.ratio:.2f}x", figure.aim)
        for figure in part.figures
    ]
    rows.insert(0, ("", "here", "peer", "ratio", "aim"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [part.title, *textwrap.wrap(part.explanation, 110), ""]
    for row in rows:
        first, *others = (
            cell.ljust(width) if number == 0 else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append(f"  {first}  {'   '.join(others)}".rstrip())
    if part.details:
        lines += ["", *(f"  {line}" for line in part.details)]
    return "\n".join([*lines, ""])
