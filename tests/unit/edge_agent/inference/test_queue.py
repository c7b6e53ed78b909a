"""Who is next: fairness, priorities, bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.inference import queue
from edge_agent.inference.port import Caller, Overloaded, Priority
from edge_agent.inference.queue import FairQueue


class Item:
    def __init__(self, name: str) -> None:
        self.name = name


def filled(*names: str, most: int = 2000, cost: float = 1) -> FairQueue[Item]:
    """A queue of `tenant:number` entries, in this order, a millisecond apart."""
    made: FairQueue[Item] = FairQueue(most=most, most_s=60)
    for n, name in enumerate(names):
        made.put(Item(name), Caller(name.split(":")[0]), cost, n / 1000)
    return made


def taken(found: FairQueue[Item], now: float = 10.0) -> list[str]:
    names = []
    while (waiting := found.take(now)) is not None:
        names.append(waiting.item.name)
    return names


def test_a_tenants_thousand_do_not_keep_anothers_one_from_being_next() -> None:
    found = filled(*(f"a:{n}" for n in range(1000)))
    found.take(2.0)
    found.put(Item("b:0"), Caller("b"), 1, 2.0)
    assert [found.take(2.0).item.name for _ in range(2)] == ["b:0", "a:1"]  # type: ignore[union-attr]


def test_tenants_take_turns_by_what_they_had() -> None:
    assert taken(filled("a:0", "a:1", "a:2", "b:0", "b:1", "b:2")) == ["a:0", "b:0", "a:1", "b:1", "a:2", "b:2"]
    costly = filled("a:0", "a:1", "b:0", "b:1", "b:2")
    costly.charge("a", 2)
    assert taken(costly)[:2] == ["b:0", "b:1"]


def test_a_tenant_that_was_away_gets_no_credit_for_it() -> None:
    found = filled(*(f"a:{n}" for n in range(10)))
    for _ in range(5):
        found.take(1.0)
    for n in range(5):
        found.put(Item(f"b:{n}"), Caller("b"), 1, 1.0)
    order = taken(found)
    assert order.index("a:5") <= 2


def test_interactive_goes_before_batch_until_that_is_old() -> None:
    found: FairQueue[Item] = FairQueue(most=10, most_s=600)
    found.put(Item("batch"), Caller("a", Priority.BATCH), 1, 0.0)
    found.put(Item("interactive"), Caller("b"), 1, 1.0)
    assert found.peek(2.0).name == "interactive"  # type: ignore[union-attr]
    found.charge("b", 5)
    assert found.peek(2.0).name == "interactive"  # type: ignore[union-attr]
    assert found.peek(queue.AGED_S).name == "batch"  # type: ignore[union-attr]


def test_a_full_queue_gives_up_the_newest_of_who_has_most() -> None:
    found = filled("a:0", "a:1", "a:2", most=3)
    (gone,) = found.put(Item("b:0"), Caller("b"), 1, 1.0)
    assert gone.item.name == "a:2"
    with pytest.raises(Overloaded) as refused:
        found.put(Item("a:3"), Caller("a"), 1, 1.0)
    assert refused.value.retry_after_s >= 1
    assert sorted(taken(found)) == ["a:0", "a:1", "b:0"]


def test_nothing_waits_for_longer_than_it_may() -> None:
    found = filled("a:0", "a:1")
    assert [waiting.item.name for waiting in found.expired(60.0005)] == ["a:0"]
    assert taken(found) == ["a:1"]


def test_retry_after_follows_the_measured_rate() -> None:
    found = filled(*(f"a:{n}" for n in range(20)))
    for _ in range(50):
        found.finished(3.0)
    slow = found.overloaded().retry_after_s
    for _ in range(50):
        found.finished(0.001)
    assert slow == pytest.approx(30, rel=0.05) and found.overloaded().retry_after_s == 1


OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["put", "take", "remove", "expire"]), st.sampled_from("abc"), st.sampled_from(list(Priority))),
    max_size=80,
)


@given(OPERATIONS, st.integers(1, 8))
def test_whatever_happens_each_entry_leaves_once_and_the_count_is_right(operations: list, most: int) -> None:
    found: FairQueue[Item] = FairQueue(most=most, most_s=20)
    inside: dict[str, tuple[Item, Caller]] = {}
    for n, (what, tenant, priority) in enumerate(operations):
        if what == "put":
            item, caller = Item(str(n)), Caller(tenant, priority)
            try:
                for gone in found.put(item, caller, 1, n):
                    del inside[gone.item.name]
                inside[item.name] = item, caller
            except Overloaded:
                assert len(found) == most
        elif what == "take" and (waiting := found.take(n)) is not None:
            del inside[waiting.item.name]
        elif what == "remove" and inside:
            name, (item, caller) = next(iter(inside.items()))
            assert found.remove(item, caller) and not found.remove(item, caller)
            del inside[name]
        elif what == "expire":
            for waiting in found.expired(n):
                del inside[waiting.item.name]
        assert len(found) == len(inside) <= most
    assert {waiting.item.name for waiting in found.drain()} == set(inside)
