"""The hub's executor: a decided request is dispatched to the agents of its plan, one after the other, sealed to each.

Invariants, each with a test of its words:
- nothing is dispatched to an agent that the decision does not admit;
- an agent that is gone gets no work until it is heard again, and one whose answers cannot be read none for a while.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from orchestrator.fleet.presence import Presence
from orchestrator.routing import plan as plans
from sync.audit.journal import Written
from sync.bundle.snapshot import Model, Snapshot
from sync.bus.port import Bus, BusUnavailable
from sync.crypto.sealing import SealingKey
from sync.kit import errors
from sync.kit.clock import Clock
from sync.kit.ids import AgentId, Region
from sync.policy.authenticate import Principal
from sync.serving import executor
from sync.serving.api import codes
from sync.serving.decided import Decided
from sync.serving.executor import Order, Place
from sync.serving.replies import WINDOW, BusSource, Lost, Replies, RunFailed
from sync.wire import subjects
from sync.wire.messages import DRAINING, WIRE
from sync.wire.session import HubSessions


class NoEligibleAgent(errors.Retryable):
    """The admitted places have no agent that is there and has the model."""

    code = "no_eligible_agent"


class Dispatch:
    """Runs requests at agents.

    home: the hub's own region. rng: spreads load, guards nothing.
    """

    def __init__(
        self,
        *,
        bus: Bus,
        clock: Clock,
        presence: Presence,
        sessions: HubSessions,
        snapshot: Callable[[], Snapshot],
        home: Region,
        rng: random.Random,
    ) -> None:
        self._bus = bus
        self._clock = clock
        self._presence = presence
        self._sessions = sessions
        self._snapshot = snapshot
        self._home = home
        self._rng = rng

    def check(self, principal: Principal) -> None:
        """Take requests of everybody: what is missing shows in the plan."""

    def plan(self, decided: Decided) -> tuple[Place, ...]:
        """Return the agents that are there, in the order in which they are tried."""
        if not decided.decision.allowed:
            return ()
        here = self._presence.here(self._clock.monotonic(), decided.snapshot)
        chosen = plans.plan(decided.snapshot, decided.principal.tenant.id, decided.decision, here, self._home, self._rng)
        return tuple(Place(agent=choice.agent, folder=choice.folder, zone=choice.zone, region=choice.region) for choice in chosen)

    def nobody(self, decided: Decided) -> errors.RingfenceError:
        """Return why no agent can serve it."""
        if not self._bus.connected:
            return BusUnavailable("The line to the agents is down; it comes back by itself.", retry_after_s=2)
        decision = decided.decision
        where = f"{' or '.join(decision.zones)} in {', '.join(decision.regions)}"
        return NoEligibleAgent(
            f"A {decision.level.label} request may run in {where}, and no agent there is up with this model. "
            "It is not sent anywhere else.",
            retry_after_s=5,
            reasons=decision.reasons,
            level=decision.level.label,
            decision=decided.id,
        )

    async def begin(self, place: Place, order: Order, written: Written) -> Replies:
        """Seal the request to an agent and send it. `written`: its decision is on disk. Raises BusUnavailable."""
        now, known = self._clock.monotonic(), self._known(place.agent)
        # Counted before it is sent: until the next heartbeat nobody else tells how much this agent has.
        self._presence.began(place.agent)
        agent = order.decided.snapshot.agents[place.agent]
        session = self._sessions.to(place.agent, SealingKey(agent.sealing_key))
        window = WINDOW if order.decided.ask.stream else 0
        run = executor.run_message(
            order,
            place.folder,
            wall=self._clock.wall(),
            left_s=max(0.0, order.deadline - now),
            window=window,
            known=known,
        )
        conversation = await self._bus.converse(subjects.run(place.agent), session.seal(run))
        source = BusSource(
            self._bus,
            session,
            conversation,
            request=run.request,
            control=subjects.control(place.agent),
            name=f"The agent '{place.agent}'",
            code=Lost.code,
        )
        return Replies(
            source,
            request=run.request,
            deadline=order.deadline,
            clock=self._clock,
            code_of=codes.of_agent,
            window=run.window,
            summed=known >= WIRE,
        )

    def ended(self, place: Place, error: BaseException | None) -> None:
        """Note that an agent has one request less, and what its answer says of it."""
        self._presence.ended(place.agent)
        if error is None:
            self._presence.well(place.agent)
        elif isinstance(error, Lost) and error.broken:
            self._presence.broken(place.agent, self._clock.monotonic())
        elif isinstance(error, Lost) or (isinstance(error, RunFailed) and error.said == DRAINING):
            self._presence.gone(place.agent)

    def offers(self, model: Model) -> bool:
        """Return True: the hub names every model that the key may use, also while no agent for it is up."""
        return True

    def _known(self, agent: AgentId) -> int:
        seen = self._presence.seen(agent)
        return seen.beat.wire if seen is not None else 1
