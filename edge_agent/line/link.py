"""The line to the hub: the one owner of its state. Connects for ever, fetches bundles, sends the heartbeat.

On line means that the hub itself is heard, by what it signs each second, and not that some socket is open.

Invariants, each with a test of its words:
- a broker without a hub behind it is not on line;
- an edit is in force here as soon as the hub's beat or notice tells of it, and after each reconnection.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Protocol

from edge_agent.work.guard import Guard
from sync.bundle.patch import NotTheBase
from sync.bus.port import Bus, BusUnavailable, Incoming
from sync.kit import backoff, errors, logs
from sync.kit.clock import Clock
from sync.kit.faults import Fault
from sync.kit.ids import AgentId, SiteId
from sync.wire import codec, presence, subjects
from sync.wire.messages import Beat, Hello

log = logs.get("link")
DRAIN = "drain"
"""The file in the state folder that has the agent take no new work."""
BEAT_S = 1.0
BUNDLE_POLL_S = 20.0
"""Notices and beats may be lost: a new bundle is looked for this often too."""
SILENT_S = 5.0
"""Seconds without the hub's beat, which comes each second, after which the line counts as down."""
ASK_EVERY_S = 10.0
ANSWER_S = 2.0
SKEW_S = 60.0
"""A difference of the two clocks that is told."""


class Mode(StrEnum):
    """How the site stands to its hub."""

    ONLINE = "online"
    OFFLINE = "offline"
    REJOINING = "rejoining"
    """The hub is heard again, and what was missed is being fetched."""


class Line(Protocol):
    """The connection that a bus has to the broker."""

    async def connect(self) -> None:
        """Raises Misconfigured where the broker refuses this agent, BusUnavailable where it is not there."""
        ...

    async def over(self) -> None:
        """Returns when the broker has cut this agent off for good."""
        ...


class Link:
    """Keeps an agent in touch with its hub."""

    def __init__(
        self, bus: Bus, line: Line, guard: Guard, me: AgentId, site: SiteId, beat: Callable[[], Beat],
        clock: Clock, note: Callable[[Fault, str], None],
    ) -> None:  # fmt: skip
        self._bus = bus
        self._line = line
        self._guard = guard
        self._me = me
        self._site = site
        self._beat = beat
        self._clock = clock
        self._note = note
        self._listening = False
        self._heard = float("-inf")
        self._asked = float("-inf")
        self._skewed = False
        self._fetching = asyncio.Lock()
        self.mode = Mode.OFFLINE
        self.draining = False
        """Whether it takes no new work: then it sends no heartbeat, and the hub finds other places."""
        self.refused = ""
        """What the broker said when it refused this agent last, or empty."""
        self.since = clock.wall()
        """When the mode began, in seconds since 1970; after a start off line, when the hub was last heard."""

    def begin(self) -> None:
        """Takes up from the guard when the hub was last heard, before anything is connected."""
        if self._guard.contact:
            self.since = self._clock.wall() - self._guard.age_s()

    async def run(self, listen: Callable[[], Awaitable[None]]) -> None:
        """Connects, however long it takes, then subscribes with `listen`; again where the broker cut it off. Until cancelled."""
        while True:
            await self._connect()
            await self._bus.subscribe(subjects.HUB_BEAT, self._on_hub_beat)
            await self._bus.subscribe(subjects.bundle(self._site), self._on_notice)
            await listen()
            self._listening = True
            await self.fetch_bundle()
            log.info("linked", agent=self._me)
            await self._line.over()
            self._listening = False
            self._enter(Mode.OFFLINE)

    async def _connect(self) -> None:
        pauses = backoff.jittered(first_s=0.2, most_s=20.0)
        while True:
            try:
                await self._line.connect()
            except BusUnavailable:
                await asyncio.sleep(next(pauses))
            except errors.Misconfigured as error:
                # The site goes on meanwhile. A certificate that was renewed, or a lock that was lifted, lets it in again.
                if not self.refused:
                    log.error("line_refused", code=error.code, detail=str(error))
                self.refused = str(error)
                await asyncio.sleep(next(pauses))
            else:
                self.refused = ""
                return

    def line_changed(self, connected: bool) -> None:
        """What the bus says of its connection. A broken one is known at once; a new one proves nothing yet."""
        if not connected:
            self._enter(Mode.OFFLINE)

    async def watch(self) -> None:
        """Notices a hub that is silent though the line is up. Runs until cancelled."""
        while True:
            await asyncio.sleep(BEAT_S)
            if self.mode is not Mode.OFFLINE and self._clock.monotonic() - self._heard > SILENT_S:
                self._enter(Mode.OFFLINE)

    async def send_beats(self) -> None:
        """A heartbeat each second while connected and listening: whoever hears it may send work. Runs until cancelled."""
        while True:
            if self._bus.connected and self._listening and not self.draining:
                await self._bus.publish(subjects.beat(self._me), codec.encode(self._beat()))
            await asyncio.sleep(BEAT_S)

    async def watch_bundle(self) -> None:
        """Looks for a new bundle now and then. Runs until cancelled."""
        while True:
            if self._bus.connected:
                await self.fetch_bundle()
            await asyncio.sleep(BUNDLE_POLL_S if self._guard.current.serial else BEAT_S)

    async def fetch_bundle(self, patched: bool = False) -> None:
        """Takes the site's bundle from the bucket, where it is newer. What is wrong with it is reported, and the old one stays."""
        async with self._fetching:
            try:
                if patched and await self._fetch_patch():
                    return
                frame = await self._bus.get(subjects.BUNDLE_BUCKET, self._site)
                if frame is not None:
                    self._guard.take(frame)
            except BusUnavailable as error:
                log.debug("bundle_not_fetched", detail=str(error))
            except errors.Corrupt as error:
                log.error("bundle_refused", code=error.code, detail=str(error))

    async def _fetch_patch(self) -> bool:
        """Whether the bundle's patch was what was missing here."""
        frame = await self._bus.get(subjects.BUNDLE_BUCKET, subjects.patch(self._site))
        try:
            return frame is not None and self._guard.take_patch(frame)
        except (NotTheBase, errors.Corrupt) as error:
            log.debug("patch_not_taken", detail=str(error))
            return False

    async def _on_notice(self, _: Incoming) -> None:
        await self.fetch_bundle(patched=True)

    async def _on_hub_beat(self, incoming: Incoming) -> None:
        try:
            beat = presence.read(incoming.data, self._guard.hub)
        except errors.Corrupt as error:
            log.error("bad_hub_beat", detail=str(error))
            return
        if beat.time <= self._guard.contact:
            if beat.time < self._guard.contact - SKEW_S:
                await self._ask_hub()
            return
        self._heard = self._clock.monotonic()
        self._guard.heard_hub(beat.time)
        self._compare_clocks(beat.time)
        if self.mode is Mode.OFFLINE:
            self._enter(Mode.REJOINING)
            await self.fetch_bundle()
        elif beat.serial > self._guard.current.serial and not self._fetching.locked():
            await self.fetch_bundle(patched=True)
        if self.mode is Mode.REJOINING and self._listening:
            self._enter(Mode.ONLINE)

    async def _ask_hub(self) -> None:
        """Beats of an earlier time than was heard: old ones sent again, or the hub's clock was set back. The hub itself can say."""
        now = self._clock.monotonic()
        if now - self._asked < ASK_EVERY_S:
            return
        self._asked = now
        nonce = secrets.token_bytes(16)
        try:
            answer = await self._bus.request(subjects.proof(self._me), codec.encode(Hello(self._me, nonce)), timeout_s=ANSWER_S)
            told = presence.read_welcome(answer, nonce, self._guard.hub)
        except errors.RingfenceError as error:
            log.warning("hub_not_asked", code=error.code, detail=str(error))
            return
        self._note(Fault.CLOCK_JUMPED, f"the hub's clock went back by {self._guard.contact - told:.0f} s")
        self._guard.hub_clock_went_back(told)

    def _compare_clocks(self, hub: float) -> None:
        skew = self._clock.wall() - hub
        if abs(skew) > SKEW_S and not self._skewed:
            self._note(Fault.CLOCK_JUMPED, f"this machine's clock differs from the hub's by {skew:+.0f} s")
        self._skewed = abs(skew) > SKEW_S

    def _enter(self, mode: Mode) -> None:
        if mode is self.mode:
            return
        log.info("mode", was=self.mode.value, now=mode.value)
        self.mode, self.since = mode, self._clock.wall()
