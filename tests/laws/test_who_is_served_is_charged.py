"""Law: who is served is charged: for what was asked and what went out, on every way out, and for no more.

Mutations that turn it red: leave Outcome.leave out of Exchange._conclude; settle with what an agent says, unbounded.
"""

from __future__ import annotations

import asyncio
import json

import pytest

from sync.kit.clock import ManualClock
from sync.serving.limits import LimitReached, Limits
from sync.wire import types
from sync.wire.messages import Done, Failed
from tests.support import builders
from tests.support.house import House

NODES = ("hub", "onprem", "public")
LONG = "tell me everything that there is to know about it, please, at length " * 4


def _left(house: House, at: str, tenant: str) -> int:
    node = house.hub if at == "hub" else house.sites[at]
    return node.parts.limits.left(node.parts.snapshot().tenants[tenant]).remaining_tokens  # type: ignore[index]


@pytest.mark.parametrize("at", NODES)
async def test_who_leaves_before_the_end_pays_for_what_was_asked_and_what_went_out(house: House, at: str) -> None:
    before = _left(house, at, "small")
    await _read_some(house, at)
    node = house.hub if at == "hub" else house.sites[at]
    while not node.records("request"):
        await asyncio.sleep(0.01)
    (outcome,) = node.records("request")
    used = before - _left(house, at, "small")
    assert outcome.fields["outcome"] == "cancelled"
    assert outcome.fields["estimated"] is True
    told = outcome.fields["prompt_tokens"] + outcome.fields["completion_tokens"]  # type: ignore[operator]
    assert told >= len(LONG) // 4
    # Some comes back each second: 400 a minute.
    assert used == pytest.approx(told, abs=15)


async def _read_some(house: House, at: str) -> None:
    node = house.hub if at == "hub" else house.sites[at]
    body = {"model": "slow", "stream": True, "messages": [{"role": "user", "content": LONG}]}
    headers = {"authorization": f"Bearer {house.api_keys['small']}"}
    async with house.http.post(node.url + "/v1/chat/completions", data=json.dumps(body), headers=headers) as response:
        async for line in response.content:
            if b"ok" in line:
                return


async def test_what_is_in_flight_counts_so_that_many_at_once_go_over_a_limit_by_one_request_at_most(house: House) -> None:
    answers = await asyncio.gather(
        *(house.chat("hello", tenant="small", model="slow", max_tokens=300) for _ in range(6)),
    )
    statuses = sorted(status for status, _, _ in answers)
    assert statuses.count(200) <= 2 and statuses.count(429) >= 4


async def test_what_nobody_worked_on_costs_nothing(house: House) -> None:
    for site in house.sites.values():
        assert site.runner is not None

        def full(run, reply):
            asyncio.get_running_loop().create_task(reply(Failed(run.request, "overloaded", "Full.", True, 1.0)))

        site.runner.start = full  # type: ignore[method-assign]
    before = _left(house, "hub", "small")
    status, _, _ = await house.chat(LONG, tenant="small")
    assert status == 503
    assert _left(house, "hub", "small") >= before
    (outcome,) = house.hub.records("request")
    assert (outcome.fields["prompt_tokens"], outcome.fields["completion_tokens"], outcome.fields["tries"]) == (0, 0, 3)


@pytest.mark.parametrize("told", [types.MAX_TOKENS, 10_000_000])
async def test_no_agent_locks_a_tenant_out_by_what_it_says_that_it_counted(house: House, told: int) -> None:
    for site in house.sites.values():
        assert site.runner is not None
        start = site.runner.start

        def lying(run, reply, start=start):
            async def say(message):
                if isinstance(message, Done):
                    message = types.replace(message, prompt_tokens=told, completion_tokens=told)
                await reply(message)

            start(run, say)

        site.runner.start = lying  # type: ignore[method-assign]
    before = _left(house, "hub", "acme")
    status, _, body = await house.chat("hello", max_tokens=20)
    usage = json.loads(body)["usage"]
    assert status == 200
    assert usage["completion_tokens"] <= 20 and usage["prompt_tokens"] < 10_000
    assert before - _left(house, "hub", "acme") < 10_000


def test_what_was_reserved_and_not_used_is_given_back_once() -> None:
    clock = ManualClock()
    limits, tenant = Limits(clock), builders.tenant(limits=builders.snapshot.Limits(10, 1000, 8, 256))
    with limits.reserve(tenant, 400) as reservation:
        assert limits.left(tenant).remaining_tokens == 600
        reservation.settle(50)
        reservation.settle(50)
        assert limits.left(tenant).remaining_tokens == 950
    assert limits.left(tenant).remaining_tokens == 950


def test_a_request_over_the_whole_limit_is_admitted_and_leaves_a_debt() -> None:
    clock = ManualClock()
    limits, tenant = Limits(clock), builders.tenant(limits=builders.snapshot.Limits(10, 100, 8, 256))
    with limits.reserve(tenant, 400) as reservation, pytest.raises(LimitReached), limits.reserve(tenant, 1):
        pass
    reservation.settle(400)
    with pytest.raises(LimitReached), limits.reserve(tenant, 1):
        pass


async def test_an_answer_without_usage_is_estimated_and_marked_so(house: House) -> None:
    for site in house.sites.values():
        assert site.runner is not None
        start = site.runner.start

        def silent(run, reply, start=start):
            async def say(message):
                if isinstance(message, Done):
                    message = types.replace(message, prompt_tokens=0, completion_tokens=0)
                await reply(message)

            start(run, say)

        site.runner.start = silent  # type: ignore[method-assign]
    _, _, body = await house.chat("hello there, how are you?")
    assert json.loads(body)["usage"]["completion_tokens"] > 0
    (outcome,) = house.hub.records("request")
    assert outcome.fields["estimated"] is True
