"""Requests that sites send on: opened, decided and dispatched like any other, and the answer sealed back.

The key that came to the site comes along, so the hub knows for itself who asks: a site vouches for nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from orchestrator.dispatch.pipeline import Exchange, Pipeline
from sync.bundle.snapshot import Snapshot
from sync.bus.port import Bus, Incoming
from sync.crypto import sealing, signing
from sync.kit import errors, logs
from sync.kit.clock import Clock
from sync.kit.ids import AgentId, RequestId
from sync.kit.tasks import TaskGroup
from sync.serving.ask import Ask
from sync.wire import codec, subjects
from sync.wire.messages import Cancel, Chunk, Done, Failed, Forward, Placed, Sealed
from sync.wire.session import AgentSession, AgentSessions

log = logs.get("forwarding")
AT_ONCE = 256
"""Requests of one site at work here at a time; the tenants' own limits come on top."""
Message = Placed | Chunk | Done | Failed


class Forwarding:
    """Takes the requests of sites."""

    def __init__(
        self, bus: Bus, pipeline: Pipeline, opener: sealing.Opener, snapshot: Callable[[], Snapshot], clock: Clock, tasks: TaskGroup
    ) -> None:
        self._bus = bus
        self._pipeline = pipeline
        self._opener = opener
        self._snapshot = snapshot
        self._clock = clock
        self._tasks = tasks
        self._sessions: dict[AgentId, tuple[bytes, AgentSessions]] = {}
        self._at_work: dict[tuple[AgentId, RequestId], asyncio.Task[None]] = {}

    async def listen(self) -> None:
        await self._bus.subscribe(subjects.ASK_ALL, self._on_ask)

    async def _on_ask(self, incoming: Incoming) -> None:
        agent = AgentId(subjects.owner_of(incoming.subject))
        try:
            message = codec.decode(incoming.data, Sealed, Cancel)
            if isinstance(message, Cancel):
                if task := self._at_work.get((agent, message.request)):
                    task.cancel()
                return
            session, forward = self._sessions_of(agent).open(incoming.data, Forward)
        except errors.RingfenceError as error:
            log.error("forward_refused", agent=agent, code=error.code, detail=str(error)[:200])
            return
        at_work = agent, forward.request
        if at_work in self._at_work:
            return
        if sum(owner == agent for owner, _ in self._at_work) >= AT_ONCE:
            sentence = f"{AT_ONCE} requests of this site are at work at the hub already."
            await incoming.respond(session.seal(Failed(forward.request, "overloaded", sentence, True, 1.0)))
            return
        self._at_work[at_work] = task = self._tasks.spawn(
            f"forwarded {forward.request}", self._serve(agent, session, forward, incoming)
        )  # fmt: skip
        task.add_done_callback(lambda _: self._at_work.pop(at_work, None))

    def _sessions_of(self, agent: AgentId) -> AgentSessions:
        """The sessions that this agent has opened. Raises Corrupt where the agent is not admitted."""
        known = self._snapshot().agents.get(agent)
        if known is None:
            raise errors.Corrupt(f"A request of '{agent}' came, which is not admitted.", code="agent_unknown")
        key, sessions = self._sessions.get(agent, (b"", None))
        if sessions is None or key != known.signing_key:
            public = signing.PublicKey(known.signing_key)
            sessions = AgentSessions(agent, self._opener, public, self._clock, purpose=signing.FORWARD)
            self._sessions[agent] = known.signing_key, sessions
        return sessions

    async def _serve(self, agent: AgentId, session: AgentSession, forward: Forward, incoming: Incoming) -> None:
        async def send(message: Message) -> None:
            await incoming.respond(session.seal(message))

        try:
            principal = self._pipeline.authenticate(forward.key)
            async with self._pipeline.exchange(principal, _ask(forward, agent)) as exchange:
                await self._answer(exchange, forward, send)
        except errors.RingfenceError as error:
            wait = getattr(error, "retry_after_s", 0.0)
            with contextlib.suppress(errors.RingfenceError):
                await send(Failed(forward.request, error.code, str(error)[:2000], isinstance(error, errors.Retryable), wait))

    async def _answer(self, exchange: Exchange, forward: Forward, send: Callable[[Message], Awaitable[None]]) -> None:
        """Tells where it runs, then the pieces, then the end: after its record is on disk, as for any other client."""
        pieces = 0
        first = await exchange.first()
        await send(_placed(exchange, forward.request))
        if forward.stream:
            for delta in first:
                await send(Chunk(forward.request, pieces, delta.text, delta.choice, _packed(delta.scores)))
                pieces += 1
        async for delta in exchange.rest():
            if forward.stream:
                await send(Chunk(forward.request, pieces, delta.text, delta.choice, _packed(delta.scores)))
                pieces += 1
        outcome = exchange.outcome
        await self._pipeline.deliver(exchange)
        result = dict(outcome.result)
        if outcome.finishes:
            result["choices"] = [
                {
                    "text": "" if forward.stream else outcome.texts.get(number, ""), "finish": finish,
                    "scores": [] if forward.stream else outcome.scores.get(number, []),
                }
                for number, finish in sorted(outcome.finishes.items())
            ]  # fmt: skip
        done = Done(
            request=forward.request,
            result=codec.pack(result),
            prompt_tokens=outcome.prompt_tokens,
            completion_tokens=outcome.completion_tokens,
            finish=outcome.finish,
            cached=outcome.cached,
            chunks=pieces,
            compute_ms=outcome.compute_ms,
        )
        await send(done)


def _packed(scores: tuple[object, ...]) -> bytes:
    return codec.pack(scores) if scores else b""


def _placed(exchange: Exchange, request: RequestId) -> Placed:
    decided, choice = exchange.decided, exchange.outcome.choice
    return Placed(
        request=request,
        level=decided.decision.level,
        decision=decided.id,
        zone=choice.zone.value if choice else "",
        region=choice.region if choice else "",
        agent=choice.agent if choice else "",
    )


def _ask(forward: Forward, agent: AgentId) -> Ask:
    payload = codec.unpack(forward.payload)
    if not isinstance(payload, dict):
        raise errors.Refused("The request's payload is not a map.", code="bad_payload")
    return Ask(
        request=forward.request, task=forward.task, model=forward.model or None, texts=forward.texts, payload=_listed(payload),
        stream=forward.stream, max_tokens=forward.max_tokens or None, declared=forward.declared, no_store=forward.no_store,
        batch=forward.batch, trace=forward.trace, subject=forward.subject, via=agent,
    )  # fmt: skip


def _listed(payload: dict[str, object]) -> dict[str, object]:
    """The payload as HTTP would have brought it: msgpack gives its lists as tuples."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in payload.items()}
