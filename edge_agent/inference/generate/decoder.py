"""Steps of a decoder model over one key-value cache that all its sequences share.

The cache is one buffer, [layers x 2, rows, heads, tokens, width]: a row for each sequence in the making. A step runs the rows
from 0 to n at once, each at its own length: a right-padded attention mask tells the model how long each one is.

Two kinds of export are taken. One with GroupQueryAttention (onnxruntime-genai's builder, and Hugging Face exports in that
style) reads and writes the buffer in place. One in ONNX's own operators hands the whole cache in and out of each step: it is
copied in and the new tokens' part is copied out, which is slower, and as right.
"""

from __future__ import annotations

import mmap
import re
from dataclasses import dataclass

import numpy as np

from classifiers.onnx.session import Array, Binding, Session, Stop
from classifiers.onnx.setup import BadModel
from edge_agent.inference.manifest import BadFolder

_PAST = re.compile(r"past_key_values\.(\d+)\.(key|value)")
FIRST_CAPACITY = 256
LOGITS_AT_ONCE = 16 * 1024 * 1024
"""The most logits (rows x tokens x vocabulary) of one run: 64 MiB. Bounds a prompt's piece where the model gives logits for
all of it."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What one token takes in the cache."""

    layers: int
    heads: int
    width: int
    dtype: str

    @property
    def token_bytes(self) -> int:
        return 2 * self.layers * self.heads * self.width * np.dtype(self.dtype).itemsize


class Decoder:
    """One decoder model with its cache. For one thread: its batcher's."""

    def __init__(self, session: Session, *, rows: int, in_place: bool, width: int | None, window: int = 0) -> None:
        self.shape = _shape_of(session, width)
        self.rows = rows
        self.capacity = 0
        self._session = session
        self._in_place = in_place
        self._least_capacity = max(FIRST_CAPACITY, window)
        self._cache: Array = np.empty(0)
        self._pages: mmap.mmap | None = None
        self._decoding: dict[int, Binding] = {}
        self._prefilling: dict[int, Binding] = {}
        self._has_positions = "position_ids" in session.inputs
        self._has_mask = "attention_mask" in session.inputs
        names = [f"{layer}.{part}" for layer in range(self.shape.layers) for part in ("key", "value")]
        self._names = [(f"past_key_values.{name}", f"present.{name}") for name in names]
        missing = next((present for _, present in self._names if present not in session.outputs), None)
        if missing is not None or "input_ids" not in session.inputs or "logits" not in session.outputs:
            raise BadFolder(f"The model has no {missing or 'input_ids or logits'}: it was not exported with a key-value cache.")
        dims, _ = session.output_type("logits")
        self.vocabulary = dims[-1] if isinstance(dims[-1], int) else 0
        """Logits a token, 0 where the file does not say."""
        self.gives_last_only = len(dims) == 3 and dims[1] == 1

    @property
    def can_pad(self) -> bool:
        """Whether sequences of different lengths can go through one step."""
        return self._in_place or (self._has_positions and self._has_mask)

    @property
    def held_bytes(self) -> int:
        """What the cache would take were all its rows full. Only pages that were written are really held."""
        return int(self._cache.nbytes)

    def most_at_once(self, wanted: int) -> int:
        """At most `wanted` prompt tokens a run, such that their logits stay within bounds."""
        if self.gives_last_only or not self.vocabulary:
            return wanted
        return max(8, min(wanted, LOGITS_AT_ONCE // self.vocabulary))

    def reserve(self, tokens: int, used: list[int]) -> None:
        """Makes room for one row more than the used ones, and for so many tokens in each; row i keeps its `used[i]` tokens.

        Raises BadModel where there is no memory for it.
        """
        rows_there = self._cache.shape[1] if self.capacity else 0
        if tokens <= self.capacity and len(used) < rows_there:
            return
        capacity = max(self.capacity, self._least_capacity, 1 << (tokens - 1).bit_length())
        rows = min(self.rows, max(rows_there, 1 << len(used).bit_length()))
        shape = self.shape
        grown, pages = _mapped((2 * shape.layers, rows, shape.heads, capacity, shape.width), shape.dtype)
        for row, length in enumerate(used if self.capacity else ()):
            grown[:, row, :, :length] = self._cache[:, row, :, :length]
        self._forget_bindings()
        self._cache, self._pages, self.capacity = grown, pages, capacity

    def release(self) -> None:
        """Gives the cache back: nothing is at work."""
        self._forget_bindings()
        self._cache, self._pages, self.capacity = np.empty(0), None, 0

    def move(self, source: int, target: int, length: int) -> None:
        """Copies a row's tokens to another row."""
        self._cache[:, target, :, :length] = self._cache[:, source, :, :length]

    def trim(self, row: int, length: int) -> None:
        """Gives the memory of a row behind its first `length` tokens back to the system: a long request leaves nothing behind."""
        parts, _, heads, capacity, _ = self._cache.shape
        part_bytes, row_bytes, head_bytes, token, _ = self._cache.strides
        for part in range(parts):
            for head in range(heads):
                first = part * part_bytes + row * row_bytes + head * head_bytes
                begin = -(-(first + length * token) // mmap.PAGESIZE) * mmap.PAGESIZE
                end = (first + capacity * token) // mmap.PAGESIZE * mmap.PAGESIZE
                if end > begin and self._pages is not None:
                    self._pages.madvise(mmap.MADV_DONTNEED, begin, end - begin)

    def read(self, row: int, begin: int, end: int) -> Array:
        """A copy of what was computed for tokens of a row: [layers x 2, heads, tokens, width]."""
        return self._cache[:, row, :, begin:end].copy()

    def write(self, row: int, begin: int, block: Array) -> None:
        self._cache[:, row, :, begin : begin + block.shape[2]] = block

    def prefill(self, row: int, length: int, ids: list[int], stop: Stop) -> Array:
        """The logits [vocabulary] after `ids`, which follow the `length` tokens that the row has. Raises Cancelled or BadModel."""
        after = length + len(ids)
        feeds = self._feeds(
            np.array([ids], dtype=np.int64), np.ones((1, after), dtype=np.int64), np.arange(length, after, dtype=np.int64)[None]
        )
        if self._in_place:
            binding = self._prefilling.get(row) or self._bind(self._prefilling, row, row, row + 1)
            return np.asarray(binding.run(feeds, "logits", stop)[0, -1])
        logits, present = self._run_copying(feeds, row, row + 1, length, stop)
        for i, found in enumerate(present):
            self._cache[i, row, :, length:after] = found[0, :, length:after]
        return np.asarray(logits[0, -1])

    def step(self, ids: list[int], lengths: list[int], stop: Stop) -> Array:
        """The logits [rows, vocabulary] after one token more for each of the first rows, which have `lengths` tokens."""
        rows, longest = len(ids), max(lengths)
        had = np.array(lengths, dtype=np.int64)
        tokens = np.array(ids, dtype=np.int64)[:, None]
        places = np.arange(longest + 1)[None]
        if self._in_place:
            feeds = self._feeds(tokens, (places <= had[:, None]).astype(np.int64), had[:, None])
            binding = self._decoding.get(rows) or self._bind(self._decoding, rows, 0, rows, self._logits(rows))
            return np.asarray(binding.run(feeds, "logits", stop)[:, -1])
        # The new token stands behind the longest row's; what lies between is masked.
        mask = (places < had[:, None]) | (places == longest)
        logits, present = self._run_copying(self._feeds(tokens, mask.astype(np.int64), had[:, None]), 0, rows, longest, stop)
        for i, found in enumerate(present):
            self._cache[i, np.arange(rows), :, had] = found[:, :, longest]
        return np.asarray(logits[:, -1])

    def _forget_bindings(self) -> None:
        self._decoding.clear()
        self._prefilling.clear()

    def _feeds(self, ids: Array, mask: Array, positions: Array) -> dict[str, Array]:
        feeds = {"input_ids": ids}
        if self._has_mask:
            feeds["attention_mask"] = mask
        if self._has_positions:
            feeds["position_ids"] = positions
        return feeds

    def _bind(self, known: dict[int, Binding], key: int, first: int, end: int, into: tuple[str, Array] | None = None) -> Binding:
        state = {names: self._cache[i, first:end] for i, names in enumerate(self._names)}
        made = known[key] = self._session.bind(state, into)
        return made

    def _logits(self, rows: int) -> tuple[str, Array] | None:
        """Where steps of so many rows write their logits: with 150,000 tokens, a copy less is a hundredth of a step."""
        _, dtype = self._session.output_type("logits")
        if not self.vocabulary or dtype not in ("float32", "float16"):
            return None
        return "logits", np.empty((rows, 1, self.vocabulary), dtype=dtype)

    def _run_copying(self, feeds: dict[str, Array], first: int, end: int, length: int, stop: Stop) -> tuple[Array, list[Array]]:
        """The logits and each layer's whole cache after a run over rows whose caches are handed in."""
        past = {name: np.ascontiguousarray(self._cache[i, first:end, :, :length]) for i, (name, _) in enumerate(self._names)}
        outputs = ["logits", *(present for _, present in self._names)]
        logits, *present = self._session.run({**feeds, **past}, stop, outputs)
        return logits, present


def _mapped(shape: tuple[int, ...], dtype: str) -> tuple[Array, mmap.mmap]:
    """An array of zeros, and the pages that it is in: none takes memory before it is written. Raises BadModel where there is
    no room."""
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    try:
        pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except (OSError, MemoryError) as error:
        raise BadModel("There is not enough memory for the key-value cache of this request.", code="model_failed") from error
    return np.frombuffer(pages, dtype=dtype).reshape(shape), pages


def _shape_of(session: Session, width: int | None) -> Shape:
    """From the model's own inputs. `width` is of its configuration. Raises BadFolder where they are no cache, or layers differ."""
    found = {name: session.input_type(name) for name in session.inputs if _PAST.fullmatch(name)}
    kinds = {(dims[1], dims[3], dtype) if len(dims) == 4 else () for dims, dtype in found.values()}
    match list(kinds):
        case [(int(heads), told, "float32" | "float16" as dtype)] if isinstance(told, int) or width:
            return Shape(len(found) // 2, heads, told if isinstance(told, int) else width or 0, dtype)
    raise BadFolder(
        "The model's inputs past_key_values.N.key and .value are missing, differ between layers, or do not say their shape: "
        "export it with a key-value cache [batch, heads, tokens, width] in float32 or float16."
    )
