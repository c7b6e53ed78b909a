"""The server: routes, the one middleware, and its orderly stop. The door to aiohttp's server."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from sync.kit import errors as kit_errors
from sync.kit import logs
from sync.serving.api import bodies, errors, headers
from sync.serving.api.errors import Responses

log = logs.get("http")
TOLD = web.RequestKey("told", web.StreamResponse)
"""Where a request keeps the response of a stream whose client has had the error as an event."""
KEEP_ALIVE_S = 75.0
STOP_S = 10.0


class Server:
    """One listening server. `option`: by which a person chooses its port."""

    def __init__(
        self, routes: Iterable[web.RouteDef], responses: Responses, *, option: str, max_body: int = bodies.MAX_BODY
    ) -> None:
        self._option = option
        application = web.Application(client_max_size=max_body, middlewares=[_answers_everything(responses)])
        application.add_routes(list(routes))
        application.on_response_prepare.append(_say_ids)
        self._runner = web.AppRunner(
            application, handler_cancellation=True, access_log=None, keepalive_timeout=KEEP_ALIVE_S, shutdown_timeout=STOP_S
        )

    async def start(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> int:
        """Listens, by TLS where there is a context for it; the port (a free one for 0). Raises Misconfigured where it is taken."""
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port, ssl_context=tls).start()
        except OSError as error:
            raise kit_errors.Misconfigured(
                f"Cannot listen on {host}:{port} ({error.strerror or error}): is another process there? "
                f"Choose another one with {self._option}.",
                code="port_unavailable",
            ) from error
        address = self._runner.addresses[0]
        return int(address[1])

    async def stop(self) -> None:
        """Takes no new request, and waits for those at work, at most STOP_S."""
        await self._runner.cleanup()


def _answers_everything(responses: Responses) -> Middleware:
    """The one middleware, with this side's answers to errors."""

    @web.middleware
    async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
        return await _answered(responses, request, handler)

    return answer


async def _answered(responses: Responses, request: web.Request, handler: Handler) -> web.StreamResponse:
    """Gives each request its id, and each error its form: no traceback and no library's words reach a client."""
    request_id = request[headers.REQUEST_ID] = bodies.new_request_id()
    try:
        response = await handler(request)
    except kit_errors.RingfenceError as error:
        told = request.get(TOLD)
        response = told or responses.response_of(error, request_id)
    except web.HTTPException as error:
        ours = errors.of_aiohttp(error)
        if ours is None:
            raise
        response = responses.response_of(ours, request_id)
        response.set_status(error.status)
    except (ConnectionError, asyncio.CancelledError):
        raise
    except Exception as error:
        log.error("request_failed", request=request_id, path=request.path, error=type(error).__name__)
        response = responses.response_of(error, request_id)
    return response


async def _say_ids(request: web.Request, response: web.StreamResponse) -> None:
    """Puts the request's id, and the caller's trace, on every answer, streamed ones too."""
    response.headers["x-request-id"] = request[headers.REQUEST_ID]
    if trace := headers.trace(request):
        response.headers["traceparent"] = trace
