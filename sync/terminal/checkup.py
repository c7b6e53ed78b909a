"""The lines of `doctor`: what was looked at, how it is, and what to do about it."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from rich.console import Console
from rich.table import Table

from sync.kit import errors
from sync.kit.faults import ADVICE, Fault, Noted

SLOW_SYNC_MS = 50.0
LOW_DISK = 512 * 1024 * 1024
RECENT_S = 7 * 24 * 3600.0
"""Faults that are older than this are told, and no longer count."""


class State(StrEnum):
    """How it is."""

    PASS = "pass"  # noqa: S105 - no password
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that was looked at. `advice` is empty where all is well."""

    what: str
    state: State
    found: str
    advice: str = ""

    def told(self) -> dict[str, str]:
        return asdict(self)


def guarded(what: str, look: Callable[[], Line], advice: str) -> Line:
    """The line, or where looking failed, that it did and why."""
    try:
        return look()
    except errors.RingfenceError as error:
        return Line(what, State.FAIL, str(error), advice)


def disk(folder: Path) -> Iterator[Line]:
    """Whether there is room, and how long a durable write takes."""
    found = os.statvfs(folder)
    free = found.f_bavail * found.f_frsize
    state = State.WARN if free < LOW_DISK else State.PASS
    yield Line(
        "disk space", state, f"{free >> 20} MiB free", "make room, or give the state a disk of its own" if free < LOW_DISK else ""
    )
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-") as file:
            file.write(b"x" * 4096)
            file.flush()
            began = time.perf_counter()
            os.fsync(file.fileno())
            ms = (time.perf_counter() - began) * 1000
    except OSError as error:
        yield Line(
            "durable write", State.FAIL, f"{folder} cannot be written ({error.strerror})", "look at permissions and the disk"
        )
        return
    slow = ms > SLOW_SYNC_MS
    advice = "every answer waits for such a write: use a faster disk" if slow else ""
    yield Line("durable write", State.WARN if slow else State.PASS, f"{ms:.1f} ms", advice)


def faults(noted: Iterable[tuple[str, Noted]], now: float) -> Iterator[Line]:
    """A line a fault that was seen, with what to do about it."""
    seen = sorted(noted, key=lambda pair: -pair[1].last)
    for name, fault in seen:
        when = datetime.fromtimestamp(fault.last, UTC).isoformat(timespec="seconds")
        recent = now - fault.last < RECENT_S
        advice = ADVICE.get(Fault(name), "") if name in set(Fault) else ""
        yield Line(f"fault {name}", State.WARN if recent else State.PASS, f"{fault.count} ×, last {when}: {fault.detail}", advice)
    if not seen:
        yield Line("faults", State.PASS, "none were seen")


def show(lines: Sequence[Line], *, as_json: bool) -> int:
    """Prints the lines; the exit code: 1 where something fails."""
    if as_json:
        sys.stdout.write(json.dumps([line.told() for line in lines]) + "\n")
    else:
        colours = {State.PASS: "green", State.WARN: "yellow", State.FAIL: "bold red"}
        table = Table(show_header=False, box=None)
        for _ in range(3):
            table.add_column(overflow="fold")  # a path that is cut is of no use
        for line in lines:
            advice = f"\n→ {line.advice}" if line.advice else ""
            table.add_row(f"[{colours[line.state]}]{line.state}[/]", line.what, f"{line.found}{advice}")
        Console().print(table)
    return int(any(line.state is State.FAIL for line in lines))
