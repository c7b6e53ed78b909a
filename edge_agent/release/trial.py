"""A release on trial shows that it is healthy by the ways that its work takes: an inference, a record, the chain, the hub's echo.

The agent itself does it, in its first minute after an upgrade. What it finds are files for `settle` and `ringfence-agent upgrade`
to read; an agent that is not healthy ends, and is started as the release before.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path

from edge_agent.inference.repository.lifecycle import Repository
from edge_agent.line.link import Link, Mode
from sync.audit import rows
from sync.audit.journal import Journal
from sync.crypto.signing import PublicKey
from sync.kit import errors, files, logs
from sync.kit.clock import Clock
from sync.kit.ids import AgentId, TenantId

log = logs.get("trial")
HEALTHY, UNHEALTHY, REPORT = "healthy-release", "unhealthy-release", "trial.json"
WITHIN_S = 45.0
HUB_S = 20.0
"""How long the hub may take to be heard, where the release before heard it."""
PLATFORM = TenantId("_platform")
KIND = "release"


class NotHealthy(errors.Misconfigured):
    """A release on trial did not pass."""

    code = "release_not_healthy"


@dataclass(frozen=True, slots=True)
class Trial:
    """What a release is tried with."""

    version: str
    online: bool
    state: Path
    repository: Repository
    journal: Journal
    path: Path
    me: AgentId
    key: PublicKey
    link: Link
    clock: Clock

    async def run(self) -> None:
        """Tries everything, and writes down what was found. Raises NotHealthy."""
        found: dict[str, str] = {}
        try:
            async with asyncio.timeout(WITHIN_S):
                found["inference"] = await self._inference()
                await self.journal.append(PLATFORM, KIND, {"version": self.version, "outcome": "on trial"})
                found["record"] = f"number {self.journal.position.next - 1} is on the disk"
                await asyncio.to_thread(rows.verify, self.path, self.me, self.key)
                found["chain"] = "all chained and signed"
                found["hub"] = await self._echo()
        except Exception as error:  # of a release on trial anything may come: whatever it is, it did not pass
            told = _sentence(error)
            self._report(found, told)
            files.write_atomically(self.state / UNHEALTHY, self.version.encode())
            raise NotHealthy(f"The release {self.version} did not pass its trial: {told}") from error
        self._report(found, "")
        files.write_atomically(self.state / HEALTHY, self.version.encode())
        log.info("release_healthy", version=self.version, **found)

    async def _inference(self) -> str:
        """A model is loaded and run once, as it is when it warms up."""
        name = self.repository.smallest()
        if not name:
            return "there are no models here"
        async with self.repository.lease(name) as model:
            return f"{name} ran on {', '.join(model.engine.providers) or 'nothing'}"

    async def _echo(self) -> str:
        if not self.online:
            return "was not heard by the release before either"
        deadline = self.clock.monotonic() + HUB_S
        while self.link.mode is not Mode.ONLINE:
            if self.clock.monotonic() > deadline:
                raise NotHealthy("the hub is not heard, and was by the release before")
            await asyncio.sleep(0.1)
        return "heard"

    def _report(self, found: dict[str, str], why: str) -> None:
        told = {"version": self.version, "at": self.clock.wall(), "healthy": not why, "why": why, "found": found}
        files.write_atomically(self.state / REPORT, json.dumps(told).encode())


def _sentence(error: Exception) -> str:
    """Our own words are for people; a library's may hold anything."""
    if isinstance(error, TimeoutError):
        return f"not within {WITHIN_S:.0f} s"
    return str(error) if isinstance(error, errors.RingfenceError | OSError) else f"{type(error).__name__}"
