"""Figures, and how they are printed."""

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
        what: what was measured.
        here: what it is, with its unit.
        peer: what it is compared with, with its unit.
        ratio: `here` divided by `peer`, as numbers.
        aim: what is aimed at, said of the ratio if there is one and of `here` otherwise.
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
    """This machine's size, its load and the time, in a line each."""
    text = pathlib.Path("/proc/cpuinfo").read_text() if pathlib.Path("/proc/cpuinfo").exists() else ""
    models = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{cores} cores{f' ({models[0]})' if models else ''}, {memory:.0f} GiB of memory",
        "load": f"{load} when the measurements began (1, 5, 15 minutes)",
    }


def shown(part):
    """A part as text."""
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
