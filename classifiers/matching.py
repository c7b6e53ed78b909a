"""Many patterns over one text in linear time. The door to google-re2, with `re` where there is no wheel of it.

One `re2.Set` says which patterns occur at all; only those are then searched for their spans. RE2 has no look-around, so what must
not stand beside a match is checked in code. After a match that fails its check the search goes on one character later. Patterns are
ASCII over bytes (Latin-1 in RE2's words), so that both engines mean the same by them.

Invariants, each with a test of its words:
- both engines give the same spans;
- a pattern that RE2 refuses is an error that names it;
- no text is looked at in more than MAX_CANDIDATES places for one pattern.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Protocol

from sync.kit import errors

try:
    import re2
except ImportError:  # no wheel for this platform (musl)
    re2 = None

HAS_RE2 = re2 is not None
"""Whether google-re2 is installed: without it, customers' own patterns are refused."""
MAX_MEMORY = 64 * 1024 * 1024
MAX_CANDIDATES = 20_000
"""Matches of one pattern in one text that are looked at; a text with more is not scanned, and counts as restricted."""


class BudgetExceeded(errors.Refused):
    """The text has more candidates than will be looked at."""

    code = "scan_budget_exceeded"


class BadPattern(errors.Misconfigured):
    """RE2 does not take the pattern."""

    code = "bad_pattern"


Check = Callable[[bytes, int, int], int | None]
"""(text, start, end) of a candidate: where the accepted match ends, or None."""


Find = Callable[[bytes, int, int], tuple[int, int] | None]
"""(text, first, last): where a pattern occurs next in this part of the text."""


class Engine(Protocol):
    """What compiles patterns."""

    def compile(self, pattern: str) -> Find:
        """A compiled pattern. Raises BadPattern."""
        ...

    def which(self, patterns: Sequence[str]) -> Callable[[bytes], Iterable[int]]:
        """A function that says which of the patterns occur in a text."""
        ...


class Re2:
    """google-re2: linear time whatever the pattern."""

    def __init__(self) -> None:
        self._options = re2.Options()
        self._options.max_mem = MAX_MEMORY
        self._options.log_errors = False
        self._options.encoding = re2.Options.Encoding.LATIN1

    def compile(self, pattern: str) -> Find:
        try:
            compiled = re2.compile(pattern.encode(), self._options)
        except re2.error as error:
            raise BadPattern(f"RE2 refuses the pattern {pattern!r}: {_reason(error)}") from error
        # The binding beneath `search`: the match objects above it take longer than the matching.
        match, anywhere = compiled._regexp.Match, re2._re2.RE2.Anchor.UNANCHORED

        def find(text: bytes, first: int, last: int) -> tuple[int, int] | None:
            span: tuple[int, int] = match(anywhere, text, first, last)[0]
            return span if span[0] >= 0 else None

        return find

    def which(self, patterns: Sequence[str]) -> Callable[[bytes], Iterable[int]]:
        found = re2.Set.SearchSet(self._options)
        for pattern in patterns:
            try:
                found.Add(pattern.encode())
            except re2.error as error:
                raise BadPattern(f"RE2 refuses the pattern {pattern!r}: {_reason(error)}") from error
        found.Compile()
        match = found.Match
        return lambda text: match(text) or ()


class Stdlib:
    """The standard library: the same findings, slower, and only for our own patterns, which cannot backtrack far."""

    def compile(self, pattern: str) -> Find:
        try:
            search = re.compile(pattern.encode(), re.ASCII).search
        except re.error as error:
            raise BadPattern(f"The pattern {pattern!r} cannot be compiled: {_reason(error)}") from error

        def find(text: bytes, first: int, last: int) -> tuple[int, int] | None:
            found = search(text, first, last)
            return found.span() if found is not None else None

        return find

    def which(self, patterns: Sequence[str]) -> Callable[[bytes], Iterable[int]]:
        compiled = [self.compile(pattern) for pattern in patterns]
        return lambda text: [i for i, find in enumerate(compiled) if find(text, 0, len(text)) is not None]


def _reason(error: Exception) -> str:
    reason = error.args[0] if error.args else ""
    return reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)


def default_engine() -> Engine:
    """RE2 where its wheel is installed."""
    return Re2() if HAS_RE2 else Stdlib()


class Matcher:
    """Compiled patterns. `triggers[i]` occurs wherever `patterns[i]` does, and is cheaper to look for."""

    def __init__(self, patterns: Sequence[str], triggers: Sequence[str] = (), engine: Engine | None = None) -> None:
        self._engine = engine or default_engine()
        self._sources = list(patterns)
        self._compiled: list[Find | None] = [None] * len(self._sources)
        self.hits = self._engine.which(list(triggers) or self._sources)

    def compile_all(self) -> None:
        """Compiles now what would be compiled when first needed. Raises BadPattern."""
        for index in range(len(self._sources)):
            self._pattern(index)

    def _pattern(self, index: int) -> Find:
        compiled = self._compiled[index]
        if compiled is None:
            compiled = self._compiled[index] = self._engine.compile(self._sources[index])
        return compiled

    def spans(
        self, text: bytes, index: int, check: Check, edges: bytes = b"", windows: Sequence[tuple[int, int]] = ()
    ) -> list[tuple[int, int]]:
        """The spans of one pattern that pass the check, left to right, not overlapping. Raises BudgetExceeded.

        No span begins right after one of the bytes in `edges`: a run of them is left behind at once. `windows`: the parts of the
        text to look at, where it need not be all.
        """
        find = self._pattern(index)
        found: list[tuple[int, int]] = []
        candidates = 0
        size = len(text)
        for position, until in windows or ((0, size),):
            last = min(until, size)
            while position < last and (span := find(text, position, last)) is not None:
                start, end = span
                candidates += 1
                if candidates > MAX_CANDIDATES:
                    raise BudgetExceeded("The text has too many candidates to look at each.")
                accepted = None if start and text[start - 1] in edges else check(text, start, end)
                if accepted is not None:
                    found.append((start, accepted))
                    position = max(accepted, start + 1)  # noqa: PLW2901 - the search goes on from there
                elif edges:
                    free = _outside(edges).search(text, start)
                    position = last if free is None else free.end()  # noqa: PLW2901
                else:
                    position = start + 1  # noqa: PLW2901
        return found


@lru_cache(maxsize=64)
def _outside(edges: bytes) -> re.Pattern[bytes]:
    """A character that is none of these."""
    return re.compile(b"[^" + re.escape(edges) + b"]")
