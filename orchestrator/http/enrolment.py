"""The endpoints for those who come in: by TLS of the hub's own authority, where a token or a certificate is the login."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

import pydantic
from aiohttp import web

from orchestrator.authority.certificates import Certificates
from orchestrator.fleet.enrolment import Enrolment
from sync.kit import errors
from sync.serving.api import bodies
from sync.serving.api.errors import BadRequest
from sync.wire import enrolment, renewal

MAX_BODY = enrolment.MAX_FILE + 4096
PEM = "application/x-pem-file"
FRAME = "application/vnd.ringfence.renewal"


class Asked(pydantic.BaseModel):
    """What 'ringfence-agent enrol' sends."""

    model_config = pydantic.ConfigDict(extra="forbid")
    token: str = pydantic.Field(max_length=200)
    request: str = pydantic.Field(max_length=enrolment.MAX_FILE)


@dataclass(frozen=True, slots=True)
class Enrolling:
    """The handlers. `keep_fresh` takes up a rotation of the authority that this process does not know yet."""

    enrolment: Enrolment
    certificates: Certificates
    keep_fresh: Callable[[], Awaitable[None]]

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v1/enrol/authority", self.authority),
            web.post("/v1/enrol", self.enrol),
            web.post("/v1/enrol/renew", self.renew),
        ]

    async def authority(self, _: web.Request) -> web.Response:
        """The roots, the newest first: whoever holds a token compares them with its pin before it says more."""
        await self.keep_fresh()
        return web.Response(body=self.certificates.authority.trusted, content_type=PEM)

    async def enrol(self, request: web.Request) -> web.Response:
        """A token and a request for the admission."""
        asked = await bodies.read(request, Asked, most=MAX_BODY)
        with _clients_own_mistake():
            admission = await self.enrolment.enrol(asked.token, asked.request.encode())
        return web.json_response(json.loads(admission))

    async def renew(self, request: web.Request) -> web.Response:
        """A renewal's frame for its answer: for those whose certificate ended while they had no line."""
        frame = await bodies.raw_body(request, renewal.Renewal.CAP)
        with _clients_own_mistake():
            answer = await self.enrolment.renew(frame)
        return web.Response(body=answer, content_type=FRAME)


@contextlib.contextmanager
def _clients_own_mistake() -> Iterator[None]:
    """Raise BadRequest for what is damaged: here it is the client that sent it."""
    try:
        yield
    except errors.Corrupt as error:
        raise BadRequest(str(error)) from error
