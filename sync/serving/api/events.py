"""A stream of server-sent events to one client, opened as late as possible and kept alive while nothing is known yet.

Until the first event an error has an HTTP status of its own; afterwards it is an event, as OpenAI's clients know it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from types import TracebackType

from aiohttp import web

from sync.serving.api import answers

COMMENT = b": still working\n\n"


class EventStream:
    """The stream. Use it as a context: a task keeps it alive until it is left.

    quiet_s: seconds without an event after which a comment is sent.
    headers: asked for when the stream is opened, since where the request runs is known by then, mostly.
    """

    def __init__(self, request: web.Request, headers: Callable[[], Mapping[str, str]], *, quiet_s: float) -> None:
        self._request = request
        self._headers = headers
        self._quiet_s = quiet_s
        self._response: web.StreamResponse | None = None
        # Two write: the answer's own task, and the one that keeps the stream alive. An event must not be cut by a comment.
        self._writing = asyncio.Lock()
        self._wrote_at = asyncio.get_running_loop().time()
        self._alive: asyncio.Task[None] | None = None

    async def send(self, events: bytes) -> None:
        """Send events, and open the stream before the first. Raises ConnectionResetError where the client reads too slowly."""
        async with self._writing:
            await self._send(events)

    async def close(self) -> web.StreamResponse:
        """End the stream, and return the response."""
        await self._stop()
        async with self._writing:
            response = await self._opened()
            await response.write_eof()
        return response

    async def __aenter__(self) -> EventStream:
        self._alive = asyncio.create_task(self._keep_alive(), name="keep-alive")
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._stop()

    async def settle(self) -> bool:
        """Stop keeping it alive; return whether it is open."""
        await self._stop()
        async with self._writing:
            # A comment that was on its way may have opened it in this moment.
            return self._response is not None

    async def _stop(self) -> None:
        task, self._alive = self._alive, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _keep_alive(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._quiet_s - (loop.time() - self._wrote_at))
            if loop.time() - self._wrote_at < self._quiet_s:
                continue
            try:
                # Shielded: a response that is cut while it is opened can be neither opened nor refused any more.
                await asyncio.shield(self.send(COMMENT))
            except ConnectionError:
                # The client is gone: its own task hears of that too.
                return

    async def _send(self, events: bytes) -> None:
        response = await self._opened()
        await answers.write(response, events)
        self._wrote_at = asyncio.get_running_loop().time()

    async def _opened(self) -> web.StreamResponse:
        if self._response is None:
            self._response = await answers.open_stream(self._request, self._headers())
        return self._response
