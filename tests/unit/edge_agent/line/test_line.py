"""The line to the hub and the clocks at both its ends, over the bus in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edge_agent.line.link import Link, Mode
from edge_agent.work.guard import Guard
from sync.bundle import patch, snapshot
from sync.bus.memory import Exchange, MemoryBus
from sync.bus.port import Incoming
from sync.crypto import keyring, signing
from sync.kit.clock import ManualClock
from sync.kit.faults import Fault
from sync.kit.ids import AgentId, Epoch, SiteId
from sync.policy import admit
from sync.wire import codec, presence, subjects
from sync.wire.messages import Beat, BundleNotice, Hello
from tests.support import builders

ME, SITE = AgentId("onprem"), SiteId("frankfurt")
DAY_S = 86_400.0


class Line:
    """An agent's link, and a hub that says what the test has it say."""

    def __init__(self, folder: Path, keys: keyring.Keyring, clock: ManualClock) -> None:
        self.clock, self.hub_clock, self.keys = clock, ManualClock(clock.wall() + 1), keys
        self.faults: list[Fault] = []
        self.linked = asyncio.Event()
        exchange = Exchange()
        self.hub, self.bus = MemoryBus(exchange), MemoryBus(exchange)
        self.guard = Guard(folder, ME, SITE, keys.signer.public_key, keys.at_rest, clock, self._note)
        beat = Beat(
            agent=ME,
            boot="b",
            version="0",
            models=(),
            running=0,
            queued=0,
            capacity=1,
            latency_ms=0.0,
            bundle_serial=0,
            journal_epoch=Epoch("e"),
            journal_next=0,
            journal_receipted=0,
            journal_proved=0,
        )
        self.link = Link(self.bus, self, self.guard, ME, SITE, lambda: beat, clock, self._note)

    async def start(self) -> None:
        async def listen() -> None:
            """Takes no work."""

        await self.publish_bundle(1)
        self.running = asyncio.create_task(self.link.run(listen))
        await self.linked.wait()

    async def publish_bundle(self, serial: int) -> snapshot.Bundle:
        bundle = builders.bundle(serial=serial)
        await self.hub.put(subjects.BUNDLE_BUCKET, SITE, snapshot.sign(bundle, self.keys.signer))
        return bundle

    async def beat(self, serial: int = 1, signer: signing.Signer | None = None, at: float | None = None) -> None:
        frame = presence.make(self.hub_clock.wall() if at is None else at, serial, signer or self.keys.signer)
        await self.hub.publish(subjects.HUB_BEAT, frame)

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.hub_clock.advance(seconds)

    async def answer_hello(self) -> None:
        async def on(incoming: Incoming) -> None:
            asked = codec.decode(incoming.data, Hello)
            await incoming.respond(presence.welcome(asked.nonce, self.hub_clock.wall(), self.keys.signer))

        await self.hub.subscribe(subjects.proof(ME), on)

    async def connect(self) -> None:
        """The bus in memory is there from the start."""

    async def over(self) -> None:
        self.linked.set()
        await asyncio.Event().wait()

    def _note(self, fault: Fault, _: str) -> None:
        self.faults.append(fault)


@pytest.fixture
async def line(tmp_path: Path, keys: keyring.Keyring, clock: ManualClock) -> AsyncIterator[Line]:
    made = Line(tmp_path, keys, clock)
    await made.start()
    yield made
    made.running.cancel()


async def test_a_broker_without_a_hub_behind_it_is_not_on_line(line: Line) -> None:
    assert line.guard.current.serial == 1, "the bundle was there to be had"
    assert line.link.mode is Mode.OFFLINE
    await line.beat()
    assert line.link.mode is Mode.ONLINE
    line.link.line_changed(False)
    assert line.link.mode is Mode.OFFLINE


async def test_only_what_the_hub_has_signed_counts_as_heard(line: Line) -> None:
    await line.beat(signer=signing.Signer(bytes(32)))
    await line.hub.publish(subjects.HUB_BEAT, b"noise")
    assert line.link.mode is Mode.OFFLINE


async def test_an_edit_is_in_force_as_soon_as_the_hubs_beat_or_notice_tells_of_it(line: Line) -> None:
    await line.beat()
    await line.publish_bundle(2)
    line.pass_time(1)
    await line.beat(serial=2)
    assert line.guard.current.serial == 2
    await line.publish_bundle(3)
    await line.hub.publish(subjects.bundle(SITE), codec.encode(BundleNotice(SITE, 3)))
    assert line.guard.current.serial == 3


async def test_a_patch_that_is_not_for_what_is_here_leads_to_the_whole_bundle(line: Line) -> None:
    await line.beat()
    old = await line.publish_bundle(7)
    new = await line.publish_bundle(8)
    signature = codec.decode(snapshot.sign(new, line.keys.signer), snapshot.Signed).signature
    await line.hub.put(subjects.BUNDLE_BUCKET, subjects.patch(SITE), patch.make(old, new, signature))
    await line.hub.publish(subjects.bundle(SITE), b"")
    assert line.guard.current.serial == 8


async def test_old_beats_sent_again_do_not_make_a_hub(line: Line) -> None:
    await line.beat()
    recorded = line.hub_clock.wall()
    line.pass_time(3600)
    await line.beat()
    line.link.line_changed(False)
    for _ in range(5):
        line.pass_time(11)
        await line.beat(at=recorded)
    assert line.link.mode is Mode.OFFLINE and line.guard.age_s() == pytest.approx(55)


# --- clocks that jump by a day


async def test_a_hub_whose_clock_jumps_ahead_is_heard_and_told_of(line: Line) -> None:
    await line.beat()
    line.hub_clock.jump_wall(DAY_S)
    await line.beat()
    assert line.link.mode is Mode.ONLINE and line.faults == [Fault.CLOCK_JUMPED]


async def test_a_hub_whose_clock_is_set_back_is_asked_and_heard_again(line: Line) -> None:
    await line.beat()
    await line.answer_hello()
    line.hub_clock.jump_wall(-DAY_S)
    line.pass_time(60)
    await line.beat()
    assert Fault.CLOCK_JUMPED in line.faults
    line.pass_time(1)
    await line.beat()
    assert line.link.mode is Mode.ONLINE and line.guard.age_s() == 0


async def test_a_site_whose_clock_jumps_ahead_off_line_has_used_its_grace_and_is_well_when_the_hub_is_heard(line: Line) -> None:
    await line.beat()
    tenant = line.guard.current.bundle.tenants[0]
    assert not admit.is_stale(tenant, line.guard.age_s())
    line.clock.jump_wall(DAY_S)
    assert admit.is_stale(tenant, line.guard.age_s())
    line.hub_clock.advance(1)
    await line.beat()
    assert not admit.is_stale(tenant, line.guard.age_s()) and Fault.CLOCK_JUMPED in line.faults


async def test_setting_the_clock_back_gives_no_more_grace(line: Line, tmp_path: Path) -> None:
    await line.beat()
    line.pass_time(1000)
    line.clock.jump_wall(-DAY_S)
    assert line.guard.age_s() == pytest.approx(1000)
    line.guard.save_contact()
    again = Guard(tmp_path, ME, SITE, line.keys.signer.public_key, line.keys.at_rest, line.clock, lambda *_: None)
    again.load()
    assert again.age_s() >= 1000, "over a restart too"
