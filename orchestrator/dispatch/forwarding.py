"""Requests that sites send on: opened, read as a body over HTTP is, and served like any other; the answer is sealed back.

Invariants, each with a law of its words:
- the key that came to the site comes along, so the hub knows for itself who asks: a site vouches for nobody;
- what is classified comes from the body that is served, and from nothing that the site says beside it;
- a site sends on for those tenants alone that it serves;
- a `failed` goes out on every way out, and a graceful stop lets what is at work end.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Callable
from contextlib import aclosing

from sync.bundle.snapshot import Agent, Snapshot
from sync.bus.port import Bus, Incoming
from sync.crypto import sealing, signing
from sync.kit import errors, ids, logs
from sync.kit.clock import Clock
from sync.kit.ids import AgentId, RequestId
from sync.kit.tasks import TaskGroup
from sync.policy.admit import TicketRefused
from sync.policy.authenticate import Principal
from sync.policy.serves import serves
from sync.serving import exchange as exchanges
from sync.serving import stages
from sync.serving.api import bodies, codes, headers
from sync.serving.ask import Ask
from sync.serving.exchange import Exchange
from sync.serving.record import Refusal
from sync.serving.replies import Sender
from sync.serving.stages import Parts
from sync.wire import codec, subjects, tasks
from sync.wire.messages import DRAINING, Cancel, Credit, Failed, Forward, Ping, Placed, Pong, Sealed
from sync.wire.session import AgentSession, AgentSessions

log = logs.get("forwarding")
REMEMBERED = 10_000
"""Ids of forwarded requests that are remembered: a frame that is sent again, by whomever, is not served again."""
AT_ONCE = 256
"""Requests of one site at work here at a time; the tenants' own limits come on top."""
Work = tuple[AgentId, RequestId]
_KINDS: tuple[type[Sealed | Cancel | Credit | Ping], ...] = (Sealed, Cancel, Credit, Ping)


class Forwarding:
    """Takes the requests of sites."""

    def __init__(
        self,
        *,
        bus: Bus,
        parts: Parts,
        opener: sealing.Opener,
        snapshot: Callable[[], Snapshot],
        clock: Clock,
        tasks: TaskGroup,
    ) -> None:
        self._bus = bus
        self._parts = parts
        self._opener = opener
        self._snapshot = snapshot
        self._clock = clock
        self._tasks = tasks
        self._sessions: dict[AgentId, tuple[bytes, AgentSessions]] = {}
        self._at_work: dict[Work, asyncio.Task[None]] = {}
        self._senders: dict[Work, Sender] = {}
        self._seen: OrderedDict[RequestId, None] = OrderedDict()
        self._accepting = True

    async def listen(self) -> None:
        """Take what sites ask from now on."""
        await self._bus.subscribe(subjects.ASK_ALL, self._on_ask)

    async def drain(self, timeout_s: float) -> None:
        """Take nothing new, and let what is at work end; what is still there after `timeout_s` is cancelled and told."""
        self._accepting = False
        if self._at_work:
            _, late = await asyncio.wait(list(self._at_work.values()), timeout=timeout_s)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=1)

    async def _on_ask(self, incoming: Incoming) -> None:
        agent = AgentId(subjects.owner_of(incoming.subject))
        try:
            message: Sealed | Cancel | Credit | Ping = codec.decode(incoming.data, *_KINDS)
            if isinstance(message, Sealed):
                await self._on_forward(agent, incoming)
            else:
                await self._on_control(agent, message, incoming)
        except errors.RingfenceError as error:
            log.error("forward_refused", agent=agent, code=error.code, detail=str(error)[:200])

    async def _on_control(self, agent: AgentId, message: Cancel | Credit | Ping, incoming: Incoming) -> None:
        work = agent, message.request
        match message:
            case Cancel():
                if task := self._at_work.get(work):
                    task.cancel()
            case Credit(_, upto):
                if sender := self._senders.get(work):
                    sender.granted(upto)
            case Ping():
                await incoming.respond(codec.encode(Pong(work in self._at_work)))

    async def _on_forward(self, agent: AgentId, incoming: Incoming) -> None:
        known, sessions = self._sessions_of(agent)
        session, forward = sessions.open(incoming.data, Forward)
        work = agent, forward.request
        if work in self._at_work:
            return
        refusal = self._why_not(agent, forward.request)
        if refusal is not None:
            self._parts.meters.refused(refusal[0])
            await incoming.respond(session.seal(Failed(forward.request, *refusal, 1.0)))
            return
        task = self._tasks.spawn(f"forwarded {forward.request}", self._serve(known, session, forward, incoming))
        self._at_work[work] = task
        task.add_done_callback(lambda _: self._at_work.pop(work, None))

    def _why_not(self, agent: AgentId, request: RequestId) -> tuple[str, str, bool] | None:
        """Return why a request is not taken: code, sentence, and whether it may be tried again. Remembers its id."""
        if not ids.REQUEST.fullmatch(request) or request in self._seen:
            return "duplicate_request", "A request with this id was taken already, or the id is none.", False
        if not self._accepting:
            return DRAINING, "The hub is being stopped: it takes no new work.", True
        if sum(owner == agent for owner, _ in self._at_work) >= AT_ONCE:
            return "overloaded", f"{AT_ONCE} requests of this site are at work at the hub already.", True
        self._seen[request] = None
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        return None

    def _sessions_of(self, agent: AgentId) -> tuple[Agent, AgentSessions]:
        """Return the sessions that this agent has opened. Raises Corrupt where the agent is not admitted."""
        known = self._snapshot().agents.get(agent)
        if known is None:
            raise errors.Corrupt(f"A request of '{agent}' came, which is not admitted.", code="agent_unknown")
        key, sessions = self._sessions.get(agent, (b"", None))
        if sessions is None or key != known.signing_key:
            public = signing.PublicKey(known.signing_key)
            sessions = AgentSessions(agent, self._opener, public, self._clock, purpose=signing.FORWARD)
            self._sessions[agent] = known.signing_key, sessions
        return known, sessions

    async def _serve(self, agent: Agent, session: AgentSession, forward: Forward, incoming: Incoming) -> None:
        """Serve one request; whatever happens, the site hears how it ended."""

        async def reply(message: codec.Message) -> None:
            await incoming.respond(session.seal(message))

        sender = Sender(forward.request, reply, window=forward.window)
        work = agent.id, forward.request
        self._senders[work] = sender
        try:
            principal = stages.authenticate(self._parts, forward.key)
            ask = await self._ask(agent, forward, principal)
            async with exchanges.exchange(self._parts, principal, ask, forward.key) as exchange:
                await _answer(exchange, forward, sender)
        except errors.RingfenceError as error:
            self._parts.meters.refused(codes.label(error.code))
            await _say_failed(sender, error)
        except asyncio.CancelledError:
            await asyncio.shield(_say_failed(sender, errors.Retryable("The hub ended the request.", code="cancelled")))
            raise
        except Exception as error:
            log.error("forward_failed", request=forward.request, error=type(error).__name__)
            await _say_failed(sender, errors.RingfenceError("Something went wrong inside the hub; its log has the request id."))
        finally:
            self._senders.pop(work, None)

    async def _ask(self, agent: Agent, forward: Forward, principal: Principal) -> Ask:
        """Return the request that a site sends on. What is refused is recorded, as over HTTP."""
        try:
            _check_served(self._snapshot(), agent, principal)
            return ask_of(forward, agent.id, principal.tenant.limits.max_tokens_per_request)
        except errors.RingfenceError as error:
            log.warning("forward_refused", agent=agent.id, request=forward.request, code=error.code)
            refusal = Refusal(
                request=forward.request,
                principal=principal,
                task=forward.task,
                model=forward.model,
                via=agent.id,
            )
            await self._parts.recorder.turned_away(refusal, error, ms=0.0, serial=self._snapshot().serial)
            raise


async def _answer(exchange: Exchange, forward: Forward, sender: Sender) -> None:
    """Say where it runs, then the pieces, then the end: after its record is on disk, as for any other client."""
    await exchange.begin()
    await sender.say(_placed(exchange, forward.request))
    if forward.stream:
        async with aclosing(exchange.stream()) as deltas:
            async for delta in deltas:
                await sender.piece(delta.text, delta.choice, tasks.pack_scores(delta.scores))
        outcome = exchange.answered.outcome
        result = tasks.pack(outcome.result_for_reader(streamed=True))
    else:
        outcome = exchange.outcome
        result = await exchange.complete(lambda outcome: tasks.pack(outcome.result_for_reader(streamed=False)))
    await sender.done(
        result,
        prompt_tokens=outcome.prompt_tokens,
        completion_tokens=outcome.completion_tokens,
        finish=outcome.finish,
        cached=outcome.cached,
        compute_ms=outcome.compute_ms,
        estimated=outcome.estimated,
    )


async def _say_failed(sender: Sender, error: errors.RingfenceError) -> None:
    with contextlib.suppress(errors.RingfenceError):
        retryable = isinstance(error, errors.Retryable) or getattr(error, "retryable", False)
        await sender.failed(error, retryable=retryable, retry_after_s=getattr(error, "retry_after_s", 0.0))


def _check_served(snapshot: Snapshot, agent: Agent, principal: Principal) -> None:
    """Return where the site of this agent serves the tenant. Raises TicketRefused."""
    if not serves(snapshot, agent, principal.tenant):
        raise TicketRefused("The tenant is not served by the site that sent this on.", code="tenant_unknown")


def _placed(exchange: Exchange, request: RequestId) -> Placed:
    decided, place = exchange.decided, exchange.outcome.place
    return Placed(
        request=request,
        level=decided.decision.level,
        decision=decided.id,
        zone=place.zone.value if place and place.zone else "",
        region=place.region or "" if place else "",
        agent=place.agent if place else "",
    )


def ask_of(forward: Forward, agent: AgentId, cap: int) -> Ask:
    """Return the request that a site sends on, read as a body over HTTP is. Raises BadRequest.

    cap: the tenant's most tokens of an answer. What version 0.1 sent was made of a body, and reads as one.
    """
    payload = codec.unpack(forward.payload)
    if not isinstance(payload, dict):
        raise errors.Refused("The request's payload is not a map.", code="bad_payload")
    body = bodies.of_task(forward.task, {"model": forward.model, "stream": forward.stream, **payload})
    return Ask(
        request=forward.request,
        payload=body.payload(cap),
        model=forward.model or None,
        stream=forward.stream,
        wanted_tokens=forward.max_tokens or None,
        declared=forward.declared,
        no_store=forward.no_store,
        batch=forward.batch,
        trace=headers.valid_trace(forward.trace),
        subject=forward.subject,
        via=agent,
    )
