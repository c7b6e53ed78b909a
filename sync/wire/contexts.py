"""What belongs together in the freely filled parts of a request, written as one text each.

`strings` reads keys and values one by one, and what a key says of its value is lost: `{"password": {"const": "…"}}` is a
word and another word. A context has a line for each value, with the names that it stands under: `password: …`. It is read
beside the strings, never sent and never redacted; `pieces` say which strings a place in it is made of.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sync.wire import strings
from sync.wire.types import Closed

MAX_NAMES = 3
"""Names before a value: `customer address city: …`. Those further out say nothing of it, and would be repeated for each."""
MAX_NAME = 64
"""Characters of a name: its end. A list's name is repeated for each entry, and must not multiply."""
MAX_VALUE = 256
"""Characters of a value: its beginning. A longer one is read by itself, and its key says nothing more of it."""
CARRIERS = frozenset(
    {"properties", "patternProperties", "const", "enum", "default", "examples", "example", "items", "prefixItems",
     "anyOf", "oneOf", "allOf", "not", "if", "then", "else", "additionalProperties", "$defs", "definitions"}
)  # fmt: skip
"""Words of JSON Schema that stand between a name and its value."""
ANNOTATIONS = frozenset(
    {"type", "format", "title", "description", "pattern", "required", "$ref", "$id", "$schema", "$anchor", "$comment",
     "contentMediaType", "contentEncoding"}
)  # fmt: skip
"""Words of JSON Schema whose value speaks of a name, and is not one of its values: `password: At least 8 characters`."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Characters `[start, end)` of a context: they are those of the string number `text`, from `offset` on."""

    start: int
    end: int
    text: int
    offset: int


@dataclass(frozen=True, slots=True)
class Context:
    """One freely filled part as a text. What no piece covers is punctuation, or a number too short to be a string."""

    text: str
    pieces: tuple[Piece, ...]


Word = tuple[str, int | None, int]
"""A text, the number of the string that it is of, if it is of one, and where in that it begins."""


def of(value: Closed) -> tuple[Context, ...]:
    """Return the contexts of a request: none where nothing of it is filled freely."""
    made = (_written(part, first) for first, part in strings.free_parts(value))
    return tuple(context for context in made if context.text)


def _written(part: object, first: int) -> Context:
    out: list[str] = []
    pieces: list[Piece] = []
    at = 0
    for names, value in _Reader(first).lines(part, ()):
        for word, end in _line(names, value):
            text, number, offset = word
            if number is not None:
                pieces.append(Piece(at, at + len(text), number, offset))
            out += (text, end)
            at += len(text) + len(end)
    return Context("".join(out), tuple(pieces))


def _line(names: tuple[Word, ...], value: Word) -> Iterator[tuple[Word, str]]:
    """Yield the words of a line, each with what follows it."""
    for name in names[:-1]:
        yield name, " "
    if names:
        # A number's beginning may be a key: `{"536": "22-8743"}` goes on, and is no name.
        yield names[-1], " " if names[-1][0][-1:].isdigit() else ": "
    yield value, "\n"


class _Reader:
    """Walks a part as `strings` does, and counts its strings."""

    def __init__(self, first: int) -> None:
        self._number = first

    def lines(self, value: object, names: tuple[Word, ...]) -> Iterator[tuple[tuple[Word, ...], Word]]:
        """Yield each value with the names that it stands under, the nearest last."""
        if isinstance(value, dict):
            for key, inner in value.items():
                name = self._word(key)
                yield from self.lines(inner, self._under(names, name))
        elif isinstance(value, (list, tuple)):
            for inner in value:
                yield from self.lines(inner, names)
        else:
            word = self._word(value)
            if word[0] and not (names and names[-1][0] in ANNOTATIONS):
                yield names, (word[0][:MAX_VALUE], word[1], word[2])

    def _under(self, names: tuple[Word, ...], name: Word) -> tuple[Word, ...]:
        text, number, _ = name
        if not text or text in CARRIERS:
            return names
        start = max(0, len(text) - MAX_NAME)
        return (*names, (text[start:], number, start))[-MAX_NAMES:]

    def _word(self, value: object) -> Word:
        """Return a string or a number, counted where `strings` counts it."""
        text = next(strings.walk(value, free=True), None)
        if text is not None:
            self._number += 1
            return text, self._number - 1, 0
        small = isinstance(value, (int, float)) and not isinstance(value, bool)
        return (repr(value) if small else "", None, 0)
