"""A broker of one's own follows the fleet: its configuration and certificate are written again, and it is told to read them.

Invariants, each with a test of its words:
- an agent that is revoked is cut off within seconds, as by the hub's own broker;
- what the server was not told is told again, until it takes it.
"""

from __future__ import annotations

import asyncio
import shlex
import shutil
from collections.abc import Callable, Iterator, Sequence

from orchestrator.authority.certificates import Certificates
from orchestrator.fleet.admission import Admitted
from orchestrator.store.administration import SqlConfiguration
from orchestrator.store.database import Database
from orchestrator.store.fleet import SqlAgents
from sync.kit import backoff, errors, logs
from sync.kit.tasks import TaskGroup

log = logs.get("following")
LOOK_S = 0.3
CERTIFICATE_S = 60.0
RELOAD_S = 30.0
RETRY_S, MOST_S = 0.5, 10.0
STOP_S = 5.0


class NotReloaded(errors.Retryable):
    """The server was not told."""

    code = "broker_not_reloaded"


def command(text: str) -> list[str]:
    """The words of a command. Raises Misconfigured."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise errors.Misconfigured(
            f"--follow: '{text[:100]}' is no command: a quotation mark is missing.", code="bad_option"
        ) from error
    if not words or shutil.which(words[0]) is None:
        raise errors.Misconfigured(f"--follow: there is no command '{words[0] if words else text}'.", code="bad_option")
    return words


class Follower:
    """`write`: puts the configuration for these agents in place. `reload`: the command that has the server read it."""

    def __init__(
        self, database: Database, certificates: Certificates, write: Callable[[Sequence[Admitted]], None], reload: Sequence[str]
    ) -> None:
        self._database = database
        self._certificates = certificates
        self._write = write
        self._reload = reload
        self._tasks = TaskGroup()
        self._told = -1
        """The serial of the fleet that the server was told of last."""

    async def start(self) -> None:
        await self._database.open()
        self._tasks.keep("following", self._follow)

    async def stop(self) -> None:
        await self._tasks.stop(STOP_S)
        await self._database.close()

    async def _follow(self) -> None:
        loop, pauses, next_look = asyncio.get_running_loop(), self._new_pauses(), 0.0
        while True:
            if loop.time() >= next_look:
                next_look = loop.time() + CERTIFICATE_S
                if await asyncio.to_thread(self._certificates.keep_fresh):
                    self._told = -1
            try:
                await self._look()
                pauses = self._new_pauses()
                await asyncio.sleep(LOOK_S)
            except errors.Retryable as error:
                log.error("broker_does_not_follow", code=error.code, detail=str(error))
                await asyncio.sleep(next(pauses))

    def _new_pauses(self) -> Iterator[float]:
        return backoff.jittered(first_s=RETRY_S, most_s=MOST_S)

    async def _look(self) -> None:
        """Tells the server where the fleet has changed. Raises StoreUnavailable or NotReloaded."""
        serial = await SqlConfiguration(self._database).serial()
        if serial == self._told:
            return
        agents = await SqlAgents(self._database).agents()
        await asyncio.to_thread(self._write, agents)
        await self._run()
        self._told = serial
        log.info("broker_follows", agents=len(agents), serial=serial)

    async def _run(self) -> None:
        try:
            process = await asyncio.create_subprocess_exec(
                *self._reload, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
            )
        except OSError as error:
            raise NotReloaded(f"'{self._reload[0]}' cannot be run ({error.strerror}).") from error
        try:
            _, told = await asyncio.wait_for(process.communicate(), RELOAD_S)
        except TimeoutError as error:
            raise NotReloaded(f"'{self._reload[0]}' did not end within {RELOAD_S:.0f} s.") from error
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            raise NotReloaded(f"'{self._reload[0]}' failed: {told.decode('utf-8', 'replace').strip()[:200]}")
