"""Law: no byte of an answer leaves before the record of its decision is on disk (invariant 3).

Mutations that turn it red: in stages._run_at, send before the record; in Exchange.stream, yield the end before _conclude.
"""

from __future__ import annotations

import asyncio
import json

import pytest

from sync.audit import kinds
from sync.audit.journal import AuditUnavailable, Journal, Retained, Written
from sync.audit.unfinished import close_unfinished
from sync.kit.ids import TenantId
from sync.wire.messages import Failed
from tests.support.house import House

NODES = ("hub", "onprem")


class Failing:
    """A journal whose disk fails for some kinds of records. Its other appends are the real one's."""

    def __init__(self, journal: Journal, kinds_: set[str]) -> None:
        self._append = journal.append
        self.kinds = kinds_
        self.seen: list[str] = []
        journal.append = self.append  # type: ignore[method-assign,assignment]

    async def append(
        self,
        tenant: TenantId,
        kind: str,
        fields: dict[str, object],
        retained: Retained | None = None,
        **options: str,
    ) -> Written:
        self.seen.append(kind)
        if kind in self.kinds:
            raise AuditUnavailable("The disk is full.")
        return await self._append(tenant, kind, fields, retained, **options)


def _node(house: House, at: str):
    return house.hub if at == "hub" else house.sites[at]


@pytest.mark.parametrize("at", NODES)
@pytest.mark.parametrize("stream", [False, True])
async def test_where_the_decision_cannot_be_written_nobody_gets_the_prompt_and_the_client_no_byte(
    house: House, at: str, stream: bool
) -> None:
    Failing(_node(house, at).journal, {kinds.DECIDED})
    status, _, body = await house.chat("hello", at=at, stream=stream)
    assert status == 503
    assert json.loads(body)["error"]["code"] == "audit_unavailable"
    assert not [entry for node in house.sites.values() for entry in node.records(kinds.RUN)]


@pytest.mark.parametrize("at", NODES)
@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_whose_outcome_cannot_be_written_is_never_given_out_as_whole(house: House, at: str, stream: bool) -> None:
    node = _node(house, at)
    failing = Failing(node.journal, {kinds.REQUEST})
    status, _, body = await house.chat("hello", at=at, stream=stream)
    text = body.decode()
    if stream:
        assert "[DONE]" not in text and "audit_unavailable" in text
    else:
        assert status == 503 and "HELLO" not in text
    (decided,) = node.records(kinds.DECIDED)
    failing.kinds = set()
    assert await node.recorder.write_late() == 1
    (outcome,) = node.records(kinds.REQUEST)
    assert outcome.fields["request"] == decided.fields["request"]
    assert (outcome.fields["outcome"], outcome.fields["code"]) == ("failed", "audit_unavailable")


@pytest.mark.parametrize("at", NODES)
async def test_the_decision_is_on_disk_before_the_agent_hears_of_the_request(house: House, at: str) -> None:
    node, order = _node(house, at), []
    append = node.journal.append

    async def slow_append(*args: object, **options: object) -> Written:
        written = await append(*args, **options)  # type: ignore[arg-type]
        order.append(str(args[1]))
        return written

    node.journal.append = slow_append  # type: ignore[method-assign,assignment]
    for site in house.sites.values():
        assert site.runner is not None
        start = site.runner.start

        def started(run, reply, start=start):
            order.append("sent")
            start(run, reply)

        site.runner.start = started  # type: ignore[method-assign]
    assert (await house.chat("hello", at=at))[0] == 200
    own = [word for word in order if word in (kinds.DECIDED, "sent", kinds.REQUEST)]
    assert own == [kinds.DECIDED, "sent", kinds.REQUEST]


@pytest.mark.parametrize("at", NODES)
async def test_what_a_killed_process_left_open_is_closed_by_the_next_as_interrupted(house: House, at: str) -> None:
    node = _node(house, at)
    task = asyncio.create_task(house.chat("hello", at=at, model="slow", stream=True))
    while not node.records(kinds.DECIDED):
        await asyncio.sleep(0)
    # What a kill leaves: the journal as it is now, opened by another life.
    node.journal.close()
    task.cancel()
    with pytest.raises((asyncio.CancelledError, Exception)):
        await task
    node.journal.open()
    assert await close_unfinished(node.journal) == 1
    (decided,), (outcome,) = node.records(kinds.DECIDED), node.records(kinds.REQUEST)
    assert outcome.fields["outcome"] == "interrupted"
    assert outcome.fields["request"] == decided.fields["request"]
    assert outcome.fields["agent"] == decided.fields["agent"]
    assert await close_unfinished(node.journal) == 0


async def test_a_process_that_is_killed_at_the_second_place_names_it_and_the_first(house: House) -> None:
    first: list[str] = []
    for name, site in house.sites.items():
        assert site.runner is not None
        start = site.runner.start

        def failing_first(run, reply, start=start, name=name):
            first.append(name)
            if first[0] == name:
                asyncio.get_running_loop().create_task(reply(Failed(run.request, "overloaded", "Full.", True, 1.0)))
            else:
                start(run, reply)

        site.runner.start = failing_first  # type: ignore[method-assign]
    task = asyncio.create_task(house.chat("hello", model="slow", stream=True))
    while len(first) < 2:
        await asyncio.sleep(0)
    house.hub.journal.close()
    task.cancel()
    with pytest.raises((asyncio.CancelledError, Exception)):
        await task
    house.hub.journal.open()
    assert await close_unfinished(house.hub.journal) == 1
    (outcome,) = house.hub.records(kinds.REQUEST)
    assert (outcome.fields["agent"], outcome.fields["tries"], outcome.fields["outcome"]) == (first[1], 2, "interrupted")
    assert [agent for agent, _, _ in outcome.fields["tried"]] == [first[0]]  # type: ignore[attr-defined]
