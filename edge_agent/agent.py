"""The agent, put together: everything is made here and handed on by name. Started and stopped in order."""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import os
import random
import secrets
import shutil
import signal
from pathlib import Path

from edge_agent import status as status_file
from edge_agent.identity import identity
from edge_agent.identity.certificate import Certificate
from edge_agent.inference.meters import InferenceMeters
from edge_agent.inference.repository.folder import ModelsFolder
from edge_agent.inference.repository.lifecycle import Limits as ModelLimits
from edge_agent.inference.repository.lifecycle import Repository
from edge_agent.intake import Intake
from edge_agent.line import airgap
from edge_agent.line.link import DRAIN, Link
from edge_agent.line.outbox import Outbox
from edge_agent.line.pace import Pace
from edge_agent.release.orders import Orders
from edge_agent.release.releases import Releases
from edge_agent.release.trial import NotHealthy, Trial
from edge_agent.settings import Settings
from edge_agent.site.forwarding import Forwarder
from edge_agent.work.cache import AnswerCache
from edge_agent.work.eraser import Eraser
from edge_agent.work.guard import Guard
from edge_agent.work.runner import Runner
from sync.audit import chain, rows
from sync.audit.journal import Journal
from sync.bus.nats import NatsBus
from sync.bus.port import Incoming
from sync.kit import clock as clocks
from sync.kit import errors, files, logs
from sync.kit.faults import Fault, Faults
from sync.kit.ids import SiteId
from sync.kit.metrics import Registry
from sync.kit.supervision import Supervisor
from sync.kit.tasks import TaskGroup
from sync.kit.timetable import Timetable
from sync.serving.api.handlers import Surface
from sync.serving.api.server import Server
from sync.serving.limits import Limits
from sync.serving.meters import Meters
from sync.serving.record import Digests, Recorder
from sync.serving.stages import Parts
from sync.wire import subjects
from sync.wire.levels import Level
from sync.wire.messages import WIRE, Beat
from sync.wire.session import AgentSessions

log = logs.get("agent")
CAPACITY = 16
"""Requests at a time that count as full, for the hub's choice among agents."""
STATUS_S = 2.0
INBOX_S = 2.0
VERIFY_EVERY_S = 24 * 3600.0
RETENTION_EVERY_S = 6 * 3600.0
FAULTS = "faults.json"
LIMITS = "limits.json"
STOP_S = 10.0
REQUEST_S = 300.0
"""Seconds that a request at the site itself may take: local models on two cores write for minutes."""


class Agent:
    """One agent process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.me = identity.load(settings.state, settings.keyring)
        admission, keys = self.me.admission, self.me.keys
        self.clock = clocks.SystemClock()
        self.tasks = TaskGroup()
        self.boot = secrets.token_hex(4)
        self.registry = Registry()
        self.faults = Faults(settings.state / FAULTS, self.registry, self.clock)
        self.bus = NatsBus(self.me.login(settings.broker_url), self.me.id, agent=self.me.id, on_change=self._line_changed)
        site = SiteId(admission.site)
        self.guard = Guard(settings.state, self.me.id, site, self.me.hub_key, keys.at_rest, self.clock, self.faults.note)
        self.url = ""
        self.repository = Repository(
            ModelsFolder(settings.models), hub=self.me.hub_key, resources=settings.resources,
            limits=ModelLimits(settings.models_mib), meters=InferenceMeters(self.registry),
        )  # fmt: skip
        self.cache = AnswerCache(settings.state / "cache.db", keys.at_rest, self.clock, max_bytes=settings.cache_mib << 20)
        self.journal = Journal(
            settings.journal, self.me.id, keys.signer, self.clock, cap_bytes=settings.journal_mib << 20, on_fault=self.faults.note
        )
        self.runner = Runner(guard=self.guard, repository=self.repository, cache=self.cache, journal=self.journal, clock=self.clock)
        sessions = AgentSessions(self.me.id, keys.opener, self.me.hub_key, self.clock)
        eraser = Eraser(self.journal, self.cache, self.me.id, keys.signer, self.me.hub_key)
        orders = Orders(settings.state, settings.home, self.bus, self.me.id, self.me.hub_key, self.tasks)
        self.intake = Intake(self.bus, self.me.id, sessions, self.runner, eraser, orders)
        self.link = Link(
            self.bus, self.bus, self.guard, self.me.id, site, self.beat, self.clock, self.faults.note
        )  # fmt: skip
        self.certificate = Certificate(
            self.me, self.bus, self.clock, self.faults.note, pressing=lambda: bool(self.link.refused)
        )  # fmt: skip
        self.forwarder = Forwarder(self.bus, self.me, self.clock)
        self.limits = Limits(self.clock)
        self.pace = Pace(self.clock, settings.backlog_kib_s << 10, busy=lambda: bool(self.runner.at_work))
        self.timetable = Timetable()
        self.outbox: Outbox | None = None
        self._beats: asyncio.Task[None] | None = None
        self.on_trial = False
        self.failed_release = Releases(settings.home).failed if settings.home is not None else ""
        self.supervisor = Supervisor(os.environ, self._alive)
        self.recorder: Recorder | None = None
        self.server = self._server() if settings.http_port is not None else None

    async def start(self) -> None:
        """Checks what is on disk, loads the models, and goes on line. Raises Misconfigured, having stopped what it started."""
        for mistake in self.repository.scan():
            log.error("model_unusable", detail=mistake)
        self.guard.load()
        self.link.begin()
        self.limits.restore(*_read_limits(self.settings.state / LIMITS))
        self.journal.open()
        if self.recorder is not None:
            await self.recorder.begin()
        outbox = self.outbox = Outbox(
            self.journal, self.bus, self.me.id, self.me.keys.signer, self.me.hub_key, self.clock,
            pace=self.pace, note=self.faults.note, rng=random.Random(),  # noqa: S311 - spreads load, guards nothing
        )  # fmt: skip

        async def on_receipt(incoming: Incoming) -> None:
            await outbox.on_receipt(incoming.data)

        async def listen() -> None:
            await self.bus.subscribe(subjects.receipt(self.me.id), on_receipt)
            await self.intake.listen()

        await airgap.take_up(self.settings.state, outbox, self.guard)
        files.make_private_folder(self.settings.state / "optimised")
        await self.repository.preload()
        self.tasks.keep("link", lambda: self.link.run(listen))
        self.tasks.keep("certificate", self.certificate.watch)
        self.tasks.keep("line", self.link.watch)
        self._beats = self.tasks.keep("beats", self.link.send_beats)
        self.tasks.keep("bundle", self.link.watch_bundle)
        self.tasks.keep("outbox", outbox.pump)
        self.tasks.keep("proofs", outbox.ask_for_proofs)
        self.tasks.keep("models", self.repository.watch)
        self.tasks.keep("status", self._write_status)
        self._look_for_drain()
        self.timetable.every(INBOX_S, "drain", self._drain)
        self.timetable.every(INBOX_S, "inbox", lambda: airgap.take_up(self.settings.state, outbox, self.guard))
        self.timetable.every(RETENTION_EVERY_S, "retention", self._expire)
        self.timetable.every(VERIFY_EVERY_S, "verification", self._verify_journal)
        if self.settings.backlog_hours:
            self.timetable.within(self.settings.backlog_hours, self.pace.set_open)
        self.timetable.start()
        if self.server is not None and self.recorder is not None:
            self.tasks.keep("late outcomes", self.recorder.catch_up)
            port = await self.server.start(self.settings.http_host, self.settings.http_port or 0)
            self.url = f"http://{self.settings.http_host}:{port}"
        self.tasks.keep("supervision", self.supervisor.keep_telling)
        self.supervisor.say("READY=1")
        self._begin_trial()
        log.info("agent_ready", agent=self.me.id, models=self.repository.names, bundle=self.guard.current.serial)

    async def stop(self) -> None:
        """Takes nothing new, ends what is at work, writes what waits, and goes.

        The heartbeats end first, since each brings new work. What comes all the same is refused at once until the
        line is closed, for the hub to try the next agent. The timetable ends before, since its look at the drain file
        would set `accepting` again.
        """
        self.supervisor.say("STOPPING=1")
        if self._beats is not None:
            self._beats.cancel()
        self.timetable.stop()
        self.intake.accepting = False
        if self.server is not None:
            await self.server.stop()
        await self.runner.stop(STOP_S)
        if self.recorder is not None:
            await self.recorder.finish(STOP_S)
        await self.tasks.stop(STOP_S)
        await self.bus.close()
        await self.repository.close()
        self.journal.close()
        self.cache.close()
        self._write_status_once()

    def _begin_trial(self) -> None:
        """Where this release is on trial, shows that it is healthy; where it is not, ends, for the one before to be started."""
        home = self.settings.home
        pending = Releases(home).trial if home is not None else None
        version = importlib.metadata.version("ringfence")
        if pending is None or pending.to != version:
            return
        self.on_trial = True
        trial = Trial(
            version, pending.online, self.settings.state, self.repository, self.journal, self.settings.journal, self.me.id,
            self.me.keys.signer.public_key, self.link, self.clock,
        )  # fmt: skip

        async def run() -> None:
            try:
                await trial.run()
                self.on_trial = False
            except NotHealthy as error:
                log.error("release_not_healthy", detail=str(error))
                os.kill(os.getpid(), signal.SIGTERM)

        self.tasks.spawn("trial", run())

    def _look_for_drain(self) -> None:
        draining = (self.settings.state / DRAIN).exists()
        if draining != self.link.draining:
            log.info("draining" if draining else "takes_work_again")
        self.link.draining, self.intake.accepting = draining, not draining

    async def _drain(self) -> None:
        self._look_for_drain()

    def _line_changed(self, connected: bool) -> None:
        self.link.line_changed(connected)

    def _server(self) -> Server:
        """Return the site's own API."""
        # Imported where there is one: the classifier and its model are half of what an agent would hold otherwise.
        from classifiers import engine  # noqa: PLC0415
        from classifiers.requests import RequestClassifier  # noqa: PLC0415
        from edge_agent.http.open_inference import MAX_BODY, OpenInference  # noqa: PLC0415
        from edge_agent.http.operations import Operations  # noqa: PLC0415
        from edge_agent.site.executor import SiteExecutor  # noqa: PLC0415

        executor = SiteExecutor(
            me=self.me.id,
            guard=self.guard,
            repository=self.repository,
            runner=self.runner,
            link=self.link,
            forwarder=self.forwarder,
            clock=self.clock,
            faults=self.faults,
        )
        digests = Digests(self.me.keys.at_rest)
        recorder = self.recorder = Recorder(self.journal, digests, self.clock, me=self.me.id, standing=executor.standing)
        parts = Parts(
            snapshot=lambda: self.guard.current,
            classifier=RequestClassifier(engine.load()),
            limits=self.limits,
            executor=executor,
            recorder=recorder,
            meters=Meters(self.registry),
            clock=self.clock,
            request_s=REQUEST_S,
            quiet_s=self.settings.stream_quiet_s,
            mode=lambda: executor.mode,
        )
        surface = Surface(parts)
        operations = Operations(executor, self.guard, self.link, self.repository, self.journal, self.registry)
        inference = OpenInference(surface, executor, self.guard, self.repository)
        routes = [*surface.routes(), *inference.routes(), *operations.routes()]
        return Server(routes, option="--http-port", max_body=MAX_BODY, on_refused=surface.on_refused)

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
            journal_proved=self.journal.proved,
            on_trial=self.on_trial,
            failed_release=self.failed_release,
            clock=self.clock.wall(),
            wire=WIRE,
        )

    async def _alive(self) -> None:
        """Returns where journal and models do what they are asked to. Raises where not: then this process is started anew."""
        await self.journal.answer()
        self.repository.check_moves()

    async def _write_status(self) -> None:
        """Writes how it is into the state folder now and then, for 'ringfence-agent status'. Runs until cancelled."""
        while True:
            await asyncio.to_thread(self._write_status_once)
            await asyncio.sleep(STATUS_S)

    def _write_status_once(self) -> None:
        beat = self.beat()
        status = {
            "agent": beat.agent, "version": beat.version, "pid": os.getpid(), "at": self.clock.wall(), "mode": self.link.mode.value,
            "since": self.link.since, "linked": self.bus.connected, "hub_heard_s": round(self.guard.age_s(), 1),
            "bundle_serial": beat.bundle_serial, "bundle_issued": self.guard.current.bundle.issued,
            "disk_free_mib": shutil.disk_usage(self.settings.state).free >> 20, "certificate_expires": self.certificate.expires,
            "draining": self.link.draining,
            "refused": self.certificate.kept_out or self.link.refused, "url": self.url, "models": beat.models,
            "repository": self.repository.status(), "mistakes": self.repository.mistakes,
            "running": beat.running, "journal_records": beat.journal_next,
            "journal_waiting": beat.journal_next - beat.journal_receipted, "journal_proved": beat.journal_proved,
            "journal_mib": round(self.journal.used_bytes / 2**20, 1), "journal_cap_mib": self.settings.journal_mib,
        }  # fmt: skip
        self.faults.flush()
        files.write_atomically(self.settings.state / LIMITS, json.dumps([self.clock.wall(), self.limits.state()]).encode())
        files.write_atomically(self.settings.state / status_file.FILE, json.dumps(status).encode())

    async def _verify_journal(self) -> None:
        """Looks through the whole journal: at the start only its newest records were."""
        try:
            await asyncio.to_thread(rows.verify, self.settings.journal, self.me.id, self.me.keys.signer.public_key)
        except errors.Corrupt as error:
            self.faults.note(Fault.JOURNAL_DAMAGED, str(error))

    async def _expire(self) -> None:
        """Lets go of records whose tenant keeps them no longer."""
        tenants, now = self.guard.current.tenants, self.clock.wall()

        def is_over(entry: chain.Entry) -> bool:
            tenant = tenants.get(entry.tenant)
            return tenant is not None and not tenant.retention.keeps(_level_of(entry), now - entry.wall)

        await self.journal.expire(is_over)


def _level_of(entry: chain.Entry) -> Level:
    try:
        return Level.of(str(entry.fields.get("level", "")))
    except ValueError:
        return Level.PUBLIC


def _read_limits(path: Path) -> tuple[float, dict[str, list[float]]]:
    """When the use of each tenant was written down, and what it was; nothing where that cannot be read."""
    try:
        at, state = json.loads(path.read_bytes())
        return float(at), {str(tenant): [float(number) for number in use] for tenant, use in state.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return 0.0, {}
