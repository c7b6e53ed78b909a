"""Many patterns over one text in linear time. The door to google-re2.

One `re2.Set` says which patterns occur at all; only those are then searched for their spans. RE2 has no look-around, so what must
not stand beside a match is checked in code. After a match that fails its check the search goes on one character later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import re2

from sync.kit import errors

MAX_MEMORY = 64 * 1024 * 1024
MAX_CANDIDATES = 20_000
"""Matches of one pattern in one text that are looked at; a text with more is not scanned, and counts as restricted."""


class BudgetExceeded(errors.Refused):
    """The text has more candidates than will be looked at."""

    code = "scan_budget_exceeded"


Check = Callable[[bytes, int, int], int | None]
"""(text, start, end) of a candidate: where the accepted match ends, or None."""


class Matcher:
    """Compiled patterns, in RE2's syntax over UTF-8 bytes."""

    def __init__(self, patterns: Sequence[str]) -> None:
        options = re2.Options()
        options.max_mem = MAX_MEMORY
        options.log_errors = False
        self._set = re2.Set.SearchSet(options)
        for pattern in patterns:
            self._set.Add(pattern)
        self._set.Compile()
        self._patterns = [re2.compile(pattern.encode(), options) for pattern in patterns]

    def hits(self, text: bytes) -> list[int]:
        """The indexes of the patterns that occur."""
        return list(self._set.Match(text) or ())

    def spans(self, text: bytes, index: int, check: Check, edges: bytes = b"") -> Iterator[tuple[int, int]]:
        """The spans of one pattern that pass the check, left to right, not overlapping. Raises BudgetExceeded.

        No span begins right after one of the bytes in `edges`: inside a run of them the search does not stop at each.
        """
        search = self._patterns[index].search
        position = candidates = 0
        while (match := search(text, position)) is not None:
            start, end = match.span()
            if edges and start and text[start - 1] in edges:
                position = start + 1
                while position < len(text) and text[position - 1] in edges:
                    position += 1
                continue
            candidates += 1
            if candidates > MAX_CANDIDATES:
                raise BudgetExceeded("The text has too many candidates to look at each.")
            accepted = check(text, start, end)
            if accepted is None:
                position = start + 1
            else:
                yield start, accepted
                position = max(accepted, start + 1)
