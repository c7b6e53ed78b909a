"""An OpenAI-compatible server behind an engine's port: streams passed through, usage kept, failures told apart.

Invariants, each with a test of its words:
- nothing goes to a place that the egress list does not have, by redirect or by name;
- a request is tried again only where the server has not begun to answer;
- no sentence of the server's reaches a log; its status decides what the caller is told.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from http import HTTPStatus

import aiohttp

from edge_agent.inference import port
from edge_agent.inference.manifest import BadFolder, Manifest
from edge_agent.inference.meters import ModelMeters
from edge_agent.inference.port import BadPayload, Caller, ContextExceeded, Emit, Overloaded, Result
from edge_agent.inference.upstream import answers
from edge_agent.inference.upstream.answers import Gathered, UpstreamFailed
from edge_agent.inference.upstream.breaker import Breaker
from edge_agent.inference.upstream.egress import Egress, EgressRefused
from sync.kit import backoff, errors
from sync.wire import tasks, types

TRIES = 3
CONNECT_S = 10.0
MAX_ANSWER = 32 * 1024 * 1024
MAX_LINE = 4 * 1024 * 1024
READ_BYTES = 64 * 1024
"""What is read ahead of a server: a reader that stands still lets twice this pile up here, and TCP stops the server."""
PASSED = (
    "max_tokens", "temperature", "top_p", "top_k", "min_p", "seed", "repetition_penalty", "frequency_penalty", "presence_penalty",
    "logit_bias", "logprobs", "top_logprobs", "n", "response_format",
)  # fmt: skip


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

    async def run(self, request: tasks.Request, emit: Emit | None, caller: Caller) -> Result:
        self._admit()
        self.running += 1
        began = time.monotonic()
        try:
            result = await self._asked(request, emit, began)
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

    async def _asked(self, request: tasks.Request, emit: Emit | None, began: float) -> Result:
        if self._manifest.task != request.TASK:
            raise port.not_for(self._manifest.name, self._manifest.task)
        if isinstance(request, tasks.Embed):
            return await self._embed(request)
        if isinstance(request, tasks.Generate):
            return await self._generate(request, emit, began)
        raise port.not_for(self._manifest.name, self._manifest.task)

    async def _generate(self, request: tasks.Generate, emit: Emit | None, began: float) -> Result:
        body = {**_body_of(request), "model": self._model}
        if emit is None:
            return answers.whole(await self._ask("/chat/completions", body), request)
        gathered = Gathered(request)
        streamed = {**body, "stream": True, "stream_options": {"include_usage": True}}
        async with aclosing(self._events("/chat/completions", streamed)) as events:
            async for event in events:
                for piece in gathered.take(event):
                    if not gathered.said:
                        gathered.said = True
                        self._meters.first_token(time.monotonic() - began)
                    emit(piece)
                # After each event, whatever was in it: a server that has much to say must wait for the
                # reader, and what it sends of no use must not keep the loop from others either.
                await emit.room()
        return gathered.result()

    async def _embed(self, request: tasks.Embed) -> Result:
        body: dict[str, object] = {"model": self._model, "input": list(request.input), "encoding_format": "float"}
        if request.dimensions is not None:
            body["dimensions"] = request.dimensions
        return answers.vectors(await self._ask("/embeddings", body), request)

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
                async for line in _lines(response.content):
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
                connector=connector, read_bufsize=READ_BYTES, trust_env=False, cookie_jar=aiohttp.DummyCookieJar()
            )
        return self._session


def _body_of(request: tasks.Generate) -> dict[str, object]:
    """Return the fields of a request that a server gets: those that were asked for. Raises BadPayload."""
    try:
        told = types.plain(request)
        body: dict[str, object] = {name: told[name] for name in PASSED if told.get(name) is not None}
        body |= {"messages": told["messages"], "stop": list(request.stop)}
        json.dumps(body, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise BadPayload("response_format: the schema is not JSON.") from error
    return body


async def _lines(content: aiohttp.StreamReader) -> AsyncGenerator[bytes]:
    """Yield the lines of a stream as they come. Raises UpstreamFailed where one is over MAX_LINE.

    aiohttp's own would hold as much as two of the longest lines before the server has to wait.
    """
    held = b""
    async for part in content.iter_any():
        *lines, held = (held + part).split(b"\n")
        for line in lines:
            yield line
        if len(held) > MAX_LINE:
            raise UpstreamFailed(f"The model's server sent a line of over {MAX_LINE} bytes.")
    if held:
        yield held


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
