"""Micro-batches over one session: a few threads, each of which takes rows of like length, whosever they are.

On a CPU several callers with one thread each beat one caller with several threads, and a batch gains little: so a free thread takes
what is there at once, and only rows that would hardly be padded go together.

Invariants, each with a test of its words:
- rows come back in their order, whatever they were batched with;
- a batch that fails is told to those whose rows were in it, row by row where that tells them apart;
- a cancelled job's rows are not run; a run whose jobs are all cancelled is stopped in its middle.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from classifiers.onnx.session import Array, Stop
from classifiers.onnx.setup import Cancelled
from edge_agent.inference.meters import ModelMeters
from edge_agent.inference.port import Caller, Overloaded
from edge_agent.inference.queue import FairQueue
from sync.kit import errors, logs

log = logs.get("encoder")
BATCH_TOKENS = 1024
"""Tokens, padding included, of one run; one longer row runs alone."""
MOST_PADDING = 1.25
"""The longest row of a batch has at most so many times the tokens of the shortest."""
LARGE_RUN = 4096
"""Tokens of a run after which the arena is shrunk: it would keep what the run took for ever."""


@dataclass(frozen=True, slots=True)
class Row:
    """One input: `number` in its job, `size` in tokens, and what the model gets."""

    number: int
    size: int
    value: Any


@dataclass(slots=True, eq=False)
class Job:
    """One request's rows. `done` is called once, in a thread of the batcher."""

    rows: deque[Row]
    caller: Caller
    done: Callable[[BaseException | None], None]
    results: list[Any] = field(default_factory=list)
    left: int = 0
    put_at: float = 0.0
    cancelled: bool = False
    ended: bool = False


Run = Callable[[Sequence[Row], Stop], Sequence[Array]]
"""One result a row. Raises Cancelled or BadModel."""


class EncodeBatcher:
    """The threads of one encoder. `submit` and `cancel` from any thread."""

    def __init__(
        self, name: str, run: Run, *, threads: int, queue: FairQueue[Job], pads: bool, wait_s: float, meters: ModelMeters
    ) -> None:
        self._run_rows = run
        self._queue = queue
        self._pads = pads
        self._wait_s = wait_s
        self._meters = meters
        self._change = threading.Condition()
        self._at_work: dict[int, tuple[Stop, list[Job]]] = {}
        self._open_jobs = 0
        self._rows_waiting = 0
        self._closing = False
        self._last_done = 0.0
        self._threads = [
            threading.Thread(target=self._work, args=(i,), name=f"encoder-{name}-{i}", daemon=True) for i in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def running(self) -> int:
        return self._open_jobs

    def submit(self, job: Job) -> None:
        """Queues a job. Raises Overloaded."""
        job.left = len(job.rows)
        job.results = [None] * job.left
        job.put_at = now = time.monotonic()
        with self._change:
            if self._closing:
                raise Overloaded("The model is being closed.", retry_after_s=1)
            gone = [waiting.item for waiting in self._queue.put(job, job.caller, 0.0, now)]
            gone += (old := [waiting.item for waiting in self._queue.expired(now)])
            self._open_jobs += 1
            self._rows_waiting += job.left
            self._change.notify(min(job.left, len(self._threads)))
        for other in gone:
            self._end(other, self._queue.too_old() if other in old else self._queue.overloaded())

    def cancel(self, job: Job) -> None:
        """Ends a job whose caller went away."""
        with self._change:
            if job.ended:
                return
            job.cancelled = True
            waited = self._queue.remove(job, job.caller)
            for stop, jobs in self._at_work.values():
                if job in jobs and all(other.cancelled for other in jobs):
                    stop.now()
        self._meters.cancelled("queue" if waited else "encode")
        self._end(job, Cancelled("The request was cancelled."))

    def close(self, timeout_s: float = 10.0) -> None:
        """Ends everything, and waits for the runs at work."""
        with self._change:
            self._closing = True
            waiting = [entry.item for entry in self._queue.drain()]
            for stop, _ in self._at_work.values():
                stop.now()
            self._change.notify_all()
        for job in waiting:
            self._end(job, Cancelled("The model was closed."))
        for thread in self._threads:
            thread.join(timeout_s)

    def _work(self, number: int) -> None:
        while True:
            with self._change:
                while not self._closing and not len(self._queue):
                    self._change.wait()
                if self._closing:
                    return
                if self._wait_s and len(self._queue) == 1:
                    self._change.wait(self._wait_s)
                batch = self._gather()
                stop = Stop()
                self._at_work[number] = stop, [job for job, _ in batch]
            if batch:
                self._run(batch, stop)
            with self._change:
                self._at_work.pop(number, None)

    def _gather(self) -> list[tuple[Job, Row]]:
        """The rows of the next run, in the queue's order of fairness. Called with the lock held."""
        now = time.monotonic()
        for waiting in self._queue.expired(now):
            self._end(waiting.item, self._queue.too_old())
        batch: list[tuple[Job, Row]] = []
        shortest = longest = 0
        # Its share of what waits: what one thread takes, those that are free too would have to wait for.
        free = len(self._threads) - len(self._at_work)
        share = max(1, -(-self._rows_waiting // max(1, free)))
        while (job := self._queue.peek(now)) is not None:
            if len(job.rows) == len(job.results):
                self._meters.queued(now - job.put_at)
            taken = 0
            while job.rows and len(batch) < share:
                size = job.rows[0].size
                low, high = (min(shortest, size), max(longest, size)) if batch else (size, size)
                alike = high <= low * MOST_PADDING if self._pads else high == low
                if batch and (not alike or (len(batch) + 1) * high > BATCH_TOKENS):
                    break
                shortest, longest = low, high
                batch.append((job, job.rows.popleft()))
                taken += size
            self._queue.charge(job.caller.tenant, taken)
            if job.rows:
                break
            self._queue.remove(job, job.caller)
        self._rows_waiting -= len(batch)
        return batch

    def _run(self, batch: list[tuple[Job, Row]], stop: Stop) -> None:
        rows = [row for _, row in batch]
        tokens = sum(row.size for row in rows)
        if tokens > LARGE_RUN:
            stop.shrink_after()
        began = time.perf_counter()
        try:
            results = self._run_rows(rows, stop)
        except Cancelled:
            return  # every job of it was cancelled, and told
        except errors.RingfenceError as error:
            if len(batch) > 1:
                for single in batch:
                    self._run([single], stop)
            else:
                self._end(batch[0][0], error)
            return
        except Exception as error:
            log.error("run_failed", error=type(error).__name__)
            for job, _ in batch:
                self._end(job, errors.RingfenceError("The run failed inside; the agent's log has more."))
            return
        self._meters.encoded(len(rows), tokens, time.perf_counter() - began)
        for (job, row), result in zip(batch, results, strict=True):
            job.results[row.number] = result
            with self._change:
                job.left -= 1
                whole = job.left == 0
            if whole:
                self._end(job, None)

    def _end(self, job: Job, error: BaseException | None) -> None:
        with self._change:
            if job.ended:
                return
            job.ended = True
            self._open_jobs -= 1
            self._rows_waiting -= len(job.rows)
            job.rows.clear()
            self._queue.remove(job, job.caller)
            now = time.monotonic()
            self._queue.finished(min(now - job.put_at, now - self._last_done))
            self._last_done = now
        job.done(error)
