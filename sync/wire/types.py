"""The types of fields on the wire: what cannot be in range cannot exist. The door to msgspec, together with the codec.

Each number has a range and each text a cap, checked where a frame is decoded: a count of 2**62 or a text of
megabytes where a word belongs is a bad frame, and never a value that the rest of the house has to doubt.
"""

from __future__ import annotations

import copy
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

KIB = 1024
MIB = 1024 * KIB

MAX_ID = 128
"""Characters of an id: the longest that we make has 40, and a site's names have 63."""
MAX_WORD = 200
"""Characters of a name that people give: models, versions, rules. A longer one is not a name."""
MAX_SENTENCE = 2_000
"""Characters of a sentence for people: a longer one would not be read, and a frame of failure has 4 KiB."""
MAX_TOKENS = 100_000_000
"""Tokens of one request: a hundred times what the largest models take, and far from what breaks a sum."""
MAX_SECONDS = 86_400.0 * 366
"""Seconds of a duration: a year. Infinity and NaN are outside it."""

Int = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
"""A number that a database can hold too: msgpack goes one bit further."""
Count = Annotated[int, Meta(ge=0, le=2**53)]
"""How many of something: exact in JSON too."""
Tokens = Annotated[int, Meta(ge=0, le=MAX_TOKENS)]
Milliseconds = Annotated[float, Meta(ge=0, le=MAX_SECONDS * 1000)]
Choices = Annotated[int, Meta(ge=0, lt=128)]
"""Which of the answers to one prompt: OpenAI's `n` goes to 128."""
Seconds = Annotated[float, Meta(ge=0, le=MAX_SECONDS)]
Str = str
"""A text whose cap is its frame's."""
Word = Annotated[str, Meta(max_length=MAX_WORD)]
Code = Annotated[str, Meta(max_length=64, pattern=r"\A[a-z0-9_]*\Z")]
"""A word for programs: small letters, so that nothing else can hide in it."""
Name = Annotated[str, Meta(max_length=MAX_ID, pattern=r"\A[A-Za-z0-9._-]*\Z")]
"""A name that stands in headers and records: of a zone, a region, an agent; or empty."""
Sentence = Annotated[str, Meta(max_length=MAX_SENTENCE)]
WORD = Meta(max_length=MAX_WORD)
OWN_ID = Meta(max_length=MAX_ID, pattern=r"\A[A-Za-z0-9_-]+\Z")
"""The form of an id that we make, for Annotated[RequestId, OWN_ID]: it stands in headers and records."""
ID = Meta(max_length=MAX_ID)
"""The cap of an id, for Annotated[RequestId, ID]."""
Bytes = bytes
Bool = bool

T = TypeVar("T")
S = TypeVar("S", bound="Closed")


class Closed(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A value on the wire. It has no fields beyond its own: an unknown one is refused, not ignored.

    A field with a plain default was added after version 0.1: it is written only where it differs from it, so that
    an older side reads the rest. One whose default is `always(…)` is older than that, and always written. msgspec compares
    with a default by identity: a plain default is None, a bool, a small number or an empty text, never a float.
    """


def always(value: T) -> T:
    """Return a default that is written all the same: omit_defaults does not look into factories."""
    return msgspec.field(default_factory=lambda: copy.copy(value))


def replace(value: S, **changes: Any) -> S:
    """Return the value with other fields. Nothing is checked: decode does that."""
    return msgspec.structs.replace(value, **changes)


def fields(kind: type[Closed]) -> tuple[str, ...]:
    """Return the names of a value's fields, in the order in which they are written."""
    return kind.__struct_fields__


def plain(value: Closed) -> Any:
    """Return a value as maps, lists and scalars for JSON, without the fields that are at their defaults."""
    return msgspec.to_builtins(value)
