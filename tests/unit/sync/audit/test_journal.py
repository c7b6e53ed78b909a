"""The journal on disk."""

from __future__ import annotations

import asyncio
import random
import shutil
import sqlite3
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from sync.audit import chain, rows
from sync.audit.journal import AuditUnavailable, Journal, Retained
from sync.audit.proving import Pinned
from sync.crypto import keyring
from sync.kit import errors
from sync.kit.clock import ManualClock
from sync.kit.faults import Fault
from sync.kit.ids import AgentId, TenantId

ME, T = AgentId("agent-1"), TenantId("t")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def opened(path: Path, keys: keyring.Keyring, clock: ManualClock) -> Iterator[Journal]:
    made = Journal(path, ME, keys.signer, clock)
    made.open()
    yield made
    made.close()


def reopen(path: Path, keys: keyring.Keyring, clock: ManualClock) -> Journal:
    again = Journal(path, ME, keys.signer, clock)
    again.open()
    return again


async def fill(opened: Journal, count: int) -> None:
    await asyncio.gather(*(opened.append(T, "run", {"n": n}) for n in range(count)))


async def test_records_are_chained_in_the_order_in_which_they_came(opened: Journal, path: Path, keys: keyring.Keyring) -> None:
    written = [await opened.append(T, "run", {"n": n}) for n in range(5)]
    assert [w.sequence for w in written] == [1, 2, 3, 4, 5]  # 0 is the start of the epoch
    assert chain.link(opened.read(5, 1)[0]) == written[-1].link
    opened.close()
    assert rows.verify(path, ME, keys.signer.public_key).next == 6


async def test_many_at_once_share_commits_and_lose_nothing(opened: Journal, path: Path, keys: keyring.Keyring) -> None:
    await fill(opened, 500)
    opened.close()
    assert rows.verify(path, ME, keys.signer.public_key).next == 501


async def test_whoever_reads_while_it_grows_gets_what_he_asked_for(opened: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a reader in another thread would sign the wrong records, and the hub would call that a fork."""
    looked: list[list[int]] = []
    readers: list[threading.Thread] = []

    class Newest(deque[bytes]):
        def extend(self, entries: Iterable[bytes]) -> None:
            super().extend(entries)
            # In another thread, as the one that sends records on: the position is not yet what the records say.
            readers.append(threading.Thread(target=look))
            readers[-1].start()
            readers[-1].join(timeout=0.05)

    def look() -> None:
        looked.append([chain.decode(entry).sequence for entry in opened.read(1, 1)])

    monkeypatch.setattr(opened, "_recent", Newest(opened._recent, maxlen=8))
    for n in range(12):
        await opened.append(T, "run", {"n": n})
    for reader in readers:
        reader.join()
    assert looked == [[1]] * 12


async def test_a_reopened_journal_goes_on_where_it_stood(
    opened: Journal, path: Path, keys: keyring.Keyring, clock: ManualClock
) -> None:
    await fill(opened, 3)
    opened.close()
    again = reopen(path, keys, clock)
    assert (again.epoch, again.position) == (opened.epoch, opened.position)
    await again.append(T, "run", {})
    again.close()
    assert rows.verify(path, ME, keys.signer.public_key).next == 5


@pytest.mark.parametrize("number", [0, 3, 10])
async def test_invariant_5_a_flipped_byte_is_found_and_named(
    opened: Journal, path: Path, keys: keyring.Keyring, number: int
) -> None:
    await fill(opened, 10)
    opened.close()
    database = sqlite3.connect(path)
    (entry,) = database.execute("select entry from entries where sequence = ?", (number,)).fetchone()
    flipped = bytearray(entry)
    flipped[-1] ^= 1
    with database:
        database.execute("update entries set entry = ? where sequence = ?", (bytes(flipped), number))
    database.close()
    with pytest.raises(chain.Broken, match=f"record ({number}|{number + 1}) of agent-1"):
        rows.verify(path, ME, keys.signer.public_key)


TAMPERED = {
    "a record removed": "delete from entries where sequence = 4",
    "the last record removed": "delete from entries where sequence = 10",
    "two records swapped": "update entries set sequence = case sequence when 4 then -5 else -4 end where sequence in (4, 5)",
    "the head forged": "update meta set value = zeroblob(100) where name = 'head'",
    "the head removed": "delete from meta where name = 'head'",
}


@pytest.mark.parametrize("name", TAMPERED)
async def test_invariant_5_tampering_shows(name: str, opened: Journal, path: Path, keys: keyring.Keyring) -> None:
    await fill(opened, 10)
    opened.close()
    database = sqlite3.connect(path)
    with database:
        database.execute(TAMPERED[name])
    database.close()
    with pytest.raises(errors.Corrupt):
        rows.verify(path, ME, keys.signer.public_key)


async def test_a_damaged_database_is_kept_aside_and_a_new_epoch_names_it(
    opened: Journal, path: Path, keys: keyring.Keyring, clock: ManualClock
) -> None:
    await fill(opened, 5)
    opened.close()
    database = sqlite3.connect(path)
    with database:
        database.execute("delete from entries where sequence = 2")
    database.close()
    again = reopen(path, keys, clock)
    first = chain.decode(again.read(0, 1)[0])
    assert again.epoch != opened.epoch
    assert first.fields["reason"] == "damaged"
    assert (path.parent / str(first.fields["kept_as"])).exists()
    again.close()


async def test_a_file_that_is_no_database_is_kept_aside_too(path: Path, keys: keyring.Keyring, clock: ManualClock) -> None:
    path.write_bytes(b"not a database at all" * 100)
    again = reopen(path, keys, clock)
    assert chain.decode(again.read(0, 1)[0]).fields["reason"] == "damaged"
    again.close()


async def test_a_restored_copy_starts_a_new_epoch(
    opened: Journal, path: Path, keys: keyring.Keyring, clock: ManualClock, tmp_path: Path
) -> None:
    await fill(opened, 5)
    opened.close()
    shutil.copy(path, tmp_path / "copy.db")
    again = reopen(path, keys, clock)
    await fill(again, 5)
    await again.receipted(9)  # the hub has receipted more than the copy knows
    again.close()
    shutil.copy(tmp_path / "copy.db", path)
    restored = reopen(path, keys, clock)
    assert restored.epoch != opened.epoch
    assert chain.decode(restored.read(0, 1)[0]).fields["reason"] == "restored"
    restored.close()


async def test_invariant_3_a_failed_commit_fails_its_appends_and_leaves_the_chain_as_it_was(
    opened: Journal, path: Path, keys: keyring.Keyring
) -> None:
    await fill(opened, 3)
    before = opened.position
    other = sqlite3.connect(path)
    other.execute("create trigger full before insert on entries begin select raise(abort, 'database or disk is full'); end")
    other.commit()
    with pytest.raises(AuditUnavailable):
        await opened.append(T, "run", {})
    assert opened.position == before
    other.execute("drop trigger full")
    other.commit()
    other.close()
    assert (await opened.append(T, "run", {})).sequence == before.next
    opened.close()
    assert rows.verify(path, ME, keys.signer.public_key).next == 5


async def test_an_oversized_record_is_refused_and_the_chain_goes_on(opened: Journal) -> None:
    with pytest.raises(AuditUnavailable):
        await opened.append(T, "run", {"x": "y" * 70_000})
    assert (await opened.append(T, "run", {})).sequence == 1


def test_a_folder_that_cannot_be_written_is_said_so(keys: keyring.Keyring, clock: ManualClock, tmp_path: Path) -> None:
    with pytest.raises(errors.Misconfigured, match="cannot be opened"):
        Journal(tmp_path / "no" / "such" / "journal.db", ME, keys.signer, clock).open()


def test_a_journal_that_is_not_there_does_not_verify(keys: keyring.Keyring, tmp_path: Path) -> None:
    with pytest.raises(chain.Broken):
        rows.verify(tmp_path / "none.db", ME, keys.signer.public_key)


# --- sealing, forgetting, the cap


def pins_for() -> list[Pinned]:
    return [Pinned(T, "a note")]


async def test_sealing_keeps_the_rest_verifiable_and_gives_the_space_back(
    opened: Journal, path: Path, keys: keyring.Keyring, clock: ManualClock
) -> None:
    await fill(opened, 3000)
    opened.close()
    before = path.stat().st_size
    again = reopen(path, keys, clock)
    first = again.read(0, 100)
    await again.prove(2000, pins_for(), b"seen")
    await again.prove(1000, pins_for(), b"older")  # going back changes nothing
    assert (again.proved, again.first) == (2000, 2000)
    assert again.read(0, 100) == first
    assert len(again.read(1990, 100)) == 10 and len(again.read(2000, 100)) == 100
    again.close()
    assert path.stat().st_size < before
    assert rows.verify(path, ME, keys.signer.public_key).next == 3001
    last = reopen(path, keys, clock)
    assert (last.epoch, last.proved, last.pins[T].note) == (again.epoch, 2000, "a note")
    last.close()


async def test_few_proved_records_stay_in_the_database_until_they_are_sealed(opened: Journal) -> None:
    await fill(opened, 50)
    await opened.prove(40, pins_for(), b"")
    assert (opened.proved, opened.first) == (40, 0)
    await opened.seal()
    assert opened.first == 40


async def test_records_whose_time_is_over_leave_a_hash_and_then_a_tombstone(
    opened: Journal, path: Path, keys: keyring.Keyring, clock: ManualClock
) -> None:
    await fill(opened, 30)
    await opened.prove(20, pins_for(), b"")
    assert await opened.expire(lambda entry: entry.sequence in (3, 4)) == 2
    opened.close()
    opened = reopen(path, keys, clock)
    assert opened.read(0, 100) == opened.read(0, 3) and len(opened.read(5, 100)) == 15
    assert await opened.expire(lambda entry: True) == 18
    assert opened.read(0, 100) == []
    assert list(path.parent.glob("*.sealed/*.seg")) == []
    opened.close()
    assert rows.verify(path, ME, keys.signer.public_key).next == 31
    again = reopen(path, keys, clock)
    assert again.epoch == opened.epoch
    again.close()
    database = sqlite3.connect(path)
    with database:
        database.execute("delete from meta where name = 'base'")
    database.close()
    with pytest.raises(chain.Broken):
        rows.verify(path, ME, keys.signer.public_key)


async def test_invariant_5_a_sealed_segment_that_is_changed_or_removed_is_found(
    opened: Journal, path: Path, keys: keyring.Keyring
) -> None:
    await fill(opened, 30)
    await opened.prove(20, pins_for(), b"")
    await opened.seal()
    opened.close()
    (segment,) = path.parent.glob("*.sealed/*.seg")
    good = segment.read_bytes()
    for at in range(0, len(good), 7):
        bad = bytearray(good)
        bad[at] ^= 1
        segment.write_bytes(bytes(bad))
        with pytest.raises(errors.Corrupt):
            rows.verify(path, ME, keys.signer.public_key)
    segment.unlink()
    with pytest.raises(chain.Broken, match="record 0 of agent-1"):
        rows.verify(path, ME, keys.signer.public_key)


async def test_at_its_cap_it_gives_up_what_the_hub_holds_and_then_refuses(
    path: Path, keys: keyring.Keyring, clock: ManualClock
) -> None:
    noted: list[tuple[Fault, str]] = []
    capped = Journal(path, ME, keys.signer, clock, cap_bytes=1 << 20, on_fault=lambda fault, detail: noted.append((fault, detail)))
    capped.open()
    body = {"x": "".join(random.Random(1).choices("abcdefghijklmnop", k=20_000))}
    with pytest.raises(AuditUnavailable, match="at its cap"):
        for _ in range(100):
            await capped.append(T, "run", body)
    assert [fault for fault, _ in noted] == [Fault.JOURNAL_NEARLY_FULL, Fault.JOURNAL_NEARLY_FULL, Fault.JOURNAL_FULL]
    assert capped.full
    with pytest.raises(AuditUnavailable):
        capped.check()
    held = capped.position.next
    assert rows.verify(path, ME, keys.signer.public_key).next == held
    await capped.prove(held - 5, pins_for(), b"")
    for _ in range(20):
        await capped.append(T, "run", body)
    capped.close()
    assert rows.verify(path, ME, keys.signer.public_key).next == held + 20
    assert capped.read(held - 5, 1), "what the hub lacks is still here"


async def test_contents_lie_beside_the_record_and_can_be_destroyed(opened: Journal, path: Path) -> None:
    secret = b"this is sealed, and to be found nowhere"
    for number in range(3):
        await opened.append(T, "request", {"n": number}, Retained(secret + b"%d" % number, b"key %d" % number))
    assert [content.sequence for content in opened.contents(0, 100)] == [1, 2, 3]
    await opened.erase([2])
    assert [content.sequence for content in opened.contents(0, 100)] == [1, 3]
    opened.close()
    left = b"".join(file.read_bytes() for file in path.parent.glob("journal.db*") if file.is_file())
    assert secret + b"1" not in left and secret + b"0" in left


async def test_contents_that_the_hub_holds_are_let_go_after_a_day(opened: Journal, clock: ManualClock) -> None:
    for _ in range(4):
        await opened.append(T, "request", {}, Retained(b"sealed", b"key"))
    await opened.prove(3, pins_for(), b"")
    assert await opened.expire(lambda entry: False) == 0
    assert len(opened.contents(0, 100)) == 4
    clock.advance(25 * 3600)
    await opened.expire(lambda entry: False)
    assert [content.sequence for content in opened.contents(0, 100)] == [3, 4]
