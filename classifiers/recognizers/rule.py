"""One recognizer, as data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from classifiers.context import Words
from classifiers.matching import Check

DIGITS = b"0123456789"
TAKEN = b"\x7f"
"""What the scanner writes over a span that a surer rule has found."""
WORD = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_" + TAKEN
_STOPS = b".,:;-/"
_SEPARATORS = b" -./\t\r\n"


def accept(_: bytes, start: int, end: int) -> int | None:  # noqa: ARG001 - a check is given all three
    """No check: the pattern says it all."""
    return end


def alone(text: bytes, start: int, end: int) -> int | None:
    """A check that no further group of digits stands beside: it would be part of a longer number."""
    if start >= 2 and text[start - 1] in b" -./)+" and text[start - 2] in DIGITS:
        return None
    return None if text[end : end + 1] in (b" ", b"-", b"/") and text[end + 1 : end + 2].isdigit() else end


@dataclass(frozen=True, slots=True)
class Rule:
    """A pattern, what it finds, and when it counts.

    `trigger`: a cheaper pattern that occurs wherever the pattern does. `edges`: characters that may not stand right before or after.
    `needs`: words of which one must stand near. `matches` and `misses`: examples, each of which is a test.
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
    trigger: str = ""

    def accepts(self, text: bytes, start: int, end: int) -> int | None:
        """Where the accepted match ends, or None; the words around are the engine's to ask for."""
        accepted = self.check(text, start, end)
        if accepted is None or (accepted < len(text) and text[accepted] in self.edges and _goes_on(text, accepted)):
            return None
        return accepted


def _goes_on(text: bytes, at: int) -> bool:
    """Whether what stands here belongs to what is before it: a full stop at a sentence's end does not, one before a digit does."""
    return text[at] not in _STOPS or text[at + 1 : at + 2].isalnum()


def of_digits(valid: Callable[[str], bool], *, most_breaks: int = 1) -> Check:
    """A check of the bare digits. A number may be broken over so many lines."""

    def check(text: bytes, start: int, end: int) -> int | None:
        raw = text[start:end]
        if raw.count(b"\n") > most_breaks:
            return None
        return end if valid(raw.translate(None, _SEPARATORS).decode("ascii")) else None

    return check


def of_letters(valid: Callable[[str], bool]) -> Check:
    """A check of the bare letters and digits, in capitals."""

    def check(text: bytes, start: int, end: int) -> int | None:
        return end if valid(text[start:end].translate(None, _SEPARATORS).decode("ascii").upper()) else None

    return check
