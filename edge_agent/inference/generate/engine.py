"""One loaded decoder as an engine: from a payload to an answer, over the model's batcher."""

from __future__ import annotations

import asyncio
import functools
from pathlib import Path

from classifiers.onnx.session import Session
from classifiers.onnx.setup import Setup
from edge_agent.inference import scan, settling
from edge_agent.inference.generate import chat_template, config
from edge_agent.inference.generate import request as requests
from edge_agent.inference.generate.batcher import Batcher, Bounds
from edge_agent.inference.generate.decoder import Decoder
from edge_agent.inference.generate.guidance import Grammars
from edge_agent.inference.generate.prefix import PrefixCache
from edge_agent.inference.generate.request import Answer, Sequence, Wanted
from edge_agent.inference.manifest import BadFolder, Manifest
from edge_agent.inference.meters import ModelMeters
from edge_agent.inference.port import BadPayload, Caller, ContextExceeded, Emit, Result
from edge_agent.inference.queue import FairQueue
from edge_agent.inference.text import Tokens
from sync.wire import tasks

INLINE_CHARACTERS = 2_000
"""Prompts up to this long become tokens on the event loop: less than a millisecond."""
PREFIX_SHARE = 4
"""One in so many bytes of the model's cache is for what was computed of earlier prompts."""


class Generator:
    """One loaded decoder."""

    def __init__(self, folder: Path, manifest: Manifest, setup: Setup, *, kv_bytes: int, meters: ModelMeters) -> None:
        self._manifest = manifest
        self._meters = meters
        self._config = config.read(folder)
        path = folder / self._config.filename
        self._tokens = Tokens(folder / "tokenizer.json")
        self._template = chat_template.load(folder)
        session = Session(path, setup)
        report = scan.scan(path)
        in_place = ("com.microsoft", "GroupQueryAttention") in report.operators
        self._decoder = Decoder(session, rows=manifest.rows, in_place=in_place, width=self._config.head_width, window=report.window)
        self._check_vocabulary(path)
        self.providers = session.providers
        token_bytes = self._decoder.shape.token_bytes
        most_tokens = max(1, kv_bytes // token_bytes)
        self._context = min(self._config.context, most_tokens)
        self._prefixes = PrefixCache(most_bytes=kv_bytes // PREFIX_SHARE, token_bytes=token_bytes)
        self._grammars = Grammars(folder / "tokenizer.json", self._decoder.vocabulary or self._tokens.size, self._config.ends)
        queue: FairQueue[Sequence] = FairQueue(most=manifest.queue, most_s=manifest.queue_s)
        bounds = Bounds(manifest.rows, most_tokens, manifest.prefill_tokens, self._config.ends)
        self._batcher = Batcher(manifest.name, self._decoder, self._prefixes, queue, bounds, meters)

    @property
    def running(self) -> int:
        return self._batcher.running

    @property
    def held_bytes(self) -> int:
        return self._prefixes.held_bytes + self._batcher.tokens_held * self._decoder.shape.token_bytes

    async def run(self, request: tasks.Request, emit: Emit | None, caller: Caller) -> Result:
        wanted = requests.check(request, self._manifest.temperature)
        prepare = functools.partial(self._prepare, wanted, emit)
        short = sum(len(message.content) for message in wanted.request.messages) <= INLINE_CHARACTERS
        inline = short and wanted.request.response_format is None
        prompt, answers = prepare() if inline else await asyncio.to_thread(prepare)
        sequences = await self._finished(prompt, answers, wanted, caller)
        answer = tasks.Generated(tuple(s.answer.choice for s in sequences), sequences[0].reused)
        return Result(answer, len(prompt), sum(len(s.answer.tokens) for s in sequences))

    async def close(self) -> None:
        await asyncio.to_thread(self._batcher.close)

    async def _finished(self, prompt: list[int], answers: list[Answer], wanted: Wanted, caller: Caller) -> list[Sequence]:
        """The sequences of all answers, finished. Where one fails, or the caller goes away, the others are ended too."""
        loop = asyncio.get_running_loop()
        futures: list[asyncio.Future[None]] = [loop.create_future() for _ in answers]
        most_new = min(wanted.request.max_tokens, self._context - len(prompt))
        sequences = [
            Sequence(answer, prompt, most_new, caller, settling.settler(future))
            for answer, future in zip(answers, futures, strict=True)
        ]
        try:
            for sequence in sequences:
                self._batcher.submit(sequence)
            await asyncio.gather(*futures)
        except BaseException:
            for sequence in sequences:
                self._batcher.cancel(sequence)
            for future in futures:
                future.cancel()
            raise
        return sequences

    def _prepare(self, wanted: Wanted, emit: Emit | None) -> tuple[list[int], list[Answer]]:
        """The prompt's tokens, and the answers to be. Raises ContextExceeded or BadPayload."""
        messages = [{"role": m.role.value, "content": m.content} for m in wanted.request.messages]
        prompt = self._tokens.encode(self._template.render(messages), special=self._template.needs_begin)
        if not prompt:
            raise BadPayload("The prompt has no tokens.")
        if len(prompt) >= self._context:
            raise ContextExceeded(
                f"The prompt has {len(prompt)} tokens, and the model '{self._manifest.name}' takes {self._context - 1} here."
            )
        return prompt, requests.answers(wanted, prompt, self._tokens, self._grammars, emit)

    def _check_vocabulary(self, path: Path) -> None:
        """Raises BadFolder where the tokenizer has tokens that the model has no place for."""
        places = self._decoder.vocabulary
        if places and self._tokens.size > places:
            raise BadFolder(f"{path} knows {places} tokens, and its tokenizer has {self._tokens.size}: they are not of one model.")
