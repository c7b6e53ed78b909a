"""From envelopes to leaves: continuity is checked, the trees grow, and a receipt says so.

Invariants, each with a test of its words:
- a receipt is given only for what a transaction has stored;
- one record is one leaf, however often it comes;
- a gap, a fork or a broken chain is recorded as an incident, and nothing of it becomes a leaf.
"""

from __future__ import annotations

import asyncio

from orchestrator.ledger.port import Incident, Leaf, LedgerStore, Stored
from sync.audit import chain, checkpoint, replication
from sync.audit.replication import Outcome
from sync.crypto import signing
from sync.kit import logs
from sync.kit.clock import Clock
from sync.kit.ids import AgentId, Epoch, TenantId
from sync.wire import codec
from sync.wire.messages import Envelope, Receipt

log = logs.get("ledger")
ORIGIN = "ringfence/ledger"
SIGNER_NAME = "ringfence-hub"


class Ledger:
    """The one that writes the ledger, one envelope at a time."""

    def __init__(self, store: LedgerStore, signer: signing.Signer, clock: Clock) -> None:
        self._store = store
        self._signer = signer
        self._clock = clock
        self._one_at_a_time = asyncio.Lock()
        self._positions: dict[tuple[AgentId, Epoch], chain.Position] = {}

    async def take(self, envelope: Envelope, key: signing.PublicKey) -> Receipt:
        """The receipt for all that is held of this author and epoch, with the envelope's records where they fit."""
        async with self._one_at_a_time:
            position = await self._position(envelope.agent, envelope.epoch)
            try:
                known = await self._known_head(envelope, position)
                intake = replication.receive(position, envelope, key, known)
            except chain.Broken as error:
                await self._report(envelope, "broken", str(error))
                return replication.make_receipt(position, self._clock.wall(), self._signer)
            if intake.outcome is Outcome.NEW:
                await self._append(intake.entries, position, intake.position)
            elif intake.outcome is not Outcome.DUPLICATE:
                await self._report(envelope, intake.outcome.value, intake.why)
            return replication.make_receipt(intake.position, self._clock.wall(), self._signer)

    async def receipt(self, author: AgentId, epoch: Epoch) -> Receipt | None:
        """The receipt for what is held of an author already, or None where that is nothing."""
        position = await self._position(author, epoch)
        return replication.make_receipt(position, self._clock.wall(), self._signer) if position.next else None

    async def sign_checkpoints(self) -> int:
        """Signs a checkpoint for each tree that grew; how many."""
        grown = await self._store.unsigned_trees()
        for tenant, tree in grown.items():
            note = checkpoint.sign(checkpoint.Checkpoint(origin(tenant), tree.size, tree.root()), SIGNER_NAME, self._signer)
            await self._store.add_checkpoint(tenant, tree.size, note, at=self._clock.wall())
        return len(grown)

    async def _position(self, author: AgentId, epoch: Epoch) -> chain.Position:
        known = self._positions.get((author, epoch))
        if known is None:
            known = self._positions[author, epoch] = await self._store.position(author, epoch)
        return known

    async def _known_head(self, envelope: Envelope, position: chain.Position) -> bytes | None:
        last = envelope.first + len(envelope.entries) - 1
        if last >= position.next:
            return None
        return await self._store.link_at(envelope.agent, envelope.epoch, last)

    async def _append(self, entries: tuple[bytes, ...], before: chain.Position, after: chain.Position) -> None:
        tenants = [chain.decode(entry).tenant for entry in entries]
        trees = dict(await self._store.trees(sorted(set(tenants))))
        leaves = []
        for number, (tenant, entry) in enumerate(zip(tenants, entries, strict=True), before.next):
            leaves.append(Leaf(tenant, trees[tenant].size, number, entry))
            trees[tenant] = trees[tenant].append(chain.link(entry))
        await self._store.append(Stored(after, trees, leaves), at=self._clock.wall())
        self._positions[after.author, after.epoch] = after

    async def _report(self, envelope: Envelope, kind: str, why: str) -> None:
        log.error("ledger_incident", kind=kind, author=envelope.agent, epoch=envelope.epoch, why=why)
        incident = Incident(envelope.agent, envelope.epoch, kind, why, codec.encode(envelope))
        await self._store.record_incident(incident, at=self._clock.wall())


def origin(tenant: TenantId) -> str:
    """The first line of a tenant's checkpoints."""
    return f"{ORIGIN}/{tenant}"
