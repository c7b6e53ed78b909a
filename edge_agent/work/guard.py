"""The agent's own check, and what it checks with: the last good bundle, in memory and on disk.

Invariants, each with a test of its words:
- a forged, damaged, foreign or older bundle is refused, and the last good one stays;
- the zone and region come from the bundle, never from the agent's own settings;
- the hub counts as heard only by what it has signed at a later time than anything before;
- setting the clock back gives no more grace.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from edge_agent.work.hub_clock import HubClock
from sync.bundle import patch, snapshot
from sync.bundle.snapshot import Agent, Snapshot
from sync.crypto import sealing
from sync.crypto.signing import PublicKey
from sync.kit import crashpoints, errors, files, logs
from sync.kit.clock import Clock
from sync.kit.faults import Fault
from sync.kit.ids import AgentId, SiteId
from sync.policy import admit
from sync.wire.messages import Ticket

log = logs.get("guard")
_CONTEXT = b"site-bundle"
CONTACT_EVERY_S = 60.0
"""How often the time of the last contact is written down."""


class Guard:
    """Holds the bundle, and every ticket against it."""

    def __init__(
        self, state: Path, me: AgentId, site: SiteId, hub: PublicKey, at_rest: bytes, clock: Clock,
        note: Callable[[Fault, str], None],
    ) -> None:  # fmt: skip
        self._me = me
        self._site = site
        self.hub = hub
        self._box = sealing.Box(sealing.derive(at_rest, "site-bundle"))
        self._clock = clock
        self._note = note
        self._path = state / "bundle"
        self._contact_path = state / "contact.json"
        self._frame = b""
        self.current: Snapshot = snapshot.EMPTY
        self.contact = 0.0
        """The hub's own time of what it signed last, in seconds since 1970."""
        self._heard_wall = 0.0
        self._heard_monotonic = clock.monotonic()
        self._age_then = 0.0
        self._written_at = float("-inf")
        self._hub_clock = HubClock()

    def load(self) -> None:
        """Takes up the last good bundle from disk. A damaged file is reported, and the hub's next one is awaited."""
        self._load_contact()
        if not self._path.exists():
            return
        try:
            frame = self._box.open(self._path.read_bytes(), context=_CONTEXT)
            self.current = snapshot.open_signed(frame, self.hub, newer_than=0)
            self._frame = frame
        except errors.Corrupt as error:
            self._note(Fault.BUNDLE_REFUSED, f"the bundle on disk: {error}")

    def take(self, frame: bytes) -> bool:
        """Keeps a bundle from the hub where it is newer; whether it was. Raises Corrupt where it is forged, damaged or foreign."""
        try:
            fresh = snapshot.open_signed(frame, self.hub, newer_than=self.current.serial)
            if fresh.bundle.site not in ("", self._site):
                raise errors.Corrupt(f"A bundle of the site '{fresh.bundle.site}' came.", code="foreign_bundle")
        except errors.Corrupt as error:
            if error.code != "stale_bundle":
                self._note(Fault.BUNDLE_REFUSED, str(error))
                raise
            if snapshot.serial_of(frame, self.hub) < self.current.serial:
                self._note(Fault.BUNDLE_OLD, str(error))
            return False
        crashpoints.reach("bundle.verified")
        files.write_atomically(self._path, self._box.seal(frame, context=_CONTEXT), mode=files.PRIVATE)
        crashpoints.reach("bundle.written")
        self.current, self._frame = fresh, frame
        self._issued(fresh.bundle.issued)
        log.info("bundle_taken", serial=fresh.serial, tenants=len(fresh.tenants))
        return True

    def take_patch(self, frame: bytes) -> bool:
        """Keeps the bundle that a patch makes of the one in force; whether it did. Raises Corrupt."""
        return self.take(patch.apply(self._frame, frame)) if self._frame else False

    def heard_hub(self, at: float) -> None:
        """Notes that the hub has signed something at this time of its own. What is not newer was heard before."""
        if at <= self.contact:
            return
        self.contact = at
        self._heard_wall, self._heard_monotonic, self._age_then = self._clock.wall(), self._clock.monotonic(), 0.0
        self._hub_clock.heard(at, self._heard_monotonic)
        if self._heard_monotonic - self._written_at >= CONTACT_EVERY_S:
            self.save_contact()

    def hub_clock_went_back(self, at: float) -> None:
        """Takes a time of the hub's that is earlier than one before: it has answered just now, so it is its clock that changed."""
        self.contact = 0.0
        self._hub_clock = HubClock()
        self.heard_hub(at)

    def hub_now(self) -> float | None:
        """Return what the hub's clock says now, in seconds since 1970, or None where it was not heard lately."""
        return self._hub_clock.now(self._clock.monotonic())

    def age_s(self) -> float:
        """Seconds since the hub was heard, by whichever of the clocks says more."""
        by_wall = self._clock.wall() - self._heard_wall
        by_monotonic = self._age_then + self._clock.monotonic() - self._heard_monotonic
        return max(by_wall, by_monotonic, 0.0)

    def save_contact(self) -> None:
        """Writes down when the hub was heard, and how long ago that is by now."""
        told = {"contact": self.contact, "wall": self._heard_wall, "age": self.age_s()}
        files.write_atomically(self._contact_path, json.dumps(told).encode(), mode=files.PRIVATE)
        self._written_at = self._clock.monotonic()

    def admit(self, ticket: Ticket) -> Agent:
        """This agent's record where the ticket holds here. Raises TicketRefused."""
        return admit.admit(self.current, self._me, ticket, now=self._clock.wall(), age_s=self.age_s())

    def _issued(self, at: float) -> None:
        """A bundle tells when the hub has signed it, and not that it was just now: it may have come on a stick."""
        if at > self.contact:
            self.contact = at
            self._heard_wall = min(at, self._clock.wall())
            self._heard_monotonic, self._age_then = self._clock.monotonic(), self._clock.wall() - self._heard_wall
            self.save_contact()

    def _load_contact(self) -> None:
        try:
            told = json.loads(self._contact_path.read_bytes())
            self.contact, self._heard_wall = float(told["contact"]), float(told["wall"])
            self._age_then = float(told["age"])
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError) as error:
            # Without it nobody knows how long ago that was: the grace is over until the hub is heard.
            log.error("contact_unreadable", error=type(error).__name__)
