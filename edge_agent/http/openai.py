"""OpenAI's endpoints at the site: the same bodies, answers and errors as the hub's."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from edge_agent.http.errors import RESPONSES
from edge_agent.site import Site, Visit
from sync.api import answers, bodies, headers
from sync.api.answers import Answered, Frames, Usage
from sync.api.ask import Ask
from sync.api.server import TOLD
from sync.bundle.authenticate import Principal
from sync.kit import errors


@dataclass(frozen=True, slots=True)
class OpenAi:
    """The handlers, over the site."""

    site: Site

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/v1/chat/completions", self.chat),
            web.post("/v1/embeddings", self.embeddings),
            web.post("/v1/rerank", self.rerank),
            web.post("/v1/classify", self.classify),
            web.get("/v1/models", self.models),
        ]

    async def chat(self, request: web.Request) -> web.StreamResponse:
        principal = self.site.authenticate(headers.api_key(request))
        body = await bodies.read(request, bodies.ChatBody)
        ask = body.ask(request, principal.tenant.limits.max_tokens_per_request)
        async with self.site.visit(principal, ask) as visit:
            if body.stream:
                return await self._stream(request, body, visit)
            await _finish(visit)
        told = [
            Answered(visit.restored(str(choice["text"])), str(choice["finish"]), choice["scores"] if visit.vault is None else ())
            for choice in visit.choices
        ]
        return answers.respond(answers.completion(ask.request, body.model, told, _usage(visit)), told_of(visit))

    async def embeddings(self, request: web.Request) -> web.StreamResponse:
        principal = self.site.authenticate(headers.api_key(request))
        body = await bodies.read(request, bodies.EmbeddingsBody)
        visit = await self._whole(principal, body.ask(request, 0))
        return answers.respond(answers.embeddings(visit.result, body.model, body.encoding_format, _usage(visit)), told_of(visit))

    async def rerank(self, request: web.Request) -> web.StreamResponse:
        principal = self.site.authenticate(headers.api_key(request))
        body = await bodies.read(request, bodies.RerankBody)
        visit = await self._whole(principal, body.ask(request, 0))
        return answers.respond(answers.ranking(visit.result, body, _usage(visit)), told_of(visit))

    async def classify(self, request: web.Request) -> web.StreamResponse:
        principal = self.site.authenticate(headers.api_key(request))
        body = await bodies.read(request, bodies.ClassifyBody)
        if body.model is None:
            raise errors.Refused("model: at a site, name the model whose labels you want.", code="invalid_request")
        visit = await self._whole(principal, body.ask(request, 0))
        told = {"level": visit.decision.level.label, "categories": visit.assessment.categories}
        return answers.respond({**told, "labels": visit.result.get("labels", [])}, told_of(visit))

    async def models(self, request: web.Request) -> web.StreamResponse:
        """The models that the key may use and that are here."""
        principal = self.site.authenticate(headers.api_key(request))
        known, here = self.site.guard.current.models, set(self.site.repository.names)
        rows = [
            {"id": name, "object": "model", "created": 0, "owned_by": "ringfence"}
            for name in principal.tenant.allowed_models
            if name in known and any(deployment.folder in here for deployment in known[name].deployments)
        ]
        return web.json_response({"object": "list", "data": rows})

    async def _whole(self, principal: Principal, ask: Ask) -> Visit:
        async with self.site.visit(principal, ask) as visit:
            await _finish(visit)
        return visit

    async def _stream(self, request: web.Request, body: bodies.ChatBody, visit: Visit) -> web.StreamResponse:
        """Server-sent events as OpenAI's. The first piece is waited for: until then an error has its own status."""
        frames = Frames(visit.ask.request, body.model, with_usage=body.stream_options.include_usage)
        pieces = visit.pieces()
        first = await anext(pieces, None)
        response = await answers.open_stream(request, told_of(visit))
        opening = frames.piece(*first) if first else b""
        try:
            await answers.write(response, frames.begin(body.n or 1) + opening)
            async for piece in pieces:
                await answers.write(response, frames.piece(*piece))
        except errors.RingfenceError as error:
            await answers.write(response, answers.event(RESPONSES.body_of(error, request[headers.REQUEST_ID])))
            await response.write_eof()
            request[TOLD] = response
            raise
        finishes = {i: str(choice["finish"]) for i, choice in enumerate(visit.choices)}
        await answers.write(response, frames.end(finishes, _usage(visit)))
        await response.write_eof()
        return response


async def _finish(visit: Visit) -> None:
    async for _ in visit.pieces():
        pass


def _usage(visit: Visit) -> Usage:
    done, reused = visit.done, visit.result.get("reused_tokens")
    if done is None:
        return Usage(0)
    return Usage(done.prompt_tokens, done.completion_tokens, reused if isinstance(reused, int) else 0)


def told_of(visit: Visit) -> dict[str, str]:
    """Where the request ran, and why."""
    cached = visit.done is not None and visit.done.cached
    return {
        "x-ringfence-level": visit.decision.level.label, "x-ringfence-decision": visit.id, "x-ringfence-zone":
        visit.agent.zone.value, "x-ringfence-region": visit.region, "x-ringfence-agent": visit.agent.id,
        "x-ringfence-categories": ",".join(visit.assessment.categories), "x-ringfence-cache": "hit" if cached else "miss",
    }  # fmt: skip
