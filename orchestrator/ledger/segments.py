"""Segments: leaves that came together, of one tenant and one author, as one stored row."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from orchestrator.ledger.port import Leaf
from sync.kit import errors
from sync.kit.ids import AgentId, Epoch, TenantId
from sync.wire import codec, messages

LONGEST = messages.MAX_ENVELOPE
"""Leaves in one segment."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One stored row. `packed` is msgpack `[[sequence, entry], …]`, in the order of the leaves."""

    tenant: TenantId
    first_leaf: int
    author: AgentId
    epoch: Epoch
    first_sequence: int
    received_at: float
    packed: bytes


def by_tenant(leaves: Iterable[Leaf]) -> dict[TenantId, list[Leaf]]:
    found: dict[TenantId, list[Leaf]] = {}
    for leaf in leaves:
        found.setdefault(leaf.tenant, []).append(leaf)
    return found


def pack(entries: Sequence[tuple[int, bytes]]) -> bytes:
    return codec.pack(entries)


def unpack(packed: bytes) -> list[tuple[int, bytes]]:
    """The (sequence, entry) pairs of a segment; the hash stands for an entry whose time is over. Raises Corrupt."""
    pairs = codec.unpack(packed)
    if not isinstance(pairs, tuple) or not all(
        isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], int) and isinstance(pair[1], bytes) for pair in pairs
    ):
        raise errors.Corrupt("A segment of the ledger holds what is no record.", code="bad_segment")
    return list(pairs)
