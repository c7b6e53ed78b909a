"""From an edit to the bundles at the sites: compiled, signed, put into the bucket, and said so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from orchestrator.access.keys import KeyStore
from orchestrator.fleet.admission import AgentStore
from orchestrator.tenants import compiler, document
from orchestrator.tenants.port import ConfigurationStore
from sync.bundle import patch, snapshot
from sync.bundle.snapshot import Bundle, Snapshot
from sync.bus.port import Bus
from sync.crypto import signing
from sync.crypto.keyring import Keyring
from sync.kit import errors, logs
from sync.kit.clock import Clock
from sync.kit.ids import SiteId, TenantId
from sync.wire import codec, presence, subjects
from sync.wire.messages import BundleNotice

log = logs.get("publishing")
BEAT_S = 1.0


class Publisher:
    """Keeps `current` in step with the database, and the sites in step with `current`."""

    def __init__(
        self,
        *,
        configuration: ConfigurationStore,
        keys: KeyStore,
        agents: AgentStore,
        bus: Bus,
        signer: signing.Signer,
        clock: Clock,
        content_key: Callable[[TenantId], bytes],
        hub_key: bytes,
    ) -> None:
        self._configuration = configuration
        self._keys = keys
        self._agents = agents
        self._bus = bus
        self._signer = signer
        self._clock = clock
        self._content_key = content_key
        self._hub_key = hub_key
        self.current: Snapshot = snapshot.EMPTY
        self._published = 0
        self._sites: dict[SiteId, Bundle] = {}

    async def apply(self, text: str, by: str) -> int:
        """Checks, keeps and publishes a configuration; its serial. Raises BadDocument, and then keeps nothing."""
        document.parse(text, "the configuration")
        serial = await self._configuration.apply(text, at=self._clock.wall(), by=by)
        await self.refresh()
        return serial

    async def refresh(self) -> bool:
        """Compiles a new bundle where anything was edited, and publishes what is not; whether there was an edit."""
        serial = await self._configuration.serial()
        edited = serial > self.current.serial
        if edited:
            text = await self._configuration.document()
            if text is None:
                return False
            bundle = compiler.compile_bundle(
                document.parse(text, "the applied configuration"),
                serial=serial,
                issued=self._clock.wall(),
                keys=await self._keys.keys(),
                agents=[admitted.agent for admitted in await self._agents.agents()],
                content_key=self._content_key,
                hub_key=self._hub_key,
            )
            self.current = Snapshot(bundle)
            log.info("bundle_compiled", serial=serial, tenants=len(bundle.tenants), agents=len(bundle.agents))
        if self._published < self.current.serial and self._bus.connected:
            await self._publish(self.current)
        return edited

    async def send_beats(self) -> None:
        """Says each second that the hub is there, and which bundle is the newest. Runs until cancelled."""
        while True:
            if self._bus.connected:
                await self._bus.publish(subjects.HUB_BEAT, presence.make(self._clock.wall(), self._published, self._signer))
            await asyncio.sleep(BEAT_S)

    async def _publish(self, current: Snapshot) -> None:
        for site in current.sites:
            bundle = snapshot.for_site(current.bundle, site)
            frame = snapshot.sign(bundle, self._signer)
            before = self._sites.get(site)
            if before is not None and len(frame) > patch.WORTH_BYTES:
                signature = codec.decode(frame, snapshot.Signed).signature
                await self._bus.put(subjects.BUNDLE_BUCKET, subjects.patch(site), patch.make(before, bundle, signature))
            await self._bus.put(subjects.BUNDLE_BUCKET, site, frame)
            self._sites[site] = bundle
            await self._bus.publish(subjects.bundle(site), codec.encode(BundleNotice(site, current.serial)))
        self._published = current.serial


async def signed_bundle(
    configuration: ConfigurationStore, keys: KeyStore, agents: AgentStore, site: SiteId, hub: Keyring,
    content_key: Callable[[TenantId], bytes], now: float,
) -> bytes:  # fmt: skip
    """A site's signed bundle as the database has it now. Raises Misconfigured where there is no such site."""
    text = await configuration.document()
    if text is None:
        raise errors.Misconfigured("There is no configuration yet: begin with 'ringfence apply -f FILE'.", code="no_configuration")
    whole = compiler.compile_bundle(
        document.parse(text, "the applied configuration"), serial=await configuration.serial(), issued=now, keys=await keys.keys(),
        agents=[admitted.agent for admitted in await agents.agents()], content_key=content_key, hub_key=hub.opener.public_key,
    )  # fmt: skip
    if site not in {known.id for known in whole.sites}:
        known = ", ".join(known.id for known in whole.sites)
        raise errors.Misconfigured(f"There is no site '{site}': there are {known}.", code="no_site")
    return snapshot.sign(snapshot.for_site(whole, site), hub.signer)
