"""How fast a backlog may leave: a cap on its bandwidth, hours in which it may, and requests that go first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from sync.kit.clock import Clock

YIELD_S = 0.05
"""Seconds between envelopes of a backlog while requests use the line."""


@dataclass(slots=True)
class Pace:
    """`bytes_per_s`: 0 for no cap. `busy` says whether requests use the line now; `open` whether a backlog may leave at all."""

    clock: Clock
    bytes_per_s: int = 0
    busy: Callable[[], bool] = lambda: False
    _ready_at: float = 0.0
    _gate: asyncio.Event | None = None

    @property
    def open(self) -> bool:
        return self._gate is None or self._gate.is_set()

    def set_open(self, value: bool) -> None:
        """Opens or closes the hours of the backlog."""
        if self._gate is None:
            self._gate = asyncio.Event()
        if value:
            self._gate.set()
        else:
            self._gate.clear()

    async def wait(self, size: int) -> None:
        """Returns when so many bytes more of a backlog may go out."""
        if self._gate is not None:
            await self._gate.wait()
        if self.busy():
            await asyncio.sleep(YIELD_S)
        if not self.bytes_per_s:
            return
        now = self.clock.monotonic()
        begin = max(now, self._ready_at)
        self._ready_at = begin + size / self.bytes_per_s
        if begin > now:
            await asyncio.sleep(begin - now)
