"""The port behind which a decided request runs: at the hub by dispatch over a plan, at a site by its runner or over the hub."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from sync.audit.journal import Written
from sync.bundle.snapshot import Model
from sync.kit import errors
from sync.kit.ids import AgentId, ModelName, Region
from sync.policy.authenticate import Principal
from sync.serving.decided import Decided
from sync.serving.replies import Replies
from sync.wire import tasks
from sync.wire.levels import CacheScope, Zone
from sync.wire.messages import Run, Ticket


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a request may run: an agent and the folder that serves the model there; or the hub, which finds the agent."""

    agent: AgentId
    folder: str = ""
    zone: Zone | None = None
    region: Region | None = None
    forwarded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A decided request on its way to a place.

    payload: with what was found taken out, where the place gets it so. key: the API key that came with the request, for
    who forwards it. deadline: in the clock's monotonic seconds.
    """

    decided: Decided
    payload: tasks.Request
    key: str
    deadline: float


class Executor(Protocol):
    """Where decided requests run."""

    def check(self, principal: Principal) -> None:
        """Return where requests of this principal can be taken now. Raises Retryable."""
        ...

    def plan(self, decided: Decided) -> tuple[Place, ...]:
        """Return the places in the order in which they are tried; none where nobody can serve it."""
        ...

    def nobody(self, decided: Decided) -> errors.RingfenceError:
        """Return why no place can serve it, in a sentence that says what is missing."""
        ...

    async def begin(self, place: Place, order: Order, written: Written) -> Replies:
        """Send the request to a place. `written` shows that the decision is on disk: without it nothing is sent."""
        ...

    def ended(self, place: Place, error: BaseException | None) -> None:
        """Note that a place has nothing more to do with the request, and how that came."""
        ...

    def offers(self, model: Model) -> bool:
        """Return whether the model can be had here now."""
        ...


def run_message(order: Order, folder: str, *, wall: float, left_s: float, window: int, known: int) -> Run:
    """Return the message for an agent. wall: this clock's seconds since 1970; known: the wire version that the agent knows."""
    decided = order.decided
    ask, decision, tenant = decided.ask, decided.decision, decided.principal.tenant
    deadline = wall + left_s
    ticket = Ticket(
        tenant=tenant.id,
        principal=decided.principal.id,
        level=decision.level,
        decision=decided.id,
        zones=decision.zones,
        regions=decision.regions,
        bundle_serial=decision.bundle_serial,
        expires=deadline,
    )
    newer = known >= SINCE_LEFT_S
    return Run(
        request=ask.request,
        ticket=ticket,
        task=ask.task,
        model=decided.model.name if decided.model else ModelName(""),
        folder=folder,
        payload=tasks.pack(order.payload),
        stream=ask.stream,
        cache=CacheScope.NONE if ask.no_store else decision.cache,
        cache_ttl_s=tenant.cache_ttl_s,
        deadline=deadline,
        batch=ask.batch,
        left_s=left_s if newer else None,
        sent=wall if newer else None,
        window=window if newer else 0,
    )


SINCE_LEFT_S = 2
"""The wire version that brought `left_s`, `sent` and `window`."""
