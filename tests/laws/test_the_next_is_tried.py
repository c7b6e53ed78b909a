"""Law: what fails at one agent is tried at the next, as long as no piece of the answer has gone out; and the record says where.

Mutations that turn it red: let Corrupt pass through Replies.next; read the result after stages.run instead of in it; raise in
stages.run what one place has said.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

import pytest

from sync.kit.ids import AgentId
from sync.wire import codec, tasks, types
from sync.wire.messages import Done, Failed, Run
from tests.support.house import House


def _done(message: codec.Message, **changes: object) -> codec.Message:
    return types.replace(message, **changes) if isinstance(message, Done) else message


FAULTS: Mapping[str, Callable[[Run, codec.Message], codec.Message]] = {
    "a result that is none": lambda run, m: _done(m, result=b"\xc1"),
    "a result of another task": lambda run, m: _done(m, result=tasks.pack(tasks.Ranked((1.0,)))),
    "two answers for one": lambda run, m: _done(m, result=tasks.pack(tasks.Generated((tasks.Answer("a", "stop"),) * 2))),
    "no answer": lambda run, m: _done(m, result=b"\x81\xa7choices\x90"),
    "another digest": lambda run, m: _done(m, digest=bytes(32)),
    "no digest": lambda run, m: _done(m, digest=b""),
    "a wrong count": lambda run, m: _done(m, chunks=7),
    "another request's end": lambda run, m: types.replace(m, request="req_other"),  # type: ignore[type-var]
    "it is drained": lambda run, m: Failed(run.request, "draining", "Not now.", True, 1.0),
    "it is overloaded": lambda run, m: Failed(run.request, "overloaded", "Full.", True, 1.0),
    "its start comes too late": lambda run, m: Failed(run.request, "start_deadline", "Too late.", True, 0.0),
}


STREAMED = ("another request's end", "it is drained", "it is overloaded", "its start comes too late")
"""Faults that show before the first piece of a stream."""


@pytest.mark.parametrize(("name", "stream"), [*((name, False) for name in FAULTS), *((name, True) for name in STREAMED)])
async def test_a_fault_of_one_agent_is_not_seen_by_the_client(house: House, name: str, stream: bool) -> None:
    first = _spoil_first(house, FAULTS[name])
    status, headers, body = await house.chat("hello", stream=stream)
    assert status == 200, body
    assert headers["x-ringfence-agent"] != first[0]
    (outcome,) = house.hub.records("request")
    tried = outcome.fields["tried"]
    assert [agent for agent, _, _ in tried] == [first[0], headers["x-ringfence-agent"]]  # type: ignore[attr-defined]
    assert tried[0][2] and not tried[1][2]  # type: ignore[index]
    (again,) = house.hub.records("tried")
    assert again.fields["agent"] == headers["x-ringfence-agent"]


@pytest.mark.parametrize("frame", [b"noise", b"", b"\x93\x01\xa6sealed\x80"])
async def test_replies_that_cannot_be_opened_are_another_agents_to_answer_and_take_this_one_out(house: House, frame: bytes) -> None:
    deliver, spoiled = house.broker.deliver, []

    async def spoiling(subject: str, data: bytes, respond: Callable[[bytes], object]) -> int:
        if ".run." in subject and not spoiled:
            spoiled.append(subject.rsplit(".", 1)[-1])
            await respond(frame)  # type: ignore[misc]
            return 1
        return await deliver(subject, data, respond)  # type: ignore[arg-type]

    house.broker.deliver = spoiling  # type: ignore[method-assign]
    status, headers, body = await house.chat("hello")
    assert status == 200, body
    assert headers["x-ringfence-agent"] != spoiled[0]
    house.beat()
    assert AgentId(spoiled[0]) not in house.presence.here(house.clock.monotonic(), house.snap)


async def test_where_all_fail_the_client_hears_the_last_reason_and_never_a_500(house: House) -> None:
    for site in house.sites.values():
        _spoil(site.runner, FAULTS["a result that is none"])
    status, _, body = await house.chat("hello")
    assert status == 502
    assert json.loads(body)["error"]["code"] == "agent_lost"


async def test_after_a_piece_has_gone_out_no_other_agent_is_tried(house: House) -> None:
    runs = []
    for site in house.sites.values():
        _spoil(site.runner, lambda run, m: (runs.append(run), _done(m, digest=bytes(32)))[1])
    _, _, body = await house.chat("hello there and everywhere", stream=True)
    assert b"agent_lost" in body and b"[DONE]" not in body
    assert len({run.request for run in runs}) == 1 and len(house.hub.records("tried")) == 0


def _spoil_first(house: House, fault: Callable[[Run, codec.Message], codec.Message]) -> list[str]:
    """Spoil the replies of whichever agent is asked first; return its name, once it was."""
    asked: list[str] = []
    for name, site in house.sites.items():

        def only_first(run: Run, message: codec.Message, name: str = name) -> codec.Message:
            if not asked:
                asked.append(name)
            return fault(run, message) if asked[0] == name else message

        _spoil(site.runner, only_first)
    return asked


def _spoil(runner: object, fault: Callable[[Run, codec.Message], codec.Message]) -> None:
    start = runner.start  # type: ignore[attr-defined]

    def spoiled(run, reply):
        async def say(message):
            await reply(fault(run, message))

        start(run, say)

    runner.start = spoiled  # type: ignore[attr-defined]
