"""Background tasks with names and guards: one that should never end says so if it does, and stopping is bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine

from sync.kit import backoff, logs

log = logs.get("tasks")


class TaskGroup:
    """The background tasks of one process. `spawn` for work that ends, `keep` for work that must not."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, name: str, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """Runs work that ends by itself; its failure is logged under its name and harms nobody else."""
        task = asyncio.create_task(_guarded(name, work), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def keep(self, name: str, work: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        """Runs work that should never end: where it fails or ends, says so and starts it again after a pause."""
        return self.spawn(name, _kept(name, work))

    async def stop(self, timeout_s: float) -> None:
        """Cancels everything and waits, at most `timeout_s`; what is still there then is named in the log."""
        tasks = [t for t in self._tasks if t is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=timeout_s)
            for task in late:
                log.warning("task_did_not_stop", task=task.get_name())


async def _guarded(name: str, work: Coroutine[object, object, None]) -> None:
    try:
        await work
    except asyncio.CancelledError:
        raise
    except Exception as error:
        log.error("task_failed", task=name, error=type(error).__name__, detail=str(error)[:300])


async def _kept(name: str, work: Callable[[], Awaitable[None]]) -> None:
    pauses = backoff.jittered(first_s=0.2, most_s=5.0)
    while True:
        try:
            await work()
            log.warning("task_ended", task=name)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            log.error("task_failed", task=name, error=type(error).__name__, detail=str(error)[:300])
        await asyncio.sleep(next(pauses))
