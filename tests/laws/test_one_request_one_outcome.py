"""Law: one request, one outcome, on every way out: answered, refused, failed, left by its client at any moment.

Mutation that turns it red: in Exchange._conclude, deliver again where a task has begun already: the journal refuses the second
record, and the second count shows.
"""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from sync.audit import kinds
from tests.support.house import House

NODES = ("hub", "onprem")


@pytest.mark.parametrize("at", NODES)
@pytest.mark.parametrize("slow_ms", [0, 5])
async def test_whoever_leaves_whenever_leaves_one_outcome(house: House, at: str, slow_ms: int) -> None:
    node = house.hub if at == "hub" else house.sites[at]
    append = node.journal.append

    async def slow_append(*args: object, **options: object) -> object:
        await asyncio.sleep(slow_ms / 1000)
        written = await append(*args, **options)  # type: ignore[arg-type]
        await asyncio.sleep(slow_ms / 1000)
        return written

    node.journal.append = slow_append  # type: ignore[method-assign,assignment]
    for turns in range(0, 60, 2):
        task = asyncio.create_task(house.chat("hello there", at=at, stream=bool(turns % 4)))
        for _ in range(turns):
            await asyncio.sleep(0.0005)
        task.cancel()
        with pytest.raises((asyncio.CancelledError, Exception)) if not task.done() else _nothing():
            await task
    await house.settled()
    outcomes = Counter(entry.fields["request"] for entry in node.records(kinds.REQUEST))
    decided = Counter(entry.fields["request"] for entry in node.records(kinds.DECIDED))
    assert outcomes and set(outcomes.values()) == {1}
    assert sum(node.counted("ringfence_requests_total").values()) == len(outcomes), "counted once, too"
    assert set(decided.values()) <= {1}
    assert set(decided) <= set(outcomes), "each decision has its outcome"


class _nothing:  # noqa: N801 - a context in the place of pytest.raises
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> bool:
        return True
