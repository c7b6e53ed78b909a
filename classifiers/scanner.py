"""The patterns over one text: which occur, where, and whether what stands there and around it makes them count."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from classifiers.context import Context, Lexicon
from classifiers.matching import Engine, Matcher
from classifiers.normalise import Normal
from classifiers.recognizers.rule import Rule


@dataclass(frozen=True, slots=True)
class Span:
    """What one rule found, in characters of the normal form."""

    rule: Rule
    start: int
    end: int


class Scanner:
    """Compiled rules. Safe to share between threads."""

    def __init__(self, rules: Sequence[Rule], engine: Engine | None = None) -> None:
        self.rules = tuple(rules)
        self._matcher = Matcher([rule.pattern for rule in self.rules], [rule.trigger or rule.pattern for rule in self.rules], engine)
        needed = list(dict.fromkeys(rule.needs for rule in self.rules if rule.needs is not None))
        self._lexicon = Lexicon(needed)
        self._numbers = [needed.index(rule.needs) if rule.needs is not None else -1 for rule in self.rules]

    def compile_all(self) -> None:
        """Compiles every rule now. Raises BadPattern."""
        self._matcher.compile_all()

    def scan(self, normal: Normal) -> list[Span]:
        """The spans that count, of all rules, in no order; they may overlap. Raises BudgetExceeded."""
        data = normal.text.encode("utf-8", "replace")
        hits = self._matcher.hits(data)
        if not hits:
            return []
        found = [(rule, start, end) for rule, start, end in self._candidates(data, hits)]
        if len(data) == len(normal.text):
            return [Span(rule, start, end) for rule, start, end in found]
        place = _characters(data, {at for _, start, end in found for at in (start, end)})
        return [Span(rule, place[start], place[end]) for rule, start, end in found if place[start] < place[end]]

    def _candidates(self, data: bytes, hits: Sequence[int]) -> Iterator[tuple[Rule, int, int]]:
        context: Context | None = None
        for hit in hits:
            rule, number = self.rules[hit], self._numbers[hit]
            check = rule.accepts
            if number >= 0:
                if context is None:
                    context = self._lexicon.find(data.lower())
                if not context.present >> number & 1:
                    continue
                check = _in_context(rule, context, number)
            for start, end in self._matcher.spans(data, hit, check, rule.edges):
                yield rule, start, end


def _in_context(rule: Rule, context: Context, number: int):  # type: ignore[no-untyped-def]
    words = rule.needs
    assert words is not None  # noqa: S101 - the number says so

    def check(text: bytes, start: int, end: int) -> int | None:
        accepted = rule.accepts(text, start, end)
        return accepted if accepted is not None and context.near(words, number, start, accepted) else None

    return check


def _characters(data: bytes, places: set[int]) -> dict[int, int]:
    """Byte offsets to character offsets, in one pass; one inside a character counts as that character's beginning."""
    found: dict[int, int] = {}
    last = count = 0
    for at in sorted(places):
        count += sum((byte & 0xC0) != 0x80 for byte in data[last:at]) if at - last < 64 else len(data[last:at].decode("utf-8", "ignore"))
        found[at] = count
        last = at
    return found
