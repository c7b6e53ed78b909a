"""The line to the hub: one owner of its state. Connects for ever, fetches bundles, sends the heartbeat."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from edge_agent.guard import Guard
from sync.bus.nats import NatsBus
from sync.bus.port import BusUnavailable, Incoming
from sync.kit import backoff, errors, logs
from sync.kit.ids import AgentId, SiteId
from sync.wire import codec, subjects
from sync.wire.messages import Beat

log = logs.get("link")
BEAT_S = 1.0
BUNDLE_POLL_S = 20.0
"""A notice of a new bundle may be lost: it is looked for this often too."""


class Link:
    """Keeps an agent in touch with its hub."""

    def __init__(self, bus: NatsBus, guard: Guard, me: AgentId, site: SiteId, beat: Callable[[], Beat]) -> None:
        self._bus = bus
        self._guard = guard
        self._me = me
        self._site = site
        self._beat = beat
        self._listening = False

    async def connect(self, listen: Callable[[], Awaitable[None]]) -> None:
        """Connects, however long it takes, then subscribes with `listen`. Raises Misconfigured where the login is refused."""
        pauses = backoff.jittered(first_s=0.2, most_s=5.0)
        while True:
            try:
                await self._bus.connect()
                break
            except BusUnavailable:
                await asyncio.sleep(next(pauses))
        await self._bus.subscribe(subjects.bundle(self._site), self._on_notice)
        await listen()
        self._listening = True
        await self.fetch_bundle()
        log.info("linked", agent=self._me)

    async def send_beats(self) -> None:
        """A heartbeat each second while connected and listening: whoever hears it may send work. Runs until cancelled."""
        while True:
            if self._bus.connected and self._listening:
                await self._bus.publish(subjects.beat(self._me), codec.encode(self._beat()))
            await asyncio.sleep(BEAT_S)

    async def watch_bundle(self) -> None:
        """Looks for a new bundle now and then. Runs until cancelled."""
        while True:
            if self._bus.connected:
                await self.fetch_bundle()
            await asyncio.sleep(BUNDLE_POLL_S if self._guard.current.serial else BEAT_S)

    async def fetch_bundle(self) -> None:
        """Takes the site's bundle from the bucket, where it is newer. What is wrong with it is reported, and the old one stays."""
        try:
            frame = await self._bus.get(subjects.BUNDLE_BUCKET, self._site)
            if frame is not None:
                self._guard.take(frame)
        except BusUnavailable as error:
            log.debug("bundle_not_fetched", detail=str(error))
        except errors.Corrupt as error:
            log.error("bundle_refused", code=error.code, detail=str(error))

    async def _on_notice(self, _: Incoming) -> None:
        await self.fetch_bundle()
