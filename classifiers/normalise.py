"""Text as the scanner reads it, and the way back to what was written.

Full-width and compatibility forms become plain ones (NFKC), other scripts' digits become ASCII, letters that look Latin become Latin
(Unicode Technical Standard 39, confusables), dashes and spaces become `-` and ` `, what is not seen (zero-width, bidirectional and
combining marks, soft hyphens, tags of HTML that only dress) is dropped, and URL, HTML and backslash escapes are undone where they stand.

Invariants, each with a test of its words:
- a span of the normal form maps to a span inside the original;
- ASCII without escapes is left as it is, and costs next to nothing.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

MAX_ROUNDS = 3
"""How often escapes are undone: text may be escaped twice and once more."""

_UNSEEN = frozenset("\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u2800\u3164\ufeff\uffa0")
_UNSEEN_RANGES = (
    range(0x0300, 0x0370), range(0x200B, 0x2010), range(0x202A, 0x202F), range(0x2060, 0x2070), range(0x20D0, 0x2100),
    range(0xFE00, 0xFE10), range(0xFFF9, 0xFFFC), range(0xE0000, 0xE01F0),
)  # fmt: skip
_DASHES = frozenset("\u02d7\u2010\u2011\u2012\u2013\u2014\u2015\u2043\u207b\u208b\u2212\u2796\u30fc\ufe31\ufe32\ufe58\ufe63\uff0d")
_DOTS = frozenset("\u2024\u3002\uff61\ufe52\u0701\u06d4\u00b7\u2022\u2219\u22c5\u30fb")
_LATIN = (
    ("АаӐӒ", "A"), ("аӑӓ", "a"), ("В", "B"), ("Сс", "C"), ("ϲсᴄ", "c"), ("ԁ", "d"), ("Ее", "E"), ("еҽ", "e"), ("ҒF", "F"), ("ɡ", "g"), ("Нʜ", "H"),
    ("һ", "h"), ("ІӀ", "I"), ("іı", "i"), ("Ј", "J"), ("ј", "j"), ("Кκ", "K"), ("к", "k"), ("ӏ", "l"), ("М", "M"), ("п", "n"), ("Оο", "O"), ("оσօ", "o"),
    ("Р", "P"), ("р", "p"), ("Ԛ", "Q"), ("ԛ", "q"), ("г", "r"), ("Ѕ", "S"), ("ѕ", "s"), ("Т", "T"), ("т", "t"), ("ս", "u"), ("Ѵ", "V"), ("ѵ", "v"),
    ("Ԝ", "W"), ("ԝѡ", "w"), ("Х", "X"), ("хχ", "x"), ("УҮ", "Y"), ("уү", "y"), ("Ζ", "Z"), ("Α", "A"), ("Β", "B"), ("Ε", "E"), ("Η", "H"), ("Ι", "I"),
    ("Κ", "K"), ("Μ", "M"), ("Ν", "N"), ("Ο", "O"), ("Ρ", "P"), ("Τ", "T"), ("Υ", "Y"), ("Χ", "X"), ("α", "a"), ("ο", "o"), ("ρ", "p"), ("ν", "v"),
    ("ι", "i"), ("ⅼ", "l"), ("ꓮ", "A"), ("ᴏ", "o"), ("ꜱ", "s"), ("ɩ", "i"), ("ʏ", "y"), ("ᴀ", "a"), ("ᴇ", "e"), ("ɴ", "n"), ("ᴛ", "t"), ("ᴡ", "w"),
)  # fmt: skip
_CONFUSABLE = {character: latin for characters, latin in reversed(_LATIN) for character in characters}

_ESCAPE = re.compile(
    r"(?:%[0-9A-Fa-f]{2})+|&(?:#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z]{2,31});|(?:\\x[0-9A-Fa-f]{2})+|\\u[0-9A-Fa-f]{4}|\\u\{[0-9A-Fa-f]{1,6}\}|</?(?:b|i|u|s|em|strong|span|font|small|wbr|sub|sup)(?: [^<>]{0,80})?>"
)
_HAS_ESCAPE = ("%", "&", "\\", "</")

Piece = tuple[int, int, str]
"""[start, end) of a text, and what stands there instead."""


class Rewritten:
    """A text with pieces replaced, and where each character of the result was."""

    def __init__(self, text: str, pieces: list[Piece]) -> None:
        out: list[str] = []
        self._starts = [0]
        self._origins: list[tuple[int, int, bool]] = [(0, 0, True)]
        at = last = 0
        for start, end, instead in pieces:
            out.append(text[last:start])
            at += start - last
            self._mark(at, start, end, linear=False)
            out.append(instead)
            at += len(instead)
            self._mark(at, end, end, linear=True)
            last = end
        out.append(text[last:])
        self.text = "".join(out)

    def _mark(self, at: int, start: int, end: int, *, linear: bool) -> None:
        if self._starts[-1] == at:
            self._origins[-1] = (start, end, linear)
        else:
            self._starts.append(at)
            self._origins.append((start, end, linear))

    def span(self, start: int, end: int) -> tuple[int, int]:
        """The original's span that these characters of the result came from."""
        k = bisect_right(self._starts, start) - 1
        origin, _, linear = self._origins[k]
        first = origin + (start - self._starts[k]) if linear else origin
        if end <= start:
            return first, first
        k = bisect_right(self._starts, end - 1) - 1
        origin, until, linear = self._origins[k]
        return first, origin + (end - self._starts[k]) if linear else until


@dataclass(frozen=True, slots=True)
class Normal:
    """A normal form. `layers` lead back to the original, the last rewriting first."""

    text: str
    layers: tuple[Rewritten, ...] = ()

    def span(self, start: int, end: int) -> tuple[int, int]:
        """The span of the original that these characters came from."""
        for layer in self.layers:
            start, end = layer.span(start, end)
        return start, end

    def then(self, pieces: list[Piece]) -> Normal:
        """This normal form with pieces of it replaced."""
        layer = Rewritten(self.text, pieces)
        return Normal(layer.text, (layer, *self.layers))


def normalise(text: str) -> Normal:
    """The normal form of a text."""
    normal = Normal(text) if text.isascii() else _plain_characters(text)
    for _ in range(MAX_ROUNDS):
        if not any(sign in normal.text for sign in _HAS_ESCAPE):
            break
        pieces = [piece for match in _ESCAPE.finditer(normal.text) if (piece := _unescaped(match)) is not None]
        if not pieces:
            break
        normal = normal.then(pieces)
        if not normal.text.isascii():
            inner = _plain_characters(normal.text)
            normal = Normal(inner.text, (*inner.layers, *normal.layers))
    return normal


def _plain_characters(text: str) -> Normal:
    plain = {character: _plain(character) for character in set(text) if character >= "\x80"}
    moved = "".join(character for character, instead in plain.items() if len(instead) != 1)
    if not moved:
        return Normal(text.translate({ord(c): instead for c, instead in plain.items()}))
    pieces = list(_runs(text, re.compile(f"[{re.escape(moved)}]+"), plain))
    layer = Rewritten(text, pieces)
    return Normal(layer.text.translate({ord(c): instead for c, instead in plain.items() if len(instead) == 1}), (layer,))


def _runs(text: str, moved: re.Pattern[str], plain: dict[str, str]) -> Iterator[Piece]:
    for match in moved.finditer(text):
        if not any(plain[c] for c in match[0]):
            yield match.start(), match.end(), ""
            continue
        for at, character in enumerate(match[0], match.start()):
            yield at, at + 1, plain[character]


def _plain(character: str) -> str:
    point = ord(character)
    if character in _UNSEEN or any(point in unseen for unseen in _UNSEEN_RANGES):
        return ""
    if character in _DASHES:
        return "-"
    if character in _DOTS:
        return "."
    if character.isspace():
        return "\n" if character in "\u2028\u2029\x85" else " "
    digit = unicodedata.decimal(character, None)
    if digit is not None:
        return str(digit)
    if 0xD800 <= point <= 0xDFFF:
        return "?"
    compatible = unicodedata.normalize("NFKC", character)
    return _CONFUSABLE.get(compatible, compatible)


def _unescaped(match: re.Match[str]) -> Piece | None:
    raw = match[0]
    if raw[0] == "<":
        instead = ""
    elif raw[0] == "%":
        try:
            instead = bytes.fromhex(raw.replace("%", "")).decode("utf-8")
        except UnicodeDecodeError:
            return None
    elif raw[0] == "&":
        import html  # noqa: PLC0415 - a table of two thousand names that few texts need

        instead = html.unescape(raw)
        if instead == raw:
            return None
    elif raw[1] == "x":
        instead = bytes.fromhex(raw.replace("\\x", "")).decode("utf-8", "replace")
    else:
        point = int(raw[2:].strip("{}"), 16)
        instead = chr(point) if point < 0x110000 and not 0xD800 <= point <= 0xDFFF else "?"
    return match.start(), match.end(), instead
