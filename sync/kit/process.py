"""One process's main: a loop, signals that stop it, and errors told as sentences."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Protocol

from sync.kit import errors


class Service(Protocol):
    """What runs until it is told to stop."""

    async def stop(self) -> None: ...


REFUSED = 2
"""The exit code of what a person has to mend first; 1 is for answers: a ledger that is not intact, an agent that does not run."""
FAULT = 70
"""The exit code of a fault of ours (EX_SOFTWARE, sysexits.h)."""
SWITCH_S = 0.0005
"""How long a busy thread may keep the interpreter from one that waits, such as the journal's after its fsync (5 ms by default)."""


def run(start: Callable[[], Awaitable[Service]]) -> int:
    """Starts a service and runs it until SIGINT or SIGTERM, then stops it in order; the exit code."""
    with runner() as one:
        return one.run(_until_told(start))


def runner() -> asyncio.Runner:
    """The loop that our processes run on, in an interpreter that is set for it."""
    sys.setswitchinterval(SWITCH_S)
    # Reference counts free nearly everything here: what start-up has made is never looked through, the rest seldom.
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    try:
        import uvloop  # noqa: PLC0415 - not there on every platform

        factory = uvloop.new_event_loop
    except ImportError:
        factory = None
    return asyncio.Runner(loop_factory=factory)


async def _until_told(start: Callable[[], Awaitable[Service]]) -> int:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told.set)
    try:
        service = await start()
    except errors.RingfenceError as error:
        sys.stderr.write(f"{error}\n")
        return REFUSED
    await told.wait()
    await service.stop()
    return 0
