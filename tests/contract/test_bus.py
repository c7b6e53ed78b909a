"""One contract, both buses: NATS over a real nats-server, and the one in memory."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from sync.bus.memory import Exchange, MemoryBus
from sync.bus.nats import NatsBus
from sync.bus.port import CONVERSATION_LIMIT, Bus, BusUnavailable, Conflict, Incoming, NobodyThere, Overrun
from sync.kit.ids import AgentId
from sync.wire import subjects
from tests.support.natsd import NatsServer

Connect = Callable[[str], Awaitable[Bus]]
FRESH = itertools.count()


@pytest.fixture(params=["memory", "nats"])
async def connect(request: pytest.FixtureRequest) -> AsyncIterator[Connect]:
    """Makes lines to one broker."""
    opened: list[Bus] = []
    if request.param == "memory":
        exchange = Exchange()

        async def make(owner: str) -> Bus:
            opened.append(MemoryBus(exchange))
            return opened[-1]
    else:
        server: NatsServer = request.getfixturevalue("nats_server")

        async def make(owner: str) -> Bus:
            bus = NatsBus(server.login, owner)
            await bus.connect()
            await bus.provision(journal_max_bytes=64 << 20, journal_max_age_s=3600)
            opened.append(bus)
            return bus

    yield make
    for bus in opened:
        await bus.close()


@pytest.fixture
def subject() -> str:
    return subjects.journal(AgentId(f"agent-{next(FRESH)}"))


async def echo_n(incoming: Incoming) -> None:
    for n in range(int(incoming.data)):
        await incoming.respond(b"%d" % n)


class TestBus:
    async def test_a_published_frame_reaches_everybody_who_listens(self, connect: Connect) -> None:
        a, b = await connect("a"), await connect("b")
        got: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()

        async def take(incoming: Incoming) -> None:
            got.put_nowait((incoming.subject, incoming.data))

        await b.subscribe("x.*", take)
        await a.subscribe("x.one", take)
        await a.publish("x.one", b"hello")
        assert {await asyncio.wait_for(got.get(), 5) for _ in range(2)} == {("x.one", b"hello")}

    async def test_a_request_gets_its_reply(self, connect: Connect) -> None:
        a, b = await connect("a"), await connect("b")
        await b.subscribe("echo", echo_n)
        assert await a.request("echo", b"1", timeout_s=5) == b"0"

    async def test_a_request_that_nobody_listens_to_fails_at_once(self, connect: Connect) -> None:
        a = await connect("a")
        with pytest.raises(NobodyThere):
            await a.request("nobody.there", b"", timeout_s=30)

    async def test_a_request_without_a_reply_times_out(self, connect: Connect) -> None:
        a, b = await connect("a"), await connect("b")

        async def silent(_: Incoming) -> None: ...

        await b.subscribe("silent", silent)
        with pytest.raises(BusUnavailable):
            await a.request("silent", b"", timeout_s=0.05)

    async def test_a_conversation_brings_all_replies_in_order(self, connect: Connect) -> None:
        a, b = await connect("a"), await connect("b")
        await b.subscribe("many", echo_n)
        conversation = await a.converse("many", b"200")
        assert [await conversation.next(5) for _ in range(200)] == [b"%d" % n for n in range(200)]
        assert await conversation.next(0.01) is None
        conversation.close()

    async def test_conversations_do_not_mix(self, connect: Connect) -> None:
        a, b = await connect("a"), await connect("b")

        async def twice(incoming: Incoming) -> None:
            await incoming.respond(incoming.data)
            await incoming.respond(incoming.data)

        await b.subscribe("twice", twice)

        async def talk(n: int) -> None:
            conversation = await a.converse("twice", b"%d" % n)
            assert [await conversation.next(5), await conversation.next(5)] == [b"%d" % n] * 2
            conversation.close()

        await asyncio.gather(*map(talk, range(50)))

    async def test_a_reader_that_is_too_slow_is_told_so(self, connect: Connect) -> None:
        a, b = await connect("a"), await connect("b")
        await b.subscribe("flood", echo_n)
        conversation = await a.converse("flood", b"%d" % (CONVERSATION_LIMIT + 500))
        # The same subscription answers this one after the flood, so by then all of that has come.
        await a.request("flood", b"1", timeout_s=30)
        with pytest.raises(Overrun):
            await conversation.next(1)
        conversation.close()

    async def test_an_append_is_guarded_by_the_last_number(self, connect: Connect, subject: str) -> None:
        a = await connect("a")
        assert await a.last(subject) == (0, b"")
        first = await a.append(subject, b"one", expected_last=0)
        second = await a.append(subject, b"two", expected_last=first)
        assert await a.last(subject) == (second, b"two")
        for wrong in (0, first):
            with pytest.raises(Conflict):
                await a.append(subject, b"again", expected_last=wrong)
        assert await a.last(subject) == (second, b"two")

    async def test_what_was_appended_is_consumed_in_order_and_again_until_it_was_taken(
        self, connect: Connect, subject: str
    ) -> None:
        a = await connect("a")
        last = 0
        for n in range(5):
            last = await a.append(subject, b"%d" % n, expected_last=last)
        seen: list[bytes] = []
        done = asyncio.Event()

        async def take(batch: list[bytes]) -> None:
            for data in batch:
                seen.append(data)
                if seen.count(b"2") == 1 and data == b"2":
                    raise ValueError("not yet")
                if data == b"4":
                    done.set()

        async def consume() -> None:
            while True:
                try:
                    await a.consume(subject, f"taker-{subject.rsplit('.', 1)[1]}", take)
                except ValueError:
                    continue

        task = asyncio.create_task(consume())
        await asyncio.wait_for(done.wait(), 60)
        task.cancel()
        assert [d for i, d in enumerate(seen) if d not in seen[:i]] == [b"0", b"1", b"2", b"3", b"4"]
        assert seen.count(b"2") == 2

    async def test_what_a_consumer_had_in_hand_when_it_ended_comes_first_to_the_next(self, connect: Connect, subject: str) -> None:
        """As when a hub is killed or stopped: what comes later must not look like a gap. Mutation: `_anew` without its delete."""
        a, durable = await connect("a"), f"taker-{subject.rsplit('.', 1)[1]}"
        first = await a.append(subject, b"one", expected_last=0)
        in_hand, seen, done = asyncio.Event(), list[bytes](), asyncio.Event()

        async def never_taken(_: list[bytes]) -> None:
            in_hand.set()
            await asyncio.Event().wait()

        async def take(batch: list[bytes]) -> None:
            seen.extend(batch)
            if len(seen) >= 2:
                done.set()

        ended = asyncio.create_task(a.consume(subject, durable, never_taken))
        await asyncio.wait_for(in_hand.wait(), 60)
        ended.cancel()
        await asyncio.wait([ended])
        await a.append(subject, b"two", expected_last=first)
        after = asyncio.create_task(a.consume(subject, durable, take))
        await asyncio.wait_for(done.wait(), 10)
        after.cancel()
        assert seen == [b"one", b"two"]

    async def test_a_bucket_gives_what_was_put_last(self, connect: Connect) -> None:
        a, b = await connect("a"), await connect("b")
        site = f"site-{next(FRESH)}"
        assert await b.get(subjects.BUNDLE_BUCKET, site) is None
        await a.put(subjects.BUNDLE_BUCKET, site, b"one")
        await a.put(subjects.BUNDLE_BUCKET, site, b"two")
        assert await b.get(subjects.BUNDLE_BUCKET, site) == b"two"

    async def test_a_closed_bus_refuses_at_once(self, connect: Connect, subject: str) -> None:
        a = await connect("a")
        await a.close()
        assert not a.connected
        for attempt in (
            a.publish("x", b""),
            a.append(subject, b"", expected_last=0),
            a.last(subject),
            a.put("b", "k", b""),
            a.get("b", "k"),
        ):
            with pytest.raises(BusUnavailable):
                await attempt
        with pytest.raises(BusUnavailable):
            await a.request("x", b"", timeout_s=1)
