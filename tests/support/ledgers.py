"""Ledgers of any size, made as a hub makes them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from orchestrator.ledger.checkpoints import Checkpoints
from orchestrator.ledger.ingest import Ledger
from orchestrator.store.database import Database
from orchestrator.store.ledger import SqlLedger
from sync.audit import chain, replication
from sync.bus.nats import FETCH
from sync.crypto import signing
from sync.kit.clock import SystemClock
from sync.kit.faults import Faults
from sync.kit.ids import AgentId, Epoch, TenantId
from sync.kit.metrics import Registry
from sync.wire.messages import MAX_ENVELOPE, Envelope

TENANT, AUTHOR, EPOCH = TenantId("t"), AgentId("bench"), Epoch("e" * 20)
Batch = list[tuple[Envelope, signing.PublicKey]]


class Filling:
    """The ledger in a hub's folder, and an author that fills it. The fields are those of each record."""

    def __init__(self, folder: Path, signer: signing.Signer, fields: dict[str, object]) -> None:
        self.database = Database(folder / "ringfence.db")
        self._signer = signer
        self.store = SqlLedger(self.database)
        clock, faults = SystemClock(), Faults(folder / "faults.json", Registry(), SystemClock())
        self.ledger = Ledger(self.store, signer, clock, faults, lambda *_: b"")
        self.checkpoints = Checkpoints(self.store, signer, clock, faults, folder / "ledger.mark")
        self._fields = fields
        self._at = chain.start(AUTHOR, EPOCH)

    def batches(self, count: int) -> Iterator[Batch]:
        """Envelopes of the next records, as many at a time as a hub takes from its broker."""
        for _ in range(0, count, MAX_ENVELOPE * FETCH):
            yield [(self._envelope(), self._signer.public_key) for _ in range(FETCH)]

    def _envelope(self) -> Envelope:
        first, entries = self._at.next, []
        for _ in range(MAX_ENVELOPE):
            entry = chain.make(TENANT, AUTHOR, EPOCH, self._at.next, 1.7e9, 1.0, "run", self._at.head, b"", self._fields)
            entries.append(entry)
            self._at = chain.Position(AUTHOR, EPOCH, self._at.next + 1, chain.link(entry))
        return replication.make_envelope(AUTHOR, EPOCH, first, entries, self._signer)

    async def take(self, batches: list[Batch]) -> float:
        """Records a second into the ledger, its checkpoint included."""
        began = time.perf_counter()
        for batch in batches:
            await self.ledger.take(batch)
        await self.checkpoints.sign()
        return sum(len(envelope.entries) for batch in batches for envelope, _ in batch) / (time.perf_counter() - began)
