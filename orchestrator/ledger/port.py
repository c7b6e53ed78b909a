"""Where the ledger is kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from sync.audit import chain
from sync.audit.tiles import Edge, Tile
from sync.kit import errors
from sync.kit.ids import AgentId, Epoch, TenantId


class Moved(errors.Retryable):
    """Another process has written to the ledger in between: look again, and try again."""

    code = "ledger_moved"


@dataclass(frozen=True, slots=True)
class Leaf:
    """One record's place in its tenant's tree."""

    tenant: TenantId
    index: int
    sequence: int
    entry: bytes


@dataclass(frozen=True, slots=True)
class Kept:
    """What is retained of a record. `subject`: a keyed digest of whom it is about, or empty; `key` is sealed to the tenant."""

    tenant: TenantId
    leaf: int
    author: AgentId
    epoch: Epoch
    sequence: int
    sealed: bytes
    key: bytes
    subject: bytes


@dataclass(frozen=True, slots=True)
class Incident:
    """What should not be: a gap, a fork, a broken chain. `evidence` is kept as it came."""

    author: AgentId
    epoch: Epoch
    kind: str
    why: str
    evidence: bytes


@dataclass(frozen=True, slots=True)
class Move:
    """An author's position before and after, with the wall clock of its newest record."""

    before: chain.Position
    after: chain.Position
    wall: float


@dataclass(frozen=True, slots=True)
class Growth:
    """A tenant's tree before and after, and the tiles that were filled."""

    before: Edge
    after: Edge
    tiles: tuple[Tile, ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """What one transaction leaves, or nothing of it. `leaves` of one author stand together, in order."""

    moves: Sequence[Move]
    growths: dict[TenantId, Growth]
    leaves: Sequence[tuple[chain.Position, Sequence[Leaf]]]
    kept: Sequence[Kept]


@dataclass(frozen=True, slots=True)
class Signed:
    """A tenant's newest checkpoint. `at` is when it was signed, in seconds since 1970."""

    size: int
    note: str
    at: float


@dataclass(frozen=True, slots=True)
class Part:
    """Neighbouring leaves that one author's records have in a tree: `sequences` of the records, from leaf `first_leaf` on."""

    tenant: TenantId
    first_leaf: int
    sequences: tuple[int, ...]


class LedgerStore(Protocol):
    """The ledger's rows. All raise StoreUnavailable."""

    async def position(self, author: AgentId, epoch: Epoch) -> tuple[chain.Position, float]:
        """How far this author's records are held, and the wall clock of the newest; the start and 0 where none is."""
        ...

    async def link_at(self, author: AgentId, epoch: Epoch, sequence: int) -> bytes | None:
        """The hash of a record that is held."""
        ...

    async def edges(self, tenants: Iterable[TenantId]) -> dict[TenantId, Edge]:
        """The right edges of these tenants' trees; empty ones where there is nothing yet."""
        ...

    async def append(self, batch: Batch, *, at: float) -> None:
        """All of it in one transaction, or nothing. Raises Moved where a position or a tree is not as the batch has it before."""
        ...

    async def record_incident(self, incident: Incident, *, at: float) -> None: ...

    async def generation(self) -> int:
        """How often the ledger was restored from a backup."""
        ...

    async def begin_generation(self, at_least: int) -> int:
        """Begins a new generation, of at least this number; it."""
        ...

    async def unsigned(self, *, before: float) -> list[TenantId]:
        """The tenants whose trees grew since their checkpoint, or whose checkpoint is older than that."""
        ...

    async def add_checkpoint(self, tenant: TenantId, generation: int, signed: Signed) -> None: ...

    async def checkpoint(self, tenant: TenantId, generation: int) -> Signed | None:
        """The newest one of that generation."""
        ...

    async def parts(self, author: AgentId, epoch: Epoch, first: int, limit: int) -> list[Part]:
        """Where this author's records stand, from number `first` on, for at most about `limit` of them."""
        ...

    async def tiles(self, tenant: TenantId, wanted: Iterable[tuple[int, int]]) -> dict[tuple[int, int], bytes]:
        """The hashes of these tiles, as far as there are any: full ones, and those at the right edge."""
        ...

    async def heard(self, authors: Mapping[tuple[AgentId, Epoch], chain.Position | None], *, at: float) -> None:
        """Notes that these authors were heard, and where they have said that their journals stand."""
        ...

    async def silent(self, *, since: float) -> list[AgentId]:
        """Authors that were not heard since then, each told once until it is heard again."""
        ...
