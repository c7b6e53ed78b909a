"""The answer cache: SQLite on one thread, values under AES-256-GCM, keys as keyed digests.

Invariants, each with a test of its words:
- an answer is found only by the same tenant (and, in that scope, the same principal), model files, and request;
- neither a prompt nor an answer is readable on disk;
- a damaged or moved row is a miss.
"""

from __future__ import annotations

import asyncio
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from sync.crypto import digest, sealing
from sync.kit import errors, logs
from sync.kit.clock import Clock
from sync.wire import codec
from sync.wire.levels import CacheScope
from sync.wire.messages import Run

log = logs.get("cache")
_SCHEMA = """
create table if not exists answers (
    key blob primary key, expires real not null, kept real not null, size integer not null, sealed blob not null
) without rowid;
create index if not exists answers_expires on answers (expires);
create index if not exists answers_kept on answers (kept);
"""
MAX_ANSWER = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """What is kept of a run: enough to answer the same request again, streamed or not."""

    result: bytes
    text: str
    prompt_tokens: int
    completion_tokens: int
    finish: str


class AnswerCache:
    """The cache in one file. `close` when done."""

    def __init__(self, path: Path, at_rest: bytes, clock: Clock, *, max_bytes: int) -> None:
        self._box = sealing.Box(sealing.derive(at_rest, "answer-cache"))
        self._secret = sealing.derive(at_rest, "answer-cache-keys")
        self._clock = clock
        self._max_bytes = max_bytes
        self._thread = ThreadPoolExecutor(1, "cache")
        self._database = _open(path)
        (self._bytes,) = self._database.execute("select coalesce(sum(size), 0) from answers").fetchone()

    def key(self, run: Run, model_digest: str) -> bytes | None:
        """What finds an answer to this run, or None where none may be kept."""
        if run.cache is CacheScope.NONE or run.cache_ttl_s <= 0 or not self._max_bytes:
            return None
        owner = run.ticket.principal if run.cache is CacheScope.PRINCIPAL else ""
        told = (run.ticket.tenant, run.cache.value, owner, run.task, run.folder, model_digest, run.payload)
        return digest.keyed(self._secret, "answer", codec.pack(told))

    async def find(self, key: bytes) -> Answer | None:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._find, key)

    async def keep(self, key: bytes, answer: Answer, ttl_s: int) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._keep, key, answer, ttl_s)

    async def clear(self) -> None:
        """Forgets every answer, and leaves none of it on the disk."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._clear)

    def close(self) -> None:
        self._thread.shutdown(wait=True)
        self._database.close()

    def _clear(self) -> None:
        with self._database:
            self._database.execute("delete from answers")
        self._database.execute("vacuum")
        self._database.execute("pragma wal_checkpoint(truncate)").fetchall()
        self._bytes = 0

    def _find(self, key: bytes) -> Answer | None:
        try:
            row = self._database.execute("select sealed, expires from answers where key = ?", (key,)).fetchone()
            if row is None or row[1] <= self._clock.wall():
                return None
            result, text, prompt_tokens, completion_tokens, finish = codec.unpack(self._box.open(row[0], context=key))
            return Answer(result, text, prompt_tokens, completion_tokens, finish)
        except (sqlite3.Error, errors.Corrupt, ValueError) as error:
            log.warning("cache_read_failed", error=type(error).__name__)
            return None

    def _keep(self, key: bytes, answer: Answer, ttl_s: int) -> None:
        told = (answer.result, answer.text, answer.prompt_tokens, answer.completion_tokens, answer.finish)
        sealed = self._box.seal(codec.pack(told), context=key)
        if len(sealed) > MAX_ANSWER:
            return
        now = self._clock.wall()
        try:
            with self._database:
                self._drop("key = ?", key)
                self._database.execute("insert into answers values (?, ?, ?, ?, ?)", (key, now + ttl_s, now, len(sealed), sealed))
                self._bytes += len(sealed)
                if self._bytes > self._max_bytes:
                    self._make_room(now)
        except sqlite3.Error as error:
            log.warning("cache_write_failed", error=type(error).__name__)

    def _make_room(self, now: float) -> None:
        """Drops what has expired, then the oldest, until the rest fits."""
        self._drop("expires <= ?", now)
        while self._bytes > self._max_bytes:
            (oldest,) = self._database.execute("select key from answers order by kept limit 1").fetchone()
            self._drop("key = ?", oldest)

    def _drop(self, which: str, value: object) -> None:
        for (size,) in self._database.execute(f"delete from answers where {which} returning size", (value,)).fetchall():
            self._bytes -= size


def _open(path: Path) -> sqlite3.Connection:
    """The database; a damaged one is thrown away, since it holds nothing that cannot be computed again."""
    for _ in range(2):
        database = sqlite3.connect(path, check_same_thread=False, timeout=5)
        try:
            database.execute("pragma journal_mode=wal")
            database.execute("pragma synchronous=normal")
            database.executescript(_SCHEMA)
        except sqlite3.DatabaseError as error:
            database.close()
            log.warning("cache_started_anew", error=type(error).__name__)
            path.unlink(missing_ok=True)
        else:
            return database
    raise errors.Misconfigured(f"The cache {path} cannot be used: check its permissions and the space on its disk.")
