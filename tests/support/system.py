"""A whole Ringfence on this machine: a hub with its broker, and three agents, as real processes in one folder."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from edge_agent.identity import identity
from orchestrator.access import keys as access
from orchestrator.authority import authority
from orchestrator.distribution import packages as distribution
from orchestrator.fleet import admission
from orchestrator.fleet.enrolment import Addresses, Enrolment, Terms
from orchestrator.store.administration import SqlConfiguration, SqlKeys
from orchestrator.store.database import Database
from orchestrator.store.fleet import SqlAgents, SqlInvitations
from orchestrator.store.ledger import SqlLedger
from orchestrator.tenants import document
from sync.bundle import snapshot
from sync.crypto import keyring
from sync.kit import files
from sync.kit.clock import SystemClock
from sync.kit.faults import Faults
from sync.kit.ids import AgentId, Region, SiteId
from sync.kit.metrics import Registry

READY_S = 60.0
STOP_S = 15.0
POLL_S = 0.03
SCRIPTS = Path(sys.executable).parent


@dataclass(frozen=True, slots=True)
class Place:
    """One agent, and where it stands."""

    name: str
    zone: str
    site: str
    api: bool = False
    """Whether it has the site's own API."""
    threads: int = 1


class NotReady(Exception):
    """Something did not come up; the sentence says what, and where its log is."""


class System:
    """The processes, and where they keep things. `folder` is made anew."""

    def __init__(
        self, folder: Path, places: list[Place], models: Path, configuration: Path, *, port: int = 0, nats_port: int = 0
    ) -> None:
        self.folder = folder
        self.places = places
        self._source = models
        self.configuration = configuration
        self.port = port
        self.nats_port = nats_port or free_port()
        self.enrol_port = free_port()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.environment: dict[str, str] = {}
        """What the processes get beside this one's own."""
        self.own: dict[str, dict[str, str]] = {}
        """What one of them gets besides, by its name."""
        self.url = ""
        self.api_key = ""
        self.admin_key = ""

    @property
    def models(self) -> Path:
        """The agents' models: the given ones, signed by this system's hub."""
        return self.folder / "models"

    @property
    def hub(self) -> Path:
        return self.folder / "hub"

    def agent(self, name: str) -> Path:
        return self.folder / "agents" / name

    async def prepare(self, tenant: str) -> None:
        """Applies the configuration, makes two keys, and admits the agents."""
        shutil.rmtree(self.folder, ignore_errors=True)
        files.make_private_folder(self.hub)
        text = self.configuration.read_text()
        parsed = document.parse(text, str(self.configuration))
        sites = {SiteId(n): snapshot.Site(SiteId(n), Region(s.region), s.jurisdiction) for n, s in parsed.sites.items()}
        hub_keys = keyring.load_or_create(self.hub / "hub-keys.json")
        shutil.copytree(self._source, self.models)
        for path in self.models.glob("*/*/manifest.json"):
            distribution.sign(path.parent, hub_keys.signer)
        database = Database(self.hub / "ringfence.db")
        await database.open()
        await SqlConfiguration(database).apply(text, at=time.time(), by="demo")
        user, admin = access.issue(tenant, "demo-app", "user"), access.issue(tenant, "demo-admin", "admin")
        for issued in (user, admin):
            await SqlKeys(database).add(issued.record, at=time.time())
        self.api_key, self.admin_key = user.text, admin.text
        made = authority.load_or_create(self.hub / "authority.json", hub_keys.at_rest, time.time())
        for place in self.places:
            await self._admit(place, sites, hub_keys, made, database)
        await database.close()

    async def _admit(
        self, place: Place, sites: dict[SiteId, snapshot.Site], keys: keyring.Keyring, made: authority.Authority, database: Database
    ) -> None:
        """What 'enrol --request', 'agents approve' and 'enrol --response' do."""
        asked = identity.request(self.agent(place.name), place.name)
        at = admission.place(site=place.site, zone=place.zone, region="", tenants=(), sites=sites, known=())
        clock = SystemClock()
        desk = Enrolment(
            agents=SqlAgents(database), invited=SqlInvitations(database), authority=lambda: made, signer=keys.signer, pepper=b"",
            addresses=lambda: Addresses(f"tls://127.0.0.1:{self.nats_port}", f"https://127.0.0.1:{self.enrol_port}"),
            terms=Terms(86_400.0, 30 * 86_400.0), clock=clock, faults=Faults(self.hub / "faults.json", Registry(), clock),
            incidents=SqlLedger(database),
        )  # fmt: skip
        certified, chain = desk.certify(AgentId(place.name), asked.certificate_request)
        admitted = admission.Admitted(admission.agent_of(asked, AgentId(place.name), at), certified)
        await SqlAgents(database).add(admitted, at=clock.wall())
        identity.accept(self.agent(place.name), desk.answer(admitted, at.region, chain))

    def start_hub(self) -> None:
        command = ["ringfence", "serve", "--state", self.hub, "--port", self.port, "--nats-port", self.nats_port]
        command += ["--enrol-port", self.enrol_port]
        self._start("hub", *command)

    def start_agent(self, name: str) -> None:
        command = ["ringfence-agent", "run", "--state", self.agent(name), "--models", self.models]
        (place,) = (place for place in self.places if place.name == name)
        command += ["--threads", place.threads, *(["--http-port", 0] if place.api else [])]
        self._start(name, *command)

    def start(self) -> None:
        self.start_hub()
        for place in self.places:
            self.start_agent(place.name)

    async def wait_for_hub(self) -> str:
        """The hub's address, once it is ready. Raises NotReady."""
        address = self.hub / "hub-address.json"
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            self._check("hub")
            if address.exists():
                self.url = json.loads(address.read_text())["url"]
                return self.url
            await asyncio.sleep(POLL_S)
        raise NotReady(f"The hub was not ready within {READY_S:.0f} s: see {self.log('hub')}.")

    async def wait_for_agents(self, names: list[str]) -> None:
        """Returns when these agents are up at the hub, with their models and a bundle. Raises NotReady."""
        deadline = time.monotonic() + READY_S
        async with aiohttp.ClientSession(headers={"authorization": f"Bearer {self.admin_key}"}) as http:
            while time.monotonic() < deadline:
                for name in names:
                    self._check(name)
                async with http.get(f"{self.url}/v1/admin/agents") as response:
                    rows = (await response.json()).get("agents", [])
                up = {row["id"] for row in rows if row["up"] and row["models"] and row["bundle_serial"]}
                if set(names) <= up:
                    return
                await asyncio.sleep(POLL_S)
        raise NotReady(f"{', '.join(names)} were not ready within {READY_S:.0f} s: see {self.folder}/*.log.")

    async def wait_until_gone(self, name: str) -> None:
        """Returns when the hub no longer gives this agent work."""
        async with aiohttp.ClientSession(headers={"authorization": f"Bearer {self.admin_key}"}) as http:
            deadline = time.monotonic() + READY_S
            while time.monotonic() < deadline:
                async with http.get(f"{self.url}/v1/admin/agents") as response:
                    rows = (await response.json())["agents"]
                if not any(row["id"] == name and row["up"] for row in rows):
                    return
                await asyncio.sleep(POLL_S)
        raise NotReady(f"The hub still counts on {name}.")

    def stop(self, name: str, number: int = signal.SIGTERM) -> None:
        """Ends one process, and waits for its end."""
        process = self.processes.pop(name, None)
        if process is None or process.poll() is not None:
            return
        process.send_signal(number)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def stop_all(self) -> None:
        """Ends everything, the agents first."""
        for process in self.processes.values():
            if process.poll() is None and process is not self.processes.get("hub"):
                process.terminate()
        for name in [*(n for n in self.processes if n != "hub"), "hub"]:
            self.stop(name)

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def _start(self, name: str, script: str, *arguments: object) -> None:
        environment = (
            {k: v for k, v in os.environ.items() if not k.startswith("RINGFENCE")} | self.environment | self.own.get(name, {})
        )
        with self.log(name).open("ab") as output:
            self.processes[name] = subprocess.Popen(
                [SCRIPTS / script, *map(str, arguments)], stdout=output, stderr=output, stdin=subprocess.DEVNULL,
                env=environment, start_new_session=True,
            )  # fmt: skip

    def _check(self, name: str) -> None:
        process = self.processes[name]
        if process.poll() is not None:
            tail = self.log(name).read_text(errors="replace").strip().splitlines()[-1:]
            raise NotReady(f"{name} ended with code {process.returncode}: {' '.join(tail)} (log: {self.log(name)})")


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
