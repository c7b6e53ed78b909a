"""The ledger, in SQL."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import ColumnElement, and_, func, insert, select, union_all, update
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from orchestrator.ledger import segments
from orchestrator.ledger.port import Batch, Incident, Move, Moved, Part, Signed
from orchestrator.store import tables
from orchestrator.store.database import Database
from sync.audit import chain, tiles
from sync.audit.sealed import link_of
from sync.audit.tiles import WIDTH, Edge
from sync.kit import crashpoints
from sync.kit.ids import AgentId, Epoch, TenantId

EDGES = 100
"""Right edges that are kept in memory."""


class SqlLedger:
    """The LedgerStore."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._edges: dict[TenantId, tuple[int, tuple[tuple[bytes, ...], ...]]] = {}

    async def position(self, author: AgentId, epoch: Epoch) -> tuple[chain.Position, float]:
        t = tables.authors
        async with self._database.reading() as connection:
            row = (await connection.execute(select(t).where(t.c.author == author, t.c.epoch == epoch))).first()
        if row is None:
            return chain.start(author, epoch), 0.0
        return chain.Position(author, epoch, row.next, row.head), row.wall

    async def link_at(self, author: AgentId, epoch: Epoch, sequence: int) -> bytes | None:
        t = tables.segments
        found = select(t.c.entries).where(
            t.c.author == author, t.c.epoch == epoch, t.c.first_sequence <= sequence, t.c.last_sequence >= sequence, _near(sequence)
        )
        async with self._database.reading() as connection:
            packed = (await connection.scalars(found)).all()
        items = (pair for segment in packed for pair in segments.unpack(segment))
        return next((link_of(item) for number, item in items if number == sequence), None)

    async def edges(self, tenants: Iterable[TenantId]) -> dict[TenantId, Edge]:
        found = dict.fromkeys(tenants, Edge())
        async with self._database.reading() as connection:
            rows = await connection.execute(select(tables.trees).where(tables.trees.c.tenant.in_(list(found))))
            for row in rows.all():
                tenant = TenantId(row.tenant)
                found[tenant] = Edge(row.size, await _levels(connection, tenant, row.size))
        return found

    async def append(self, batch: Batch, *, at: float) -> None:
        rows = [
            {
                "tenant": tenant, "first_leaf": leaves[0].index, "leaves": len(leaves), "author": before.author,
                "epoch": before.epoch, "first_sequence": leaves[0].sequence, "last_sequence": leaves[-1].sequence,
                "received_at": at, "entries": segments.pack([(leaf.sequence, leaf.entry) for leaf in leaves]),
            }
            for before, of_author in batch.leaves
            for tenant, leaves in segments.by_tenant(of_author).items()
        ]  # fmt: skip
        full = [
            {"tenant": tenant, "level": tile.level, "number": tile.index, "root": tile.root, "hashes": tile.hashes}
            for tenant, growth in batch.growths.items()
            for tile in growth.tiles
        ]
        kept = [
            {
                "tenant": k.tenant, "leaf": k.leaf, "author": k.author, "epoch": k.epoch, "sequence": k.sequence, "at": at,
                "subject": k.subject, "sealed": k.sealed, "key": k.key,
            }
            for k in batch.kept
        ]  # fmt: skip
        async with self._database.writing() as connection:
            for move in batch.moves:
                await _move_author(connection, move, at)
            for tenant, growth in batch.growths.items():
                await _grow_tree(connection, tenant, growth.before.size, growth.after.size)
            await connection.execute(insert(tables.segments), rows)
            if full:
                await connection.execute(insert(tables.tiles), full)
            if kept:
                await connection.execute(insert(tables.contents), kept)
            crashpoints.reach("ingest.inserted")

    async def record_incident(self, incident: Incident, *, at: float) -> None:
        row = {"at": at, "author": incident.author, "epoch": incident.epoch, "kind": incident.kind, "why": incident.why}
        async with self._database.writing() as connection:
            await connection.execute(insert(tables.incidents).values(**row, evidence=incident.evidence))

    async def generation(self) -> int:
        async with self._database.reading() as connection:
            return int(await connection.scalar(select(tables.revision.c.generation)) or 0)

    async def begin_generation(self, at_least: int) -> int:
        t = tables.revision
        async with self._database.writing() as connection:
            await connection.execute(update(t).values(generation=func.max(t.c.generation + 1, at_least)))
            await connection.execute(update(tables.trees).values(signed_size=0, signed_at=0.0))
            return int(await connection.scalar(select(t.c.generation)) or 0)

    async def unsigned(self, *, before: float) -> list[TenantId]:
        t = tables.trees
        async with self._database.reading() as connection:
            found = await connection.scalars(select(t.c.tenant).where((t.c.size > t.c.signed_size) | (t.c.signed_at < before)))
            return [TenantId(tenant) for tenant in found]

    async def add_checkpoint(self, tenant: TenantId, generation: int, signed: Signed) -> None:
        row = {"tenant": tenant, "generation": generation, "size": signed.size, "signed_at": signed.at, "note": signed.note}
        add = upsert(tables.checkpoints).values(**row)
        add = add.on_conflict_do_update(
            index_elements=["tenant", "generation", "size"], set_={"signed_at": signed.at, "note": signed.note}
        )
        t = tables.trees
        async with self._database.writing() as connection:
            await connection.execute(add)
            await connection.execute(
                update(t).where(t.c.tenant == tenant).values(signed_size=signed.size, signed_at=signed.at)
            )  # fmt: skip

    async def checkpoint(self, tenant: TenantId, generation: int) -> Signed | None:
        t = tables.checkpoints
        newest = select(t).where(t.c.tenant == tenant, t.c.generation == generation).order_by(t.c.size.desc()).limit(1)
        async with self._database.reading() as connection:
            row = (await connection.execute(newest)).first()
        return Signed(row.size, row.note, row.signed_at) if row else None

    async def parts(self, author: AgentId, epoch: Epoch, first: int, limit: int) -> list[Part]:
        t = tables.segments
        found = (
            select(t.c.tenant, t.c.first_leaf, t.c.entries)
            .where(
                t.c.author == author,
                t.c.epoch == epoch,
                t.c.last_sequence >= first,
                t.c.first_sequence < first + limit,
                _near(first),
            )
            .order_by(t.c.first_sequence)
        )
        async with self._database.reading() as connection:
            rows = (await connection.execute(found)).all()
        return [
            Part(TenantId(row.tenant), row.first_leaf, tuple(number for number, _ in segments.unpack(row.entries))) for row in rows
        ]

    async def tiles(self, tenant: TenantId, wanted: Iterable[tuple[int, int]]) -> dict[tuple[int, int], bytes]:
        asked = set(wanted)
        async with self._database.reading() as connection:
            size = int(await connection.scalar(select(tables.trees.c.size).where(tables.trees.c.tenant == tenant)) or 0)
            full = {(level, number) for level, number in asked if number < size >> (tiles.HEIGHT * (level + 1))}
            found = await _full_tiles(connection, tenant, full)
            if rest := asked - full:
                levels = await self._edge(connection, tenant, size)
                for level, number in rest:
                    if level < len(levels) and number == (size >> (tiles.HEIGHT * level)) // WIDTH:
                        found[level, number] = b"".join(levels[level])
        return found

    async def _edge(self, connection: AsyncConnection, tenant: TenantId, size: int) -> tuple[tuple[bytes, ...], ...]:
        """The right edge of a tenant's tree, which every proof from a tree of this size has in common."""
        known, levels = self._edges.get(tenant, (0, ()))
        if known != size:
            levels = await _levels(connection, tenant, size)
            self._edges[tenant] = size, levels
            if len(self._edges) > EDGES:
                del self._edges[next(iter(self._edges))]
        return levels

    async def heard(self, authors: Mapping[tuple[AgentId, Epoch], chain.Position | None], *, at: float) -> None:
        t = tables.authors
        async with self._database.writing() as connection:
            for (author, epoch), claimed in authors.items():
                values: dict[str, Any] = {"heard_at": at, "silent_told": False}
                if claimed is not None:
                    values["claimed_next"] = func.max(t.c.claimed_next, claimed.next)
                await connection.execute(update(t).where(t.c.author == author, t.c.epoch == epoch).values(**values))

    async def silent(self, *, since: float) -> list[AgentId]:
        t = tables.authors
        newest = select(t.c.author, func.max(t.c.heard_at).label("at")).group_by(t.c.author).subquery()
        late = select(t.c.author).join(newest, and_(t.c.author == newest.c.author, t.c.heard_at == newest.c.at))
        async with self._database.writing() as connection:
            found = (await connection.scalars(late.where(newest.c.at < since, t.c.silent_told.is_(False)))).all()
            if found:
                await connection.execute(update(t).where(t.c.author.in_(found)).values(silent_told=True))
        return [AgentId(author) for author in found]


def _near(sequence: int) -> ColumnElement[bool]:
    """Segments that may hold a record: none is longer than an envelope. Without this, a look-up begins at an author's first one."""
    return tables.segments.c.first_sequence > sequence - segments.LONGEST


async def _full_tiles(connection: AsyncConnection, tenant: TenantId, wanted: set[tuple[int, int]]) -> dict[tuple[int, int], bytes]:
    if not wanted:
        return {}
    t = tables.tiles
    by_level: dict[int, list[int]] = {}
    for level, number in wanted:
        by_level.setdefault(level, []).append(number)
    # One look-up a level: for `(level, number) in (…)`, or for an OR, SQLite goes through a tenant's every tile.
    columns = select(t.c.level, t.c.number, t.c.hashes)
    looked_up = [
        columns.where(t.c.tenant == tenant, t.c.level == level, t.c.number.in_(numbers)) for level, numbers in by_level.items()
    ]
    rows = await connection.execute(union_all(*looked_up))
    return {(row.level, row.number): row.hashes for row in rows}


async def _levels(connection: AsyncConnection, tenant: TenantId, size: int) -> tuple[tuple[bytes, ...], ...]:
    """What stands at the right edge of a tree of this size: its last leaf hashes, above them the roots of its last full tiles."""
    levels: list[tuple[bytes, ...]] = []
    level = 0
    while level == 0 or size >> (tiles.HEIGHT * level):
        nodes = size >> (tiles.HEIGHT * level)
        first = nodes - nodes % WIDTH
        if level == 0:
            levels.append(await _leaf_links(connection, tenant, first, nodes))
        else:
            t = tables.tiles
            wanted = select(t.c.root).where(t.c.tenant == tenant, t.c.level == level - 1, t.c.number >= first, t.c.number < nodes)
            levels.append(tuple((await connection.scalars(wanted.order_by(t.c.number))).all()))
        level += 1
    return tuple(levels)


async def _leaf_links(connection: AsyncConnection, tenant: TenantId, first: int, end: int) -> tuple[bytes, ...]:
    t = tables.segments
    # A segment is never longer than an envelope: that bounds how far before `first` the one begins that reaches over it.
    near = (t.c.first_leaf > first - segments.LONGEST) & (t.c.first_leaf < end)
    rows = await connection.execute(select(t.c.first_leaf, t.c.entries).where(t.c.tenant == tenant, near).order_by(t.c.first_leaf))
    return tuple(
        link_of(item)
        for row in rows
        for leaf, (_, item) in enumerate(segments.unpack(row.entries), row.first_leaf)
        if first <= leaf < end
    )  # fmt: skip


async def _move_author(connection: AsyncConnection, move: Move, at: float) -> None:
    """Moves an author on, where it stands at the position before. Raises Moved."""
    t, before, after = tables.authors, move.before, move.after
    values = {"next": after.next, "head": after.head, "wall": move.wall, "heard_at": at, "silent_told": False}
    if before.next == 0:
        row = {"author": after.author, "epoch": after.epoch, "claimed_next": 0, **values}
        done = await connection.execute(upsert(t).values(**row).on_conflict_do_nothing())
    else:
        here = and_(t.c.author == after.author, t.c.epoch == after.epoch, t.c.next == before.next, t.c.head == before.head)
        done = await connection.execute(update(t).where(here).values(**values))
    if done.rowcount != 1:
        raise Moved(f"Records of {after.author} came by another way in between.")


async def _grow_tree(connection: AsyncConnection, tenant: TenantId, before: int, after: int) -> None:
    """Raises Moved where the tree is not of the size before."""
    t = tables.trees
    if before == 0:
        row = {"tenant": tenant, "size": after, "signed_size": 0, "signed_at": 0.0}
        done = await connection.execute(upsert(t).values(**row).on_conflict_do_nothing())
    else:
        done = await connection.execute(update(t).where(t.c.tenant == tenant, t.c.size == before).values(size=after))
    if done.rowcount != 1:
        raise Moved(f"The ledger of '{tenant}' has grown in between.")
