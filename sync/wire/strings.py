"""Every string of a request, keys too, and the same request with other strings in their places.

What is classified, what is redacted and what is sent are the same strings, because they come from the same value by the
same walk: a field that is added later is read without anybody remembering to. Left out are only closed lists (enums,
literals) and the fields that their struct names in UNREAD, whose types admit digits alone.

In the parts of a request that a client fills freely (fields typed Any, such as a JSON schema) a number says as much as a
text does: one of LEAST_DIGITS digits is walked as its digits. It can be read, and cannot be replaced.
"""

from __future__ import annotations

import functools
import typing
from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Any, TypeVar, cast

from sync.wire import types
from sync.wire.types import Closed

LEAST_DIGITS = 6
"""Digits from which on a free number is read: shorter ones are sizes and counts, and no identifier that we know of."""

R = TypeVar("R", bound=Closed)


class Unreplaceable(ValueError):
    """The value cannot say these texts: a number would have to become a word, or two keys would become one."""


def of(value: Closed) -> tuple[str, ...]:
    """Return all strings of a value, in the order of its fields."""
    return tuple(text for part, free in _parts(value) for text in walk(part, free=free))


def replaced(value: R, texts: Sequence[str]) -> R:
    """Return the value with these strings in the places of its own, in the same order.

    Raises:
        Unreplaceable: A number's text is another one, or two keys of a map are the same.
        ValueError: There are more or fewer texts than places.
    """
    rest = iter(texts)
    made = cast(R, _rebuilt(value, rest, free=False))
    if next(rest, None) is not None:
        raise ValueError("there are more texts than places")
    return made


def free_parts(value: Closed) -> Iterator[tuple[int, object]]:
    """Yield the parts that are filled freely, each with the index in `of(value)` of its first string."""
    parts = tuple(_parts(value))
    if not any(free and part for part, free in parts):
        return
    index = 0
    for part, free in parts:
        if free:
            yield index, part
        index += sum(1 for _ in walk(part, free=free))


def of_number(value: float) -> str:
    """Return the digits that a free number is read as, or an empty text where it has too few to say anything.

    Its sign is left out, and a whole number reads the same whether it is an integer or a float.
    """
    if isinstance(value, bool):
        return ""
    size = abs(value)
    if isinstance(size, float) and size.is_integer():
        size = int(size)
    text = repr(size)
    return text if sum(map(str.isdigit, text)) >= LEAST_DIGITS else ""


def walk(value: object, *, free: bool) -> Iterator[str]:
    """Yield the strings of a part of a value. free: whether its numbers are read, too."""
    if isinstance(value, str):
        if not isinstance(value, Enum):
            yield value
    elif isinstance(value, Closed):
        yield from of(value)
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from walk(key, free=free)
            yield from walk(inner, free=free)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from walk(inner, free=free)
    elif free and isinstance(value, (int, float)) and (text := of_number(value)):
        yield text


def _parts(value: Closed) -> Iterator[tuple[object, bool]]:
    """Yield what is walked of a value, in order, and whether it is filled freely."""
    for name, free in _read_fields(type(value)):
        inner = getattr(value, name)
        if isinstance(inner, Closed):
            yield from _parts(inner)
        else:
            yield inner, free


def _rebuilt(value: object, texts: Iterator[str], *, free: bool) -> object:
    if isinstance(value, str):
        return value if isinstance(value, Enum) else _next(texts)
    if isinstance(value, Closed):
        changes = {name: _rebuilt(getattr(value, name), texts, free=inner) for name, inner in _read_fields(type(value))}
        return types.replace(value, **changes)
    if isinstance(value, dict):
        made = {_rebuilt(key, texts, free=free): _rebuilt(inner, texts, free=free) for key, inner in value.items()}
        if len(made) != len(value):
            raise Unreplaceable("two keys of a map would be the same")
        return made
    if isinstance(value, (list, tuple)):
        return type(value)(_rebuilt(inner, texts, free=free) for inner in value)
    if free and isinstance(value, (int, float)) and (text := of_number(value)) and _next(texts) != text:
        raise Unreplaceable("a number would have to become a text")
    return value


def _next(texts: Iterator[str]) -> str:
    text = next(texts, None)
    if text is None:
        raise ValueError("there are fewer texts than places")
    return text


@functools.cache
def _read_fields(kind: type[Closed]) -> tuple[tuple[str, bool], ...]:
    """Return the fields that are walked, and which of them are filled freely.

    Left out are UNREAD and those whose types hold nothing but numbers and closed lists.
    """
    unread: frozenset[str] = getattr(kind, "UNREAD", frozenset())
    hints = typing.get_type_hints(kind)
    named = [name for name in types.fields(kind) if name not in unread and _may_hold_text(hints[name])]
    return tuple((name, _is_free(hints[name])) for name in named)


def _may_hold_text(hint: object) -> bool:
    """Return whether a value of this type can hold a string. What is not known here is walked, to be safe."""
    inner = typing.get_args(hint)
    if inner:
        return any(_may_hold_text(part) for part in inner if part is not Ellipsis)
    return not (isinstance(hint, type) and (issubclass(hint, (bool, int, float, bytes, Enum)) or hint is type(None)))


def _is_free(hint: object) -> bool:
    return hint is Any or any(_is_free(part) for part in typing.get_args(hint))
