"""Text as the scanner reads it, and the way back: every position of the normal form knows where it came from.

Full-width and compatibility forms become plain ones (NFKC), other scripts' digits become ASCII, dashes and spaces become `-` and
` `, and what is not seen (zero-width, bidirectional marks, soft hyphens) is dropped.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

_UNSEEN = frozenset(
    "\u00ad\u034f\u061c\u180e\ufeff" + "".join(map(chr, (*range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2070))))
)
_TAGS = range(0xE0000, 0xE0080)
_DASHES = frozenset("\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63\uff0d")


@dataclass(frozen=True, slots=True)
class Normal:
    """A normal form; `offsets[i]` is where its i-th character began in the original, or None where nothing moved."""

    text: str
    offsets: list[int] | None

    def span(self, start: int, end: int) -> tuple[int, int]:
        """The span of the original that these characters came from."""
        if self.offsets is None:
            return start, end
        return self.offsets[start], self.offsets[end - 1] + 1 if end > start else self.offsets[start]


def normalise(text: str) -> Normal:
    """The normal form of a text. ASCII costs nothing."""
    if text.isascii():
        return Normal(text, None)
    out: list[str] = []
    offsets: list[int] = []
    for i, character in enumerate(text):
        plain = character if character < "\x80" else _plain(character)
        out.append(plain)
        offsets.extend([i] * len(plain))
    return Normal("".join(out), offsets)


def _plain(character: str) -> str:
    if character in _UNSEEN or ord(character) in _TAGS:
        return ""
    if character in _DASHES:
        return "-"
    if character.isspace():
        return "\n" if character in "\u2028\u2029\x85" else " "
    digit = unicodedata.decimal(character, None)
    if digit is not None:
        return str(digit)
    if "\ud800" <= character <= "\udfff":
        return "?"
    return unicodedata.normalize("NFKC", character)
