"""The journal: durable appends against SQLite's own group commit, what an answer waits for its records, verification, and a cold start."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import queue
import sqlite3
import statistics
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from bench import ROOT, Row, at_least, at_most, scratch

from sync.audit import journal, rows
from sync.crypto import keyring
from sync.kit import process
from sync.kit.clock import SystemClock
from sync.kit.ids import AgentId, TenantId
from tests.support import system

WRITERS, EACH, ROUNDS = 256, 100, 9
ALONE = 300
RATE, SECONDS = 500, 10
RECORDS = 100_000
T = TypeVar("T")
STARTS = 5
FIELDS: dict[str, object] = {
    "request": "req_" + "0" * 26, "trace": "0" * 32, "principal": "billing-app", "key": "0123456789", "task": "generate",
    "model": "guide", "level": "internal", "found": {"PERSON": 1}, "rules": ("default.internal",), "zones": ("on_premise",),
    "agent": "frankfurt-onprem", "outcome": "done", "prompt_tokens": 42, "completion_tokens": 17, "ms": 12.5,
    "prompt": b"\x00" * 32, "answer": b"\x00" * 32,
}  # fmt: skip
"""What a run's record holds, near enough."""


def measure() -> list[Row]:
    with tempfile.TemporaryDirectory(dir=scratch()) as folder:
        return [*_many(Path(folder)), *_alone(Path(folder)), *_waiting(Path(folder)), *_verify(Path(folder)), *_start(Path(folder))]


def _run(work: Coroutine[Any, Any, T]) -> T:
    """As our processes run: their loop, and an interpreter set as theirs."""
    with process.runner() as runner:
        return runner.run(work)


def _open(folder: Path) -> journal.Journal:
    folder.mkdir()
    keys = keyring.load_or_create(folder / "keys")
    opened = journal.Journal(folder / "journal.db", AgentId("bench"), keys.signer, SystemClock())
    opened.open()
    return opened


def _many(folder: Path) -> list[Row]:
    ours, limits, bulk = [], [], []
    for n in range(ROUNDS):
        opened = _open(folder / f"many-{n}")
        ours.append(_run(_rate(lambda: opened.append(TenantId("t"), "run", FIELDS))))  # noqa: B023 - awaited at once
        (entry,) = opened.read(1, 1)
        opened.close()
        group = _GroupCommit(folder / f"group-{n}.db")
        limits.append(_run(_rate(lambda: group.append(entry))))  # noqa: B023
        group.close()
        bulk.append(_bulk(folder / f"bulk-{n}.db", entry))
    return [
        at_least(
            f"journal, durable records from {WRITERS} at once (limit: bare SQLite group commit of the same bytes)",
            statistics.median(ours), "records/s", statistics.median(limits), 0.7,
        ),
        at_least("the same (beside: SQLite alone, 100 rows a commit, nobody waiting)", statistics.median(ours), "records/s", statistics.median(bulk)),
    ]  # fmt: skip


async def _rate(append: Callable[[], Awaitable[object]]) -> float:
    async def write() -> None:
        for _ in range(EACH):
            await append()

    began = time.perf_counter()
    await asyncio.gather(*(write() for _ in range(WRITERS)))
    return WRITERS * EACH / (time.perf_counter() - began)


class _GroupCommit:
    """The least that a group commit is: callers that wait, one thread, SQLite. No chain, no signature, no record made."""

    def __init__(self, path: Path) -> None:
        self._work: queue.SimpleQueue[tuple[bytes, asyncio.Future[int], asyncio.AbstractEventLoop] | None] = queue.SimpleQueue()
        self._database = _sqlite(path)
        self._next = 0
        self._thread = threading.Thread(target=self._write)
        self._thread.start()

    async def append(self, entry: bytes) -> int:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[int] = loop.create_future()
        self._work.put((entry, done, loop))
        return await done

    def close(self) -> None:
        self._work.put(None)
        self._thread.join()
        self._database.close()

    def _write(self) -> None:
        while item := self._work.get():
            group = [item]
            while len(group) < journal.GROUP and not self._work.empty():
                if (item := self._work.get()) is None:
                    return
                group.append(item)
            first = self._next
            with self._database:
                self._database.executemany(
                    "insert into entries values (?, ?)", [(n, entry) for n, (entry, _, _) in enumerate(group, first)]
                )
            self._next += len(group)
            group[0][2].call_soon_threadsafe(_finish, group, first)


def _finish(group: list[tuple[bytes, asyncio.Future[int], asyncio.AbstractEventLoop]], first: int) -> None:
    for n, (_, done, _) in enumerate(group, first):
        done.set_result(n)


def _sqlite(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, check_same_thread=False)
    database.execute("pragma journal_mode=wal")
    database.execute("pragma synchronous=full")
    database.execute("create table entries (sequence integer primary key, entry blob not null)")
    return database


def _bulk(path: Path, entry: bytes) -> float:
    database = _sqlite(path)
    began = time.perf_counter()
    for first in range(0, WRITERS * EACH, journal.GROUP):
        with database:
            database.executemany("insert into entries values (?, ?)", [(first + n, entry) for n in range(journal.GROUP)])
    rate = WRITERS * EACH / (time.perf_counter() - began)
    database.close()
    return rate


def _alone(folder: Path) -> list[Row]:
    """One caller: its append beside the sync that it cannot do without, in turn."""

    async def run() -> tuple[list[float], list[float]]:
        opened = _open(folder / "alone")
        bare = _sqlite(folder / "alone.db")
        ours, limits = [], []
        for n in range(ALONE):
            began = time.perf_counter()
            await opened.append(TenantId("t"), "run", FIELDS)
            ours.append(time.perf_counter() - began)
            entry = opened.read(n, 1)[0]
            began = time.perf_counter()
            with bare:
                bare.execute("insert into entries values (?, ?)", (n, entry))
            limits.append(time.perf_counter() - began)
        opened.close()
        bare.close()
        return ours, limits

    ours, limits = _run(run())
    figure, limit = statistics.median(ours) * 1000, statistics.median(limits) * 1000
    return [at_most("journal, one record alone (limit: SQLite's own commit with its sync)", figure, "ms", limit, 1.5 * limit)]


def _waiting(folder: Path) -> list[Row]:
    """What the two records of a request, at the agent and then at the hub, take of its time at a steady rate."""

    async def run() -> list[float]:
        agent, hub = _open(folder / "agent"), _open(folder / "hub")
        took: list[float] = []

        async def request() -> None:
            began = time.perf_counter()
            await agent.append(TenantId("t"), "run", FIELDS)
            await hub.append(TenantId("t"), "request", FIELDS)
            took.append(time.perf_counter() - began)

        loop = asyncio.get_running_loop()
        begin, tasks = loop.time(), []
        for n in range(RATE * SECONDS):
            await asyncio.sleep(max(0.0, begin + n / RATE - loop.time()))
            tasks.append(asyncio.create_task(request()))
        await asyncio.gather(*tasks)
        agent.close()
        hub.close()
        return took

    took = sorted(_run(run()))
    syncs = _syncs(folder / "sync")
    limit = statistics.median(syncs) * 2 * 1000
    p99 = syncs[int(len(syncs) * 0.99)] * 2 * 1000
    return [
        at_most(f"both records of an answer at {RATE} requests/s, p50 (limit: two syncs of 4 KB)", took[len(took) // 2] * 1000, "ms", limit, 6),
        at_most("the same, p99", took[int(len(took) * 0.99)] * 1000, "ms", p99, 25),
    ]  # fmt: skip


def _syncs(path: Path) -> list[float]:
    took = []
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    for _ in range(500):
        began = time.perf_counter()
        os.write(descriptor, b"x" * 4096)
        os.fdatasync(descriptor)
        took.append(time.perf_counter() - began)
    os.close(descriptor)
    return sorted(took)


def _verify(folder: Path) -> list[Row]:
    opened = _open(folder / "verify")
    entries: list[bytes] = []

    async def fill() -> None:
        for _ in range(RECORDS // 1000):
            await asyncio.gather(*(opened.append(TenantId("t"), "run", FIELDS) for _ in range(1000)))
        entries.extend(opened.read(0, RECORDS))

    _run(fill())
    opened.close()
    key = keyring.load(folder / "verify" / "keys").signer.public_key
    ours, limits = [], []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        rows.verify(folder / "verify" / "journal.db", AgentId("bench"), key)
        ours.append(RECORDS / (time.perf_counter() - began))
        began = time.perf_counter()
        for entry in entries:
            hashlib.sha256(entry).digest()
        limits.append(RECORDS / (time.perf_counter() - began))
    name = f"journal verify, {len(entries[-1])} bytes a record (limit: one SHA-256 of each)"
    return [at_least(name, statistics.median(ours), "records/s", statistics.median(limits), 0.4)]


def _start(folder: Path) -> list[Row]:
    """An agent without a network and without models: from its start to the first 200 of its own API; each a cold process."""
    models = folder / "no-models"
    models.mkdir()
    place = system.Place("frankfurt-onprem", "on_premise", "frankfurt", api=True)
    made = system.System(folder / "run", [place], models, ROOT / "packaging" / "demo" / "tenants.yaml")

    _run(made.prepare("acme-bank"))
    made.start()
    _await(made.agent(place.name) / "status.json", lambda told: bool(told["bundle_serial"]))
    made.stop_all()
    made.own[place.name] = {"RINGFENCE_AGENT_BROKER_URL": "tls://127.0.0.1:1"}
    ours, limits = [], []
    for _ in range(STARTS):
        status = made.agent(place.name) / "status.json"
        status.unlink()
        began = time.perf_counter()
        made.start_agent(place.name)
        _await(status, _serves)
        ours.append(time.perf_counter() - began)
        made.stop(place.name)
        began = time.perf_counter()
        subprocess.run([system.SCRIPTS / "python", "-c", "import aiohttp, uvloop, nats, pydantic, onnxruntime"], check=True)
        limits.append(time.perf_counter() - began)
    name = "agent, start to serving from its bundle without a network (limit: importing its libraries)"
    return [at_most(name, statistics.median(ours), "s", statistics.median(limits), 1.5)]


def _await(status: Path, look: Callable[[dict[str, Any]], bool]) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            if look(json.loads(status.read_text())):
                return
        except (OSError, ValueError, KeyError):
            pass
        time.sleep(0.005)
    raise AssertionError("the agent does not come up")


def _serves(told: dict[str, Any]) -> bool:
    with urllib.request.urlopen(f"{told['url']}/healthz/ready", timeout=5) as response:
        return bool(response.status == 200)
