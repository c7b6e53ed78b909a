"""What comes into the ledger, on a real database: gaps, forks, clocks, and what a hostile author might sign."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orchestrator.ledger.checkpoints import Checkpoints
from orchestrator.ledger.ingest import Ledger
from orchestrator.ledger.records import moment
from orchestrator.store.database import Database
from orchestrator.store.ledger import SqlLedger
from orchestrator.store.ledger_reading import SqlLedgerReader
from sync.audit import chain, proving, replication
from sync.crypto import signing
from sync.kit.clock import ManualClock
from sync.kit.faults import Fault, Faults
from sync.kit.ids import AgentId, Epoch, TenantId
from sync.kit.metrics import Registry
from sync.wire import codec
from sync.wire.messages import Envelope, ProofRequest
from tests.support import builders

ME, EPOCH = AgentId("agent-1"), Epoch("e1")
AGENT, HUB = signing.Signer(bytes(range(32))), signing.Signer(bytes(range(1, 33)))


class Hub:
    """A ledger in a file, and one author that writes to it."""

    def __init__(self, folder: Path, clock: ManualClock) -> None:
        self.path = folder / "ringfence.db"
        self.database = Database(self.path)
        self.faults = Faults(folder / "faults.json", Registry(), clock)
        store = SqlLedger(self.database)
        self.ledger = Ledger(store, HUB, clock, self.faults, lambda *_: b"")
        self.checkpoints = Checkpoints(store, HUB, clock, self.faults, folder / "mark")
        self.at = chain.start(ME, EPOCH)

    def envelope(self, count: int = 3, tenant: str = "acme", wall: float = 1000.0) -> Envelope:
        """The author's next records, signed and chained."""
        first, entries = self.at.next, []
        for _ in range(count):
            entry = chain.make(TenantId(tenant), ME, EPOCH, self.at.next, wall, 1.0, "run", self.at.head, b"", {})
            entries.append(entry)
            self.at = chain.Position(ME, EPOCH, self.at.next + 1, chain.link(entry))
        return replication.make_envelope(ME, EPOCH, first, entries, AGENT)

    async def take(self, *envelopes: Envelope) -> int:
        """Up to which record the receipt goes."""
        (receipt,) = await self.ledger.take([(envelope, AGENT.public_key) for envelope in envelopes])
        return receipt.upto

    async def incidents(self) -> list[tuple[str, str]]:
        return [(row.kind, row.why) for row in await SqlLedgerReader(self.database).incidents()]


@pytest.fixture
async def hub(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Hub]:
    made = Hub(tmp_path, clock)
    await made.database.open()
    yield made
    await made.database.close()


async def test_one_record_is_one_leaf_however_often_it_comes(hub: Hub) -> None:
    first, second = hub.envelope(), hub.envelope()
    assert await hub.take(first, first, second) == 6
    assert await hub.take(second, first) == 6
    assert await SqlLedgerReader(hub.database).sizes() == {"acme": 6}
    assert await hub.incidents() == []


async def test_a_gap_is_an_incident_and_fills_when_what_is_missing_comes(hub: Hub) -> None:
    first, second = hub.envelope(), hub.envelope()
    assert await hub.take(second) == 0
    assert await hub.incidents() == [("gap", "records 0 to 2 of agent-1 are missing")]
    assert await hub.take(first, second) == 6


async def test_of_two_records_with_one_number_the_first_stays_and_both_are_kept(hub: Hub) -> None:
    good = hub.envelope()
    other = builders.replaced(
        good, entries=(*good.entries[:2], chain.encode(builders.replaced(chain.decode(good.entries[2]), fields={"x": 1})))
    )
    other = replication.make_envelope(ME, EPOCH, 0, other.entries, AGENT)
    assert await hub.take(good) == 3 and await hub.take(other) == 3
    (row,) = await SqlLedgerReader(hub.database).incidents()
    assert row.kind == "fork" and codec.decode(row.evidence, Envelope).entries == other.entries
    assert hub.faults.noted[Fault.LEDGER_FORK].count == 1
    await hub.take(other)
    assert hub.faults.noted[Fault.LEDGER_FORK].count == 1, "the same one again is the same fault"


async def test_a_clock_that_runs_back_by_a_day_is_an_incident_and_the_records_are_taken(hub: Hub) -> None:
    assert await hub.take(hub.envelope(wall=100_000.0)) == 3
    assert await hub.take(hub.envelope(wall=100_000.0 - 86_400)) == 6
    assert await hub.incidents() == [("clock", "the clock of agent-1 went back by 86400 s at record 3")]


HOSTILE = {
    "a tenant that no name is": {"tenant": "../../etc"},
    "a tenant of sixty thousand letters": {"tenant": "a" * 200},
    "a time that is no number": {"wall": float("nan")},
    "a time without end": {"wall": float("inf")},
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_what_no_author_of_ours_writes_is_an_incident_and_stops_nobody_else(hub: Hub, name: str) -> None:
    assert await hub.take(hub.envelope()) == 3
    before = hub.at
    assert await hub.take(hub.envelope(**HOSTILE[name])) == 3  # type: ignore[arg-type]
    assert [kind for kind, _ in await hub.incidents()] == ["broken"]
    hub.at = before
    assert await hub.take(hub.envelope()) == 6


def test_a_time_that_an_author_claims_is_shown_as_it_is() -> None:
    assert moment(0.0) == "1970-01-01T00:00:00.000+00:00"
    assert [moment(at) for at in (float("nan"), float("inf"), 1e300)] == ["nan", "inf", "1e+300"]


async def test_an_author_that_asks_for_proofs_of_nonsense_gets_none(hub: Hub) -> None:
    await hub.take(hub.envelope())
    await hub.checkpoints.sign()
    for first in (-5, 3, 2**62):
        asked = proving.request(hub.at, first, (), 1.0, AGENT)
        assert await hub.checkpoints.prove(asked) is None
    proof = await hub.checkpoints.prove(proving.request(hub.at, 0, (), 1.0, AGENT))
    assert proof is not None and (proof.first, proof.upto) == (0, 3)


def test_a_number_that_no_database_holds_is_refused_on_the_wire() -> None:
    asked = proving.request(chain.Position(ME, EPOCH, 2**63, bytes(32)), 0, (), 1.0, AGENT)
    with pytest.raises(codec.BadFrame):
        codec.decode(codec.encode(asked), ProofRequest)


async def test_a_database_that_another_process_has_written_to_is_looked_at_again(
    hub: Hub, tmp_path: Path, clock: ManualClock
) -> None:
    other = Hub(tmp_path, clock)
    first, second = hub.envelope(), hub.envelope()
    assert await hub.take(first) == 3
    assert await other.take(second) == 6
    third = hub.envelope()
    assert await hub.take(third) == 9
    await other.database.close()
    with sqlite3.connect(hub.path) as database:
        (size,) = database.execute("select size from ledger_trees").fetchone()
    database.close()
    assert size == 9
