"""The continuous batcher: one thread a model, and one step after another for whatever is there.

Sequences join and leave between steps (Orca, Yu 2022); a prompt is computed in pieces between the others' steps (Sarathi,
Agrawal 2023). Rows 0 to n decode together; the sequence whose prompt is being computed has row n. A sequence that ends leaves
a hole, which the last row fills.

Invariants, each with a test of its words:
- a sequence's tokens are the same whoever else is in the batch;
- a cancel frees the row within one step: in the queue, in prefill (whose run is stopped in its middle) and in decode;
- what goes wrong with one sequence is told to its caller, and the others go on;
- the cache never holds more than `most_tokens` tokens in all.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from classifiers.onnx.session import Stop
from classifiers.onnx.setup import BadModel, Cancelled
from edge_agent.inference.generate.decoder import Decoder
from edge_agent.inference.generate.prefix import BLOCK, PrefixCache
from edge_agent.inference.generate.request import Sequence, not_numbers
from edge_agent.inference.meters import ModelMeters
from edge_agent.inference.port import Overloaded
from edge_agent.inference.queue import FairQueue
from sync.kit import errors, logs

log = logs.get("batcher")
PIECE_S = 0.25
"""Seconds that a piece of a prompt may keep the others' tokens waiting, or a quarter more where that is its end."""
REST = 1.25
LEAST_PIECE = 16
FIRST_RATE = 500.0
"""Prompt tokens a second, before any were measured."""
IDLE_S = 5.0
"""Seconds without work after which the cache is given back."""
LARGE_PROMPT = 256
"""Prompts over this many tokens make the arena large: it is shrunk after them."""
LARGE_ROW = 4 * 1024 * 1024
"""A row that took more bytes gives them back when it is left; a smaller one's are soon used again."""
EXPIRE_EVERY_S = 0.5


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much one model takes on. `rows` decode together; `most_tokens` of cache in all; `piece` of a prompt at a time."""

    rows: int
    most_tokens: int
    piece: int
    ends: frozenset[int]


class Batcher:
    """Runs one decoder. `submit` and `cancel` from any thread."""

    def __init__(
        self, name: str, decoder: Decoder, prefixes: PrefixCache, queue: FairQueue[Sequence], bounds: Bounds, meters: ModelMeters
    ) -> None:
        self._decoder = decoder
        self._prefixes = prefixes
        self._queue = queue
        self._bounds = bounds
        self._meters = meters
        self._change = threading.Condition()
        self._cancelled: list[Sequence] = []
        self._rows: list[Sequence] = []
        self._prefilling: Sequence | None = None
        self._closing = False
        self._rate = FIRST_RATE
        self._decode_stop = Stop()
        self._last_done = 0.0
        self._last_expiry = 0.0
        self._thread = threading.Thread(target=self._run, name=f"batcher-{name}", daemon=True)
        self._thread.start()

    @property
    def running(self) -> int:
        return len(self._queue) + len(self._rows) + (self._prefilling is not None)

    @property
    def tokens_held(self) -> int:
        """Tokens in the rows at work."""
        prefilling = self._prefilling
        return sum(row.length for row in list(self._rows)) + (prefilling.length if prefilling else 0)

    def submit(self, sequence: Sequence) -> None:
        """Queues a sequence. Raises Overloaded."""
        sequence.put_at = time.monotonic()
        with self._change:
            if self._closing:
                raise Overloaded("The model is being closed.", retry_after_s=1)
            gone = self._queue.put(sequence, sequence.caller, sequence.most_tokens, sequence.put_at)
            self._change.notify()
        for waiting in gone:
            waiting.item.done(self._queue.overloaded())

    def cancel(self, sequence: Sequence) -> None:
        """Ends a sequence whose caller went away. `done` is called with Cancelled, unless it is done already."""
        with self._change:
            waited = self._queue.remove(sequence, sequence.caller)
            if not waited:
                sequence.stop.now()
                self._cancelled.append(sequence)
                self._change.notify()
        if waited:
            self._meters.cancelled("queue")
            sequence.done(Cancelled("The request was cancelled in the queue."))

    def close(self, timeout_s: float = 10.0) -> None:
        """Ends everything, and waits for the step at work."""
        with self._change:
            self._closing = True
            waiting = self._queue.drain()
            self._change.notify()
        self._decode_stop.now()
        prefilling = self._prefilling
        if prefilling is not None:
            prefilling.stop.now()
        for entry in waiting:
            entry.item.done(Cancelled("The model was closed."))
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while self._wait_for_work():
            try:
                self._drop_cancelled()
                self._admit()
                if self._prefilling is not None:
                    self._prefill_piece(self._prefilling)
                if self._rows:
                    self._step()
            except Exception as error:
                log.error("batcher_failed", error=type(error).__name__)
                self._fail_all(errors.RingfenceError("The model's batch failed inside; the agent's log has more."))
        self._fail_all(Cancelled("The model was closed."))
        self._decoder.release()
        self._prefixes.clear()

    def _wait_for_work(self) -> bool:
        """Returns when there is something to do; False when it is time to end."""
        with self._change:
            while not (self._closing or self._rows or self._prefilling or self._cancelled or len(self._queue)):
                if not self._change.wait(IDLE_S) and self._decoder.capacity:
                    self._decoder.release()
            return not self._closing

    def _drop_cancelled(self) -> None:
        with self._change:
            cancelled, self._cancelled = self._cancelled, []
        for sequence in cancelled:
            if sequence is self._prefilling:
                self._prefilling = None
                self._meters.cancelled("prefill")
                sequence.done(Cancelled("The request was cancelled while its prompt was computed."))
            elif sequence in self._rows:
                self._meters.cancelled("decode")
                self._leave(self._rows.index(sequence), Cancelled("The request was cancelled."))

    def _admit(self) -> None:
        """Takes the next sequence, where there is a row and room for it."""
        now = time.monotonic()
        if now - self._last_expiry > EXPIRE_EVERY_S:
            self._last_expiry = now
            with self._change:
                old = self._queue.expired(now)
            for waiting in old:
                waiting.item.done(self._queue.too_old())
        if self._prefilling is not None or len(self._rows) >= self._bounds.rows:
            return
        with self._change:
            sequence = self._queue.peek(now)
            if sequence is None:
                return
            taken = sum(row.most_tokens for row in self._rows)
            alike = self._decoder.can_pad or not self._rows
            if self._rows and (taken + sequence.most_tokens > self._bounds.most_tokens or not alike):
                return
            self._queue.take(now)
            self._prefilling = sequence
        sequence.began_at = now
        self._meters.queued(now - sequence.put_at)
        try:
            self._decoder.reserve(sequence.most_tokens, [row.length for row in self._rows])
        except BadModel as error:
            self._prefilling = None
            sequence.done(error)
            return
        # The last token is always computed: its logits are what the answer begins with.
        for block in self._prefixes.find(sequence.caller.tenant, sequence.prompt[:-1]):
            self._decoder.write(len(self._rows), sequence.length, block)
            sequence.length += BLOCK
        sequence.reused = sequence.length
        self._meters.reused(sequence.reused)
        if len(sequence.prompt) - sequence.length > LARGE_PROMPT:
            sequence.stop.shrink_after()

    def _prefill_piece(self, sequence: Sequence) -> None:
        row = len(self._rows)
        size = self._bounds.piece if row == 0 else min(self._bounds.piece, max(LEAST_PIECE, int(self._rate * PIECE_S)))
        left = len(sequence.prompt) - sequence.length
        size = self._decoder.most_at_once(left if left <= size * REST else size)
        piece = sequence.prompt[sequence.length : sequence.length + size]
        began = time.perf_counter()
        try:
            logits = self._decoder.prefill(row, sequence.length, piece, sequence.stop)
        except Cancelled:
            return  # its cancel is on the list of those to drop
        except BadModel as error:
            self._prefilling = None
            sequence.done(error)
            return
        took = time.perf_counter() - began
        if len(piece) >= LEAST_PIECE:
            self._rate = 0.5 * self._rate + 0.5 * len(piece) / max(took, 1e-6)
        self._meters.prefilled(len(piece), took)
        sequence.length += len(piece)
        if sequence.length < len(sequence.prompt):
            return
        self._prefilling = None
        self._prefixes.store(sequence.caller.tenant, sequence.prompt, lambda begin, end: self._decoder.read(row, begin, end))
        self._rows.append(sequence)
        self._meters.first_token(time.monotonic() - sequence.put_at)
        self._take(sequence, functools.partial(sequence.answer.pick, logits))
        self._sweep()

    def _step(self) -> None:
        """One token more for every row."""
        began = time.perf_counter()
        rows = self._rows
        try:
            logits = self._decoder.step([row.answer.tokens[-1] for row in rows], [row.length for row in rows], self._decode_stop)
        except (Cancelled, BadModel) as error:
            self._fail_all(error)
            return
        best = logits.argmax(axis=1)
        highest = logits[np.arange(len(rows)), best]
        for i, sequence in enumerate(rows):
            sequence.length += 1
            if not sequence.answer.is_plain_greedy:
                self._take(sequence, functools.partial(sequence.answer.pick, logits[i]))
            elif np.isfinite(highest[i]):
                self._take(sequence, functools.partial(int, best[i]))
            else:
                self._take(sequence, _refuse)
        self._meters.stepped(len(rows), time.perf_counter() - began)
        self._sweep()

    def _take(self, sequence: Sequence, pick: Callable[[], int]) -> None:
        """Gives a sequence its next token; what goes wrong is its own."""
        now = time.monotonic()
        try:
            room = sequence.most_new - len(sequence.answer.tokens) - 1
            sequence.answer.take(pick(), self._bounds.ends, room)
        except errors.RingfenceError as error:
            sequence.answer.finish = "error"
            sequence.done(error)
        except Exception as error:
            log.error("answer_failed", error=type(error).__name__)
            sequence.answer.finish = "error"
            sequence.done(errors.RingfenceError("The answer could not be made; the agent's log has more."))
        if sequence.token_at:
            self._meters.next_token(now - sequence.token_at)
        sequence.token_at = now

    def _sweep(self) -> None:
        """Takes those that are finished out of the batch, from the last row to the first."""
        for i in reversed(range(len(self._rows))):
            if self._rows[i].answer.finish:
                self._leave(i, None)

    def _leave(self, i: int, error: BaseException | None) -> None:
        """Frees row i: the last row moves there, and the prompt that is being computed moves up."""
        sequence, last = self._rows[i], len(self._rows) - 1
        if error is None and sequence.answer.finish != "error":
            self._prefixes.store(sequence.caller.tenant, sequence.computed, lambda begin, end: self._decoder.read(i, begin, end))
        if i != last:
            self._decoder.move(last, i, self._rows[last].length)
            self._rows[i] = self._rows[last]
        self._rows.pop()
        free = last
        if self._prefilling is not None:
            self._decoder.move(last + 1, last, self._prefilling.length)
            free = last + 1
        if sequence.length * self._decoder.shape.token_bytes > LARGE_ROW:
            for row, length in ((i, self._rows[i].length if i < len(self._rows) else 0), (free, 0)):
                self._decoder.trim(row, length)
        now = time.monotonic()
        with self._change:
            self._queue.finished(min(now - sequence.began_at, now - self._last_done))
        self._last_done = now
        if sequence.answer.finish != "error":
            sequence.done(error)

    def _fail_all(self, error: errors.RingfenceError) -> None:
        """Ends every sequence at work, those of the batch and the one whose prompt is computed."""
        rows, self._rows = self._rows, []
        prefilling, self._prefilling = self._prefilling, None
        for sequence in (*rows, *([prefilling] if prefilling else [])):
            sequence.done(error)


def _refuse() -> int:
    raise not_numbers()
