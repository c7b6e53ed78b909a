"""How much each tenant uses now: requests and tokens a minute, and requests at work. In memory, one process's share.

Invariants, each with a test of its words:
- what a request may use is taken when it is admitted, and what it used is settled when it ends, once, on every way out;
- who leaves before the end pays for what went out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType

from sync.bundle.snapshot import Tenant
from sync.kit import errors
from sync.kit.clock import Clock
from sync.kit.ids import TenantId
from sync.policy import limit


class LimitReached(errors.Retryable):
    """The tenant has used what it may for now."""

    code = "rate_limit_exceeded"


@dataclass(slots=True)
class _Use:
    requests: limit.Bucket
    tokens: limit.Bucket
    at_work: int = 0


@dataclass(frozen=True, slots=True)
class Left:
    """What a client is told of its limits."""

    limit_requests: int
    remaining_requests: int
    limit_tokens: int
    remaining_tokens: int


class Reservation:
    """One admitted request's share of a tenant's limits. Leave it, and what was not settled is given back."""

    def __init__(self, limits: Limits, tenant: Tenant, use: _Use, tokens: int) -> None:
        self._limits = limits
        self._tenant = tenant
        self._use = use
        self._reserved = tokens
        self._settled = False
        self._open = True

    def settle(self, tokens: int) -> None:
        """Count what the request has used instead of what was reserved. May leave a debt, which the next ones wait for."""
        self._settled = True
        self._limits.give_back(self._tenant, self._reserved - tokens)
        self._reserved = tokens

    def __enter__(self) -> Reservation:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._open:
            self._open = False
            self._use.at_work -= 1
            if not self._settled:
                self.settle(0)


class Limits:
    """The use of all tenants."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._uses: dict[TenantId, _Use] = {}

    def reserve(self, tenant: Tenant, tokens: int = 0) -> Reservation:
        """Count a request as at work and take the tokens that it may use. Raises LimitReached.

        One that asks for more than is left is admitted as long as anything is left, and leaves a debt: else a request
        over the whole limit could never be, and what is in flight counts all the same.
        """
        use, now = self._use(tenant), self._clock.monotonic()
        limits = tenant.limits
        if use.at_work >= limits.concurrent:
            raise LimitReached(f"{limits.concurrent} requests of '{tenant.id}' are at work already.", retry_after_s=1)
        enough = limit.take(use.tokens, limits.tokens_per_minute, 1, now)
        if enough.wait_s:
            raise _reached(tenant, f"{limits.tokens_per_minute} tokens a minute", enough.wait_s)
        requests = limit.take(use.requests, limits.requests_per_minute, 1, now)
        if requests.wait_s:
            raise _reached(tenant, f"{limits.requests_per_minute} requests a minute", requests.wait_s)
        use.requests = requests.bucket
        use.at_work += 1
        self.give_back(tenant, -tokens)
        return Reservation(self, tenant, use, tokens)

    def give_back(self, tenant: Tenant, tokens: int) -> None:
        """Put tokens back, or take some where `tokens` is negative."""
        use, most = self._use(tenant), tenant.limits.tokens_per_minute
        settled = limit.take(use.tokens, most, 0, self._clock.monotonic()).bucket
        # While it was reserved the bucket has gone on filling: with what comes back it holds a minute's worth, not more.
        use.tokens = limit.Bucket(min(float(most), settled.left + tokens), settled.at)

    def left(self, tenant: Tenant) -> Left:
        """Return what is left to a tenant now."""
        use, limits = self._use(tenant), tenant.limits
        return Left(
            limits.requests_per_minute,
            max(0, math.floor(use.requests.left)),
            limits.tokens_per_minute,
            max(0, math.floor(use.tokens.left)),
        )

    def state(self) -> dict[str, list[float]]:
        """Return what is left to each tenant now: requests and tokens, to be kept over a restart."""
        return {tenant: [use.requests.left, use.tokens.left] for tenant, use in self._uses.items()}

    def restore(self, at: float, state: Mapping[str, Sequence[float]]) -> None:
        """Take up what was left at a wall-clock time: a restart gives nobody more."""
        since = self._clock.monotonic() - max(0.0, self._clock.wall() - at)
        for tenant, (requests, tokens) in state.items():
            self._uses[TenantId(tenant)] = _Use(limit.Bucket(requests, since), limit.Bucket(tokens, since))

    def _use(self, tenant: Tenant) -> _Use:
        use = self._uses.get(tenant.id)
        if use is None:
            now = self._clock.monotonic()
            limits = tenant.limits
            use = self._uses[tenant.id] = _Use(
                limit.full(limits.requests_per_minute, now), limit.full(limits.tokens_per_minute, now)
            )
        return use


def _reached(tenant: Tenant, what: str, wait_s: float) -> LimitReached:
    seconds = math.ceil(wait_s)
    return LimitReached(f"'{tenant.id}' may use {what}; try again in {seconds} s.", retry_after_s=seconds)
