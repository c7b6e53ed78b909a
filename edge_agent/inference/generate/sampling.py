"""From logits to the next token.

The order is: repetition, frequency and presence penalties, logit bias, the grammar's mask, temperature, top-k, top-p (Holtzman
2019), min-p (Nguyen 2024). Nothing here sorts a whole vocabulary: with 150,000 tokens that would cost as much as the model's step.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from classifiers.onnx.session import Array

LIKELY = 512
"""How many of the likeliest tokens are looked at first for the nucleus: nearly always it lies within them."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How one request wants its tokens picked. The neutral value of each changes nothing."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int | None = None
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    bias: dict[int, float] = field(default_factory=dict)

    @property
    def is_plain_greedy(self) -> bool:
        """Whether the next token is the one with the highest logit, and nothing else counts."""
        return self.temperature <= 0 and not self.bias and not self.has_penalties

    @property
    def has_penalties(self) -> bool:
        return self.repetition_penalty != 1 or self.frequency_penalty != 0 or self.presence_penalty != 0


class Sampler:
    """Picks the tokens of one sequence; the same seed gives the same ones. `choice` numbers the answers to one prompt."""

    def __init__(self, settings: Settings, prompt: list[int], choice: int = 0) -> None:
        self.settings = settings
        self._random = np.random.default_rng(None if settings.seed is None else [settings.seed & (2**64 - 1), choice])
        self._counts: dict[int, int] = dict.fromkeys(prompt, 0) if settings.has_penalties else {}
        self._bias_ids = np.fromiter(settings.bias.keys(), dtype=np.int64, count=len(settings.bias))
        self._bias = np.fromiter(settings.bias.values(), dtype=np.float32, count=len(settings.bias))

    def adjust(self, logits: Array) -> Array:
        """A copy of the logits [vocabulary] in float32 with penalties and bias."""
        adjusted = logits.astype(np.float32)
        own = self.settings
        if self._counts:
            ids = np.fromiter(self._counts.keys(), dtype=np.int64, count=len(self._counts))
            counts = np.fromiter(self._counts.values(), dtype=np.float32, count=len(self._counts))
            found = adjusted[ids]
            # Keskar 2019: what was there before is made less likely, whatever the sign of its logit.
            found = np.where(found > 0, found / own.repetition_penalty, found * own.repetition_penalty)
            adjusted[ids] = found - own.frequency_penalty * counts - own.presence_penalty * (counts > 0)
        if len(self._bias_ids):
            inside = self._bias_ids < len(adjusted)
            adjusted[self._bias_ids[inside]] += self._bias[inside]
        return adjusted

    def pick(self, adjusted: Array) -> int:
        """The next token of adjusted (and perhaps masked) logits."""
        own = self.settings
        if own.temperature <= 0:
            return int(adjusted.argmax())
        scaled = adjusted / np.float32(own.temperature)
        if own.top_k or own.top_p < 1:
            return self._pick_among_few(scaled)
        chances = np.exp(scaled - scaled.max())
        if own.min_p > 0:
            chances[chances < own.min_p] = 0  # the likeliest has 1 here
        return self._draw(chances)

    def took(self, token: int) -> None:
        """Notes a token of the answer, for the penalties."""
        if self.settings.has_penalties:
            self._counts[token] = self._counts.get(token, 0) + 1

    def _pick_among_few(self, scaled: Array) -> int:
        own = self.settings
        shifted = np.exp(scaled - scaled.max())
        whole = shifted.sum(dtype=np.float64)
        size = min(len(shifted), own.top_k or LIKELY)
        while True:
            order = _largest(shifted, size)
            chances = shifted[order]
            mass = np.cumsum(chances, dtype=np.float64)
            # After top-k the nucleus is of what is left; without it, of the whole vocabulary.
            reached = mass / (mass[-1] if own.top_k else whole) >= own.top_p
            if own.top_p >= 1 or reached.any() or size == len(shifted):
                break
            size = min(len(shifted), size * 8)
        kept = int(reached.argmax()) + 1 if own.top_p < 1 and reached.any() else size
        chances = chances[:kept]
        if own.min_p > 0:
            chances = np.where(chances < own.min_p * chances[0], 0, chances)
        return int(order[self._draw(chances)])

    def _draw(self, chances: Array) -> int:
        """An index, by chances that need not add up to one."""
        mass = np.cumsum(chances, dtype=np.float64)
        return min(int(np.searchsorted(mass, self._random.random() * mass[-1], side="right")), len(mass) - 1)


def log_probabilities(logits: Array) -> Array:
    """Natural logarithms of the model's own distribution, before any temperature."""
    shifted = logits.astype(np.float64) - float(logits.max())
    return np.asarray(shifted - np.log(np.exp(shifted).sum()))


def likeliest(scores: Array, size: int) -> Array:
    """The indexes of the highest scores, highest first."""
    return _largest(scores, min(size, len(scores)))


def _largest(values: Array, size: int) -> Array:
    if size >= len(values):
        return np.asarray(np.argsort(-values, kind="stable"))
    if size == 0:
        return np.empty(0, dtype=np.int64)
    found = np.argpartition(values, len(values) - size)[-size:]
    return np.asarray(found[np.argsort(-values[found], kind="stable")])
