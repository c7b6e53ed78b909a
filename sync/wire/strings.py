"""Every string of a request, keys too, and the same request with other strings in their places.

What is classified, what is redacted and what is sent are the same strings, because they come from the same value by the
same walk: a field that is added later is read without anybody remembering to. Left out are only closed lists (enums,
literals) and the fields that their struct names in UNREAD, whose types admit digits alone.
"""

from __future__ import annotations

import functools
import typing
from collections.abc import Iterator, Sequence
from enum import Enum
from typing import TypeVar, cast

from sync.wire import types
from sync.wire.types import Closed

R = TypeVar("R", bound=Closed)


def of(value: Closed) -> tuple[str, ...]:
    """Return all strings of a value, in the order of its fields."""
    return tuple(_walk(value))


def replaced(value: R, texts: Sequence[str]) -> R:
    """Return the value with these strings in the places of its own, in the same order. Raises ValueError for another count."""
    rest = iter(texts)
    made = cast(R, _rebuilt(value, rest))
    if next(rest, None) is not None:
        raise ValueError("there are more texts than places")
    return made


def _walk(value: object) -> Iterator[str]:
    if isinstance(value, str):
        if not isinstance(value, Enum):
            yield value
    elif isinstance(value, Closed):
        for name in _read_fields(type(value)):
            yield from _walk(getattr(value, name))
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _walk(key)
            yield from _walk(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _walk(inner)


def _rebuilt(value: object, texts: Iterator[str]) -> object:
    if isinstance(value, str):
        return value if isinstance(value, Enum) else _next(texts)
    if isinstance(value, Closed):
        changes = {name: _rebuilt(getattr(value, name), texts) for name in _read_fields(type(value))}
        return types.replace(value, **changes)
    if isinstance(value, dict):
        return {_rebuilt(key, texts): _rebuilt(inner, texts) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_rebuilt(inner, texts) for inner in value)
    return value


def _next(texts: Iterator[str]) -> str:
    text = next(texts, None)
    if text is None:
        raise ValueError("there are fewer texts than places")
    return text


@functools.cache
def _read_fields(kind: type[Closed]) -> tuple[str, ...]:
    """Return the fields that are walked: all but UNREAD and those whose types hold nothing but numbers and closed lists."""
    unread: frozenset[str] = getattr(kind, "UNREAD", frozenset())
    hints = typing.get_type_hints(kind)
    return tuple(name for name in types.fields(kind) if name not in unread and _may_hold_text(hints[name]))


def _may_hold_text(hint: object) -> bool:
    """Return whether a value of this type can hold a string. What is not known here is walked, to be safe."""
    inner = typing.get_args(hint)
    if inner:
        return any(_may_hold_text(part) for part in inner if part is not Ellipsis)
    return not (isinstance(hint, type) and (issubclass(hint, (bool, int, float, bytes, Enum)) or hint is type(None)))
