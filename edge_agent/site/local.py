"""The replies of this agent's own runner, as those of another process come over the bus."""

from __future__ import annotations

import asyncio
from collections import deque

from edge_agent.work.runner import Runner
from sync.serving.replies import MESSAGES, Message
from sync.wire import codec
from sync.wire.messages import Run


class LocalSource:
    """Starts a run here and hands on what it says. Bounded by the run's window: the runner waits for grants."""

    name = "This agent"
    code = "agent_lost"

    def __init__(self, runner: Runner, run: Run) -> None:
        self._runner = runner
        self._request = run.request
        self._replies: deque[Message] = deque()
        self._came = asyncio.Event()
        runner.start(run, self._reply)

    async def receive(self, timeout_s: float) -> Message | None:
        """Return the next reply, or None where none came in time."""
        if not self._replies:
            self._came.clear()
            try:
                async with asyncio.timeout(timeout_s):
                    await self._came.wait()
            except TimeoutError:
                return None
        return self._replies.popleft()

    async def is_working(self) -> bool:
        """Return whether the run is at work, or has said something that was not read yet."""
        return bool(self._replies) or self._request in self._runner.at_work

    async def grant(self, upto: int) -> None:
        """Let the run send more."""
        self._runner.granted(self._request, upto)

    async def cancel(self) -> None:
        """End the run."""
        self._runner.cancel(self._request)

    def close(self) -> None:
        """Hold nothing: the run ends by `cancel`, or has ended."""

    async def _reply(self, message: codec.Message) -> None:
        if not isinstance(message, MESSAGES):
            raise TypeError(type(message).__name__)
        self._replies.append(message)
        self._came.set()
