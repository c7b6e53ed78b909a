"""What is kept beside records and carried on sticks: contents, erasures, archives, parcels, patches; and hours."""

from __future__ import annotations

import io
import sys
from datetime import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.audit import contents, erasure
from sync.audit.ballast import Ballast
from sync.audit.journal import Retained
from sync.bundle import patch, snapshot
from sync.crypto import archive, keyring, sealing, signing
from sync.kit import errors, files, timetable
from sync.kit.faults import Fault, Faults, Noted, read
from sync.kit.ids import AgentId, Epoch, TenantId
from sync.kit.metrics import Registry
from sync.terminal import checkup
from sync.terminal.checkup import Line, State
from sync.wire import codec, parcels
from tests.support import builders

T = TenantId("acme")
HUB = signing.Signer(bytes(range(32)))
OTHER = signing.Signer(bytes(32))
PHRASE = archive.Passphrase("correct horse battery")
KEY_SERVICE = """
import sys
data = bytes.fromhex(sys.stdin.read())
print(bytes(b ^ 0x5A for b in data).hex())
"""


# --- contents


@given(st.text(max_size=200), st.text(max_size=200), st.text(max_size=50))
def test_contents_are_read_by_the_holder_of_the_tenants_key_alone(prompt: str, answer: str, subject: str) -> None:
    opener = sealing.Opener(bytes(range(32)))
    kept = contents.retain(T, opener.public_key, [prompt], answer, subject, whole=True)
    assert kept is not None
    opened = contents.open_(opener, T, kept)
    assert dict(opened.fields) == {"prompt": prompt, "answer": answer} and opened.subject == subject
    for wrong_opener, tenant in ((sealing.Opener(bytes(32)), T), (opener, TenantId("other"))):
        with pytest.raises(errors.RingfenceError):
            contents.open_(wrong_opener, tenant, kept)


def test_what_a_tenant_does_not_retain_is_not_there() -> None:
    opener = sealing.Opener(bytes(range(32)))
    assert contents.retain(T, b"", ["p"], "a", "jane", whole=True) is None
    assert contents.retain(T, opener.public_key, ["p"], "a", "", whole=False) is None
    subject_only = contents.retain(T, opener.public_key, ["p"], "a", "jane", whole=False)
    assert subject_only is not None and subject_only.sealed == b""
    assert contents.open_(opener, T, subject_only) == contents.Opened({}, "jane")


def test_long_contents_are_cut_and_say_so() -> None:
    opener = sealing.Opener(bytes(range(32)))
    kept = contents.retain(T, opener.public_key, ["é" * contents.MOST], "a", "", whole=True)
    assert kept is not None
    fields = contents.open_(opener, T, kept).fields
    assert fields["prompt_cut"] == 2 * contents.MOST and len(str(fields["prompt"])) <= contents.MOST // 2


def test_changed_contents_are_refused() -> None:
    opener = sealing.Opener(bytes(range(32)))
    kept = contents.retain(T, opener.public_key, ["p"], "a", "", whole=True)
    assert kept is not None
    flipped = Retained(kept.sealed[:-1] + bytes([kept.sealed[-1] ^ 1]), kept.key)
    for changed in (flipped, Retained(kept.sealed, kept.key[:-1]), Retained(kept.sealed, b"")):
        with pytest.raises(errors.Corrupt):
            contents.open_(opener, T, changed)


def test_an_erasure_is_ordered_by_the_hub_and_confirmed_by_the_agent() -> None:
    me = AgentId("agent-1")
    asked = erasure.order("era_1", me, Epoch("e"), [3, 4], HUB)
    erasure.check_order(asked, me, HUB.public_key)
    for wrong in (builders.replaced(asked, sequences=(3, 5)), builders.replaced(asked, epoch=Epoch("f"))):
        with pytest.raises(errors.Corrupt):
            erasure.check_order(wrong, me, HUB.public_key)
    with pytest.raises(errors.Corrupt):
        erasure.check_order(asked, AgentId("agent-2"), HUB.public_key)
    told = erasure.done("era_1", me, OTHER)
    erasure.check_done(told, "era_1", me, OTHER.public_key)
    for erasure_id, agent, key in (("era_2", me, OTHER), ("era_1", AgentId("x"), OTHER), ("era_1", me, HUB)):
        with pytest.raises(errors.Corrupt):
            erasure.check_done(told, erasure_id, agent, key.public_key)


# --- archives


def packed(data: bytes, wrapper: archive.Wrapper = PHRASE) -> bytes:
    file = io.BytesIO()
    writer = archive.Writer(file, wrapper)
    writer.write(data)
    writer.close()
    return file.getvalue()


SIZES = [0, 1, archive.CHUNK - 1, archive.CHUNK, archive.CHUNK + 1, 3 * archive.CHUNK]


@pytest.mark.parametrize("size", SIZES)
def test_an_archive_gives_back_what_was_put_in(size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    data = data[:size]
    assert archive.Reader(io.BytesIO(packed(data)), PHRASE).read() == data


DAMAGE = {
    "a flipped byte": lambda data: data[:-30] + bytes([data[-30] ^ 1]) + data[-29:],
    "cut in a chunk": lambda data: data[:-100],
    "cut between two chunks": lambda data: data[: -(archive.CHUNK + 16)],
    "a chunk that is missing": lambda data: data[: -2 * (archive.CHUNK + 16)] + data[-(archive.CHUNK + 16) :],
    "something appended": lambda data: data + b"x" * 40,
    "another file": lambda _: b"SQLite format 3\x00" * 10,
    "no header": lambda data: data[: len(archive.MAGIC) + 2],
    "a header of nonsense": lambda data: archive.MAGIC + (4).to_bytes(4, "big") + b"nope",
    "a header that never ends": lambda data: archive.MAGIC + b"\xff\xff\xff\xff" + data,
    "nothing": lambda _: b"",
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_archive_is_refused(name: str) -> None:
    damaged = DAMAGE[name](packed(bytes(3 * archive.CHUNK)))
    with pytest.raises(archive.Damaged):
        archive.Reader(io.BytesIO(damaged), PHRASE).read()


def test_another_passphrase_does_not_open_it() -> None:
    with pytest.raises(archive.CannotUnlock):
        archive.Reader(io.BytesIO(packed(b"x")), archive.Passphrase("another long phrase"))
    with pytest.raises(errors.Misconfigured, match="fewer than 12"):
        archive.Passphrase("short")


def test_a_key_service_keeps_the_key_where_one_is_named(tmp_path: Path) -> None:
    script = tmp_path / "kms.py"
    script.write_text(KEY_SERVICE)
    service = archive.KeyService([sys.executable, str(script)])
    data = packed(b"secret", service)
    assert archive.Reader(io.BytesIO(data), service).read() == b"secret"
    with pytest.raises(archive.CannotUnlock, match="key-service"):
        archive.Reader(io.BytesIO(data), PHRASE)
    broken = archive.KeyService([sys.executable, "-c", "raise SystemExit(1)"])
    with pytest.raises(archive.CannotUnlock, match="failed"):
        archive.Reader(io.BytesIO(data), broken)


# --- parcels


def test_a_parcel_gives_back_its_frames_and_a_damaged_one_none(tmp_path: Path) -> None:
    path = tmp_path / "p.parcel"
    frames = [b"one", b"x" * 100_000, b"three"]
    parcels.write(path, frames)
    whole = path.read_bytes()
    assert list(parcels.read(path)) == frames
    for name, data in {
        "cut": whole[:-1], "cut in a length": whole[: len(parcels.MAGIC) + 2], "another file": b"PK\x03\x04" + whole, "empty": b"",
        "a length beyond the cap": parcels.MAGIC + b"\xff\xff\xff\xff" + whole,
    }.items():  # fmt: skip
        path.write_bytes(data)
        with pytest.raises(parcels.BadParcel):
            list(parcels.read(path))
        assert name
    with pytest.raises(parcels.BadParcel, match="cannot be read"):
        list(parcels.read(tmp_path / "nowhere"))


# --- patches


def signed(bundle: snapshot.Bundle) -> tuple[bytes, bytes]:
    frame = snapshot.sign(bundle, HUB)
    return frame, codec.decode(frame, snapshot.Signed).signature


CHANGES = {
    "nothing but the serial": lambda bundle: bundle,
    "a tenant changed": lambda bundle: builders.replaced(
        bundle, tenants=(builders.replaced(bundle.tenants[0], name="New"), *bundle.tenants[1:])
    ),
    "a tenant gone": lambda bundle: builders.replaced(bundle, tenants=bundle.tenants[1:]),
    "a tenant more": lambda bundle: builders.replaced(bundle, tenants=(builders.tenant("zeta"), *bundle.tenants)),
    "keys gone": lambda bundle: builders.replaced(bundle, keys=()),
    "another order": lambda bundle: builders.replaced(bundle, agents=bundle.agents[::-1]),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_patch_makes_the_very_bytes_that_the_hub_has_signed(name: str) -> None:
    old = builders.bundle(serial=4)
    new = builders.replaced(CHANGES[name](old), serial=5)
    (before, _), (after, signature) = signed(old), signed(new)
    assert patch.apply(before, patch.make(old, new, signature)) == after


def test_a_patch_for_another_base_or_of_nonsense_is_refused() -> None:
    old, new = builders.bundle(serial=4), builders.bundle(serial=5)
    signature = signed(new)[1]
    with pytest.raises(patch.NotTheBase):
        patch.apply(signed(builders.bundle(serial=3))[0], patch.make(old, new, signature))
    frame = codec.decode(patch.make(old, builders.replaced(new, keys=()), signature), patch.Patch)
    for part in (patch.Part("secrets", (), ()), patch.Part("keys", ("nobody",), ())):
        with pytest.raises(errors.Corrupt):
            patch.apply(signed(old)[0], codec.encode(builders.replaced(frame, parts=(part,))))
    forged = patch.apply(signed(old)[0], patch.make(old, new, bytes(64)))
    with pytest.raises(errors.Corrupt):
        snapshot.open_signed(forged, HUB.public_key, newer_than=4)


# --- hours, the ballast, the doctor's lines, faults


@pytest.mark.parametrize(
    ("text", "now", "inside"),
    [
        ("22:00-06:00", time(23), True), ("22:00-06:00", time(5, 59), True), ("22:00-06:00", time(6), False),
        ("08:00-18:00", time(8), True), ("08:00-18:00", time(18), False), ("08:00-18:00", time(3), False),
    ],
)  # fmt: skip
def test_hours_may_go_over_midnight(text: str, now: time, inside: bool) -> None:
    assert timetable.is_within(now, *timetable.read_hours(text)) is inside


@pytest.mark.parametrize("text", ["", "22-06", "24:00-06:00", "22:60-06:00", "22:00-06:00 ", "٢٢:00-06:00"])
def test_what_is_no_span_of_hours_is_refused(text: str) -> None:
    with pytest.raises(errors.Misconfigured, match=r"22:00-06:00"):
        timetable.read_hours(text)


async def test_a_timetable_runs_what_is_due_and_outlives_its_failure() -> None:
    import asyncio

    ran = asyncio.Event()
    calls = 0

    async def work() -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise errors.Refused("not yet")
        if calls == 2:
            raise ValueError("worse")
        ran.set()

    hours: list[bool] = []
    made = timetable.Timetable()
    made.every(0.01, "work", work)
    made.within("00:00-23:59", hours.append)
    made.start()
    await asyncio.wait_for(ran.wait(), 10)
    made.stop()
    assert calls >= 3 and len(hours) == 1


def test_a_ballast_takes_its_room_and_gives_it_up_once(tmp_path: Path) -> None:
    ballast = Ballast(tmp_path / "ballast", size=10_000)
    ballast.load()
    ballast.load()
    assert (tmp_path / "ballast").stat().st_size == 10_000
    assert ballast.drop() and not ballast.drop()


def test_the_doctors_lines_say_what_to_do_and_fail_where_one_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def fails() -> Line:
        raise errors.Misconfigured("The thing is broken.")

    disk = list(checkup.disk(tmp_path))
    assert {line.what for line in disk} == {"disk space", "durable write"}
    noted = {"journal_full": Noted(3, 1000.0, "at the cap"), "of_a_later_version": Noted(1, 1000.0, "")}
    lines = [*disk, checkup.guarded("thing", fails, "mend it"), *checkup.faults(noted.items(), 2000.0)]
    assert checkup.show(lines, as_json=False) == 1
    shown = capsys.readouterr().out
    assert "mend it" in shown and "nothing is served until records can leave" in shown.replace("\n", " ")
    assert checkup.show(disk, as_json=True) == 0
    assert next(iter(checkup.faults((), 0.0))).state is State.PASS
    old = next(iter(checkup.faults({"journal_full": Noted(1, 0.0, "")}.items(), 30 * 86_400.0)))
    assert old.state is State.PASS, "what was long ago is told, and no longer counts"


def test_faults_are_counted_and_outlive_the_process(tmp_path: Path, keys: keyring.Keyring, clock) -> None:
    path, registry = tmp_path / "faults.json", Registry()
    faults = Faults(path, registry, clock)
    faults.note(Fault.DISK_FULL, "first")
    faults.note(Fault.DISK_FULL, "second")
    faults.flush()
    assert read(path)["disk_full"] == Noted(2, clock.wall(), "second")
    assert 'ringfence_faults_total{fault="disk_full"} 2.0' in registry.exposition().decode()
    again = Faults(path, Registry(), clock)
    again.note(Fault.DISK_FULL, "third")
    again.flush()
    assert read(path)["disk_full"].count == 3
    files.write_atomically(path, b"no json")
    assert read(path) == {}
