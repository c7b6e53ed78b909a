"""Write down the first of many events that are alike, and count the others: nobody fills a journal with refusals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from sync.kit.clock import Clock

PER_WINDOW = 30
"""Events of one kind that are written down within a window: enough to see who does what, few enough for any disk."""
WINDOW_S = 60.0
MAX_KINDS = 10_000
"""Kinds that are counted at once. Beyond them, what comes first is forgotten first."""

K = TypeVar("K")


@dataclass(slots=True)
class _Window:
    began: float
    written: int = 0
    more: int = 0


class Sparing(Generic[K]):
    """Decides which events of a kind are written down. In memory, one process's own."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._windows: dict[K, _Window] = {}

    def take(self, kind: K) -> int | None:
        """Return None where the event is only counted; else how many like it were counted since the last that was written."""
        now = self._clock.monotonic()
        window = self._windows.get(kind)
        more = 0
        if window is None or now - window.began >= WINDOW_S:
            more = window.more if window is not None else 0
            window = self._windows[kind] = _Window(now)
            if len(self._windows) > MAX_KINDS:
                del self._windows[next(iter(self._windows))]
        if window.written >= PER_WINDOW:
            window.more += 1
            return None
        window.written += 1
        return more

    def over(self, *, at_once: bool = False) -> Iterator[tuple[K, int]]:
        """Return each kind whose window is over (or all, `at_once`), with how many were not written; forget them."""
        now = self._clock.monotonic()
        for kind, window in list(self._windows.items()):
            if at_once or now - window.began >= WINDOW_S:
                del self._windows[kind]
                if window.more:
                    yield kind, window.more
