"""Requests for engines as a run brings them, and a place for what an engine says meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from edge_agent.inference import port
from edge_agent.inference.port import Piece
from sync.wire import codec, tasks
from tests.support import builders


def request(task: str, **fields: object) -> tasks.Request:
    """Return a request read as the runner reads it. Raises BadPayload where it is none."""
    return port.read(task, codec.pack(fields))


def generate(text: str, **fields: object) -> tasks.Request:
    """Return a conversation of one message."""
    return request("generate", **builders.payload(text, **fields))


class Heard:
    """Keeps the pieces of an answer; `then` is called with each, in whichever thread makes it."""

    def __init__(self, then: Callable[[Piece], object] = lambda _: None) -> None:
        self.pieces: list[Piece] = []
        self._then = then

    def __call__(self, piece: Piece) -> None:
        self.pieces.append(piece)
        self._then(piece)

    async def room(self) -> None:
        """Return at once: a test reads as fast as it is told."""
        await asyncio.sleep(0)
