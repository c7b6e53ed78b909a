"""Law: a number out of range and a text that is too long cannot come in. The types of the wire refuse them.

Every field of every message, request and result is found by its type, in whatever it lies: one that is
added later is covered. A number too large, negative where that says nothing, infinite or not a number, and
a text longer than its type says, make a bad frame. What has no bound of its own is named here, with why.

Mutations that turn it red: take the Meta from any type of `sync/wire/types.py` or `tasks.py` (Count, Seconds,
Word, …); give any field of a message the type int, float or Str instead of its own.
"""

from __future__ import annotations

import math
import types as python_types
import typing
from collections.abc import Iterator
from enum import Enum
from typing import Any, NamedTuple

import pytest
from msgspec import Meta

from sync.wire import codec, messages, tasks, types
from sync.wire.types import Closed

TOO_LARGE = 2**64 - 1
"""The largest number that msgpack can say."""
NO_NUMBERS = (math.nan, math.inf, -math.inf, 1.7e308)

TIMES = {
    "Run.deadline", "Run.sent", "Run.ticket.expires", "Beat.clock", "Welcome.time", "Receipt.time", "ProofRequest.wall",
    "HubBeat.time",
}  # fmt: skip
"""Seconds since 1970. Each is compared with a clock and never added up: one that is odd is late or early."""
SIGNED = {
    "Envelope.first", "Envelope.contents[].sequence", "Receipt.upto", "ProofRequest.first", "ProofRequest.pins[].size",
    "ProofRequest.next", "Proof.first", "Proof.upto", "Proof.trees[].leaves[].first", "Proof.trees[].leaves[].count",
    "Erase.sequences[]", "HubBeat.serial", "BundleNotice.serial",
    "Generate.seed", "Generate.frequency_penalty", "Generate.presence_penalty", "Generate.logit_bias[]",
    "Generated.choices[].scores[].logprob", "Generated.choices[].scores[].top_logprobs[].logprob", "Ranked.scores[]",
}  # fmt: skip
"""Numbers that may be below nothing, or are of messages whose reader looks for itself (a database's range is theirs)."""
OWN_NUMBERS = {
    "Tensors.inputs[].data[]", "Inferred.outputs[].data[]", "Generate.response_format.json_schema.schema{key}",
}  # fmt: skip
"""Numbers and texts of a model or of a client, which mean nothing here."""
FREE_TEXTS = {
    "Run.ticket.regions[]", "Chunk.text", "Forward.texts[]", "Upgrade.version", "OrderTaken.code", "OrderTaken.why", "ProofRequest.pins[].origin",
    "Proof.trees[].note", "Erase.erasure", "Erased.erasure", "BundleNotice.site",
    "Generate.messages[].content", "Generate.stop[]", "Embed.input[]", "Classify.input[]", "Rerank.input[]",
    "Generated.choices[].text", "Generated.choices[].scores[].token", "Generated.choices[].scores[].top_logprobs[].token",
}  # fmt: skip
"""Texts whose cap is the one of the frame that they come in."""


class Place(NamedTuple):
    """A number or a text in a value. `steps` lead there: a field's name, or the key or the value of a collection."""

    kind: type[Closed]
    name: str
    steps: tuple[object, ...]
    base: type
    meta: tuple[Meta, ...]


KEY, VALUE = object(), object()


def kinds() -> list[type[Closed]]:
    """Return what comes in from outside: the messages, and what lies in them as bytes."""
    inside = [kind for kind in vars(messages).values() if isinstance(kind, type) and issubclass(kind, Closed)]
    return [kind for kind in inside if hasattr(kind, "KIND")] + [*tasks.REQUESTS.values(), *tasks.RESULTS.values()]


def places_of(kind: type[Closed]) -> Iterator[Place]:
    for field, hint in hints(kind).items():
        for name, steps, base, meta in leaves(hint):
            yield Place(kind, f"{kind.__name__}.{field}{name}", (field, *steps), base, meta)


def hints(kind: type[Closed]) -> dict[str, object]:
    found = typing.get_type_hints(kind, include_extras=True)
    return {name: found[name] for name in types.fields(kind)}


def leaves(hint: object, meta: tuple[Meta, ...] = ()) -> Iterator[tuple[str, tuple[object, ...], type, tuple[Meta, ...]]]:
    """Yield the numbers and texts in a type, with the steps that lead to them."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        yield from leaves(inner[0], (*meta, *(extra for extra in inner[1:] if isinstance(extra, Meta))))
    elif isinstance(hint, typing.NewType):
        yield from leaves(hint.__supertype__, meta)
    elif origin in (typing.Union, python_types.UnionType):
        for part in inner:
            yield from leaves(part, meta)
    elif origin is tuple:
        for name, steps, base, own in leaves(inner[0]):
            yield f"[]{name}", (VALUE, *steps), base, own
    elif origin is dict:
        for step, part in ((KEY, inner[0]), (VALUE, inner[1])):
            for name, steps, base, own in leaves(part):
                yield f"{'{key}' if step is KEY else '[]'}{name}", (step, *steps), base, own
    elif isinstance(hint, type) and issubclass(hint, Closed):
        for field, part in hints(hint).items():
            for name, steps, base, own in leaves(part):
                yield f".{field}{name}", (field, *steps), base, own
    elif hint in (int, float, str):
        yield "", (), typing.cast(type, hint), meta
    else:
        known = hint in (bytes, bool, type(None), Any) or (isinstance(hint, type) and issubclass(hint, Enum))
        assert known, f"{hint} is a type that this law does not know"


def sample(hint: object, meta: tuple[Meta, ...] = ()) -> Any:
    """Return a plain value of a type, as small as it may be, with one of each collection's elements."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return sample(inner[0], (*meta, *(extra for extra in inner[1:] if isinstance(extra, Meta))))
    if isinstance(hint, typing.NewType):
        return sample(hint.__supertype__, meta)
    if origin in (typing.Union, python_types.UnionType):
        return sample(next(part for part in inner if part is not type(None)), meta)
    if origin is tuple:
        least = max([1, *(own.min_length or 0 for own in meta)])
        return [sample(inner[0]) for _ in range(least)]
    if origin is dict:
        return {sample(inner[0]): sample(inner[1])}
    if isinstance(hint, type) and issubclass(hint, Closed):
        return {field: sample(part) for field, part in hints(hint).items()}
    if isinstance(hint, type) and issubclass(hint, Enum):
        return next(iter(hint)).value
    # A digit is a text of every pattern, and 1 in every range.
    return {int: 1, float: 1.0, str: "1", bytes: b"1", bool: True, Any: "1"}[hint]  # type: ignore[index]


def put(value: Any, steps: tuple[object, ...], bad: object) -> Any:
    """Return a plain value with another one at a place."""
    if not steps:
        return bad
    step, rest = steps[0], steps[1:]
    if step is KEY:
        ((_, inner),) = value.items()
        return {bad: inner}
    if step is VALUE and isinstance(value, dict):
        ((key, inner),) = value.items()
        return {key: put(inner, rest, bad)}
    if step is VALUE:
        return [put(value[0], rest, bad), *value[1:]]
    return {**value, str(step): put(value[step], rest, bad)}


def read(kind: type[Any], body: object) -> object:
    """Read a value as whoever receives it does."""
    if hasattr(kind, "KIND"):
        return codec.decode(codec.pack((codec.VERSION, kind.KIND, body)), kind)
    return codec.read_value(kind, codec.pack(body))


def bad_values(place: Place) -> Iterator[object]:
    """Yield what may not be at a place."""
    if place.base is str:
        cap = min((own.max_length for own in place.meta if own.max_length is not None), default=None)
        yield "1" * ((cap if cap is not None else frame_of(place.kind)) + 1)
        return
    if place.base is int:
        yield TOO_LARGE
    else:
        yield from (*NO_NUMBERS, 10**18)
    if place.name not in SIGNED:
        yield -1


def frame_of(kind: type[Any]) -> int:
    return int(getattr(kind, "CAP", messages.MAX_REPLY))


ALL = [place for kind in kinds() for place in places_of(kind)]
NAMES = [place.name for place in ALL]


def is_free(place: Place) -> bool:
    """Return whether a text has no cap of its own."""
    return place.base is str and all(own.max_length is None for own in place.meta)


@pytest.mark.parametrize("place", ALL, ids=NAMES)
def test_what_is_out_of_bounds_is_a_bad_frame(place: Place) -> None:
    good = {field: sample(hint) for field, hint in hints(place.kind).items()}
    read(place.kind, good)
    if place.name in TIMES | OWN_NUMBERS or (is_free(place) and not hasattr(place.kind, "CAP")):
        return  # named below, or in a frame that has a cap
    for bad in bad_values(place):
        with pytest.raises(codec.BadFrame):
            read(place.kind, put(good, place.steps, bad))


def test_what_has_no_bound_of_its_own_is_named_and_nothing_else_is() -> None:
    free = {place.name for place in ALL if is_free(place)} - OWN_NUMBERS
    assert free == FREE_TEXTS
    unbounded = {place.name for place in ALL if place.base is not str and not place.meta} - OWN_NUMBERS
    assert unbounded == TIMES
    signed = {place.name for place in ALL if any(own.ge is not None and own.ge < 0 for own in place.meta)}
    assert signed == SIGNED


def test_every_number_has_both_bounds() -> None:
    for place in ALL:
        if place.base is not str and place.name not in TIMES | OWN_NUMBERS:
            low = [own for own in place.meta if own.ge is not None or own.gt is not None]
            high = [own for own in place.meta if own.le is not None or own.lt is not None]
            assert low and high, place.name


def test_a_value_that_is_carried_as_bytes_has_its_frames_cap() -> None:
    """A request lies in a run and a result in `done`: with a text that is too long neither can be said."""
    base = sample(messages.Run)
    for kind, field, cap in ((messages.Run, "payload", messages.MAX_RUN), (messages.Done, "result", messages.MAX_REPLY)):
        body = {**(base if kind is messages.Run else sample(kind)), field: b"x" * (cap + 1)}
        with pytest.raises(codec.BadFrame):
            read(kind, body)


def test_scores_of_a_chunk_are_bounded_like_those_of_a_result() -> None:
    good = sample(tasks.TokenScore)
    assert tasks.read_scores(codec.pack([good]))
    for bad in (math.nan, math.inf, -math.inf, -1e10, 2.0):
        with pytest.raises(codec.BadFrame):
            tasks.read_scores(codec.pack([{**good, "logprob": bad}]))
