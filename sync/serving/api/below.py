"""What is answered below the handlers: bytes that are not HTTP, headers that are too long.

aiohttp answers such requests itself, in plain text, with a traceback in the log of each: without a
key, anybody could fill a disk with them, and learn the server's make. It has no hook for that, so its
three classes are subclassed: the runner makes the server, the server makes a protocol for each
connection, and the protocol answers.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from aiohttp import http_exceptions, web, web_protocol

from sync.kit import errors as kit_errors
from sync.kit import ids, logs
from sync.serving.api import errors

log = logs.get("http")
SOFTWARE = "ringfence"
"""The header `server`: who answers, and nothing of what it is made of."""
MAX_LINE = 8190
"""Bytes of the request line, and of each header: what aiohttp and most proxies take."""
MAX_HEADERS = 128
LINGER_S = 5.0
"""Seconds in which a refused client may end what it is sending: a body of 4 MiB on a slow line."""
MAX_DROPPED = 64 * 1024 * 1024
"""Bytes that are dropped in that time: far over any body, and no work for a process."""


OnRefused = Callable[[web.Request | None, kit_errors.RingfenceError], None]
"""Takes each error that is answered, and its request; None where what came was not even one."""


class Runner(web.AppRunner):
    """Serves an application whose connections are Connections. on_refused: called with each error that they answer."""

    def __init__(self, application: web.Application, *, on_refused: OnRefused | None = None, **options: Any) -> None:
        super().__init__(application, **options)
        self._on_refused = on_refused

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _Server(
            self._on_refused,
            made.request_handler,
            request_factory=made.request_factory,
            handler_cancellation=made.handler_cancellation,
            # The options of a connection: aiohttp keeps them for the protocols that it makes, and
            # gives no other way to them.
            **made._kwargs,
        )


class _Server(web.Server):
    def __init__(self, on_refused: OnRefused | None, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.on_refused = on_refused

    def __call__(self) -> web.RequestHandler:
        return Connection(self, loop=self._loop, on_refused=self.on_refused, **self._kwargs)


class Connection(web_protocol.RequestHandler):
    """One connection. It answers what no handler sees, with one line in the log."""

    __slots__ = ("_dropped", "_on_refused")

    def __init__(self, *arguments: Any, on_refused: OnRefused | None = None, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._on_refused = on_refused
        self._dropped: int | None = None
        """Bytes that came after it was decided to take no more, or None before."""

    def stop_reading(self) -> None:
        """Close the connection after this answer.

        What is still to come of the body is dropped as it comes.
        """
        self._dropped = 0
        # aiohttp would read on for this long by itself, and keep what it reads.
        self._lingering_time = 0.0

    def data_received(self, data: bytes) -> None:
        """Take bytes.

        Where they break the body that a handler is reading, tell the handler at once.
        """
        if self._dropped is not None:
            self._drop(data)
            return
        super().data_received(data)
        # aiohttp keeps the mistake for after this request, and lets its reader wait for a body that
        # never ends.
        request = self._current_request
        broken = self._messages and isinstance(self._messages[-1][0], web_protocol._ErrInfo)
        if broken and request is not None and not request.content.is_eof():
            request.content.set_exception(web.RequestPayloadError("the body is broken"))

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return the answer to what could not be parsed, or to what failed outside the handlers."""
        if request.writer.output_size > 0:
            raise ConnectionError("a part of the answer has gone out already")
        error = _error_of(exc, status)
        return self._refusal(request, error, type(exc).__name__ if exc else "")

    async def finish_response(
        self,
        request: web.BaseRequest,
        resp: web.StreamResponse,
        start_time: float | None,
    ) -> tuple[web.StreamResponse, bool]:
        """Send the answer.

        What aiohttp refuses before any middleware (`expect`) is put in our words.
        """
        error = None
        if isinstance(resp, web.HTTPException):
            error = errors.of_aiohttp(resp, request.path)
        if error is not None:
            resp = self._refusal(request, error, type(resp).__name__)
        sent = await super().finish_response(request, resp, start_time)
        if self._dropped is not None and not request.content.is_eof():
            await self._hang_up()
        return sent

    async def _hang_up(self) -> None:
        """End our side of the connection, and wait for the client to end its own."""
        # A socket that is closed with bytes unread resets the connection: a client that is still
        # sending would get an
        # error of its own in place of our answer. So it may end, for a while, and nothing that
        # comes is kept.
        transport = self.transport
        if transport is None:
            return
        if transport.can_write_eof():
            transport.write_eof()
        with contextlib.suppress(RuntimeError):
            transport.resume_reading()
        # The end of the connection cancels this task.
        await asyncio.sleep(LINGER_S)

    def _drop(self, data: bytes) -> None:
        self._dropped = (self._dropped or 0) + len(data)
        if self._dropped > MAX_DROPPED:
            self.force_close()

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Log one line, without a traceback: its frames may hold a prompt."""
        log.error("connection_failed", error=type(kw.get("exc_info")).__name__)

    def _refusal(
        self,
        request: web.BaseRequest,
        error: kit_errors.RingfenceError,
        reason: str,
    ) -> web.Response:
        request_id = ids.request_id()
        response = errors.response_of(error, request_id)
        response.headers["x-request-id"] = request_id
        response.headers["server"] = SOFTWARE
        response.force_close()
        if self._on_refused is not None:
            try:
                self._on_refused(None, error)
            except Exception as failed:
                # Where the hook fails, the client gets its answer all the same.
                log.error("refusal_not_counted", request=request_id, error=type(failed).__name__)
        log.warning(
            "refused_below",
            request=request_id,
            status=response.status,
            code=error.code,
            reason=reason,
        )
        return response


def _error_of(exc: BaseException | None, status: int) -> kit_errors.RingfenceError:
    """Return what is told of a failure below the handlers.

    aiohttp's sentences quote the request, so none is passed on.
    """
    if isinstance(exc, http_exceptions.LineTooLong) or _are_too_many(exc):
        return errors.HeadersTooLarge(
            f"At most {MAX_LINE} bytes a line and {MAX_HEADERS} headers are taken.",
        )
    if isinstance(exc, http_exceptions.HttpProcessingError):
        return errors.BadHttp("This is not a request of HTTP/1.1.")
    if status == 504 or isinstance(exc, asyncio.TimeoutError):
        return kit_errors.Retryable(
            "The request took longer than its time allows.",
            code="deadline_exceeded",
        )
    return kit_errors.RingfenceError(
        "Something went wrong inside; the request id finds it in the log.",
    )


def _are_too_many(exc: BaseException | None) -> bool:
    # aiohttp has no class of its own for too many headers.
    return isinstance(exc, http_exceptions.BadHttpMessage) and "Too many headers" in exc.message
