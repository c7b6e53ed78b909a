"""Enrolments, revocations, the agent's start and its size."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench import Row, at_most

from edge_agent.identity import enrolling
from orchestrator.authority import authority as authorities
from orchestrator.fleet import invitations
from orchestrator.fleet.invitations import Invitation
from orchestrator.store.database import Database
from orchestrator.store.fleet import SqlAgents, SqlInvitations
from sync.bus.nats import Login, NatsBus
from sync.crypto import authority, keyring, sealing, signing
from sync.kit.ids import AgentId, Region, SiteId
from sync.wire import enrolment, invitation
from sync.wire.levels import Zone
from tests.support import running as support
from tests.support import system

AGENTS = 1000
AT_ONCE = 16
REVOKED = 20
STARTS = 7


def measure() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        made = system.System(Path(folder) / "run", [support.ONPREM], support.models(Path(folder) / "models"), support.CONFIGURATION)
        asyncio.run(made.prepare("acme"))
        made.start_hub()
        asyncio.run(made.wait_for_hub())
        try:
            rows = asyncio.run(_enrolments(made, Path(folder)))
            rows += asyncio.run(_revocations(made, Path(folder)))
            rows += _starts(made, Path(folder))
            rows += _commands(made)
        finally:
            made.stop_all()
        return rows


def _asked(name: str) -> tuple[bytes, enrolment.Request]:
    key = authority.new_key()
    signer, opener = signing.Signer(signing.new_seed()), sealing.Opener(sealing.new_private())
    return key, enrolment.Request("", signer.public_key, opener.public_key, authority.request(key))


async def _enrolments(made: system.System, folder: Path) -> list[Row]:
    """A thousand agents at once by their tokens, over HTTPS, against as many TLS connections that only ask who the hub is."""
    keys = keyring.load(made.hub / "hub-keys.json")
    pin = authorities.load(made.hub / "authority.json", keys.at_rest).pin
    pepper, database = sealing.derive(keys.at_rest, "invitations"), Database(made.hub / "ringfence.db")
    tokens = [invitation.mint(pin) for _ in range(AGENTS)]
    for number, token in enumerate(tokens):
        await SqlInvitations(database).add(
            Invitation(
                token.id, invitations.keyed(pepper, token), AgentId(f"many-{number}"), SiteId("frankfurt"), Zone.ON_PREMISE,
                Region("eu-central-1"), (), time.time() + 3600,
            )
        )  # fmt: skip
    await database.close()
    url = f"https://127.0.0.1:{made.enrol_port}"
    roots = await enrolling.find(url, tokens[0])
    asked = [_asked(token.id) for token in tokens]
    limit = asyncio.Semaphore(AT_ONCE)

    async def enrol(number: int) -> None:
        async with limit:
            await enrolling.enrol(url, roots, tokens[number], asked[number][1])

    async def ask(number: int) -> None:
        async with limit:
            await enrolling.find(url, tokens[number])

    began = time.perf_counter()
    await asyncio.gather(*map(enrol, range(AGENTS)))
    took = time.perf_counter() - began
    began = time.perf_counter()
    await asyncio.gather(*map(ask, range(AGENTS)))
    bare = time.perf_counter() - began
    return [at_most(f"{AGENTS:,} enrolments (limit: as many TLS connections that ask for the roots)", took, "s", bare, 60)]


async def _revocations(made: system.System, folder: Path) -> list[Row]:
    """From the edit in the database to the end of the live connection, with a thousand others there."""
    keys = keyring.load(made.hub / "hub-keys.json")
    held, database = authorities.load(made.hub / "authority.json", keys.at_rest), Database(made.hub / "ringfence.db")
    (folder / "roots.pem").write_bytes(held.trusted)
    took, alone = [], []
    for number in range(REVOKED):
        name, key = AgentId(f"many-{number}"), authority.new_key()
        (folder / f"{name}.pem").write_bytes(key + held.certify_agent(name, authority.request(key), time.time(), 3600))
        cut = asyncio.Event()
        login = Login(f"tls://127.0.0.1:{made.nats_port}", name, folder / f"{name}.pem", folder / "roots.pem")
        bus = NatsBus(login, name, agent=name, on_change=lambda up, cut=cut: None if up else cut.set())
        await bus.connect()
        began = time.perf_counter()
        await SqlAgents(database).revoke(name, at=time.time())
        alone.append(time.perf_counter() - began)
        await asyncio.wait_for(cut.wait(), 30)
        took.append(time.perf_counter() - began)
        await bus.close()
    await database.close()
    return [
        at_most(
            f"a revocation cuts the line, the slowest of {REVOKED} (limit: the edit alone)",
            max(took),
            "s",
            statistics.median(alone),
            1.0,
        )
    ]


def _starts(made: system.System, folder: Path) -> list[Row]:
    """The agent from its process to READY=1, without models and without the site's API; against Python with its imports alone."""
    empty = folder / "no-models"
    empty.mkdir()
    ready, bare, resident = [], [], []
    for _ in range(STARTS):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import edge_agent.commands.run"], check=True, cwd=support.ROOT)
        bare.append(time.perf_counter() - began)
        seconds, mib = _start(made, empty)
        ready.append(seconds)
        resident.append(mib)
    return [
        at_most(
            "the agent's start, median (limit: Python and its imports)", statistics.median(ready), "s", statistics.median(bare), 1.5
        ),
        at_most("resident without models (limit: Python alone)", max(resident), "MB", 9.0, 90),
    ]


def _commands(made: system.System) -> list[Row]:
    """What a person waits for; against Python that prints nothing."""
    rows = []
    for words in (
        ("ringfence-agent", "status", "--state", made.agent(support.ONPREM.name)),
        ("ringfence", "keys", "list", "--state", made.hub),
    ):
        took, bare = [], []
        for _ in range(STARTS):
            began = time.perf_counter()
            subprocess.run([sys.executable, "-c", ""], check=True)
            bare.append(time.perf_counter() - began)
            began = time.perf_counter()
            support.command(*words)
            took.append(time.perf_counter() - began)
        name = " ".join(words[: words.index("--state")])
        rows.append(at_most(f"'{name}', median (limit: Python alone)", statistics.median(took), "s", statistics.median(bare), 1.0))
    return rows


def _start(made: system.System, models: Path) -> tuple[float, float]:
    address = f"\0ringfence-bench-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.bind(address)
        line.settimeout(30)
        began = time.perf_counter()
        process = subprocess.Popen(
            [support.SCRIPTS / "ringfence-agent", "run", "--state", made.agent(support.ONPREM.name), "--models", models],
            env={**os.environ, "NOTIFY_SOCKET": f"@{address[1:]}"}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        while line.recv(4096) != b"READY=1":
            pass
        took = time.perf_counter() - began
        status = made.agent(support.ONPREM.name) / "status.json"
        support.eventually(lambda: status.exists() and json.loads(status.read_text())["mode"] == "online", "it is on line")
        told = Path(f"/proc/{process.pid}/status").read_text()
        process.terminate()
        process.wait(30)
    rss = next(int(row.split()[1]) for row in told.splitlines() if row.startswith("VmRSS"))
    return took, rss * 1024 / 1e6
