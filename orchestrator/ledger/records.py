"""The records of the ledger for people and programs: found, told as plain values, and shown to be in a tree."""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime

from orchestrator.ledger.segments import Segment, unpack
from sync.audit import chain, sealed
from sync.kit.ids import AgentId, Epoch, TenantId

PROOF_VERSION = "c2sp.org/tlog-proof@v1"


@dataclass(frozen=True, slots=True)
class Record:
    """One record at its place. `entry` is None where only its hash is left; `received_at` is the hub's time."""

    tenant: TenantId
    leaf: int
    author: AgentId
    epoch: Epoch
    sequence: int
    received_at: float
    item: bytes

    @property
    def entry(self) -> chain.Entry | None:
        return None if len(self.item) == sealed.LINK else chain.decode(self.item)

    @property
    def link(self) -> bytes:
        return sealed.link_of(self.item)

    def told(self) -> dict[str, object]:
        """The record as plain values for JSON: bytes in hex, times in ISO 8601."""
        entry = self.entry
        head: dict[str, object] = {
            "tenant": self.tenant, "leaf": self.leaf, "author": self.author, "epoch": self.epoch, "sequence": self.sequence,
            "received": moment(self.received_at),
        }  # fmt: skip
        if entry is None:
            return {**head, "expired": True, "hash": self.item.hex()}
        return {**head, "time": moment(entry.wall), "kind": entry.kind, **{k: _plain(v) for k, v in entry.fields.items()}}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which records are looked for. `fields` must be equal, as text; times are seconds since 1970."""

    kind: str = ""
    author: str = ""
    since: float = 0.0
    until: float = float("inf")
    fields: Mapping[str, str] | None = None

    @property
    def needles(self) -> list[bytes]:
        """Bytes that a segment with such a record has: it need not be read where it has not."""
        texts = [self.kind, *(value for value in (self.fields or {}).values() if not value.isdigit())]
        return [text.encode() for text in texts if text]

    def fits(self, record: Record) -> bool:
        entry = record.entry
        if entry is None or not self.since <= entry.wall < self.until:
            return False
        if (self.kind and entry.kind != self.kind) or (self.author and entry.author != self.author):
            return False
        return all(str(entry.fields.get(name)) == value for name, value in (self.fields or {}).items())


async def find(segments: AsyncGenerator[Segment], wanted: Wanted) -> AsyncGenerator[Record]:
    """The records that fit, in the order of the leaves. Who stops before the end closes it."""
    async with aclosing(segments):
        async for segment in segments:
            for record in of(segment):
                if wanted.fits(record):
                    yield record


def of(segment: Segment) -> list[Record]:
    """The records of a segment."""
    return [
        Record(segment.tenant, leaf, segment.author, segment.epoch, number, segment.received_at, item)
        for leaf, (number, item) in enumerate(unpack(segment.packed), segment.first_leaf)
    ]


def proof(leaf: int, hashes: Sequence[bytes], note: str) -> str:
    """An inclusion proof and its checkpoint as one file (c2sp.org/tlog-proof)."""
    lines = [PROOF_VERSION, f"index {leaf}", *(base64.b64encode(part).decode() for part in hashes)]
    return "\n".join(lines) + "\n\n" + note


def moment(at: float) -> str:
    """A time for people and programs: UTC, to the millisecond; as it is where it is none, which an author may claim."""
    try:
        return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        return str(at)


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, (tuple, list)):
        return [_plain(part) for part in value]
    if isinstance(value, dict):
        return {str(name): _plain(part) for name, part in value.items()}
    return value
