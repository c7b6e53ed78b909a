"""Frames: msgpack arrays `[version, kind, body]`. The door to msgpack.

Invariants, each with a test of its words:
- a frame larger than the cap of its kind is refused before it is parsed;
- a frame of an unknown version or kind is refused by name;
- a frame with a missing, unknown or wrongly typed field is refused;
- a field that a later version added is said only where it differs from its default: an older side reads the rest;
- what `encode` made, `decode` gives back equal.
"""

from __future__ import annotations

import dataclasses
import functools
import threading
import typing
from collections.abc import Callable
from typing import Any, ClassVar, Protocol, TypeVar, cast

import msgpack
import pydantic

from sync.kit import errors

VERSION = 1
KIB = 1024
MIB = 1024 * KIB


class BadFrame(errors.Corrupt):
    """Bytes that are no frame of this protocol."""

    code = "bad_frame"


class Message(Protocol):
    """A frozen dataclass with the name of its kind and the most bytes that a frame of it may have."""

    KIND: ClassVar[str]
    CAP: ClassVar[int]


M = TypeVar("M", bound=Message)


def encode(message: Message) -> bytes:
    """The frame of a message. Raises BadFrame where it would exceed the cap of its kind."""
    body = plain(message)
    data = pack([VERSION, message.KIND, body])
    if len(data) > message.CAP:
        raise BadFrame(f"A {message.KIND} frame of {len(data)} bytes is over its cap of {message.CAP}.")
    return data


def decode(data: bytes, *kinds: type[M]) -> M:
    """The message in a frame, which must be of one of these kinds. Raises BadFrame."""
    if len(data) > max(kind.CAP for kind in kinds):
        raise BadFrame(f"A frame of {len(data)} bytes is over the cap of {', '.join(k.KIND for k in kinds)}.")
    match unpack(data):
        case (int() as version, _, _) if version != VERSION:
            raise BadFrame(f"A frame of version {version} came; this side speaks version {VERSION}.")
        case (int(), str() as name, dict() as body):
            found = next((kind for kind in kinds if name == kind.KIND), None)
        case _:
            raise BadFrame("A frame is not an array of version, kind and body.")
    if found is None:
        raise BadFrame(f"A frame of kind {name[:40]!r} came where {', '.join(k.KIND for k in kinds)} was expected.")
    if len(data) > found.CAP:
        raise BadFrame(f"A {name} frame of {len(data)} bytes is over its cap of {found.CAP}.")
    try:
        return cast(M, _adapter(found).validate_python(body))
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise BadFrame(f"A {name} frame is wrong at {'.'.join(map(str, first['loc']))}: {first['msg']}.") from error


def pack(value: object) -> bytes:
    """msgpack bytes of plain values (tuples as arrays)."""
    packer = _packers.packer
    if packer is None:
        packer = _packers.packer = msgpack.Packer(use_bin_type=True).pack
    return cast(bytes, packer(value))


class _Packers(threading.local):
    """A packer a thread: making one takes as long as a small record's packing."""

    packer: Callable[[object], bytes] | None = None


_packers = _Packers()


def unpack(data: bytes) -> Any:
    """Plain values from msgpack bytes; arrays become tuples. Raises BadFrame. Lengths are bounded by the data's own."""
    try:
        return msgpack.unpackb(data, use_list=False, raw=False, strict_map_key=True, max_ext_len=0)
    except (ValueError, msgpack.exceptions.UnpackException, RecursionError) as error:
        raise BadFrame("Bytes that are not msgpack came.") from error


def plain(message: object) -> dict[str, object]:
    """A dataclass as a map, nested ones too. Enums need nothing: they are integers and strings."""
    kind: type = type(message)
    found: dict[str, object] = {name: getattr(message, name) for name in kind.__slots__}  # type: ignore[attr-defined]
    for name in _nesting(kind):
        value = found[name]
        found[name] = tuple(map(plain, value)) if isinstance(value, tuple) else plain(value)
    for name, default in _added(kind):
        if found[name] == default:
            del found[name]
    return found


@functools.cache
def _added(kind: type) -> tuple[tuple[str, object], ...]:
    """The fields that a later version added, as its class names them in ADDED, with their defaults."""
    defaults = {field.name: field.default for field in dataclasses.fields(kind)}
    return tuple((name, defaults[name]) for name in getattr(kind, "ADDED", ()))


@functools.cache
def _nesting(kind: type) -> tuple[str, ...]:
    """The fields of a message that hold further dataclasses, one or a tuple of them."""
    hints = typing.get_type_hints(kind)
    inner = {name: (*typing.get_args(hint), hint) for name, hint in hints.items()}
    return tuple(name for name in kind.__slots__ if any(map(dataclasses.is_dataclass, inner[name])))  # type: ignore[attr-defined]


@functools.cache
def _adapter(kind: type[M]) -> pydantic.TypeAdapter[M]:
    # Enums and nested dataclasses arrive as plain values, so the check is lax there and strict on scalars, by annotation.
    return pydantic.TypeAdapter(kind)
