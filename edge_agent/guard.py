"""The agent's own check, and what it checks with: the last good bundle, in memory and on disk.

Invariants, each with a test of its words:
- a forged, damaged or older bundle is refused, and the last good one stays;
- the zone and region come from the bundle, never from the agent's own settings.
"""

from __future__ import annotations

from pathlib import Path

from sync.bundle import admit, snapshot
from sync.bundle.snapshot import Agent, Snapshot
from sync.crypto import sealing
from sync.crypto.signing import PublicKey
from sync.kit import errors, files, logs
from sync.kit.clock import Clock
from sync.kit.ids import AgentId
from sync.wire.messages import Ticket

log = logs.get("guard")
_CONTEXT = b"site-bundle"
CONTACT_EVERY_S = 60.0
"""How often the time of the last contact is written down."""


class Guard:
    """Holds the bundle, and every ticket against it."""

    def __init__(self, state: Path, me: AgentId, hub: PublicKey, at_rest: bytes, clock: Clock) -> None:
        self._me = me
        self._hub = hub
        self._box = sealing.Box(sealing.derive(at_rest, "site-bundle"))
        self._clock = clock
        self._path = state / "bundle"
        self._contact_path = state / "contact"
        self.current: Snapshot = snapshot.EMPTY
        self.contact = 0.0

    def load(self) -> None:
        """Takes up the last good bundle from disk. A damaged file is reported, and the hub's next one is awaited."""
        if self._contact_path.exists():
            self.contact = self._contact_path.stat().st_mtime
        if not self._path.exists():
            return
        try:
            frame = self._box.open(self._path.read_bytes(), context=_CONTEXT)
            self.current = snapshot.open_signed(frame, self._hub, newer_than=0)
        except errors.Corrupt as error:
            log.error("bundle_on_disk_unusable", detail=str(error))

    def take(self, frame: bytes) -> bool:
        """Keeps a bundle from the hub where it is newer; whether it was. Raises Corrupt where it is forged or damaged."""
        self.heard_hub()
        try:
            fresh = snapshot.open_signed(frame, self._hub, newer_than=self.current.serial)
        except errors.Corrupt as error:
            if error.code == "stale_bundle":
                return False
            raise
        files.write_atomically(self._path, self._box.seal(frame, context=_CONTEXT), mode=files.PRIVATE)
        self.current = fresh
        log.info("bundle_taken", serial=fresh.serial, tenants=len(fresh.tenants))
        return True

    def heard_hub(self) -> None:
        """Notes that the hub was heard now."""
        now = self._clock.wall()
        if now - self.contact > CONTACT_EVERY_S:
            self._contact_path.touch()
        self.contact = now

    def admit(self, ticket: Ticket) -> Agent:
        """This agent's record where the ticket holds here. Raises TicketRefused."""
        return admit.admit(self.current, self._me, ticket, now=self._clock.wall(), contact=self.contact)
