"""The server: routes, the one middleware, and its orderly stop. The door to aiohttp's server.

Invariants, each with a test of its words:
- every answer carries the request's id, and every error is OpenAI's error object;
- nothing that is compressed is expanded: it is refused before its body is read;
- after 401, 413 and 415 the connection is closed, and the rest of the body is not taken;
- no answer names the library or its version, and no log line has a traceback.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from sync.kit import errors as kit_errors
from sync.kit import ids, logs
from sync.serving.api import below, bodies, errors, fields, headers

log = logs.get("http")
TOLD = web.RequestKey("told", web.StreamResponse)
"""Where a request keeps the response of a stream whose client has had the error as an event."""
KEEP_ALIVE_S = 75.0
STOP_S = 10.0
CLOSING = frozenset({401, 413, 415})
"""Statuses after which nothing more is taken: who is not known does not choose what we read.

After a broken body there is nothing more to read either.
"""
OnRefused = below.OnRefused


class Server:
    """One listening server.

    option: the option by which a person chooses its port.
    max_body: bytes of a request's body.
    on_refused: called with each request that is answered with an error, and that error.
    """

    def __init__(
        self,
        routes: Iterable[web.RouteDef],
        *,
        option: str,
        max_body: int = bodies.MAX_BODY,
        on_refused: OnRefused | None = None,
    ) -> None:
        self._option = option
        application = web.Application(
            client_max_size=max_body,
            middlewares=[_answering_everything(on_refused)],
        )
        application.add_routes(list(routes))
        application.on_response_prepare.append(_say_ids)
        self._runner = below.Runner(
            application,
            on_refused=on_refused,
            handler_cancellation=True,
            access_log=None,
            keepalive_timeout=KEEP_ALIVE_S,
            shutdown_timeout=STOP_S,
            auto_decompress=False,
            max_line_size=below.MAX_LINE,
            max_field_size=below.MAX_LINE,
            max_headers=below.MAX_HEADERS,
        )

    async def start(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> int:
        """Listen, by TLS where there is a context for it; return the port.

        Raises Misconfigured where it is taken.
        """
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port, ssl_context=tls).start()
        except OSError as error:
            raise kit_errors.Misconfigured(
                f"Cannot listen on {host}:{port} ({error.strerror or error}): "
                f"is another process there? Choose another one with {self._option}.",
                code="port_unavailable",
            ) from error
        address = self._runner.addresses[0]
        return int(address[1])

    async def stop(self) -> None:
        """Take no new request, and wait for those at work, at most STOP_S."""
        await self._runner.cleanup()


def _answering_everything(on_refused: OnRefused | None) -> Middleware:
    """Return the one middleware: it gives each request its id, and each error its form."""

    @web.middleware
    async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
        request_id = request[headers.REQUEST_ID] = ids.request_id()
        try:
            _check_encoding(request)
            return await handler(request)
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception as error:
            refused = _in_our_words(error, request)
            if refused is None:
                raise
        if on_refused is not None:
            _tell(on_refused, request, refused)
        response = request.get(TOLD) or errors.response_of(refused, request_id)
        if response.status in CLOSING or isinstance(refused, errors.BadHttp):
            response.force_close()
            if isinstance(request.protocol, below.Connection):
                request.protocol.stop_reading()
        return response

    return answer


def _in_our_words(error: Exception, request: web.Request) -> kit_errors.RingfenceError | None:
    """Return the error that is answered: no traceback and no library's words.

    None for a redirect, which is not an error.
    """
    if isinstance(error, kit_errors.RingfenceError):
        return error
    if isinstance(error, web.HTTPException):
        return errors.of_aiohttp(error, request.path)
    if isinstance(error, web.RequestPayloadError):
        return errors.BadHttp("The body is not whole, or its chunks are not those of HTTP/1.1.")
    log.error(
        "request_failed",
        request=request[headers.REQUEST_ID],
        path=request.path,
        error=type(error).__name__,
    )
    return errors.ours(error)


def _check_encoding(request: web.Request) -> None:
    if encoding := headers.encoding(request):
        raise errors.UnsupportedEncoding(
            f"content-encoding: {fields.safe(encoding)} is not taken here: send the body as it is.",
        )


def _tell(on_refused: OnRefused, request: web.Request, error: kit_errors.RingfenceError) -> None:
    """Call the hook. Where it fails, the client gets its answer all the same."""
    try:
        on_refused(request, error)
    except Exception as failed:
        log.error(
            "refusal_not_counted",
            request=request[headers.REQUEST_ID],
            error=type(failed).__name__,
        )


async def _say_ids(request: web.Request, response: web.StreamResponse) -> None:
    """Put the request's id, and the caller's trace, on every answer, streamed ones too."""
    response.headers["server"] = below.SOFTWARE
    if request_id := request.get(headers.REQUEST_ID):
        response.headers["x-request-id"] = request_id
    if trace := headers.trace(request):
        response.headers["traceparent"] = trace
