"""Who is next: a bounded queue that is fair between tenants, with two priorities. Pure: time comes in as an argument, and
locks are the caller's.

Invariants, each with a test of its words:
- a tenant's thousand requests do not keep another one's from being next;
- a full queue takes a request of a tenant that has few by giving up the newest one of the tenant that has most;
- interactive goes before batch, but batch work that has waited for AGED_S counts as interactive;
- nothing waits longer than `most_s`.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, TypeVar

from edge_agent.inference.port import Caller, Overloaded, Priority

AGED_S = 10.0
REMEMBERED_TENANTS = 4096
FIRST_GUESS_S = 0.5
"""Seconds a request takes, before any was measured."""
LONGEST_RETRY_S = 60.0
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Waiting(Generic[T]):
    """One entry: `since` in seconds of a monotonic clock, `cost` in whatever unit fairness is measured by (tokens)."""

    item: T
    caller: Caller
    since: float
    cost: float


class FairQueue(Generic[T]):
    """Start-time fair queueing (Goyal 1996) over tenants: the next entry is of the tenant that has had the least."""

    def __init__(self, *, most: int, most_s: float) -> None:
        self._most = most
        self._most_s = most_s
        self._lanes: dict[str, tuple[OrderedDict[int, Waiting[T]], OrderedDict[int, Waiting[T]]]] = {}
        self._had: OrderedDict[str, float] = OrderedDict()
        self._now_at = 0.0
        self._each_s = FIRST_GUESS_S
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def put(self, item: T, caller: Caller, cost: float, now: float) -> list[Waiting[T]]:
        """Takes the item in; those that had to go for it. Raises Overloaded where there is no room for this tenant."""
        gone: list[Waiting[T]] = []
        if self._size >= self._most:
            largest = max(self._lanes, key=self._count)
            if self._count(largest) <= self._count(caller.tenant) + 1:
                raise self.overloaded()
            lanes = self._lanes[largest]
            _, newest = (lanes[Priority.BATCH] or lanes[Priority.INTERACTIVE]).popitem()
            self._removed(largest)
            gone.append(newest)
        lanes = self._lanes.setdefault(caller.tenant, (OrderedDict(), OrderedDict()))
        lanes[caller.priority][id(item)] = Waiting(item, caller, now, cost)
        self._size += 1
        return gone

    def peek(self, now: float) -> T | None:
        """Who would be next."""
        found = self._next(now)
        return found.item if found else None

    def take(self, now: float) -> Waiting[T] | None:
        """The next entry, which is charged to its tenant."""
        found = self._next(now)
        if found is None:
            return None
        self.remove(found.item, found.caller)
        self.charge(found.caller.tenant, found.cost)
        return found

    def charge(self, tenant: str, cost: float) -> None:
        """Notes what a tenant had: the next turn is another's."""
        start = max(self._now_at, self._had.pop(tenant, 0.0))
        self._now_at = start
        self._had[tenant] = start + cost
        if len(self._had) > REMEMBERED_TENANTS:
            self._had.popitem(last=False)

    def remove(self, item: T, caller: Caller) -> bool:
        """Takes an entry out, whose caller went away; whether it was there."""
        lanes = self._lanes.get(caller.tenant)
        if lanes is None or lanes[caller.priority].pop(id(item), None) is None:
            return False
        self._removed(caller.tenant)
        return True

    def expired(self, now: float) -> list[Waiting[T]]:
        """Takes out what has waited for too long."""
        old = [
            waiting
            for lanes in self._lanes.values()
            for lane in lanes
            for waiting in lane.values()
            if now - waiting.since > self._most_s
        ]
        for waiting in old:
            self.remove(waiting.item, waiting.caller)
        return old

    def drain(self) -> list[Waiting[T]]:
        """Takes everything out."""
        found = [waiting for lanes in self._lanes.values() for lane in lanes for waiting in lane.values()]
        self._lanes.clear()
        self._size = 0
        return found

    def finished(self, seconds: float) -> None:
        """Notes how long after the one before it a request was done: what `retry-after` is computed from."""
        self._each_s = 0.8 * self._each_s + 0.2 * seconds

    def overloaded(self) -> Overloaded:
        """The refusal, with the seconds after which half of what waits now should be done."""
        wait = min(LONGEST_RETRY_S, max(1.0, self._size * self._each_s / 2))
        return Overloaded(f"{self._size} requests wait for this model already: try again in {wait:.0f} s.", retry_after_s=wait)

    def too_old(self) -> Overloaded:
        wait = min(LONGEST_RETRY_S, max(1.0, self._size * self._each_s / 2))
        return Overloaded(f"The request has waited for this model for over {self._most_s:.0f} s.", retry_after_s=wait)

    def _next(self, now: float) -> Waiting[T] | None:
        best: tuple[tuple[int, float, float], Waiting[T]] | None = None
        for tenant, lanes in self._lanes.items():
            had = max(self._now_at, self._had.get(tenant, 0.0))
            for lane in lanes:
                if lane:
                    first = next(iter(lane.values()))
                    aged = first.caller.priority is Priority.INTERACTIVE or now - first.since >= AGED_S
                    rank = (0 if aged else 1, had, first.since)
                    if best is None or rank < best[0]:
                        best = rank, first
        return best[1] if best else None

    def _count(self, tenant: str) -> int:
        lanes = self._lanes.get(tenant)
        return sum(map(len, lanes)) if lanes else 0

    def _removed(self, tenant: str) -> None:
        self._size -= 1
        if not self._count(tenant):
            self._lanes.pop(tenant, None)
