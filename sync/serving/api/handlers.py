"""The endpoints that run a model, once for hub and site: chat completions, embeddings, reranking, classification.

A handler parses, calls and answers; it decides nothing. What it answers with is an `Answered`, which only an exchange
gives, once its outcome is on disk.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass
from typing import TypeVar

from aiohttp import web

from sync.kit import errors
from sync.kit.ids import RequestId
from sync.policy import authorize
from sync.policy.authenticate import Principal
from sync.serving import exchange as exchanges
from sync.serving import stages
from sync.serving.api import answers, bodies, codes, headers, outgoing
from sync.serving.api import errors as api_errors
from sync.serving.api.answers import Frames, Usage
from sync.serving.api.events import EventStream
from sync.serving.api.server import TOLD
from sync.serving.ask import Ask
from sync.serving.exchange import Answered, Exchange
from sync.serving.outcome import Outcome
from sync.serving.record import Refusal
from sync.serving.stages import Parts
from sync.wire import tasks, types


@dataclass(slots=True)
class Seen:
    """What is known of a request so far, for the record of its refusal. recorded: whether an exchange records its end."""

    principal: Principal
    task: str = ""
    model: str = ""
    recorded: bool = False


SEEN = web.RequestKey("seen", Seen)


@dataclass(frozen=True, slots=True)
class Call:
    """A request whose key is known: who asks, and with which key."""

    request: web.Request
    principal: Principal
    key: str

    @property
    def id(self) -> RequestId:
        return RequestId(self.request[headers.REQUEST_ID])


@dataclass(frozen=True, slots=True)
class Surface:
    """The handlers, over the stages."""

    parts: Parts

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.post("/v1/chat/completions", self.chat),
            web.post("/v1/embeddings", self.embeddings),
            web.post("/v1/rerank", self.rerank),
            web.post("/v1/classify", self.classify),
            web.post("/v1/decisions", self.explain),
            web.get("/v1/models", self.models),
            web.get("/v1/models/{name}", self.model),
        ]

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """Answer a conversation, whole or in pieces."""
        call = self.call(request)
        body = await self._read(call, bodies.ChatBody, tasks.Generate.TASK)
        async with self.exchange(call, body) as exchange:
            if body.stream:
                return await self._stream(request, body, exchange)
            return await self._whole(
                exchange, lambda outcome: answers.completion(call.id, body.model, outcome.answers, _usage(outcome))
            )

    async def embeddings(self, request: web.Request) -> web.StreamResponse:
        """Answer with a vector for each text."""
        call = self.call(request)
        body = await self._read(call, bodies.EmbeddingsBody, tasks.Embed.TASK)
        async with self.exchange(call, body) as exchange:
            return await self._whole(
                exchange,
                lambda outcome: answers.embeddings(_of(tasks.Embedded, outcome), body.model, body.encoding_format, _usage(outcome)),
            )

    async def rerank(self, request: web.Request) -> web.StreamResponse:
        """Answer with the documents by their relevance to a query."""
        call = self.call(request)
        body = await self._read(call, bodies.RerankBody, tasks.Rerank.TASK)
        async with self.exchange(call, body) as exchange:
            return await self._whole(exchange, lambda outcome: answers.ranking(_of(tasks.Ranked, outcome), body, _usage(outcome)))

    async def classify(self, request: web.Request) -> web.StreamResponse:
        """Say how sensitive texts are; with a model, what that model labels them as, too."""
        call = self.call(request)
        body = await self._read(call, bodies.ClassifyBody, tasks.Classify.TASK)
        if body.model is None:
            admitted = stages.admit(self.parts, call.principal, _ask(call, body))
            with admitted.reservation:
                prepared = await stages.prepare(self.parts, admitted, all_spans=True)
            return web.json_response(self.parts.classifier.describe(prepared.assessment), headers=outgoing.ignored(admitted.ask))
        async with self.exchange(call, body) as exchange:
            described = self.parts.classifier.describe(exchange.decided.assessment)
            return await self._whole(
                exchange,
                lambda outcome: {
                    **described,
                    "labels": [types.plain(entry) for entry in _of(tasks.Classified, outcome).labels],
                },
            )

    async def explain(self, request: web.Request) -> web.StreamResponse:
        """Say what would happen, and why: through the same stages as a request, and runs nothing."""
        call = self.call(request)
        body = await self._read(call, bodies.ExplainBody, tasks.Generate.TASK)
        admitted = stages.admit(self.parts, call.principal, _ask(call, body))
        with admitted.reservation:
            admitted.reservation.settle(0)
            decided = stages.decide(self.parts, await stages.prepare(self.parts, admitted))
            told = outgoing.explanation(decided, await stages.places(self.parts, decided, call.key))
        return web.json_response(told, headers=outgoing.ignored(admitted.ask))

    async def models(self, request: web.Request) -> web.StreamResponse:
        """List the models that the key may use and that can be had here now."""
        known = stages.offered(self.parts, self.call(request).principal)
        return web.json_response({"object": "list", "data": [outgoing.model(model) for model in known]})

    async def model(self, request: web.Request) -> web.StreamResponse:
        """Tell one model."""
        name = request.match_info["name"]
        known = stages.offered(self.parts, self.call(request).principal)
        found = next((model for model in known if model.name == name), None)
        if found is None:
            raise authorize.UnknownModel(f"There is no model '{name[:100]}' that you may use here now.")
        return web.json_response(outgoing.model(found))

    def call(self, request: web.Request) -> Call:
        """Return who asks. Raises InvalidKey."""
        key = headers.api_key(request)
        principal = stages.authenticate(self.parts, key)
        request[SEEN] = Seen(principal)
        return Call(request, principal, key)

    def exchange(self, call: Call, body: bodies.Body) -> AbstractAsyncContextManager[Exchange]:
        """Return the context in which a body goes through the stages. Raises BadRequest."""
        return self.enter(call, _ask(call, body))

    def enter(self, call: Call, ask: Ask) -> AbstractAsyncContextManager[Exchange]:
        """Return the context in which a request goes through the stages: from here on it records its own end."""
        call.request[SEEN].recorded = True
        return exchanges.exchange(self.parts, call.principal, ask, call.key)

    async def _read(self, call: Call, kind: type[bodies.B], task: str) -> bodies.B:
        call.request[SEEN].task = task
        return await bodies.read(call.request, kind)

    def on_refused(self, request: web.Request | None, error: errors.RingfenceError) -> None:
        """Count a request that is answered with an error, whichever key it had; record it where its tenant is known.

        request: None where what came was not even one.
        """
        self.parts.meters.refused(codes.label(error.code))
        if request is None:
            return
        seen = request.get(SEEN) or self._seen(request)
        if seen is None or seen.recorded:
            return
        refusal = Refusal(
            request=RequestId(request[headers.REQUEST_ID]),
            principal=seen.principal,
            task=seen.task,
            model=seen.model[: types.MAX_WORD],
            trace=headers.trace(request),
        )
        recorder = self.parts.recorder
        recorder.soon(recorder.turned_away(refusal, error, ms=0.0, serial=self.parts.snapshot().serial))

    def _seen(self, request: web.Request) -> Seen | None:
        """Return who asks, where a handler has not come to look; None for an unknown key."""
        try:
            return Seen(stages.authenticate(self.parts, headers.api_key(request)))
        except errors.RingfenceError:
            return None

    async def _stream(self, request: web.Request, body: bodies.ChatBody, exchange: Exchange) -> web.StreamResponse:
        """Answer in server-sent events. The outcome is on disk before the last of them."""
        ask = exchange.decided.ask
        frames = Frames(ask.request, body.model, with_usage=body.stream_options.include_usage)
        began = False
        async with EventStream(request, lambda: outgoing.headers(self.parts, exchange), quiet_s=self.parts.quiet_s) as stream:
            try:
                async with aclosing(exchange.stream()) as deltas:
                    async for delta in deltas:
                        opening = b"" if began else frames.begin(body.n or 1)
                        began = True
                        await stream.send(opening + frames.piece(delta.text, delta.choice, delta.scores))
                last = frames.end(_finishes(exchange.answered), _usage(exchange.outcome))
                await stream.send(last if began else frames.begin(body.n or 1) + last)
            except errors.RingfenceError as error:
                if not await stream.settle():
                    raise
                # The status has gone out: the error is an event, and there is no [DONE].
                await stream.send(answers.event(api_errors.body_of(error, request[headers.REQUEST_ID])))
                request[TOLD] = await stream.close()
                raise
            return await stream.close()

    async def _whole(self, exchange: Exchange, render: Callable[[Outcome], Mapping[str, object]]) -> web.Response:
        """Answer in one body. It is rendered before its outcome is recorded, since an answer that JSON cannot say is none."""
        data = await exchange.complete(lambda outcome: answers.encoded(render(outcome)))
        return answers.respond(data, outgoing.headers(self.parts, exchange))


def _ask(call: Call, body: bodies.Body) -> Ask:
    request = call.request
    request[SEEN].model = body.model or ""
    payload = body.payload(call.principal.tenant.limits.max_tokens_per_request)
    return Ask(
        request=call.id,
        payload=payload,
        model=body.model,
        stream=body.stream,
        wanted_tokens=body.wanted_tokens,
        declared=headers.declared_level(request),
        no_store=headers.no_store(request),
        batch=body.batch,
        trace=headers.trace(request),
        subject=headers.subject(request),
        ignored=body.ignored,
    )


def _finishes(answered: Answered) -> dict[int, str]:
    return {number: answer.finish for number, answer in enumerate(answered.outcome.answers)}


def _usage(outcome: Outcome) -> Usage:
    return Usage(outcome.prompt_tokens, outcome.completion_tokens, outcome.reused_tokens)


R = TypeVar("R", bound=tasks.Result)


def _of(kind: type[R], outcome: Outcome) -> R:
    """Return the result of an answered request, which the task's struct has checked."""
    if not isinstance(outcome.result, kind):
        raise TypeError(f"a result of {type(outcome.result).__name__} where {kind.__name__} was read")
    return outcome.result
