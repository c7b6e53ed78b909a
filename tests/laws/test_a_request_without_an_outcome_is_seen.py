"""One request, one outcome, for those who look: a request that has only what was decided, because
the process was killed, is found, proved, told to whom it is about and let go like any other.

Mutations that turn these red:
- `one_row._RANKS` without `decided`, or a search that asks for the kind `request`: it is not found once;
- `audit subject` that looks at the kind `request` alone: it is not told;
- `level_of` that reads the level of outcomes only: it is kept for another time than the request.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edge_agent import agent
from orchestrator.commands import audit
from orchestrator.ledger import export
from orchestrator.ledger.checkpoints import Checkpoints
from orchestrator.ledger.ingest import Ledger
from orchestrator.ledger.records import Record
from orchestrator.ledger.secrets import Secrets
from orchestrator.records import retention, siem
from orchestrator.store.database import Database
from orchestrator.store.ledger import SqlLedger
from orchestrator.store.retention import SqlRetention
from sync.audit import chain, contents, kinds, replication
from sync.audit.journal import Journal
from sync.audit.unfinished import close_unfinished
from sync.bundle.snapshot import Retention
from sync.crypto import keyring
from sync.kit.clock import ManualClock
from sync.kit.faults import Faults
from sync.kit.ids import AgentId, Epoch, TenantId
from sync.kit.metrics import Registry
from sync.wire.levels import Level
from tests.support import builders

T, HUB = TenantId("acme"), AgentId("_hub")
DAY_S = 86_400.0


class Hub:
    """A hub's folder with a ledger, which the command line reads, and the hub's own journal."""

    def __init__(self, folder: Path, clock: ManualClock) -> None:
        self.folder = folder
        self.clock = clock
        self.keys = keyring.load_or_create(folder / "hub-keys.json")
        self.secrets = Secrets(self.keys.at_rest)
        self.journal = self.open()

    def open(self) -> Journal:
        self.journal = Journal(self.folder / "journal.db", HUB, self.keys.signer, self.clock)
        self.journal.open()
        return self.journal

    async def decide(self, request: str, *, level: str = "restricted", subject: str = "", principal: str = "app") -> None:
        """What is on disk of a request when its first agent gets it."""
        fields: dict[str, object] = {"request": request, "principal": principal, "level": level, "agent": "f1"}
        kept = contents.retain(T, self.secrets.public(T), (), "", subject, whole=False)
        await self.journal.append(T, kinds.DECIDED, fields, kept, opens=request)

    async def fail_over(self, request: str, *, level: str = "restricted") -> None:
        fields: dict[str, object] = {"request": request, "level": level, "agent": "f2", "code": "agent_lost"}
        await self.journal.append(T, kinds.TRIED, fields)

    async def answer(self, request: str, *, level: str = "restricted") -> None:
        fields: dict[str, object] = {
            "request": request, "principal": "app", "level": level, "agent": "f2", "outcome": "answered",
            "tried": (("f1", "on_premise", "agent_lost"), ("f2", "on_premise", "")),
        }  # fmt: skip
        await self.journal.append(T, kinds.REQUEST, fields, closes=request)

    async def feed(self) -> None:
        """All of the journal into the ledger, under a checkpoint; and the process is gone."""
        entries, kept = self.journal.read(0, 100), self.journal.contents(0, 100)
        sent = replication.make_envelope(HUB, self.journal.epoch, 0, entries, self.keys.signer, kept)
        database = Database(self.folder / "ringfence.db")
        await database.open()
        store, faults = SqlLedger(database), Faults(self.folder / "faults.json", Registry(), self.clock)
        ledger = Ledger(store, self.keys.signer, self.clock, faults, self.secrets.subject_of)
        await ledger.take([(sent, self.keys.signer.public_key)])
        await Checkpoints(store, self.keys.signer, self.clock, faults, self.folder / "ledger.mark").sign()
        await database.close()
        self.journal.close()

    def command(self, *arguments: str) -> str:
        done = CliRunner().invoke(audit.cli, [*arguments, "--state", str(self.folder)])
        assert done.exit_code == 0, (done.output, done.exception)
        return done.stdout

    def search(self, *arguments: str) -> list[tuple[object, object]]:
        found = self.command("search", "--tenant", T, "--json", *arguments).splitlines()
        return [(row["request"], row["kind"]) for row in map(json.loads, found)]


@pytest.fixture
def hub(tmp_path: Path, clock: ManualClock) -> Hub:
    made = Hub(tmp_path, clock)

    async def live() -> None:
        await made.decide("crashed", subject="jane", principal="billing")
        await made.decide("whole")
        await made.fail_over("whole")
        await made.answer("whole")
        await made.decide("crashed at the second", level="internal")
        await made.fail_over("crashed at the second", level="internal")
        await made.feed()

    asyncio.run(live())
    return made


def test_a_search_shows_one_row_a_request_and_the_crashed_one_too(hub: Hub) -> None:
    assert hub.search() == [("crashed", "decided"), ("whole", "request"), ("crashed at the second", "decided")]
    assert hub.search("--where", "level=restricted") == [("crashed", "decided"), ("whole", "request")]
    assert hub.search("--where", "principal=billing") == [("crashed", "decided")]
    assert len(hub.search("--all")) == 6
    assert hub.search("--kind", "tried") == [("whole", "tried"), ("crashed at the second", "tried")]
    assert hub.search("--limit", "2") == [("crashed", "decided"), ("whole", "request")]


def test_who_had_the_prompt_is_found_though_another_has_answered(hub: Hub) -> None:
    assert hub.search("--where", "agent=f1") == [
        ("crashed", "decided"), ("whole", "decided"), ("crashed at the second", "decided"),
    ]  # fmt: skip


@pytest.mark.parametrize(("request_id", "leaf"), [("crashed", 0), ("whole", 3)])
def test_a_request_is_proved_by_its_outcome_or_else_by_what_was_decided(
    hub: Hub, request_id: str, leaf: int, tmp_path: Path
) -> None:
    hub.command("prove", request_id, "-o", str(tmp_path / "proof"))
    assert (tmp_path / "proof" / f"acme-{leaf}.record").exists()


@pytest.mark.parametrize("about", ["jane", "billing"])
def test_an_access_request_tells_of_it(hub: Hub, about: str, tmp_path: Path) -> None:
    hub.command("subject", about, "--tenant", T, "-o", str(tmp_path / "told.json"))
    (told,) = json.loads((tmp_path / "told.json").read_text())["records"]
    assert (told["request"], told["kind"]) == ("crashed", "decided")


def test_an_access_request_tells_of_each_record_of_a_request(hub: Hub, tmp_path: Path) -> None:
    hub.command("subject", "app", "--tenant", T, "-o", str(tmp_path / "told.json"))
    told = json.loads((tmp_path / "told.json").read_text())["records"]
    assert [row["kind"] for row in told if row["request"] == "whole"] == ["decided", "tried", "request"]


def test_what_names_a_person_is_erased_with_it(hub: Hub) -> None:
    told = hub.command("erase", "--tenant", T, "--subject", "jane", "--reason", "GDPR 17")
    assert "The contents of 1 records are destroyed" in told


def test_it_is_let_go_when_its_level_is_over_and_all_of_a_request_at_once(hub: Hub, clock: ManualClock) -> None:
    clock.advance(4 * DAY_S)
    tenant = builders.tenant(T, retention=Retention((30, 30, 30, 3)))

    async def expire() -> int:
        database = Database(hub.folder / "ringfence.db")
        await database.open()
        try:
            now = clock.wall()
            count, _ = await SqlRetention(database).expire(T, retention._over(tenant, now), now, at=now)
            return count
        finally:
            await database.close()

    assert asyncio.run(expire()) == 4
    assert {request for request, _ in hub.search("--where", "level=internal", "--all")} == {"crashed at the second"}
    assert hub.search("--where", "level=restricted", "--all") == []


@pytest.mark.parametrize("kind", [kinds.DECIDED, kinds.TRIED, kinds.REQUEST, kinds.RUN])
def test_hub_and_site_take_each_kind_by_its_level(kind: str) -> None:
    entry = chain.decode(_entry(kind, {"level": "confidential"}))
    assert retention.level_of(entry) == agent._level_of(entry) == Level.CONFIDENTIAL


def test_the_next_life_closes_it_and_the_search_shows_that(hub: Hub) -> None:
    async def live() -> None:
        hub.open()
        assert await close_unfinished(hub.journal) == 2
        await hub.feed()

    asyncio.run(live())
    assert hub.search() == [("crashed", "request"), ("whole", "request"), ("crashed at the second", "request")]
    assert hub.search("--where", "outcome=interrupted") == [("crashed", "request"), ("crashed at the second", "request")]


def test_an_export_has_every_record_and_says_who_was_tried(hub: Hub, tmp_path: Path) -> None:
    hub.command("export", "--tenant", T, "--format", "csv", "-o", str(tmp_path / "audit.csv"))
    lines = (tmp_path / "audit.csv").read_text().splitlines()
    assert len(lines) == 1 + 6
    assert "f1/on_premise/agent_lost f2/on_premise/" in lines[4]
    assert set(export.COLUMNS) >= {"kind", "tried", "outcome"}


def test_an_interrupted_request_is_a_warning_to_a_siem() -> None:
    item = _entry(kinds.REQUEST, {"outcome": kinds.INTERRUPTED})
    record = Record(T, 0, HUB, Epoch("e"), 0, 1.0, item)
    assert siem._otlp(record)["severityText"] == "WARN"


def _entry(kind: str, fields: dict[str, object]) -> bytes:
    return chain.make(T, HUB, Epoch("e"), 0, 1.0, 1.0, kind, chain.GENESIS, b"", fields)
