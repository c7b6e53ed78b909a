"""The words around a span: by whole words, some before and a few after."""

from __future__ import annotations

import re
from collections.abc import Sequence

BEFORE = 60
AFTER = 30
"""Bytes looked at on either side."""


class Words:
    """A set of words and phrases that make a number mean something."""

    def __init__(self, *phrases: str) -> None:
        longest_first: Sequence[str] = sorted(phrases, key=len, reverse=True)
        body = "|".join(re.escape(p).replace(r"\ ", r"[\s_-]+") for p in longest_first)
        # Literals only: nothing here can backtrack.
        self._pattern = re.compile(rf"(?<![a-z0-9])(?:{body})(?![a-z0-9])".encode(), re.ASCII)

    def near(self, text: bytes, start: int, end: int) -> bool:
        """Whether one of them stands within reach of the span."""
        before = text[max(0, start - BEFORE) : start].lower()
        if self._pattern.search(before):
            return True
        return self._pattern.search(text[end : end + AFTER].lower()) is not None
