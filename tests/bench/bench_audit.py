"""The journal's durable appends, against SQLite alone in groups of 100; and how fast a journal is verified."""

from __future__ import annotations

import asyncio
import sqlite3
import statistics
import tempfile
import time
from pathlib import Path

from bench import Row, at_least

from sync.audit import journal
from sync.crypto import keyring
from sync.kit.clock import SystemClock
from sync.kit.ids import AgentId, TenantId

WRITERS, EACH, ROUNDS = 64, 100, 5
FIELDS = {
    "request": "req_" + "0" * 26,
    "level": "internal",
    "model": "guide",
    "outcome": "done",
    "tokens": 42,
    "ms": 12.5,
    "why": "x" * 300,
}


def measure() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        ours, limits, verified = [], [], []
        for n in range(ROUNDS):
            rate, verify = asyncio.run(_journal(Path(folder) / f"ours-{n}"))
            ours.append(rate)
            verified.append(verify)
            limits.append(_sqlite(Path(folder) / f"limit-{n}.db"))
    limit = statistics.median(limits)
    return [
        at_least(
            f"journal, durable records from {WRITERS} writers (limit: bare SQLite, 100 a commit)",
            statistics.median(ours),
            "records/s",
            limit,
        ),
        at_least("journal verify (limit: the same)", statistics.median(verified), "records/s", limit),
    ]


async def _journal(folder: Path) -> tuple[float, float]:
    folder.mkdir()
    keys = keyring.load_or_create(folder / "keys")
    opened = journal.Journal(folder / "journal.db", AgentId("bench"), keys.signer, SystemClock())
    opened.open()

    async def write() -> None:
        for _ in range(EACH):
            await opened.append(TenantId("t"), "run", FIELDS)

    began = time.perf_counter()
    await asyncio.gather(*(write() for _ in range(WRITERS)))
    rate = WRITERS * EACH / (time.perf_counter() - began)
    opened.close()
    began = time.perf_counter()
    journal.verify(folder / "journal.db", AgentId("bench"), keys.signer.public_key)
    return rate, WRITERS * EACH / (time.perf_counter() - began)


def _sqlite(path: Path) -> float:
    database = sqlite3.connect(path)
    database.execute("pragma journal_mode=wal")
    database.execute("pragma synchronous=full")
    database.execute("create table entries (sequence integer primary key, entry blob not null)")
    began = time.perf_counter()
    for first in range(0, WRITERS * EACH, 100):
        with database:
            database.executemany("insert into entries values (?, ?)", [(first + i, b"x" * 500) for i in range(100)])
    rate = WRITERS * EACH / (time.perf_counter() - began)
    database.close()
    return rate
