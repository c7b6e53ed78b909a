"""An engine that computes nothing: what is left of a request's time is the way there and back."""

from __future__ import annotations

from edge_agent.inference.port import Emit, Payload, Result

ANSWER = "ok"


class Noop:
    """Answers every generation with one word."""

    running = 0

    async def run(self, payload: Payload, emit: Emit | None) -> Result:
        if emit is not None:
            emit(ANSWER)
        return Result({}, 1, 1, "stop", ANSWER)

    def close(self) -> None:
        """Holds nothing."""
