"""The journal on disk."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from sync.audit import chain, rows
from sync.audit.journal import AuditUnavailable, Journal
from sync.crypto import keyring
from sync.kit import errors
from sync.kit.clock import ManualClock
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
