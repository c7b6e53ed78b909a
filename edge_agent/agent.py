"""The agent, put together: everything is made here and handed on by name. Started and stopped in order."""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import os
import secrets

from classifiers import engine
from edge_agent import identity
from edge_agent.cache.answers import AnswerCache
from edge_agent.guard import Guard
from edge_agent.http import open_inference
from edge_agent.http.errors import RESPONSES
from edge_agent.http.open_inference import OpenInference
from edge_agent.http.openai import OpenAi
from edge_agent.http.operations import Operations
from edge_agent.inference.meters import InferenceMeters
from edge_agent.inference.repository.folder import ModelsFolder
from edge_agent.inference.repository.lifecycle import Limits as ModelLimits
from edge_agent.inference.repository.lifecycle import Repository
from edge_agent.intake import Intake
from edge_agent.link import Link
from edge_agent.outbox import Outbox
from edge_agent.runner import Runner
from edge_agent.settings import Settings
from edge_agent.site import Site
from sync.api.server import Server
from sync.audit.journal import Journal
from sync.bundle.limits import Limits
from sync.bus.nats import Login, NatsBus
from sync.bus.port import Incoming
from sync.kit import clock as clocks
from sync.kit import files, logs
from sync.kit.ids import SiteId
from sync.kit.metrics import Registry
from sync.kit.tasks import TaskGroup
from sync.wire import subjects
from sync.wire.messages import Beat
from sync.wire.session import AgentSessions

log = logs.get("agent")
CAPACITY = 16
"""Requests at a time that count as full, for the hub's choice among agents."""
STATUS_S = 2.0
STOP_S = 10.0


class Agent:
    """One agent process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.me = identity.load(settings.state)
        admission, keys = self.me.admission, self.me.keys
        self.clock = clocks.SystemClock()
        self.tasks = TaskGroup()
        self.boot = secrets.token_hex(4)
        login = Login(settings.broker_url or admission.broker_url, self.me.id, admission.broker_password)
        self.bus = NatsBus(login, self.me.id)
        self.guard = Guard(settings.state, self.me.id, self.me.hub_key, keys.at_rest, self.clock)
        self.registry = Registry()
        self.url = ""
        self.repository = Repository(
            ModelsFolder(settings.models), hub=self.me.hub_key, resources=settings.resources,
            limits=ModelLimits(settings.models_mib), meters=InferenceMeters(self.registry),
        )  # fmt: skip
        self.cache = AnswerCache(settings.state / "cache.db", keys.at_rest, self.clock, max_bytes=settings.cache_mib << 20)
        self.journal = Journal(settings.journal, self.me.id, keys.signer, self.clock)
        self.runner = Runner(guard=self.guard, repository=self.repository, cache=self.cache, journal=self.journal, clock=self.clock)
        sessions = AgentSessions(self.me.id, keys.opener, self.me.hub_key, self.clock)
        self.intake = Intake(self.bus, self.me.id, sessions, self.runner)
        self.link = Link(self.bus, self.guard, self.me.id, SiteId(admission.site), self.beat)
        self.outbox: Outbox | None = None
        self.server = self._server() if settings.http_port is not None else None

    async def start(self) -> None:
        """Checks what is on disk, loads the models, and goes on line. Raises Misconfigured, having stopped what it started."""
        for mistake in self.repository.scan():
            log.error("model_unusable", detail=mistake)
        self.guard.load()
        self.journal.open()
        outbox = self.outbox = Outbox(self.journal, self.bus, self.me.id, self.me.keys.signer, self.me.hub_key, self.clock)

        async def on_receipt(incoming: Incoming) -> None:
            self.guard.heard_hub()
            await outbox.on_receipt(incoming.data)

        async def listen() -> None:
            await self.bus.subscribe(subjects.receipt(self.me.id), on_receipt)
            await self.intake.listen()

        files.make_private_folder(self.settings.state / "optimised")
        await self.repository.preload()
        self.tasks.spawn("link", self.link.connect(listen))
        self.tasks.keep("beats", self.link.send_beats)
        self.tasks.keep("bundle", self.link.watch_bundle)
        self.tasks.keep("outbox", outbox.pump)
        self.tasks.keep("models", self.repository.watch)
        self.tasks.keep("status", self._write_status)
        if self.server is not None:
            port = await self.server.start(self.settings.http_host, self.settings.http_port or 0)
            self.url = f"http://{self.settings.http_host}:{port}"
        log.info("agent_ready", agent=self.me.id, models=self.repository.names, bundle=self.guard.current.serial)

    async def stop(self) -> None:
        """Takes nothing new, ends what is at work, writes what waits, and goes."""
        self.intake.accepting = False
        if self.server is not None:
            await self.server.stop()
        await self.runner.stop(STOP_S)
        await self.tasks.stop(STOP_S)
        await self.bus.close()
        await self.repository.close()
        self.journal.close()
        self.cache.close()

    def _server(self) -> Server:
        """The site's own API."""
        site = Site(
            me=self.me.id, guard=self.guard, repository=self.repository, runner=self.runner, classifier=engine.load(),
            limits=Limits(self.clock), journal=self.journal, at_rest=self.me.keys.at_rest, clock=self.clock,
        )  # fmt: skip
        operations = Operations(site, self.registry, lambda: self.bus.connected)
        routes = [*OpenAi(site).routes(), *OpenInference(site).routes(), *operations.routes()]
        return Server(routes, RESPONSES, max_body=open_inference.MAX_BODY)

    def beat(self) -> Beat:
        """How this agent is now."""
        return Beat(
            agent=self.me.id,
            boot=self.boot,
            version=importlib.metadata.version("ringfence"),
            models=self.repository.names,
            running=len(self.runner.at_work),
            queued=max(0, self.repository.running - 1),
            capacity=CAPACITY,
            latency_ms=self.runner.latency_ms,
            bundle_serial=self.guard.current.serial,
            journal_epoch=self.journal.epoch,
            journal_next=self.journal.position.next,
            journal_receipted=self.outbox.cursor.receipted if self.outbox else 0,
        )

    async def _write_status(self) -> None:
        """Writes how it is into the state folder now and then, for 'ringfence-agent status'. Runs until cancelled."""
        while True:
            await asyncio.to_thread(self._write_status_once)
            await asyncio.sleep(STATUS_S)

    def _write_status_once(self) -> None:
        beat = self.beat()
        status = {
            "agent": beat.agent, "pid": os.getpid(), "at": self.clock.wall(), "linked": self.bus.connected,
            "hub_heard": self.guard.contact, "bundle_serial": beat.bundle_serial, "url": self.url, "models": beat.models,
            "repository": self.repository.status(), "mistakes": self.repository.mistakes,
            "running": beat.running, "journal_records": beat.journal_next,
            "journal_waiting": beat.journal_next - beat.journal_receipted,
        }  # fmt: skip
        files.write_atomically(self.settings.state / "status.json", json.dumps(status).encode())
