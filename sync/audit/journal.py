"""An author's own journal: an append-only, hash-chained log in SQLite, and sealed segments of what the hub holds.

One writer thread; WAL, `synchronous=FULL`; whatever has queued while the last commit was syncing goes into the next one, up to
`GROUP` records, so that a durable write costs a share of one fsync. `append` returns only after the commit.

Invariants, each with a test of its words:
- an append that returned is on disk: kill -9 loses none;
- a failed commit fails its appends and leaves the chain as it was;
- a record that cannot be written fails alone;
- a request that a record begins is begun once and ended once, in the same commits as the records that say so;
- a fresh, damaged or restored database starts a new epoch, whose first record names the old one;
- sealing and forgetting keep the rest verifiable;
- at its cap the journal gives up what the hub holds, the oldest first, and then refuses; it never drops what the hub lacks.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

from sync.audit import ballast, chain, kinds, open_requests, rows, sealed
from sync.audit.proving import Pinned
from sync.crypto import signing
from sync.kit import clock as clocks
from sync.kit import crashpoints, errors, files, ids, logs
from sync.kit.faults import Fault
from sync.kit.ids import AgentId, Epoch, TenantId
from sync.wire import codec
from sync.wire.messages import Content

log = logs.get("journal")
GROUP = 100
SIBLINGS, COMMIT_DELAY_S = 16, 0.004
"""With so many requests open, a commit waits for more records, as by PostgreSQL's `commit_siblings` and `commit_delay`."""
MAX_WAITING = 20_000
RECENT = 4096
"""Newest records kept in memory: whoever sends them on has no need of the disk."""
MARK_EVERY_S = 5.0
"""How often, at most, the file beside the database is brought up to date."""
SEAL_AT = 1024
"""Proved records that the database keeps before they are sealed together."""
CONTENT_KEPT_S = 24 * 3600.0
"""How long the contents of a record that the hub holds stay here too, in case that it asks for them again."""
CHECKED_AT_START = 5000
"""Newest records that are verified before anything is served; `audit` verifies the rest later."""
WARN_AT = (0.9, 0.7)
OUTCOME_ROOM = 4096
"""Bytes below the cap that a record which begins a request leaves: its outcome says the same and more."""
BEGINS_AT_MOST = chain.MAX_ENTRY - OUTCOME_ROOM
PLATFORM = TenantId("_platform")
"""The tenant of records that are about no tenant: an epoch's start, for one."""
T = TypeVar("T")


class AuditUnavailable(errors.RingfenceError):
    """The record is not on disk, so the request is refused: no answer without its record."""

    code = "audit_unavailable"


class NotWritten(AuditUnavailable, errors.Retryable):
    """The journal could not be written now."""


class RecordRefused(AuditUnavailable, errors.Refused):
    """This one record can never be written: trying again gives the same answer."""

    code = "record_refused"


class Written(NamedTuple):
    """Where a record stands: the proof that it is on disk."""

    sequence: int
    link: bytes


@dataclass(frozen=True, slots=True)
class Retained:
    """A record's contents before it has a number: see `messages.Content`."""

    sealed: bytes
    key: bytes


class _Append(NamedTuple):
    form: chain.Form
    fields: bytes
    retained: Retained | None
    claim: open_requests.Claim | None
    done: asyncio.Future[Written]
    loop: asyncio.AbstractEventLoop


@dataclass(slots=True)
class _Work:
    """Something else for the writer thread to do, between two groups."""

    run: Callable[[], object]
    done: asyncio.Future[object]
    loop: asyncio.AbstractEventLoop


class Journal:
    """The journal in one file. `open` before use; `close` writes what waits. `cap_bytes`: 0 for none."""

    def __init__(
        self, path: Path, author: AgentId, signer: signing.Signer, clock: clocks.Clock, *, cap_bytes: int = 0,
        on_fault: Callable[[Fault, str], None] = lambda fault, detail: log.error(fault.value, detail=detail),
    ) -> None:  # fmt: skip
        self._path = path
        self._author = author
        self._signer = signer
        self._clock = clock
        self._on_fault = on_fault
        self._work: queue.SimpleQueue[_Append | _Work | None] = queue.SimpleQueue()
        self._turn: list[_Append] = []
        """What was appended in this turn of the event loop: a thread that is woken by the first of many takes it alone."""
        self._thread: threading.Thread | None = None
        self._reading = threading.Lock()
        self._growing = threading.Lock()
        """Over the newest records and the position together: a reader that saw one without the other counts wrong."""
        self._ballast = ballast.Ballast(path.with_name(f"{path.name}.ballast"))
        self.position = chain.start(author, Epoch(""))
        self.first = 0
        """The first record that the database has; older ones lie in sealed segments."""
        self.proved = 0
        """The hub has proved that it holds the records below this number."""
        self.hub_seen = b""
        self.pins: dict[TenantId, Pinned] = {}
        self.cap_bytes = cap_bytes
        self.used_bytes = 0
        self._warned = 0.0
        self._recent: deque[bytes] = deque(maxlen=RECENT)
        self._marked_at = float("-inf")
        self._unmarked: bytes | None = None
        self.grew = asyncio.Event()
        self._requests = open_requests.OpenRequests()
        self._left: dict[str, chain.Entry] = {}
        """By request, the records that began what a former life of this process did not end."""

    @property
    def epoch(self) -> Epoch:
        return self.position.epoch

    @property
    def full(self) -> bool:
        """Whether records are refused for want of room."""
        return bool(self.cap_bytes) and self.used_bytes >= self.cap_bytes

    def open(self, anew: str | None = None) -> None:
        """Opens or makes the file and checks its newest records. Raises Misconfigured where the folder cannot be written.

        `anew`: begins another epoch for this reason, whatever is there.
        """
        reason = anew or _why_anew(self._path, self._author, self._signer.public_key)
        old: dict[str, object] = {}
        if reason is not None and self._path.exists():
            aside = self._path.with_name(f"{self._path.name}.{reason}-{ids.sortable()}")
            for suffix in ("", "-wal", "-shm"):
                part = Path(f"{self._path}{suffix}")
                if part.exists():
                    part.rename(f"{aside}{suffix}")
            old = {"reason": reason, "kept_as": aside.name}
            self._on_fault(Fault.JOURNAL_RESTARTED, f"the journal was {reason}; it is kept as {aside.name}")
        try:
            self._database = rows.connect(self._path)
            rows.make(self._database)
            self._load(old)
            self._reader = rows.connect(self._path)
        except sqlite3.Error as error:
            raise errors.Misconfigured(
                f"The journal {self._path} cannot be opened ({error}): check permissions and disk space.",
                code="journal_unusable",
            ) from error
        self._ballast.load()
        self._thread = threading.Thread(target=self._write, name="journal", daemon=True)
        self._thread.start()

    async def append(
        self, tenant: TenantId, kind: str, fields: dict[str, object], retained: Retained | None = None,
        *, opens: str = "", closes: str = "", goes_on: str = "",
    ) -> Written:  # fmt: skip
        """Return where the record stands, once it and what is retained of it are on disk.

        `opens`: the id of a request that the record begins, which is its field `request` too.
        `closes`: of one that it ends. `goes_on`: of one that is open, of which this record says more than
        the one that began it. All are noted in the commit that has the record. Where the
        caller is cancelled, its record is written all the same.

        Raise AuditUnavailable where the record is not on disk: NotWritten where it may be later,
        RecordRefused where it never can be. Raise Refused, `already_recorded`, where `opens` is open
        already, or `closes` is not open or is being closed.
        """
        # Packed here, and not where the group is committed, so that what cannot be written fails alone.
        # In line, because a call costs each record some hundredths of its price.
        try:
            packed = codec.pack(fields)
            form = self._form(tenant, kind)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise _unfit(kind) from error
        size = form.size + len(packed)
        most = BEGINS_AT_MOST if opens or goes_on else chain.MAX_ENTRY
        if size > most:
            raise _too_large(kind, size, most)
        if self._work.qsize() + len(self._turn) > MAX_WAITING:
            raise NotWritten("The audit journal is behind; try again.")
        claim = self._requests.claim(opens, closes, goes_on) if opens or closes or goes_on else None
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Written] = loop.create_future()
        if not self._turn:
            loop.call_soon(self._hand_over)
        self._turn.append(_Append(form, packed, retained, claim, done, loop))
        return await done

    def unfinished(self) -> list[chain.Entry]:
        """Return the records that began what a former life of this process did not end, the oldest first.

        Those that were ended since are not among them.
        """
        self._left = {request: entry for request, entry in self._left.items() if request in self._requests}
        return list(self._left.values())

    def check(self) -> None:
        """Returns where records can be written. Raises AuditUnavailable: work whose record has no room is not begun."""
        if self.full:
            raise _no_room(self.cap_bytes)

    async def prove(self, upto: int, pins: Sequence[Pinned], hub_seen: bytes) -> None:
        """Notes that the hub has proved to hold the records below `upto`; seals them when there are many."""
        await self._do(lambda: self._prove(upto, pins, hub_seen))

    async def answer(self) -> None:
        """Returns when the writer thread has done what waits: it lives, and its disk does."""
        await self._do(lambda: None)

    async def seal(self) -> None:
        """Seals every proved record, however few."""
        await self._do(lambda: self._seal(least=1))

    async def expire(self, gone: Callable[[chain.Entry], bool]) -> int:
        """Puts the hash in the place of each sealed record that is to go, and forgets old contents; how many went."""
        return int(str(await self._do(lambda: self._expire(gone))))

    async def erase(self, sequences: Sequence[int]) -> None:
        """Destroys the contents of these records."""
        await self._do(lambda: self._erase(sequences))

    async def receipted(self, upto: int) -> None:
        """Notes beside the database what the hub holds: a journal that knows less later was restored from a copy."""
        await self._do(lambda: self._note_receipt(upto))

    def read(self, first: int, limit: int) -> list[bytes]:
        """At most `limit` entries from number `first` on, in order. Blocks for a disk read where they are not recent."""
        with self._growing:
            recent, upto = list(self._recent), self.position.next
        begin = len(recent) - (upto - first)
        if 0 <= begin <= len(recent):
            return recent[begin : begin + limit]
        with self._reading:
            if first < self.first:
                return self._shelf.read(first, limit)
            found = self._reader.execute("select entry from entries where sequence >= ? order by sequence limit ?", (first, limit))
            return [row[0] for row in found]

    def contents(self, first: int, end: int) -> list[Content]:
        """What is retained of the records from `first` up to `end`."""
        with self._reading:
            query = "select sequence, sealed, key from contents where sequence >= ? and sequence < ? order by sequence"
            return [Content(*row) for row in self._reader.execute(query, (first, end))]

    def close(self) -> None:
        """Writes what waits, and closes the file."""
        if self._thread is not None:
            self._hand_over()
            self._work.put(None)
            self._thread.join(timeout=10)
            self._thread = None
            self._write_mark()
            self._reader.close()
            self._database.close()

    def _load(self, old: dict[str, object]) -> None:
        found = rows.meta(self._database, rows.HEAD)
        if found is None:
            self.position = chain.start(self._author, ids.epoch())
            self._shelf = rows.shelf(self._path, self._author, self.epoch)
            self._form = chain.forms(self._author, self.epoch)
            began = codec.pack({"reason": "fresh", **old})
            self._commit([_Append(self._form(PLATFORM, kinds.EPOCH), began, None, None, None, None)])  # type: ignore[arg-type]
        else:
            self.position = rows.position(found)
            self._form = chain.forms(self._author, self.epoch)
            self._shelf = rows.shelf(self._path, self._author, self.epoch)
        anchor = rows.meta(self._database, rows.ANCHOR)
        self.first = rows.position(anchor).next if anchor else 0
        self._shelf.drop_from(self.first)
        self._shelf.drop_below(rows.base(self._database, self._author, self.epoch, self._signer.public_key).next)
        proved = rows.meta(self._database, rows.PROVED)
        self.proved = int.from_bytes(proved, "big") if proved else self.first
        for name, note in self._database.execute("select name, value from meta where name like 'pin:%'"):
            tenant = TenantId(name.removeprefix(rows.PIN))
            self.pins[tenant] = Pinned(tenant, note.decode())
        self._left = open_requests.load(self._database, self._shelf, self.first)
        self._requests = open_requests.OpenRequests(self._left)
        self._measure()

    def _write(self) -> None:
        """The writer thread: takes what has queued, as groups, until it is told to end."""
        while True:
            item = self._work.get()
            if isinstance(item, _Append) and len(self._requests) >= SIBLINGS:
                time.sleep(COMMIT_DELAY_S)
            group: list[_Append] = []
            while isinstance(item, _Append):
                group.append(item)
                if len(group) == GROUP or self._work.empty():
                    break
                item = self._work.get()
            if group:
                self._settle(group)
            if isinstance(item, _Work):
                self._settle_work(item)
            elif item is None:
                return

    def _settle(self, group: list[_Append]) -> None:
        """Commits a group and tells each of its callers."""
        try:
            if self.full and not self._make_room():
                raise _no_room(self.cap_bytes)
            first, links = self.position.next, self._commit(group)
        except Exception as error:
            # Whatever it is, the callers are told, and the thread lives.
            if isinstance(error, AuditUnavailable):
                failure = error
            else:
                failure = NotWritten("The audit record could not be written, so the request was refused.", retry_after_s=5)
                self._on_fault(Fault.JOURNAL_WRITE_FAILED, str(error)[:200])

            def refuse() -> None:
                for item in group:
                    if item.claim is not None:
                        self._requests.settle(item.claim, written=False)
                    # One each: an error is told to one client, and carries what was decided about its request.
                    _fail(item.done, _again(failure))

            self._tell(group[0].loop, refuse)
            return
        crashpoints.reach("journal.committed")

        def tell() -> None:
            for number, (item, link) in enumerate(zip(group, links, strict=True), first):
                if item.claim is not None:
                    # Not behind the caller's await: one that was cancelled has its record all the same.
                    self._requests.settle(item.claim, written=True)
                _finish(item.done, Written(number, link))
            self.grew.set()

        self._tell(group[0].loop, tell)
        self._measure()

    def _commit(self, group: list[_Append]) -> list[bytes]:
        """The links of these records, once they are on disk."""
        number, head = self.position.next, self.position.head
        entries: list[bytes] = []
        links = []
        kept: list[tuple[int, Retained]] = []
        claims: list[tuple[open_requests.Claim, int]] = []
        wall = self._clock.wall()
        at, seen = chain.clocks(wall, self._clock.monotonic()), codec.pack(self.hub_seen)
        for form, fields, retained, claim, _, _ in group:
            entry = chain.assemble(form, number, at, head, seen, fields)
            head = chain.link(entry)
            entries.append(entry)
            links.append(head)
            if retained is not None:
                kept.append((number, retained))
            if claim is not None:
                claims.append((claim, number))
            number += 1
        position = chain.Position(self._author, self.position.epoch, number, head)
        with self._database:
            # One statement for the group: each step of SQLite gives up the interpreter, and has to win it back.
            places = ", ".join(["(?, ?)"] * len(entries))
            values = [value for row in enumerate(entries, self.position.next) for value in row]
            self._database.execute(f"insert into entries values {places}", values)
            for sequence, retained in kept:
                row = (sequence, wall, retained.sealed, retained.key)
                self._database.execute("insert into contents values (?, ?, ?, ?)", row)
            crashpoints.reach("journal.inserted")
            open_requests.note(self._database, claims)
            rows.set_meta(self._database, rows.HEAD, rows.stored(position, chain.sign_head(position, self._signer)))
        with self._growing:
            self._recent.extend(entries)
            self.position = position
        return links

    def _settle_work(self, item: _Work) -> None:
        """Does it; where the disk is full, the ballast is given up for it."""
        failure: errors.RingfenceError
        try:
            try:
                result = item.run()
            except (sqlite3.Error, errors.Misconfigured):
                if not self._ballast.drop():
                    raise
                result = item.run()
            self._tell(item.loop, lambda: _finish(item.done, result))
            self._ballast.load()
            self._measure()
        except errors.Corrupt as error:
            failure = error
            self._tell(item.loop, lambda: _fail(item.done, failure))
        except Exception as error:
            # As above: this thread outlives whatever it was asked to do.
            failure = NotWritten(f"The journal could not be changed ({error}).")
            self._tell(item.loop, lambda: _fail(item.done, failure))

    def _hand_over(self) -> None:
        for item in self._turn:
            self._work.put(item)
        self._turn.clear()

    async def _do(self, run: Callable[[], object]) -> object:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[object] = loop.create_future()
        self._hand_over()
        self._work.put(_Work(run, done, loop))
        return await done

    def _prove(self, upto: int, pins: Sequence[Pinned], hub_seen: bytes) -> None:
        if len(hub_seen) > chain.MAX_SEEN:
            raise errors.Corrupt(f"What is seen of the hub has {len(hub_seen)} bytes: a digest has {chain.MAX_SEEN}.")
        if upto <= self.proved:
            return
        with self._database:
            rows.set_meta(self._database, rows.PROVED, upto.to_bytes(8, "big"))
            for pinned in pins:
                rows.set_meta(self._database, f"{rows.PIN}{pinned.tenant}", pinned.note.encode())
        self.proved, self.hub_seen = upto, hub_seen
        self.pins.update({pinned.tenant: pinned for pinned in pins})
        crashpoints.reach("journal.proved")
        self._seal(least=SEAL_AT)

    def _seal(self, *, least: int) -> None:
        """Moves proved records into segments, once there are enough of them."""
        while self.proved - self.first >= least:
            upto = min(self.proved, self.first + sealed.MOST)
            query = "select entry from entries where sequence < ? order by sequence"
            items = tuple(row[0] for row in self._database.execute(query, (upto,)))
            segment = sealed.Segment(self._anchor(), items)
            crashpoints.reach("seal.begin")
            self._shelf.add(segment)
            crashpoints.reach("seal.written")
            with self._database:
                self._database.execute("delete from entries where sequence < ?", (upto,))
                rows.set_meta(self._database, rows.ANCHOR, rows.stored(segment.after, b""))
                crashpoints.reach("seal.deleted")
            with self._reading:
                self.first = upto
            crashpoints.reach("seal.committed")
            self._database.execute("pragma incremental_vacuum").fetchall()

    def _anchor(self) -> chain.Position:
        found = rows.meta(self._database, rows.ANCHOR)
        return rows.position(found) if found else chain.start(self._author, self.epoch)

    def _expire(self, gone: Callable[[chain.Entry], bool]) -> int:
        self._seal(least=1)
        count = self._shelf.expire(lambda item: gone(chain.decode(item)))
        crashpoints.reach("expire.rewritten")
        while (segment := next(self._shelf.segments(), None)) and all(len(item) == sealed.LINK for item in segment.items):
            self._forget(segment)
        with self._database:
            old = (self.proved, self._clock.wall() - CONTENT_KEPT_S)
            self._database.execute("delete from contents where sequence < ? and at < ?", old)
        return count

    def _forget(self, segment: sealed.Segment) -> None:
        """Drops the oldest segment, with a signed tombstone in its place: the chain goes on from there."""
        with self._database:
            rows.set_meta(self._database, rows.BASE, rows.sign_base(segment.after, self._signer))
            self._database.execute("delete from contents where sequence < ?", (segment.end,))
        crashpoints.reach("forget.signed")
        with self._reading:
            self._shelf.drop(segment.first)

    def _make_room(self) -> bool:
        """Gives up what the hub holds, the oldest first, until there is room; whether there is now."""
        self._seal(least=1)
        self._measure()
        while self.full and (segment := next(self._shelf.segments(), None)):
            self._forget(segment)
            self._measure()
        return not self.full

    def _erase(self, sequences: Sequence[int]) -> None:
        with self._database:
            self._database.executemany("delete from contents where sequence = ?", [(number,) for number in sequences])
        # What was deleted must not stay readable in the write-ahead log or in free pages.
        self._database.execute("pragma wal_checkpoint(truncate)").fetchall()
        self._database.execute("pragma incremental_vacuum").fetchall()

    def _note_receipt(self, upto: int) -> None:
        self._unmarked = rows.stored(chain.Position(self._author, self.epoch, upto, chain.GENESIS), b"")
        if self._clock.monotonic() - self._marked_at >= MARK_EVERY_S:
            self._write_mark()

    def _write_mark(self) -> None:
        if self._unmarked is not None:
            files.write_atomically(_mark_path(self._path), self._unmarked, mode=files.PRIVATE)
            self._unmarked, self._marked_at = None, self._clock.monotonic()

    def _measure(self) -> None:
        """How much is used now; says so where a threshold is passed upwards."""
        if not self.cap_bytes:
            return
        self.used_bytes = rows.size(self._database) + self._shelf.used_bytes
        share = self.used_bytes / self.cap_bytes
        level = next((at for at in (1.0, *WARN_AT) if share >= at), 0.0)
        if level > self._warned:
            fault = Fault.JOURNAL_FULL if level == 1.0 else Fault.JOURNAL_NEARLY_FULL
            self._on_fault(fault, f"{self.used_bytes >> 20} of {self.cap_bytes >> 20} MiB are used, {share:.0%}")
        self._warned = level

    @staticmethod
    def _tell(loop: asyncio.AbstractEventLoop, what: Callable[[], None]) -> None:
        try:
            loop.call_soon_threadsafe(what)
        except RuntimeError:
            log.warning("journal_caller_gone")


def _unfit(kind: str) -> RecordRefused:
    log.error("record_refused", kind=kind[:32])
    return RecordRefused("The audit record of this request holds what cannot be written. Nothing was done.")


def _too_large(kind: str, size: int, most: int) -> RecordRefused:
    log.warning("record_refused", kind=kind[:32], size=size)
    return RecordRefused(
        f"The audit record of this request would have {size} bytes, over its cap of {most}. "
        "Nothing was done: send shorter names, headers and ids."
    )


def _again(failure: AuditUnavailable) -> AuditUnavailable:
    """Return another error that says the same."""
    made = NotWritten(str(failure), code=failure.code, retry_after_s=getattr(failure, "retry_after_s", 1.0))
    made.__cause__ = failure
    return made


def _no_room(cap_bytes: int) -> AuditUnavailable:
    return NotWritten(
        f"The audit journal is at its cap of {cap_bytes >> 20} MiB and its records cannot leave: nothing is served until they can.",
        retry_after_s=60,
    )


def _why_anew(path: Path, author: AgentId, key: signing.PublicKey) -> str | None:
    """Why the file cannot be continued: None, "fresh", "damaged" or "restored"."""
    if not path.exists():
        return "fresh"
    try:
        if not rows.has_head(path):
            return None
        position = rows.verify(path, author, key, newest=CHECKED_AT_START)
    except errors.Corrupt as error:
        log.error("journal_damaged", detail=str(error))
        return "damaged"
    mark = _mark_path(path)
    if mark.exists():
        marked = rows.position(mark.read_bytes())
        if marked.epoch == position.epoch and marked.next > position.next:
            return "restored"
    return None


def _mark_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.mark")


def _finish(future: asyncio.Future[T], value: T) -> None:
    if not future.done():
        future.set_result(value)


def _fail(future: asyncio.Future[Written] | asyncio.Future[object], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
