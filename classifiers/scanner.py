"""The patterns over one text: which occur, where, and whether what stands there and around it makes them count.

Rules are asked in the order of their rank; a span that one has taken is hidden from those after it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from classifiers import calibration
from classifiers.context import Context, Lexicon
from classifiers.matching import Check, Engine, Matcher
from classifiers.normalise import Normal
from classifiers.recognizers.rule import TAKEN, Rule

LONGEST_IN_CONTEXT = 64
"""Bytes of the longest span that needs a word near it."""
_NO_SIGNALS: frozenset[int] = frozenset()


class Span(NamedTuple):
    """What one rule found, in characters of the normal form. A tuple, as many are made and most are not kept."""

    rule: Rule
    start: int
    end: int


class Scanner:
    """Compiled rules. Safe to share between threads. `signals`: patterns of which only is asked whether they occur."""

    def __init__(self, rules: Sequence[Rule], engine: Engine | None = None, signals: Sequence[str] = ()) -> None:
        self.rules = tuple(sorted(rules, key=lambda rule: -calibration.rank(rule.category, rule.type, rule.score)))
        triggers = [rule.trigger or rule.pattern for rule in self.rules]
        self._matcher = Matcher([rule.pattern for rule in self.rules], [*triggers, *signals], engine)
        needed = list(dict.fromkeys(rule.needs for rule in self.rules if rule.needs is not None))
        self._lexicon = Lexicon(needed)
        self._numbers = [needed.index(rule.needs) if rule.needs is not None else -1 for rule in self.rules]

    def compile_all(self) -> None:
        """Compiles every rule now. Raises BadPattern."""
        self._matcher.compile_all()

    def scan(self, normal: Normal) -> tuple[list[Span], frozenset[int]]:
        """(spans, signals): the spans that count, in no order; and the numbers of the signals that occur. Raises BudgetExceeded."""
        data = normal.text.encode("utf-8", "replace")
        hits = self._matcher.hits(data)
        if not hits:
            return [], _NO_SIGNALS
        count = len(self.rules)
        signals = frozenset(hit - count for hit in hits if hit >= count)
        found = list(self._candidates(data, sorted(hit for hit in hits if hit < count)))
        if len(data) == len(normal.text):
            return [Span(rule, start, end) for rule, start, end in found], signals
        place = _characters(data, {at for _, start, end in found for at in (start, end)})
        return [Span(rule, place[start], place[end]) for rule, start, end in found if place[start] < place[end]], signals

    def _candidates(self, data: bytes, hits: Sequence[int]) -> Iterator[tuple[Rule, int, int]]:
        """Rule by rule, the surest first; what one has taken the next ones do not see."""
        context: Context | None = None
        left = data
        for hit in hits:
            rule, number = self.rules[hit], self._numbers[hit]
            if rule.needs is None:
                taken = self._matcher.spans(left, hit, rule.accepts, rule.edges)
            else:
                if context is None:
                    context = self._lexicon.find(data.lower())
                if not context.present >> number & 1:
                    continue
                windows = context.windows(rule.needs, number, LONGEST_IN_CONTEXT)
                taken = self._matcher.spans(left, hit, _in_context(rule, context, number), rule.edges, windows)
            if taken:
                left = _without(left, taken)
                for start, end in taken:
                    yield rule, start, end


def _without(data: bytes, taken: Sequence[tuple[int, int]]) -> bytes:
    """The text with these spans written over; the length stays."""
    pieces: list[bytes] = []
    last = 0
    for start, end in taken:
        pieces += (data[last:start], TAKEN * (end - start))
        last = end
    pieces.append(data[last:])
    return b"".join(pieces)


def _in_context(rule: Rule, context: Context, number: int) -> Check:
    words = rule.needs
    assert words is not None  # noqa: S101 - the number says so

    def check(text: bytes, start: int, end: int) -> int | None:
        return rule.accepts(text, start, end) if context.near(words, number, start, end) else None

    return check


def _characters(data: bytes, places: set[int]) -> dict[int, int]:
    """Byte offsets to character offsets, in one pass; one inside a character counts as that character's beginning."""
    found: dict[int, int] = {}
    last = count = 0
    for at in sorted(places):
        count += (
            sum((byte & 0xC0) != 0x80 for byte in data[last:at]) if at - last < 64 else len(data[last:at].decode("utf-8", "ignore"))
        )
        found[at] = count
        last = at
    return found
