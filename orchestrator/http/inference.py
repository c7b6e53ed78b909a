"""The endpoints that run a model: chat completions, embeddings, reranking, classification."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from classifiers import told as classified
from orchestrator.dispatch.ask import Decided, Outcome
from orchestrator.dispatch.pipeline import Exchange, Pipeline
from orchestrator.http import headers as outgoing
from orchestrator.http.errors import RESPONSES
from sync.kit import errors as kit_errors
from sync.policy import authorize
from sync.serving.api import answers, bodies, headers
from sync.serving.api import told as tell
from sync.serving.api.answers import Answered, Frames, Usage
from sync.serving.api.server import TOLD
from sync.serving.ask import Ask


@dataclass(frozen=True, slots=True)
class Inference:
    """The handlers, over the pipeline."""

    pipeline: Pipeline

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
        principal = self.pipeline.authenticate(headers.api_key(request))
        body = await bodies.read(request, bodies.ChatBody)
        ask = body.ask(request, principal.tenant.limits.max_tokens_per_request)
        async with self.pipeline.exchange(principal, ask) as exchange:
            if body.stream:
                return await self._stream(request, body, exchange)
            outcome = await exchange.complete()
            await self.pipeline.deliver(exchange)
        told = [
            Answered(outcome.texts.get(number, ""), outcome.finishes.get(number, outcome.finish), outcome.scores.get(number, ()))
            for number in range(body.n or 1)
        ]
        return self._answer(exchange, answers.completion(ask.request, body.model, told, _usage(outcome)))

    async def embeddings(self, request: web.Request) -> web.StreamResponse:
        principal = self.pipeline.authenticate(headers.api_key(request))
        body = await bodies.read(request, bodies.EmbeddingsBody)
        async with self.pipeline.exchange(principal, body.ask(request, 0)) as exchange:
            outcome = await exchange.complete()
            told = answers.embeddings(outcome.result, body.model, body.encoding_format, _usage(outcome))
            await self.pipeline.deliver(exchange)
        return self._answer(exchange, told)

    async def rerank(self, request: web.Request) -> web.StreamResponse:
        principal = self.pipeline.authenticate(headers.api_key(request))
        body = await bodies.read(request, bodies.RerankBody)
        async with self.pipeline.exchange(principal, body.ask(request, 0)) as exchange:
            outcome = await exchange.complete()
            told = answers.ranking(outcome.result, body, _usage(outcome))
            await self.pipeline.deliver(exchange)
        return self._answer(exchange, told)

    async def classify(self, request: web.Request) -> web.StreamResponse:
        principal = self.pipeline.authenticate(headers.api_key(request))
        body = await bodies.read(request, bodies.ClassifyBody)
        ask = body.ask(request, 0)
        if body.model is None:
            with self.pipeline.limits.slot(principal.tenant):
                return web.json_response(classified.assessment(await self.pipeline.prepare(ask, principal.tenant, all_spans=True)))
        async with self.pipeline.exchange(principal, ask) as exchange:
            outcome = await exchange.complete()
            await self.pipeline.deliver(exchange)
        return self._answer(
            exchange, {**classified.assessment(exchange.decided.assessment), "labels": outcome.result.get("labels", [])}
        )

    async def decisions(self, request: web.Request) -> web.StreamResponse:
        """What would happen, and why: runs nothing."""
        principal = self.pipeline.authenticate(headers.api_key(request))
        body = await bodies.read(request, bodies.DecisionBody)
        ask: Ask = body.ask(request, 0)
        admitted = self.pipeline.admit(principal, ask)
        with self.pipeline.limits.slot(admitted.principal.tenant):
            return web.json_response(_decision(await self.pipeline.decide(admitted)))

    async def models(self, request: web.Request) -> web.StreamResponse:
        principal = self.pipeline.authenticate(headers.api_key(request))
        known = self.pipeline.snapshot().models
        rows = [_model(known[name].name) for name in principal.tenant.allowed_models if name in known]
        return web.json_response({"object": "list", "data": rows})

    async def model(self, request: web.Request) -> web.StreamResponse:
        principal = self.pipeline.authenticate(headers.api_key(request))
        name = request.match_info["name"]
        if name not in principal.tenant.allowed_models:
            raise authorize.UnknownModel(f"There is no model '{name[:100]}' that you may use.")
        return web.json_response(_model(name))

    async def _stream(self, request: web.Request, body: bodies.ChatBody, exchange: Exchange) -> web.StreamResponse:
        """Server-sent events as OpenAI's; the record is on disk before the last of them."""
        first = await exchange.first()
        response = await answers.open_stream(request, self._headers(exchange))
        ask = exchange.decided.admitted.ask
        frames = Frames(ask.request, body.model, with_usage=body.stream_options.include_usage)
        try:
            opening = b"".join(frames.piece(delta.text, delta.choice, delta.scores) for delta in first)
            await answers.write(response, frames.begin(body.n or 1) + opening)
            async for delta in exchange.rest():
                await answers.write(response, frames.piece(delta.text, delta.choice, delta.scores))
            await self.pipeline.deliver(exchange)
        except kit_errors.RingfenceError as error:
            # The status has gone out: the error is an event, and there is no [DONE].
            await answers.write(response, answers.event(RESPONSES.body_of(error, request[headers.REQUEST_ID])))
            await response.write_eof()
            request[TOLD] = response
            raise
        outcome = exchange.outcome
        finishes = {number: outcome.finishes.get(number, outcome.finish) for number in range(body.n or 1)}
        await answers.write(response, frames.end(finishes, _usage(outcome)))
        await response.write_eof()
        return response

    def _answer(self, exchange: Exchange, body: dict[str, object]) -> web.Response:
        return answers.respond(body, self._headers(exchange))

    def _headers(self, exchange: Exchange) -> dict[str, str]:
        left = self.pipeline.limits.left(exchange.decided.admitted.principal.tenant)
        return outgoing.of(exchange.decided, exchange.outcome, left)


def _usage(outcome: Outcome) -> Usage:
    reused = outcome.result.get("reused_tokens")
    return Usage(outcome.prompt_tokens, outcome.completion_tokens, reused if isinstance(reused, int) else 0)


def _decision(decided: Decided) -> dict[str, object]:
    plan = [choice.agent for choice in decided.plan]
    return tell.decision(decided.decision, decided.id, decided.assessment.categories, plan)


def _model(name: str) -> dict[str, object]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "ringfence"}
