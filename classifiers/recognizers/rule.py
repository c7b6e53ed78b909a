"""One recognizer, as data."""

from __future__ import annotations

from dataclasses import dataclass

from classifiers.context import Words
from classifiers.matching import Check


def accept(_: bytes, start: int, end: int) -> int | None:  # noqa: ARG001 - a check is given all three
    """No check: the pattern says it all."""
    return end


@dataclass(frozen=True, slots=True)
class Rule:
    """A pattern, what it finds, and when it counts.

    `edges`: characters that may not stand right before or after. `needs`: words of which one must stand near.
    `matches` and `misses`: examples, each of which is a test.
    """

    name: str
    type: str
    category: str
    pattern: str
    score: float
    matches: tuple[str, ...]
    misses: tuple[str, ...] = ()
    check: Check = accept
    edges: bytes = b""
    needs: Words | None = None

    def accepts(self, text: bytes, start: int, end: int) -> int | None:
        """Where the accepted match ends, or None."""
        accepted = self.check(text, start, end)
        if accepted is None:
            return None
        if self.edges and accepted < len(text) and text[accepted] in self.edges:
            return None
        if self.needs is not None and not self.needs.near(text, start, accepted):
            return None
        return accepted


DIGITS = b"0123456789"
WORD = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_"
