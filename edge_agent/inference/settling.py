"""From a model's thread back to the event loop: ends a future there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


def settler(future: asyncio.Future[None]) -> Callable[[BaseException | None], None]:
    """What a thread calls when the work is done (None), or with why it is not. Made on the event loop."""
    loop = future.get_loop()

    def settle(error: BaseException | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)

    def from_thread(error: BaseException | None) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, error)

    return from_thread
