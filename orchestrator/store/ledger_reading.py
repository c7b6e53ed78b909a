"""What people and proofs read of the ledger, in SQL: streamed, so that its size is no matter."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.dialects.sqlite import insert as upsert

from orchestrator.ledger.segments import Segment
from orchestrator.store import tables
from orchestrator.store.database import Database
from sync.audit import chain
from sync.audit.tiles import Tile
from sync.kit.ids import AgentId, Epoch, TenantId

AT_ONCE = 200
"""Rows that are read from the database at a time."""


@dataclass(frozen=True, slots=True)
class AuthorRow:
    """How an author stands: what is held of it, what it has claimed to have, and when it was heard (seconds since 1970)."""

    position: chain.Position
    claimed_next: int
    heard_at: float


@dataclass(frozen=True, slots=True)
class IncidentRow:
    """One incident as it was recorded."""

    id: int
    at: float
    author: AgentId
    epoch: Epoch
    kind: str
    why: str
    evidence: bytes


class SqlLedgerReader:
    """Reads the ledger, and remembers how far others have read it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def sizes(self) -> dict[TenantId, int]:
        """How many records each tenant's tree has."""
        async with self._database.reading() as connection:
            rows = await connection.execute(select(tables.trees.c.tenant, tables.trees.c.size).order_by(tables.trees.c.tenant))
            return {TenantId(row.tenant): row.size for row in rows}

    async def authors(self) -> list[AuthorRow]:
        async with self._database.reading() as connection:
            rows = await connection.execute(select(tables.authors).order_by(tables.authors.c.author, tables.authors.c.heard_at))
            return [
                AuthorRow(chain.Position(AgentId(r.author), Epoch(r.epoch), r.next, r.head), r.claimed_next, r.heard_at)
                for r in rows
            ]

    async def notes(self, tenant: TenantId) -> list[str]:
        """All checkpoints of a tenant's tree, the smallest first."""
        t = tables.checkpoints
        async with self._database.reading() as connection:
            found = await connection.scalars(select(t.c.note).where(t.c.tenant == tenant).order_by(t.c.size, t.c.generation))
            return list(found)

    async def incidents(self, *, after: int = 0) -> list[IncidentRow]:
        """The incidents, the oldest first."""
        t = tables.incidents
        async with self._database.reading() as connection:
            rows = await connection.execute(select(t).where(t.c.id > after).order_by(t.c.id))
            return [IncidentRow(r.id, r.at, AgentId(r.author), Epoch(r.epoch), r.kind, r.why, r.evidence) for r in rows]

    async def segments(
        self, tenant: TenantId, *, from_leaf: int = 0, since: float = 0.0, containing: Iterable[bytes] = ()
    ) -> AsyncGenerator[Segment]:
        """The segments of a tenant's tree, in the order of the leaves; of those that came since then and have all these bytes."""
        t = tables.segments
        wanted = select(t).where(t.c.tenant == tenant, t.c.first_leaf + t.c.leaves > from_leaf)
        if from_leaf:
            wanted = wanted.where(t.c.first_leaf > from_leaf - AT_ONCE)
        if since:
            wanted = wanted.where(t.c.received_at >= since)
        needles = tuple(containing)
        async with self._database.reading() as connection:
            rows = await connection.stream(wanted.order_by(t.c.first_leaf))
            async for some in rows.partitions(AT_ONCE):
                for r in some:
                    if all(needle in r.entries for needle in needles):
                        yield Segment(
                            tenant, r.first_leaf, AgentId(r.author), Epoch(r.epoch), r.first_sequence, r.received_at, r.entries
                        )  # fmt: skip

    async def tiles(self, tenant: TenantId) -> AsyncIterator[Tile]:
        """Every stored tile of a tenant's tree."""
        t = tables.tiles
        async with self._database.reading() as connection:
            rows = await connection.stream(select(t).where(t.c.tenant == tenant))
            async for some in rows.partitions(AT_ONCE):
                for row in some:
                    yield Tile(row.level, row.number, row.root, row.hashes)

    async def forwarded(self, sink: str, tenant: TenantId) -> int:
        """The first leaf of a tenant's tree that a receiver has not had."""
        t = tables.forwarded
        async with self._database.reading() as connection:
            query = select(t.c.next_leaf).where(t.c.sink == sink, t.c.tenant == tenant)
            return int(await connection.scalar(query) or 0)

    async def set_forwarded(self, sink: str, tenant: TenantId, next_leaf: int) -> None:
        add = upsert(tables.forwarded).values(sink=sink, tenant=tenant, next_leaf=next_leaf)
        add = add.on_conflict_do_update(index_elements=["sink", "tenant"], set_={"next_leaf": next_leaf})
        async with self._database.writing() as connection:
            await connection.execute(add)
