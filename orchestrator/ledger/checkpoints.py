"""Checkpoints of the trees, and the proofs that agents ask for.

Invariants, each with a test of its words:
- no two checkpoints contradict each other: each is of a tree that contains the one before, or of a new generation;
- a database that is older than what was signed begins a new generation, and says so.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path

from orchestrator.ledger.port import Incident, LedgerStore, Part, Signed
from sync.audit import checkpoint, merkle, proving, tiles
from sync.audit.merkle import Range
from sync.audit.proving import SIGNER_NAME
from sync.crypto import signing
from sync.kit import crashpoints, errors, files, logs
from sync.kit.clock import Clock
from sync.kit.faults import Fault, Faults
from sync.kit.ids import AgentId, Epoch, TenantId
from sync.wire.messages import Leaves, Pin, Proof, ProofRequest, TreeProof

log = logs.get("checkpoints")
AT_LEAST_EVERY_S = 3600.0
Cosign = Callable[[TenantId, str], Awaitable[str]]
"""A note with what the witnesses have signed under it."""


class Checkpoints:
    """Signs the trees. `mark` is a file beside the database: what was signed last, to notice a database that is older."""

    def __init__(
        self, store: LedgerStore, signer: signing.Signer, clock: Clock, faults: Faults, mark: Path, cosign: Cosign | None = None
    ) -> None:
        self._store = store
        self._signer = signer
        self._clock = clock
        self._faults = faults
        self._mark = mark
        self._cosign = cosign
        self._signed: dict[TenantId, int] = {}
        self.generation = 0

    async def open(self) -> None:
        """Compares the database with what was signed. One that is older begins a new generation."""
        self.generation = await self._store.generation()
        generation, self._signed = _read_mark(self._mark)
        edges = await self._store.edges(self._signed)
        behind = {tenant: size for tenant, size in self._signed.items() if size > edges[tenant].size}
        if generation > self.generation or (generation == self.generation and behind):
            told = ", ".join(f"{tenant}: {edges[tenant].size} of {size}" for tenant, size in behind.items())
            await self._begin_generation(
                max(generation, self.generation) + 1, f"the database is older than what was signed ({told})"
            )

    async def begin_generation(self, why: str) -> None:
        """Begins a new generation: what was signed before is of another time."""
        generation, _ = _read_mark(self._mark)
        await self._begin_generation(max(generation, await self._store.generation()) + 1, why)

    async def sign(self) -> int:
        """Signs a checkpoint for each tree that grew, and for each whose last one is an hour old; how many."""
        now = self._clock.wall()
        tenants = await self._store.unsigned(before=now - AT_LEAST_EVERY_S)
        edges = await self._store.edges(tenants)
        for tenant in tenants:
            await self._sign_one(tenant, edges[tenant], now)
        if tenants:
            self._write_mark()
        return len(tenants)

    async def prove(self, asked: ProofRequest) -> Proof | None:
        """What the trees show of an author's records, as far as checkpoints cover them; None where nothing new is covered."""
        await self._check_pins(asked)
        parts = await self._store.parts(asked.agent, asked.epoch, asked.first, proving.MOST)
        notes: dict[TenantId, Signed] = {}
        for part in parts:
            if part.tenant not in notes:
                found = await self._store.checkpoint(part.tenant, self.generation)
                notes[part.tenant] = found or Signed(0, "", 0.0)
        upto = _covered(asked.first, parts, {tenant: signed.size for tenant, signed in notes.items()})
        if upto <= asked.first:
            return None
        pins = {pin.origin: pin for pin in asked.pins}
        trees = [
            await self._tree(tenant, notes[tenant], _leaves(parts, tenant, asked.first, upto), pins)
            for tenant in dict.fromkeys(part.tenant for part in parts)
            if any(asked.first <= number < upto for part in parts if part.tenant == tenant for number in part.sequences)
        ]
        return Proof(asked.agent, asked.epoch, asked.first, upto, tuple(trees))

    async def roots(self, tenant: TenantId, ranges: Sequence[Range]) -> list[bytes]:
        """The roots of these ranges of a tenant's tree."""
        return await roots(self._store, tenant, ranges)

    async def _sign_one(self, tenant: TenantId, edge: tiles.Edge, now: float) -> None:
        if edge.size < self._signed.get(tenant, 0):
            await self._begin_generation(self.generation + 1, f"the tree of '{tenant}' has fewer records than were signed")
        crashpoints.reach("checkpoint.begin")
        made = checkpoint.Checkpoint(proving.origin(tenant, self.generation), edge.size, edge.root())
        note = checkpoint.sign(made, SIGNER_NAME, self._signer)
        if self._cosign is not None:
            note = await self._cosign(tenant, note)
        crashpoints.reach("checkpoint.signed")
        await self._store.add_checkpoint(tenant, self.generation, Signed(edge.size, note, now))
        self._signed[tenant] = edge.size
        crashpoints.reach("checkpoint.stored")

    async def _tree(self, tenant: TenantId, signed: Signed, leaves: list[Leaves], pins: dict[str, Pin]) -> TreeProof:
        covered = [(part.first, part.first + part.count) for part in leaves]
        inclusion = await self.roots(tenant, merkle.coverage_path(covered, signed.size))
        pin = pins.get(proving.origin(tenant, self.generation))
        consistency: list[bytes] = []
        if pin is not None and 0 < pin.size < signed.size:
            consistency = await self.roots(tenant, merkle.consistency_path(pin.size, signed.size))
        return TreeProof(tenant, signed.note, tuple(leaves), tuple(inclusion), tuple(consistency))

    async def _check_pins(self, asked: ProofRequest) -> None:
        """An agent that has verified more than there is knows that this database went back."""
        for pin in asked.pins:
            rest = pin.origin.removeprefix(f"{proving.ORIGIN}/")
            tenant = TenantId(rest.split("/")[0])
            try:
                generation = proving.generation_of(pin.origin, tenant)
            except errors.Corrupt:
                continue
            edge = (await self._store.edges([tenant]))[tenant]
            if generation > self.generation or (generation == self.generation and pin.size > edge.size):
                why = f"{asked.agent} has verified {pin.size} records of '{tenant}', and the database has {edge.size}"
                await self._begin_generation(max(generation, self.generation) + 1, why)

    async def _begin_generation(self, number: int, why: str) -> None:
        self.generation = await self._store.begin_generation(number)
        self._signed = {}
        self._faults.note(Fault.LEDGER_RESTARTED, f"{why}: generation {self.generation} of the ledger begins")
        incident = Incident(AgentId("_hub"), Epoch(""), "restored", why, b"")
        await self._store.record_incident(incident, at=self._clock.wall())
        self._write_mark()

    def _write_mark(self) -> None:
        told = {"generation": self.generation, "signed": self._signed}
        files.write_atomically(self._mark, json.dumps(told).encode(), mode=files.PRIVATE)


async def roots(store: LedgerStore, tenant: TenantId, ranges: Sequence[Range]) -> list[bytes]:
    """The roots of these ranges of a tenant's tree."""
    found = await store.tiles(tenant, tiles.needed(ranges))
    return tiles.roots(ranges, lambda level, index: found.get((level, index), b""))


def _covered(first: int, parts: Iterable[Part], sizes: dict[TenantId, int]) -> int:
    """The first record from `first` on that no checkpoint covers, or that is not held."""
    covered = {
        number
        for part in parts
        for leaf, number in enumerate(part.sequences, part.first_leaf)
        if leaf < sizes[part.tenant]
    }  # fmt: skip
    upto = first
    while upto in covered and upto - first < proving.MOST:
        upto += 1
    return upto


def _leaves(parts: Iterable[Part], tenant: TenantId, first: int, upto: int) -> list[Leaves]:
    """The places of an author's records in one tree, neighbouring ones together."""
    indexes = sorted(
        leaf
        for part in parts
        if part.tenant == tenant
        for leaf, number in enumerate(part.sequences, part.first_leaf)
        if first <= number < upto
    )
    found: list[Leaves] = []
    for index in indexes:
        if found and found[-1].first + found[-1].count == index:
            found[-1] = Leaves(found[-1].first, found[-1].count + 1)
        else:
            found.append(Leaves(index, 1))
    return found


def _read_mark(path: Path) -> tuple[int, dict[TenantId, int]]:
    try:
        told = json.loads(path.read_bytes())
        return int(told["generation"]), {TenantId(str(tenant)): int(size) for tenant, size in told["signed"].items()}
    except FileNotFoundError:
        return 0, {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.error("ledger_mark_unreadable", path=str(path), error=type(error).__name__)
        return 0, {}
