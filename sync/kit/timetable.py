"""What a process does on a timetable. The door to APScheduler."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from datetime import datetime, time

from apscheduler.schedulers.asyncio import AsyncIOScheduler

from sync.kit import errors, logs

log = logs.get("timetable")
_HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)", re.ASCII)


class Timetable:
    """The jobs of one process: each runs at most once at a time, and its failure is logged under its name."""

    def __init__(self) -> None:
        self._scheduler = AsyncIOScheduler()

    def every(self, seconds: float, name: str, work: Callable[[], Awaitable[object]]) -> None:
        """Runs the work again and again, so many seconds apart."""

        async def guarded() -> None:
            try:
                await work()
            except errors.RingfenceError as error:
                log.warning("job_failed", job=name, code=error.code, detail=str(error)[:200])
            except Exception as error:
                log.error("job_failed", job=name, error=type(error).__name__, detail=str(error)[:200])

        self._scheduler.add_job(
            guarded, "interval", seconds=seconds, id=name, max_instances=1, coalesce=True, misfire_grace_time=None
        )

    def within(self, hours: str, tell: Callable[[bool], None]) -> None:
        """Says True when the hours begin and False when they end, each day by the machine's own clock; and now which it is."""
        begins, ends = read_hours(hours)
        for name, at, value in (("hours begin", begins, True), ("hours end", ends, False)):
            self._scheduler.add_job(tell, "cron", (value,), hour=at.hour, minute=at.minute, id=name, misfire_grace_time=None)
        tell(is_within(datetime.now().astimezone().time(), begins, ends))

    @property
    def running(self) -> bool:
        return bool(self._scheduler.running)

    def start(self) -> None:
        self._scheduler.start()

    def stop(self) -> None:
        if self.running:
            self._scheduler.shutdown(wait=False)


def read_hours(text: str) -> tuple[time, time]:
    """The two times of "22:00-06:00". Raises Misconfigured."""
    found = _HOURS.fullmatch(text)
    if found is None:
        raise errors.Misconfigured(f"'{text[:40]}' is no span of hours: write it as 22:00-06:00.", code="bad_hours")
    first, second, third, fourth = map(int, found.groups())
    return time(first, second), time(third, fourth)


def is_within(now: time, begins: time, ends: time) -> bool:
    """Whether a time of day is in a span, which may go over midnight."""
    return begins <= now < ends if begins <= ends else now >= begins or now < ends
