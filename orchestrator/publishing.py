"""From an edit to the bundles at the sites: compiled, signed, put into the bucket, and said so."""

from __future__ import annotations

from orchestrator.access.keys import KeyStore
from orchestrator.fleet.admission import AgentStore
from orchestrator.tenants import compiler, document
from orchestrator.tenants.port import ConfigurationStore
from sync.bundle import snapshot
from sync.bundle.snapshot import Snapshot
from sync.bus.port import Bus
from sync.crypto import signing
from sync.kit import logs
from sync.kit.clock import Clock
from sync.wire import codec, subjects
from sync.wire.messages import BundleNotice

log = logs.get("publishing")


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
    ) -> None:
        self._configuration = configuration
        self._keys = keys
        self._agents = agents
        self._bus = bus
        self._signer = signer
        self._clock = clock
        self.current: Snapshot = snapshot.EMPTY
        self._published = 0

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
            )
            self.current = Snapshot(bundle)
            log.info("bundle_compiled", serial=serial, tenants=len(bundle.tenants), agents=len(bundle.agents))
        if self._published < self.current.serial and self._bus.connected:
            await self._publish(self.current)
        return edited

    async def _publish(self, current: Snapshot) -> None:
        for site in current.sites:
            frame = snapshot.sign(snapshot.for_site(current.bundle, site), self._signer)
            await self._bus.put(subjects.BUNDLE_BUCKET, site, frame)
            await self._bus.publish(subjects.bundle(site), codec.encode(BundleNotice(site, current.serial)))
        self._published = current.serial
