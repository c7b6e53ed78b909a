"""The words around a span: by whole words, some before and a few after. The door to ahocorasick_rs.

All rules' words are looked for in one pass over a text, once a text and only if a rule asks.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from functools import cached_property

import ahocorasick_rs

BEFORE = 64
AFTER = 32
"""Bytes looked at on either side."""
APART = 256
"""Windows nearer than this are looked through as one: a further search costs as much as so many bytes."""
_WORD = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789") | frozenset(range(0x80, 0x100))


class Words:
    """A set of words and phrases that make a span mean something. A phrase's spaces may be hyphens or underscores in the text."""

    def __init__(self, *phrases: str, before: int = BEFORE, after: int = AFTER) -> None:
        self.phrases = frozenset(phrase.lower() for phrase in phrases)
        self.before = before
        self.after = after
        self._hash = hash((self.phrases, before, after))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Words):
            return NotImplemented
        return (self.phrases, self.before, self.after) == (other.phrases, other.before, other.after)

    def __hash__(self) -> int:
        return self._hash


class Lexicon:
    """The words of several `Words`, ready to be looked for. Each set has a number, in the order given."""

    def __init__(self, sets: Sequence[Words]) -> None:
        owners: dict[str, int] = {}
        for number, words in enumerate(sets):
            for phrase in words.phrases:
                for form in {phrase, phrase.replace(" ", "_"), phrase.replace(" ", "-")}:
                    owners[form] = owners.get(form, 0) | 1 << number
        self._owners = list(owners.values())
        self._automaton = ahocorasick_rs.BytesAhoCorasick([form.encode() for form in owners]) if owners else None

    def find(self, lowered: bytes) -> Context:
        """The words in a text of small letters."""
        found: list[tuple[int, int, int]] = []
        if self._automaton is not None:
            for pattern, start, end in self._automaton.find_matches_as_indexes(lowered, overlapping=True):
                if (start == 0 or lowered[start - 1] not in _WORD) and (end == len(lowered) or lowered[end] not in _WORD):
                    found.append((start, end, self._owners[pattern]))
        return Context(found)


class Context:
    """Where the words of a lexicon stand in one text."""

    def __init__(self, found: list[tuple[int, int, int]]) -> None:
        self._found = sorted(found)
        self.present = _union(mask for _, _, mask in found)
        """The numbers of all sets that have a word anywhere, as bits."""

    @cached_property
    def _starts(self) -> list[int]:
        return [start for start, _, _ in self._found]

    def windows(self, words: Words, number: int, longest: int) -> list[tuple[int, int]]:
        """The parts of the text that a span of at most so many bytes must be in to have a word of this set near, in order."""
        bit = 1 << number
        found: list[tuple[int, int]] = []
        for start, end, mask in self._found:
            if mask & bit:
                first, last = max(0, start - words.after - longest), end + words.before + longest
                if found and first <= found[-1][1] + APART:
                    found[-1] = (found[-1][0], max(last, found[-1][1]))
                else:
                    found.append((first, last))
        return found

    def near(self, words: Words, number: int, start: int, end: int) -> bool:
        """Whether a word of this set stands within its reach of the span."""
        bit = 1 << number
        if not self.present & bit:
            return False
        found, reach = self._found, end + words.after
        for k in range(bisect_left(self._starts, start - words.before), len(found)):
            first, last, mask = found[k]
            if first >= reach:
                return False
            if mask & bit and (last <= start or first >= end):
                return True
        return False


def _union(masks: Iterable[int]) -> int:
    union = 0
    for mask in masks:
        union |= mask
    return union
