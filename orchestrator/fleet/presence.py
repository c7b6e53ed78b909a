"""Which agents get work now, from their heartbeats and their answers. In memory: a restarted hub knows again after a second.

Invariants, each with a test of its words:
- an agent that is silent, whose clock is off, or whose answers cannot be read, is not `here`;
- who is not here has a reason, and who is has none;
- left out or not, an agent that is heard is `listening`: it still gets its receipts and its orders.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sync.bundle.snapshot import Snapshot
from sync.kit.ids import AgentId
from sync.policy.admit import CLOCK_TOLERANCE_S
from sync.wire.messages import Beat

SILENT_S = 3.5
"""Seconds without a heartbeat after which an agent gets no new work. Beats come each second."""
BROKEN_S = 30.0
"""Seconds without work after an answer that cannot be read: each further try costs a client a fail-over, and
what breaks answers (a failing disk or network card, a wrong key, an attacker) seldom passes within seconds."""
MOST_BROKEN_S = 300.0
"""The longest such pause, so that an agent that was repaired is back within minutes by itself."""


class Reason(StrEnum):
    """Why an agent of the bundle gets no work. A closed set: these are the label values of a metric."""

    SILENT = "silent"
    CLOCK = "clock"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Why an agent of the bundle gets no work; `why` is for people."""

    reason: Reason
    why: str


@dataclass(frozen=True, slots=True)
class News:
    """What a heartbeat shows for the first time."""

    twin: bool = False
    """Two processes run with one agent's identity."""
    clock_off_s: float | None = None
    """By how many seconds the agent's clock is ahead of the hub's, where that is more than the tolerance."""


@dataclass(slots=True)
class Seen:
    """An agent's last heartbeat and when it came (monotonic seconds), and what this hub has at work there."""

    beat: Beat
    at: float
    mine: int = 0
    before: str = ""
    """The life of the process that was heard before this one."""
    twin: bool = False
    skew_s: float = 0.0
    """How far the agent's clock is ahead of the hub's, in seconds; 0 where it does not say."""
    clock_told: bool = False
    broken_until: float = float("-inf")
    """Monotonic seconds up to which it is left out for answers that cannot be read."""
    pause_s: float = 0.0
    """The length of the newest such pause; 0 after a good answer."""

    @property
    def load(self) -> float:
        """Work per place: 1 is full. The beat is up to a second old, so this hub's own work is counted fresh."""
        return max(self.beat.running + self.beat.queued, self.mine) / max(1, self.beat.capacity)

    @property
    def clock_off(self) -> bool:
        """Whether tickets would be misjudged there. Asked this way round, a clock that is not a number is off too."""
        return not abs(self.skew_s) <= CLOCK_TOLERANCE_S


class Presence:
    """The agents that were heard, and whether they get work."""

    def __init__(self) -> None:
        self._seen: dict[AgentId, Seen] = {}

    def heard(self, beat: Beat, now: float, wall: float) -> News:
        """Note a heartbeat, and return what it shows for the first time.

        `now` is in monotonic seconds, `wall` in seconds since 1970. A process that was started again is another
        life, and the old one is not heard any more: two that alternate are two.
        """
        known = self._seen.get(beat.agent)
        if known is None:
            known = self._seen[beat.agent] = Seen(beat, now)
        twin = _shows_twin(known, beat)
        known.beat, known.at = beat, now
        known.skew_s = beat.clock - wall if beat.clock else 0.0
        return News(twin, known.skew_s if _shows_clock_off(known) else None)

    def gone(self, agent: AgentId) -> None:
        """Note that nobody listens for this agent: it gets no work until it is heard again."""
        known = self._seen.get(agent)
        if known is not None:
            known.at = float("-inf")

    def broken(self, agent: AgentId, now: float) -> None:
        """Note an answer of this agent that cannot be opened or read: it gets no work for a while, heartbeats or not.

        Each pause is twice as long as the one before, up to MOST_BROKEN_S. Requests that were at work there break
        together and count as one: a single hiccup under load must not take the agent out for minutes.
        """
        known = self._seen.get(agent)
        if known is None or known.broken_until > now:
            return
        known.pause_s = min(MOST_BROKEN_S, max(BROKEN_S, 2 * known.pause_s))
        known.broken_until = now + known.pause_s

    def well(self, agent: AgentId) -> None:
        """Note an answer of this agent that was whole: what was broken before is forgotten, and it gets work at once."""
        known = self._seen.get(agent)
        if known is not None and known.pause_s:
            known.broken_until, known.pause_s = float("-inf"), 0.0

    def here(self, now: float, snapshot: Snapshot) -> dict[AgentId, Seen]:
        """Return the agents that get work: up, in the bundle, with a right clock, and with answers that can be read."""
        return {
            agent: seen
            for agent, seen in self.listening(now, snapshot).items()
            if seen.broken_until <= now and not seen.clock_off
        }  # fmt: skip

    def listening(self, now: float, snapshot: Snapshot) -> dict[AgentId, Seen]:
        """Return the agents that are up and in the bundle, whether they get work or not."""
        since = now - SILENT_S
        return {agent: seen for agent, seen in self._seen.items() if seen.at >= since and agent in snapshot.agents}

    def left_out(self, now: float, snapshot: Snapshot) -> dict[AgentId, LeftOut]:
        """Return the agents of the bundle that get no work, each with its reason."""
        found = {agent: self._reason(agent, now) for agent in snapshot.agents}
        return {agent: reason for agent, reason in found.items() if reason is not None}

    def why_not(self, agent: AgentId, now: float, snapshot: Snapshot) -> str:
        """Return why this agent gets no work, for people; empty where it does."""
        if agent not in snapshot.agents:
            return "not in the bundle"
        reason = self._reason(agent, now)
        return reason.why if reason is not None else ""

    def seen(self, agent: AgentId) -> Seen | None:
        """Return what is known of an agent, or None where it was never heard."""
        return self._seen.get(agent)

    def began(self, agent: AgentId) -> None:
        """Note that this hub has one request more at work there."""
        known = self._seen.get(agent)
        if known is not None:
            known.mine += 1

    def ended(self, agent: AgentId) -> None:
        """Note that this hub has one request less at work there."""
        known = self._seen.get(agent)
        if known is not None:
            known.mine = max(0, known.mine - 1)

    def _reason(self, agent: AgentId, now: float) -> LeftOut | None:
        """Return the first reason that holds: of a silent agent, clock and answers are old news."""
        known = self._seen.get(agent)
        if known is None or known.at < now - SILENT_S:
            return LeftOut(Reason.SILENT, "silent")
        if known.clock_off:
            return LeftOut(Reason.CLOCK, f"clock off by {known.skew_s:+.0f} s")
        if known.broken_until > now:
            return LeftOut(Reason.BROKEN, "its answers cannot be read")
        return None


def _shows_twin(known: Seen, beat: Beat) -> bool:
    if beat.boot == known.beat.boot:
        return False
    found = beat.boot == known.before and not known.twin
    known.twin = known.twin or found
    known.before = known.beat.boot
    return found


def _shows_clock_off(known: Seen) -> bool:
    # Told again only after it was clearly right in between: one that hovers at the limit is not news each second.
    if known.clock_told:
        known.clock_told = not abs(known.skew_s) <= CLOCK_TOLERANCE_S / 2
        return False
    known.clock_told = known.clock_off
    return known.clock_off
