"""The endpoints that run a model: chat completions, embeddings, classification."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from aiohttp import web

from classifiers.verdict import Assessment
from orchestrator.dispatch.ask import Ask, Decided
from orchestrator.dispatch.conversation import AgentLost
from orchestrator.dispatch.pipeline import Exchange, Pipeline
from orchestrator.http import bodies, errors, headers
from sync.bundle import authorize
from sync.kit import errors as kit_errors

TOLD = "told"
"""Where a request keeps the response of a stream whose client has had the error as an event."""
Vectors = npt.NDArray[np.float32]
WRITE_TIMEOUT_S = 30.0
"""Seconds that one write to a slow client may take before its stream ends."""


@dataclass(frozen=True, slots=True)
class Inference:
    """The handlers, over the pipeline."""

    pipeline: Pipeline

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/v1/chat/completions", self.chat),
            web.post("/v1/embeddings", self.embeddings),
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
        answer = {
            "id": f"chatcmpl-{ask.request}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": body.model,
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": outcome.text},
                    "logprobs": None,
                    "finish_reason": outcome.finish,
                }
            ],
            "usage": _usage(exchange),
        }
        return self._answer(exchange, answer)

    async def embeddings(self, request: web.Request) -> web.StreamResponse:
        principal = self.pipeline.authenticate(headers.api_key(request))
        body = await bodies.read(request, bodies.EmbeddingsBody)
        ask = body.ask(request, 0)
        async with self.pipeline.exchange(principal, ask) as exchange:
            outcome = await exchange.complete()
            vectors = _vectors(outcome.result)
            await self.pipeline.deliver(exchange)
        rows = [
            {"object": "embedding", "index": i, "embedding": _encoded(vector, body.encoding_format)}
            for i, vector in enumerate(vectors)
        ]
        return self._answer(exchange, {"object": "list", "data": rows, "model": body.model, "usage": _usage(exchange)})

    async def classify(self, request: web.Request) -> web.StreamResponse:
        principal = self.pipeline.authenticate(headers.api_key(request))
        body = await bodies.read(request, bodies.ClassifyBody)
        ask = body.ask(request, 0)
        if body.model is None:
            with self.pipeline.limits.slot(principal.tenant):
                return web.json_response(_assessment(await self.pipeline.prepare(ask, principal.tenant, all_spans=True)))
        async with self.pipeline.exchange(principal, ask) as exchange:
            outcome = await exchange.complete()
            await self.pipeline.deliver(exchange)
        return self._answer(exchange, {**_assessment(exchange.decided.assessment), "labels": outcome.result.get("labels", [])})

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
        response = web.StreamResponse(headers=self._headers(exchange))
        response.content_type = "text/event-stream"
        response.headers["cache-control"] = "no-cache"
        await response.prepare(request)
        frame = _Frames(exchange.decided.admitted.ask, body.model, body.stream_options.include_usage)
        try:
            await _write(response, frame.piece({"role": "assistant", "content": first or ""}))
            async for piece in exchange.rest():
                await _write(response, frame.piece({"content": piece}))
            await self.pipeline.deliver(exchange)
        except kit_errors.RingfenceError as error:
            # The status has gone out: the error is an event, and there is no [DONE].
            await _write(response, _event(errors.body_of(error, request["request_id"])))
            await response.write_eof()
            request[TOLD] = response
            raise
        last = frame.piece({}, finish=exchange.outcome.finish)
        if body.stream_options.include_usage:
            last += frame.usage(_usage(exchange))
        await _write(response, last + b"data: [DONE]\n\n")
        await response.write_eof()
        return response

    def _answer(self, exchange: Exchange, body: dict[str, object]) -> web.Response:
        data = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
        return web.Response(body=data, content_type="application/json", headers=self._headers(exchange))

    def _headers(self, exchange: Exchange) -> dict[str, str]:
        left = self.pipeline.limits.left(exchange.decided.admitted.principal.tenant)
        return headers.of(exchange.decided, exchange.outcome, left)


class _Frames:
    """The events of one streamed completion."""

    def __init__(self, ask: Ask, model: str, with_usage: bool) -> None:
        self._base = {
            "id": f"chatcmpl-{ask.request}", "object": "chat.completion.chunk", "created": int(time.time()), "model": model,
        }  # fmt: skip
        self._with_usage = with_usage

    def piece(self, delta: dict[str, object], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return _event({**self._base, "choices": [choice], **({"usage": None} if self._with_usage else {})})

    def usage(self, usage: dict[str, int]) -> bytes:
        return _event({**self._base, "choices": [], "usage": usage})


def _event(body: dict[str, object]) -> bytes:
    return b"data: " + json.dumps(body, ensure_ascii=False).encode("utf-8", "replace") + b"\n\n"


async def _write(response: web.StreamResponse, data: bytes) -> None:
    try:
        async with asyncio.timeout(WRITE_TIMEOUT_S):
            await response.write(data)
    except TimeoutError as error:
        raise ConnectionResetError("the client reads too slowly") from error


def _usage(exchange: Exchange) -> dict[str, int]:
    outcome = exchange.outcome
    if exchange.decided.admitted.ask.task == "embed":
        return {"prompt_tokens": outcome.prompt_tokens, "total_tokens": outcome.prompt_tokens}
    total = outcome.prompt_tokens + outcome.completion_tokens
    return {"prompt_tokens": outcome.prompt_tokens, "completion_tokens": outcome.completion_tokens, "total_tokens": total}


def _vectors(result: dict[str, object]) -> Vectors:
    """[texts, dimensions] in float32, from the agent's answer. Raises where it is not that."""
    data, width = result.get("vectors"), result.get("width")
    if not isinstance(data, bytes) or not isinstance(width, int) or width < 1 or len(data) % (4 * width):
        raise AgentLost("The agent's answer holds no vectors.")
    return np.frombuffer(data, dtype="<f4").reshape(-1, width)


def _encoded(vector: Vectors, encoding: str) -> list[float] | str:
    return base64.b64encode(vector.tobytes()).decode() if encoding == "base64" else vector.tolist()


def _assessment(assessment: Assessment) -> dict[str, object]:
    return {
        "level": assessment.level.label,
        "categories": assessment.categories,
        "findings": [
            {
                "text": f.text, "start": f.start, "end": f.end, "type": f.type, "category": f.category,
                "score": f.score, "recognizer": f.recognizer,
            }
            for f in assessment.findings
        ],
        "subject": [{"text": f.text, "category": f.category, "score": f.score} for f in assessment.subject],
        "model": assessment.model,
        "failed": assessment.failed,
    }  # fmt: skip


def _decision(decided: Decided) -> dict[str, object]:
    decision = decided.decision
    return {
        "id": decided.id,
        "allowed": decision.allowed,
        "level": decision.level.label,
        "categories": decided.assessment.categories,
        "zones": decision.zones,
        "regions": decision.regions,
        "redact": [zone.value for zone in decision.redact],
        "cache": decision.cache.value,
        "deployments": [{"folder": d.folder, "zones": d.zones} for d in decision.deployments],
        "plan": [choice.agent for choice in decided.plan],
        "reasons": [{"rule": reason.rule, "why": reason.why} for reason in decision.reasons],
        "bundle_serial": decision.bundle_serial,
    }


def _model(name: str) -> dict[str, object]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "ringfence"}
