"""Law: a stream has no hole. What is lost, doubled, reordered or changed on the way is never taken for a whole answer.

Mutations that turn it red: take the sequence, the count or the digest out of Replies._checked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.bus.port import NobodyThere
from sync.kit import errors
from sync.kit.clock import ManualClock, SystemClock
from sync.kit.ids import RequestId
from sync.serving.replies import AnswerTooLarge, DeadlinePassed, Lost, Message, Replies, RunFailed, Sender
from sync.wire import codec, types
from sync.wire.messages import Chunk, Done, Failed
from tests.support.house import House

R = RequestId("req_1")


class Script:
    """A source that says what it is told to, and then is silent."""

    name = "The agent 'a'"
    code = "agent_lost"

    def __init__(self, messages: Sequence[Message | Exception], *, working: bool = False) -> None:
        self.messages = list(messages)
        self.working = working
        self.granted: list[int] = []
        self.cancelled = False

    async def receive(self, timeout_s: float) -> Message | None:
        if not self.messages:
            return None
        message = self.messages.pop(0)
        if isinstance(message, Exception):
            raise message
        return message

    async def is_working(self) -> bool:
        return self.working

    async def grant(self, upto: int) -> None:
        self.granted.append(upto)

    async def cancel(self) -> None:
        self.cancelled = True

    def close(self) -> None: ...


async def _sent(texts: Sequence[str], *, summed: bool = True) -> list[Message]:
    said: list[Message] = []

    async def reply(message: codec.Message) -> None:
        said.append(message)  # type: ignore[arg-type]

    sender = Sender(R, reply, summed=summed)
    for text in texts:
        await sender.piece(text)
    await sender.done(b"\x80", prompt_tokens=1, completion_tokens=1, finish="stop", cached=False, compute_ms=1.0)
    return said


async def _read(messages: Sequence[Message | Exception], *, summed: bool = True) -> list[str]:
    """Return the pieces of a whole answer. Raises where it is none."""
    replies = Replies(Script(messages), request=R, deadline=1e9, clock=SystemClock(), code_of=str, summed=summed)
    texts = []
    while not isinstance(message := await replies.next(), Done):
        assert isinstance(message, Chunk)
        texts.append(message.text)
    return texts


TEXTS = st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=6)


@given(TEXTS)
def test_what_comes_as_it_was_sent_is_the_answer(texts: list[str]) -> None:
    assert asyncio.run(_read(asyncio.run(_sent(texts)))) == texts


@given(TEXTS, st.data())
def test_what_is_lost_doubled_reordered_or_changed_is_noticed(texts: list[str], data: st.DataObject) -> None:
    messages = asyncio.run(_sent(texts))
    at = data.draw(st.integers(0, len(messages) - 1))
    match data.draw(st.sampled_from(["lose", "double", "swap", "change", "renumber"])):
        case "lose":
            broken = messages[:at] + messages[at + 1 :]
        case "double":
            broken = (
                [*messages[: at + 1], *messages[at:]] if at < len(messages) - 1 else [*messages[:-1], messages[0], messages[-1]]
            )
        case "swap":
            other = (at + 1) % len(messages)
            broken = list(messages)
            broken[at], broken[other] = broken[other], broken[at]
        case "change":
            broken = [_changed(message) if i == at else message for i, message in enumerate(messages)]
        case _:
            lost = messages[:at] + messages[at + 1 :]
            broken = [types.replace(m, sequence=i) if isinstance(m, Chunk) else m for i, m in enumerate(lost)]
            if broken and isinstance(broken[-1], Done):
                broken[-1] = types.replace(broken[-1], chunks=len(broken) - 1)
    with pytest.raises(Lost):
        asyncio.run(_read(broken))


@given(TEXTS, st.data())
def test_of_a_sender_that_knows_no_digest_number_and_count_tell_the_same(texts: list[str], data: st.DataObject) -> None:
    messages = asyncio.run(_sent(texts, summed=False))
    assert asyncio.run(_read(messages, summed=False)) == texts
    at = data.draw(st.integers(0, len(texts) - 1))
    lost = messages[:at] + messages[at + 1 :]
    doubled = [*messages[: at + 1], *messages[at:]]
    with pytest.raises(Lost):
        asyncio.run(_read(data.draw(st.sampled_from([lost, doubled])), summed=False))


def _changed(message: Message) -> Message:
    if isinstance(message, Chunk):
        return types.replace(message, text=message.text + "x")
    assert isinstance(message, Done)
    return types.replace(message, result=b"\x81\xa1n\x01")


ENDS = {
    "nobody is there": ([NobodyThere("nobody")], Lost),
    "it is silent and not there": ([], Lost),
    "it says why not": ([Failed(R, "overloaded", "Full.", True, 2.0)], RunFailed),
    "another request's reply": ([Chunk(RequestId("req_2"), 0, "x")], Lost),
    "what cannot be opened": ([errors.Corrupt("no")], Lost),
    "more than any answer may be": ([Chunk(R, n, "x" * 900_000) for n in range(10)], AnswerTooLarge),
}


@pytest.mark.parametrize("name", ENDS)
async def test_each_way_in_which_an_answer_does_not_come_has_its_error(name: str) -> None:
    messages, expected = ENDS[name]
    with pytest.raises(expected):
        await _read(messages)


async def test_an_answer_without_its_digest_is_whole_only_where_the_sender_knows_none() -> None:
    unsummed = await _sent(["a", "b"], summed=False)
    assert await _read(unsummed, summed=False) == ["a", "b"]
    with pytest.raises(Lost):
        await _read(unsummed, summed=True)


async def test_who_is_slow_is_waited_for_and_the_time_of_the_request_ends_it() -> None:
    clock = ManualClock()
    script = Script([], working=True)

    class Aging(Script):
        async def is_working(self) -> bool:
            clock.advance(10)
            return True

    script = Aging([])
    replies = Replies(script, request=R, deadline=60.0, clock=clock, code_of=str)
    with pytest.raises(DeadlinePassed):
        await replies.next()
    await replies.close()
    assert script.cancelled


async def test_a_forwarded_stream_whose_piece_is_lost_is_an_error_and_never_done(house: House) -> None:
    site = house.sites["public"]
    lost = []

    deliver = house.broker.deliver

    async def losing(subject: str, data: bytes, respond: object) -> int:
        if ".ask." not in subject:
            return await deliver(subject, data, respond)  # type: ignore[arg-type]
        count = 0

        async def some(reply: bytes) -> None:
            nonlocal count
            count += 1
            if count == 4:
                lost.append(reply)
            else:
                await respond(reply)  # type: ignore[operator]

        return await deliver(subject, data, some)

    house.broker.deliver = losing  # type: ignore[method-assign]
    text = "My card is 4111 1111 1111 1111, and this is a longer text."
    status, headers, body = await house.chat(text, at="public", stream=True, model="slow")
    assert lost, "the request was forwarded"
    assert status == 200 and headers["x-ringfence-agent"] == "onprem"
    assert b"[DONE]" not in body and b"hub_lost" in body
    await house.settled()
    (outcome,) = site.records("request")
    assert (outcome.fields["outcome"], outcome.fields["code"], outcome.fields["forwarded"]) == ("failed", "hub_lost", True)


async def test_a_forwarded_request_ends_within_seconds_of_its_line(house: House) -> None:
    task = asyncio.create_task(
        house.post(
            "/v1/chat/completions",
            {"model": "slow", "stream": True, "messages": [{"role": "user", "content": "card 4111 1111 1111 1111"}]},
            at="public",
        )
    )
    while not house.sites["onprem"].runner.at_work:  # type: ignore[union-attr]
        await asyncio.sleep(0.01)
    # Both directions are dark: what the hub says does not come, and it cannot be asked.
    house.broker.handlers.clear()
    house.sites["public"].bus.connected = False
    house.sites["onprem"].runner.cancel(next(iter(house.sites["onprem"].runner.at_work)))  # type: ignore[union-attr]
    async with asyncio.timeout(10):
        _, _, body = await task
    assert b"[DONE]" not in body
