"""The agent's certificate, renewed in time: over the bus while the line is up, by HTTPS where the broker lets it in no more.

Invariants, each with a test of its words:
- nothing that the agent does at its site waits for its certificate;
- each certificate has a key of its own; a lost answer is asked for again with the same key.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator

from edge_agent.identity import enrolling, identity
from edge_agent.identity.identity import Identity
from sync.bus.nats import NatsBus
from sync.crypto import authority
from sync.kit import backoff, errors, logs
from sync.kit.clock import Clock
from sync.kit.faults import Fault
from sync.wire import renewal, subjects

log = logs.get("certificate")
LOOK_S = 5.0
RETRY_S = 20.0
MOST_S = 300.0
ANSWER_S = 10.0
JITTER = 0.1
"""The share of a life by which the moment of renewal is drawn: a fleet that was enrolled at once does not renew at once."""


class Certificate:
    """Keeps one agent's certificate fresh. `pressing`: whether the broker refuses the one that there is."""

    def __init__(
        self, me: Identity, bus: NatsBus, clock: Clock, note: Callable[[Fault, str], None], pressing: Callable[[], bool]
    ) -> None:  # fmt: skip
        self._me = me
        self._bus = bus
        self._clock = clock
        self._note = note
        self._pressing = pressing
        self._share = 0.5 + random.uniform(-JITTER, JITTER)  # noqa: S311 - spreads load, guards nothing
        self._over_told = False
        self.kept_out = ""
        """The hub's own word for why it lets this agent in no more, or empty."""

    @property
    def expires(self) -> float:
        """In seconds since 1970."""
        return self._times()[1]

    async def watch(self) -> None:
        """Renews it again and again. Runs until cancelled."""
        pauses, next_try = self._new_pauses(), 0.0
        while True:
            if self._bus.connected and self.kept_out:
                self.kept_out, next_try = "", 0.0
            if (self._is_due() or self._pressing()) and self._clock.monotonic() >= next_try:
                if await self._renew():
                    pauses = self._new_pauses()
                else:
                    next_try = self._clock.monotonic() + next(pauses)
            await asyncio.sleep(min(LOOK_S, self._life() / 20))

    def _new_pauses(self) -> Iterator[float]:
        """Between tries that fail: neither a fleet whose hub is gone nor a revoked agent asks each few seconds for ever."""
        return backoff.jittered(first_s=min(RETRY_S, self._life() / 10), most_s=MOST_S)

    def _is_due(self) -> bool:
        issued, expires = self._times()
        return self._clock.wall() >= issued + (expires - issued) * self._share

    def _life(self) -> float:
        issued, expires = self._times()
        return expires - issued

    def _times(self) -> tuple[float, float]:
        return authority.certificate_times(identity.chain(self._me.state))

    async def _renew(self) -> bool:
        """Whether there is a new one now."""
        state = self._me.state
        old_key, old_chain = identity.certificate(state)
        asked = authority.request(await asyncio.to_thread(identity.next_key, state))
        frame = renewal.ask(self._me.id, old_chain, old_key, asked, self._me.keys.signer)
        try:
            told = renewal.read_answer(await self._ask(frame), frame, self._me.hub_key)
        except errors.Refused as error:
            if str(error) != self.kept_out:
                self._note(Fault.KEPT_OUT, str(error))
            self.kept_out = str(error)
            return False
        except errors.RingfenceError as error:
            log.warning("certificate_not_renewed", code=error.code, detail=str(error))
            if self._clock.wall() > self.expires and not self._over_told:
                self._over_told = True
                self._note(Fault.CERTIFICATE_OVER, str(error))
            return False
        await asyncio.to_thread(identity.keep_certificate, state, told.certificate, told.trusted)
        self._bus.renewed()
        self.kept_out, self._over_told = "", False
        log.info("certificate_renewed", agent=self._me.id)
        return True

    async def _ask(self, frame: bytes) -> bytes:
        if self._bus.connected:
            return await self._bus.request(subjects.renew(self._me.id), frame, timeout_s=ANSWER_S)
        return await enrolling.renew(self._me.admission.enrol_url, self._me.trusted.read_bytes(), frame)
