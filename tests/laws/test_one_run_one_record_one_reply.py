"""Law: however a run ends, there is one record of it with what it took, and one last reply to whoever still reads.

What nobody counted is estimated from the texts and marked; what was turned away took nothing. A number that
cannot be a count is none, whoever says it.

Mutations that turn it red, each by itself: leave `_record` out for any error; say nothing where a run is
cancelled by the agent itself; drop `estimated`, or count only results that are whole; take the check of
the packed answer out of `outcome.answer`; take the range out of `answers._tokens`
or `outcome._are_counts`; cut a sentence by
characters in `outcome.told`; cancel a task that has not begun.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from edge_agent.inference import port
from edge_agent.inference.port import Result
from edge_agent.work import outcome
from edge_agent.work.runner import Runner
from sync.audit.journal import AuditUnavailable
from sync.bus.port import BusUnavailable
from sync.crypto import keyring
from sync.kit import errors
from sync.kit.clock import ManualClock
from sync.kit.ids import RequestId
from sync.serving import usage
from sync.wire import codec, tasks
from sync.wire.messages import Chunk, Done, Failed
from tests.support import builders, runners

MODELS: dict[str, dict[str, object]] = {
    "guide": {"backend": "noop", "noop": {"words": 3}},
    "slow": {"backend": "noop", "noop": {"words": 100_000, "every_ms": 1}},
}
HELLO = 2
"""What the prompt 'hello' is estimated as: five bytes."""


@dataclass
class Case:
    """A way out. `tokens`: of prompt and answer in the record, the answer's None for some."""

    act: Callable[[Runner, runners.Reader], Awaitable[None]]
    outcome: str
    tokens: tuple[int, int | None]
    estimated: bool = False
    finish: str = ""
    said: str | None = ""
    """The code of the last reply: empty for `done`, None for no reply."""
    retryable: bool = False
    run: dict[str, object] = field(default_factory=dict)


async def let_it_end(runner: Runner, reader: runners.Reader) -> None:
    await reader.end()


async def cancel_at_once(runner: Runner, reader: runners.Reader) -> None:
    runner.cancel(RequestId("req_1"))


async def cancel_in_the_middle(runner: Runner, reader: runners.Reader) -> None:
    await some_tokens(runner, reader)
    runner.cancel(RequestId("req_1"))


async def stop_the_agent(runner: Runner, reader: runners.Reader) -> None:
    await some_tokens(runner, reader)
    await runner.stop(0.0)


async def some_tokens(runner: Runner, reader: runners.Reader) -> None:
    job = runner._jobs[RequestId("req_1")]
    await reader.until(lambda: job.made is not None and job.made.tokens >= 3)


def answered_by(monkeypatch: pytest.MonkeyPatch, answer: Callable[[], Result]) -> None:
    async def run(*_: object) -> Result:
        return answer()

    monkeypatch.setattr("edge_agent.inference.noop.Noop.run", run)


def packed(**fields: object) -> bytes:
    return codec.pack(builders.payload("hello", **fields))


SLOW = {"folder": "slow"}
CASES = {
    "an answer": Case(let_it_end, "done", (1, 3), finish="stop"),
    "a stream": Case(let_it_end, "done", (1, 3), finish="stop", run={"stream": True}),
    "a payload that is none": Case(let_it_end, "bad_payload", (0, 0), said="bad_payload", run={"payload": b"\x93"}),
    "a number out of range": Case(let_it_end, "bad_payload", (0, 0), said="bad_payload", run={"payload": packed(top_p=9.0)}),
    "a field that nobody knows": Case(let_it_end, "bad_payload", (0, 0), said="bad_payload", run={"payload": packed(x=1)}),
    "a model that is not here": Case(
        let_it_end, "model_not_here", (0, 0), said="model_not_here", retryable=True, run={"folder": "none"}
    ),
    "cancelled before it began": Case(cancel_at_once, "cancelled", (0, 0), said=None, run=SLOW),
    "cancelled in the middle": Case(cancel_in_the_middle, "cancelled", (HELLO, None), estimated=True, said=None, run=SLOW),
    "a stream cancelled in the middle": Case(
        cancel_in_the_middle, "cancelled", (HELLO, None), estimated=True, said=None, run={**SLOW, "stream": True}
    ),
    "the agent stops": Case(
        stop_the_agent, "cancelled", (HELLO, None), estimated=True, said="cancelled", retryable=True, run={**SLOW, "stream": True}
    ),
    "its time is over": Case(
        let_it_end, "deadline_exceeded", (HELLO, None), estimated=True, said="deadline_exceeded", retryable=True,
        run={**SLOW, "left_s": 0.2},
    ),
    "a stream whose time is over": Case(
        let_it_end, "deadline_exceeded", (HELLO, None), estimated=True, said="deadline_exceeded", retryable=True,
        run={**SLOW, "left_s": 0.2, "stream": True},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
async def test_however_a_run_ends(tmp_path: Path, keys: keyring.Keyring, clock: ManualClock, name: str) -> None:
    case = CASES[name]
    async with runners.runner(tmp_path, keys, clock, MODELS) as runner:
        reader = runners.Reader(runner)
        task = reader.start(runners.run(**case.run))
        await case.act(runner, reader)
        await asyncio.wait([task], timeout=runners.WAIT_S)
        assert task.done()
        (fields,) = runners.records(runner)
        assert (fields["outcome"], fields["finish"], fields["estimated"]) == (case.outcome, case.finish, case.estimated)
        prompt, completion = case.tokens
        assert fields["prompt_tokens"] == prompt
        made = fields["completion_tokens"]
        assert made == completion if completion is not None else isinstance(made, int) and made > 0
        ends = [(end.code, end.retryable) if isinstance(end, Failed) else ("", False) for end in reader.ends]
        assert ends == ([] if case.said is None else [(case.said, case.retryable)])


def whole(text: str = "x", prompt: int = 1, choices: int = 1) -> Callable[[], Result]:
    return lambda: Result(tasks.Generated((tasks.Answer(text, "stop"),) * choices), prompt, 1)


def broken(error: BaseException) -> Callable[[], Result]:
    def answer() -> Result:
        raise error

    return answer


ODD = {
    "more answers than were asked for": (whole(choices=2), "bad_answer"),
    "half a character": (whole("\ud83d"), "bad_answer"),
    "more tokens than there are": (whole(prompt=2**62), "bad_answer"),
    "fewer tokens than none": (whole(prompt=-1), "bad_answer"),
    "vectors where a text was asked for": (lambda: Result(tasks.Embedded(b"", 1), 1), "bad_answer"),
    "more bytes than a reply has": (whole("x" * (9 << 20)), "answer_too_large"),
    "an exception that nobody expects": (broken(ZeroDivisionError("secret")), "internal_error"),
    "a refusal in its own language": (broken(port.BadPayload("漢" * 4000)), "bad_payload"),
    "a code in capitals": (broken(errors.Refused("no", code="HTTP 500")), "agent_failed"),
    "a wait without end": (broken(port.Overloaded("no", retry_after_s=float("inf"))), "overloaded"),
    "a wait that is no number": (broken(port.Overloaded("no", retry_after_s=float("nan"))), "overloaded"),
}


OF_THE_TEXT = ("more bytes than a reply has", "half a character")
"""What is wrong with a text is no matter where it has gone out in pieces."""
TURNED_AWAY = ("bad_payload", "agent_failed", "overloaded")
"""What is refused before anything is computed took nothing."""


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", ODD)
async def test_whatever_an_engine_does_one_failure_goes_out_that_can_be_read(
    tmp_path: Path, keys: keyring.Keyring, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, name: str, stream: bool
) -> None:
    answer, code = ODD[name]
    async with runners.runner(tmp_path, keys, clock, MODELS) as runner:
        answered_by(monkeypatch, answer)
        reader = runners.Reader(runner)
        task = reader.start(runners.run(stream=stream))
        end = await reader.end()
        await task
        (fields,) = runners.records(runner)
        assert fields["prompt_tokens"] in ((0,) if code in TURNED_AWAY else (1, HELLO))
        if stream and name in OF_THE_TEXT:
            assert isinstance(end, Done)
            return
        assert isinstance(end, Failed) and end.code == code
        assert codec.decode(codec.encode(end), Failed) == end
        assert "secret" not in end.sentence


async def test_where_no_record_can_be_written_there_is_no_answer(
    tmp_path: Path, keys: keyring.Keyring, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with runners.runner(tmp_path, keys, clock, MODELS) as runner:

        async def append(*_: object) -> None:
            raise AuditUnavailable("The disk is full.")

        monkeypatch.setattr(runner._journal, "append", append)
        reader = runners.Reader(runner)
        reader.start(runners.run())
        end = await reader.end()
        assert isinstance(end, Failed) and (end.code, end.retryable) == ("audit_unavailable", False)


LINES = {
    "the line is down at the end": (Done, BusUnavailable("gone"), "done"),
    "the line is down at the first piece": (Chunk, BusUnavailable("gone"), "broker_unavailable"),
    "a piece cannot be packed": (Chunk, ValueError("no"), "internal_error"),
    "the end cannot be packed": (Done, codec.BadFrame("too large"), "done"),
}


@pytest.mark.parametrize("name", LINES)
async def test_a_reply_that_cannot_go_out_ends_in_no_silence(
    tmp_path: Path, keys: keyring.Keyring, clock: ManualClock, name: str
) -> None:
    kind, error, told = LINES[name]
    said: list[codec.Message] = []

    async def reply(message: codec.Message) -> None:
        if isinstance(message, kind):
            raise error
        said.append(message)

    async with runners.runner(tmp_path, keys, clock, MODELS) as runner:
        runner.start(runners.run(stream=True), reply)
        await runner.at_work[RequestId("req_1")]
        assert isinstance(said[-1], Failed) and sum(isinstance(message, Failed) for message in said) == 1
        assert [fields["outcome"] for fields in runners.records(runner)] == [told]


TOLD: dict[str, tuple[object, tuple[int, int], bool]] = {
    "its own counts": ({"prompt_tokens": 7, "completion_tokens": 9}, (7, 9), False),
    "counts with a point": ({"prompt_tokens": 7.0, "completion_tokens": 9.0}, (7, 9), False),
    "no counts": (None, (1, 25), True),
    "half of them": ({"prompt_tokens": 7}, (7, 25), True),
    "a count that would lock a tenant out": ({"prompt_tokens": 2**62, "completion_tokens": 9}, (1, 9), True),
    "a count below nothing": ({"prompt_tokens": 7, "completion_tokens": -9}, (7, 25), True),
    "counts that are none": ({"prompt_tokens": True, "completion_tokens": "9"}, (1, 25), True),
}


@pytest.mark.parametrize("name", TOLD)
async def test_what_a_server_does_not_count_is_estimated_and_marked(
    tmp_path: Path, keys: keyring.Keyring, clock: ManualClock, name: str
) -> None:
    told, tokens, estimated = TOLD[name]
    flood = runners.Flood(size=100, piece=10, usage=told)
    async with runners.serving(flood) as port_of:
        manifest, egress = runners.upstream(port_of)
        async with runners.runner(tmp_path, keys, clock, {"guide": manifest}, egress=egress) as runner:
            reader = runners.Reader(runner)
            task = reader.start(runners.run(stream=True, payload=codec.pack(builders.payload("hi"))))
            done = await reader.end()
            await task
            assert isinstance(done, Done) and (done.prompt_tokens, done.completion_tokens) == tokens
            (fields,) = runners.records(runner)
            assert (fields["prompt_tokens"], fields["completion_tokens"]) == tokens
            assert (fields["estimated"], fields["finish"]) == (estimated, "length")


async def test_a_request_from_the_cache_is_the_same_for_whoever_reads_it(
    tmp_path: Path, keys: keyring.Keyring, clock: ManualClock
) -> None:
    async with runners.runner(tmp_path, keys, clock, MODELS) as runner:
        found = {}
        for number, stream in enumerate((False, True, False, True)):
            reader = runners.Reader(runner)
            await reader.start(runners.run(f"req_{number}", stream=stream))
            (done,) = reader.ends
            assert isinstance(done, Done) and done.cached is (number > 0)
            (answer,) = tasks.read_result("generate", done.result).choices
            assert (answer.text, reader.text) == (("", "ok ok ok ") if stream else ("ok ok ok ", ""))
            found[number] = done.result
        assert found[0] == found[2] and found[1] == found[3]


def test_a_sentence_of_the_longest_characters_fits_its_frame() -> None:
    told = outcome.told(errors.Refused("😀" * 5000))
    failed = Failed(RequestId("r" * 128), "c" * 64, str(told.error)[:2000], False, 0.0)
    assert codec.decode(codec.encode(failed), Failed) == failed


def test_the_estimate_of_the_law_is_the_houses() -> None:
    assert usage.estimate(len("hello")) == HELLO
