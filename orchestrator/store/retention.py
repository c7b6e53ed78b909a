"""What is retained, what is to be destroyed, and what is held, in SQL."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import delete, insert, select, update

from orchestrator.ledger import segments
from orchestrator.store import tables
from orchestrator.store.database import Database, record
from sync.audit import chain
from sync.audit.sealed import LINK
from sync.kit import crashpoints, ids
from sync.kit.ids import AgentId, Epoch, TenantId
from sync.wire import codec

EXPIRE_AT_ONCE = 200
"""Segments that one transaction of the retention looks at."""
EVERYTHING = b""
"""The subject of a hold on all of a tenant."""


@dataclass(frozen=True, slots=True)
class ContentRow:
    """What is retained of one record."""

    tenant: TenantId
    leaf: int
    author: AgentId
    epoch: Epoch
    sequence: int
    at: float
    subject: bytes
    sealed: bytes
    key: bytes

    @property
    def erased(self) -> bool:
        return not self.key


@dataclass(frozen=True, slots=True)
class Hold:
    """A legal hold on a subject, or on everything of a tenant: nothing of it is destroyed until it is lifted."""

    id: str
    tenant: TenantId
    subject: bytes
    reason: str
    since: float


@dataclass(frozen=True, slots=True)
class Order:
    """What one author still has to destroy."""

    erasure: str
    author: AgentId
    epoch: Epoch
    sequences: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Erasure:
    """One erasure, and the authors that have not confirmed it yet."""

    id: str
    tenant: TenantId
    reason: str
    records: int
    at: float
    waiting: tuple[AgentId, ...]


class SqlRetention:
    """The contents beside the ledger, and its retention."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of_subject(self, tenant: TenantId, subject: bytes) -> list[ContentRow]:
        """What is retained about a subject, by its digest."""
        t = tables.contents
        return await self._contents((t.c.tenant == tenant) & (t.c.subject == subject))

    async def of_record(self, tenant: TenantId, leaf: int) -> list[ContentRow]:
        t = tables.contents
        return await self._contents((t.c.tenant == tenant) & (t.c.leaf == leaf))

    async def erase(self, tenant: TenantId, rows: Sequence[ContentRow], reason: str, own: AgentId, *, at: float) -> str:
        """Destroys contents, orders the same of the agents that wrote them, and has it recorded: one transaction. Its id."""
        erasure = f"era_{ids.sortable()}"
        by_author: dict[tuple[AgentId, Epoch], list[int]] = {}
        for row in rows:
            by_author.setdefault((row.author, row.epoch), []).append(row.sequence)
        t = tables.contents
        async with self._database.writing() as connection:
            for row in rows:
                gone = update(t).where(t.c.tenant == tenant, t.c.leaf == row.leaf)
                await connection.execute(gone.values(key=b"", sealed=b"", subject=b"", erased_at=at))
            told = {"id": erasure, "tenant": tenant, "reason": reason, "records": len(rows), "at": at}
            await connection.execute(insert(tables.erasures).values(**told))
            for (author, epoch), sequences in by_author.items():
                order = {"erasure": erasure, "author": author, "epoch": epoch, "sequences": codec.pack(sorted(sequences))}
                await connection.execute(insert(tables.erasure_orders).values(**order, confirmed_at=None))
            leaves = tuple(sorted(row.leaf for row in rows))
            fields: dict[str, object] = {"erasure": erasure, "records": len(rows), "leaves": leaves[:1000], "reason": reason}
            await record(connection, "erasure", fields, tenant)
            crashpoints.reach("erase.ordered")
        await self._database.checkpoint()
        return erasure

    async def orders(self) -> list[Order]:
        """What was not confirmed yet."""
        t = tables.erasure_orders
        async with self._database.reading() as connection:
            rows = await connection.execute(select(t).where(t.c.confirmed_at.is_(None)))
            return [Order(r.erasure, AgentId(r.author), Epoch(r.epoch), codec.unpack(r.sequences)) for r in rows]

    async def confirm(self, order: Order, *, at: float) -> None:
        t = tables.erasure_orders
        here = (t.c.erasure == order.erasure) & (t.c.author == order.author) & (t.c.epoch == order.epoch)
        async with self._database.writing() as connection:
            await connection.execute(update(t).where(here).values(confirmed_at=at))

    async def erasures(self) -> list[Erasure]:
        waiting: dict[str, list[AgentId]] = {}
        for order in await self.orders():
            waiting.setdefault(order.erasure, []).append(order.author)
        async with self._database.reading() as connection:
            rows = await connection.execute(select(tables.erasures).order_by(tables.erasures.c.at))
            return [
                Erasure(r.id, TenantId(r.tenant), r.reason, r.records, r.at, tuple(waiting.get(r.id, ()))) for r in rows
            ]  # fmt: skip

    async def holds(self, tenant: TenantId | None = None) -> list[Hold]:
        """The holds in force."""
        t = tables.holds
        wanted = select(t).where(t.c.lifted_at.is_(None)).order_by(t.c.since)
        async with self._database.reading() as connection:
            rows = await connection.execute(wanted if tenant is None else wanted.where(t.c.tenant == tenant))
            return [Hold(r.id, TenantId(r.tenant), r.subject, r.reason, r.since) for r in rows]

    async def hold(self, tenant: TenantId, subject: bytes, reason: str, *, at: float) -> str:
        made = f"hold_{ids.sortable()}"
        async with self._database.writing() as connection:
            row = {"id": made, "tenant": tenant, "subject": subject, "reason": reason, "since": at}
            await connection.execute(insert(tables.holds).values(**row, lifted_at=None))
            await record(connection, "hold", {"hold": made, "reason": reason, "all": not subject}, tenant)
        return made

    async def lift(self, hold: str, *, at: float) -> bool:
        """Whether there was such a hold in force."""
        t = tables.holds
        async with self._database.writing() as connection:
            row = (await connection.execute(select(t).where(t.c.id == hold, t.c.lifted_at.is_(None)))).first()
            if row is not None:
                await connection.execute(update(t).where(t.c.id == hold).values(lifted_at=at))
                await record(connection, "hold", {"hold": hold, "lifted": True}, row.tenant)
        return row is not None

    async def expire(
        self, tenant: TenantId, is_over: Callable[[chain.Entry], bool], before: float, *, at: float, after: int = 0
    ) -> tuple[int, int | None]:
        """Puts their hash in the place of records whose time is over, of segments that came before then.

        How many, and the leaf to go on from, or None where all was looked at: one transaction looks at so many segments.
        """
        t, held = tables.segments, {hold.subject for hold in await self.holds(tenant)}
        if EVERYTHING in held:
            return 0, None
        old = select(t.c.first_leaf, t.c.entries).where(
            t.c.tenant == tenant, t.c.expired_at.is_(None), t.c.received_at < before, t.c.first_leaf >= after
        )
        count = 0
        async with self._database.writing() as connection:
            rows = (await connection.execute(old.order_by(t.c.first_leaf).limit(EXPIRE_AT_ONCE))).all()
            for row in rows:
                pairs = segments.unpack(row.entries)
                kept = await self._held_leaves(tenant, row.first_leaf, row.first_leaf + len(pairs), held)
                gone = [
                    len(item) != LINK and leaf not in kept and is_over(chain.decode(item))
                    for leaf, (_, item) in enumerate(pairs, row.first_leaf)
                ]
                if not any(gone):
                    continue
                count += sum(gone)
                now = [(number, chain.link(item) if over else item) for (number, item), over in zip(pairs, gone, strict=True)]
                whole = at if all(len(item) == LINK for _, item in now) else None
                here = (t.c.tenant == tenant) & (t.c.first_leaf == row.first_leaf)
                await connection.execute(update(t).where(here).values(entries=segments.pack(now), expired_at=whole))
                c = tables.contents
                leaves = [leaf for leaf, over in enumerate(gone, row.first_leaf) if over]
                await connection.execute(delete(c).where(c.c.tenant == tenant, c.c.leaf.in_(leaves)))
            if count:
                await record(connection, "retention", {"records": count}, tenant)
            crashpoints.reach("retention.written")
        return count, rows[-1].first_leaf + 1 if len(rows) == EXPIRE_AT_ONCE else None

    async def pending(self) -> list[tuple[int, TenantId, str, dict[str, object]]]:
        """What is to be put into the audit log: number, tenant, kind and fields, the oldest first."""
        t = tables.pending
        async with self._database.reading() as connection:
            rows = await connection.execute(select(t).order_by(t.c.id).limit(EXPIRE_AT_ONCE))
            return [(r.id, TenantId(r.tenant), r.kind, codec.unpack(r.fields)) for r in rows]

    async def recorded(self, number: int) -> None:
        async with self._database.writing() as connection:
            await connection.execute(delete(tables.pending).where(tables.pending.c.id == number))

    async def _held_leaves(self, tenant: TenantId, first: int, end: int, held: set[bytes]) -> set[int]:
        if not held:
            return set()
        t = tables.contents
        found = select(t.c.leaf).where(t.c.tenant == tenant, t.c.leaf >= first, t.c.leaf < end, t.c.subject.in_(held))
        async with self._database.reading() as connection:
            return set(await connection.scalars(found))

    async def _contents(self, which: object) -> list[ContentRow]:
        t = tables.contents
        async with self._database.reading() as connection:
            rows = await connection.execute(select(t).where(which).order_by(t.c.leaf))  # type: ignore[arg-type]
            return [
                ContentRow(
                    TenantId(r.tenant), r.leaf, AgentId(r.author), Epoch(r.epoch), r.sequence, r.at, r.subject, r.sealed, r.key
                )
                for r in rows
            ]
