"""From logits to the next token."""

from __future__ import annotations

import numpy as np

from classifiers.onnx.session import Array, softmax


class Sampler:
    """Greedy at temperature 0; else by temperature and nucleus (Holtzman 2019), the same for the same seed."""

    def __init__(self, *, temperature: float, top_p: float, seed: int | None) -> None:
        self._temperature = temperature
        self._top_p = top_p
        self._random = np.random.default_rng(None if seed is None else seed & (2**64 - 1))

    def pick(self, logits: Array) -> int:
        if self._temperature <= 0:
            return int(logits.argmax())
        chances = softmax(logits.astype(np.float64) / self._temperature)
        if self._top_p >= 1:
            return int(self._random.choice(len(chances), p=chances))
        order = np.argsort(-chances)
        # The smallest set of the likeliest tokens that together reach top_p.
        kept = order[: int(np.searchsorted(np.cumsum(chances[order]), self._top_p)) + 1]
        return int(self._random.choice(kept, p=chances[kept] / chances[kept].sum()))
