"""What runs on a timetable over what is kept: edits into the audit log, erasures to their sites, and records whose time is over."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.fleet.presence import Presence
from orchestrator.records.journals import HUB
from orchestrator.store.retention import Order, SqlRetention
from sync.audit import chain, erasure
from sync.audit.journal import Journal
from sync.bundle.snapshot import Snapshot, Tenant
from sync.bus.port import Bus
from sync.crypto import signing
from sync.kit import crashpoints, errors, logs
from sync.kit.clock import Clock
from sync.wire import codec, subjects
from sync.wire.levels import Level
from sync.wire.messages import Erased

log = logs.get("retention")
ORDER_TIMEOUT_S = 10.0


class Retention:
    """Carries out what was ordered and what the tenants' configuration says."""

    def __init__(
        self, store: SqlRetention, journal: Journal, bus: Bus, presence: Presence, signer: signing.Signer, clock: Clock,
        snapshot: Callable[[], Snapshot],
    ) -> None:  # fmt: skip
        self._store = store
        self._journal = journal
        self._bus = bus
        self._presence = presence
        self._signer = signer
        self._clock = clock
        self._snapshot = snapshot

    async def record_edits(self) -> None:
        """Puts edits into the audit log. A kill in between records one twice, under the same number; none is lost."""
        for number, tenant, kind, fields in await self._store.pending():
            await self._journal.append(tenant, kind, {**fields, "edit": number})
            crashpoints.reach("edit.recorded")
            await self._store.recorded(number)

    async def carry_out_erasures(self) -> None:
        """Sends what is to be destroyed to the agents that are there; those that are not get it when they are."""
        here = self._presence.listening(self._clock.monotonic(), self._snapshot())
        for order in await self._store.orders():
            try:
                if order.author == HUB:
                    if order.epoch == self._journal.epoch:
                        await self._journal.erase(order.sequences)
                elif order.author not in self._snapshot().agents or order.author not in here:
                    continue
                else:
                    await self._order(order)
                await self._store.confirm(order, at=self._clock.wall())
            except errors.RingfenceError as error:
                log.warning("erasure_waits", erasure=order.erasure, agent=order.author, code=error.code)

    async def expire(self) -> None:
        """Lets go of records whose tenant keeps them no longer."""
        for tenant in self._snapshot().tenants.values():
            if not tenant.retention.days:
                continue
            now = self._clock.wall()
            before = now - min(tenant.retention.days) * 86_400
            after: int | None = 0
            while after is not None:
                count, after = await self._store.expire(tenant.id, _over(tenant, now), before, at=now, after=after)
                if count:
                    log.info("records_expired", tenant=tenant.id, records=count)

    async def _order(self, order: Order) -> None:
        agent = self._snapshot().agents[order.author]
        for first in range(0, len(order.sequences), erasure.MOST):
            part = order.sequences[first : first + erasure.MOST]
            asked = erasure.order(order.erasure, order.author, order.epoch, part, self._signer)
            reply = await self._bus.request(subjects.control(order.author), codec.encode(asked), timeout_s=ORDER_TIMEOUT_S)
            told = codec.decode(reply, Erased)
            erasure.check_done(told, order.erasure, order.author, signing.PublicKey(agent.signing_key))


def _over(tenant: Tenant, now: float) -> Callable[[chain.Entry], bool]:
    def is_over(entry: chain.Entry) -> bool:
        return not tenant.retention.keeps(level_of(entry), now - entry.wall)

    return is_over


def level_of(entry: chain.Entry) -> Level:
    """How sensitive a record's request was; the lowest level where it was none."""
    try:
        return Level.of(str(entry.fields.get("level", "")))
    except ValueError:
        return Level.PUBLIC
