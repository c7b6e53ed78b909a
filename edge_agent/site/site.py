"""A request that came to the site itself: decided from the site's own bundle; run here, or sent on over the hub, or refused.

The same pure functions decide as at the hub, and the same runner runs: the ticket is made here, and held against the guard
like any other. The hub decides again, for itself, about what is sent on.

Invariants, each with a test of its words:
- what the policy does not admit in this zone and region does not run here;
- local first: only what cannot be served here leaves the site, and only by the line to the hub, sealed to it;
- off line, what cannot be served here is refused, with what is missing and since when the line is down;
- no answer without its audit record, and no refusal of a known principal either.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from classifiers import profiles
from classifiers.engine import Classifier
from classifiers.redaction import Mode, Vault
from classifiers.verdict import Assessment
from edge_agent.inference.repository.lifecycle import Repository
from edge_agent.line.link import Link
from edge_agent.line.link import Mode as LineMode
from edge_agent.site.forwarding import Forwarder
from edge_agent.site.visit import Place, RunFailed, Visit
from edge_agent.work.guard import Guard
from edge_agent.work.runner import Runner
from sync.audit import contents
from sync.audit.journal import Journal
from sync.bundle.snapshot import Agent, Deployment
from sync.crypto import sealing
from sync.kit import errors, ids, logs
from sync.kit.clock import Clock
from sync.kit.faults import Fault, Faults
from sync.kit.ids import AgentId, DecisionId, ModelName, Region
from sync.policy import admit, authenticate, authorize, decide
from sync.policy.authenticate import Principal
from sync.policy.decide import Decision, PolicyDenied, Reason
from sync.serving.ask import Ask
from sync.serving.limits import Limits
from sync.wire import codec
from sync.wire.levels import CacheScope, Level
from sync.wire.messages import Accepted, Chunk, Done, Failed, Placed, Run, Ticket

log = logs.get("site")
REQUEST_S = 300.0
KIND = "request"


class NotServedHere(errors.Retryable):
    """Neither this site nor, over the hub, another can serve the request now; the sentence says what is missing."""

    code = "offline_unavailable"


@dataclass(frozen=True, slots=True)
class Decided:
    """An assessed request, its decision, and where this agent stands. `folder`: the model's here, or None where it is not."""

    ask: Ask
    principal: Principal
    assessment: Assessment
    decision: Decision
    id: DecisionId
    agent: Agent
    region: Region
    folder: str | None

    @property
    def admitted_here(self) -> bool:
        return self.decision.allowed and self.agent.zone in self.decision.zones and self.region in self.decision.regions


class Site:
    """The site's own way from a request to an answer."""

    def __init__(
        self, *, me: AgentId, guard: Guard, repository: Repository, runner: Runner, classifier: Classifier, limits: Limits,
        journal: Journal, at_rest: bytes, clock: Clock, link: Link, forwarder: Forwarder, faults: Faults,
    ) -> None:  # fmt: skip
        self.me = me
        self.guard = guard
        self.repository = repository
        self.limits = limits
        self.link = link
        self._runner = runner
        self._classifier = classifier
        self._journal = journal
        self._at_rest = at_rest
        self._clock = clock
        self._forwarder = forwarder
        self._faults = faults

    @property
    def mode(self) -> str:
        """online, offline, rejoining; or stale, where no tenant's grace time reaches back to when the hub was heard."""
        tenants = self.guard.current.tenants.values()
        if tenants and all(admit.is_stale(tenant, self.guard.age_s()) for tenant in tenants):
            return "stale"
        return self.link.mode.value

    @property
    def journal_full(self) -> bool:
        """Whether nothing can be served for want of room for its records."""
        return self._journal.full

    def authenticate(self, key: str) -> Principal:
        """Who this key stands for. Raises InvalidKey."""
        return authenticate.authenticate(self.guard.current, key, self._clock.wall())

    def serves(self, deployments: tuple[Deployment, ...]) -> str | None:
        """The folder of a deployment whose model is here, in this agent's zone."""
        agent = self._agent()
        names = self.repository.names
        return next((d.folder for d in deployments if agent.zone in d.zones and d.folder in names), None)

    async def assess(self, principal: Principal, ask: Ask, *, all_spans: bool = False) -> Assessment:
        """Classifies all the texts of the request as the tenant wants it, and raises the level to the declared one."""
        snapshot, tenant = self.guard.current, principal.tenant
        wanted = all_spans or profiles.needs_all_spans(tenant)
        assessment = await profiles.assess(self._classifier, ask.texts, profiles.of(snapshot, tenant), all_spans=wanted)
        return replace(assessment, level=ask.declared) if ask.declared > assessment.level else assessment

    async def decide(self, principal: Principal, ask: Ask) -> Decided:
        """What may happen with a request, from this site's bundle. Refuses nothing but what no decision can be made of."""
        self._check_contact(principal)
        snapshot, agent = self.guard.current, self._agent()
        model = authorize.model(snapshot, principal, ask.model, ask.task) if ask.model is not None else None
        assessment = await self.assess(principal, ask)
        facts = decide.Facts(assessment.level, frozenset(assessment.categories), principal.roles)
        decision = decide.decide(snapshot, principal.tenant, facts, model)
        mine = model is not None and agent.serves(principal.tenant.id)
        folder = self.serves(model.deployments) if model is not None and mine else None
        if decision.allowed and agent.zone in decision.redact and (assessment.failed or assessment.model == "over_budget"):
            # What was not read to its end cannot be redacted: this zone is closed to it.
            why = "the text was not read to its end, so nothing can be taken out of it for this zone"
            zones = tuple(zone for zone in decision.zones if zone not in decision.redact)
            decision = replace(
                decision, allowed=bool(zones), zones=zones, reasons=(*decision.reasons, Reason("tenant.redaction", why))
            )  # fmt: skip
        return Decided(ask, principal, assessment, decision, ids.decision_id(), agent, snapshot.region_of(agent), folder)

    @asynccontextmanager
    async def visit(self, principal: Principal, ask: Ask, key: str) -> AsyncIterator[Visit]:
        """Decides, runs or sends on, and hands the answer on; the caller reads it inside, then calls `deliver`."""
        tenant, began = principal.tenant, self._clock.monotonic()
        with self.limits.slot(tenant):
            visit: Visit | None = None
            decided: Decided | None = None
            try:
                self._journal.check()
                if self.link.draining:
                    raise NotServedHere("This agent is being drained: it takes no new work.", retry_after_s=30)
                decided = await self.decide(principal, ask)
                async with self._begun(decided, key) as visit:
                    yield visit
            except BaseException as error:
                if visit is None or not visit.recorded:
                    await asyncio.shield(self._record_failure(principal, ask, decided, visit, error, began))
                raise
            finally:
                if visit is not None and visit.done is not None:
                    self.limits.charge(tenant, visit.done.prompt_tokens + visit.done.completion_tokens)

    async def deliver(self, visit: Visit) -> None:
        """Writes the record of the answer. Raises AuditUnavailable: then it must not go out."""
        tenant, ask = visit.principal.tenant, visit.ask
        fields = self._fields(visit.principal, ask, visit, None)
        policy = tenant.retention
        # The hub retains what it has answered itself; the site retains what was answered here.
        whole = policy.contents and not visit.forwarded
        retained = contents.retain(tenant.id, policy.key, ask.texts, visit.text, ask.subject, whole=whole)
        if retained is not None and retained.sealed:
            fields[contents.DIGEST_FIELD] = contents.digest_of(retained.sealed)
        await self._journal.append(tenant.id, KIND, fields, retained)
        visit.recorded = True

    @asynccontextmanager
    async def _begun(self, decided: Decided, key: str) -> AsyncIterator[Visit]:
        """The request at work: here where that is admitted and the model is here, else at the hub."""
        decision = decided.decision
        if not decision.allowed:
            raise PolicyDenied(
                f"No place may process this request: {decision.reasons[-1].why}.",
                reasons=decision.reasons, level=decision.level.label, decision=decided.id,
            )  # fmt: skip
        if decided.admitted_here and decided.folder is not None:
            async with self._local(decided, decided.folder) as visit:
                yield visit
            return
        self._check_forwarding(decided)
        async with self._forwarder.send(decided.ask, key, self.guard.current) as messages:
            visit = Visit(decided.principal, decided.ask, decided.assessment, decision, decided.id, None, self._clock.monotonic())
            visit.forwarded = True
            placed = await anext(messages)
            if isinstance(placed, Failed):
                raise RunFailed(placed)
            if not isinstance(placed, Placed):
                raise errors.Corrupt("The hub's answer does not begin with where it is served.", code="bad_frame")
            visit.place = Place(placed.level, placed.decision, placed.zone, placed.region, placed.agent)
            visit.read = _rest_of(messages)
            yield visit

    @asynccontextmanager
    async def _local(self, decided: Decided, folder: str) -> AsyncIterator[Visit]:
        run, vault = self._run(decided, folder)
        queue: asyncio.Queue[Chunk | Done | Failed] = asyncio.Queue()

        async def reply(message: codec.Message) -> None:
            if isinstance(message, (Chunk, Done, Failed)):
                queue.put_nowait(message)
            elif not isinstance(message, Accepted):
                raise TypeError(type(message).__name__)

        agent = decided.agent
        visit = Visit(
            decided.principal, decided.ask, decided.assessment, decided.decision, decided.id, vault, self._clock.monotonic()
        )  # fmt: skip
        visit.place = Place(decided.decision.level, decided.id, agent.zone.value, decided.region, agent.id)
        visit.read = queue.get
        self._runner.start(run, reply)
        try:
            yield visit
        finally:
            if visit.done is None:
                self._runner.cancel(run.request)

    def _run(self, decided: Decided, folder: str) -> tuple[Run, Vault | None]:
        """The message for the runner, with a ticket that this site's own guard has admitted."""
        ask, decision, tenant = decided.ask, decided.decision, decided.principal.tenant
        deadline = self._clock.wall() + REQUEST_S
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
        self.guard.admit(ticket)
        vault = None
        if decided.agent.zone in decision.redact:
            vault = Vault(Mode(tenant.redaction.mode), key=sealing.derive(self._at_rest, f"redaction/{tenant.id}"))
        payload = ask.payload if vault is None else ask.saying(vault.redact(ask.texts, decided.assessment.findings))
        cache = CacheScope.NONE if ask.no_store else decision.cache
        run = Run(
            request=ask.request,
            ticket=ticket,
            task=ask.task,
            model=ModelName(str(ask.model)),
            folder=folder,
            payload=codec.pack(payload),
            stream=ask.stream,
            cache=cache,
            cache_ttl_s=tenant.cache_ttl_s,
            deadline=deadline,
            batch=ask.batch,
        )
        return run, vault

    def _check_contact(self, principal: Principal) -> None:
        """Returns where the hub was heard within the tenant's grace time: what was revoked since may not be known here."""
        tenant, age = principal.tenant, self.guard.age_s()
        if admit.is_stale(tenant, age):
            sentence = (
                f"The hub was last heard {_span(age)} ago, and the grace time of '{tenant.id}' is {_span(tenant.grace_s)}: "
                "nothing is served until the hub is heard again."
            )
            self._faults.note(Fault.BUNDLE_STALE, sentence)
            raise NotServedHere(sentence, code="bundle_stale", retry_after_s=60)

    def _check_forwarding(self, decided: Decided) -> None:
        """Returns where the request may and can be sent on. Raises NotServedHere, saying what is missing and since when."""
        decision, tenant = decided.decision, decided.principal.tenant
        told: dict[str, Any] = {"reasons": decision.reasons, "level": decision.level.label, "decision": decided.id}
        if decided.admitted_here:
            missing = f"The model '{str(decided.ask.model)[:100]}' is not at this site"
        else:
            where = f"{' or '.join(decision.zones)} in {', '.join(decision.regions)}"
            missing = (
                f"A {decision.level.label} request may run in {where}, and this site is {decided.agent.zone} in {decided.region}"
            )
        if decision.level > tenant.forward_at_most:
            raise NotServedHere(
                f"{missing}; and what is more sensitive than {tenant.forward_at_most.label} is not sent on from a site.", **told
            )  # fmt: skip
        if self.link.mode is LineMode.OFFLINE:
            since = datetime.fromtimestamp(self.link.since, UTC).isoformat(timespec="seconds")
            raise NotServedHere(f"{missing}; the line to the hub is down since {since}.", retry_after_s=30, **told)

    async def _record_failure(
        self, principal: Principal, ask: Ask, decided: Decided | None, visit: Visit | None, error: BaseException, began: float
    ) -> None:
        """What was refused, failed or left is in the audit log too; where that cannot be written, it stands all the same."""
        told = visit
        if told is None and decided is not None:
            told = Visit(principal, ask, decided.assessment, decided.decision, decided.id, None, began)
        fields = self._fields(principal, ask, told, error)
        with contextlib.suppress(errors.RingfenceError):
            await self._journal.append(principal.tenant.id, KIND, fields)

    def _fields(self, principal: Principal, ask: Ask, visit: Visit | None, error: BaseException | None) -> dict[str, object]:
        fields: dict[str, object] = {
            "request": ask.request, "trace": ask.trace, "principal": principal.id, "key": principal.key, "task": ask.task,
            "model": str(ask.model or ""), "declared": ask.declared.label, "bundle": self.guard.current.serial, "via": self.me,
            "mode": self.mode, "contact_age_s": round(self.guard.age_s()), "outcome": _outcome(error),
            "code": error.code if isinstance(error, errors.RingfenceError) else "",
        }  # fmt: skip
        if visit is not None:
            fields |= visit.fields(self._clock.monotonic())
        return fields

    def _agent(self) -> Agent:
        agent = self.guard.current.agents.get(self.me)
        if agent is None:
            raise NotServedHere("This site has no bundle of its hub yet.", retry_after_s=5)
        return agent


UNREAD = Level.RESTRICTED
"""What cannot be read, such as an image's numbers, counts as the highest level."""


def _rest_of(messages: AsyncIterator[Placed | Chunk | Done | Failed]) -> Callable[[], Awaitable[Chunk | Done | Failed]]:
    """Reads the hub's answer after its beginning."""

    async def read() -> Chunk | Done | Failed:
        message = await anext(messages)
        if isinstance(message, Placed):
            raise errors.Corrupt("The hub says twice where a request is served.", code="bad_frame")
        return message

    return read


def _outcome(error: BaseException | None) -> str:
    if error is None:
        return "answered"
    if isinstance(error, (errors.Refused, NotServedHere)):
        return "refused"
    return "failed" if isinstance(error, errors.RingfenceError) else "cancelled"


def _span(seconds: float) -> str:
    """A length of time for people."""
    for unit, size in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"
