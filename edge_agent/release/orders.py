"""The hub's order to upgrade: checked, the release fetched from its store, and left for who may install it.

The agent itself has no right to change what it runs. It fetches, and writes an order down; a unit of the system, as root, sees
the order, checks the release key's signature, and installs. A hub alone, without the release key, can have nothing run here.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from edge_agent.inference.repository import hub_store
from edge_agent.inference.repository.folder import INCOMING, ModelsFolder
from edge_agent.release import releases
from sync.bus.port import Bus
from sync.crypto import digest, signing
from sync.crypto.signing import PublicKey
from sync.kit import errors, files, logs
from sync.kit.ids import AgentId
from sync.kit.tasks import TaskGroup
from sync.wire import codec, packages
from sync.wire.messages import OrderTaken, Upgrade

log = logs.get("orders")
FOLDER, ORDER = "upgrade", "order"


def incoming(manifest_digest: str) -> str:
    """The folder, below FOLDER, of what was fetched. Raises Misconfigured where the text is no digest."""
    if len(manifest_digest) != 32 or any(letter not in "0123456789abcdef" for letter in manifest_digest):
        raise errors.Misconfigured("The order is damaged.", code="bad_order")
    return f"{INCOMING}/rf-{manifest_digest}"


class Orders:
    """Takes them for one agent. `home`: where its releases are, or None where it is no package."""

    def __init__(self, state: Path, home: Path | None, bus: Bus, me: AgentId, hub: PublicKey, tasks: TaskGroup) -> None:
        self._folder = state / FOLDER
        self._home = home
        self._bus = bus
        self._me = me
        self._hub = hub
        self._tasks = tasks
        self._at_work = False

    def take(self, order: Upgrade) -> OrderTaken:
        """Begins to fetch. Raises Corrupt where the hub has not signed it for this agent."""
        signing.verify(self._hub, signing.UPGRADE, codec.pack((order.agent, order.version)), order.signature)
        if order.agent != self._me:
            raise errors.Corrupt("An order for another agent came.")
        if self._home is None:
            return OrderTaken("not_a_package", "this agent was not installed as a package: upgrade it as it was installed")
        if self._at_work or (self._folder / ORDER).exists():
            return OrderTaken("busy", "an upgrade is at work already")
        self._at_work = True
        self._tasks.spawn("upgrade", self._fetch(order.version))
        return OrderTaken("", "")

    async def _fetch(self, version: str) -> None:
        try:
            files.make_private_folder(self._folder)
            package = await hub_store.find(self._bus, packages.RELEASE, version, self._hub)
            # By what would be fetched: the sizes beside it are nobody's signed word.
            if sum(len(file.chunks) // digest.SIZE * packages.CHUNK for file in package.files) > releases.MAX_BYTES:
                raise errors.Refused(f"The release is over {releases.MAX_BYTES >> 30} GiB.", code="release_too_large")
            self._forget_others(digest.sha256(package.manifest).hex()[:32])
            await hub_store.fetch(self._bus, ModelsFolder(self._folder), package, lambda *_: None)
            files.write_atomically(self._folder / ORDER, digest.sha256(package.manifest).hex()[:32].encode())
            log.info("release_fetched", version=version)
        except errors.RingfenceError as error:
            log.error("release_not_fetched", version=version, code=error.code, detail=str(error))
        finally:
            self._at_work = False

    def _forget_others(self, manifest_digest: str) -> None:
        """What was fetched of another release and never installed: only the one that is ordered now goes on where it was cut."""
        kept = self._folder / incoming(manifest_digest)
        for path in kept.parent.glob("*"):
            if path != kept:
                shutil.rmtree(path, ignore_errors=True)
