"""One run, from an admitted request to its last reply: cache, engine, journal, done.

Invariants, each with a test of its words:
- nothing runs that the guard does not admit;
- the record is on disk before the last reply leaves; where it cannot be written, the request fails;
- a request that comes twice runs once;
- a cancel ends the work, and leaves a record too.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from edge_agent.inference.port import Caller, Choice, Piece, Priority, Result
from edge_agent.inference.repository.lifecycle import Loaded, Repository
from edge_agent.work.cache import Answer, AnswerCache
from edge_agent.work.guard import Guard
from sync.audit.journal import AuditUnavailable, Journal
from sync.kit import errors, logs
from sync.kit.clock import Clock
from sync.kit.ids import RequestId
from sync.policy.admit import TicketRefused
from sync.wire import codec
from sync.wire.messages import Accepted, Chunk, Done, Failed, Run

log = logs.get("runner")
KIND = "run"
ACCEPT_AFTER_S = 0.1
"""A request that is not done by then is said to be accepted: quick ones need no message more."""
REMEMBERED = 10_000
"""Request ids that are remembered, to know a second delivery."""
CHUNK_CHARACTERS = 16_384

Reply = Callable[[codec.Message], Awaitable[None]]


@dataclass(slots=True)
class Served:
    """What a run came to, for its record."""

    result: Result | None = None
    cached: bool = False
    chunks: int = 0
    code: str = ""


class Runner:
    """Runs what intake hands it."""

    def __init__(self, *, guard: Guard, repository: Repository, cache: AnswerCache, journal: Journal, clock: Clock) -> None:
        self._guard = guard
        self._repository = repository
        self._cache = cache
        self._journal = journal
        self._clock = clock
        self._seen: OrderedDict[RequestId, None] = OrderedDict()
        self.at_work: dict[RequestId, asyncio.Task[None]] = {}
        self.latency_ms = 0.0

    def start(self, run: Run, reply: Reply) -> None:
        """Begins a run. A request that was seen before is not begun again."""
        if run.request in self._seen:
            log.warning("duplicate_request", request=run.request)
            return
        self._seen[run.request] = None
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        task = asyncio.create_task(self._guarded(run, reply), name=f"run {run.request}")
        self.at_work[run.request] = task
        task.add_done_callback(lambda _: self.at_work.pop(run.request, None))

    def cancel(self, request: RequestId) -> None:
        """Ends a run that nobody waits for any more."""
        task = self.at_work.get(request)
        if task is not None:
            task.cancel()

    async def stop(self, timeout_s: float) -> None:
        """Lets runs at work end, at most so long, then cancels them."""
        tasks = list(self.at_work.values())
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=timeout_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _guarded(self, run: Run, reply: Reply) -> None:
        """Whatever happens, the hub is told; no error ends silently, and none takes the agent with it."""
        began = time.perf_counter()
        try:
            await self._serve(run, reply, began)
        except errors.RingfenceError as error:
            await self._say_failed(run, reply, error)
        except Exception as error:
            log.error("run_failed", request=run.request, error=type(error).__name__)
            await self._say_failed(run, reply, errors.RingfenceError("The agent failed inside; its log has the request id."))
        finally:
            self.latency_ms = 0.9 * self.latency_ms + 0.1 * (time.perf_counter() - began) * 1000

    async def _serve(self, run: Run, reply: Reply, began: float) -> None:
        accepted = asyncio.get_running_loop().call_later(ACCEPT_AFTER_S, _say_accepted, run, reply)
        served = Served()
        try:
            async with asyncio.timeout(max(0.0, run.deadline - self._clock.wall())):
                self._guard.admit(run.ticket)
                self._journal.check()
                answer = await self._answer(run, reply, served)
        except TimeoutError as error:
            served.code = "deadline_exceeded"
            await self._record(run, served, began)
            raise errors.Retryable("The request took longer than its time allows.", code="deadline_exceeded") from error
        except asyncio.CancelledError:
            served.code = "cancelled"
            await asyncio.shield(self._record(run, served, began))
            raise
        except errors.RingfenceError as error:
            served.code = error.code
            await self._record(run, served, began)
            raise
        finally:
            accepted.cancel()
        await self._record(run, served, began)
        ms = (time.perf_counter() - began) * 1000
        await reply(
            Done(
                request=run.request,
                result=answer.result,
                prompt_tokens=answer.prompt_tokens,
                completion_tokens=answer.completion_tokens,
                finish=answer.finish,
                cached=served.cached,
                chunks=served.chunks,
                compute_ms=ms,
            )
        )

    async def _answer(self, run: Run, reply: Reply, served: Served) -> Answer:
        """From the cache or from the engine; a stream's pieces go out on the way."""
        async with self._repository.lease(run.folder) as model:
            if model.manifest.task != run.task:
                raise errors.Refused(f"The model folder '{run.folder}' is not for {run.task}.", code="model_task_mismatch")
            payload = codec.unpack(run.payload)
            if not isinstance(payload, dict):
                raise errors.Refused("The request's payload is not a map.", code="bad_payload")
            key = self._cache.key(run, model.digest) if _may_be_kept(payload) else None
            if key is not None and (known := await self._cache.find(key)) is not None:
                served.cached = True
                choice = Choice(known.text, known.finish)
                served.result = Result({}, known.prompt_tokens, known.completion_tokens, (choice,))
                if run.stream:
                    await _send_pieces(run, reply, served, [Piece(known.text)])
                return known
            caller = Caller(run.ticket.tenant, Priority.BATCH if run.batch else Priority.INTERACTIVE)
            result = await (
                self._streamed(model, payload, caller, run, reply, served)
                if run.stream
                else model.engine.run(payload, None, caller)
            )
        served.result = result
        if key is not None:
            await self._cache.keep(key, _answer_of(result, streamed=False), run.cache_ttl_s)
        return _answer_of(result, streamed=run.stream)

    async def _streamed(
        self, model: Loaded, payload: dict[str, object], caller: Caller, run: Run, reply: Reply, served: Served
    ) -> Result:
        """Runs the engine and sends its pieces as they come; those that wait for a slow line go out together."""
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[Piece | None] = asyncio.Queue()

        def emit(piece: Piece) -> None:
            loop.call_soon_threadsafe(pieces.put_nowait, piece)

        work = asyncio.create_task(model.engine.run(payload, emit, caller))
        work.add_done_callback(lambda _: loop.call_soon_threadsafe(pieces.put_nowait, None))
        try:
            while (piece := await pieces.get()) is not None:
                gathered: list[Piece | None] = [piece]
                while not pieces.empty() and gathered[-1] is not None:
                    gathered.append(pieces.get_nowait())
                ended = gathered[-1] is None
                await _send_pieces(run, reply, served, [piece for piece in gathered if piece is not None])
                if ended:
                    break
            return await work
        finally:
            work.cancel()

    async def _record(self, run: Run, served: Served, began: float) -> None:
        """What the journal holds of a run: ids and counts, nothing of the prompt. Raises AuditUnavailable."""
        result, ticket = served.result, run.ticket
        fields: dict[str, object] = {
            "request": run.request,
            "decision": ticket.decision,
            "principal": ticket.principal,
            "level": ticket.level.label,
            "task": run.task,
            "model": run.model,
            "folder": run.folder,
            "bundle": self._guard.current.serial,
            "cache": served.cached,
            "outcome": served.code or "done",
            "prompt_tokens": result.prompt_tokens if result else 0,
            "completion_tokens": result.completion_tokens if result else 0,
            "ms": round((time.perf_counter() - began) * 1000, 2),
        }
        await self._journal.append(ticket.tenant, KIND, fields)

    async def _say_failed(self, run: Run, reply: Reply, error: errors.RingfenceError) -> None:
        retryable = isinstance(error, (errors.Retryable, TicketRefused)) and not isinstance(error, AuditUnavailable)
        wait = error.retry_after_s if isinstance(error, errors.Retryable) else 0.0
        # What is wrong on this machine is for its log: paths and settings are no business of the client.
        here = isinstance(error, errors.Misconfigured)
        if here:
            log.error("model_unusable", request=run.request, code=error.code, detail=str(error))
        sentence = "The agent cannot use this model; its log says why." if here else str(error)[:2000]
        try:
            await reply(Failed(run.request, error.code, sentence, retryable, wait))
        except errors.RingfenceError as failed:
            log.warning("reply_failed", request=run.request, code=failed.code)


def _say_accepted(run: Run, reply: Reply) -> None:
    task = asyncio.ensure_future(reply(Accepted(run.request)))
    task.add_done_callback(lambda done: None if done.cancelled() else done.exception())


async def _send_pieces(run: Run, reply: Reply, served: Served, pieces: Sequence[Piece]) -> None:
    """Sends pieces, those of one choice that follow each other as one."""
    for choice, group in itertools.groupby(pieces, key=lambda piece: piece.choice):
        told = list(group)
        text = "".join(piece.text for piece in told)
        scores = [score.told for piece in told for score in piece.scores]
        extra = codec.pack(scores) if scores else b""
        for first in range(0, max(1, len(text)), CHUNK_CHARACTERS):
            await reply(Chunk(run.request, served.chunks, text[first : first + CHUNK_CHARACTERS], choice, extra))
            served.chunks += 1
            extra = b""


def _may_be_kept(payload: dict[str, object]) -> bool:
    """Whether one text is all of the answer: several, or scores of tokens, are made anew."""
    return payload.get("n") in (None, 1) and not payload.get("logprobs")


def _answer_of(result: Result, *, streamed: bool) -> Answer:
    """The answer for the hub. A streamed text has gone out in pieces already."""
    fields = dict(result.fields)
    if result.choices:
        fields["choices"] = [
            {
                "text": "" if streamed else choice.text, "finish": choice.finish,
                "scores": [] if streamed else [score.told for score in choice.scores],
            }
            for choice in result.choices
        ]  # fmt: skip
    if result.reused_tokens:
        fields["reused_tokens"] = result.reused_tokens
    return Answer(codec.pack(fields), result.text, result.prompt_tokens, result.completion_tokens, result.finish)
