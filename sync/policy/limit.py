"""How much: a token bucket as a pure function of its state and the time."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bucket:
    """What is left, and since when that is true (monotonic seconds)."""

    left: float
    at: float


@dataclass(frozen=True, slots=True)
class Taken:
    """The bucket afterwards, and how long to wait where it did not hold enough (0 where it did)."""

    bucket: Bucket
    wait_s: float


def full(per_minute: int, now: float) -> Bucket:
    """A bucket that nobody has drawn from: it holds one minute's worth."""
    return Bucket(float(per_minute), now)


def take(bucket: Bucket, per_minute: int, amount: float, now: float) -> Taken:
    """Draws `amount` where the bucket holds it; else draws nothing and says how long until it would.

    An amount over the whole bucket is admitted when the bucket is full, and leaves a debt: else it could never be.
    """
    rate = per_minute / 60
    left = min(float(per_minute), bucket.left + max(0.0, now - bucket.at) * rate)
    needed = min(amount, float(per_minute))
    if rate <= 0:
        return Taken(Bucket(left, now), 60.0)
    if left < needed:
        return Taken(Bucket(left, now), (needed - left) / rate)
    return Taken(Bucket(left - amount, now), 0.0)
