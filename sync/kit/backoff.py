"""How long to wait before trying again: exponential with full jitter, so that many who failed together come back apart."""

from __future__ import annotations

import random
from collections.abc import Iterator


def jittered(*, first_s: float, most_s: float, factor: float = 2.0) -> Iterator[float]:
    """Endless waits in seconds, each drawn from [half, whole] of a bound that grows from `first_s` to `most_s`."""
    bound = first_s
    while True:
        yield bound * (0.5 + random.random() / 2)  # noqa: S311 - spreads load, guards nothing
        bound = min(most_s, bound * factor)
