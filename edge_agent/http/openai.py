"""OpenAI's endpoints at the site: the same bodies, answers, headers and errors as the hub's."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from classifiers import told as classified
from edge_agent.http.errors import RESPONSES
from edge_agent.site.site import Site
from edge_agent.site.visit import Visit
from sync.kit import errors
from sync.policy import authorize
from sync.policy.authenticate import Principal
from sync.serving.api import answers, bodies, headers, told
from sync.serving.api.answers import Answered, Frames, Usage
from sync.serving.api.server import TOLD
from sync.serving.ask import Ask


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
            web.post("/v1/decisions", self.decisions),
            web.get("/v1/models", self.models),
            web.get("/v1/models/{name}", self.model),
        ]

    async def chat(self, request: web.Request) -> web.StreamResponse:
        principal, key = self._who(request)
        body = await bodies.read(request, bodies.ChatBody)
        ask = body.ask(request, principal.tenant.limits.max_tokens_per_request)
        async with self.site.visit(principal, ask, key) as visit:
            if body.stream:
                return await self._stream(request, body, visit)
            await visit.finish()
            await self.site.deliver(visit)
        found = [
            Answered(visit.restored(str(choice["text"])), str(choice["finish"]), choice["scores"] if visit.vault is None else ())
            for choice in visit.choices
        ]
        return self._answer(visit, answers.completion(ask.request, body.model, found, _usage(visit)))

    async def embeddings(self, request: web.Request) -> web.StreamResponse:
        principal, key = self._who(request)
        body = await bodies.read(request, bodies.EmbeddingsBody)
        async with self.site.visit(principal, body.ask(request, 0), key) as visit:
            await visit.finish()
            answer = answers.embeddings(visit.result, body.model, body.encoding_format, _usage(visit))
            await self.site.deliver(visit)
        return self._answer(visit, answer)

    async def rerank(self, request: web.Request) -> web.StreamResponse:
        principal, key = self._who(request)
        body = await bodies.read(request, bodies.RerankBody)
        async with self.site.visit(principal, body.ask(request, 0), key) as visit:
            await visit.finish()
            answer = answers.ranking(visit.result, body, _usage(visit))
            await self.site.deliver(visit)
        return self._answer(visit, answer)

    async def classify(self, request: web.Request) -> web.StreamResponse:
        principal, key = self._who(request)
        body = await bodies.read(request, bodies.ClassifyBody)
        ask = body.ask(request, 0)
        if body.model is None:
            with self.site.limits.slot(principal.tenant):
                return web.json_response(classified.assessment(await self.site.assess(principal, ask, all_spans=True)))
        async with self.site.visit(principal, ask, key) as visit:
            await visit.finish()
            await self.site.deliver(visit)
        return self._answer(visit, {**classified.assessment(visit.assessment), "labels": visit.result.get("labels", [])})

    async def decisions(self, request: web.Request) -> web.StreamResponse:
        """What would happen at this site, and why: runs nothing. The plan has this agent alone, where it would run here."""
        principal, _ = self._who(request)
        body = await bodies.read(request, bodies.DecisionBody)
        ask: Ask = body.ask(request, 0)
        with self.site.limits.slot(principal.tenant):
            decided = await self.site.decide(principal, ask)
        plan = [decided.agent.id] if decided.admitted_here and (decided.folder or ask.model is None) else []
        return web.json_response(told.decision(decided.decision, decided.id, decided.assessment.categories, plan))

    async def models(self, request: web.Request) -> web.StreamResponse:
        """The models that the key may use here: those of this site, and on line those of the hub too."""
        principal, _ = self._who(request)
        rows = [_model(name) for name in principal.tenant.allowed_models if self._is_served(name)]
        return web.json_response({"object": "list", "data": rows})

    async def model(self, request: web.Request) -> web.StreamResponse:
        principal, _ = self._who(request)
        name = request.match_info["name"]
        if name not in principal.tenant.allowed_models or not self._is_served(name):
            raise authorize.UnknownModel(f"There is no model '{name[:100]}' that you may use here now.")
        return web.json_response(_model(name))

    def _is_served(self, name: str) -> bool:
        known = self.site.guard.current.models.get(name)  # type: ignore[call-overload]
        return known is not None and (self.site.link.mode.value != "offline" or self.site.serves(known.deployments) is not None)

    def _who(self, request: web.Request) -> tuple[Principal, str]:
        key = headers.api_key(request)
        return self.site.authenticate(key), key

    async def _stream(self, request: web.Request, body: bodies.ChatBody, visit: Visit) -> web.StreamResponse:
        """Server-sent events as OpenAI's. The first piece is waited for: until then an error has its own status."""
        frames = Frames(visit.ask.request, body.model, with_usage=body.stream_options.include_usage)
        pieces = visit.pieces()
        first = await anext(pieces, None)
        response = await answers.open_stream(request, told_of(self.site, visit))
        opening = frames.piece(*first) if first else b""
        try:
            await answers.write(response, frames.begin(body.n or 1) + opening)
            async for piece in pieces:
                await answers.write(response, frames.piece(*piece))
            await self.site.deliver(visit)
        except errors.RingfenceError as error:
            await answers.write(response, answers.event(RESPONSES.body_of(error, request[headers.REQUEST_ID])))
            await response.write_eof()
            request[TOLD] = response
            raise
        finishes = {i: str(choice["finish"]) for i, choice in enumerate(visit.choices)}
        await answers.write(response, frames.end(finishes, _usage(visit)))
        await response.write_eof()
        return response

    def _answer(self, visit: Visit, body: dict[str, object]) -> web.Response:
        return answers.respond(body, told_of(self.site, visit))


def _model(name: str) -> dict[str, object]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "ringfence"}


def _usage(visit: Visit) -> Usage:
    done, reused = visit.done, visit.result.get("reused_tokens")
    if done is None:
        return Usage(0)
    return Usage(done.prompt_tokens, done.completion_tokens, reused if isinstance(reused, int) else 0)


def told_of(site: Site, visit: Visit) -> dict[str, str]:
    """Where the request ran, and why; how the site stands to its hub; and what is left of the tenant's limits here."""
    cached, place = visit.done is not None and visit.done.cached, visit.place
    off = visit.decision.cache.value == "none" or visit.ask.no_store
    return {
        "x-ringfence-level": place.level.label if place else visit.decision.level.label,
        "x-ringfence-decision": place.decision if place else visit.id,
        "x-ringfence-zone": place.zone if place else "",
        "x-ringfence-region": place.region if place else "",
        "x-ringfence-agent": place.agent if place else "",
        "x-ringfence-categories": ",".join(visit.assessment.categories),
        "x-ringfence-cache": "hit" if cached else "off" if off else "miss",
        "x-ringfence-mode": site.mode,
        **told.limits(site.limits.left(visit.principal.tenant)),
    }
