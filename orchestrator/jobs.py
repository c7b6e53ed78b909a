"""What runs on a timetable. The door to APScheduler."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from apscheduler.schedulers.asyncio import AsyncIOScheduler

from sync.kit import errors, logs

log = logs.get("jobs")


class Jobs:
    """The timetable of one process: each job runs at most once at a time, and its failure is logged under its name."""

    def __init__(self) -> None:
        self._scheduler = AsyncIOScheduler(timezone="UTC")

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

    @property
    def running(self) -> bool:
        return bool(self._scheduler.running)

    def start(self) -> None:
        self._scheduler.start()

    def stop(self) -> None:
        self._scheduler.shutdown(wait=False)
