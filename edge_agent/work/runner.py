"""One run, from an admitted request to its last reply: cache, engine, journal, done.

Invariants, each with a test of its words:
- nothing runs that the guard does not admit;
- the record is on disk before the last reply leaves; where it cannot be written, the request fails;
- a request that comes twice runs once;
- a cancel ends the work, and leaves a record too;
- however a run ends, there is one record with what it took, and one last reply to whoever still reads;
- what was sent long ago is not begun: another agent has done it since.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from dataclasses import dataclass

from edge_agent.inference import port
from edge_agent.inference.port import Caller, Piece, Priority, Result
from edge_agent.inference.repository.lifecycle import Loaded, Repository
from edge_agent.work import outcome
from edge_agent.work.cache import Answer, AnswerCache
from edge_agent.work.guard import Guard
from edge_agent.work.pieces import Counted, Pieces
from sync.audit.journal import Journal
from sync.kit import errors, logs
from sync.kit.clock import Clock
from sync.kit.ids import DecisionId, RequestId
from sync.serving import replies
from sync.serving.replies import Reply, Sender
from sync.wire import codec, tasks, types
from sync.wire.messages import Accepted, Failed, Run

log = logs.get("runner")
KIND = "run"
ACCEPT_AFTER_S = 0.1
"""A request that is not done by then is said to be accepted: quick ones need no message more."""
DUPLICATE = "duplicate_request"
REMEMBERED = 10_000
"""Request ids that are remembered, to know a second delivery."""
START_WITHIN_S = 10.0
"""Seconds on the way after which a run is not begun: a hub asks whether an agent is there after less than one."""


class StartedTooLate(errors.Retryable):
    """The request was sent so long ago that another agent has it by now."""

    code = "start_deadline"


class Stopped(errors.Retryable):
    """The agent ended the run before its end."""

    code = "cancelled"


class WrongTask(errors.Refused):
    """The model does something else than what is asked for."""

    code = "model_task_mismatch"


@dataclass(slots=True, eq=False)
class Job:
    """A run at work. `due`: when its time is over, in the loop's clock; `made`: what the engine has made so far."""

    run: Run
    sender: Sender
    due: float
    began: float
    made: Counted | None = None
    request: tasks.Request | None = None
    """What the engine was asked; None where nothing was."""
    result: Result | None = None
    cached: bool = False
    left: bool = False
    """Whether the reader itself has cancelled: it reads no more."""
    begun: bool = False
    ending: bool = False
    """Whether the outcome is certain, and is being recorded and told."""
    accepted: asyncio.Task[None] | None = None


class Runner:
    """Runs what intake hands it."""

    def __init__(self, *, guard: Guard, repository: Repository, cache: AnswerCache, journal: Journal, clock: Clock) -> None:
        self._guard = guard
        self._repository = repository
        self._cache = cache
        self._journal = journal
        self._clock = clock
        self._seen: OrderedDict[RequestId, DecisionId] = OrderedDict()
        self._refusals: set[asyncio.Task[None]] = set()
        self._jobs: dict[RequestId, Job] = {}
        self.at_work: dict[RequestId, asyncio.Task[None]] = {}
        self.latency_ms = 0.0

    def start(self, run: Run, reply: Reply) -> None:
        """Begin a run. A request that was seen before is not begun again."""
        before = self._seen.get(run.request)
        if before is not None:
            log.warning("duplicate_request", request=run.request)
            if before != run.ticket.decision:
                # Another decision under the same id is another request: silence would look like a dead agent.
                self._refuse(Failed(run.request, DUPLICATE, "A request with this id was run already.", False, 0.0), reply)
            return
        self._seen[run.request] = run.ticket.decision
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        # A hub that knows `left_s` knows the digest too: both came with version 2 of the wire.
        sender = Sender(run.request, reply, window=run.window, summed=run.left_s is not None)
        due = asyncio.get_running_loop().time() + self._left_s(run)
        job = self._jobs[run.request] = Job(run, sender, due, time.perf_counter())
        task = asyncio.create_task(self._guarded(job), name=f"run {run.request}")
        self.at_work[run.request] = task
        task.add_done_callback(lambda _: self._ended(run.request))

    def _refuse(self, failed: Failed, reply: Reply) -> None:
        async def say() -> None:
            with contextlib.suppress(errors.RingfenceError):
                await reply(failed)

        task = asyncio.create_task(say(), name=f"refusal {failed.request}")
        self._refusals.add(task)
        task.add_done_callback(self._refusals.discard)

    def granted(self, request: RequestId, upto: int) -> None:
        """Take the reader's word that it has taken `upto` bytes of a stream: more may go out."""
        job = self._jobs.get(request)
        if job is not None and isinstance(job.made, Pieces):
            job.made.granted(upto)

    def cancel(self, request: RequestId) -> None:
        """End a run that nobody waits for any more."""
        job = self._jobs.get(request)
        if job is None:
            return
        job.left = True
        # A task that is cancelled before its first step would leave no record: it looks at `left` itself.
        if job.begun and not job.ending:
            self.at_work[request].cancel()

    async def stop(self, timeout_s: float) -> None:
        """Let runs at work end, at most so long, then cancel them."""
        tasks_at_work = list(self.at_work.values())
        if tasks_at_work:
            _, late = await asyncio.wait(tasks_at_work, timeout=timeout_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def _ended(self, request: RequestId) -> None:
        self.at_work.pop(request, None)
        self._jobs.pop(request, None)

    def _left_s(self, run: Run) -> float:
        """Return how many seconds a run has from now on. A hub of version 0.1 says only when it ends by its own clock."""
        left = run.left_s if run.left_s is not None else run.deadline - self._clock.wall()
        return min(types.MAX_SECONDS, max(0.0, left))

    async def _guarded(self, job: Job) -> None:
        """Serve a run. Whatever happens: one record, one last reply, and no error takes the agent with it."""
        answer, error, cancelled = None, None, False
        try:
            answer = await self._served(job)
        except errors.RingfenceError as raised:
            error = raised
        except asyncio.CancelledError:
            cancelled = True
            error = Stopped("The agent has ended this request before its end: it is being stopped.")
        except Exception as raised:
            log.error("run_failed", request=job.run.request, error=type(raised).__name__)
            error = errors.RingfenceError("The agent failed inside; its log has the request id.")
        finally:
            job.ending = True
            took_ms = (time.perf_counter() - job.began) * 1000
            self.latency_ms = 0.9 * self.latency_ms + 0.1 * took_ms
        try:
            # Shielded: what has run has its record, even where a cancel comes in this very moment.
            await asyncio.shield(self._record(job, error, took_ms))
            if answer is not None:
                await self._say_done(job, answer, took_ms)
        except errors.RingfenceError as raised:
            error = raised
        except Exception as raised:
            log.error("run_not_told", request=job.run.request, error=type(raised).__name__)
            error = errors.RingfenceError("The agent failed inside; its log has the request id.")
        if error is not None and not job.left:
            await self._say_failed(job, error)
        if cancelled:
            raise asyncio.CancelledError

    async def _served(self, job: Job) -> Answer:
        """Return the answer of a run within its time. Raises why there is none."""
        job.begun = True
        if job.left:
            raise Stopped("The request was cancelled before it was begun.")
        accepted = asyncio.get_running_loop().call_later(ACCEPT_AFTER_S, _say_accepted, job)
        try:
            async with asyncio.timeout_at(job.due) as limit:
                if job.due <= asyncio.get_running_loop().time():
                    raise replies.DeadlinePassed("The request came when its time was over.")
                self._check_start(job.run)
                self._guard.admit(job.run.ticket)
                self._journal.check()
                return await self._answer(job)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise replies.DeadlinePassed("The request took longer than its time allows.") from error
        finally:
            accepted.cancel()

    def _check_start(self, run: Run) -> None:
        """Raise StartedTooLate where the run was sent long ago by the hub's own clock.

        An agent that was stopped for a while finds in its socket what others have done since. This
        is asked of the hub's clock alone: this machine's own may be wrong.
        """
        now = self._guard.hub_now()
        if run.sent is not None and now is not None and now - run.sent > START_WITHIN_S:
            raise StartedTooLate(f"The request was sent {now - run.sent:.0f} s ago, and is not begun any more.")

    async def _answer(self, job: Job) -> Answer:
        """Return what is answered, from the cache or from the engine; a stream's pieces go out on the way."""
        run = job.run
        if self._repository.manifest(run.folder).task != run.task:
            raise WrongTask(f"The model folder '{run.folder}' is not for {run.task}.")
        request = port.read(run.task, run.payload)
        async with self._repository.lease(run.folder) as model:
            key = self._cache.key(run, model.digest) if outcome.may_be_kept(request) else None
            if key is not None and (known := await self._cache.find(key)) is not None:
                kept = await self._from_cache(job, request, known)
                if kept is not None:
                    return kept
            result = job.result = await self._run(job, model, request)
        answer = outcome.answer(request, result, streamed=run.stream)
        if key is not None:
            await self._keep(key, request, result, run.cache_ttl_s)
        return answer

    async def _keep(self, key: bytes, request: tasks.Request, result: Result, ttl_s: int) -> None:
        """Keep an answer for the next who asks the same, where it can be sent as one."""
        try:
            whole = outcome.answer(request, result, streamed=False)
        except errors.RingfenceError:
            return  # a stream's pieces have gone out well: nothing is wrong for its reader
        await self._cache.keep(key, whole, ttl_s)

    async def _from_cache(self, job: Job, request: tasks.Request, known: Answer) -> Answer | None:
        """Return an answer that was kept, having sent its text where it is streamed; None where it cannot be read."""
        try:
            kept = tasks.read_answer(request, known.result)
        except codec.BadFrame as error:
            log.warning("cached_answer_unreadable", detail=str(error))
            return None
        job.cached = True
        job.result = Result(kept, known.prompt_tokens, known.completion_tokens)
        if not job.run.stream:
            return known
        pieces = job.made = Pieces(job.sender, window=job.run.window)
        pieces(Piece(known.text))
        pieces.end()
        await pieces.send()
        return outcome.answer(request, job.result, streamed=True)

    async def _run(self, job: Job, model: Loaded, request: tasks.Request) -> Result:
        """Return the engine's result."""
        run = job.run
        caller = Caller(run.ticket.tenant, Priority.BATCH if run.batch else Priority.INTERACTIVE)
        job.request = request
        if run.stream:
            return await self._streamed(job, model, caller, request)
        job.made = Counted()
        # A whole answer is counted while it is made, so that one that is cancelled is not free. Another
        # server's is not: it would be asked for a stream.
        emit = None if model.manifest.backend == "upstream" else job.made
        return await model.engine.run(request, emit, caller)

    async def _streamed(self, job: Job, model: Loaded, caller: Caller, request: tasks.Request) -> Result:
        """Return the engine's result, having sent its pieces as they came. The engine is ended where they cannot go out."""
        pieces = job.made = Pieces(job.sender, window=job.run.window)
        work = asyncio.create_task(model.engine.run(request, pieces, caller))
        work.add_done_callback(lambda _: pieces.end())
        try:
            await pieces.send()
            return await work
        finally:
            work.cancel()
            # Waited for: its model's lease is held for as long as it works.
            await asyncio.wait([work])
            if not work.cancelled():
                work.exception()  # looked at: where `send` failed first, that is what is told

    async def _record(self, job: Job, error: errors.RingfenceError | None, took_ms: float) -> None:
        """Write what the journal holds of a run: ids and counts, nothing of the prompt. Raises AuditUnavailable."""
        run, ticket = job.run, job.run.ticket
        used = outcome.used(job.result, job.request, job.made, error)
        fields: dict[str, object] = {
            "request": run.request,
            "decision": ticket.decision,
            "principal": ticket.principal,
            "level": ticket.level.label,
            "task": run.task,
            "model": run.model,
            "folder": run.folder,
            "bundle": self._guard.current.serial,
            "cache": job.cached,
            "outcome": error.code if error is not None else "done",
            "finish": job.result.finish if job.result is not None and error is None else "",
            "prompt_tokens": used.prompt_tokens,
            "completion_tokens": used.completion_tokens,
            "estimated": used.estimated,
            "ms": round(took_ms, 2),
        }
        await self._journal.append(ticket.tenant, KIND, fields)

    async def _say_done(self, job: Job, answer: Answer, took_ms: float) -> None:
        await job.sender.done(
            answer.result,
            prompt_tokens=answer.prompt_tokens,
            completion_tokens=answer.completion_tokens,
            finish=answer.finish,
            cached=job.cached,
            compute_ms=took_ms,
            estimated=job.result is not None and job.result.estimated,
        )

    async def _say_failed(self, job: Job, error: errors.RingfenceError) -> None:
        if isinstance(error, errors.Misconfigured):
            log.error("model_unusable", request=job.run.request, code=error.code, detail=str(error))
        told = outcome.told(error)
        try:
            await job.sender.failed(told.error, retryable=told.retryable, retry_after_s=told.retry_after_s)
        except errors.RingfenceError as failed:
            log.warning("reply_failed", request=job.run.request, code=failed.code)
        except Exception as failed:
            log.error("reply_failed", request=job.run.request, error=type(failed).__name__)


def _say_accepted(job: Job) -> None:
    def ended(task: asyncio.Task[None]) -> None:
        failed = None if task.cancelled() else task.exception()
        if failed is not None:
            log.warning("accepted_not_told", request=job.run.request, error=type(failed).__name__)

    saying = job.sender.say(Accepted(job.run.request))
    job.accepted = asyncio.create_task(saying, name=f"accepted {job.run.request}")
    job.accepted.add_done_callback(ended)
