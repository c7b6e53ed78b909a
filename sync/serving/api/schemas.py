"""Whether a client's JSON schema can be carried: it is bounded in depth and size.

It goes to the engine as it is, by msgpack: what that cannot carry, or what no reader should have to
walk, is refused here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

MAX_DEPTH = 64
"""Levels of nesting: generated schemas have under 40, and recursive readers end near 1,000."""
MAX_NODES = 20_000
"""Values of a schema: a hundred times what OpenAI takes, and some milliseconds to walk."""
MIN_INT, MAX_INT = -(2**63), 2**64 - 1
"""The whole numbers that msgpack carries."""


def problem(schema: Mapping[object, object]) -> str:
    """Return what is wrong with a schema, as a sentence, or an empty text."""
    level: list[object] = [schema]
    nodes = 0
    # Level by level and not by recursion: the depth is the client's choice.
    for _ in range(MAX_DEPTH):
        nodes += len(level)
        if nodes > MAX_NODES:
            return f"a schema may have at most {MAX_NODES} values."
        inner: list[object] = []
        for value in level:
            if said := _problem_of(value):
                return said
            if isinstance(value, Mapping):
                inner.extend(value.values())
            elif isinstance(value, (list, tuple)):
                inner.extend(value)
        if not inner:
            return ""
        level = inner
    return f"a schema may be nested at most {MAX_DEPTH} levels deep."


def _problem_of(value: object) -> str:
    """Return what is wrong with one value, its own entries aside."""
    match value:
        case bool() | None | str() | list() | tuple():
            return ""
        case int():
            fits = MIN_INT <= value <= MAX_INT
            return "" if fits else "a whole number in the schema has over 64 bits."
        case float():
            return "" if math.isfinite(value) else "a number in the schema is not finite."
        case Mapping():
            named = all(isinstance(key, str) for key in value)
            return "" if named else "the names in a schema are texts."
    return "the schema has a value that JSON does not have."
