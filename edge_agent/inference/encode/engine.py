"""The encoders' tasks: embeddings, labels of texts and of their words, relevance of documents to a query."""

from __future__ import annotations

import abc
import asyncio
import functools
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from classifiers.onnx.session import Array, Session, Stop, pad, softmax
from classifiers.onnx.setup import Setup
from edge_agent.inference import port, settling
from edge_agent.inference.encode.batcher import EncodeBatcher, Job, Row
from edge_agent.inference.manifest import BadFolder, Manifest
from edge_agent.inference.meters import ModelMeters
from edge_agent.inference.port import BadPayload, Caller, Emit, Result
from edge_agent.inference.queue import FairQueue
from edge_agent.inference.text import Tokens
from sync.wire import tasks

INLINE_CHARACTERS = 4_000
"""Texts up to this long become tokens on the event loop: less than a millisecond."""
MODEL = "model.onnx"


class Encoder(abc.ABC):
    """A loaded encoder, and how texts go through it."""

    def __init__(self, folder: Path, manifest: Manifest, setup: Setup, *, threads: int, meters: ModelMeters) -> None:
        self._manifest = manifest
        self._session = Session(folder / MODEL, setup)
        self.providers = self._session.providers
        self._tokens = Tokens(folder / "tokenizer.json")
        if "input_ids" not in self._session.inputs:
            raise BadFolder(f"The model '{manifest.name}' takes no input_ids: it is no text encoder.")
        unknown = set(self._session.inputs) - {"input_ids", "attention_mask", "token_type_ids", "position_ids"}
        if unknown:
            raise BadFolder(f"The model '{manifest.name}' wants '{min(unknown)}', which no text has.")
        queue: FairQueue[Job] = FairQueue(most=manifest.queue, most_s=manifest.queue_s)
        self._batcher = EncodeBatcher(
            manifest.name, self._run_rows, threads=threads, queue=queue, pads="attention_mask" in self._session.inputs,
            wait_s=manifest.wait_ms / 1000, meters=meters,
        )  # fmt: skip

    @property
    def running(self) -> int:
        return self._batcher.running

    @property
    def held_bytes(self) -> int:
        return 0

    async def close(self) -> None:
        await asyncio.to_thread(self._batcher.close)

    @abc.abstractmethod
    async def run(self, request: tasks.Request, emit: Emit | None, caller: Caller) -> Result:
        """As Engine.run."""

    @abc.abstractmethod
    def _reduce(self, output: Array, mask: Array) -> Sequence[Array]:
        """One result a row, of a run's first output and its mask."""

    async def _encoded(self, texts: Sequence[str], caller: Caller) -> tuple[list[Array], int, tuple[int, ...]]:
        """For each text its result; the tokens that went in; and which texts were cut."""
        encode = functools.partial(self._tokens.encode_batch, texts)
        rows = encode() if sum(map(len, texts)) <= INLINE_CHARACTERS else await asyncio.to_thread(encode)
        cut = tuple(i for i, row in enumerate(rows) if len(row) > self._manifest.max_tokens)
        rows = [row[: self._manifest.max_tokens] or [0] for row in rows]
        found = await self._through([Row(i, len(row), (row, [0] * len(row))) for i, row in enumerate(rows)], caller)
        return found, sum(map(len, rows)), cut

    async def _through(self, rows: list[Row], caller: Caller) -> list[Array]:
        """The rows' results, in their order. Cancelling ends them."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        job = Job(deque(sorted(rows, key=lambda row: row.size)), caller, settling.settler(future))
        self._batcher.submit(job)
        try:
            await future
        except asyncio.CancelledError:
            self._batcher.cancel(job)
            raise
        if not all(np.isfinite(row).all() for row in job.results):
            raise BadPayload(f"The model '{self._manifest.name}' gave no numbers (NaN) for a text.", code="model_failed")
        return job.results

    def _run_rows(self, rows: Sequence[Row], stop: Stop) -> Sequence[Array]:
        ids, mask = pad([row.value[0] for row in rows], 0)
        feeds = {"input_ids": ids, "attention_mask": mask}
        wanted = self._session.inputs
        if "token_type_ids" in wanted:
            feeds["token_type_ids"] = pad([row.value[1] for row in rows], 0)[0]
        if "position_ids" in wanted:
            feeds["position_ids"] = np.broadcast_to(np.arange(ids.shape[1]), ids.shape)
        output = self._session.run({name: array for name, array in feeds.items() if name in wanted}, stop)[0]
        return self._reduce(output, mask)


class Embedder(Encoder):
    """Texts to vectors, pooled as the manifest says."""

    async def run(self, request: tasks.Request, emit: Emit | None, caller: Caller) -> Result:
        if not isinstance(request, tasks.Embed):
            raise port.not_for(self._manifest.name, tasks.Embed.TASK)
        rows, tokens, cut = await self._encoded(request.input, caller)
        vectors = np.stack(rows).astype(np.float32)
        wanted = request.dimensions
        if wanted is not None:
            if wanted > vectors.shape[1]:
                raise BadPayload(f"dimensions is {wanted}, and the model '{self._manifest.name}' has {vectors.shape[1]}.")
            vectors = _unit(vectors[:, :wanted])
        return Result(tasks.Embedded(vectors.astype("<f4").tobytes(), int(vectors.shape[1]), cut), tokens)

    def _reduce(self, output: Array, mask: Array) -> Sequence[Array]:
        """Of token vectors [texts, tokens, width], one vector a text; ready ones [texts, width] are taken as they are."""
        pooled = self._pooled(output, mask) if output.ndim == 3 else output
        return list(_unit(pooled) if self._manifest.normalise else pooled)

    def _pooled(self, output: Array, mask: Array) -> Array:
        if self._manifest.pooling == "cls":
            return np.asarray(output[:, 0])
        if self._manifest.pooling == "last":
            return np.asarray(output[np.arange(len(output)), mask.sum(axis=1) - 1])
        weights = mask[:, :, None].astype(output.dtype)
        return np.asarray((output * weights).sum(axis=1) / weights.sum(axis=1))


class LabelClassifier(Encoder):
    """Texts to labels with their chances; where the model labels tokens, to spans of the text with theirs."""

    async def run(self, request: tasks.Request, emit: Emit | None, caller: Caller) -> Result:
        if not isinstance(request, tasks.Classify):
            raise port.not_for(self._manifest.name, tasks.Classify.TASK)
        texts = request.input
        rows, tokens, cut = await self._encoded(texts, caller)
        labels = self._manifest.labels
        wrong = next((row.shape[-1] for row in rows if row.shape[-1] != len(labels)), None)
        if wrong is not None:
            raise BadPayload(f"The model '{self._manifest.name}' gives {wrong} scores for {len(labels)} labels.")
        told = tuple(
            self._spans(text, row) if row.ndim == 2 else _labelled(labels, row) for text, row in zip(texts, rows, strict=True)
        )  # fmt: skip
        return Result(tasks.Classified(told, cut), tokens)

    def _reduce(self, output: Array, mask: Array) -> Sequence[Array]:
        chances = softmax(output) if self._manifest.scores == "softmax" else 1 / (1 + np.exp(-output))
        return (
            [row[: int(kept)] for row, kept in zip(chances, mask.sum(axis=1), strict=True)] if output.ndim == 3 else list(chances)
        )

    def _spans(self, text: str, chances: Array) -> tasks.Labels:
        """Return neighbouring tokens of one kind as one span; B- and I- before a label mark its first and its further tokens."""
        _, offsets = self._tokens.encode_with_offsets(text)
        spans: list[tasks.Span] = []
        before = ""
        for row, (start, end) in zip(chances, offsets, strict=False):
            best = int(row.argmax())
            mark, _, kind = self._manifest.labels[best].rpartition("-")
            if start == end or kind == "O":
                before = ""
                continue
            chance = _chance(row[best])
            if kind == before and mark != "B" and spans:
                last = spans.pop()
                spans.append(tasks.Span(kind, last.start, end, min(last.score, chance)))
            else:
                spans.append(tasks.Span(kind, start, end, chance))
            before = kind
        return tasks.Labels(spans=tuple(spans))


class Reranker(Encoder):
    """Documents to their relevance to a query, by a cross-encoder that reads both together."""

    async def run(self, request: tasks.Request, emit: Emit | None, caller: Caller) -> Result:
        if not isinstance(request, tasks.Rerank):
            raise port.not_for(self._manifest.name, tasks.Rerank.TASK)
        query, *documents = request.input
        pairs = [(query, document) for document in documents]
        found = await asyncio.to_thread(self._tokens.encode_pairs, pairs)
        most = self._manifest.max_tokens
        cut = tuple(i for i, (ids, _) in enumerate(found) if len(ids) > most)
        rows = [Row(i, min(len(ids), most), (ids[:most], types[:most])) for i, (ids, types) in enumerate(found)]
        scores = tuple(float(score) for score in await self._through(rows, caller))
        return Result(tasks.Ranked(scores, cut), sum(row.size for row in rows))

    def _reduce(self, output: Array, mask: Array) -> Sequence[Array]:
        """One logit is a relevance by itself; of two the second one is that it is relevant."""
        if output.ndim == 2 and output.shape[1] == 2:
            return list(softmax(output)[:, 1])
        return list(1 / (1 + np.exp(-output.reshape(len(output), -1)[:, 0])))


def _labelled(labels: Sequence[str], chances: Array) -> tasks.Labels:
    best = int(chances.argmax())
    scores = {label: _chance(chance) for label, chance in zip(labels, chances, strict=True)}
    return tasks.Labels(labels[best], scores[labels[best]], scores)


def _chance(value: float) -> float:
    """Return a probability as the wire takes it: rounding makes a little over 1 of some."""
    return min(1.0, max(0.0, float(value)))


def _unit(vectors: Array) -> Array:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12))
