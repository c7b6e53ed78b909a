"""An OpenAI-compatible server behind an engine's port: streams passed through, usage kept, failures told apart.

Invariants, each with a test of its words:
- nothing goes to a place that the egress list does not have, by redirect or by name;
- a request is tried again only where the server has not begun to answer;
- no sentence of the server's reaches a log; its status decides what the caller is told.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from http import HTTPStatus

import aiohttp
import numpy as np

from edge_agent.inference.manifest import BadFolder, Manifest
from edge_agent.inference.meters import ModelMeters
from edge_agent.inference.port import (
    BadPayload,
    Caller,
    Choice,
    ContextExceeded,
    Emit,
    Overloaded,
    Payload,
    Piece,
    Result,
    TokenScore,
)
from edge_agent.inference.upstream.breaker import Breaker
from edge_agent.inference.upstream.egress import Egress, EgressRefused
from sync.kit import backoff, errors

TRIES = 3
CONNECT_S = 10.0
MAX_ANSWER = 32 * 1024 * 1024
MAX_LINE = 4 * 1024 * 1024
PASSED = (
    "max_tokens", "temperature", "top_p", "top_k", "min_p", "seed", "repetition_penalty", "frequency_penalty", "presence_penalty",
    "logit_bias", "logprobs", "top_logprobs", "n", "response_format",
)  # fmt: skip


class UpstreamFailed(errors.Retryable):
    """The server does not answer, or not as it should."""

    code = "upstream_failed"


class Upstream:
    """One model of one server."""

    def __init__(self, manifest: Manifest, egress: tuple[str, ...], meters: ModelMeters) -> None:
        settings = manifest.upstream
        if not settings.url:
            raise BadFolder(f"The manifest of '{manifest.name}' has no upstream.url.")
        if manifest.task not in ("generate", "embed"):
            raise BadFolder(
                f"The manifest of '{manifest.name}': an upstream server is for generate and embed, not for {manifest.task}."
            )
        self._manifest = manifest
        self._url = settings.url.rstrip("/")
        self._model = settings.model or manifest.name
        self._egress = Egress(egress)
        self._egress.check(self._url)
        self._headers = {"authorization": f"Bearer {_key(manifest)}"} if settings.api_key_env else {}
        self._timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_S, sock_read=settings.timeout_s)
        self._breaker = Breaker()
        self._meters = meters
        self._session: aiohttp.ClientSession | None = None
        self.running = 0
        self.held_bytes = 0
        self.providers: tuple[str, ...] = ("upstream",)

    async def run(self, payload: Payload, emit: Emit | None, caller: Caller) -> Result:
        self._admit()
        self.running += 1
        began = time.monotonic()
        try:
            if self._manifest.task == "embed":
                result = await self._embed(payload)
            else:
                result = await self._generate(payload, emit, began)
        except UpstreamFailed:
            self._breaker.failed(time.monotonic())
            raise
        except errors.RingfenceError:
            self._breaker.went_well()  # it answered: with a refusal
            raise
        except asyncio.CancelledError:
            self._breaker.gave_up()
            self._meters.cancelled("decode")
            raise
        finally:
            self.running -= 1
        self._breaker.went_well()
        return result

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _admit(self) -> None:
        if self.running >= self._manifest.rows + self._manifest.queue:
            raise Overloaded(f"{self.running} requests are at this model's server already.", retry_after_s=2)
        wait = self._breaker.wait_s(time.monotonic())
        if wait > 0:
            raise UpstreamFailed("The model's server has failed several times: it is left alone for a while.", retry_after_s=wait)

    async def _generate(self, payload: Payload, emit: Emit | None, began: float) -> Result:
        body: dict[str, object] = {name: payload[name] for name in PASSED if payload.get(name) is not None}
        stop = payload.get("stop")
        body |= {
            "model": self._model,
            "messages": payload.get("messages"),
            "stop": list(stop) if isinstance(stop, (tuple, list)) else None,
        }
        body = {name: value for name, value in body.items() if value is not None}
        if emit is None:
            return _whole(await self._ask("/chat/completions", body))
        gathered = _Gathered()
        streamed = {**body, "stream": True, "stream_options": {"include_usage": True}}
        async with aclosing(self._events("/chat/completions", streamed)) as events:
            async for event in events:
                for piece in gathered.take(event):
                    if not gathered.said:
                        gathered.said = True
                        self._meters.first_token(time.monotonic() - began)
                    emit(piece)
        return gathered.result()

    async def _embed(self, payload: Payload) -> Result:
        texts = payload.get("input")
        if not isinstance(texts, (tuple, list)) or not texts:
            raise BadPayload("The request has no input texts.")
        body: dict[str, object] = {"model": self._model, "input": list(texts), "encoding_format": "float"}
        if payload.get("dimensions") is not None:
            body["dimensions"] = payload["dimensions"]
        answer = await self._ask("/embeddings", body)
        try:
            rows = sorted(answer["data"], key=lambda row: row["index"])  # type: ignore[call-overload]
            vectors = np.array([_vector(row["embedding"]) for row in rows], dtype="<f4")
            if len(rows) != len(texts) or vectors.ndim != 2:
                raise UpstreamFailed("The model's server answered with other vectors than were asked for.")
        except (KeyError, TypeError, ValueError) as error:
            raise UpstreamFailed("The model's server answered with what are no vectors.") from error
        usage = _usage(answer)
        return Result({"vectors": vectors.tobytes(), "width": int(vectors.shape[1]), "truncated": []}, usage[0])

    async def _ask(self, path: str, body: dict[str, object]) -> dict[str, object]:
        """The whole answer."""
        async with await self._response(path, body) as response:
            data = bytearray()
            try:
                async for part in response.content.iter_any():
                    data += part
                    if len(data) > MAX_ANSWER:
                        raise UpstreamFailed(f"The model's server answered with over {MAX_ANSWER} bytes.")
                answer = json.loads(data)
            except (aiohttp.ClientError, TimeoutError, ValueError, RecursionError) as error:
                raise UpstreamFailed("The model's server broke off, or answered with what is no JSON.") from error
        if not isinstance(answer, dict):
            raise UpstreamFailed("The model's server answered with what is no answer.")
        return answer

    async def _events(self, path: str, body: dict[str, object]) -> AsyncGenerator[dict[str, object]]:
        """The events of a stream, until its [DONE]."""
        async with await self._response(path, body) as response:
            try:
                async for line in response.content:
                    if not line.startswith(b"data:"):
                        continue
                    told = line[5:].strip()
                    if told == b"[DONE]":
                        return
                    event = json.loads(told)
                    if not isinstance(event, dict) or "error" in event:
                        raise UpstreamFailed("The model's server failed in the middle of its answer.")
                    yield event
            except (aiohttp.ClientError, TimeoutError, ValueError, RecursionError) as error:
                raise UpstreamFailed("The model's server broke off in the middle of its answer.") from error
        raise UpstreamFailed("The model's server ended its stream without saying that it is done.")

    async def _response(self, path: str, body: dict[str, object]) -> aiohttp.ClientResponse:
        """The response, once it is a good one: at most TRIES, with jittered pauses. Raises what its status means."""
        pauses = backoff.jittered(first_s=0.2, most_s=2.0)
        failed: errors.RingfenceError = UpstreamFailed("The model's server does not answer.")
        for attempt in range(TRIES):
            if attempt:
                await asyncio.sleep(next(pauses))
            try:
                response = await self._client().post(
                    self._url + path, json=body, headers=self._headers, timeout=self._timeout, allow_redirects=False
                )
            except aiohttp.ClientConnectorCertificateError as error:
                raise UpstreamFailed("The certificate of the model's server is not one that is trusted here.") from error
            except (aiohttp.ClientError, OSError, TimeoutError):
                failed = UpstreamFailed("The model's server cannot be reached.")
                continue
            if response.status == HTTPStatus.OK:
                return response
            async with response:
                failed = await _refusal(response)
            if not isinstance(failed, errors.Retryable):
                break
        raise failed

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(resolver=self._egress, use_dns_cache=False, limit=0)
            self._session = aiohttp.ClientSession(
                connector=connector, read_bufsize=MAX_LINE, trust_env=False, cookie_jar=aiohttp.DummyCookieJar()
            )
        return self._session


class _Gathered:
    """A stream's answer, put together for the record."""

    def __init__(self) -> None:
        self._texts: dict[int, list[str]] = {}
        self._finish: dict[int, str] = {}
        self._usage = (0, 0)
        self._pieces = 0
        self.said = False

    def take(self, event: dict[str, object]) -> list[Piece]:
        """What an event adds."""
        if isinstance(event.get("usage"), dict):
            self._usage = _usage(event)
        pieces = []
        choices = event.get("choices")
        for choice in choices if isinstance(choices, list) else []:
            match choice:
                case {"index": int(number), "delta": dict(delta)}:
                    text = delta.get("content")
                    scores = _scores(choice.get("logprobs"))
                    if (isinstance(text, str) and text) or scores:
                        self._texts.setdefault(number, []).append(text or "")
                        self._pieces += 1
                        pieces.append(Piece(text or "", number, scores))
                    if choice.get("finish_reason"):
                        self._finish[number] = str(choice["finish_reason"])
        return pieces

    def result(self) -> Result:
        numbers = sorted(self._texts.keys() | self._finish.keys()) or [0]
        choices = tuple(Choice("".join(self._texts.get(n, [])), self._finish.get(n, "stop")) for n in numbers)
        return Result({}, self._usage[0], self._usage[1] or self._pieces, choices)


def _whole(answer: dict[str, object]) -> Result:
    try:
        choices = tuple(
            Choice(str(choice["message"]["content"] or ""), str(choice["finish_reason"]), _scores(choice.get("logprobs")))
            for choice in answer["choices"]  # type: ignore[attr-defined]
        )
    except (KeyError, TypeError) as error:
        raise UpstreamFailed("The model's server answered with what is no completion.") from error
    return Result({}, *_usage(answer), choices)


def _scores(told: object) -> tuple[TokenScore, ...]:
    match told:
        case {"content": list(entries)}:
            return tuple(
                TokenScore(
                    str(entry.get("token", "")), float(entry.get("logprob", 0)),
                    tuple((str(top.get("token", "")), float(top.get("logprob", 0))) for top in entry.get("top_logprobs") or ()),
                )
                for entry in entries
                if isinstance(entry, dict)
            )  # fmt: skip
    return ()


def _usage(answer: dict[str, object]) -> tuple[int, int]:
    usage = answer.get("usage")
    known = usage if isinstance(usage, dict) else {}
    found = [known.get(name) for name in ("prompt_tokens", "completion_tokens")]
    prompt, completion = (value if isinstance(value, int) and value >= 0 else 0 for value in found)
    return prompt, completion


def _vector(value: object) -> object:
    return np.frombuffer(base64.b64decode(value), dtype="<f4") if isinstance(value, str) else value


async def _refusal(response: aiohttp.ClientResponse) -> errors.RingfenceError:
    """What a status means for the caller. The server's own words are looked at for one thing: whether the prompt was too long."""
    status = response.status
    if 300 <= status < 400:
        return EgressRefused("The model's server redirects, which is not followed: put its final address into the manifest.")
    if status in (401, 403):
        return errors.Misconfigured("The model's server does not take this agent's key.", code="upstream_key_refused")
    if status in {429, 503}:
        wait = response.headers.get("retry-after", "")
        return Overloaded("The model's server is overloaded.", retry_after_s=float(wait) if wait.isdecimal() else 2.0)
    if status >= 500:
        return UpstreamFailed(f"The model's server answered with the status {status}.")
    words = (await response.content.read(4096)).decode("utf-8", "replace")
    if "context_length" in words or "maximum context" in words:
        return ContextExceeded("The prompt is longer than the model of the upstream server takes.")
    return BadPayload(f"The model's server refuses the request with the status {status}.")


def _key(manifest: Manifest) -> str:
    name = manifest.upstream.api_key_env
    if not os.environ.get(name):
        raise BadFolder(
            f"The manifest of '{manifest.name}' wants the key of its server in the environment variable {name}, which is not set."
        )
    return os.environ[name]
