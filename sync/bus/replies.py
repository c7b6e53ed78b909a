"""The replies of one conversation on their way to its reader: bounded, in order, and ended rather than holed."""

from __future__ import annotations

import asyncio

from sync.bus.port import CONVERSATION_LIMIT, Overrun

Replies = asyncio.Queue[bytes | Exception]


def new() -> Replies:
    return asyncio.Queue(CONVERSATION_LIMIT)


def offer(replies: Replies, reply: bytes | Exception) -> None:
    """Queues a reply; a full queue is emptied and ends with Overrun, so that no hole goes unseen."""
    try:
        replies.put_nowait(reply)
    except asyncio.QueueFull:
        while not replies.empty():
            replies.get_nowait()
        replies.put_nowait(Overrun("The reader of a stream was too slow."))


class Conversation:
    """The reader's end of one conversation."""

    def __init__(self, replies: Replies) -> None:
        self._replies = replies

    async def next(self, timeout_s: float) -> bytes | None:
        """The next reply, or None where none came in time. Raises NobodyThere or Overrun."""
        try:
            reply = self._replies.get_nowait()
        except asyncio.QueueEmpty:
            try:
                async with asyncio.timeout(timeout_s):
                    reply = await self._replies.get()
            except TimeoutError:
                return None
        if isinstance(reply, Exception):
            raise reply
        return reply
