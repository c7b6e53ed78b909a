"""How journals come into the ledger: those of agents over the broker, and the hub's own; receipts and proofs go back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from orchestrator.fleet.presence import Presence
from orchestrator.ledger.checkpoints import Checkpoints
from orchestrator.ledger.ingest import Ledger
from orchestrator.ledger.port import Incident, LedgerStore
from sync.audit import chain, proving, replication
from sync.audit.journal import Journal
from sync.bundle.snapshot import Snapshot
from sync.bus.port import Bus, Incoming
from sync.crypto import signing
from sync.kit import crashpoints, errors, logs
from sync.kit.clock import Clock
from sync.kit.faults import Fault, Faults
from sync.kit.ids import AgentId, Epoch
from sync.kit.metrics import Registry
from sync.wire import codec, messages, presence, subjects
from sync.wire.messages import Envelope, Hello, ProofRequest

log = logs.get("journals")
HUB = AgentId("_hub")
"""The author of the hub's own journal: no agent can be named so."""
OWN_LINGER_S = 0.2
OWN_ENVELOPES = 4
"""Envelopes of the hub's own that one transaction takes at most."""
_ASKED: tuple[type[ProofRequest | Hello], ...] = (ProofRequest, Hello)
SILENT_AFTER_S = 15 * 60.0


class Journals:
    """Takes what authors have written into the ledger."""

    def __init__(
        self, *, bus: Bus, ledger: Ledger, checkpoints: Checkpoints, store: LedgerStore, presence: Presence, journal: Journal,
        signer: signing.Signer, clock: Clock, faults: Faults, snapshot: Callable[[], Snapshot], registry: Registry,
    ) -> None:  # fmt: skip
        self._bus = bus
        self._ledger = ledger
        self._checkpoints = checkpoints
        self._store = store
        self._presence = presence
        self._journal = journal
        self._signer = signer
        self._clock = clock
        self._faults = faults
        self._snapshot = snapshot
        self._held: dict[tuple[AgentId, Epoch], int] = {}
        """What the newest receipts have said. An agent that knows of more has it from a hub that was since restored."""
        self._claims: dict[tuple[AgentId, Epoch], chain.Position] = {}
        """Where authors have said, signed, that their journals stand; written down once a minute."""
        self._taken = registry.counter("ringfence_ledger_records_total", "Audit records that came for the ledger.")

    async def listen(self) -> None:
        await self._bus.subscribe(subjects.PROOF_ALL, self._on_proof_request)

    async def take(self) -> None:
        """Takes the envelopes of agents from the broker. Runs until cancelled."""
        await self._bus.consume(subjects.JOURNAL_ALL, "ledger", self._take)

    async def feed_own(self) -> None:
        """The hub's own records go into its ledger directly: no broker in between, and the same checks. Runs until cancelled.

        One batch each `OWN_LINGER_S` unless a whole one waits, because a transaction costs far more than a record in it.
        """
        journal = self._journal
        held = (await self._ledger.receipt(HUB, journal.epoch)).upto
        while True:
            journal.grew.clear()
            if held < journal.position.next:
                held = await self._feed(held)
            if held >= journal.position.next:
                await journal.grew.wait()
            if held + OWN_ENVELOPES * messages.MAX_ENVELOPE > journal.position.next:
                await asyncio.sleep(OWN_LINGER_S)

    async def _feed(self, held: int) -> int:
        """The next records of the hub's journal into the ledger; how many it holds then."""
        envelopes = await asyncio.to_thread(self._own_envelopes, held)
        (receipt,) = await self._ledger.take([(envelope, self._signer.public_key) for envelope in envelopes])
        await self._journal.receipted(receipt.upto)
        return receipt.upto

    def _own_envelopes(self, first: int) -> list[Envelope]:
        """Return the hub's records from number `first` on, which there are. Blocks for the disk."""
        journal, made = self._journal, list[Envelope]()
        while len(made) < OWN_ENVELOPES and first < journal.position.next:
            entries = journal.read(first, messages.MAX_ENVELOPE)
            end = first + len(entries)
            contents = journal.contents(first, end)
            made.append(replication.make_envelope(HUB, journal.epoch, first, entries, self._signer, contents))
            first = end
        return made

    async def feed_own_to_end(self) -> None:
        """All that the hub's journal has now, into the ledger."""
        journal = self._journal
        held = (await self._ledger.receipt(HUB, journal.epoch)).upto
        while held < journal.position.next:
            held = await self._feed(held)

    async def report_twin(self, agent: AgentId) -> None:
        """Two processes run with one agent's identity."""
        why = f"two processes run as '{agent}': its state folder was copied, or it was started twice"
        self._faults.note(Fault.TWO_AGENTS, why)
        await self._store.record_incident(Incident(agent, Epoch(""), "twin", why, b""), at=self._clock.wall())

    async def prove_own(self) -> None:
        """Checks the ledger's proofs for the hub's own records too, so that its journal can let them go."""
        journal = self._journal
        asked = proving.request(journal.position, journal.proved, tuple(journal.pins.values()), self._clock.wall(), self._signer)
        proof = await self._checkpoints.prove(asked)
        if proof is None:
            return
        entries = await asyncio.to_thread(journal.read, proof.first, proof.upto - proof.first)
        proved = proving.check(proof, entries, journal.pins, self._signer.public_key)
        await journal.prove(proved.upto, proved.pins, proving.seen(proved.pins))

    async def resend_receipts(self) -> None:
        """A receipt is a publish and may be lost: agents whose beat shows another number get theirs again."""
        for agent in self._presence.listening(self._clock.monotonic(), self._snapshot()):
            seen = self._presence.seen(agent)
            if seen is None:
                continue
            beat = seen.beat
            held = self._held.get((agent, beat.journal_epoch))
            if held is None or held != beat.journal_receipted:
                receipt = await self._ledger.receipt(agent, beat.journal_epoch)
                if receipt.upto != beat.journal_receipted:
                    await self._send(receipt)
                self._held[agent, beat.journal_epoch] = receipt.upto

    async def watch_silence(self) -> None:
        """Notes who is there, and says who has not been heard for long."""
        now = self._clock.wall()
        heard: dict[tuple[AgentId, Epoch], chain.Position | None] = {
            (agent, seen.beat.journal_epoch): None
            for agent, seen in self._presence.listening(self._clock.monotonic(), self._snapshot()).items()
        }
        heard.update(self._claims)
        self._claims.clear()
        await self._store.heard(heard, at=now)
        for agent in await self._store.silent(since=now - SILENT_AFTER_S):
            if agent in self._snapshot().agents:
                why = f"the agent '{agent}' has not been heard for {SILENT_AFTER_S / 60:.0f} minutes"
                self._faults.note(Fault.AGENT_SILENT, why)
                await self._store.record_incident(Incident(agent, Epoch(""), "silent", why, b""), at=now)

    async def _take(self, frames: list[bytes]) -> None:
        """Into the ledger with them, and receipts back. What is no envelope of an admitted agent is dropped and said so."""
        envelopes: list[tuple[Envelope, signing.PublicKey]] = []
        for data in frames:
            try:
                envelope = codec.decode(data, Envelope)
            except errors.Corrupt as error:
                log.error("bad_envelope", detail=str(error))
                continue
            agent = self._snapshot().agents.get(envelope.agent)
            if agent is None:
                log.error("envelope_of_unknown_agent", agent=envelope.agent)
                continue
            envelopes.append((envelope, signing.PublicKey(agent.signing_key)))
        if not envelopes:
            return
        receipts = await self._ledger.take(envelopes)
        self._taken.inc(sum(len(envelope.entries) for envelope, _ in envelopes))
        crashpoints.reach("receipt.made")
        for receipt in receipts:
            await self._send(receipt)
        crashpoints.reach("receipt.sent")

    async def forget_taken(self) -> None:
        """Has the broker forget what the ledger holds: contents that are to be erasable must not stay in its stream."""
        await self._bus.forget_taken("ledger")

    async def _send(self, receipt: messages.Receipt) -> None:
        self._held[receipt.agent, receipt.epoch] = receipt.upto
        await self._bus.publish(subjects.receipt(receipt.agent), codec.encode(receipt))

    async def _on_proof_request(self, incoming: Incoming) -> None:
        try:
            told: ProofRequest | Hello = codec.decode(incoming.data, *_ASKED)
            if isinstance(told, Hello):
                await incoming.respond(presence.welcome(told.nonce, self._clock.wall(), self._signer))
                return
            asked = told
            agent = self._snapshot().agents.get(asked.agent)
            if agent is None or asked.agent != subjects.owner_of(incoming.subject):
                log.error("proof_request_of_unknown_agent", agent=asked.agent)
                return
            proving.check_request(asked, signing.PublicKey(agent.signing_key))
            claimed = chain.Position(asked.agent, asked.epoch, asked.next, asked.head)
            self._claims[asked.agent, asked.epoch] = claimed
            crashpoints.reach("proof.asked")
            proof = await self._checkpoints.prove(asked)
            await incoming.respond(codec.encode(proof or proving.nothing(asked)))
        except errors.RingfenceError as error:
            log.error("proof_not_given", code=error.code, detail=str(error)[:300])
