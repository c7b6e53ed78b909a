"""The journal's half of two laws.

No byte of an answer before its record: what begins a request is on disk with a row that says so, and
what can never be written is refused alone, before anything is done for the request.

One request, one outcome: of all that try to record a request's outcome, at any moment and in any
life of the process, one succeeds; and each request that was begun gets one.

Mutations that turn these red:
- `OpenRequests.claim` without its look at `_ending`: two outcomes;
- `Journal._settle` that settles claims behind `await done` in `append`: a cancelled caller's request;
- `OpenRequests.settle` that forgets a request whose outcome was not written;
- `open_requests.note` left out, or in a transaction of its own (the crash points);
- `Journal.append` without its look at the size: the bad record takes 99 others with it;
- `open_requests.load` that keeps rows of expired records.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.audit import chain, kinds, rows
from sync.audit.journal import OUTCOME_ROOM, AuditUnavailable, Journal, Retained
from sync.audit.open_requests import MAX_ID, Claim, OpenRequests
from sync.audit.proving import Pinned
from sync.audit.unfinished import close_unfinished
from sync.crypto import keyring
from sync.kit import errors
from sync.kit.clock import ManualClock
from sync.kit.ids import AgentId, Epoch, TenantId
from sync.wire import codec

ME, T, EPOCH = AgentId("agent-1"), TenantId("t"), Epoch("e" * 16)
FULL = "create trigger full before insert on entries begin select raise(abort, 'disk is full'); end"


class Life:
    """A journal's file, and the process that has it open now."""

    def __init__(self, path: Path, keys: keyring.Keyring, clock: ManualClock) -> None:
        self.path = path
        self._keys = keys
        self._clock = clock
        self.journal = self.start()

    def start(self, anew: str | None = None) -> Journal:
        self.journal = Journal(self.path, ME, self._keys.signer, self._clock)
        self.journal.open(anew)
        return self.journal

    def again(self) -> Journal:
        """The journal in the process's next life."""
        self.journal.close()
        return self.start()

    async def begin(self, request: str, **fields: object) -> None:
        await self.journal.append(T, kinds.DECIDED, {"request": request, **fields}, opens=request)

    async def end(self, request: str, outcome: str = "answered") -> None:
        fields: dict[str, object] = {"request": request, "outcome": outcome}
        await self.journal.append(T, kinds.REQUEST, fields, closes=request)

    def outcomes(self) -> Counter[tuple[object, object]]:
        """How often the journal has each (request, outcome)."""
        entries = map(chain.decode, self.journal.read(0, 10_000))
        return Counter((e.fields["request"], e.fields["outcome"]) for e in entries if e.kind == kinds.REQUEST)

    def table(self) -> list[str]:
        with contextlib.closing(sqlite3.connect(self.path)) as database:
            return [row[0] for row in database.execute("select request from unfinished order by sequence")]

    @contextlib.contextmanager
    def full_disk(self) -> Iterator[None]:
        """The database takes no records, as on a full disk."""
        with contextlib.closing(sqlite3.connect(self.path)) as database:
            database.execute(FULL)
            database.commit()
            yield
            database.execute("drop trigger full")
            database.commit()

    def verify(self) -> chain.Position:
        return rows.verify(self.path, ME, self._keys.signer.public_key)


@pytest.fixture
def life(tmp_path: Path, keys: keyring.Keyring, clock: ManualClock) -> Iterator[Life]:
    made = Life(tmp_path / "journal.db", keys, clock)
    yield made
    made.journal.close()


def already() -> pytest.RaisesExc[errors.Refused]:
    return pytest.RaisesExc(errors.Refused, check=lambda error: error.code == "already_recorded")


# --- one outcome


async def test_of_many_that_record_an_outcome_at_once_one_succeeds(life: Life) -> None:
    await life.begin("r")
    tries = [life.end("r", f"outcome {n}") for n in range(20)]
    done = await asyncio.gather(*tries, return_exceptions=True)
    refused = [error for error in done if isinstance(error, errors.Refused)]
    assert len(refused) == 19 and {error.code for error in refused} == {"already_recorded"}
    assert life.outcomes() == {("r", "outcome 0"): 1}
    assert life.table() == []


async def test_an_outcome_of_what_is_not_open_is_refused_before_anything_is_queued(life: Life) -> None:
    before = life.journal.position
    with already():
        await life.end("never begun")
    await life.begin("r")
    await life.end("r")
    with already():
        await life.end("r")
    await life.journal.answer()
    assert life.journal.position.next == before.next + 2


async def test_a_request_that_is_open_is_not_begun_again(life: Life) -> None:
    await life.begin("r")
    with already():
        await life.begin("r")
    assert life.table() == ["r"]


async def test_a_caller_that_is_cancelled_has_its_record_and_nobody_records_another(life: Life) -> None:
    await life.begin("r")
    leaving = asyncio.ensure_future(life.end("r", "answered"))
    await asyncio.sleep(0)
    leaving.cancel()
    with already():
        await life.end("r", "cancelled")
    await life.journal.answer()
    with already():
        await life.end("r", "cancelled")
    assert life.outcomes() == {("r", "answered"): 1}


async def test_who_leaves_while_the_request_is_being_begun_has_one_outcome(life: Life) -> None:
    leaving = asyncio.ensure_future(life.begin("r"))
    await asyncio.sleep(0)
    leaving.cancel()
    await life.end("r", "cancelled")
    assert life.outcomes() == {("r", "cancelled"): 1} and life.table() == []
    assert life.again().unfinished() == []


async def test_an_outcome_that_was_not_written_may_be_recorded_by_another_append(life: Life) -> None:
    await life.begin("r")
    with life.full_disk():
        with pytest.raises(AuditUnavailable):
            await life.end("r", "answered")
        assert life.table() == ["r"]
    await life.end("r", "failed")
    assert life.outcomes() == {("r", "failed"): 1}
    with already():
        await life.end("r")


async def test_a_beginning_that_was_not_written_begins_nothing(life: Life) -> None:
    with life.full_disk(), pytest.raises(AuditUnavailable):
        await life.begin("r")
    with already():
        await life.end("r")
    await life.begin("r")
    assert life.table() == ["r"]


async def test_a_beginning_and_an_end_that_both_fail_leave_nothing(life: Life) -> None:
    with life.full_disk():
        done = await asyncio.gather(life.begin("r"), life.end("r"), return_exceptions=True)
        assert all(isinstance(error, AuditUnavailable) for error in done)
    await life.begin("r")
    await life.end("r")
    assert life.outcomes() == {("r", "answered"): 1}


@given(st.data())
def test_under_any_order_of_tries_failures_and_successes_a_request_ends_once(data: st.DataObject) -> None:
    requests, queued = OpenRequests(), list[Claim]()
    begun, ended = Counter[str](), Counter[str]()
    for _ in range(data.draw(st.integers(1, 40))):
        name = data.draw(st.sampled_from("ab"))
        begins, ends = data.draw(st.sampled_from([(name, ""), ("", name), ("", "")]))
        if begins or ends:
            with contextlib.suppress(errors.Refused):
                queued.append(requests.claim(begins, ends))
                begun[begins] += 1
        elif queued:
            claim, written = queued.pop(0), data.draw(st.booleans())
            requests.settle(claim, written=written)
            ended[claim.ends] += written
        in_flight = Counter(claim.ends for claim in queued)
        for each in "ab":
            assert in_flight[each] <= 1, "no two ends of one request are queued"
            assert ended[each] + in_flight[each] <= begun[each], "each end is of a beginning of its own"
            assert not (each in requests and in_flight[each])


# --- each that was begun gets one


async def test_what_a_former_life_left_open_is_known_to_the_next_the_oldest_first(life: Life) -> None:
    for request in ("one", "two", "three", "four"):
        await life.begin(request, level="internal")
    await life.end("two")
    assert life.journal.unfinished() == [], "what this life has at work is not unfinished"
    again = life.again()
    assert [entry.fields["request"] for entry in again.unfinished()] == ["one", "three", "four"]
    await life.end("three", "failed")
    assert [entry.fields["request"] for entry in again.unfinished()] == ["one", "four"]
    with already():
        await life.begin("one")


async def test_each_is_closed_as_interrupted_with_the_fields_of_its_beginning_and_once(life: Life) -> None:
    for number in range(250):
        await life.begin(f"r{number}", level="restricted", agent="f1", tries=1)
    await life.end("r7")
    life.again()
    assert await close_unfinished(life.journal) == 249
    assert await close_unfinished(life.journal) == 0
    life.again()
    assert await close_unfinished(life.journal) == 0 and life.table() == []
    assert set(life.outcomes().values()) == {1} and len(life.outcomes()) == 250
    last = chain.decode(life.journal.read(life.journal.position.next - 1, 1)[0])
    assert (last.tenant, last.kind) == (T, kinds.REQUEST)
    assert last.fields == {
        "request": "r249", "level": "restricted", "agent": "f1", "tries": 1,
        "outcome": "interrupted", "code": "interrupted",
    }  # fmt: skip
    life.verify()


async def test_where_the_disk_is_full_at_the_start_the_next_try_closes_what_is_left(life: Life) -> None:
    await life.begin("r")
    life.again()
    with life.full_disk(), pytest.raises(AuditUnavailable):
        await close_unfinished(life.journal)
    assert await close_unfinished(life.journal) == 1
    assert life.outcomes() == {("r", "interrupted"): 1}


async def test_a_beginning_in_a_sealed_segment_is_found(life: Life) -> None:
    await life.begin("r", level="internal")
    await life.journal.append(T, kinds.RUN, {})
    await life.journal.prove(3, [Pinned(T, "note")], b"seen")
    await life.journal.seal()
    (entry,) = life.again().unfinished()
    assert entry.sequence < life.journal.first and entry.fields["level"] == "internal"
    assert await close_unfinished(life.journal) == 1


@pytest.mark.parametrize("forgotten", [True, False])
async def test_a_beginning_whose_time_is_over_is_skipped_and_its_row_goes(life: Life, forgotten: bool) -> None:
    await life.begin("r")
    await life.journal.append(T, kinds.RUN, {})
    await life.journal.prove(3, [Pinned(T, "note")], b"seen")
    await life.journal.expire(lambda entry: forgotten or entry.kind == kinds.DECIDED)
    assert life.table() == ["r"]
    assert life.again().unfinished() == [] and life.table() == []
    assert await close_unfinished(life.journal) == 0


@pytest.mark.parametrize("reason", ["damaged", "restored"])
async def test_a_new_epoch_has_none(life: Life, reason: str) -> None:
    await life.begin("r")
    life.journal.close()
    assert life.start(reason).unfinished() == [] and life.table() == []


WRONG = {
    "a record of another request": "insert into unfinished values ('x', 2)",
    "a record that is not there": "insert into unfinished values ('x', 99)",
    "a number that is none": "insert into unfinished values ('x', 'y')",
    "a number below the first": "insert into unfinished values ('x', -5)",
}


@pytest.mark.parametrize("name", WRONG)
async def test_the_table_is_an_index_and_no_evidence(name: str, life: Life) -> None:
    await life.begin("r")
    await life.begin("s")
    await life.end("s")
    held = life.journal.position
    life.journal.close()
    with contextlib.closing(sqlite3.connect(life.path)) as database, database:
        database.execute(WRONG[name])
    assert life.verify() == held
    assert [entry.fields["request"] for entry in life.start().unfinished()] == ["r"]
    assert life.table() == ["r"]
    with contextlib.closing(sqlite3.connect(life.path)) as database, database:
        database.execute("drop table unfinished")
    assert life.verify() == held


async def test_a_journal_of_the_release_before_opens_and_gets_the_table(life: Life) -> None:
    await life.journal.append(T, kinds.REQUEST, {"request": "old"})
    epoch = life.journal.epoch
    life.journal.close()
    with contextlib.closing(sqlite3.connect(life.path)) as database, database:
        database.execute("drop table unfinished")
    again = life.start()
    assert (again.epoch, again.unfinished()) == (epoch, [])
    await life.begin("r")
    assert life.table() == ["r"]


# --- what cannot be written fails alone

BAD: dict[str, dict[str, object]] = {
    "too large": {"model": "x" * 70_000},
    "a value of no kind": {"model": object()},
    "text that is none": {"model": "\udc80"},
    "a number too large": {"model": 1 << 70},
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("opens", [True, False])
async def test_of_a_hundred_records_the_bad_one_fails_alone(name: str, opens: bool, life: Life) -> None:
    async def append(number: int) -> None:
        request = f"r{number}"
        fields = {"request": request, **(BAD[name] if number == 50 else {})}
        await life.journal.append(T, kinds.DECIDED, fields, opens=request if opens else "")

    done = await asyncio.gather(*map(append, range(100)), return_exceptions=True)
    (bad,) = [error for error in done if error is not None]
    assert done[50] is bad and isinstance(bad, AuditUnavailable)
    assert isinstance(bad, errors.Refused) and not isinstance(bad, errors.Retryable)
    assert bad.code == "record_refused"
    assert life.journal.position.next == 1 + 99
    life.verify()
    with already():
        await life.end("r50")


@pytest.mark.parametrize("name", ["\udc80", "x" * (MAX_ID + 1)])
async def test_an_id_that_the_table_cannot_have_is_refused_alone(name: str, life: Life) -> None:
    with pytest.raises(errors.Refused):
        await life.journal.append(T, kinds.DECIDED, {}, opens=name)
    await life.begin("r")
    assert life.table() == ["r"]


async def test_what_an_end_could_not_say_within_the_cap_is_not_begun(life: Life) -> None:
    room = chain.MAX_ENTRY - OUTCOME_ROOM
    least, most = 1, chain.MAX_ENTRY
    while most - least > 1:  # the longest field with which a request begins
        middle = (least + most) // 2
        try:
            await life.begin(f"r{middle}", model="x" * middle)
            least = middle
        except AuditUnavailable:
            most = middle
    assert room - 300 < least < room
    life.again()
    assert await close_unfinished(life.journal) > 0


async def test_a_cap_is_the_same_for_append_and_for_what_is_read(life: Life) -> None:
    sizes = itertools.count(chain.MAX_ENTRY - 400)
    with pytest.raises(AuditUnavailable):
        while True:
            await life.journal.append(T, kinds.RUN, {"x": "y" * next(sizes)})
    longest = max(map(len, life.journal.read(0, 1000)))
    assert chain.MAX_ENTRY - 32 - 16 < longest <= chain.MAX_ENTRY
    life.verify()


@given(
    st.text(max_size=40), st.integers(0, (1 << 63) - 1), st.floats(allow_nan=False), st.text(max_size=20),
    st.binary(min_size=32, max_size=32), st.sampled_from([b"", bytes(32)]),
    st.dictionaries(st.text(max_size=9), st.one_of(st.text(), st.integers(-9, 1 << 40), st.binary())),
)  # fmt: skip
def test_an_entry_out_of_parts_has_the_bytes_of_one_that_is_packed_at_once(
    tenant: str, number: int, at: float, kind: str, head: bytes, seen: bytes, fields: dict[str, object]
) -> None:
    with contextlib.suppress(UnicodeEncodeError):
        form = chain.forms(ME, EPOCH)(TenantId(tenant), kind)
        made = chain.make(TenantId(tenant), ME, EPOCH, number, at, 1.0, kind, head, seen, fields)
        parts = chain.assemble(form, number, chain.clocks(at, 1.0), head, codec.pack(seen), codec.pack(fields))
        assert parts == made
        assert len(made) <= form.size + len(codec.pack(fields))


async def test_contents_stand_beside_what_begins_a_request(life: Life) -> None:
    await life.journal.append(T, kinds.DECIDED, {"request": "r"}, Retained(b"", b"key"), opens="r")
    assert [content.key for content in life.journal.contents(0, 10)] == [b"key"]


async def test_a_copy_in_time_is_of_records_and_table_together(life: Life, tmp_path: Path) -> None:
    """A row is in the commit of its record: no copy of the files has one without the other."""
    for number in range(5):
        await life.begin(f"r{number}")
    life.journal.close()
    shutil.copy(life.path, tmp_path / "copy.db")
    with contextlib.closing(sqlite3.connect(tmp_path / "copy.db")) as database:
        listed = {number for (number,) in database.execute("select sequence from unfinished")}
        held = {number for (number,) in database.execute("select sequence from entries where sequence > 0")}
    assert listed == held
    life.start()
