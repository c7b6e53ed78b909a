"""What was computed of earlier prompts: the key-value cache of their blocks, found again by the tokens that lead up to them.

A block is BLOCK tokens, named by a digest over the tenant, the block before it and its own tokens (as vLLM's prefix caching
does), so that a shared system prompt is kept once, and an earlier turn of a conversation is found by the next.

Invariants, each with a test of its words:
- a tenant finds only its own blocks;
- a block is found only behind exactly the tokens it was computed behind;
- never more than `most_bytes` are kept; the least lately used go first, later blocks before those that they need.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from classifiers.onnx.session import Array
from sync.crypto import digest

BLOCK = 16


class PrefixCache:
    """Blocks of one model. For one thread: its batcher's."""

    def __init__(self, *, most_bytes: int, token_bytes: int) -> None:
        self._most = most_bytes
        self._token_bytes = token_bytes
        self._blocks: OrderedDict[bytes, Array] = OrderedDict()
        self.held_bytes = 0

    def find(self, tenant: str, tokens: Sequence[int]) -> list[Array]:
        """The blocks that are known from the beginning of these tokens: [layers x 2, heads, BLOCK, width] each."""
        names, found = [], []
        for name in _names(tenant, tokens):
            block = self._blocks.get(name)
            if block is None:
                break
            names.append(name)
            found.append(block)
        self._touch(names)
        return found

    def store(self, tenant: str, tokens: Sequence[int], read: Callable[[int, int], Array]) -> None:
        """Keeps the blocks of these tokens that are not kept yet; `read(begin, end)` copies what was computed of them."""
        names = list(_names(tenant, tokens))
        self._touch([name for name in names if name in self._blocks])
        # From the last to the first: the first of a chain is the last to go, since without it the others are not found.
        for i in reversed(range(len(names))):
            if names[i] in self._blocks or (i + 1) * BLOCK * self._token_bytes > self._most:
                continue
            block = read(i * BLOCK, (i + 1) * BLOCK)
            self._blocks[names[i]] = block
            self.held_bytes += block.nbytes
        while self.held_bytes > self._most:
            _, old = self._blocks.popitem(last=False)
            self.held_bytes -= old.nbytes

    def clear(self) -> None:
        self._blocks.clear()
        self.held_bytes = 0

    def _touch(self, names: list[bytes]) -> None:
        for name in reversed(names):
            self._blocks.move_to_end(name)


def _names(tenant: str, tokens: Sequence[int]) -> Iterator[bytes]:
    """The names of the whole blocks of these tokens, in order."""
    packed = np.asarray(tokens, dtype="<i8").tobytes()
    before = digest.of("prefix-tenant", tenant.encode())
    size = BLOCK * 8
    for at in range(0, len(packed) - size + 1, size):
        before = digest.of("prefix-block", before + packed[at : at + size])
        yield before
