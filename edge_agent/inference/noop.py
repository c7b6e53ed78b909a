"""An engine that computes nothing: what is left of a request's time is the way there and back. For benchmarks and fault tests."""

from __future__ import annotations

import asyncio

from edge_agent.inference.manifest import Noop as Options
from edge_agent.inference.port import Emit, Payload, Result

WORD = "ok "


class Noop:
    """Answers every generation with the same words, at the pace of its manifest."""

    def __init__(self, options: Options) -> None:
        self._words = options.words
        self._every_s = options.every_ms / 1000
        self.running = 0

    async def run(self, payload: Payload, emit: Emit | None) -> Result:
        self.running += 1
        try:
            for _ in range(self._words):
                if self._every_s:
                    await asyncio.sleep(self._every_s)
                if emit is not None:
                    emit(WORD)
        finally:
            self.running -= 1
        return Result({}, 1, self._words, "stop", WORD * self._words)

    def close(self) -> None:
        """Holds nothing."""
