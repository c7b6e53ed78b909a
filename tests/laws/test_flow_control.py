"""Law: no more of a stream is on its way than its reader has granted, and whoever makes it waits.

An engine that can be stopped is ahead of its reader by one window and one piece at most; a server elsewhere
is stopped by TCP. A credit lets the stream go on. Nothing grows with what a server would like to send, no
stream is longer than any answer may be, and other tasks get their turns while a full buffer is read.

Mutations that turn it red, each by itself: take the `while` out of `Pieces.room`; the `_window` part out of
`Pieces._is_full`; the `sleep` out of `Counted.room`; `emit.room()` out of the upstream engine; READ_BYTES
back to MAX_LINE; the check of MAX_ANSWER out of `Pieces._send` and `Gathered._piece`; the call of
`granted` out of the intake.
"""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from edge_agent.inference.port import Caller, Piece
from edge_agent.intake import Intake
from edge_agent.work.pieces import MOST_WAITING, Counted, Pieces
from sync.bus.memory import Exchange, MemoryBus
from sync.crypto import keyring
from sync.kit.clock import ManualClock
from sync.kit.ids import AgentId, RequestId
from sync.serving import replies
from sync.serving.replies import Sender
from sync.wire import codec, subjects
from sync.wire.messages import Chunk, Credit, Done, Failed
from tests.support import asking, runners

WINDOW = 64 * 1024
MUCH = 100_000_000
"""Bytes that a server would send if it could."""
LITTLE = 2 * 1024 * 1024
"""Bytes that a reader that stands still may cost here, buffers and bookkeeping included."""
WORD = "ok "


async def test_a_reader_that_grants_nothing_stops_the_engine_after_a_window_and_a_piece(
    tmp_path: Path, keys: keyring.Keyring, clock: ManualClock
) -> None:
    noop = {"backend": "noop", "noop": {"words": 100_000}}
    async with runners.runner(tmp_path, keys, clock, {"guide": noop}) as runner:
        reader = runners.Reader(runner)
        task = reader.start(runners.run(stream=True, window=WINDOW))
        job = runner._jobs[RequestId("req_1")]
        await reader.until(lambda: isinstance(job.made, Pieces) and job.made._is_full())
        await turns(1000)
        assert isinstance(job.made, Pieces)
        made = job.made.tokens * len(WORD)
        assert WINDOW // 2 < made <= WINDOW + len(WORD), "one window and one piece"
        assert made - MOST_WAITING <= len(reader.text) <= made
        assert not task.done()


@pytest.mark.parametrize("window", [1, 1000, WINDOW])
async def test_a_credit_lets_it_go_on_to_its_end(tmp_path: Path, keys: keyring.Keyring, clock: ManualClock, window: int) -> None:
    noop = {"backend": "noop", "noop": {"words": 5000}}
    async with runners.runner(tmp_path, keys, clock, {"guide": noop}) as runner:
        reader = runners.Reader(runner, grants=True)
        reader.start(runners.run(stream=True, window=window))
        done = await reader.end()
        assert isinstance(done, Done) and reader.text == WORD * 5000


async def test_the_intake_hands_a_credit_on(tmp_path: Path, keys: keyring.Keyring, clock: ManualClock) -> None:
    noop = {"backend": "noop", "noop": {"words": 50_000}}
    async with runners.runner(tmp_path, keys, clock, {"guide": noop}) as runner:
        bus, me = MemoryBus(Exchange()), AgentId("onprem")
        nobody = cast(object, None)
        await Intake(bus, me, nobody, runner, nobody, nobody).listen()  # type: ignore[arg-type]
        reader = runners.Reader(runner)
        reader.start(runners.run(stream=True, window=1000))
        await reader.until(lambda: reader.taken >= 1000)
        for upto in (100, reader.taken):
            await bus.publish(subjects.control(me), codec.encode(Credit(RequestId("req_1"), upto)))
            await bus.publish(subjects.control(me), codec.encode(Credit(RequestId("unknown"), upto)))
        await reader.until(lambda: reader.taken >= 1900)


async def test_a_grant_beyond_what_was_sent_is_none(tmp_path: Path, keys: keyring.Keyring, clock: ManualClock) -> None:
    noop = {"backend": "noop", "noop": {"words": 100_000}}
    async with runners.runner(tmp_path, keys, clock, {"guide": noop}) as runner:
        reader = runners.Reader(runner)
        reader.start(runners.run(stream=True, window=1000))
        await reader.until(lambda: reader.taken >= 1000)
        runner.granted(RequestId("req_1"), 2**53)
        await reader.until(lambda: reader.taken >= 1900)
        await turns(1000)
        assert reader.taken < 3000


async def test_a_flood_to_a_reader_that_stands_still_costs_little_and_the_server_waits(
    tmp_path: Path, keys: keyring.Keyring, clock: ManualClock
) -> None:
    flood = runners.Flood(size=MUCH)
    async with runners.serving(flood) as port:
        manifest, egress = runners.upstream(port)
        async with runners.runner(tmp_path, keys, clock, {"guide": manifest}, egress=egress) as runner:
            reader = runners.Reader(runner)
            async with runner._repository.lease("guide"):
                pass  # what the engine's own code takes is no part of it
            tracemalloc.start()
            try:
                before, _ = tracemalloc.get_traced_memory()
                reader.start(runners.run(stream=True, window=WINDOW))
                job = runner._jobs[RequestId("req_1")]
                await reader.until(lambda: isinstance(job.made, Pieces) and job.made._is_full())
                await turns(3000)
                held = tracemalloc.get_traced_memory()[0] - before
            finally:
                tracemalloc.stop()
            assert isinstance(job.made, Pieces)
            assert job.made._unknown_bytes <= WINDOW + flood.piece, "one window and one piece"
            assert held < LITTLE
            assert not flood.ended and flood.written < MUCH / 2
            granted = reader.taken
            runner.granted(RequestId("req_1"), granted)
            await reader.until(lambda: reader.taken >= granted + WINDOW / 2)
            runner.cancel(RequestId("req_1"))
            await reader.until(lambda: flood.ended)


async def test_without_a_window_what_waits_for_the_bus_is_bounded(
    tmp_path: Path, keys: keyring.Keyring, clock: ManualClock
) -> None:
    """A hub of version 0.1 grants nothing: then the bus itself is what is slow."""
    noop = {"backend": "noop", "noop": {"words": 100_000}}
    async with runners.runner(tmp_path, keys, clock, {"guide": noop}) as runner:
        never = asyncio.Event()

        async def reply(message: codec.Message) -> None:
            if isinstance(message, Chunk):
                await never.wait()

        runner.start(runners.run(stream=True), reply)
        job = runner._jobs[RequestId("req_1")]
        await runners.Reader(runner).until(lambda: isinstance(job.made, Pieces) and job.made._is_full())
        await turns(1000)
        assert isinstance(job.made, Pieces) and job.made.tokens * len(WORD) <= MOST_WAITING + len(WORD)


async def test_no_stream_is_longer_than_an_answer_may_be_and_its_server_is_left(
    tmp_path: Path, keys: keyring.Keyring, clock: ManualClock
) -> None:
    flood = runners.Flood(size=MUCH, piece=16_000)
    async with runners.serving(flood) as port:
        manifest, egress = runners.upstream(port)
        async with runners.runner(tmp_path, keys, clock, {"guide": manifest}, egress=egress) as runner:
            reader = runners.Reader(runner, grants=True)
            reader.start(runners.run(stream=True, window=WINDOW))
            failed = await reader.end()
            assert isinstance(failed, Failed) and (failed.code, failed.retryable) == ("answer_too_large", False)
            assert replies.MAX_ANSWER // 2 < len(reader.text) <= replies.MAX_ANSWER
            await reader.until(lambda: flood.ended)
            assert flood.written < MUCH


async def test_the_same_holds_for_an_engine_of_this_process(tmp_path: Path, keys: keyring.Keyring, clock: ManualClock) -> None:
    """The bound is the sender's too: not every engine counts."""
    said: list[Chunk] = []

    async def reply(message: codec.Message) -> None:
        said.append(cast(Chunk, message))

    pieces = Pieces(Sender(RequestId("req_1"), reply), window=0)
    for _ in range(9):
        pieces(Piece("x" * 1024 * 1024))
    pieces.end()
    with pytest.raises(replies.AnswerTooLarge):
        await pieces.send()
    assert sum(len(chunk.text) for chunk in said) <= replies.MAX_ANSWER


async def test_and_for_what_a_server_sends_whoever_reads_it(tmp_path: Path, keys: keyring.Keyring, clock: ManualClock) -> None:
    flood = runners.Flood(size=MUCH, piece=100_000)
    async with runners.serving(flood) as port:
        manifest, egress = runners.upstream(port)
        async with runners.runner(tmp_path, keys, clock, {"guide": manifest}, egress=egress) as runner:
            emit = Counted()
            async with runner._repository.lease("guide") as model:
                with pytest.raises(replies.AnswerTooLarge):
                    await model.engine.run(asking.generate("hi"), emit, Caller())
            assert emit._unknown_bytes <= replies.MAX_ANSWER
            await runners.Reader(runner).until(lambda: flood.ended)


def ticking(step_s: float) -> Callable[[], float]:
    """A clock that goes on by a step each time that it is read."""
    clock = ManualClock()

    def now() -> float:
        clock.advance(step_s)
        return clock.monotonic()

    return now


async def test_others_get_their_turns_while_an_engine_does_not_wait() -> None:
    """Each look at the clock costs a millisecond here, so a turn is due after five pieces or so."""
    emit, counted = Counted(ticking(0.001)), 0

    async def count() -> None:
        nonlocal counted
        while True:
            await asyncio.sleep(0)
            counted += 1

    other = asyncio.create_task(count())
    for _ in range(1000):
        emit(Piece("x"))
        await emit.room()
    other.cancel()
    assert 100 <= counted <= 250


async def test_others_get_their_turns_while_a_full_buffer_of_a_server_is_read(
    tmp_path: Path, keys: keyring.Keyring, clock: ManualClock
) -> None:
    flood, events = runners.Flood(size=20_000, piece=5), 4000
    async with runners.serving(flood) as port:
        manifest, egress = runners.upstream(port)
        async with runners.runner(tmp_path, keys, clock, {"guide": manifest}, egress=egress) as runner:
            emit, during = Counted(ticking(0.001)), 0

            async def count() -> None:
                nonlocal during
                while not flood.ended:
                    await asyncio.sleep(0)
                while True:  # from here on the server has said all, and what is left lies in buffers
                    await asyncio.sleep(0)
                    during += 1

            other = asyncio.create_task(count())
            async with runner._repository.lease("guide") as model:
                began = emit._unknown_bytes
                result = await model.engine.run(asking.generate("hi"), emit, Caller())
            other.cancel()
            assert len(result.text) == 20_000 and emit._unknown_bytes - began == 20_000
            assert during >= events // 100


async def turns(count: int) -> None:
    """Let everybody run for so many turns of the loop: what could go on has gone on."""
    for _ in range(count):
        await asyncio.sleep(0)
