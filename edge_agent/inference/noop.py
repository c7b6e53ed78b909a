"""An engine that computes nothing: what is left of a request's time is the way there and back. For benchmarks and fault tests."""

from __future__ import annotations

import asyncio

from edge_agent.inference import port
from edge_agent.inference.manifest import Noop as Options
from edge_agent.inference.port import Caller, Emit, Piece, Result
from sync.wire import tasks

WORD = "ok "
ECHO_PIECE = 3
"""Characters of an echo's piece: words and placeholders are cut, as tokens cut them."""


class Noop:
    """Answers every generation with the same words, at the pace of its manifest."""

    def __init__(self, options: Options) -> None:
        self._words = options.words
        self._every_s = options.every_ms / 1000
        self._echo = options.echo
        self.running = 0
        self.held_bytes = 0
        self.providers: tuple[str, ...] = ()

    async def run(self, request: tasks.Request, emit: Emit | None, caller: Caller) -> Result:
        if not isinstance(request, tasks.Generate):
            raise port.not_for("noop", tasks.Generate.TASK)
        self.running += 1
        try:
            pieces = _echoed(request) if self._echo else [WORD] * self._words
            choices = request.n or 1
            for piece in pieces:
                if self._every_s:
                    await asyncio.sleep(self._every_s)
                if emit is not None:
                    for choice in range(choices):
                        emit(Piece(piece, choice, tokens=1))
                    await emit.room()
        finally:
            self.running -= 1
        answer = tasks.Answer("".join(pieces), "stop")
        return Result(tasks.Generated((answer,) * choices), 1, len(pieces) * choices)

    async def close(self) -> None:
        """Holds nothing."""


def _echoed(request: tasks.Generate) -> list[str]:
    """Return the last message in capital letters, in pieces."""
    text = request.messages[-1].content.upper()
    return [text[at : at + ECHO_PIECE] for at in range(0, len(text), ECHO_PIECE)]
