"""A request that came to the site itself: decided from the site's own bundle, and run here or not at all.

The same pure functions decide as at the hub, and the same runner runs: the ticket is made here, and held against the guard
like any other.

Invariants, each with a test of its words:
- what the policy does not admit in this zone and region is refused, with its reasons;
- nothing that came to the site leaves it;
- no answer without its audit record, and no refusal of a known principal either.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from classifiers import profiles
from classifiers.engine import Classifier
from classifiers.redaction import Mode, Restorer, Vault
from classifiers.verdict import Assessment
from edge_agent.guard import Guard
from edge_agent.inference.repository.lifecycle import Repository
from edge_agent.runner import Runner
from sync.api.ask import Ask
from sync.audit.journal import Journal
from sync.bundle import authenticate, authorize, decide
from sync.bundle.authenticate import Principal
from sync.bundle.decide import Decision, PolicyDenied
from sync.bundle.limits import Limits
from sync.bundle.snapshot import Agent
from sync.crypto import sealing
from sync.kit import errors, ids, logs
from sync.kit.clock import Clock
from sync.kit.ids import AgentId, DecisionId, ModelName, Region
from sync.wire import codec
from sync.wire.levels import CacheScope, Level
from sync.wire.messages import Accepted, Chunk, Done, Failed, Run, Ticket

log = logs.get("site")
REQUEST_S = 300.0
REFUSAL = "refusal"


class NotServedHere(errors.Retryable):
    """The policy admits the request in this place, but the model for it is not here; or it admits it elsewhere only."""

    code = "offline_unavailable"


class RunFailed(errors.RingfenceError):
    """The run ended with an error; its code says which."""

    def __init__(self, failed: Failed) -> None:
        super().__init__(failed.sentence, code=failed.code)
        self.retry_after_s = failed.retry_after_s


@dataclass(slots=True)
class Visit:
    """One admitted request and its answer in the making."""

    ask: Ask
    agent: Agent
    region: Region
    decision: Decision
    id: DecisionId
    assessment: Assessment
    vault: Vault | None
    messages: asyncio.Queue[Chunk | Done | Failed]
    done: Done | None = None
    result: dict[str, object] = field(default_factory=dict)
    texts: dict[int, str] = field(default_factory=dict)
    _restorers: dict[int, Restorer] = field(default_factory=dict)

    async def pieces(self) -> AsyncIterator[tuple[str, int, tuple[object, ...]]]:
        """(text, choice, scores) of each piece, until the answer is whole. Raises RunFailed."""
        while self.done is None:
            message = await self.messages.get()
            if isinstance(message, Failed):
                raise RunFailed(message)
            if isinstance(message, Chunk):
                text = message.text
                if self.vault is not None:
                    text = self._restorers.setdefault(message.choice, self.vault.restorer()).feed(text)
                scores = tuple(codec.unpack(message.scores)) if message.scores and self.vault is None else ()
                yield text, message.choice, scores
                continue
            self.done = message
            self.result = dict(codec.unpack(message.result))
            for choice, restorer in self._restorers.items():
                if rest := restorer.end():
                    yield rest, choice, ()

    @property
    def choices(self) -> list[dict[str, Any]]:
        """The answers to the prompt, with `text`, `finish` and `scores`, once it is whole."""
        told = self.result.get("choices")
        return [dict(choice) for choice in told] if isinstance(told, tuple) else []

    def restored(self, text: str) -> str:
        """A whole answer with what was taken out for the model put back."""
        return self.vault.restore(text) if self.vault is not None else text


class Site:
    """The site's own way from a request to an answer."""

    def __init__(
        self, *, me: AgentId, guard: Guard, repository: Repository, runner: Runner, classifier: Classifier, limits: Limits,
        journal: Journal, at_rest: bytes, clock: Clock,
    ) -> None:  # fmt: skip
        self.me = me
        self.guard = guard
        self.repository = repository
        self.limits = limits
        self._runner = runner
        self._classifier = classifier
        self._journal = journal
        self._at_rest = at_rest
        self._clock = clock

    def authenticate(self, key: str) -> Principal:
        """Who this key stands for. Raises InvalidKey."""
        return authenticate.authenticate(self.guard.current, key, self._clock.wall())

    def folder_of(self, principal: Principal, name: str, task: str) -> str:
        """The model's folder here. Raises UnknownModel, Forbidden, Refused or NotServedHere."""
        snapshot = self.guard.current
        model = authorize.model(snapshot, principal, name, task)
        agent = self._agent()
        found = [d.folder for d in model.deployments if agent.zone in d.zones and d.folder in self.repository.names]
        if not found:
            raise NotServedHere(f"The model '{name[:100]}' is not served at this site: ask the hub.")
        return found[0]

    @asynccontextmanager
    async def visit(self, principal: Principal, ask: Ask) -> AsyncIterator[Visit]:
        """Decides, runs, and hands the answer on; who leaves before its end cancels the run."""
        tenant = principal.tenant
        with self.limits.slot(tenant):
            try:
                visit, run = await self._admitted(principal, ask)
            except errors.RingfenceError as error:
                await self._record_refusal(principal, ask, error)
                raise

            async def reply(message: codec.Message) -> None:
                if isinstance(message, (Chunk, Done, Failed)):
                    visit.messages.put_nowait(message)
                elif not isinstance(message, Accepted):
                    raise TypeError(type(message).__name__)

            self._runner.start(run, reply)
            try:
                yield visit
            finally:
                if visit.done is None:
                    self._runner.cancel(run.request)
                else:
                    self.limits.charge(tenant, visit.done.prompt_tokens + visit.done.completion_tokens)

    async def _record_refusal(self, principal: Principal, ask: Ask, error: errors.RingfenceError) -> None:
        """What was refused here is in the audit log too; where that cannot be written, the refusal stands all the same."""
        level = error.fields.get("level")
        fields: dict[str, object] = {
            "request": ask.request, "principal": principal.id, "task": ask.task, "model": str(ask.model), "code": error.code,
            "level": level if isinstance(level, str) else "", "bundle": self.guard.current.serial,
        }  # fmt: skip
        try:
            await self._journal.append(principal.tenant.id, REFUSAL, fields)
        except errors.RingfenceError as failed:
            log.error("refusal_not_recorded", request=ask.request, code=failed.code)

    async def _admitted(self, principal: Principal, ask: Ask) -> tuple[Visit, Run]:
        snapshot, tenant = self.guard.current, principal.tenant
        agent = self._agent()
        region = snapshot.region_of(agent)
        model = authorize.model(snapshot, principal, str(ask.model), ask.task)
        wanted = profiles.needs_all_spans(tenant)
        assessment = await profiles.assess(self._classifier, ask.texts, profiles.of(snapshot, tenant), all_spans=wanted)
        if ask.declared > assessment.level:
            assessment = replace(assessment, level=ask.declared)
        facts = decide.Facts(assessment.level, frozenset(assessment.categories), principal.roles)
        decision, made = decide.decide(snapshot, tenant, facts, model), ids.decision_id()
        self._check(decision, made, agent, region, assessment)
        folder = self.folder_of(principal, model.name, ask.task)
        deadline = self._clock.wall() + REQUEST_S
        ticket = Ticket(
            tenant.id, principal.id, decision.level, made, decision.zones, decision.regions, decision.bundle_serial, deadline
        )
        self.guard.admit(ticket)
        vault = None
        if agent.zone in decision.redact:
            vault = Vault(Mode(tenant.redaction.mode), key=sealing.derive(self._at_rest, f"redaction/{tenant.id}"))
        payload = ask.payload if vault is None else ask.saying(vault.redact(ask.texts, assessment.findings))
        cache = CacheScope.NONE if ask.no_store else decision.cache
        run = Run(
            ask.request, ticket, ask.task, ModelName(model.name), folder, codec.pack(payload), ask.stream, cache,
            tenant.cache_ttl_s, deadline, ask.batch,
        )  # fmt: skip
        return Visit(ask, agent, region, decision, made, assessment, vault, asyncio.Queue()), run

    def _check(self, decision: Decision, made: DecisionId, agent: Agent, region: Region, assessment: Assessment) -> None:
        """Returns where the decision admits this very place. Raises PolicyDenied or NotServedHere."""
        told: dict[str, Any] = {"reasons": decision.reasons, "level": decision.level.label, "decision": made}
        if not decision.allowed:
            raise PolicyDenied(f"No place may process this request: {decision.reasons[-1].why}.", **told)
        if agent.zone not in decision.zones or region not in decision.regions:
            where = f"{' or '.join(decision.zones)} in {', '.join(decision.regions)}"
            raise NotServedHere(
                f"A {decision.level.label} request may run in {where}, and this site is {agent.zone} in {region}: ask the hub.",
                **told,
            )
        if agent.zone in decision.redact and (assessment.failed or assessment.model == "over_budget"):
            raise PolicyDenied("The text was not read to its end, so nothing can be taken out of it for this zone.", **told)

    def _agent(self) -> Agent:
        agent = self.guard.current.agents.get(self.me)
        if agent is None:
            raise NotServedHere("This site has no bundle of its hub yet.")
        return agent


UNREAD = Level.RESTRICTED
"""What cannot be read, such as an image's numbers, counts as the highest level."""
