"""Patches: what changed from one signed bundle to the next, for bundles that are too large to send whole at each edit.

A patch needs no trust of its own: what it makes must be, byte for byte, what the hub has signed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from sync.bundle.snapshot import MAX_BUNDLE, Bundle, Signed
from sync.kit import errors
from sync.wire import codec, types
from sync.wire.types import Bytes, Closed, Int, Str

WORTH_BYTES = 64 * codec.KIB
"""A bundle below this size is sent whole."""
_LISTS = {"tenants": "id", "keys": "id", "models": "name", "sites": "id", "agents": "id"}


class Part(Closed, frozen=True):
    """One of the bundle's lists: the ids in their new order, and in msgpack those items that are new or different."""

    list: Str
    order: tuple[Str, ...]
    items: tuple[Bytes, ...]


class Patch(Closed, frozen=True):
    """From the bundle of serial `base` to the one that this signature is of. `rest`: its other fields, in msgpack."""

    KIND: ClassVar[str] = "bundle_patch"
    CAP: ClassVar[int] = MAX_BUNDLE
    base: Int
    rest: Bytes
    parts: tuple[Part, ...]
    signature: Bytes


class NotTheBase(errors.Refused):
    """The patch is for another bundle than the one that is here: take the whole one."""

    code = "not_the_base"


def make(old: Bundle, new: Bundle, signature: bytes) -> bytes:
    """The frame of the patch. `signature` is the hub's over the new bundle's bytes."""
    parts = []
    for name, key in _LISTS.items():
        before = {getattr(item, key): item for item in getattr(old, name)}
        items: Sequence[Any] = getattr(new, name)
        changed = tuple(codec.pack_value(item) for item in items if before.get(getattr(item, key)) != item)
        same = not changed and [getattr(item, key) for item in items] == list(before)
        if not same:
            parts.append(Part(name, tuple(getattr(item, key) for item in items), changed))
    rest = {name: getattr(new, name) for name in types.fields(Bundle) if name not in _LISTS}
    return codec.encode(Patch(old.serial, codec.pack(rest), tuple(parts), signature))


def apply(base: bytes, frame: bytes) -> bytes:
    """The signed frame of the new bundle. Raises NotTheBase or Corrupt; whether it was signed is for `open_signed` to say."""
    patch = codec.decode(frame, Patch)
    old = codec.unpack(codec.decode(base, Signed).bundle)[2]
    if old["serial"] != patch.base:
        raise NotTheBase(f"The patch is for bundle {patch.base}, and {old['serial']} is here.")
    body: dict[str, object] = {**old, **codec.unpack(patch.rest)}
    for part in patch.parts:
        key = _LISTS.get(part.list)
        if key is None:
            raise errors.Corrupt(f"A patch names a list '{part.list[:40]}' that bundles do not have.")
        changed = {item[key]: item for item in map(codec.unpack, part.items)}
        kept = {item[key]: item for item in old[part.list]}
        try:
            body[part.list] = tuple(changed.get(name) or kept[name] for name in part.order)
        except KeyError as error:
            raise errors.Corrupt(f"A patch of {part.list} names what neither bundle has.") from error
    ordered = {name: body[name] for name in types.fields(Bundle) if name in body}
    return codec.encode(Signed(codec.pack([codec.VERSION, Bundle.KIND, ordered]), patch.signature))
