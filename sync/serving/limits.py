"""How much each tenant uses now: requests and tokens a minute, and requests at work. In memory, one process's share."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

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


class Limits:
    """The use of all tenants."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._uses: dict[TenantId, _Use] = {}

    @contextmanager
    def slot(self, tenant: Tenant) -> Iterator[None]:
        """Counts a request as at work. Raises LimitReached."""
        use, now = self._use(tenant), self._clock.monotonic()
        limits = tenant.limits
        if use.at_work >= limits.concurrent:
            raise LimitReached(f"{limits.concurrent} requests of '{tenant.id}' are at work already.", retry_after_s=1)
        tokens = limit.take(use.tokens, limits.tokens_per_minute, 1, now)
        if tokens.wait_s:
            raise _reached(tenant, f"{limits.tokens_per_minute} tokens a minute", tokens.wait_s)
        requests = limit.take(use.requests, limits.requests_per_minute, 1, now)
        if requests.wait_s:
            raise _reached(tenant, f"{limits.requests_per_minute} requests a minute", requests.wait_s)
        use.requests = requests.bucket
        use.at_work += 1
        try:
            yield
        finally:
            use.at_work -= 1

    def charge(self, tenant: Tenant, tokens: int) -> None:
        """Counts what a request has used. May leave a debt, which the next ones wait for."""
        use = self._use(tenant)
        rate = tenant.limits.tokens_per_minute
        settled = limit.take(use.tokens, rate, 0, self._clock.monotonic()).bucket
        use.tokens = limit.Bucket(settled.left - tokens, settled.at)

    def left(self, tenant: Tenant) -> Left:
        use, limits = self._use(tenant), tenant.limits
        return Left(
            limits.requests_per_minute, max(0, math.floor(use.requests.left)),
            limits.tokens_per_minute, max(0, math.floor(use.tokens.left)),
        )  # fmt: skip

    def state(self) -> dict[str, list[float]]:
        """What is left to each tenant now: requests and tokens, to be kept over a restart."""
        return {tenant: [use.requests.left, use.tokens.left] for tenant, use in self._uses.items()}

    def restore(self, at: float, state: Mapping[str, Sequence[float]]) -> None:
        """Takes up what was left at a wall-clock time: a restart gives nobody more."""
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
