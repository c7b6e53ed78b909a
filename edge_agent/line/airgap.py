"""A site without a line: its journal leaves on a stick, and the hub's proofs, receipts and bundles come back on one."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

from edge_agent.identity.identity import Identity
from edge_agent.line.outbox import Outbox
from edge_agent.work.guard import Guard
from sync.audit import proving, replication, rows
from sync.bundle import snapshot
from sync.kit import errors, files, logs
from sync.kit.clock import Clock
from sync.kit.ids import SiteId, TenantId
from sync.wire import codec, parcels
from sync.wire.codec import MIB
from sync.wire.messages import MAX_ENVELOPE, Content, Proof, Receipt

log = logs.get("airgap")
INBOX = "inbox"
PARCEL_BYTES = 32 * MIB
Told = Callable[[int, int], None]
FromHub = Receipt | Proof | snapshot.Signed
FROM_HUB: tuple[type[FromHub], ...] = (Receipt, Proof, snapshot.Signed)


def export(journal: Path, me: Identity, to: Path, clock: Clock, told: Told) -> list[Path]:
    """Writes what the hub has not proved to hold, as parcels of signed envelopes. The agent may run meanwhile.

    Raises Misconfigured where there is no journal; nothing here is given up until the hub's answer comes back.
    """
    if not journal.exists():
        raise errors.Misconfigured(f"There is no journal {journal}: the agent has not run yet.", code="no_journal")
    database = sqlite3.connect(f"file:{journal}?mode=ro", uri=True, timeout=10)
    try:
        return _export(database, me, to, clock, told)
    except sqlite3.Error as error:
        raise errors.Misconfigured(f"The journal {journal} cannot be read: {error}.", code="journal_unusable") from error
    finally:
        database.close()


def _export(database: sqlite3.Connection, me: Identity, to: Path, clock: Clock, told: Told) -> list[Path]:
    head = rows.meta(database, rows.HEAD)
    if head is None:
        raise errors.Misconfigured("The journal has no record yet.", code="no_journal")
    position = rows.position(head)
    proved = rows.meta(database, rows.PROVED)
    first = int.from_bytes(proved, "big") if proved else 0
    pins = [
        proving.Pinned(TenantId(name.removeprefix(rows.PIN)), note.decode())
        for name, note in database.execute("select name, value from meta where name like 'pin:%'")
    ]
    asked = proving.request(position, first, pins, clock.wall(), me.keys.signer)
    to.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    frames, size, begin = [codec.encode(asked)], 0, first
    for frame, end in _envelopes(database, me, position.epoch, first, position.next):
        frames.append(frame)
        size += len(frame)
        told(end - first, position.next - first)
        if size >= PARCEL_BYTES:
            written.append(_write(to, me, position.epoch, begin, end, frames))
            frames, size, begin = [], 0, end
    if frames:
        written.append(_write(to, me, position.epoch, begin, position.next, frames))
    return written


def _envelopes(database: sqlite3.Connection, me: Identity, epoch: str, first: int, end: int) -> Iterator[tuple[bytes, int]]:
    while first < end:
        query = "select entry from entries where sequence >= ? and sequence < ? order by sequence limit ?"
        entries = [row[0] for row in database.execute(query, (first, end, MAX_ENVELOPE))]
        upto = first + len(entries)
        kept = "select sequence, sealed, key from contents where sequence >= ? and sequence < ? order by sequence"
        contents = [Content(*row) for row in database.execute(kept, (first, upto))]
        envelope = replication.make_envelope(me.id, epoch, first, entries, me.keys.signer, contents)  # type: ignore[arg-type]
        yield codec.encode(envelope), upto
        first = upto


def _write(to: Path, me: Identity, epoch: str, first: int, end: int, frames: list[bytes]) -> Path:
    path = to / f"journal-{me.id}-{epoch}-{first:012d}-{end:012d}.parcel"
    parcels.write(path, frames)
    return path


def take_in(source: Path, pattern: str, state: Path, me: Identity) -> list[str]:
    """Checks what came on a stick, and lays it where the agent takes it up; a sentence a file. Raises Misconfigured or Corrupt."""
    found = sorted(source.glob(pattern)) if source.is_dir() else [source]
    if not found:
        raise errors.Misconfigured(f"There is nothing for this agent in {source}: a hub writes {pattern}.", code="no_parcel")
    told = []
    for path in found:
        for frame in parcels.read(path):
            told.append(_checked(path, frame, me))
    inbox = files.make_private_folder(state / INBOX)
    for path in found:
        files.write_atomically(inbox / path.name, path.read_bytes(), mode=files.PRIVATE)
    return told


def _checked(path: Path, frame: bytes, me: Identity) -> str:
    """What a frame is, where it is for this agent and signed by its hub. Raises Corrupt or Misconfigured."""
    try:
        message: FromHub = codec.decode(frame, *FROM_HUB)
    except errors.Corrupt as error:
        raise parcels.BadParcel(f"{path} is not what a hub sends to an agent: {error}") from error
    if isinstance(message, snapshot.Signed):
        bundle = snapshot.open_signed(frame, me.hub_key, newer_than=0).bundle
        if bundle.site != SiteId(me.admission.site):
            raise errors.Misconfigured(
                f"{path} is for the site '{bundle.site}', and this is '{me.admission.site}'.", code="foreign_bundle"
            )
        return f"{path.name}: the bundle of serial {bundle.serial}"
    if message.agent != me.id:
        raise errors.Misconfigured(f"{path} is for the agent '{message.agent}', and this is '{me.id}'.", code="foreign_parcel")
    if isinstance(message, Receipt):
        replication.check_receipt(message, me.hub_key, me.id, message.epoch)
        return f"{path.name}: a receipt for {message.upto} records"
    return f"{path.name}: a proof of records {message.first} to {message.upto - 1}"


async def take_up(state: Path, outbox: Outbox, guard: Guard) -> None:
    """Takes what lies in the inbox, and clears it. What is wrong is reported by who takes it."""
    inbox = state / INBOX
    for path in sorted(inbox.glob("*.parcel")) if inbox.exists() else ():
        try:
            for frame in parcels.read(path):
                message: FromHub = codec.decode(frame, *FROM_HUB)
                if isinstance(message, Receipt):
                    await outbox.on_receipt(frame)
                elif isinstance(message, Proof):
                    await outbox.take_proof(frame)
                else:
                    guard.take(frame)
        except errors.RingfenceError as error:
            log.error("parcel_not_taken", path=str(path), code=error.code, detail=str(error))
        path.unlink(missing_ok=True)
