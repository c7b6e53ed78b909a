"""From envelopes to leaves: continuity is checked, the trees grow, and a receipt says so.

Invariants, each with a test of its words:
- a receipt is given only for what a transaction has stored;
- one record is one leaf, however often it comes;
- a gap, a fork or a broken chain is recorded as an incident, and nothing of it becomes a leaf.
"""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from orchestrator.ledger.port import Batch, Growth, Incident, Kept, Leaf, LedgerStore, Move, Moved
from sync.audit import chain, replication
from sync.audit.journal import PLATFORM
from sync.audit.replication import Intake, Outcome
from sync.audit.tiles import Edge
from sync.crypto import signing
from sync.kit import crashpoints, ids, logs
from sync.kit.clock import Clock
from sync.kit.faults import Fault, Faults
from sync.kit.ids import AgentId, Epoch, TenantId
from sync.wire import codec
from sync.wire.messages import Content, Envelope, Receipt

log = logs.get("ledger")
TRIES = 5
KEPT_TREES = 1000
"""Right edges that are kept in memory, at most some 25 KB each."""
BACKWARDS_S = 60.0
"""An author's clock that goes back further than this is an incident."""
FAULTS = {
    "gap": Fault.LEDGER_GAP, "fork": Fault.LEDGER_FORK, "broken": Fault.LEDGER_BROKEN, "clock": Fault.CLOCK_BACKWARDS,
}  # fmt: skip
SubjectOf = Callable[[TenantId, Content], bytes]
"""A keyed digest of whom a record is about, from what is sealed beside it; empty where nobody is named."""
_Author = tuple[AgentId, Epoch]
_ByTenant = dict[TenantId, list[tuple[int, bytes, bytes]]]
"""Records by their tenant: number, bytes and hash of each."""


@dataclass(slots=True)
class _Draft:
    """What a batch of envelopes comes to, before it is stored."""

    positions: dict[_Author, tuple[chain.Position, float]]
    edges: dict[TenantId, Edge]
    moves: dict[_Author, Move] = field(default_factory=dict)
    growths: dict[TenantId, Growth] = field(default_factory=dict)
    leaves: list[tuple[chain.Position, list[Leaf]]] = field(default_factory=list)
    kept: list[Kept] = field(default_factory=list)
    incidents: list[Incident] = field(default_factory=list)


class Ledger:
    """The one that writes the ledger in this process; others may write beside it."""

    def __init__(self, store: LedgerStore, signer: signing.Signer, clock: Clock, faults: Faults, subject_of: SubjectOf) -> None:
        self._store = store
        self._signer = signer
        self._clock = clock
        self._faults = faults
        self._subject_of = subject_of
        self._one_at_a_time = asyncio.Lock()
        self._positions: dict[_Author, tuple[chain.Position, float]] = {}
        self._edges: dict[TenantId, Edge] = {}
        self._told: OrderedDict[tuple[str, ...], None] = OrderedDict()
        """Incidents that were reported: the same one again is the same fault, not another."""

    async def take(self, envelopes: Sequence[tuple[Envelope, signing.PublicKey]]) -> list[Receipt]:
        """The receipts for all that is held of these authors, with the envelopes' records where they fit: one transaction."""
        async with self._one_at_a_time:
            for _ in range(TRIES):
                try:
                    return await self._take(envelopes)
                except Moved:
                    self.forget()
            return await self._take(envelopes)

    async def receipt(self, author: AgentId, epoch: Epoch) -> Receipt:
        """The receipt for what is held of an author already."""
        position, _ = await self._store.position(author, epoch)
        return replication.make_receipt(position, self._clock.wall(), self._signer)

    def forget(self) -> None:
        """Forgets what is remembered of the store, which somebody else has changed."""
        self._positions.clear()
        self._edges.clear()

    async def _take(self, envelopes: Sequence[tuple[Envelope, signing.PublicKey]]) -> list[Receipt]:
        draft = _Draft(dict(self._positions), dict(self._edges))
        crashpoints.reach("ingest.received")
        for envelope, key in envelopes:
            await self._add(draft, envelope, key)
        crashpoints.reach("ingest.verified")
        if draft.moves:
            batch = Batch(list(draft.moves.values()), draft.growths, draft.leaves, draft.kept)
            await self._store.append(batch, at=self._clock.wall())
            crashpoints.reach("ingest.committed")
        self._positions, self._edges = draft.positions, draft.edges
        if len(self._edges) > KEPT_TREES:
            self._edges.clear()
        for incident in draft.incidents:
            await self._report(incident)
        now = self._clock.wall()
        authors = dict.fromkeys((envelope.agent, envelope.epoch) for envelope, _ in envelopes)
        return [replication.make_receipt((await self._position(author))[0], now, self._signer) for author in authors]

    async def _add(self, draft: _Draft, envelope: Envelope, key: signing.PublicKey) -> None:
        author = envelope.agent, envelope.epoch
        if author not in draft.positions:
            draft.positions[author] = await self._position(author)
        position, wall = draft.positions[author]
        try:
            known = await self._known_head(envelope, position)
            intake = replication.receive(position, envelope, key, known)
        except chain.Broken as error:
            draft.incidents.append(_incident(envelope, "broken", str(error)))
            return
        if intake.outcome is Outcome.NEW:
            newest, records = chain.wall_of(intake.entries[-1]), _by_tenant(intake, position)
            if unfit := _unfit(newest, records):
                why = f"{envelope.agent} sent a record {unfit}, at or after record {position.next}"
                draft.incidents.append(_incident(envelope, "broken", why))
                return
            if newest < wall - BACKWARDS_S:
                why = f"the clock of {envelope.agent} went back by {wall - newest:.0f} s at record {position.next}"
                draft.incidents.append(Incident(envelope.agent, envelope.epoch, "clock", why, b""))
            await self._grow(draft, records, position, envelope.contents)
            before = draft.moves[author].before if author in draft.moves else position
            draft.moves[author] = Move(before, intake.position, newest)
            draft.positions[author] = intake.position, newest
        elif intake.outcome is not Outcome.DUPLICATE:
            if author not in draft.moves and (await self._store.position(*author))[0] != position:
                raise Moved(f"Records of {envelope.agent} came by another way in between.")
            draft.incidents.append(_incident(envelope, intake.outcome.value, intake.why))

    async def _grow(
        self, draft: _Draft, by_tenant: _ByTenant, before: chain.Position, contents: Sequence[Content]
    ) -> None:  # fmt: skip
        """Adds the entries to their trees in the draft, with what is retained of them."""
        missing = [tenant for tenant in by_tenant if tenant not in draft.edges]
        if missing:
            draft.edges.update(await self._store.edges(missing))
        leaves: dict[int, Leaf] = {}
        for tenant, records in by_tenant.items():
            edge = draft.edges[tenant]
            grown, tiles = edge.extend([link for _, _, link in records])
            earlier = draft.growths.get(tenant)
            draft.growths[tenant] = Growth(
                earlier.before if earlier else edge, grown, (*(earlier.tiles if earlier else ()), *tiles)
            )
            draft.edges[tenant] = grown
            for index, (number, entry, _) in enumerate(records, edge.size):
                leaves[number] = Leaf(tenant, index, number, entry)
        draft.leaves.append((before, [leaves[number] for number in sorted(leaves)]))
        for content in contents:
            leaf = leaves.get(content.sequence)
            if leaf is not None:
                subject = self._subject_of(leaf.tenant, content)
                draft.kept.append(
                    Kept(
                        leaf.tenant, leaf.index, before.author, before.epoch, content.sequence, content.sealed, content.key, subject
                    )
                )

    async def _position(self, author: _Author) -> tuple[chain.Position, float]:
        known = self._positions.get(author)
        if known is None:
            known = self._positions[author] = await self._store.position(*author)
        return known

    async def _known_head(self, envelope: Envelope, position: chain.Position) -> bytes | None:
        last = envelope.first + len(envelope.entries) - 1
        if last >= position.next:
            return None
        return await self._store.link_at(envelope.agent, envelope.epoch, last)

    async def _report(self, incident: Incident) -> None:
        told = (incident.author, incident.epoch, incident.kind, incident.why)
        if told in self._told:
            return
        self._told[told] = None
        if len(self._told) > KEPT_TREES:
            self._told.popitem(last=False)
        self._faults.note(FAULTS[incident.kind], incident.why)
        await self._store.record_incident(incident, at=self._clock.wall())


def _by_tenant(intake: Intake, before: chain.Position) -> _ByTenant:
    found: _ByTenant = {}
    for number, (entry, link) in enumerate(zip(intake.entries, intake.links, strict=True), before.next):
        found.setdefault(chain.tenant_of(entry), []).append((number, entry, link))
    return found


def _unfit(newest: float, records: _ByTenant) -> str:
    """What no author of ours writes, though it is signed and chained; empty where there is no such thing."""
    nobody = next((tenant for tenant in records if tenant != PLATFORM and not ids.is_name(tenant)), None)
    if nobody is not None:
        return f"of a tenant '{nobody[:60]}'"
    return "" if math.isfinite(newest) else "of no time"


def _incident(envelope: Envelope, kind: str, why: str) -> Incident:
    return Incident(envelope.agent, envelope.epoch, kind, why, codec.encode(envelope))
