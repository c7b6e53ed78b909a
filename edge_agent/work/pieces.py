"""The pieces of an answer on their way from an engine to its reader: counted, and never many at a time.

Invariants, each with a test of its words:
- an engine that awaits `room` is not further ahead of its reader than one window and one piece;
- without a window no more than MOST_WAITING bytes wait to be sent;
- an engine that awaits `room` lets other tasks of the loop run every few milliseconds.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

from edge_agent.inference.port import Piece
from sync.serving import replies, usage
from sync.serving.replies import Sender
from sync.wire import tasks

MOST_WAITING = 64 * 1024
"""Bytes of pieces that may wait to be sent: a quarter of a window, and a few messages' worth."""
YIELD_S = 0.005
"""Seconds after which other tasks get a turn: pings, cancels and other requests wait no longer for one engine."""
MOST_TOGETHER = 64 * 1024
"""Bytes of pieces that go out as one: with the scores of their tokens they stay far below a frame's cap."""
SCORE_BYTES = 64
"""What a token's score and each of its likely tokens count as, in bytes: about what they have on the wire."""


class Counted:
    """Counts what an engine makes, and keeps nothing of it: for answers that go out whole.

    now: seconds of a clock that never goes back.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._turn_ended = now()
        self._known = 0
        self._unknown_bytes = 0

    @property
    def tokens(self) -> int:
        """How many tokens were made so far: as the engine counted them, or estimated where it did not."""
        return self._known + usage.estimate(self._unknown_bytes)

    def __call__(self, piece: Piece) -> None:
        # One thread makes the pieces of one request: nobody else writes these.
        if piece.tokens:
            self._known += piece.tokens
        else:
            self._unknown_bytes += len(piece.text.encode())

    async def room(self) -> None:
        """Give the loop to others for a turn, where they have waited for YIELD_S."""
        if self._now() - self._turn_ended >= YIELD_S:
            await asyncio.sleep(0)
            self._turn_ended = self._now()


class Pieces(Counted):
    """Holds what is made and not yet sent. The engine puts in, in any thread; `send` takes out, in the loop."""

    def __init__(self, sender: Sender, *, window: int, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__(now)
        self._loop = asyncio.get_running_loop()
        self._sender = sender
        self._window = window
        self._granted = 0
        self._lock = threading.Lock()
        self._waiting: deque[Piece] = deque()
        self._bytes = 0
        self._ended = False
        self._some = asyncio.Event()
        self._less = asyncio.Event()

    def __call__(self, piece: Piece) -> None:
        super().__call__(piece)
        with self._lock:
            self._waiting.append(piece)
            self._bytes += _size(piece)
            first = len(self._waiting) == 1
        if first and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._some.set)

    async def room(self) -> None:
        """Wait until the reader has taken, or will be sent, most of what is there."""
        await super().room()
        while self._is_full():
            self._less.clear()
            await self._less.wait()

    def granted(self, upto: int) -> None:
        """Take the reader's word that it has taken `upto` bytes."""
        self._sender.granted(upto)
        # No more than was sent: as the sender takes it.
        self._granted = max(self._granted, min(upto, self._sender.sent))
        self._less.set()

    def end(self) -> None:
        """Note that nothing more is made: `send` returns when the rest has gone out. In the loop."""
        self._ended = True
        self._some.set()

    async def send(self) -> None:
        """Send the pieces as they come, until the end; those that had to wait go out together.

        Raises AnswerTooLarge, or what the sender raises.
        """
        while True:
            await self._some.wait()
            self._some.clear()
            with self._lock:
                gathered = list(self._waiting)
                self._waiting.clear()
            for together in _grouped(gathered):
                await self._send(together)
            # Under no lock: only the loop sets `_ended`, after the last piece was put in.
            if self._ended and not self._waiting:
                return

    async def _send(self, pieces: list[Piece]) -> None:
        """Send pieces of one choice as one. They count as waiting until they are sent."""
        text = "".join(piece.text for piece in pieces)
        if self._sender.sent + len(text.encode()) > replies.MAX_ANSWER:
            most = replies.MAX_ANSWER >> 20
            raise replies.AnswerTooLarge(f"The answer is longer than {most} MiB: ask for less of it (max_tokens).")
        scores = tuple(score for piece in pieces for score in piece.scores)
        await self._sender.piece(text, pieces[0].choice, tasks.pack_scores(scores))
        with self._lock:
            self._bytes -= sum(map(_size, pieces))
        self._less.set()

    def _is_full(self) -> bool:
        # Both numbers are read without the lock: one that is a moment old lets one piece more through.
        ahead = self._bytes + self._sender.sent - self._granted
        return self._bytes >= MOST_WAITING or bool(self._window and ahead >= self._window)


def _grouped(pieces: list[Piece]) -> Iterator[list[Piece]]:
    """Yield neighbours of one choice together, up to about MOST_TOGETHER bytes."""
    group: list[Piece] = []
    size = 0
    for piece in pieces:
        if group and (piece.choice != group[0].choice or size >= MOST_TOGETHER):
            yield group
            group, size = [], 0
        group.append(piece)
        size += _size(piece)
    if group:
        yield group


def _size(piece: Piece) -> int:
    scored = sum(1 + len(score.top_logprobs) for score in piece.scores)
    return len(piece.text.encode()) + SCORE_BYTES * scored
