"""The life of a request, once, for hub and site: admit, prepare, decide, run, deliver.

The names of the stages are the metric labels, the trace spans and the functions here. `exchange` (beside this file) takes
a request through all five; `explain` goes through the first three, so that it says what would happen.

Invariants, each with a law of its words in tests/laws:
- nothing is dispatched that was not read, and nothing runs outside its admitted places;
- no byte of an answer leaves before the record of its decision;
- once a piece of the answer has gone out, no other place is tried;
- a higher declared level raises the level, a lower one changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from sync.audit.journal import Written
from sync.bundle.snapshot import Model, Snapshot
from sync.kit import errors, ids, logs
from sync.kit.clock import Clock
from sync.kit.ids import AgentId
from sync.policy import authenticate as keys
from sync.policy import authorize
from sync.policy import decide as policy
from sync.policy.authenticate import Principal
from sync.policy.decide import PolicyDenied
from sync.serving import record, redacting, usage
from sync.serving.ask import Ask
from sync.serving.classifier import Assessment, Classifier, NotRedactable
from sync.serving.decided import Admitted, Decided, Prepared
from sync.serving.executor import Executor, Order, Place
from sync.serving.limits import Limits
from sync.serving.meters import Meters
from sync.serving.outcome import Outcome
from sync.serving.record import Recorder
from sync.serving.replies import Lost, Replies, RunFailed
from sync.wire import tasks
from sync.wire.levels import Level
from sync.wire.messages import Chunk, Done, Placed

log = logs.get("serving")
HUB = AgentId("_hub")
"""What a site's record calls the place to which it sends a request on, until the hub names the agent."""
UNASKED_TOKENS = 256
"""Tokens that are reserved for an answer whose length the client has not named: most answers are shorter, and the rest is
settled at the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the stages work with. Made in the composition roots of hub and agent.

    request_s: seconds that a request may take.
    quiet_s: seconds of silence in a stream after which its client is sent a comment: proxies cut a connection that is
    quiet for 30 or 60 seconds.
    mode: how a site stands to its hub, for its answers; empty at the hub.
    """

    snapshot: Callable[[], Snapshot]
    classifier: Classifier
    limits: Limits
    executor: Executor
    recorder: Recorder
    meters: Meters
    clock: Clock
    request_s: float
    quiet_s: float = 15.0
    mode: Callable[[], str] = str


def authenticate(parts: Parts, key: str) -> Principal:
    """Return who this key stands for. Raises InvalidKey."""
    return keys.authenticate(parts.snapshot(), key, parts.clock.wall())


def admit(parts: Parts, principal: Principal, ask: Ask) -> Admitted:
    """Authorize the model, and reserve what the request may use. Raises what says why it is not taken."""
    began = parts.meters.now()
    parts.recorder.journal.check()
    parts.executor.check(principal)
    snapshot = parts.snapshot()
    model = authorize.model(snapshot, principal, ask.model, ask.task) if ask.model is not None else None
    reservation = parts.limits.reserve(principal.tenant, _reserved(ask))
    parts.meters.took("admit", began)
    return Admitted(
        ask=ask,
        principal=principal,
        model=model,
        snapshot=snapshot,
        reservation=reservation,
        began=parts.clock.monotonic(),
    )


async def prepare(parts: Parts, admitted: Admitted, *, all_spans: bool = False) -> Prepared:
    """Classify all the texts of the request as the tenant wants it, and raise the level to the declared one."""
    began = parts.meters.now()
    ask = admitted.ask
    assessment = await parts.classifier.assess(
        admitted.snapshot,
        admitted.principal.tenant,
        ask.texts,
        all_spans=all_spans,
        contexts=ask.contexts,
    )
    if assessment.failed:
        log.error("classification_failed", request=ask.request)
    parts.meters.took("prepare", began)
    level = max(assessment.level, ask.declared, Level.RESTRICTED if ask.unread else Level.PUBLIC)
    return Prepared(admitted=admitted, assessment=assessment, level=level)


def decide(parts: Parts, prepared: Prepared) -> Decided:
    """Apply the policy. Refuses nothing: that is `run`'s to do, and `explain` wants the reasons."""
    began = parts.meters.now()
    admitted = prepared.admitted
    decision = policy.decide(
        admitted.snapshot,
        admitted.principal.tenant,
        facts(admitted.principal, prepared.assessment, prepared.level, unread=admitted.ask.unread),
        admitted.model,
    )
    parts.meters.took("decide", began)
    parts.meters.decided(decision.level, prepared.assessment.model)
    return Decided(prepared=prepared, id=ids.decision_id(), decision=decision)


def facts(principal: Principal, assessment: Assessment, level: Level, *, unread: bool = False) -> policy.Facts:
    """Return all that the policy looks at: the same for a request, for `explain` and for the command of that name."""
    return policy.Facts(
        level,
        frozenset(assessment.categories),
        principal.roles,
        read_whole=assessment.read_whole and not unread,
    )


@dataclass(frozen=True, slots=True)
class Running:
    """A request at work: the replies, and the first of them."""

    place: Place
    replies: Replies
    first: Chunk | Done


async def run(parts: Parts, decided: Decided, outcome: Outcome, key: str) -> Running:
    """Return the replies of the first place of the plan that answers. Raises what says why none does.

    The decision is on disk before the first place gets anything, and each further place before it does.
    """
    if not decided.decision.allowed:
        raise _denied(decided)
    failure: errors.RingfenceError | None = None
    for place in parts.executor.plan(decided):
        try:
            return await _run_at(parts, decided, outcome, key, place)
        except (Lost, RunFailed, NotRedactable) as error:
            if isinstance(error, RunFailed) and not error.retryable:
                raise
            log.warning("place_failed", agent=place.agent, code=error.code, request=decided.ask.request)
            failure = error
    raise failure or parts.executor.nobody(decided)


async def _run_at(parts: Parts, decided: Decided, outcome: Outcome, key: str, place: Place) -> Running:
    """Send the request to one place, and wait for its first word."""
    order = await _order(parts, decided, outcome, key, place)
    written = await _write_ahead(parts, decided, outcome, place)
    # Only now: where the record cannot be written, nobody has had the request, and nobody pays for it.
    outcome.place, outcome.tries = place, outcome.tries + 1
    had, replies = outcome.had, None
    try:
        replies = await parts.executor.begin(place, order, written)
        outcome.had = True
        running = Running(place, replies, await _first(replies, decided.ask, outcome))
    except BaseException as error:
        if isinstance(error, RunFailed):
            # It has said that it did nothing with it, and nobody pays for that.
            outcome.had = had
        outcome.tried.append(_tried(place, _word(error)))
        # First, since it does not wait: whoever is cancelled while the replies are closed has been counted out.
        parts.executor.ended(place, error)
        if replies is not None:
            await replies.close()
        raise
    outcome.tried.append(_tried(place, ""))
    return running


def _tried(place: Place, code: str) -> tuple[AgentId, str, str]:
    """Return what the record says of a place that had the request: who, in which zone, and how it failed if it did."""
    return (HUB if place.forwarded else place.agent), place.zone.value if place.zone else "", code


def _word(error: BaseException) -> str:
    """Return how a place failed, for the record: an agent's own code, which a client does not get to see."""
    if isinstance(error, RunFailed):
        return error.said
    return error.code if isinstance(error, errors.RingfenceError) else "cancelled"


async def _write_ahead(parts: Parts, decided: Decided, outcome: Outcome, place: Place) -> Written:
    """Write down that a place will get the request. Raises AuditUnavailable: then it does not."""
    if outcome.tries:
        return await parts.recorder.tried(decided, place, outcome)
    # Before it is awaited: who leaves in this moment leaves a decision that may be on disk, and has to be closed.
    outcome.opened = True
    try:
        return await parts.recorder.decided(decided, place, outcome)
    except asyncio.CancelledError:
        raise
    except BaseException:
        outcome.opened = False
        raise


async def _first(replies: Replies, ask: Ask, outcome: Outcome) -> Chunk | Done:
    """Return the first reply that says something of the answer; before it, the hub says where it has a request served.

    It is read here and not later, since what cannot be read is tried at the next place as long as nothing has gone out.
    """
    try:
        message = await replies.next()
        if isinstance(message, Placed):
            outcome.placed(message)
            message = await replies.next()
        if isinstance(message, Placed):
            raise errors.Corrupt("The hub says twice where a request is served.")
        if isinstance(message, Done):
            outcome.result = tasks.read_answer(ask.payload, message.result)
        else:
            tasks.read_scores(message.scores)
    except errors.Corrupt as error:
        raise Lost("The model's side answers what was not asked for.", broken=True) from error
    return message


async def _order(parts: Parts, decided: Decided, outcome: Outcome, key: str, place: Place) -> Order:
    """Return what the place gets: where the decision redacts there, with what was found taken out of every string."""
    payload, outcome.at_work = decided.ask.payload, None
    if place.zone is not None and place.zone in decided.decision.redact:
        secret = parts.recorder.digests.redaction_key(decided.principal.tenant.id)
        outcome.at_work = await redacting.redacted(parts.classifier, decided, outcome, secret)
        payload = outcome.at_work.payload
    left = parts.request_s - (parts.clock.monotonic() - decided.admitted.began)
    return Order(decided=decided, payload=payload, key=key, deadline=parts.clock.monotonic() + left)


async def deliver(parts: Parts, decided: Decided, outcome: Outcome, error: BaseException | None) -> None:
    """Record how a request ended, and count it. Raises AuditUnavailable: then the end of its answer must not go out."""
    began = parts.meters.now()
    admitted = decided.admitted
    ms = (parts.clock.monotonic() - admitted.began) * 1000
    word = "denied" if isinstance(error, PolicyDenied) else record.outcome_of(error, outcome.tries)
    try:
        await parts.recorder.outcome(decided, outcome, ms, error)
    except errors.RingfenceError:
        word = "failed"
        raise
    finally:
        parts.meters.took("deliver", began)
        parts.meters.ended(admitted.ask.task, word, outcome)


async def places(parts: Parts, decided: Decided, key: str) -> list[Place]:
    """Return the places that would be tried, in their order: what `run` would pass over is not among them."""
    outcome, found = Outcome(), []
    for place in parts.executor.plan(decided):
        try:
            await _order(parts, decided, outcome, key, place)
        except NotRedactable:
            continue
        found.append(place)
    return found


def _reserved(ask: Ask) -> int:
    """Return the tokens that a request may use, as far as that is known before it runs."""
    answer = ask.most_tokens if ask.wanted_tokens else min(ask.most_tokens, UNASKED_TOKENS)
    return usage.estimate(ask.text_bytes) + answer if ask.model is not None else 0


def _denied(decided: Decided) -> PolicyDenied:
    reasons = decided.decision.reasons
    return PolicyDenied(
        f"No place may process this request: {reasons[-1].why}.",
        reasons=reasons,
        level=decided.decision.level.label,
        decision=decided.id,
    )


def offered(parts: Parts, principal: Principal) -> list[Model]:
    """Return the models that the principal may use and that can be had here now."""
    known = parts.snapshot().models
    found = (known[name] for name in principal.tenant.allowed_models if name in known)
    return [model for model in found if parts.executor.offers(model)]
