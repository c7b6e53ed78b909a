"""What a site cannot serve itself goes to the hub: sealed to it, signed by this agent, and its answer comes back in pieces."""

from __future__ import annotations

from edge_agent.identity.identity import Identity
from sync.bus.port import Bus
from sync.crypto import signing
from sync.crypto.sealing import SealingKey
from sync.kit.clock import Clock
from sync.serving.api import codes
from sync.serving.executor import Order
from sync.serving.replies import WINDOW, BusSource, Replies
from sync.wire import subjects, tasks
from sync.wire.messages import Forward
from sync.wire.session import HubSession

HUB_LOST = "hub_lost"
"""The code of a hub that no longer answers: the line may have gone down in the middle."""


class Forwarder:
    """This agent's way to have requests served elsewhere."""

    def __init__(self, bus: Bus, me: Identity, clock: Clock) -> None:
        self._bus = bus
        self._me = me
        self._clock = clock
        self._session: HubSession | None = None

    async def send(self, order: Order) -> Replies:
        """Send a request to the hub, as it came, with the key that came with it. Raises BusUnavailable."""
        ask, subject = order.decided.ask, subjects.ask(self._me.id)
        session = self._session_to(SealingKey(order.decided.snapshot.bundle.hub_key))
        frame = session.seal(
            Forward(
                request=ask.request,
                key=order.key,
                task=ask.task,
                model=ask.model or "",
                texts=(),
                payload=tasks.pack(ask.payload),
                stream=ask.stream,
                max_tokens=ask.wanted_tokens or 0,
                declared=ask.declared,
                no_store=ask.no_store,
                batch=ask.batch,
                trace=ask.trace,
                subject=ask.subject,
                # Said always: a hub of 0.1, which would classify `texts` alone, refuses the field, and so the frame.
                window=WINDOW,
            )
        )
        conversation = await self._bus.converse(subject, frame)
        source = BusSource(
            self._bus,
            session,
            conversation,
            request=ask.request,
            control=subject,
            name="The hub",
            code=HUB_LOST,
        )
        return Replies(
            source,
            request=ask.request,
            deadline=order.deadline,
            clock=self._clock,
            code_of=codes.of_hub,
            places=True,
            window=WINDOW,
        )

    def _session_to(self, key: SealingKey) -> HubSession:
        now = self._clock.monotonic()
        if self._session is None or self._session.expires <= now or self._session.agent_key != key:
            self._session = HubSession(self._me.id, key, self._me.keys.signer, now, purpose=signing.FORWARD)
        return self._session
