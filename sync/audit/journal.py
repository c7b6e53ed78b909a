"""An author's own journal: an append-only, hash-chained log in SQLite. The one file of this floor that writes.

One writer thread; WAL, `synchronous=FULL`; whatever has queued while the last commit was syncing goes into the next one, up to
`GROUP` records, so that a durable write costs a share of one fsync. `append` returns only after the commit.

Invariants, each with a test of its words:
- an append that returned is on disk: kill -9 loses none;
- a failed commit fails its appends and leaves the chain as it was;
- a fresh, damaged or restored database starts a new epoch, whose first record names the old one;
- trimming keeps the rest verifiable.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from sync.audit import chain
from sync.crypto import signing
from sync.kit import clock as clocks
from sync.kit import errors, files, ids, logs
from sync.kit.ids import AgentId, Epoch, TenantId
from sync.wire import codec

log = logs.get("journal")
GROUP = 100
MAX_WAITING = 20_000
RECENT = 4096
"""Newest records kept in memory: whoever sends them on has no need of the disk."""
MARK_EVERY_S = 5.0
"""How often, at most, the file beside the database is brought up to date."""
PLATFORM = TenantId("_platform")
"""The tenant of records that are about no tenant: an epoch's start, for one."""

_SCHEMA = """
create table if not exists entries (sequence integer primary key, entry blob not null);
create table if not exists meta (name text primary key, value blob not null) without rowid;
"""
T = TypeVar("T")
_Record = tuple[TenantId, str, dict[str, object]]


class AuditUnavailable(errors.Retryable):
    """The record could not be written, so the request is refused: no answer without its record."""

    code = "audit_unavailable"


@dataclass(frozen=True, slots=True)
class Written:
    """Where a record stands: the proof that it is on disk."""

    sequence: int
    link: bytes


@dataclass(slots=True)
class _Append:
    tenant: TenantId
    kind: str
    fields: dict[str, object]
    done: asyncio.Future[Written]
    loop: asyncio.AbstractEventLoop


@dataclass(slots=True)
class _Trim:
    upto: int
    done: asyncio.Future[None]
    loop: asyncio.AbstractEventLoop


class Journal:
    """The journal in one file. `open` before use; `close` writes what waits."""

    def __init__(self, path: Path, author: AgentId, signer: signing.Signer, clock: clocks.Clock) -> None:
        self._path = path
        self._author = author
        self._signer = signer
        self._clock = clock
        self._work: queue.SimpleQueue[_Append | _Trim | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._reading = threading.Lock()
        self.position = chain.start(author, Epoch(""))
        self.first = 0
        self.hub_seen = b""
        self._recent: deque[bytes] = deque(maxlen=RECENT)
        self._marked_at = float("-inf")
        self._unmarked: bytes | None = None
        self.grew = asyncio.Event()

    @property
    def epoch(self) -> Epoch:
        return self.position.epoch

    def open(self) -> None:
        """Opens or makes the file and checks every record in it. Raises Misconfigured where the folder cannot be written."""
        reason = _why_anew(self._path, self._author, self._signer.public_key)
        old: dict[str, object] = {}
        if reason is not None and self._path.exists():
            aside = self._path.with_name(f"{self._path.name}.{reason}-{ids.sortable()}")
            for suffix in ("", "-wal", "-shm"):
                part = Path(f"{self._path}{suffix}")
                if part.exists():
                    part.rename(f"{aside}{suffix}")
            old = {"reason": reason, "kept_as": aside.name}
            log.error("journal_started_anew", reason=reason, kept_as=aside.name)
        try:
            self._database = _connect(self._path)
            self._database.executescript(_SCHEMA)
            self._load(old)
            self._reader = _connect(self._path)
        except sqlite3.Error as error:
            raise errors.Misconfigured(
                f"The journal {self._path} cannot be opened ({error}): check permissions and disk space.",
                code="journal_unusable",
            ) from error
        self._thread = threading.Thread(target=self._write, name="journal", daemon=True)
        self._thread.start()

    async def append(self, tenant: TenantId, kind: str, fields: dict[str, object]) -> Written:
        """Where the record stands, once it is on disk. Raises AuditUnavailable."""
        if self._work.qsize() > MAX_WAITING:
            raise AuditUnavailable("The audit journal is behind; try again.")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Written] = loop.create_future()
        self._work.put(_Append(tenant, kind, fields, done, loop))
        return await done

    async def trim(self, upto: int) -> None:
        """Forgets the records below `upto`, which the hub has receipted."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        self._work.put(_Trim(upto, done, loop))
        await done

    def read(self, first: int, limit: int) -> list[bytes]:
        """At most `limit` entries from number `first` on, in order. Blocks for a disk read where they are not recent."""
        recent, upto = list(self._recent), self.position.next
        begin = len(recent) - (upto - first)
        if 0 <= begin <= len(recent) and first >= self.first:
            return recent[begin : begin + limit]
        with self._reading:
            rows = self._reader.execute("select entry from entries where sequence >= ? order by sequence limit ?", (first, limit))
            return [row[0] for row in rows]

    def close(self) -> None:
        """Writes what waits, and closes the file."""
        if self._thread is not None:
            self._work.put(None)
            self._thread.join(timeout=10)
            self._thread = None
            self._write_mark()
            self._reader.close()
            self._database.close()

    def _load(self, old: dict[str, object]) -> None:
        found = _meta(self._database, "head")
        if found is None:
            self.position = chain.start(self._author, ids.epoch())
            self._commit([(PLATFORM, "epoch", {"reason": "fresh", **old})])
        else:
            self.position = _position(found)
        anchor = _meta(self._database, "anchor")
        self.first = _position(anchor).next if anchor else 0

    def _write(self) -> None:
        """The writer thread: takes what has queued, as groups, until it is told to end."""
        while True:
            item = self._work.get()
            group: list[_Append] = []
            while isinstance(item, _Append):
                group.append(item)
                if len(group) == GROUP or self._work.empty():
                    break
                item = self._work.get()
            if group:
                self._settle(group)
            if isinstance(item, _Trim):
                self._settle_trim(item)
            elif item is None:
                return

    def _settle(self, group: list[_Append]) -> None:
        """Commits a group and tells each of its callers."""
        try:
            written = self._commit([(item.tenant, item.kind, item.fields) for item in group])
        except (sqlite3.Error, errors.RingfenceError) as error:
            failure = AuditUnavailable("The audit record could not be written, so the request was refused.", retry_after_s=5)
            log.error("journal_write_failed", detail=str(error)[:200])

            def refuse() -> None:
                for item in group:
                    _fail(item.done, failure)

            self._tell(group[0].loop, refuse)
            return

        def tell() -> None:
            for item, where in zip(group, written, strict=True):
                _finish(item.done, where)
            self.grew.set()

        self._tell(group[0].loop, tell)

    def _commit(self, group: list[_Record]) -> list[Written]:
        number, head = self.position.next, self.position.head
        rows, written = [], []
        wall, monotonic = self._clock.wall(), self._clock.monotonic()
        for tenant, kind, fields in group:
            entry = chain.Entry(
                tenant, self._author, self.position.epoch, number, wall, monotonic, kind, head, self.hub_seen, fields
            )
            data = chain.encode(entry)
            head = chain.link(data)
            rows.append((number, data))
            written.append(Written(number, head))
            number += 1
        position = chain.Position(self._author, self.position.epoch, number, head)
        with self._database:
            # One statement for the group: each step of SQLite gives up the interpreter, and has to win it back.
            places = ", ".join(["(?, ?)"] * len(rows))
            self._database.execute(f"insert into entries values {places}", [value for row in rows for value in row])
            _set_meta(self._database, "head", _stored(position, chain.sign_head(position, self._signer)))
        self._recent.extend(data for _, data in rows)
        self.position = position
        return written

    def _settle_trim(self, item: _Trim) -> None:
        try:
            self._trim(min(item.upto, self.position.next))
            self._tell(item.loop, lambda: _finish(item.done, None))
        except (sqlite3.Error, errors.RingfenceError) as error:
            failure = AuditUnavailable(f"The journal could not be trimmed ({error}).")
            self._tell(item.loop, lambda: _fail(item.done, failure))

    def _trim(self, upto: int) -> None:
        if upto <= self.first:
            return
        (last,) = self._database.execute("select entry from entries where sequence = ?", (upto - 1,)).fetchone()
        anchor = chain.Position(self._author, self.position.epoch, upto, chain.link(last))
        with self._database:
            self._database.execute("delete from entries where sequence < ?", (upto,))
            _set_meta(self._database, "anchor", _stored(anchor, b""))
        self.first = upto
        self._unmarked = _stored(anchor, b"")
        if self._clock.monotonic() - self._marked_at >= MARK_EVERY_S:
            self._write_mark()

    def _write_mark(self) -> None:
        """Remembers beside the database what the hub has receipted: one that knows less was restored from a copy."""
        if self._unmarked is not None:
            files.write_atomically(_mark_path(self._path), self._unmarked, mode=files.PRIVATE)
            self._unmarked, self._marked_at = None, self._clock.monotonic()

    @staticmethod
    def _tell(loop: asyncio.AbstractEventLoop, what: Callable[[], None]) -> None:
        try:
            loop.call_soon_threadsafe(what)
        except RuntimeError:
            log.warning("journal_caller_gone")


def verify(path: Path, author: AgentId, key: signing.PublicKey) -> chain.Position:
    """The position of an intact journal, with the author's public key alone. Raises Broken, naming the first bad record."""
    try:
        database = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)
        try:
            return _check(database, author, key)
        finally:
            database.close()
    except sqlite3.Error as error:
        raise chain.Broken(f"The journal {path} is not readable as a database: {error}.") from error


def _check(database: sqlite3.Connection, author: AgentId, key: signing.PublicKey) -> chain.Position:
    head = _meta(database, "head")
    if head is None:
        raise chain.Broken(f"The journal of {author} has no signed head.")
    claimed, signature = _position(head), codec.unpack(head)[4]
    chain.verify_head(claimed, key, signature)
    anchor = _meta(database, "anchor")
    position = _position(anchor) if anchor else chain.start(author, claimed.epoch)
    for number, entry in database.execute("select sequence, entry from entries order by sequence"):
        if number != position.next:
            raise chain.Broken(f"record {position.next} of {author}, epoch {claimed.epoch} is missing.", sequence=position.next)
        position = chain.follow(position, (entry,))
    if position != claimed:
        raise chain.Broken(
            f"record {position.next - 1} of {author}, epoch {claimed.epoch} was changed, or later ones removed: "
            "it is not where the signed head stands.",
            sequence=position.next - 1,
        )
    return position


def _why_anew(path: Path, author: AgentId, key: signing.PublicKey) -> str | None:
    """Why the file cannot be continued: None, "fresh", "damaged" or "restored"."""
    if not path.exists():
        return "fresh"
    try:
        if not _has_head(path):
            return None
        position = verify(path, author, key)
    except errors.Corrupt as error:
        log.error("journal_damaged", detail=str(error))
        return "damaged"
    mark = _mark_path(path)
    if mark.exists():
        marked = _position(mark.read_bytes())
        if marked.epoch == position.epoch and marked.next > position.next:
            return "restored"
    return None


def _has_head(path: Path) -> bool:
    """Whether anything was ever committed: a kill between making the file and its first record leaves an empty one."""
    database = sqlite3.connect(path)
    try:
        tables = {row[0] for row in database.execute("select name from sqlite_master")}
        return "meta" in tables and _meta(database, "head") is not None
    except sqlite3.Error as error:
        raise errors.Corrupt(f"The journal {path} is not a database: {error}.") from error
    finally:
        database.close()


def _connect(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, check_same_thread=False, timeout=10)
    database.execute("pragma journal_mode=wal")
    database.execute("pragma synchronous=full")
    return database


def _mark_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.mark")


def _stored(position: chain.Position, signature: bytes) -> bytes:
    return codec.pack((position.author, position.epoch, position.next, position.head, signature))


def _position(stored: bytes) -> chain.Position:
    match codec.unpack(stored):
        case (str(author), str(epoch), int(number), bytes(head), bytes(_)):
            return chain.Position(AgentId(author), Epoch(epoch), number, head)
    raise chain.Broken("A stored position of the journal is malformed.")


def _meta(database: sqlite3.Connection, name: str) -> bytes | None:
    row = database.execute("select value from meta where name = ?", (name,)).fetchone()
    return row[0] if row else None


def _set_meta(database: sqlite3.Connection, name: str, value: bytes) -> None:
    database.execute("insert into meta values (?, ?) on conflict (name) do update set value = excluded.value", (name, value))


def _finish(future: asyncio.Future[T], value: T) -> None:
    if not future.done():
        future.set_result(value)


def _fail(future: asyncio.Future[Written] | asyncio.Future[None], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
