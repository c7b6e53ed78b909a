"""Frames: msgpack arrays `[version, kind, body]`. The door to msgpack and msgspec.

Invariants, each with a test of its words:
- a frame larger than the cap of its kind is refused before it is parsed;
- a frame of an unknown version or kind is refused by name;
- a frame with a missing, unknown or wrongly typed field is refused;
- a field that a later version added is said only where it differs from its default: an older side reads the rest;
- what `encode` made, `decode` gives back equal.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any, ClassVar, Protocol, TypeVar, cast

import msgpack
import msgspec

from sync.kit import errors
from sync.wire import types
from sync.wire.types import Closed

VERSION = 1
KIB, MIB = types.KIB, types.MIB


class BadFrame(errors.Corrupt):
    """Bytes that are no frame of this protocol."""

    code = "bad_frame"


class Message(Protocol):
    """A frozen value (see types.Closed) with its kind's name and the most bytes that a frame of it may have."""

    KIND: ClassVar[str]
    CAP: ClassVar[int]
    __struct_fields__: ClassVar[tuple[str, ...]]


M = TypeVar("M", bound=Message)
C = TypeVar("C", bound=Closed)

_SHORT_MAP = 15
"""Entries up to which a msgpack map has a head of one byte."""
_ENCODER = msgspec.msgpack.Encoder()
_OUTER = msgspec.msgpack.Decoder(tuple[int, str, msgspec.Raw])


def encode(message: Message) -> bytes:
    """Return the frame of a message. Raises BadFrame where it would exceed the cap of its kind."""
    data = _ENCODER.encode((VERSION, message.KIND, message))
    if len(message.__struct_fields__) > _SHORT_MAP:
        # msgspec sizes the head of a map by the fields that there are, msgpack by those that are written: the shorter
        # head is the one of version 0.1, and frames stay the bytes that they were.
        data = pack(unpack(data))
    if len(data) > message.CAP:
        raise BadFrame(f"A {message.KIND} frame of {len(data)} bytes is over its cap of {message.CAP}.")
    return data


def decode(data: bytes, *kinds: type[M]) -> M:
    """Return the message in a frame, which must be of one of these kinds. Raises BadFrame."""
    if len(data) > max(kind.CAP for kind in kinds):
        raise BadFrame(f"A frame of {len(data)} bytes is over the cap of {_named(kinds)}.")
    try:
        version, name, body = _OUTER.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadFrame("A frame is not an array of version, kind and body.") from error
    if version != VERSION:
        raise BadFrame(f"A frame of version {version} came; this side speaks version {VERSION}.")
    found = next((kind for kind in kinds if name == kind.KIND), None)
    if found is None:
        raise BadFrame(f"A frame of kind {name[:40]!r} came where {_named(kinds)} was expected.")
    if len(data) > found.CAP:
        raise BadFrame(f"A {name} frame of {len(data)} bytes is over its cap of {found.CAP}.")
    return cast(M, _read(found, body, f"A {name} frame"))


def pack_value(value: Closed) -> bytes:
    """Return the msgpack bytes of a value without a frame around it: what is sent inside another message."""
    return _ENCODER.encode(value)


def read_value(kind: type[C], data: bytes) -> C:
    """Return the value in bytes that `pack_value` made. Raises BadFrame."""
    return cast(C, _read(kind, data, f"A value of {kind.__name__}"))


def pack_any(value: Any) -> bytes:
    """Return the msgpack bytes of values of the wire, such as a tuple of them."""
    return _ENCODER.encode(value)


def read_any(kind: Any, data: bytes, what: str) -> Any:
    """Return what `pack_any` made, checked against a type. `what` names it for people. Raises BadFrame."""
    return _read(kind, data, what)


def _read(kind: Any, data: bytes | msgspec.Raw, what: str) -> Any:
    try:
        return _decoder(kind).decode(data)
    except msgspec.ValidationError as error:
        # msgspec names the place as $.field[0]; its sentence speaks of types alone, never of a value.
        raise BadFrame(f"{what} is wrong: {error}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadFrame("Bytes that are not msgpack came.") from error


def _named(kinds: tuple[type[Message], ...]) -> str:
    return ", ".join(kind.KIND for kind in kinds)


@functools.cache
def _decoder(kind: Any) -> msgspec.msgpack.Decoder[Any]:
    return msgspec.msgpack.Decoder(kind)


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
