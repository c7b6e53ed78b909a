"""What a service manager is told: that a process is ready, and again and again that it lives (sd_notify(3)).

Invariants, each with a test of its words:
- it lives only while its loop turns and its journal takes work: a process that merely exists is started anew;
- without a service manager nothing is said, and nothing fails; one that does not read stops nothing.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Mapping

from sync.kit import logs

log = logs.get("supervision")
ALIVE_WITHIN_S = 10.0
"""Seconds in which the journal's thread must have answered."""


class Supervisor:
    """The service manager, as the environment names it. `alive` returns where its parts answer, and raises where not."""

    def __init__(self, environment: Mapping[str, str], alive: Callable[[], Awaitable[object]]) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        mine = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self._every_s = int(environment.get("WATCHDOG_USEC", "0")) / 1_000_000 / 3 if mine else 0.0
        self._alive = alive

    def say(self, state: str) -> None:
        """Sends a state, such as READY=1; says nothing where nobody asked for it."""
        if not self._address:
            return
        # A name that begins with @ is of the abstract namespace, which begins with a zero byte.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as line:
                line.setblocking(False)  # one that does not read must not stop this loop
                line.connect(address)
                line.sendall(state.encode())
        except OSError as error:
            log.warning("service_manager_not_told", error=error.strerror)

    async def keep_telling(self) -> None:
        """Says that the process lives, as often as is asked for. Runs until cancelled."""
        while True:
            await asyncio.sleep(self._every_s or ALIVE_WITHIN_S)
            if not self._every_s:
                continue
            try:
                await asyncio.wait_for(self._alive(), ALIVE_WITHIN_S)
            except Exception as error:
                log.error("not_alive", error=type(error).__name__)
            else:
                self.say("WATCHDOG=1")
