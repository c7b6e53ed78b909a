"""The pump: journal records to the hub, in order, until its receipt says that it holds them.

Invariants, each with a test of its words:
- a record is forgotten only after a receipt that the hub signed and that names the record's own hash;
- what was published and never receipted is sent again.
"""

from __future__ import annotations

import asyncio
import contextlib

from sync.audit import chain, replication
from sync.audit.journal import Journal
from sync.bus.port import Bus, BusUnavailable, Conflict, StreamFull
from sync.crypto import digest, signing
from sync.kit import backoff, errors, logs
from sync.kit.clock import Clock
from sync.kit.ids import AgentId
from sync.wire import codec, subjects
from sync.wire.messages import MAX_ENVELOPE, Envelope, Receipt

log = logs.get("outbox")
LINGER_S = 0.05
"""Seconds that a record waits for others to share its envelope."""
SILENCE_S = 15.0
"""Seconds without a receipt, while connected, after which what was published is sent again."""


class Outbox:
    """The pump of one journal."""

    def __init__(
        self, journal: Journal, bus: Bus, me: AgentId, signer: signing.Signer, hub: signing.PublicKey, clock: Clock
    ) -> None:
        self._journal = journal
        self._bus = bus
        self._me = me
        self._signer = signer
        self._hub = hub
        self._clock = clock
        self.cursor = replication.Cursor(journal.first, journal.first)
        self._last_stored: int | None = None
        self._progress = clock.monotonic()

    async def pump(self) -> None:
        """Publishes what there is, waits for more. Runs until cancelled."""
        journal = self._journal
        pauses = backoff.jittered(first_s=0.2, most_s=5.0)
        while True:
            journal.grew.clear()
            self._rewind_after_silence()
            entries = await asyncio.to_thread(journal.read, self.cursor.published, MAX_ENVELOPE)
            if not entries:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(journal.grew.wait(), SILENCE_S)
                await asyncio.sleep(LINGER_S)
                continue
            try:
                await self._publish(
                    replication.make_envelope(self._me, journal.epoch, self.cursor.published, entries, self._signer)
                )
                pauses = backoff.jittered(first_s=0.2, most_s=5.0)
            except (BusUnavailable, StreamFull) as error:
                log.debug("outbox_waits", code=error.code)
                await asyncio.sleep(next(pauses))

    async def on_receipt(self, data: bytes) -> None:
        """Forgets what the hub holds. A receipt that is not the hub's, or names another hash, is reported and changes nothing."""
        try:
            receipt = codec.decode(data, Receipt)
            replication.check_receipt(receipt, self._hub, self._me, self._journal.epoch)
            await self._forget(receipt)
        except errors.Corrupt as error:
            log.error("bad_receipt", detail=str(error))

    async def _forget(self, receipt: Receipt) -> None:
        if receipt.upto <= self.cursor.receipted:
            return
        last = await asyncio.to_thread(self._journal.read, receipt.upto - 1, 1)
        if not last or chain.link(last[0]) != receipt.head:
            raise errors.Corrupt(f"The hub receipts another record {receipt.upto - 1} than the one that is here.", code="fork")
        await self._journal.trim(receipt.upto)
        self._journal.hub_seen = digest.of("hub-seen", codec.encode(receipt))
        self.cursor = self.cursor.receipted_to(receipt.upto)
        self._progress = self._clock.monotonic()

    async def _publish(self, envelope: Envelope) -> None:
        subject = subjects.journal(self._me)
        if self._last_stored is None:
            self._last_stored, _ = await self._bus.last(subject)
        try:
            self._last_stored = await self._bus.append(subject, codec.encode(envelope), expected_last=self._last_stored)
        except Conflict:
            # An earlier try was stored after all, or the stream has forgotten: ask where it stands, and go on from there.
            self._last_stored, data = await self._bus.last(subject)
            end = _end_of(data, envelope)
            if end <= envelope.first:
                return
            self.cursor = self.cursor.published_to(end)
            return
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
