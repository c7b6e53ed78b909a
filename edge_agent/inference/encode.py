"""Encoders: embeddings and classification, in batches of like length."""

from __future__ import annotations

import abc
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from classifiers.onnx.session import Array, Session, Stop, pad, softmax
from edge_agent.inference.manifest import BadFolder, Manifest
from edge_agent.inference.port import BadPayload, Emit, Payload, Result
from edge_agent.inference.text import Tokens
from edge_agent.inference.work import Worker

BATCH_TOKENS = 4096
"""Tokens, padding included, of one run."""


class _Encoder(abc.ABC):
    """A loaded encoder, and how texts go through it."""

    def __init__(self, folder: Path, manifest: Manifest, *, threads: int) -> None:
        self._manifest = manifest
        self._session = Session(folder / "model.onnx", threads=1)
        self._tokens = Tokens(folder / "tokenizer.json")
        self._worker = Worker(manifest.name, threads=threads)
        if "input_ids" not in self._session.inputs:
            raise BadFolder(f"The model '{manifest.name}' takes no input_ids: it is no text encoder.")

    @property
    def running(self) -> int:
        return self._worker.running

    def close(self) -> None:
        self._worker.close()

    def _outputs(self, payload: Payload, stop: Stop) -> tuple[list[Array], int]:
        """For each text, in their order, its (output, mask) reduced by `_reduce`; and how many tokens went in."""
        texts = payload.get("input")
        if not isinstance(texts, tuple) or not texts or not all(isinstance(text, str) and text for text in texts):
            raise BadPayload("The request has no input texts, or an empty one.")
        rows = [row[: self._manifest.max_tokens] or [0] for row in self._tokens.encode_batch(texts)]
        found: list[Array] = [np.empty(0)] * len(rows)
        for batch in _batches(rows, padded="attention_mask" in self._session.inputs):
            ids, mask = pad([rows[i] for i in batch], 0)
            feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
            output = self._session.run({n: a for n, a in feeds.items() if n in self._session.inputs}, stop)[0]
            for i, reduced in zip(batch, self._reduce(output, mask), strict=True):
                found[i] = reduced
        return found, sum(map(len, rows))

    @abc.abstractmethod
    def _reduce(self, output: Array, mask: Array) -> Array:
        """One row a text, of a batch's output and mask."""


class Embedder(_Encoder):
    """Texts to unit vectors, pooled as the manifest says."""

    async def run(self, payload: Payload, emit: Emit | None) -> Result:
        return await self._worker.run(lambda stop: self._embed(payload, stop))

    def _embed(self, payload: Payload, stop: Stop) -> Result:
        rows, tokens = self._outputs(payload, stop)
        vectors = np.stack(rows)
        wanted = payload.get("dimensions")
        if isinstance(wanted, int):
            if wanted > vectors.shape[1]:
                raise BadPayload(f"dimensions is {wanted}, and the model '{self._manifest.name}' has {vectors.shape[1]}.")
            vectors = _unit(vectors[:, :wanted])
        return Result({"vectors": vectors.astype("<f4").tobytes(), "width": int(vectors.shape[1])}, tokens)

    def _reduce(self, output: Array, mask: Array) -> Array:
        """Unit vectors [texts, width] of token vectors [texts, tokens, width]; ready ones are taken as they are."""
        if output.ndim == 2:
            return _unit(output)
        if self._manifest.pooling == "cls":
            return _unit(output[:, 0])
        if self._manifest.pooling == "last":
            return _unit(output[np.arange(len(output)), mask.sum(axis=1) - 1])
        weights = mask[:, :, None].astype(output.dtype)
        return _unit((output * weights).sum(axis=1) / weights.sum(axis=1))


class LabelClassifier(_Encoder):
    """Texts to labels with their chances."""

    async def run(self, payload: Payload, emit: Emit | None) -> Result:
        return await self._worker.run(lambda stop: self._classify(payload, stop))

    def _classify(self, payload: Payload, stop: Stop) -> Result:
        rows, tokens = self._outputs(payload, stop)
        labels = self._manifest.labels
        told = []
        for chances in rows:
            if len(chances) != len(labels):
                raise BadPayload(f"The model '{self._manifest.name}' gives {len(chances)} scores for {len(labels)} labels.")
            best = int(chances.argmax())
            scores = dict(zip(labels, map(float, chances), strict=True))
            told.append({"label": labels[best], "score": scores[labels[best]], "scores": scores})
        return Result({"labels": told}, tokens)

    def _reduce(self, output: Array, mask: Array) -> Array:
        return softmax(output)


def _batches(rows: list[list[int]], *, padded: bool) -> Iterator[list[int]]:
    """Indexes of rows that run together: of like length, so that little is padding, and at most BATCH_TOKENS.

    Not `padded`: of the same length alone, since the model takes no mask and would read the padding as text.
    """
    batch: list[int] = []
    for i in sorted(range(len(rows)), key=lambda i: len(rows[i])):
        longer = bool(batch) and len(rows[i]) > len(rows[batch[0]])
        if batch and ((len(batch) + 1) * len(rows[i]) > BATCH_TOKENS or (longer and not padded)):
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def _unit(vectors: Array) -> Array:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12))
