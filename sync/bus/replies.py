"""The replies of one conversation on their way to its reader: bounded, in order, and ended rather than holed."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from sync.bus.port import CONVERSATION_LIMIT, BusUnavailable, Overrun


class Conversation:
    """A queue of replies with one reader. Made for the hot path: no lock, no task, one timer a wait."""

    __slots__ = ("_loop", "_on_close", "_replies", "_waiter")

    def __init__(self, on_close: Callable[[], object]) -> None:
        self._on_close = on_close
        self._replies: deque[bytes | Exception] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._loop = asyncio.get_running_loop()

    def offer(self, reply: bytes | Exception) -> None:
        """Queues a reply. Where too many wait, they are dropped, and the reader is told so instead."""
        if len(self._replies) >= CONVERSATION_LIMIT:
            self._replies.clear()
            reply = Overrun("The reader of a stream was too slow.")
        self._replies.append(reply)
        if self._waiter is not None:
            _wake(self._waiter)

    async def next(self, timeout_s: float) -> bytes | None:
        """The next reply, or None where none came in time. Raises NobodyThere or Overrun."""
        if not self._replies:
            waiter = self._waiter = self._loop.create_future()
            timer = self._loop.call_later(timeout_s, _wake, waiter)
            try:
                await waiter
            finally:
                self._waiter = None
                timer.cancel()
            if not self._replies:
                return None
        reply = self._replies.popleft()
        if isinstance(reply, Exception):
            raise reply
        return reply

    def close(self) -> None:
        self._on_close()

    async def only(self, subject: str, timeout_s: float) -> bytes:
        """The first reply, after which it is closed. Raises NobodyThere, or BusUnavailable where none came in time."""
        try:
            reply = await self.next(timeout_s)
        finally:
            self.close()
        if reply is None:
            raise BusUnavailable(f"No reply on {subject} within {timeout_s} s.")
        return reply


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
