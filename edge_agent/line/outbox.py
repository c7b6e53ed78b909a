"""The pump: journal records to the hub, in order, until its receipt says that it holds them and its proof shows it.

Invariants, each with a test of its words:
- a record is given up only after a proof that leads from the record's own bytes to a checkpoint that the hub signed;
- what was published and never receipted is sent again, and so is what the hub asks for again;
- a backlog waits for the requests that use the same line.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from dataclasses import dataclass

from edge_agent.line.pace import Pace
from sync.audit import chain, proving, replication
from sync.audit.journal import Journal
from sync.bus.port import Bus, BusUnavailable, Conflict, NobodyThere, StreamFull
from sync.crypto import signing
from sync.kit import backoff, crashpoints, errors, logs
from sync.kit.clock import Clock
from sync.kit.faults import Fault
from sync.kit.ids import AgentId
from sync.wire import codec, subjects
from sync.wire.messages import MAX_ENVELOPE, Content, Envelope, Proof, Receipt

log = logs.get("outbox")
LINGER_S = 0.05
"""Seconds that a record waits for others to share its envelope."""
SILENCE_S = 15.0
"""Seconds without a receipt, while connected, after which what was published is sent again."""
ENVELOPE_BYTES = 4 * codec.MIB
PROOF_EVERY_S = 10.0
PROOF_TIMEOUT_S = 10.0
HEAD_EVERY_S = 60.0
BACKLOG = 2 * MAX_ENVELOPE
"""Records that wait, from which on it is a backlog: it is paced, and waits for requests."""
Note = Callable[[Fault, str], None]


@dataclass(frozen=True, slots=True)
class _Ready:
    """An envelope, and its bytes."""

    envelope: Envelope
    data: bytes

    @property
    def end(self) -> int:
        return self.envelope.first + len(self.envelope.entries)


class Outbox:
    """The pump of one journal."""

    def __init__(
        self, journal: Journal, bus: Bus, me: AgentId, signer: signing.Signer, hub: signing.PublicKey, clock: Clock,
        *, pace: Pace, note: Note, rng: random.Random,
    ) -> None:  # fmt: skip
        self._journal = journal
        self._bus = bus
        self._me = me
        self._signer = signer
        self._hub = hub
        self._clock = clock
        self._pace = pace
        self._note = note
        self._rng = rng
        self.cursor = replication.Cursor(journal.proved, journal.proved)
        self._newest_receipt = 0.0
        self._last_stored: int | None = None
        self._progress = clock.monotonic()

    @property
    def waiting(self) -> int:
        """Records that the hub does not hold yet."""
        return self._journal.position.next - self.cursor.receipted

    async def pump(self) -> None:
        """Publishes what there is, waits for more. Runs until cancelled."""
        journal = self._journal
        pauses = backoff.jittered(first_s=0.2, most_s=5.0)
        ahead: asyncio.Task[_Ready | None] | None = None
        while True:
            journal.grew.clear()
            self._rewind_after_silence()
            ready = await ahead if ahead is not None else None
            ahead = None
            if ready is None or ready.envelope.first != self.cursor.published:
                ready = await asyncio.to_thread(self._make, self.cursor.published)
            if ready is None:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(journal.grew.wait(), SILENCE_S)
                await asyncio.sleep(LINGER_S)
                continue
            try:
                if journal.position.next - ready.envelope.first > BACKLOG:
                    await self._pace.wait(len(ready.data))
                    # The next one is made while the broker syncs this one.
                    ahead = asyncio.create_task(asyncio.to_thread(self._make, ready.end))
                    # Where the pump ends first, nobody waits for it: its failure is then no news.
                    ahead.add_done_callback(lambda task: task.cancelled() or task.exception())
                crashpoints.reach("outbox.made")
                await self._publish(ready.envelope, ready.data)
                pauses = backoff.jittered(first_s=0.2, most_s=5.0)
            except (BusUnavailable, StreamFull) as error:
                log.debug("outbox_waits", code=error.code)
                await asyncio.sleep(next(pauses))

    async def ask_for_proofs(self) -> None:
        """Asks the hub to show what it holds, as long as it holds more than it has shown; and once a minute all the same, since
        the request is also this journal's signed word of where it stands. Runs until cancelled."""
        told_at = float("-inf")
        while True:
            await asyncio.sleep(PROOF_EVERY_S * self._rng.uniform(0.7, 1.3))
            if not self._bus.connected:
                continue
            if self._clock.monotonic() - told_at > HEAD_EVERY_S or self.cursor.receipted > self._journal.proved:
                told_at = self._clock.monotonic()
                while await self.prove():
                    pass

    async def prove(self) -> bool:
        """One proof asked for and checked; whether it showed anything new."""
        journal = self._journal
        pins = tuple(journal.pins.values())
        asked = proving.request(journal.position, journal.proved, pins, self._clock.wall(), self._signer)
        try:
            reply = await self._bus.request(subjects.proof(self._me), codec.encode(asked), timeout_s=PROOF_TIMEOUT_S)
        except (BusUnavailable, NobodyThere) as error:
            log.debug("proof_waits", code=error.code)
            return False
        crashpoints.reach("proof.came")
        return await self.take_proof(reply)

    async def take_proof(self, data: bytes) -> bool:
        """Gives up what the proof shows to be held; whether that was anything. What is wrong with it is reported."""
        journal = self._journal
        try:
            proof = codec.decode(data, Proof)
            if (proof.agent, proof.epoch) != (self._me, journal.epoch):
                raise errors.Corrupt(f"A proof for {proof.agent}, epoch {proof.epoch} came.")
            if proof.upto <= journal.proved:
                return False
            if proof.first != journal.proved:
                raise errors.Corrupt(f"A proof from record {proof.first} on came, and {journal.proved} was asked for.")
            entries = await asyncio.to_thread(journal.read, proof.first, proof.upto - proof.first)
            proved = proving.check(proof, entries, journal.pins, self._hub)
        except errors.Corrupt as error:
            self._note(Fault.LEDGER_REWRITTEN if isinstance(error, proving.Rewritten) else Fault.PROOF_REFUSED, str(error))
            return False
        for tenant in proved.restarted:
            self._note(Fault.LEDGER_RESTARTED, f"the hub's ledger of '{tenant}' has begun a new generation")
        crashpoints.reach("proof.checked")
        await journal.prove(proved.upto, proved.pins, proving.seen(proved.pins))
        self.cursor = self.cursor.receipted_to(proved.upto)
        return True

    async def on_receipt(self, data: bytes) -> None:
        """Notes what the hub holds. A receipt that is not the hub's, or names another hash, is reported and changes nothing."""
        try:
            receipt = codec.decode(data, Receipt)
            replication.check_receipt(receipt, self._hub, self._me, self._journal.epoch)
            crashpoints.reach("receipt.came")
            await self._note_receipt(receipt)
        except errors.Corrupt as error:
            self._note(Fault.RECEIPT_REFUSED, str(error))

    async def _note_receipt(self, receipt: Receipt) -> None:
        if receipt.time < self._newest_receipt or receipt.upto == self.cursor.receipted:
            return
        if receipt.upto > self._journal.position.next:
            raise errors.Corrupt(
                f"The hub receipts {receipt.upto} records, and there are {self._journal.position.next}.", code="fork"
            )
        if receipt.upto:
            last = await asyncio.to_thread(self._journal.read, receipt.upto - 1, 1)
            # A record whose time is over cannot be compared: its chain is, by the next one.
            if last and chain.link(last[0]) != receipt.head:
                raise errors.Corrupt(
                    f"The hub receipts another record {receipt.upto - 1} than the one that is here.", code="fork"
                )  # fmt: skip
        self._newest_receipt = receipt.time
        self._progress = self._clock.monotonic()
        if receipt.upto < self.cursor.receipted:
            self._note(
                Fault.HUB_ASKS_AGAIN, f"the hub held {self.cursor.receipted} records, and asks for those from {receipt.upto} on"
            )
            self.cursor = self.cursor.asked_again(receipt.upto)
            self._journal.grew.set()
            return
        self.cursor = self.cursor.receipted_to(receipt.upto)
        await self._journal.receipted(receipt.upto)

    def _make(self, first: int) -> _Ready | None:
        """The envelope of the records from this one on; None where there are none."""
        entries, contents = self._next(first)
        if not entries:
            return None
        envelope = replication.make_envelope(self._me, self._journal.epoch, first, entries, self._signer, contents)
        return _Ready(envelope, codec.encode(envelope))

    def _next(self, first: int) -> tuple[list[bytes], list[Content]]:
        """What goes into the envelope that begins with this record."""
        entries = self._journal.read(first, MAX_ENVELOPE)
        contents = self._journal.contents(first, first + len(entries))
        size = 0
        kept: list[Content] = []
        for number, entry in enumerate(entries, first):
            mine = [content for content in contents if content.sequence == number]
            size += len(entry) + sum(len(content.sealed) + len(content.key) for content in mine)
            if size > ENVELOPE_BYTES and kept:
                return entries[: number - first], kept
            kept.extend(mine)
        return entries, kept

    async def _publish(self, envelope: Envelope, data: bytes) -> None:
        subject = subjects.journal(self._me)
        if self._last_stored is None:
            self._last_stored, _ = await self._bus.last(subject)
        try:
            self._last_stored = await self._bus.append(subject, data, expected_last=self._last_stored)
        except Conflict:
            # An earlier try was stored after all, or the stream has forgotten: ask where it stands, and go on from there.
            self._last_stored, stored = await self._bus.last(subject)
            end = _end_of(stored, envelope)
            if end > envelope.first:
                self.cursor = self.cursor.published_to(end)
            return
        crashpoints.reach("outbox.published")
        self.cursor = self.cursor.published_to(envelope.first + len(envelope.entries))

    def _rewind_after_silence(self) -> None:
        now = self._clock.monotonic()
        waiting = self.cursor.published > self.cursor.receipted
        if not waiting or not self._bus.connected:
            self._progress = now
        elif now - self._progress > SILENCE_S:
            log.warning("receipts_overdue", since_s=round(now - self._progress), published=self.cursor.published)
            self.cursor = self.cursor.rewound()
            self._progress = now


def _end_of(data: bytes, mine: Envelope) -> int:
    """Where the last stored envelope ends, if it is of the same epoch; else 0."""
    if not data:
        return 0
    stored = codec.decode(data, Envelope)
    return stored.first + len(stored.entries) if stored.epoch == mine.epoch else 0
