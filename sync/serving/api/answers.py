"""Answers in OpenAI's forms: completions, whole and streamed, embeddings, and rerank's, which others have laid down."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from aiohttp import web

from sync.kit import errors
from sync.serving.api.bodies import RerankBody
from sync.wire import tasks, types

WRITE_TIMEOUT_S = 30.0
"""Seconds that one write to a slow client may take before its stream ends."""
SEND_BUFFER = 128 * 1024
"""Bytes of a stream that the kernel takes for a client that does not read them (Linux takes twice that). By itself it takes
megabytes, and this process and the agent's keep as many: what counts as sent is part of the answer on record."""
Vectors = npt.NDArray[np.float32]


class NoAnswer(errors.Corrupt):
    """What the model's side answered is not what was asked for, or holds a number that JSON does not have."""

    code = "bad_answer"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one request. `reused`: of the prompt's, those that were computed before."""

    prompt: int
    completion: int = 0
    reused: int = 0

    def told(self, *, generated: bool) -> dict[str, object]:
        """As OpenAI tells it, of a completion or of an embedding."""
        if not generated:
            return {"prompt_tokens": self.prompt, "total_tokens": self.prompt}
        return {
            "prompt_tokens": self.prompt, "completion_tokens": self.completion, "total_tokens": self.prompt + self.completion,
            "prompt_tokens_details": {"cached_tokens": self.reused},
        }  # fmt: skip


def completion(request: str, model: str, answers: Sequence[tasks.Answer], usage: Usage) -> dict[str, object]:
    """A chat.completion."""
    choices = [
        {
            "index": i,
            "message": {"role": "assistant", "content": answer.text},
            "logprobs": _scores(answer.scores),
            "finish_reason": answer.finish,
        }
        for i, answer in enumerate(answers)
    ]
    return {
        "id": f"chatcmpl-{request}", "object": "chat.completion", "created": int(time.time()), "model": model,
        "choices": choices, "usage": usage.told(generated=True),
    }  # fmt: skip


def _scores(scores: Sequence[tasks.TokenScore]) -> dict[str, object] | None:
    return {"content": [types.plain(score) for score in scores]} if scores else None


class Frames:
    """The events of one streamed completion."""

    def __init__(self, request: str, model: str, *, with_usage: bool) -> None:
        self._base = {
            "id": f"chatcmpl-{request}", "object": "chat.completion.chunk", "created": int(time.time()), "model": model,
        }  # fmt: skip
        self._with_usage = with_usage

    def begin(self, choices: int) -> bytes:
        """The first event of each answer: who speaks."""
        return b"".join(self._event(number, {"role": "assistant", "content": ""}) for number in range(choices))

    def piece(self, text: str, choice: int = 0, scores: Sequence[tasks.TokenScore] = ()) -> bytes:
        return self._event(choice, {"content": text}, scores)

    def end(self, finishes: Mapping[int, str], usage: Usage) -> bytes:
        """The last events: why each answer ended, the usage where it was wanted, and [DONE]."""
        last = b"".join(self._event(number, {}, finish=finish) for number, finish in sorted(finishes.items()))
        if self._with_usage:
            last += event({**self._base, "choices": [], "usage": usage.told(generated=True)})
        return last + b"data: [DONE]\n\n"

    def _event(
        self, choice: int, delta: dict[str, object], scores: Sequence[tasks.TokenScore] = (), finish: str | None = None
    ) -> bytes:
        told = {
            "index": choice, "delta": delta, "logprobs": _scores(scores), "finish_reason": finish,
        }  # fmt: skip
        return event({**self._base, "choices": [told], **({"usage": None} if self._with_usage else {})})


def event(body: dict[str, object]) -> bytes:
    """Return one server-sent event. Raises NoAnswer."""
    return b"data: " + encoded(body) + b"\n\n"


async def open_stream(request: web.Request, headers: Mapping[str, str]) -> web.StreamResponse:
    """A response that events can be written to."""
    response = web.StreamResponse(headers=dict(headers))
    response.content_type = "text/event-stream"
    response.headers["cache-control"] = "no-cache"
    if request.transport is not None and (line := request.transport.get_extra_info("socket")) is not None:
        with contextlib.suppress(OSError):
            line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    await response.prepare(request)
    return response


async def write(response: web.StreamResponse, data: bytes) -> None:
    """Writes to a stream. Raises ConnectionResetError where the client reads too slowly."""
    try:
        async with asyncio.timeout(WRITE_TIMEOUT_S):
            await response.write(data)
    except TimeoutError as error:
        raise ConnectionResetError("the client reads too slowly") from error


def respond(data: bytes, headers: Mapping[str, str]) -> web.Response:
    """Return the response of an answer in JSON."""
    return web.Response(body=data, content_type="application/json", headers=dict(headers))


def encoded(body: Mapping[str, object]) -> bytes:
    """Return a body as JSON. Half a character that a model made becomes a replacement character. Raises NoAnswer."""
    try:
        return json.dumps(body, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
    except ValueError as error:
        raise NoAnswer("The model's answer holds a number that is not finite.") from error


def embeddings(result: tasks.Embedded, model: str, encoding: str, usage: Usage) -> dict[str, object]:
    """Return a list of embeddings. A text that was cut is marked so. Raises NoAnswer."""
    vectors: Vectors = np.frombuffer(result.vectors, dtype="<f4").reshape(-1, result.width)
    if not np.isfinite(vectors).all():
        raise NoAnswer("The model's answer holds a number that is not finite.")
    cut = frozenset(result.truncated)
    rows = [
        {
            "object": "embedding",
            "index": i,
            "embedding": _vector(vector, encoding),
            **({"truncated": True} if i in cut else {}),
        }
        for i, vector in enumerate(vectors)
    ]
    return {"object": "list", "data": rows, "model": model, "usage": usage.told(generated=False)}


def ranking(result: tasks.Ranked, body: RerankBody, usage: Usage) -> dict[str, object]:
    """Return the documents by relevance, the best first."""
    scores, cut, texts = result.scores, frozenset(result.truncated), body.texts
    order = sorted(range(len(texts)), key=lambda i: (-scores[i], i))[: body.top_n]
    rows = [
        {
            "index": i,
            "relevance_score": scores[i],
            **({"document": {"text": texts[i]}} if body.return_documents else {}),
            **({"truncated": True} if i in cut else {}),
        }
        for i in order
    ]
    return {"object": "list", "results": rows, "model": body.model, "usage": usage.told(generated=False)}


def _vector(vector: Vectors, encoding: str) -> list[float] | str:
    return base64.b64encode(vector.tobytes()).decode() if encoding == "base64" else vector.tolist()
