"""What the hub's clock says now, estimated from the times that it signs. Pure: time comes in as an argument.

Invariants, each with a test of its words:
- the estimate is never ahead of the hub's clock by more than a second, as long as that clock is not set back;
- messages that waited on their way, while this process was stopped, do not make the estimate late;
- a hub whose clock was set back is believed after TURN_S of what it says.
"""

from __future__ import annotations

FRESH_S = 30.0
"""Seconds without a word from the hub after which nothing is said of its clock: it may have been changed meanwhile."""
JITTER_S = 1.0
"""Seconds that a beat may be late in the ordinary course."""
TURN_S = 10.0
"""Seconds for which every time that is heard must be late before it counts as the hub's clock, and not as old messages."""
DRIFT = 0.001
"""Seconds a second that the two clocks may drift apart: twice as fast as time servers correct a clock."""


class HubClock:
    """Follows one hub's clock. A message can only be late, so what arrived with the least delay tells the most."""

    def __init__(self) -> None:
        self._heard_at: float | None = None
        self._ahead = 0.0
        """The hub's clock minus this machine's monotonic one, in seconds, when it was last heard."""
        self._late_since: float | None = None

    def heard(self, time: float, now: float) -> None:
        """Take a time that the hub has signed, heard at `now` of this machine's monotonic clock."""
        ahead = time - now
        if self._heard_at is None:
            self._ahead = ahead
        elif ahead >= self._ahead - JITTER_S:
            self._ahead = max(ahead, self._ahead - DRIFT * (now - self._heard_at))
            self._late_since = None
        elif self._late_since is None:
            self._late_since = now
        elif now - self._late_since >= TURN_S:
            self._ahead = ahead
            self._late_since = None
        self._heard_at = now

    def now(self, now: float) -> float | None:
        """Return what the hub's clock says, or None where it was not heard for FRESH_S."""
        if self._heard_at is None or now - self._heard_at > FRESH_S:
            return None
        return now + self._ahead
