"""The ledger, in SQL."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import insert, select, update
from sqlalchemy.dialects.sqlite import insert as upsert

from orchestrator.ledger import segments
from orchestrator.ledger.port import Incident, Stored
from orchestrator.ledger.segments import Segment
from orchestrator.store import tables
from orchestrator.store.database import Database
from sync.audit import chain, merkle
from sync.kit.ids import AgentId, Epoch, TenantId

HASH = 32


class SqlLedger:
    """The LedgerStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def position(self, author: AgentId, epoch: Epoch) -> chain.Position:
        t = tables.authors
        async with self._database.reading() as connection:
            row = (await connection.execute(select(t).where(t.c.author == author, t.c.epoch == epoch))).first()
        return chain.Position(author, epoch, row.next, row.head) if row else chain.start(author, epoch)

    async def link_at(self, author: AgentId, epoch: Epoch, sequence: int) -> bytes | None:
        t = tables.segments
        found = select(t.c.entries).where(
            t.c.author == author, t.c.epoch == epoch, t.c.first_sequence <= sequence, t.c.last_sequence >= sequence
        )
        async with self._database.reading() as connection:
            packed = (await connection.scalars(found)).all()
        entries = (pair for segment in packed for pair in segments.unpack(segment))
        return next((chain.link(entry) for number, entry in entries if number == sequence), None)

    async def trees(self, tenants: Sequence[TenantId]) -> dict[TenantId, merkle.Tree]:
        t = tables.trees
        async with self._database.reading() as connection:
            rows = await connection.execute(select(t).where(t.c.tenant.in_(tenants)))
            found = {TenantId(row.tenant): _tree(row.size, row.peaks) for row in rows}
        return {tenant: found.get(tenant, merkle.Tree()) for tenant in tenants}

    async def append(self, stored: Stored, *, at: float) -> None:
        position = stored.position
        rows = [
            {
                "tenant": tenant, "first_leaf": leaves[0].index, "leaves": len(leaves), "author": position.author,
                "epoch": position.epoch, "first_sequence": leaves[0].sequence, "last_sequence": leaves[-1].sequence,
                "received_at": at, "entries": segments.pack([(leaf.sequence, leaf.entry) for leaf in leaves]),
            }
            for tenant, leaves in segments.by_tenant(stored.leaves).items()
        ]  # fmt: skip
        trees = [
            {"tenant": tenant, "size": tree.size, "peaks": b"".join(tree.peaks), "signed_size": 0}
            for tenant, tree in stored.trees.items()
        ]
        grow = upsert(tables.trees)
        move = upsert(tables.authors)
        async with self._database.writing() as connection:
            await connection.execute(insert(tables.segments), rows)
            await connection.execute(
                grow.on_conflict_do_update(
                    index_elements=["tenant"], set_={"size": grow.excluded.size, "peaks": grow.excluded.peaks}
                ),
                trees,
            )
            await connection.execute(
                move.on_conflict_do_update(
                    index_elements=["author", "epoch"], set_={"next": move.excluded.next, "head": move.excluded.head}
                ),
                [{"author": position.author, "epoch": position.epoch, "next": position.next, "head": position.head}],
            )

    async def record_incident(self, incident: Incident, *, at: float) -> None:
        row = {"at": at, "author": incident.author, "epoch": incident.epoch, "kind": incident.kind, "why": incident.why}
        async with self._database.writing() as connection:
            await connection.execute(insert(tables.incidents).values(**row, evidence=incident.evidence))

    async def unsigned_trees(self) -> dict[TenantId, merkle.Tree]:
        t = tables.trees
        async with self._database.reading() as connection:
            rows = await connection.execute(select(t).where(t.c.size > t.c.signed_size))
            return {TenantId(row.tenant): _tree(row.size, row.peaks) for row in rows}

    async def add_checkpoint(self, tenant: TenantId, size: int, note: str, *, at: float) -> None:
        async with self._database.writing() as connection:
            await connection.execute(insert(tables.checkpoints).values(tenant=tenant, size=size, signed_at=at, note=note))
            await connection.execute(update(tables.trees).where(tables.trees.c.tenant == tenant).values(signed_size=size))

    async def segments(self) -> list[Segment]:
        """Everything that is stored, by tenant and leaf."""
        t = tables.segments
        async with self._database.reading() as connection:
            rows = await connection.execute(select(t).order_by(t.c.tenant, t.c.first_leaf))
            return [
                Segment(TenantId(r.tenant), r.first_leaf, AgentId(r.author), Epoch(r.epoch), r.first_sequence, r.entries)
                for r in rows
            ]

    async def positions(self) -> dict[tuple[AgentId, Epoch], chain.Position]:
        async with self._database.reading() as connection:
            rows = (await connection.execute(select(tables.authors))).all()
        found = [chain.Position(AgentId(r.author), Epoch(r.epoch), r.next, r.head) for r in rows]
        return {(position.author, position.epoch): position for position in found}

    async def notes(self) -> list[tuple[TenantId, str]]:
        t = tables.checkpoints
        async with self._database.reading() as connection:
            rows = await connection.execute(select(t.c.tenant, t.c.note).order_by(t.c.tenant, t.c.size))
            return [(TenantId(row.tenant), row.note) for row in rows]

    async def incidents(self) -> list[tuple[str, str, str]]:
        """(kind, author, why) of each, the oldest first."""
        t = tables.incidents
        async with self._database.reading() as connection:
            rows = await connection.execute(select(t.c.kind, t.c.author, t.c.why).order_by(t.c.id))
            return [(row.kind, row.author, row.why) for row in rows]


def _tree(size: int, peaks: bytes) -> merkle.Tree:
    return merkle.Tree(size, tuple(peaks[i : i + HASH] for i in range(0, len(peaks), HASH)))
