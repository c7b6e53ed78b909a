"""The model at work: a text in, tagged spans and the text's subject out. Safe to share between threads."""

from __future__ import annotations

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
LEAST_COST = 16
"""Words that a text of fewer costs all the same: a run of the model has a fixed price of about a
dozen (0.2 to 0.3 ms), and a request may have thousands of short messages."""
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
class Window:
    """What the model says of the characters `[start, end)`, which it saw at once.

    `subject`: the probability that their subject is at least internal, confidential, restricted,
    each by a score of its own.
    """

    start: int
    end: int
    spans: tuple[Tagged, ...]
    subject: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Reading:
    """What the model says of a text, window by window.

    `cost`: words that reading it takes off a request's budget. `complete`: whether the limit allowed
    to read all of it.
    """

    windows: tuple[Window, ...]
    cost: int
    complete: bool = True

    @property
    def spans(self) -> tuple[Tagged, ...]:
        """The spans of all windows."""
        return tuple(span for window in self.windows for span in window.spans)

    @property
    def subject(self) -> tuple[float, float, float]:
        """The highest of each score in any window."""
        if not self.windows:
            return 0.0, 0.0, 0.0
        by_level = zip(*(window.subject for window in self.windows), strict=True)
        internal, confidential, restricted = map(max, by_level)
        return internal, confidential, restricted


NOTHING = Reading((), 0)


class Tagger:
    """The loaded model: one thread a run, so that several requests run side by side."""

    def __init__(self, path: Path = MODEL) -> None:
        self._session = Session(path, Setup())

    def read(self, text: str, limit: int | None = None) -> Reading:
        """Return the tags and the subject of a text.

        Args:
            limit: The most words to read; None for all. A longer text is read in as many whole
                windows as the limit allows: a higher limit reads the same windows and more. Never a
                time: the same text reads alike on every machine.
        """
        words, complete = _within(text, limit)
        if not words:
            return NOTHING if complete else Reading((), 0, complete=False)
        windows = _windows(text, words)
        if not complete:
            windows.pop()
        read = tuple(self._read(text, words[first:last]) for first, last in windows)
        return Reading(read, max(LEAST_COST, len(words)), complete)

    def _read(self, text: str, part: features.Words) -> Window:
        hashes, shapes = features.encode(text, part)
        inputs = {"hashes": hashes[None].astype(np.int32), "shapes": shapes[None].astype(np.int32)}
        logits, scores = self._session.run(inputs)
        subject = _triple(1 / (1 + np.exp(-scores[0])))
        return Window(part[0][0], part[-1][1], tuple(_spans(logits[0], part)), subject)


def _within(text: str, limit: int | None) -> tuple[features.Words, bool]:
    """Return the text's words and whether they are within the limit.

    Of a longer text they are one more than the limit: no more of it is looked at.
    """
    if limit is None:
        return features.words(text), True
    if limit < LEAST_COST:
        return [], not features.words(text, 1)
    words = features.words(text, limit + 1)
    return words, len(words) <= limit


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
