"""The hub, put together: everything is made here and handed on by name. Started and stopped in order."""

from __future__ import annotations

import asyncio
import base64
import functools
import json
import os
import random
import signal
from pathlib import Path

from classifiers import engine
from classifiers.requests import RequestClassifier
from orchestrator import backup
from orchestrator.authority.certificates import Certificates
from orchestrator.broker.process import Broker, Reachable
from orchestrator.dispatch.executor import Dispatch
from orchestrator.dispatch.forwarding import Forwarding
from orchestrator.distribution.publisher import Publisher
from orchestrator.fleet import status as fleet_status
from orchestrator.fleet.enrolment import Addresses, Enrolment, Terms
from orchestrator.fleet.meters import FleetMeters
from orchestrator.fleet.presence import Presence
from orchestrator.http import enrolment as enrolling
from orchestrator.http.administration import Administration
from orchestrator.http.enrolment import Enrolling
from orchestrator.ledger.checkpoints import Checkpoints, roots
from orchestrator.ledger.ingest import Ledger
from orchestrator.ledger.secrets import Secrets
from orchestrator.records import witness
from orchestrator.records.journals import HUB, Journals
from orchestrator.records.retention import Retention
from orchestrator.records.siem import Forwarder as SiemForwarder
from orchestrator.records.siem import Sink
from orchestrator.records.witness import Witnesses
from orchestrator.settings import Settings
from orchestrator.store.administration import SqlConfiguration, SqlKeys
from orchestrator.store.database import Database
from orchestrator.store.fleet import SqlAgents, SqlInvitations
from orchestrator.store.ledger import SqlLedger
from orchestrator.store.ledger_reading import SqlLedgerReader
from orchestrator.store.retention import SqlRetention
from sync.audit.journal import Journal
from sync.bus.nats import Login, NatsBus
from sync.bus.port import Incoming
from sync.crypto import keyring, sealing
from sync.kit import clock as clocks
from sync.kit import errors, files, logs
from sync.kit.faults import Fault, Faults
from sync.kit.ids import Region
from sync.kit.metrics import Registry
from sync.kit.supervision import Supervisor
from sync.kit.tasks import TaskGroup
from sync.kit.timetable import Timetable
from sync.serving import stages
from sync.serving.api.handlers import Surface
from sync.serving.api.server import Server
from sync.serving.limits import Limits
from sync.serving.meters import Meters
from sync.serving.record import Digests, Recorder
from sync.serving.stages import Parts
from sync.wire import codec, messages, subjects
from sync.wire.session import HubSessions

log = logs.get("hub")
EDIT_POLL_S = 0.25
CERTIFICATES_S = 5.0
RECEIPT_RESEND_S = 5.0
SILENCE_S = 60.0
DISK_S = 2.0
ERASURE_S = 2.0
SIEM_S = 1.0
FORGET_S = 10.0
RETENTION_S = 3600.0
JOURNAL_STREAM_AGE_S = 7 * 24 * 3600.0
STOP_S = 5.0
DRAIN_S = 10.0
"""Seconds that requests of sites may take to end when the hub is stopped: as long as those over HTTP."""


class Hub:
    """One hub process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        files.make_private_folder(settings.state)
        self.clock = clocks.SystemClock()
        self.keys = keyring.load_or_create(settings.keyring)
        files.write_atomically(settings.public_key, base64.b64encode(self.keys.signer.public_key) + b"\n")
        self.registry = Registry()
        self.tasks = TaskGroup()
        self.jobs = Timetable()
        self.database = Database(settings.database)
        self.agents = SqlAgents(self.database)
        self.faults = Faults(settings.state / "faults.json", self.registry, self.clock)
        self.certificates = Certificates(
            settings.certificates, settings.authority, self.keys.at_rest, settings.hosts, self.clock
        )  # fmt: skip
        self.broker = self._own_broker()
        self.bus = NatsBus(self._login(), f"hub-{os.getpid()}", on_change=self._line_changed)
        self.journal = Journal(
            settings.journal, HUB, self.keys.signer, self.clock, cap_bytes=settings.journal_mib << 20, on_fault=self.faults.note
        )
        self.secrets = Secrets(self.keys.at_rest)
        store = SqlLedger(self.database)
        self.ledger = Ledger(store, self.keys.signer, self.clock, self.faults, self.secrets.subject_of)
        witnesses = Witnesses([witness.read(text) for text in settings.witnesses], functools.partial(roots, store), self.faults)
        self.checkpoints = Checkpoints(
            store, self.keys.signer, self.clock, self.faults, settings.ledger_mark, witnesses.cosign
        )  # fmt: skip
        self.siem = SiemForwarder([Sink(url) for url in settings.siem], SqlLedgerReader(self.database), self.faults)
        self.presence = Presence()
        self.publisher = Publisher(
            configuration=SqlConfiguration(self.database),
            keys=SqlKeys(self.database),
            agents=self.agents,
            bus=self.bus,
            signer=self.keys.signer,
            clock=self.clock,
            content_key=self.secrets.public,
            hub_key=self.keys.opener.public_key,
        )
        self.journals = Journals(
            bus=self.bus, ledger=self.ledger, checkpoints=self.checkpoints, store=store, presence=self.presence,
            journal=self.journal, signer=self.keys.signer, clock=self.clock, faults=self.faults,
            snapshot=lambda: self.publisher.current, registry=self.registry,
        )  # fmt: skip
        self.recorder = Recorder(self.journal, Digests(self.keys.at_rest), self.clock)
        self.parts = Parts(
            snapshot=lambda: self.publisher.current,
            classifier=RequestClassifier(engine.load()),
            limits=Limits(self.clock),
            executor=Dispatch(
                bus=self.bus,
                clock=self.clock,
                presence=self.presence,
                sessions=HubSessions(self.keys.signer, self.clock),
                snapshot=lambda: self.publisher.current,
                home=Region(settings.region),
                rng=random.Random(),  # noqa: S311 - spreads load, guards nothing
            ),
            recorder=self.recorder,
            meters=Meters(self.registry),
            clock=self.clock,
            request_s=settings.request_timeout_s,
            quiet_s=settings.stream_quiet_s,
        )
        self._enrol_port, self._renewing = settings.enrol_port, asyncio.Lock()
        self.enrolment = Enrolment(
            agents=self.agents, invited=SqlInvitations(self.database), authority=lambda: self.certificates.authority,
            signer=self.keys.signer, pepper=sealing.derive(self.keys.at_rest, "invitations"), addresses=self.addresses,
            terms=Terms(settings.certificate_hours * 3600, settings.certificate_grace_days * 86_400), clock=self.clock,
            faults=self.faults, incidents=store,
        )  # fmt: skip
        self.entrance = Server(
            Enrolling(self.enrolment, self.certificates, self._keep_certificates).routes(),
            option="--enrol-port",
            max_body=enrolling.MAX_BODY,
        )
        self.retention = Retention(
            SqlRetention(self.database), self.journal, self.bus, self.presence, self.keys.signer, self.clock,
            lambda: self.publisher.current,
        )  # fmt: skip
        self.forwarding = Forwarding(
            bus=self.bus,
            parts=self.parts,
            opener=self.keys.opener,
            snapshot=lambda: self.publisher.current,
            clock=self.clock,
            tasks=self.tasks,
        )
        administration = Administration(
            authenticate=functools.partial(stages.authenticate, self.parts),
            snapshot=lambda: self.publisher.current,
            presence=self.presence,
            bus=self.bus,
            journal=self.journal,
            clock=self.clock,
            registry=self.registry,
            apply=self.publisher.apply,
        )
        surface = Surface(self.parts)
        self.server = Server([*surface.routes(), *administration.routes()], option="--port", on_refused=surface.on_refused)
        self.supervisor = Supervisor(os.environ, self.journal.answer)
        self._fleet = FleetMeters(self.registry)
        self._line_up = self.registry.gauge("ringfence_broker_connected", "Whether the line to the broker is up.")
        self._slow = self.registry.gauge("ringfence_bus_slow_consumers", "Times that this hub read too slowly.")

    async def start(self) -> int:
        """Starts everything, in order; the port that it listens on. Raises Misconfigured, having stopped what it started."""
        try:
            await self.database.open()
            restored = self.settings.state / backup.RESTORED
            if restored.exists():
                await self.checkpoints.begin_generation("the hub was restored from a backup")
            await self.checkpoints.open()
            self.journal.open()
            await self.recorder.begin()
            if self.broker is not None:
                self.broker.write(await self.agents.agents())
                await self.broker.start()
                self.tasks.keep("broker", self.broker.watch)
            await self.bus.connect()
            await self.bus.provision(
                journal_max_bytes=self.settings.journal_stream_mib << 20, journal_max_age_s=JOURNAL_STREAM_AGE_S
            )
            if restored.exists():
                await self._finish_restoration(restored)
            await self.bus.subscribe(subjects.BEAT_ALL, self._on_beat)
            await self.bus.subscribe(subjects.RENEW_ALL, self._on_renewal)
            await self.publisher.refresh()
            await self.journals.listen()
            await self.forwarding.listen()
            self.tasks.keep("journals of agents", self.journals.take)
            self.tasks.keep("beats", self.publisher.send_beats)
            self.tasks.keep("late outcomes", self.recorder.catch_up)
            self.tasks.spawn("line", self._end_where_cut_off())
            self.tasks.keep("own journal", self.journals.feed_own)
            self.jobs.every(EDIT_POLL_S, "edits", self._refresh)
            self.jobs.every(self.settings.checkpoint_s, "checkpoints", self._sign_checkpoints)
            self.jobs.every(FORGET_S, "broker forgets", self.journals.forget_taken)
            self.jobs.every(RECEIPT_RESEND_S, "receipts", self.journals.resend_receipts)
            self.jobs.every(EDIT_POLL_S, "edits in the log", self.retention.record_edits)
            self.jobs.every(ERASURE_S, "erasures", self.retention.carry_out_erasures)
            self.jobs.every(RETENTION_S, "retention", self.retention.expire)
            self.jobs.every(SIEM_S, "siem", self.siem.forward)
            self.jobs.every(CERTIFICATES_S, "certificates", self._keep_certificates)
            self.jobs.every(SILENCE_S, "silence", self.journals.watch_silence)
            self.jobs.every(fleet_status.EVERY_S, "fleet in a file", self._write_fleet)
            if self.broker is not None:
                self.jobs.every(DISK_S, "broker's disk", self.broker.look_at_disk)
            self.jobs.start()
            self._enrol_port = await self.entrance.start(
                self.settings.nats_host, self.settings.enrol_port, self.certificates.tls
            )  # fmt: skip
            port = await self.server.start(self.settings.http_host, self.settings.http_port)
        except BaseException:
            await self.stop()
            raise
        self._write_address(port)
        self.tasks.keep("supervision", self.supervisor.keep_telling)
        self.supervisor.say("READY=1")
        log.info("hub_ready", url=self.url(port), broker=self._login().url, bundle=self.publisher.current.serial)
        return port

    async def stop(self) -> None:
        """Stops in the opposite order: takes nothing new, ends what is at work, writes what waits."""
        self.supervisor.say("STOPPING=1")
        # Both at once: what sites sent on is let to its end as long as what came over HTTP is.
        await asyncio.gather(self.server.stop(), self.forwarding.drain(DRAIN_S))
        await self.entrance.stop()
        self.jobs.stop()
        await self.recorder.finish(STOP_S)
        await self.tasks.stop(STOP_S)
        await self.bus.close()
        self.journal.close()
        if self.broker is not None:
            await self.broker.stop()
        await self.database.close()
        self.settings.address.unlink(missing_ok=True)
        self.settings.fleet.unlink(missing_ok=True)

    async def _finish_restoration(self, marker: Path) -> None:
        """What the backup's journal has goes into the ledger; then another epoch begins, since what came after it is lost."""
        await self.journals.feed_own_to_end()
        self.journal.close()
        self.journal.open(anew="restored")
        await backup.publish_again(self.bus, self.settings.state)
        files.remove(marker)
        log.warning("restored_from_backup", generation=self.checkpoints.generation)

    def url(self, port: int) -> str:
        return f"http://{self.settings.http_host}:{port}"

    def addresses(self) -> Addresses:
        """Where agents reach this hub."""
        known = self.settings.known_as
        broker = f"tls://{known}:{self.broker.port}" if self.broker is not None else self.settings.nats_url
        return Addresses(broker, f"https://{known}:{self._enrol_port}")

    def _own_broker(self) -> Broker | None:
        settings = self.settings
        if settings.nats_url:
            return None
        reachable = Reachable(
            settings.nats_host, settings.nats_port, self.certificates.server, self.certificates.trusted, settings.nats_leaf_port
        )  # fmt: skip
        return Broker(settings.broker, reachable, self.faults.note)

    def _login(self) -> Login:
        return self.certificates.login(self.broker.here if self.broker is not None else self.settings.nats_url)

    def _write_address(self, port: int) -> None:
        at = self.addresses()
        where = {
            "url": self.url(port), "broker": at.broker, "enrol": at.enrol, "here": self._login().url, "pid": os.getpid(),
        }  # fmt: skip
        files.write_atomically(self.settings.address, json.dumps(where).encode())

    async def _end_where_cut_off(self) -> None:
        """A hub that its broker lets in no more can do nothing: it ends, for whoever started it to see, and to start it anew."""
        await self.bus.over()
        log.error("cut_off_by_broker", broker=self._login().url)
        os.kill(os.getpid(), signal.SIGTERM)

    async def _keep_certificates(self) -> None:
        async with self._renewing:
            if await asyncio.to_thread(self.certificates.keep_fresh):
                self.bus.renewed()
                if self.broker is not None:
                    self.broker.reload()
                log.info("certificates_renewed")

    async def _on_renewal(self, incoming: Incoming) -> None:
        async def answer() -> None:
            try:
                await incoming.respond(await self.enrolment.renew(incoming.data))
            except errors.RingfenceError as error:
                log.warning("bad_renewal", subject=incoming.subject, code=error.code)

        self.tasks.spawn("renewal", answer())

    def _line_changed(self, connected: bool) -> None:
        self._line_up.set(int(connected))

    async def _on_beat(self, incoming: Incoming) -> None:
        try:
            beat = codec.decode(incoming.data, messages.Beat)
        except errors.Corrupt as error:
            log.warning("bad_beat", subject=incoming.subject, detail=str(error))
            return
        if beat.agent == subjects.owner_of(incoming.subject):
            news = self.presence.heard(beat, self.clock.monotonic(), self.clock.wall())
            if news.clock_off_s is not None:
                told = f"the clock of '{beat.agent}' differs from the hub's by {news.clock_off_s:+.0f} s"
                self.faults.note(Fault.AGENT_CLOCK, told)
            if news.twin:
                await self.journals.report_twin(beat.agent)

    async def _refresh(self) -> None:
        edited = await self.publisher.refresh()
        if edited and self.broker is not None:
            self.broker.write(await self.agents.agents())
            self.broker.reload()
        self._slow.set(self.bus.slow_consumers)
        snapshot = self.publisher.current
        self._fleet.show(len(snapshot.agents), self.presence.left_out(self.clock.monotonic(), snapshot))

    async def _write_fleet(self) -> None:
        left_out = self.presence.left_out(self.clock.monotonic(), self.publisher.current)
        await asyncio.to_thread(fleet_status.write, self.settings.fleet, left_out, self.clock.wall())

    async def _sign_checkpoints(self) -> None:
        await self.checkpoints.sign()
        await self.journals.prove_own()
        await asyncio.to_thread(self.faults.flush)
