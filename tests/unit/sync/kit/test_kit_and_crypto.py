"""The ground: files, tasks, keys, seals."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import pytest

from sync.crypto import digest, keyring, sealing, signing
from sync.kit import backoff, errors, files, ids
from sync.kit.clock import ManualClock, SystemClock
from sync.kit.metrics import Registry
from sync.kit.tasks import TaskGroup
from sync.wire import enrolment
from sync.wire.levels import Level


def test_a_file_is_replaced_whole_and_a_secret_one_is_private(tmp_path: Path) -> None:
    path = tmp_path / "file"
    files.write_atomically(path, b"one", mode=files.PRIVATE)
    files.write_atomically(path, b"two", mode=files.PRIVATE)
    assert files.read_private(path) == b"two"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]
    path.chmod(0o644)
    with pytest.raises(errors.Misconfigured, match="chmod 600"):
        files.read_private(path)


def test_what_cannot_be_written_is_said_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.Misconfigured, match="cannot be written"):
        files.make_private_folder(tmp_path / "file" / "folder")
    with pytest.raises(errors.Misconfigured, match="cannot be written"):
        files.write_atomically(tmp_path / "none" / "file", b"")
    with pytest.raises(errors.Misconfigured, match="cannot be read"):
        files.read_private(tmp_path / "none")


def test_a_keyring_is_made_once_and_a_damaged_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    first = keyring.load_or_create(path)
    assert keyring.load_or_create(path).signer.public_key == first.signer.public_key
    assert str(first.at_rest) not in repr(first)
    for damage in (b"{}", b"not json", b'{"sign": "!!", "seal": "", "rest": ""}'):
        files.write_atomically(path, damage, mode=files.PRIVATE)
        with pytest.raises(errors.Misconfigured, match="damaged"):
            keyring.load(path)


def test_a_signature_holds_for_its_purpose_alone() -> None:
    signer = signing.Signer(signing.new_seed())
    signature = signer.sign(signing.RECEIPT, b"data")
    signing.verify(signer.public_key, signing.RECEIPT, b"data", signature)
    for purpose, data in ((signing.BUNDLE, b"data"), (signing.RECEIPT, b"date")):
        with pytest.raises(signing.BadSignature):
            signing.verify(signer.public_key, purpose, data, signature)
    with pytest.raises(signing.BadSignature):
        signing.verify(signing.PublicKey(b"short"), signing.RECEIPT, b"data", signature)
    with pytest.raises(signing.BadSignature):
        signing.verify_note(signer.public_key, b"data", signature)


def test_seals_open_only_with_their_key_and_context() -> None:
    opener = sealing.Opener(sealing.new_private())
    sealed = sealing.seal_to(opener.public_key, b"secret", info=b"a")
    assert opener.open(sealed, info=b"a") == b"secret"
    box = sealing.Box(sealing.new_key())
    boxed = box.seal(b"secret", context=b"a")
    assert box.open(boxed, context=b"a") == b"secret"
    for attempt in (
        lambda: opener.open(sealed, info=b"b"), lambda: opener.open(b"short", info=b"a"), lambda: box.open(boxed, context=b"b"),
        lambda: box.open(boxed[:-1], context=b"a"), lambda: box.open(b"", context=b"a"), lambda: sealing.Box(sealing.new_key()).open(boxed, context=b"a"),
    ):  # fmt: skip
        with pytest.raises(sealing.CannotOpen):
            attempt()


def test_digests_are_separated_by_purpose_and_key() -> None:
    assert digest.of("a", b"x") != digest.of("b", b"x") != digest.sha256(b"x")
    assert digest.of("ab", b"c") != digest.of("a", b"bc")
    assert digest.keyed(b"k" * 32, "a", b"x") != digest.keyed(b"l" * 32, "a", b"x")
    assert sealing.derive(bytes(32), "a") != sealing.derive(bytes(32), "b")


def test_names_levels_and_ids() -> None:
    assert all(map(ids.is_name, ("a", "acme-bank", "x_1")))
    assert not any(map(ids.is_name, ("", "A", "a.b", "-a", "a-", "a b", "_hub", "a" * 64)))
    assert ids.request_id() < ids.request_id() or ids.request_id() != ids.request_id()
    assert Level.of(" Restricted ") is Level.RESTRICTED
    with pytest.raises(ValueError, match="public, internal"):
        Level.of("secret")


def test_waits_grow_to_their_bound_with_jitter() -> None:
    waits = list(itertools.islice(backoff.jittered(first_s=1, most_s=8), 50))
    assert 0.5 <= waits[0] <= 1
    assert all(4 <= wait <= 8 for wait in waits[4:])
    assert len(set(waits)) > 40


async def test_a_kept_task_that_fails_is_started_again_and_a_stop_is_bounded() -> None:
    tasks, runs, again = TaskGroup(), [], asyncio.Event()

    async def work() -> None:
        runs.append(1)
        if len(runs) == 1:
            raise ValueError("first")
        if len(runs) == 2:
            return
        again.set()
        await asyncio.Event().wait()

    tasks.keep("work", work)
    await asyncio.wait_for(again.wait(), 10)
    await tasks.stop(1)
    assert len(runs) == 3


async def test_a_task_that_does_not_stop_does_not_hold_up_the_rest() -> None:
    tasks, ended = TaskGroup(), asyncio.Event()

    async def stubborn() -> None:
        while not ended.is_set():
            try:
                await ended.wait()
            except asyncio.CancelledError:
                continue

    task = tasks.spawn("stubborn", stubborn())
    await asyncio.sleep(0)
    await tasks.stop(0.05)
    ended.set()
    await task


def test_clocks_and_metrics() -> None:
    clock = ManualClock()
    clock.advance(5)
    clock.jump_wall(-100)
    assert clock.monotonic() == 5 and clock.wall() == 1_700_000_000 - 95
    assert SystemClock().wall() > 1_700_000_000 and SystemClock().monotonic() > 0
    registry = Registry()
    registry.counter("a_total", "A.").inc()
    registry.gauge("b", "B.").set(2)
    registry.seconds("c_seconds", "C.").observe(1)
    assert b"a_total 1.0" in registry.exposition()


def test_an_admission_opens_only_at_the_agent_that_asked(tmp_path: Path) -> None:
    mine, other = keyring.load_or_create(tmp_path / "a"), keyring.load_or_create(tmp_path / "b")
    request = enrolment.Request("edge-1", mine.signer.public_key, mine.opener.public_key, b"csr")
    assert enrolment.read_request(enrolment.write_request(request)) == request
    assert len(request.fingerprint) == 29
    admission = enrolment.Admission(
        "edge-1", b"h" * 32, "tls://x", "https://secret", "site", "on_premise", "eu", ("acme",), b"c", b"t"
    )
    data = enrolment.seal_admission(admission, mine.opener.public_key)
    assert b"secret" not in data
    assert enrolment.open_admission(data, mine.opener) == admission
    for attempt in (
        lambda: enrolment.open_admission(data, other.opener), lambda: enrolment.open_admission(b"{}", mine.opener),
        lambda: enrolment.read_request(b"nonsense"), lambda: enrolment.read_request(data),
        lambda: enrolment.read_request(enrolment.write_request(enrolment.Request("x", b"short", b"short", b""))),
    ):  # fmt: skip
        with pytest.raises(enrolment.BadFile):
            attempt()
