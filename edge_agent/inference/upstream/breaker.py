"""A circuit breaker (Nygard, Release It!): a server that fails again and again is left alone for a while. Pure: time comes in.

Invariants, each with a test of its words:
- after FAILURES in a row nothing is asked for a pause, which doubles up to MOST_PAUSE_S;
- after the pause one request tries, and the others wait for what comes of it;
- a success closes the circuit.
"""

from __future__ import annotations

FAILURES = 5
FIRST_PAUSE_S, MOST_PAUSE_S = 1.0, 60.0


class Breaker:
    """The state towards one server."""

    def __init__(self) -> None:
        self._failures = 0
        self._pause_s = FIRST_PAUSE_S
        self._open_until = 0.0
        self._trying = False

    def wait_s(self, now: float) -> float:
        """Seconds until a request may try; 0 where this one may now, which then has to say how it went."""
        if self._failures < FAILURES:
            return 0.0
        if self._trying:
            return FIRST_PAUSE_S
        if now < self._open_until:
            return self._open_until - now
        self._trying = True
        return 0.0

    def went_well(self) -> None:
        self._failures, self._pause_s, self._trying = 0, FIRST_PAUSE_S, False

    def failed(self, now: float) -> None:
        self._failures += 1
        if self._failures >= FAILURES:
            self._open_until = now + self._pause_s
            self._pause_s = min(MOST_PAUSE_S, self._pause_s * 2)
        self._trying = False

    def gave_up(self) -> None:
        """The request ended without saying anything of the server: its client went away."""
        self._trying = False
