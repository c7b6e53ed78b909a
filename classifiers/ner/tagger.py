"""The model at work: a text in, tagged spans and the text's subject out. Safe to share between threads."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from classifiers.ner import features, tags
from classifiers.onnx.session import Array, Session
from classifiers.onnx.setup import Setup

MODEL = Path(__file__).with_name("tagger.onnx")
WINDOW = 256
"""Words that the model sees at once: with more it grows slower a word, and learned from no longer texts."""
LOOK_BACK = 48
"""How far back from a window's end a sentence's end is looked for."""
DECIDED = 0.5
"""A word is in an entity where the chance of being in none falls under this."""
_ENDS = frozenset(".!?\n")


@dataclass(frozen=True, slots=True)
class Tagged:
    """A span of characters that the model took for an entity of this type."""

    start: int
    end: int
    type: str
    score: float


@dataclass(frozen=True, slots=True)
class Reading:
    """What the model says of a text. `subject`: the probability that its subject is at least internal, confidential, restricted.

    `complete`: whether all of the text was read before the deadline.
    """

    spans: tuple[Tagged, ...]
    subject: tuple[float, float, float]
    complete: bool = True


NOTHING = Reading((), (0.0, 0.0, 0.0))


class Tagger:
    """The loaded model: one thread a run, so that several requests run side by side."""

    def __init__(self, path: Path = MODEL) -> None:
        self._session = Session(path, Setup())

    def read(self, text: str, deadline: float | None = None) -> Reading:
        """Tags and subject of a text. `deadline`: a time.perf_counter() in seconds that no window begins after."""
        words = features.words(text)
        if not words:
            return NOTHING
        spans: list[Tagged] = []
        subject = np.zeros(len(tags.SUBJECTS), dtype=np.float32)
        for first, last in _windows(text, words):
            if deadline is not None and time.perf_counter() > deadline:
                return Reading(tuple(spans), _triple(subject), complete=False)
            part = words[first:last]
            hashes, shapes = features.encode(text, part)
            logits, scores = self._session.run({"hashes": hashes[None].astype(np.int32), "shapes": shapes[None].astype(np.int32)})
            spans.extend(_spans(logits[0], part))
            subject = np.maximum(subject, 1 / (1 + np.exp(-scores[0])))
        return Reading(tuple(spans), _triple(subject))


def _triple(values: Array) -> tuple[float, float, float]:
    internal, confidential, restricted = (float(v) for v in values)
    return internal, confidential, restricted


def _windows(text: str, words: features.Words) -> list[tuple[int, int]]:
    """The words in windows, each ending with a sentence where one ends near."""
    found = []
    first = 0
    while len(words) - first > WINDOW:
        last = first + WINDOW
        for k in range(last, last - LOOK_BACK, -1):
            if text[words[k - 1][0]] in _ENDS or "\n" in text[words[k - 1][1] : words[k][0]]:
                last = k
                break
        found.append((first, last))
        first = last
    found.append((first, len(words)))
    return found


def _spans(logits: Array, words: features.Words) -> list[Tagged]:
    """BIO tags to spans: an inside without its begin begins one."""
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    likely = shifted / shifted.sum(-1, keepdims=True)
    inside = np.flatnonzero(likely[:, tags.OUTSIDE] < DECIDED)
    if not inside.size:
        return []
    best = likely[inside, 1:].argmax(-1) + 1
    sure = 1 - likely[inside, tags.OUTSIDE]
    found: list[Tagged] = []
    start = end = last = kind = -1
    score = 0.0
    for place, tag, chance in zip(inside.tolist(), best.tolist(), sure.tolist(), strict=True):
        now, begins = divmod(tag - 1, 2)
        if kind == now and last == place - 1 and begins:  # an odd tag - 1 is inside
            end, score = words[place][1], min(score, chance)
        else:
            if kind >= 0:
                found.append(Tagged(start, end, tags.TYPES[kind], score))
            (start, end), kind, score = words[place], now, chance
        last = place
    found.append(Tagged(start, end, tags.TYPES[kind], score))
    return found
