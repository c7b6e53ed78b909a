"""What a site cannot serve itself goes to the hub: sealed to it, signed by this agent, and its answer streamed back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from edge_agent.identity.identity import Identity
from sync.bundle.snapshot import Snapshot
from sync.bus.port import Bus, NobodyThere
from sync.crypto import signing
from sync.crypto.sealing import SealingKey
from sync.kit import errors
from sync.kit.clock import Clock
from sync.serving.ask import Ask
from sync.wire import codec, subjects
from sync.wire.messages import Cancel, Chunk, Done, Failed, Forward, Placed
from sync.wire.session import HubSession

WAIT_S = 150.0
"""Seconds without a word from the hub, which gives each request less than that."""


Answer = Placed | Chunk | Done | Failed
ANSWERS: tuple[type[Answer], ...] = (Placed, Chunk, Done, Failed)


class HubLost(errors.Retryable):
    """The hub does not answer: the line may have gone down in the middle."""

    code = "hub_lost"


class Forwarder:
    """This agent's way to have requests served elsewhere."""

    def __init__(self, bus: Bus, me: Identity, clock: Clock) -> None:
        self._bus = bus
        self._me = me
        self._clock = clock
        self._session: HubSession | None = None

    @asynccontextmanager
    async def send(self, ask: Ask, key: str, snapshot: Snapshot) -> AsyncIterator[AsyncIterator[Answer]]:
        """The messages of the hub's answer; who leaves before their end cancels the request there."""
        session = self._session_to(SealingKey(snapshot.bundle.hub_key))
        frame = session.seal(
            Forward(
                request=ask.request,
                key=key,
                task=ask.task,
                model=ask.model or "",
                texts=ask.texts,
                payload=codec.pack(ask.payload),
                stream=ask.stream,
                max_tokens=ask.max_tokens or 0,
                declared=ask.declared,
                no_store=ask.no_store,
                batch=ask.batch,
                trace=ask.trace,
                subject=ask.subject,
            )
        )
        conversation = await self._bus.converse(subjects.ask(self._me.id), frame)
        ended = False

        async def messages() -> AsyncIterator[Answer]:
            nonlocal ended
            while True:
                try:
                    reply = await conversation.next(WAIT_S)
                except NobodyThere as error:
                    ended = True
                    raise HubLost("No hub takes requests of sites now.") from error
                if reply is None:
                    raise HubLost("The hub no longer answers.")
                message: Answer = session.open(reply, *ANSWERS)
                ended = isinstance(message, (Done, Failed))
                yield message
                if ended:
                    return

        try:
            yield messages()
        finally:
            conversation.close()
            if not ended and self._bus.connected:
                await self._bus.publish(subjects.ask(self._me.id), codec.encode(Cancel(ask.request)))

    def _session_to(self, key: SealingKey) -> HubSession:
        now = self._clock.monotonic()
        if self._session is None or self._session.expires <= now or self._session.agent_key != key:
            self._session = HubSession(self._me.id, key, self._me.keys.signer, now, purpose=signing.FORWARD)
        return self._session
