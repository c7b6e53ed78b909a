"""The five stages: admit, prepare, decide, run, deliver. Their names are the metric labels too.

Invariants, each with a test of its words:
- no answer without its audit record: it is on disk before the last byte leaves, or the request is refused;
- nothing is dispatched to an agent that the decision does not admit;
- once a piece of the answer has gone out, no other agent is tried;
- a higher declared level raises the level, a lower one changes nothing.
"""

from __future__ import annotations

import asyncio
import functools
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from classifiers import profiles
from classifiers.engine import Classifier
from classifiers.redaction import Mode, Restorer, Vault
from classifiers.verdict import Assessment
from orchestrator.dispatch import record
from orchestrator.dispatch.ask import Admitted, Decided, Delta, Outcome
from orchestrator.dispatch.conversation import AgentFailed, AgentLost, Attempt, Line
from orchestrator.fleet.presence import Presence
from orchestrator.routing import plan as plans
from orchestrator.routing.plan import Choice
from sync.audit import contents
from sync.audit.journal import Journal
from sync.bundle.snapshot import Snapshot, Tenant
from sync.bus.port import BusUnavailable
from sync.crypto.sealing import SealingKey
from sync.kit import errors, ids, logs
from sync.kit.clock import Clock
from sync.kit.ids import ModelName, Region
from sync.kit.metrics import Registry
from sync.policy import authenticate, authorize, decide
from sync.policy.authenticate import Principal
from sync.policy.decide import PolicyDenied
from sync.serving.ask import Ask
from sync.serving.limits import Limits
from sync.wire import codec
from sync.wire.levels import CacheScope, Level
from sync.wire.messages import Chunk, Done, Run, Ticket
from sync.wire.session import HubSessions

log = logs.get("pipeline")
TASKS = ("generate", "embed", "classify", "rerank")


class NoEligibleAgent(errors.Retryable):
    """The admitted places have no agent that is there and has the model."""

    code = "no_eligible_agent"


@dataclass(frozen=True, slots=True)
class Timing:
    """How long requests may take."""

    request_s: float


class Meters:
    """The pipeline's metrics."""

    def __init__(self, registry: Registry) -> None:
        requests = registry.counter("ringfence_requests_total", "Requests by task and outcome.", ("task", "outcome"))
        tokens = registry.counter("ringfence_tokens_total", "Tokens by direction.", ("direction",))
        levels = registry.counter("ringfence_levels_total", "Requests by the level found.", ("level",))
        stages = registry.seconds("ringfence_stage_seconds", "Seconds by stage.", ("stage",))
        # Looked up once: a look-up by label costs as much as the count itself.
        self.requests = {(t, o): requests.labels(t, o) for t in TASKS for o in ("answered", "failed", "cancelled")}
        self.prompt_tokens, self.completion_tokens = tokens.labels("prompt"), tokens.labels("completion")
        self.levels = {level: levels.labels(level.label) for level in Level}
        models = registry.counter(
            "ringfence_classifier_model_total", "Requests by whether the classifier's model looked.", ("model",)
        )
        self.models = {state: models.labels(state) for state in ("ran", "not_needed", "over_budget", "absent")}
        self.cached = registry.counter("ringfence_cache_hits_total", "Requests answered from an agent's cache.")
        self._stages = {name: stages.labels(name) for name in ("admit", "prepare", "decide", "run", "deliver")}

    def took(self, stage: str, since: float) -> float:
        """Counts a stage that began at `since` (perf_counter seconds); the time now, at which the next one begins."""
        now = time.perf_counter()
        self._stages[stage].observe(now - since)
        return now


class Exchange:
    """One request that was decided and is being answered."""

    def __init__(
        self, decided: Decided, outcome: Outcome, meters: Meters, begin: Callable[[], Awaitable[tuple[Attempt, Chunk | Done]]]
    ) -> None:
        self.decided = decided
        self.outcome = outcome
        self._meters = meters
        self._begin = begin
        self._began = time.perf_counter()
        self._attempt: Attempt | None = None
        self._restorers: dict[int, Restorer] = {}
        self._done = False

    async def first(self) -> list[Delta]:
        """The first pieces, none where the answer has none: after them, an error can no longer be an HTTP status."""
        self._attempt, message = await self._begin()
        return self._deltas(message)

    async def rest(self) -> AsyncIterator[Delta]:
        """The pieces after the first."""
        assert self._attempt is not None, "first() comes first"  # noqa: S101
        while not self._done:
            for delta in self._deltas(await self._attempt.next()):
                yield delta

    async def complete(self) -> Outcome:
        """The whole answer."""
        await self.first()
        async for _ in self.rest():
            pass
        return self.outcome

    async def close(self) -> None:
        if self._attempt is not None:
            await self._attempt.close()

    def _deltas(self, message: Chunk | Done) -> list[Delta]:
        if isinstance(message, Chunk):
            text, number, vault = message.text, message.choice, self.outcome.vault
            if vault is not None:
                text = self._restorers.setdefault(number, vault.restorer()).feed(text)
            # The scores are of tokens that the client does not get where something was put back in between.
            scores = tuple(codec.unpack(message.scores)) if message.scores and vault is None else ()
            self.outcome.texts[number] = self.outcome.texts.get(number, "") + text
            return [Delta(text, number, scores)]
        self._done = True
        self._meters.took("run", self._began)
        _fill(self.outcome, message)
        ends = [Delta(restorer.end(), number) for number, restorer in self._restorers.items()]
        return [delta for delta in ends if delta.text]


class Pipeline:
    """The stages, over what the composition root gives."""

    def __init__(
        self,
        *,
        snapshot: Callable[[], Snapshot],
        classifier: Classifier,
        limits: Limits,
        presence: Presence,
        line: Line,
        sessions: HubSessions,
        journal: Journal,
        digests: record.Digests,
        home: Region,
        timing: Timing,
        meters: Meters,
        rng: random.Random,
    ) -> None:
        self._snapshot = snapshot
        self._classifier = classifier
        self.limits = limits
        self._presence = presence
        self._line = line
        self._sessions = sessions
        self._journal = journal
        self._digests = digests
        self._home = home
        self._timing = timing
        self.meters = meters
        self._rng = rng

    @property
    def _clock(self) -> Clock:
        return self._line.clock

    def authenticate(self, key: str) -> Principal:
        """Who this key stands for. Raises InvalidKey."""
        return authenticate.authenticate(self._snapshot(), key, self._clock.wall())

    def snapshot(self) -> Snapshot:
        return self._snapshot()

    @asynccontextmanager
    async def exchange(self, principal: Principal, ask: Ask) -> AsyncIterator[Exchange]:
        """All five stages: the caller reads the answer inside, then calls `deliver`; what fails inside is recorded."""
        began = time.perf_counter()
        admitted = self.admit(principal, ask)
        self.meters.took("admit", began)
        with self.limits.slot(admitted.principal.tenant):
            decided, outcome = None, Outcome()
            try:
                decided = await self.decide(admitted)
                exchange = Exchange(decided, outcome, self.meters, functools.partial(self._begin, decided, outcome))
                try:
                    yield exchange
                finally:
                    await exchange.close()
                    if outcome.choice is not None:
                        self._presence.ended(outcome.choice.agent)
            except BaseException as error:
                if isinstance(error, AgentLost) and outcome.choice is not None:
                    self._presence.gone(outcome.choice.agent)
                self.meters.requests[ask.task, "failed" if isinstance(error, Exception) else "cancelled"].inc()
                await asyncio.shield(self._record_failure(admitted, decided, outcome, error))
                raise

    def admit(self, principal: Principal, ask: Ask) -> Admitted:
        """Authorizes the model for a principal that was authenticated. Raises AuditUnavailable where no record has room."""
        self._journal.check()
        snapshot = self._snapshot()
        model = authorize.model(snapshot, principal, ask.model, ask.task) if ask.model is not None else None
        return Admitted(ask, principal, model, snapshot, self._clock.monotonic())

    async def prepare(self, ask: Ask, tenant: Tenant, *, all_spans: bool = False) -> Assessment:
        """Classifies all the texts of the request as the tenant wants it, and raises the level to the declared one."""
        settings = profiles.of(self._snapshot(), tenant)
        wanted = all_spans or profiles.needs_all_spans(tenant)
        assessment = await profiles.assess(self._classifier, ask.texts, settings, all_spans=wanted)
        if assessment.failed:
            log.error("classification_failed", request=ask.request)
        if ask.declared > assessment.level:
            return replace(assessment, level=ask.declared)
        return assessment

    async def decide(self, admitted: Admitted) -> Decided:
        """Prepares, then applies the policy and makes the plan. Refuses nothing: that is `_run`'s to do."""
        began = time.perf_counter()
        assessment = await self.prepare(admitted.ask, admitted.principal.tenant)
        began = self.meters.took("prepare", began)
        facts = decide.Facts(assessment.level, frozenset(assessment.categories), admitted.principal.roles)
        decision = decide.decide(admitted.snapshot, admitted.principal.tenant, facts, admitted.model)
        here = self._presence.here(self._clock.monotonic(), admitted.snapshot)
        tenant = admitted.principal.tenant.id
        plan = plans.plan(admitted.snapshot, tenant, decision, here, self._home, self._rng) if decision.allowed else []
        if decision.redact and (assessment.failed or assessment.model == "over_budget"):
            # What was not read to its end cannot be redacted: those zones are closed to it.
            plan = [choice for choice in plan if choice.zone not in decision.redact]
            why = f"the text was not read to its end, so nothing can be taken out of it for {', '.join(decision.redact)}"
            decision = replace(decision, reasons=(*decision.reasons, decide.Reason("tenant.redaction", why)))
        self.meters.took("decide", began)
        self.meters.levels[decision.level].inc()
        self.meters.models[assessment.model].inc()
        return Decided(admitted, assessment, ids.decision_id(), decision, tuple(plan))

    async def deliver(self, exchange: Exchange) -> None:
        """Writes the record and counts the use. Raises AuditUnavailable: then the answer must not go out."""
        decided, outcome = exchange.decided, exchange.outcome
        tenant = decided.admitted.principal.tenant
        began = time.perf_counter()
        ms = (self._clock.monotonic() - decided.admitted.began) * 1000
        fields = record.of_request(decided, outcome, self._digests, ms, None)
        ask, policy = decided.admitted.ask, tenant.retention
        retained = contents.retain(tenant.id, policy.key, ask.texts, outcome.text, ask.subject, whole=policy.contents)
        if retained is not None and retained.sealed:
            fields[contents.DIGEST_FIELD] = contents.digest_of(retained.sealed)
        await self._journal.append(tenant.id, record.KIND, fields, retained)
        self.meters.took("deliver", began)
        self.limits.charge(tenant, outcome.prompt_tokens + outcome.completion_tokens)
        self.meters.requests[decided.admitted.ask.task, "answered"].inc()
        self.meters.prompt_tokens.inc(outcome.prompt_tokens)
        self.meters.completion_tokens.inc(outcome.completion_tokens)
        if outcome.cached:
            self.meters.cached.inc()

    async def _begin(self, decided: Decided, outcome: Outcome) -> tuple[Attempt, Chunk | Done]:
        """The first agent of the plan that answers, and its first message. Refuses what the policy does not allow."""
        if not decided.decision.allowed:
            raise PolicyDenied(
                f"No place may process this request: {decided.decision.reasons[-1].why}.",
                reasons=decided.decision.reasons, level=decided.decision.level.label, decision=decided.id,
            )  # fmt: skip
        failure: errors.RingfenceError | None = None
        for choice in decided.plan:
            attempt = self._attempt(choice, decided, outcome)
            try:
                message = await attempt.next()
            except (AgentLost, AgentFailed) as error:
                await attempt.close()
                self._ended_at(choice, outcome, error)
                if isinstance(error, AgentFailed) and not error.retryable:
                    raise
                log.warning("agent_failed", agent=choice.agent, code=error.code, request=decided.admitted.ask.request)
                failure = error
            except BaseException:
                await attempt.close()
                raise
            else:
                return attempt, message
        raise self._nobody(decided, failure)

    def _attempt(self, choice: Choice, decided: Decided, outcome: Outcome) -> Attempt:
        agent = decided.admitted.snapshot.agents[choice.agent]
        session = self._sessions.to(choice.agent, SealingKey(agent.sealing_key))
        outcome.choice, outcome.tries = choice, outcome.tries + 1
        outcome.vault = self._vault(choice, decided)
        self._presence.began(choice.agent)
        return Attempt(self._line, choice.agent, session, self._run_message(choice, decided, outcome.vault))

    def _vault(self, choice: Choice, decided: Decided) -> Vault | None:
        """An empty vault where what this agent gets is redacted."""
        if choice.zone not in decided.decision.redact:
            return None
        tenant = decided.admitted.principal.tenant
        return Vault(Mode(tenant.redaction.mode), key=self._digests.redaction_key(tenant.id))

    def _ended_at(self, choice: Choice, outcome: Outcome, error: AgentLost | AgentFailed) -> None:
        """Notes that an agent did not answer; one that is gone gets no work until it is heard again."""
        self._presence.ended(choice.agent)
        outcome.choice = None
        if isinstance(error, AgentLost):
            self._presence.gone(choice.agent)

    def _run_message(self, choice: Choice, decided: Decided, vault: Vault | None) -> Run:
        admitted, decision = decided.admitted, decided.decision
        payload = admitted.ask.payload
        if vault is not None:
            payload = admitted.ask.saying(vault.redact(admitted.ask.texts, decided.assessment.findings))
        deadline = self._clock.wall() + self._timing.request_s
        ticket = Ticket(
            tenant=admitted.principal.tenant.id, principal=admitted.principal.id, level=decision.level, decision=decided.id,
            zones=decision.zones, regions=decision.regions, bundle_serial=decision.bundle_serial, expires=deadline,
        )  # fmt: skip
        cache = CacheScope.NONE if admitted.ask.no_store else decision.cache
        return Run(
            request=admitted.ask.request,
            ticket=ticket,
            task=admitted.ask.task,
            model=admitted.model.name if admitted.model else ModelName(""),
            folder=choice.folder,
            payload=codec.pack(payload),
            stream=admitted.ask.stream,
            cache=cache,
            cache_ttl_s=admitted.principal.tenant.cache_ttl_s,
            deadline=deadline,
            batch=admitted.ask.batch,
        )

    def _nobody(self, decided: Decided, failure: errors.RingfenceError | None) -> errors.RingfenceError:
        """Why no agent of the plan has answered."""
        if failure is not None:
            return failure
        if not self._line.bus.connected:
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

    async def _record_failure(self, admitted: Admitted, decided: Decided | None, outcome: Outcome, error: BaseException) -> None:
        ms = (self._clock.monotonic() - admitted.began) * 1000
        if decided is not None:
            fields = record.of_request(decided, outcome, self._digests, ms, error)
        elif isinstance(error, errors.RingfenceError):
            fields = record.of_refusal(admitted, error, ms)
        else:
            return
        try:
            await self._journal.append(admitted.principal.tenant.id, record.KIND, fields)
        except errors.RingfenceError as failed:
            log.error("failure_not_recorded", request=admitted.ask.request, code=failed.code)


def _fill(outcome: Outcome, done: Done) -> None:
    outcome.prompt_tokens, outcome.completion_tokens = done.prompt_tokens, done.completion_tokens
    outcome.finish, outcome.cached, outcome.compute_ms = done.finish, done.cached, done.compute_ms
    result = codec.unpack(done.result)
    if not isinstance(result, dict):
        raise AgentLost("The agent's answer is not what was asked for.")
    outcome.result = result
    choices = result.get("choices")
    for number, choice in enumerate(choices if isinstance(choices, tuple) else ()):
        match choice:
            case {"text": str(text), "finish": str(finish), "scores": tuple(scores)}:
                outcome.finishes[number] = finish
                if number not in outcome.texts:
                    outcome.texts[number] = outcome.vault.restore(text) if outcome.vault else text
                    outcome.scores[number] = list(scores) if outcome.vault is None else []
