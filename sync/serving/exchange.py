"""One request and its answer in flight: through the five stages, and out on every way with one outcome.

Invariants, each with a law of its words in tests/laws:
- an answer without its record cannot be written: `complete` and `stream` record before they give the end of it;
- one request, one outcome: it is recorded once, by a task of its own, whoever leaves in the middle;
- who is served is charged, also when he leaves before the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import TypeVar

from sync.kit import errors, logs
from sync.policy.authenticate import Principal
from sync.serving import record, stages
from sync.serving.ask import Ask
from sync.serving.decided import Admitted, Decided
from sync.serving.outcome import Delta, Outcome
from sync.serving.replies import Lost
from sync.serving.stages import Parts, Running
from sync.wire.messages import Chunk, Done, Placed

log = logs.get("exchange")
R = TypeVar("R")


class Answered:
    """A whole answer whose outcome is on disk. Only `Exchange` makes one, after its record."""

    __slots__ = ("outcome",)

    def __init__(self, outcome: Outcome, *, recorded: asyncio.Task[None]) -> None:
        if not recorded.done() or recorded.exception() is not None:
            raise AssertionError("an answer is given out before its record")
        self.outcome = outcome


class Exchange:
    """A decided request that is being answered. `exchange` makes it, and ends it."""

    def __init__(self, parts: Parts, decided: Decided, key: str) -> None:
        self.decided = decided
        self.outcome = Outcome()
        self._parts = parts
        self._key = key
        self._running: Running | None = None
        self._concluding: asyncio.Task[None] | None = None
        self._left = False
        self._began = parts.meters.now()

    async def begin(self) -> None:
        """Have it run somewhere, and wait for the first word of its answer: until then an error has a status of its own."""
        if self._running is None:
            self._running = await stages.run(self._parts, self.decided, self.outcome, self._key)

    async def stream(self) -> AsyncGenerator[Delta]:
        """Give the answer in pieces. When it ends by itself, the outcome is on disk."""
        await self.begin()
        async with aclosing(self._deltas()) as deltas:
            async for delta in deltas:
                yield delta
        await self._conclude(None)

    async def complete(self, render: Callable[[Outcome], R]) -> R:
        """Return what `render` makes of the whole answer, once the outcome is on disk.

        It is made before: where it raises, the request has failed, and that is what is recorded.
        """
        await self.begin()
        async with aclosing(self._deltas()) as deltas:
            async for _ in deltas:
                pass
        made = render(self.outcome)
        await self._conclude(None)
        return made

    @property
    def answered(self) -> Answered:
        """The whole answer. Raises AssertionError before its outcome is on disk."""
        if self._concluding is None:
            raise AssertionError("an answer is given out before its record")
        return Answered(self.outcome, recorded=self._concluding)

    @property
    def is_over(self) -> bool:
        """Whether the answer was read to its end and its outcome is on disk: nothing is left to end."""
        return self._left and self._concluding is not None and self._concluding.done()

    async def end(self, error: BaseException | None) -> None:
        """Leave: cancel what is at work, charge what was used, and record how it ended, unless it is recorded already."""
        if self._running is not None:
            await self._running.replies.close()
            self._ended_at(error)
        if isinstance(error, errors.RingfenceError):
            self._tell_decision(error)
        if error is None and self._concluding is None:
            # Whoever held it let go of it without reading it to its end.
            error = asyncio.CancelledError()
        if error is not None:
            try:
                await self._conclude(error)
            except errors.RingfenceError as failed:
                # The error that ends the request stands; its record is written as soon as that is possible.
                log.error("outcome_late", request=self.decided.ask.request, code=failed.code)

    async def _deltas(self) -> AsyncGenerator[Delta]:
        assert self._running is not None  # noqa: S101 - begin() came first
        message: Chunk | Done | Placed = self._running.first
        try:
            while not isinstance(message, Done):
                if isinstance(message, Placed):
                    raise errors.Corrupt("The hub says twice where a request is served.")
                yield self.outcome.take(message, self.decided.ask)
                message = await self._running.replies.next()
            rest = self.outcome.finish_with(message, self.decided.ask)
        except BaseException as error:
            self._ended_at(error)
            if isinstance(error, errors.Corrupt):
                raise Lost("The model's side answers what was not asked for.", broken=True) from error
            raise
        # Closed here and not in `end`: an answer that was read to its end leaves nothing to wait for.
        await self._running.replies.close()
        self._ended_at(None)
        self._parts.meters.took("run", self._began)
        for delta in rest:
            yield delta

    def _tell_decision(self, error: errors.RingfenceError) -> None:
        """Have the client told how its request was decided, also where it was not served."""
        decided = self.decided
        known = {"level": decided.decision.level.label, "decision": decided.id, "classifier": decided.classifier}
        error.fields = {**known, **error.fields}

    def _ended_at(self, error: BaseException | None) -> None:
        """Tell the executor, once, that the place has nothing more to do with this request."""
        if self._running is not None and not self._left:
            self._left = True
            self._parts.executor.ended(self._running.place, error)

    async def _conclude(self, error: BaseException | None) -> None:
        """Record the outcome, once: who comes second waits for the first."""
        if self._concluding is None:
            if error is not None:
                self.outcome.leave(self.decided.ask)
            self.decided.admitted.reservation.settle(self.outcome.used)
            self._concluding = asyncio.ensure_future(stages.deliver(self._parts, self.decided, self.outcome, error))
            self._parts.recorder.await_at_stop(self._concluding)
        await asyncio.shield(self._concluding)


@asynccontextmanager
async def exchange(parts: Parts, principal: Principal, ask: Ask, key: str) -> AsyncIterator[Exchange]:
    """Take a request through the stages; read the answer inside. What is refused or fails is recorded here."""
    began = parts.clock.monotonic()
    admitted: Admitted | None = None
    made: Exchange | None = None
    try:
        admitted = stages.admit(parts, principal, ask)
        with admitted.reservation:
            try:
                made = Exchange(parts, await _decided(parts, admitted), key)
                yield made
            except BaseException as error:
                if made is None:
                    admitted.reservation.settle(0)
                else:
                    # Shielded: a client that leaves cancels this task, and its outcome is recorded all the same.
                    await asyncio.shield(asyncio.ensure_future(made.end(error)))
                raise
            else:
                if not made.is_over:
                    await asyncio.shield(asyncio.ensure_future(made.end(None)))
    except BaseException as error:
        if made is None:
            parts.meters.ended(ask.task, record.outcome_of(error), Outcome())
            ms = (parts.clock.monotonic() - began) * 1000
            serial = parts.snapshot().serial
            await asyncio.shield(asyncio.ensure_future(parts.recorder.refused(ask, principal, error, ms=ms, serial=serial)))
        raise


async def _decided(parts: Parts, admitted: Admitted) -> Decided:
    return stages.decide(parts, await stages.prepare(parts, admitted))
