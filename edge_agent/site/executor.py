"""The site's executor: what is admitted here and whose model is here runs here; the rest is sent on over the hub, or refused.

Invariants, each with a test of its words:
- what the policy does not admit in this zone and region does not run here;
- local first: only what cannot be served here leaves the site, and only by the line to the hub, sealed to it;
- offline, what cannot be served here is refused, with what is missing and since when the line is down.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from edge_agent.inference.repository.lifecycle import Repository
from edge_agent.line.link import Link, Mode
from edge_agent.site.forwarding import Forwarder
from edge_agent.site.local import LocalSource
from edge_agent.work.guard import Guard
from edge_agent.work.runner import Runner
from sync.audit.journal import Written
from sync.bundle.snapshot import Agent, Deployment, Model
from sync.kit import errors
from sync.kit.clock import Clock
from sync.kit.faults import Fault, Faults
from sync.kit.ids import AgentId
from sync.policy import admit
from sync.policy.authenticate import Principal
from sync.policy.serves import serves
from sync.serving import executor
from sync.serving.api import codes
from sync.serving.decided import Decided
from sync.serving.executor import Order, Place
from sync.serving.replies import WINDOW, Replies
from sync.wire.messages import WIRE


class NotServedHere(errors.Retryable):
    """Neither this site nor, over the hub, another can serve the request now; the sentence says what is missing."""

    code = "offline_unavailable"


class SiteExecutor:
    """Runs requests of a site: here, or over the hub."""

    def __init__(
        self,
        *,
        me: AgentId,
        guard: Guard,
        repository: Repository,
        runner: Runner,
        link: Link,
        forwarder: Forwarder,
        clock: Clock,
        faults: Faults,
    ) -> None:
        self._me = me
        self._guard = guard
        self._repository = repository
        self._runner = runner
        self._link = link
        self._forwarder = forwarder
        self._clock = clock
        self._faults = faults

    def check(self, principal: Principal) -> None:
        """Return where this site takes requests of the principal's tenant now. Raises NotServedHere."""
        if self._link.draining:
            raise NotServedHere("This agent is being drained: it takes no new work.", retry_after_s=30)
        self._agent()
        tenant, age = principal.tenant, self._guard.age_s()
        if admit.is_stale(tenant, age):
            # What was revoked since the hub was last heard may not be known here.
            sentence = (
                f"The hub was last heard {_span(age)} ago, and the grace time of '{tenant.id}' is {_span(tenant.grace_s)}: "
                "nothing is served until the hub is heard again."
            )
            self._faults.note(Fault.BUNDLE_STALE, sentence)
            raise NotServedHere(sentence, code="bundle_stale", retry_after_s=60)

    def plan(self, decided: Decided) -> tuple[Place, ...]:
        """Return this site where it may and can run the request; else the hub, where it may be sent on; else nothing."""
        if not decided.decision.allowed:
            return ()
        agent = self._agent()
        folder = self._folder(decided, agent)
        if folder is not None:
            region = decided.snapshot.region_of(agent)
            return (Place(agent=agent.id, folder=folder, zone=agent.zone, region=region),)
        if self._why_not_forwarded(decided):
            return ()
        return (Place(agent=AgentId(""), forwarded=True),)

    def nobody(self, decided: Decided) -> errors.RingfenceError:
        """Return what is missing for the request to be served, and since when."""
        decision = decided.decision
        told: dict[str, Any] = {"reasons": decision.reasons, "level": decision.level.label, "decision": decided.id}
        wait = 30 if self._link.mode is Mode.OFFLINE else 1
        return NotServedHere(f"{self._missing(decided)}{self._why_not_forwarded(decided)}.", retry_after_s=wait, **told)

    async def begin(self, place: Place, order: Order, written: Written) -> Replies:
        """Run the request here, or send it to the hub. `written`: its decision is on disk."""
        if place.forwarded:
            return await self._forwarder.send(order)
        now = self._clock.monotonic()
        run = executor.run_message(
            order,
            place.folder,
            wall=self._clock.wall(),
            left_s=max(0.0, order.deadline - now),
            window=WINDOW if order.decided.ask.stream else 0,
            known=WIRE,
        )
        self._guard.admit(run.ticket)
        source = LocalSource(self._runner, run)
        return Replies(
            source,
            request=run.request,
            deadline=order.deadline,
            clock=self._clock,
            code_of=codes.of_hub,
            window=run.window,
        )

    def ended(self, place: Place, error: BaseException | None) -> None:
        """Note nothing: there is one place of each kind."""

    def offers(self, model: Model) -> bool:
        """Return whether the model is here, or the hub is heard and may have it served."""
        return self._link.mode is not Mode.OFFLINE or self.here(model.deployments) is not None

    def here(self, deployments: tuple[Deployment, ...]) -> str | None:
        """Return the folder of a deployment whose model is here, in this agent's zone."""
        zone, names = self._agent().zone, self._repository.names
        return next((d.folder for d in deployments if zone in d.zones and d.folder in names), None)

    @property
    def mode(self) -> str:
        """online, offline, rejoining; or stale, where no tenant's grace time reaches back to when the hub was heard."""
        tenants = self._guard.current.tenants.values()
        if tenants and all(admit.is_stale(tenant, self._guard.age_s()) for tenant in tenants):
            return "stale"
        return self._link.mode.value

    def standing(self) -> dict[str, object]:
        """Return what a record says of how this site stands to its hub."""
        return {"mode": self.mode, "contact_age_s": round(self._guard.age_s())}

    def _folder(self, decided: Decided, agent: Agent) -> str | None:
        """Return the model's folder here, where the decision admits this place. Without a model: an empty name."""
        decision = decided.decision
        admitted = agent.zone in decision.zones and decided.snapshot.region_of(agent) in decision.regions
        if not admitted or not serves(decided.snapshot, agent, decided.principal.tenant):
            return None
        return self.here(decided.model.deployments) if decided.model is not None else ""

    def _missing(self, decided: Decided) -> str:
        decision, agent = decided.decision, self._agent()
        region = decided.snapshot.region_of(agent)
        if agent.zone in decision.zones and region in decision.regions:
            return f"The model '{str(decided.ask.model)[:100]}' is not at this site"
        where = f"{' or '.join(decision.zones)} in {', '.join(decision.regions)}"
        return f"A {decision.level.label} request may run in {where}, and this site is {agent.zone} in {region}"

    def _why_not_forwarded(self, decided: Decided) -> str:
        """Return why a request is not sent on, as the end of a sentence; empty where it is."""
        if decided.ask.unread:
            return "; and what cannot be read as text is not sent on from a site"
        most = decided.principal.tenant.forward_at_most
        if decided.decision.level > most:
            return f"; and what is more sensitive than {most.label} is not sent on from a site"
        if self._link.mode is Mode.OFFLINE:
            since = datetime.fromtimestamp(self._link.since, UTC).isoformat(timespec="seconds")
            return f"; the line to the hub is down since {since}"
        return ""

    def _agent(self) -> Agent:
        agent = self._guard.current.agents.get(self._me)
        if agent is None:
            raise NotServedHere("This site has no bundle of its hub yet.", retry_after_s=5)
        return agent


def _span(seconds: float) -> str:
    """Return a length of time for people."""
    for unit, size in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"
