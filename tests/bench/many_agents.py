"""Many agents in one process: each has a connection, a guard and a link of its own, as a real one has; nothing else of it.

python many_agents.py AGENTS.json SEEN.json FOLDER
"""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2])]

from edge_agent.line.link import Link, Mode
from edge_agent.work.guard import Guard
from sync.bus.nats import Login, NatsBus
from sync.crypto import keyring
from sync.kit import files, logs, process
from sync.kit.clock import SystemClock
from sync.kit.ids import AgentId, Epoch, SiteId
from sync.kit.tasks import TaskGroup
from sync.wire.messages import Beat

LOOK_S = 0.25


class Many:
    """All of them."""

    def __init__(self, told: dict[str, object], seen: Path, folder: Path) -> None:
        hub = keyring.load(Path(str(told["hub"])) / "hub-keys.json").signer.public_key
        self._seen = seen
        pems = Path(str(told["folder"]))
        self._tasks = TaskGroup()
        self._links: list[Link] = []
        for login in told["agents"]:  # type: ignore[attr-defined]
            me, site, clock = AgentId(login["id"]), SiteId("frankfurt"), SystemClock()
            state = files.make_private_folder(folder / me)
            changed = functools.partial(self._changed, len(self._links))
            bus = NatsBus(Login(str(told["url"]), me, pems / f"{me}.pem", pems / "roots.pem"), me, agent=me, on_change=changed)
            guard = Guard(state, me, site, hub, bytes(32), clock, lambda *_: None)
            beat = Beat(
                agent=me,
                boot="boot",
                version="0",
                models=(),
                running=0,
                queued=0,
                capacity=1,
                latency_ms=0.0,
                bundle_serial=0,
                journal_epoch=Epoch("e"),
                journal_next=0,
                journal_receipted=0,
                journal_proved=0,
            )
            self._links.append(Link(bus, bus, guard, me, site, lambda beat=beat: beat, clock, lambda *_: None))

    def _changed(self, number: int, up: bool) -> None:
        self._links[number].line_changed(up)

    async def start(self) -> Many:
        async def listen() -> None:
            """These take no work."""

        for number, link in enumerate(self._links):
            self._tasks.spawn(f"link {number}", link.run(listen))
            self._tasks.keep(f"line {number}", link.watch)
            self._tasks.keep(f"beats {number}", link.send_beats)
            self._tasks.keep(f"bundle {number}", link.watch_bundle)
        self._tasks.keep("look", self._look)
        return self

    async def _look(self) -> None:
        while True:
            online = sum(link.mode is Mode.ONLINE for link in self._links)
            files.write_atomically(self._seen, json.dumps({"online": online}).encode())
            await asyncio.sleep(LOOK_S)

    async def stop(self) -> None:
        await self._tasks.stop(2)


if __name__ == "__main__":
    files.make_private_folder(Path(sys.argv[3]))
    logs.configure(level="error")
    logging.disable(logging.ERROR)
    sys.exit(process.run(Many(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]), Path(sys.argv[3])).start))
