"""Which agents are there now, from their heartbeats. In memory: a hub that restarts knows again after a second."""

from __future__ import annotations

from dataclasses import dataclass

from sync.bundle.snapshot import Snapshot
from sync.kit.ids import AgentId
from sync.wire.messages import Beat

SILENT_S = 3.5
"""Seconds without a heartbeat after which an agent gets no new work. Beats come each second."""


@dataclass(slots=True)
class Seen:
    """An agent's last heartbeat and when it came (monotonic seconds), and what this hub has at work there."""

    beat: Beat
    at: float
    mine: int = 0
    before: str = ""
    """The life of the process that was heard before this one."""
    twin: bool = False

    @property
    def load(self) -> float:
        """Work per place: 1 is full. The beat is up to a second old, so this hub's own work is counted fresh."""
        return max(self.beat.running + self.beat.queued, self.mine) / max(1, self.beat.capacity)


class Presence:
    """The agents that were heard, and whether they still are."""

    def __init__(self) -> None:
        self._seen: dict[AgentId, Seen] = {}

    def heard(self, beat: Beat, now: float) -> bool:
        """Notes a heartbeat; whether it shows, for the first time, that two processes run with one agent's identity.

        A process that was started again is another life, and the old one is not heard any more: two that alternate are two.
        """
        known = self._seen.get(beat.agent)
        if known is None:
            self._seen[beat.agent] = Seen(beat, now)
            return False
        found = False
        if beat.boot != known.beat.boot:
            found = beat.boot == known.before and not known.twin
            known.twin = known.twin or found
            known.before = known.beat.boot
        known.beat, known.at = beat, now
        return found

    def gone(self, agent: AgentId) -> None:
        """Nobody listens for this agent: it gets no work until it is heard again."""
        known = self._seen.get(agent)
        if known is not None:
            known.at = float("-inf")

    def here(self, now: float, snapshot: Snapshot) -> dict[AgentId, Seen]:
        """The agents that are up and in the bundle."""
        since = now - SILENT_S
        return {agent: seen for agent, seen in self._seen.items() if seen.at >= since and agent in snapshot.agents}

    def seen(self, agent: AgentId) -> Seen | None:
        return self._seen.get(agent)

    def began(self, agent: AgentId) -> None:
        """This hub has one request more at work there."""
        known = self._seen.get(agent)
        if known is not None:
            known.mine += 1

    def ended(self, agent: AgentId) -> None:
        known = self._seen.get(agent)
        if known is not None:
            known.mine = max(0, known.mine - 1)
