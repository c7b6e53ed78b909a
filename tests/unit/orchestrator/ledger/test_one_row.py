"""A search shows one row a request."""

from __future__ import annotations

import pytest

from orchestrator.ledger import one_row
from orchestrator.ledger.one_row import EveryRow, OneRow
from orchestrator.ledger.records import Record
from sync.audit import chain
from sync.kit.ids import AgentId, Epoch, TenantId

EPOCH = Epoch("e")
HUB, SITE = "_hub", "f1"

# What comes, as author/kind/request, and the places of it that are shown.
SHOWN = {
    "the outcome alone": ("_hub/decided/a _hub/tried/a f1/run/a _hub/request/a", [3]),
    "what was decided, where there is no outcome": ("_hub/decided/a _hub/tried/a", [0]),
    "and with what ran": ("_hub/decided/a f1/run/a", [0]),
    "what ran comes first": ("f1/run/a _hub/decided/a _hub/request/a", [2]),
    "what ran alone": ("f1/run/a", [0]),
    "what ran twice, and no admission": ("f1/run/a f2/run/a", [0]),
    "what ran twice, and one admission": ("f1/run/a f2/run/a _hub/request/a", [2]),
    "a try alone, as a condition may find it": ("_hub/tried/a _hub/tried/a", [0]),
    "a site's own request": ("f1/decided/a f1/run/a f1/request/a", [2]),
    "one that a site has sent on: each has an outcome": (
        "f1/decided/a _hub/decided/a f2/run/a _hub/request/a f1/request/a",
        [4, 3],
    ),
    "one that a site has sent on, and was killed": ("f1/decided/a _hub/decided/a _hub/request/a", [0, 2]),
    "two outcomes that contradict each other": ("_hub/request/a _hub/request/a", [0, 1]),
    "a refusal before a decision": ("_hub/request/a _hub/request/b", [0, 1]),
    "requests stand where they began": ("_hub/decided/a _hub/decided/b _hub/request/b _hub/request/a", [3, 2]),
    "what is about no request": ("_hub/edit/ _hub/edit/ _hub/decided/a _hub/request/a", [0, 1, 3]),
}


def records(text: str, *, tenant: str = "t", at: float = 0.0) -> list[Record]:
    found = []
    for leaf, one in enumerate(text.split()):
        author, kind, request = one.split("/")
        fields: dict[str, object] = {"request": request} if request else {"what": "key created"}
        whose, by = TenantId(tenant), AgentId(author)
        item = chain.make(whose, by, EPOCH, leaf, 1.0, 1.0, kind, chain.GENESIS, b"", fields)
        found.append(Record(whose, leaf, by, EPOCH, leaf, at + leaf, item))
    return found


def rows(found: list[Record], limit: int = 50) -> list[int]:
    shown = OneRow(limit)
    for record in found:
        shown.add(record)
        if shown.done:
            break
    return [record.leaf for record in shown.rows]


@pytest.mark.parametrize("name", SHOWN)
def test_one_row_a_request(name: str) -> None:
    text, leaves = SHOWN[name]
    assert rows(records(text)) == leaves


def test_the_same_id_in_another_tenant_is_another_request() -> None:
    assert rows([*records("_hub/decided/a"), *records("_hub/request/a", tenant="u")]) == [0, 0]


def test_a_limit_counts_rows_and_waits_for_their_outcomes() -> None:
    found = records("_hub/decided/a _hub/decided/b _hub/decided/c _hub/request/b _hub/request/a _hub/request/c")
    assert rows(found, 2) == [4, 3]
    shown = OneRow(2)
    for number, record in enumerate(found):
        shown.add(record)
        assert shown.done is (number >= 4)


def test_what_has_no_outcome_does_not_have_the_whole_ledger_read() -> None:
    shown = OneRow(1)
    (first,) = records("_hub/decided/a")
    shown.add(first)
    for record in records("_hub/decided/b", at=one_row.AHEAD_S):
        shown.add(record)
    assert not shown.done
    for record in records("_hub/decided/b", at=one_row.AHEAD_S + 1):
        shown.add(record)
    assert shown.done and shown.rows == [first]


def test_an_expired_record_is_shown_by_its_hash() -> None:
    (record,) = records("_hub/decided/a")
    gone = Record(record.tenant, 0, record.author, EPOCH, 0, 0.0, record.link)
    assert rows([gone]) == [0]


def test_every_row_is_every_record_up_to_the_limit() -> None:
    shown = EveryRow(3)
    for record in records("_hub/decided/a _hub/tried/a _hub/request/a"):
        assert not shown.done
        shown.add(record)
    assert shown.done and len(shown.rows) == 3
