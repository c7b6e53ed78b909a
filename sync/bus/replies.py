"""The replies of one conversation on their way to its reader: bounded, in order, and ended rather than holed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

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


async def drain(replies: Replies) -> AsyncIterator[bytes]:
    """The replies of a queue as they come; an error in it is raised."""
    while True:
        reply = await replies.get()
        if isinstance(reply, Exception):
            raise reply
        yield reply
