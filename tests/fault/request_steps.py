"""Requests in a process that may be ended at any named moment: what a former life left open is closed, and then come new ones.

Prints each record that is on disk.
"""

import asyncio
import os
import sys
from pathlib import Path

from sync.audit import kinds
from sync.audit.journal import Journal
from sync.audit.unfinished import close_unfinished
from sync.crypto import signing
from sync.kit.clock import SystemClock
from sync.kit.ids import AgentId, TenantId

T = TenantId("t")
LIFE = os.getpid()


async def live(path: Path) -> None:
    opened = Journal(path, AgentId("agent-1"), signing.Signer(bytes(range(32))), SystemClock())
    opened.open()
    await close_unfinished(opened)
    for number in range(40):
        request = f"{LIFE}-{number}"
        await opened.append(T, kinds.DECIDED, {"request": request, "level": "internal"}, opens=request)
        say("begun", request)
        if number % 3:  # the others are at work when the process ends
            fields: dict[str, object] = {"request": request, "outcome": "answered"}
            await opened.append(T, kinds.REQUEST, fields, closes=request)
            say("answered", request)
    opened.close()


def say(what: str, request: str) -> None:
    sys.stdout.write(f"{what} {request}\n")
    sys.stdout.flush()


asyncio.run(live(Path(sys.argv[1])))
