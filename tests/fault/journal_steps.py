"""What a journal goes through in its life, in a process that may be ended at any named moment. Prints each record that is on disk."""

import asyncio
import sys
from pathlib import Path

from sync.audit import journal
from sync.audit.journal import Journal, Retained
from sync.audit.proving import Pinned
from sync.crypto import signing
from sync.kit.clock import SystemClock
from sync.kit.ids import AgentId, TenantId

T = TenantId("t")


async def live(path: Path) -> None:
    opened = Journal(path, AgentId("agent-1"), signing.Signer(bytes(range(32))), SystemClock())
    opened.open()
    for number in range(60):
        written = await opened.append(T, "run", {"n": number}, Retained(b"sealed", b"key"))
        sys.stdout.write(f"{written.sequence}\n")
        sys.stdout.flush()
    await opened.prove(20, [Pinned(T, "note")], b"seen")
    await opened.seal()
    await opened.prove(50, [Pinned(T, "note")], b"seen")
    await opened.expire(lambda entry: entry.sequence < 10)
    await opened.expire(lambda entry: entry.sequence < 20)
    opened.close()


journal.SEAL_AT = 25
asyncio.run(live(Path(sys.argv[1])))
