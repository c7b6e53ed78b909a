"""What is written so that a pattern does not see it: encoded, spaced out, or split over the messages of one request.

Each gives further texts to scan, and knows the way back to the original. Depth, size and count are bounded.

Invariants, each with a test of its words:
- a text that hides more than will be looked into is refused, and so counts as restricted: padding hides nothing.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from classifiers.matching import BudgetExceeded
from classifiers.normalise import Normal, normalise

MAX_DEPTH = 3
"""Encodings within encodings."""
MAX_DECODED = 256 * 1024
"""Characters decoded of one text, all together."""
MAX_TOKEN = 65_536
"""Characters of an encoded token that is looked into."""
MAX_TOKENS = 200
"""Encoded tokens looked into, a text."""
READABLE = 0.9
"""Share of printable characters that makes decoded bytes a text."""
TAIL = 96
"""Characters of a message's end and of the next one's beginning that are read together."""

SIGNALS = (
    r"[A-Za-z0-9+/_\-]{16}",
    r"(?:^|[^0-9A-Za-z])(?:(?:0x)?[0-9a-fA-F]{2}(?:, ?|[ :])){6}(?:0x)?[0-9a-fA-F]{2}(?:[^0-9A-Za-z]|$)",
    r"(?:^|\s)(?:[^\s][ _*|~]{1,2}){7}[^\s]",
)
"""What must occur in a text that hides something encoded (the first two) or spaced (the last)."""
ENCODED = frozenset({0, 1})
SPACED = frozenset({2})

_TOKEN = re.compile(r"[A-Za-z0-9+/_\-]{16,}={0,6}")
_HEX_PAIRS = re.compile(r"\b(?:(?:0x)?[0-9a-fA-F]{2}(?:, ?|[ :])){6,4096}(?:0x)?[0-9a-fA-F]{2}\b")
_SPACED = re.compile(r"(?<!\S)(?:[^\s](?:[ _*|~]{1,2})){7,512}[^\s](?!\S)")
_DIGITS_END = re.compile(r"(?:\d[ .\-/]{0,2}){2,19}$")
_DIGITS_START = re.compile(r"^(?:[ .\-/]{0,2}\d){2,19}(?![A-Za-z])")
_DIGITS_ONLY = re.compile(r"^[\s.]*(?:\d[ .\-/]{0,2}){1,19}[\s.]*$")


@dataclass(frozen=True, slots=True)
class Hidden:
    """A text found inside `[start, end)` of another; its findings count for the whole of that span."""

    normal: Normal
    start: int
    end: int


def encoded(text: str, depth: int = 0, *, in_pairs: bool = True) -> Iterator[Hidden]:
    """The readable texts that a normal form's tokens decode to, and those within them. `in_pairs`: also hex with spaces between."""
    left = MAX_DECODED
    for count, (start, end, inner) in enumerate(_decoded(text, in_pairs=in_pairs)):
        left -= len(inner)
        if left < 0 or count >= MAX_TOKENS:
            raise BudgetExceeded("The text hides more than will be looked into.")
        normal = normalise(inner)
        yield Hidden(normal, start, end)
        if depth + 1 < MAX_DEPTH:
            for deeper in encoded(normal.text, depth + 1):
                yield Hidden(deeper.normal, start, end)


def _decoded(text: str, *, in_pairs: bool) -> Iterator[tuple[int, int, str]]:
    for match in _TOKEN.finditer(text):
        token = match[0][:MAX_TOKEN]
        inner = _hex(token) or _base64(token) or _base32(token)
        if inner is not None and len(match[0]) > MAX_TOKEN:
            raise BudgetExceeded("An encoded text is longer than will be looked into.")
        if inner is not None:
            yield match.start(), match.end(), inner
    for match in _HEX_PAIRS.finditer(text) if in_pairs else ():
        if (inner := _hex(match[0])) is not None:
            yield match.start(), match.end(), inner


def _hex(token: str) -> str | None:
    bare = token.replace("0x", "").replace(" ", "").replace(":", "").replace(",", "")
    return _readable(lambda: bytes.fromhex(bare)) if len(bare) % 2 == 0 else None


def _base32(token: str) -> str | None:
    bare = token.rstrip("=")
    return _readable(lambda: base64.b32decode(bare + "=" * (-len(bare) % 8))) if bare.isupper() else None


def _base64(token: str) -> str | None:
    body = token.rstrip("=").replace("-", "+").replace("_", "/")
    if len(body) % 4 == 1:
        return None
    return _readable(lambda: base64.b64decode(body + "=" * (-len(body) % 4)))


def _readable(decode: Callable[[], bytes]) -> str | None:
    try:
        text = decode().decode("utf-8")
    except (ValueError, binascii.Error):
        return None
    if not text:
        return None
    printable = sum(c.isprintable() or c in "\n\t\r" for c in text)
    return text if printable >= READABLE * len(text) else None


def spaced(text: str) -> Iterator[tuple[Normal, int]]:
    """Runs of single characters with spaces between, without them: (normal form of the run, where it stands)."""
    for count, match in enumerate(_SPACED.finditer(text)):
        if count >= MAX_TOKENS:
            raise BudgetExceeded("The text has more spaced-out words than will be looked into.")
        run = match[0]
        yield Normal(run).then([(at, at + 1, "") for at, c in enumerate(run) if c in " _*|~" and at % 2]), match.start()


@dataclass(frozen=True, slots=True)
class Joined:
    """A text put together from pieces of several: `pieces` are (text index, start there, start here, length)."""

    text: str
    pieces: tuple[tuple[int, int, int, int], ...]

    def parts(self, start: int, end: int) -> list[tuple[int, int, int]]:
        """The pieces of the originals that a span covers: (text index, start, end)."""
        found = []
        for index, there, here, length in self.pieces:
            first, last = max(start, here), min(end, here + length)
            if first < last:
                found.append((index, there + first - here, there + last - here))
        return found


def split(texts: Sequence[str]) -> Joined | None:
    """The ends and beginnings of a request's texts where digits break off and go on, put together; None where there are none."""
    pieces: list[tuple[int, int, str]] = []
    went_on = False
    is_open = False
    for index, text in enumerate(texts):
        end = text.rstrip(" \n\t.,;:!")
        begins = _DIGITS_START.match(text.lstrip())
        if is_open and _DIGITS_ONLY.match(text[: 4 * TAIL]) and len(text) <= 4 * TAIL:
            pieces.append((index, 0, end))
            went_on = True
            continue
        if is_open and begins:
            lead = len(text) - len(text.lstrip())
            pieces.append((index, lead, text[lead : lead + TAIL]))
            went_on, is_open = True, False
        if _DIGITS_END.search(end[-TAIL:]):
            taken = pieces[-1][1] + len(pieces[-1][2]) if pieces and pieces[-1][0] == index else 0
            first = max(taken, len(end) - TAIL)
            if first < len(end):
                pieces.append((index, first, end[first:]))
            is_open = True
    if not went_on:
        return None
    out = ""
    placed = []
    for index, there, part in pieces:
        if out:
            out += " "
        placed.append((index, there, len(out), len(part)))
        out += part
    return Joined(out, tuple(placed))
