"""One model's thread: requests in order, a bounded queue, and a cancel that reaches the work itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from classifiers.onnx.session import Stop
from edge_agent.inference.port import Overloaded

MAX_WAITING = 64
T = TypeVar("T")


class Worker:
    """Threads that run blocking work for one model."""

    def __init__(self, name: str, *, threads: int = 1) -> None:
        self._threads = ThreadPoolExecutor(threads, f"model-{name}")
        self.running = 0

    async def run(self, work: Callable[[Stop], T]) -> T:
        """What the work gives. Cancelling stops it: in the queue at once, in the middle within a step. Raises Overloaded."""
        if self.running >= MAX_WAITING:
            raise Overloaded(f"{MAX_WAITING} requests wait for this model already.", retry_after_s=2)
        stop = Stop()
        self.running += 1
        future = asyncio.get_running_loop().run_in_executor(self._threads, work, stop)
        future.add_done_callback(self._ended)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            stop.now()
            future.cancel()
            future.add_done_callback(_drop)
            raise

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _ended(self, _: object) -> None:
        self.running -= 1


def _drop(future: asyncio.Future[T]) -> None:
    """Takes the outcome of work that nobody waits for any more."""
    if not future.cancelled():
        future.exception()
