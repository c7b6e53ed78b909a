"""The line: an edit on its way to a site, a backlog of a million records, and a thousand agents at once.

Real hub, real broker, loopback only.

RINGFENCE_BENCH_BACKLOG and RINGFENCE_BENCH_AGENTS set how many; both runs are bounded in time.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import bare
from bench import Row, at_least, at_most, scratch
from bench_audit import FIELDS
from plain import PlainServer

from edge_agent.identity import identity
from orchestrator.authority import authority as authorities
from orchestrator.fleet.admission import Admitted, Certified
from orchestrator.store.administration import SqlConfiguration
from orchestrator.store.database import Database
from orchestrator.store.fleet import SqlAgents
from sync.audit.journal import Journal
from sync.bundle import snapshot
from sync.crypto import authority, keyring
from sync.kit import process
from sync.kit.clock import SystemClock
from sync.kit.ids import AgentId, SiteId, TenantId
from sync.wire.levels import Zone
from tests.support import running as support
from tests.support import system

HERE = Path(__file__).parent
BACKLOG = int(os.environ.get("RINGFENCE_BENCH_BACKLOG", "1000000"))
AGENTS = int(os.environ.get("RINGFENCE_BENCH_AGENTS", "1000"))
PATIENCE_S = 300.0
REJOIN_S = 60.0
AT_ONCE = 1000
EDITS = 20


def measure() -> list[Row]:
    with tempfile.TemporaryDirectory(dir=scratch()) as folder:
        return [*_edit(Path(folder)), *_catch_up(Path(folder)), *_rejoin(Path(folder))]


def _edit(folder: Path) -> list[Row]:
    """From the commit of an edit in the hub's database, as the command line makes it, to its being in force at a site."""
    place = system.Place("frankfurt-onprem", "on_premise", "frankfurt", api=True)
    made = system.System(folder / "edit", [place], support.models(folder / "edit-models"), support.CONFIGURATION)
    asyncio.run(made.prepare("acme"))
    took = []
    try:
        made.start()
        asyncio.run(made.wait_for_hub())
        asyncio.run(made.wait_for_agents([place.name]))
        url = json.loads((made.agent(place.name) / "status.json").read_text())["url"]
        for _ in range(EDITS):
            serial = asyncio.run(_apply(made.hub))
            began = time.perf_counter()
            while _serial(url) < serial:
                time.sleep(0.002)
            took.append(time.perf_counter() - began)
    finally:
        made.stop_all()
    return [at_most(f"an edit in force at a site, the slowest of {EDITS}", max(took), "s", min(took), 2.0)]


async def _apply(hub: Path) -> int:
    database = Database(hub / "ringfence.db")
    serial = await SqlConfiguration(database).apply(support.CONFIGURATION.read_text(), at=time.time(), by="bench")
    await database.close()
    return serial


def _serial(url: str) -> int:
    with urllib.request.urlopen(f"{url}/healthz/ready", timeout=5) as response:
        return int(json.loads(response.read())["bundle_serial"])


def _catch_up(folder: Path) -> list[Row]:
    made = system.System(folder / "run", [support.ONPREM], support.models(folder / "models"), support.CONFIGURATION)
    asyncio.run(made.prepare("acme"))
    state = made.agent(support.ONPREM.name)
    entry = _fill(state)
    limit = _bare(folder / "bare", entry)
    try:
        made.start_hub()
        asyncio.run(made.wait_for_hub())
        made.start_agent(support.ONPREM.name)
        database = made.hub / "ringfence.db"
        _until(lambda: _held(database) > 0)
        held, began = _held(database), time.perf_counter()
        memory: dict[str, list[float]] = {"hub": [], support.ONPREM.name: []}

        def done() -> bool:
            for name, seen in memory.items():
                seen.append(_resident_mib(made.processes[name].pid))
            return _held(database) >= BACKLOG

        _until(done)
        rate = (BACKLOG - held) / (time.perf_counter() - began)
        _until(lambda: json.loads((state / "status.json").read_text())["journal_proved"] >= BACKLOG)
        proved = (BACKLOG - held) / (time.perf_counter() - began)
    finally:
        made.stop_all()
    rows = [
        at_least(
            f"catch-up of {BACKLOG:,} records, agent to ledger (limit: bare JetStream publish and bulk insert)",
            rate,
            "records/s",
            limit,
            0.5,
        ),
        at_least("the same, until proved and sealed at the agent", proved, "records/s", limit),
    ]
    for name, seen in memory.items():
        quarter = max(1, len(seen) // 4)
        early, late = max(seen[:quarter]), max(seen[-quarter:])
        rows.append(at_most(f"memory of {name} in the last quarter of it (limit: in the first)", late, "MiB", early, 1.2 * early))
    return rows


def _fill(state: Path) -> bytes:
    """A journal that has waited for long."""
    me = identity.load(state)

    async def fill() -> bytes:
        journal = Journal(state / "journal.db", me.id, me.keys.signer, SystemClock())
        journal.open()
        for _ in range(0, BACKLOG, AT_ONCE):
            await asyncio.gather(*(journal.append(TenantId("acme"), "run", FIELDS) for _ in range(AT_ONCE)))
        (entry,) = journal.read(BACKLOG - 1, 1)
        journal.close()
        return entry

    with process.runner() as runner:
        return runner.run(fill())


def _bare(folder: Path, entry: bytes) -> float:
    """Records a second by the least that does it: envelopes of the same size, eight in flight, and rows in bulk."""
    broker = PlainServer(folder)
    broker.start()
    url = broker.url
    try:
        publisher = subprocess.Popen([sys.executable, HERE / "bare.py", "publisher", url, str(BACKLOG), str(len(entry))])
        rate = asyncio.run(bare.insert_all(url, folder / "bare.db", BACKLOG))
        publisher.wait(PATIENCE_S)
        return rate
    finally:
        broker.stop()


def _held(database: Path) -> int:
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=10) as ledger:
        query = "select max(next) from ledger_authors where author = ?"
        return int(ledger.execute(query, (support.ONPREM.name,)).fetchone()[0] or 0)


def _rejoin(folder: Path) -> list[Row]:
    """A broker that dies and comes back while a thousand agents hang on it, each with a link of the real kind."""
    made = system.System(folder / "many", [support.ONPREM], support.models(folder / "many-models"), support.CONFIGURATION)
    asyncio.run(made.prepare("acme"))
    logins = asyncio.run(_admit(made.hub, folder / "certificates"))
    told = folder / "agents.json"
    told.write_text(
        json.dumps(
            {
                "url": f"tls://127.0.0.1:{made.nats_port}",
                "folder": str(folder / "certificates"),
                "hub": str(made.hub),
                "agents": logins,
            }
        )
    )
    seen = folder / "seen.json"
    made.start_hub()
    asyncio.run(made.wait_for_hub())
    simulator = subprocess.Popen([sys.executable, HERE / "many_agents.py", told, seen, folder / "states"])
    try:
        _until(lambda: _seen(seen) >= AGENTS)
        hub = made.processes["hub"].pid
        (broker,) = (child for child in _children(hub) if b"nats-server" in Path(f"/proc/{child}/cmdline").read_bytes())
        began, used = time.perf_counter(), _cpu_s(hub)
        os.kill(broker, signal.SIGKILL)
        _until(lambda: _seen(seen) < AGENTS)
        _until(lambda: _seen(seen) >= AGENTS)
        took = time.perf_counter() - began
        cores = (_cpu_s(hub) - used) / took
        _until(lambda: _agents_up(made.url) == AGENTS)
        began, used = time.perf_counter(), _cpu_s(hub)
        time.sleep(5)
        idle = (_cpu_s(hub) - used) / (time.perf_counter() - began)
    finally:
        simulator.terminate()
        simulator.wait()
        made.stop_all()
    return [
        at_most(f"{AGENTS:,} agents are on line again after the broker's kill -9", took, "s", 0.5, REJOIN_S),
        at_most("the hub's cores meanwhile (limit: with all of them on line)", cores, "cores", idle, 1.0),
    ]


def _agents_up(url: str) -> int:
    """Agents whose beats the hub hears."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as response:
        lines = response.read().decode().splitlines()
    return int(float(next(line.split()[1] for line in lines if line.startswith("ringfence_agents_up "))))


async def _admit(hub: Path, folder: Path) -> list[dict[str, str]]:
    database = Database(hub / "ringfence.db")
    held = authorities.load(hub / "authority.json", keyring.load(hub / "hub-keys.json").at_rest)
    folder.mkdir()
    (folder / "roots.pem").write_bytes(held.trusted)
    logins = [{"id": f"site-{n}"} for n in range(AGENTS)]
    for login in logins:
        agent = snapshot.Agent(
            id=AgentId(login["id"]),
            site=SiteId("frankfurt"),
            zone=Zone.ON_PREMISE,
            signing_key=secrets.token_bytes(32),
            sealing_key=secrets.token_bytes(32),
        )
        key = authority.new_key()
        chain = held.certify_agent(agent.id, authority.request(key), time.time(), 86_400)
        (folder / f"{agent.id}.pem").write_bytes(key + chain)
        await SqlAgents(database).add(Admitted(agent, Certified(b"", b"", 0, 0)), at=time.time())
    await database.close()
    return logins


def _seen(path: Path) -> int:
    try:
        return int(json.loads(path.read_text())["online"])
    except (OSError, ValueError):
        return 0


def _until(look: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if look():
            return
        time.sleep(0.1)
    raise AssertionError("it did not come to an end in time")


def _children(pid: int) -> Iterator[int]:
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            yield int(path.parent.name)


def _cpu_s(pid: int) -> float:
    """Of all its threads, in nanoseconds as the scheduler counts them: by ticks, what runs in short bursts is hardly seen."""
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def _resident_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
