"""Text generation over a decoder: one request at a time for each model, in its own thread."""

from __future__ import annotations

import time
from pathlib import Path

from classifiers.onnx.session import Cancelled, Session, Stop
from edge_agent.inference import chat_template, decoder
from edge_agent.inference.manifest import Manifest
from edge_agent.inference.port import BadPayload, ContextExceeded, Emit, Payload, Result
from edge_agent.inference.sampling import Sampler
from edge_agent.inference.text import Detokenizer, StopStrings, Tokens
from edge_agent.inference.work import Worker

EMIT_EVERY_S = 0.015
"""A fast model's tokens go out together, at most this long after the first of them."""


class Generator:
    """One loaded decoder."""

    def __init__(self, folder: Path, manifest: Manifest, *, threads: int) -> None:
        self._manifest = manifest
        self._config = decoder.read_config(folder)
        self._session = Session(folder / self._config.model.decoder.filename, threads=threads)
        self._tokens = Tokens(folder / "tokenizer.json")
        self._template = chat_template.load(folder)
        self._worker = Worker(manifest.name)
        self._sequence: decoder.Sequence | None = None

    @property
    def running(self) -> int:
        return self._worker.running

    async def run(self, payload: Payload, emit: Emit | None) -> Result:
        request = _Request.of(payload, self._manifest.temperature)
        return await self._worker.run(lambda stop: self._generate(request, emit, stop))

    def close(self) -> None:
        self._worker.close()

    def _generate(self, request: _Request, emit: Emit | None, stop: Stop) -> Result:
        prompt = self._tokens.encode(self._template.render(request.messages), special=False)
        room = self._config.context - len(prompt)
        if room < 1:
            raise ContextExceeded(
                f"The prompt has {len(prompt)} tokens, and the model '{self._manifest.name}' takes {self._config.context - 1}."
            )
        wanted = min(request.max_tokens, room)
        sequence = self._sequence_for(len(prompt) + wanted)
        outlet = _Outlet(emit)
        detokenizer, stops = Detokenizer(self._tokens), StopStrings(request.stop)
        finish, count, ids = "length", 0, prompt
        while count < wanted:
            if stop.asked:
                raise Cancelled("The generation was cancelled.")
            token = request.sampler.pick(sequence.extend(ids, stop))
            count += 1
            if token in self._config.ends:
                finish = "stop"
                break
            outlet.put(stops.add(detokenizer.add(token)))
            if stops.hit:
                finish = "stop"
                break
            ids = [token]
        outlet.put(stops.rest())
        outlet.flush()
        return Result({}, len(prompt), count, finish, outlet.text)

    def _sequence_for(self, tokens: int) -> decoder.Sequence:
        """The cache of the last request where it is large enough, else a larger one: powers of two, so that it settles."""
        known = self._sequence
        if known is None or known.capacity < tokens:
            capacity = min(self._config.context, max(256, 1 << (tokens - 1).bit_length()))
            known = self._sequence = decoder.Sequence(self._session, self._config, capacity)
        known.reset()
        return known


class _Request:
    """A checked generate payload."""

    def __init__(self, messages: list[dict[str, str]], max_tokens: int, stop: list[str], sampler: Sampler) -> None:
        self.messages = messages
        self.max_tokens = max_tokens
        self.stop = stop
        self.sampler = sampler

    @classmethod
    def of(cls, payload: Payload, default_temperature: float | None) -> _Request:
        match payload:
            case {
                "messages": (dict(), *_) as messages, "max_tokens": int(max_tokens), "seed": int() | None as seed,
                "temperature": float() | int() | None as temperature, "top_p": float() | int() | None as top_p, "stop": tuple(stop),
            } if max_tokens >= 1:  # fmt: skip
                fallback = 1.0 if default_temperature is None else default_temperature
                sampler = Sampler(
                    temperature=fallback if temperature is None else temperature,
                    top_p=1.0 if top_p is None else top_p,
                    seed=seed,
                )
                told = [_message(message) for message in messages]
                return cls(told, max_tokens, [str(s) for s in stop], sampler)
        raise BadPayload("The request is not one for text generation.")


def _message(message: object) -> dict[str, str]:
    match message:
        case {"role": str(role), "content": str(content)}:
            return {"role": role, "content": content}
    raise BadPayload("A message has no role or no content.")


class _Outlet:
    """Gathers pieces of text, and hands them on at most every EMIT_EVERY_S."""

    def __init__(self, emit: Emit | None) -> None:
        self._emit = emit
        self._parts: list[str] = []
        self._waiting = ""
        self._last = 0.0

    @property
    def text(self) -> str:
        return "".join(self._parts)

    def put(self, piece: str) -> None:
        if not piece:
            return
        self._parts.append(piece)
        if self._emit is None:
            return
        self._waiting += piece
        now = time.monotonic()
        if now - self._last >= EMIT_EVERY_S:
            self._last = now
            self.flush()

    def flush(self) -> None:
        if self._emit is not None and self._waiting:
            self._emit(self._waiting)
            self._waiting = ""
