"""Where the ledger is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from sync.audit import chain, merkle
from sync.kit.ids import AgentId, Epoch, TenantId


@dataclass(frozen=True, slots=True)
class Leaf:
    """One record's place in its tenant's tree."""

    tenant: TenantId
    index: int
    sequence: int
    entry: bytes


@dataclass(frozen=True, slots=True)
class Incident:
    """What should not be: a gap, a fork, a broken chain. `evidence` is kept as it came."""

    author: AgentId
    epoch: Epoch
    kind: str
    why: str
    evidence: bytes


@dataclass(frozen=True, slots=True)
class Stored:
    """What one transaction leaves: the author's position, and the trees that grew."""

    position: chain.Position
    trees: dict[TenantId, merkle.Tree]
    leaves: Sequence[Leaf]


class LedgerStore(Protocol):
    """The ledger's rows. All raise StoreUnavailable."""

    async def position(self, author: AgentId, epoch: Epoch) -> chain.Position:
        """How far this author's records are held; the start where none is."""
        ...

    async def link_at(self, author: AgentId, epoch: Epoch, sequence: int) -> bytes | None:
        """The hash of a record that is held."""
        ...

    async def trees(self, tenants: Sequence[TenantId]) -> dict[TenantId, merkle.Tree]:
        """The trees of these tenants; empty ones where there is nothing yet."""
        ...

    async def append(self, stored: Stored, *, at: float) -> None:
        """All of it in one transaction, or nothing."""
        ...

    async def record_incident(self, incident: Incident, *, at: float) -> None: ...

    async def unsigned_trees(self) -> dict[TenantId, merkle.Tree]:
        """The trees that grew since their last checkpoint."""
        ...

    async def add_checkpoint(self, tenant: TenantId, size: int, note: str, *, at: float) -> None: ...
